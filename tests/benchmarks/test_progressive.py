"""The benchmark of progressive resizing: which epochs see small images, and what a second call trains."""

import argparse
import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import progressive
from trainer.data.batches import DeviceDataset, Normalisation
from trainer.recipe.document import Recipe


def test_the_first_epochs_see_the_images_scaled_down_and_the_others_whole() -> None:
    images = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1).expand(10, 8, 8, 1).clone()
    data = DeviceDataset(
        images, torch.arange(10), torch.arange(10), torch.arange(0), Normalisation((0.0,), (1.0,))
    )
    recipe = Recipe(epochs=3, batch_size=5, crop_padding=0, flip=False)
    dice = torch.Generator().manual_seed(0)
    with progressive.scaled_down(2, 6):
        epochs = [list(data.epoch(recipe, dice, torch.bfloat16)) for _ in range(3)]
    for epoch, side in zip((*epochs, list(data.epoch(recipe, dice))), (6, 6, 8, 8), strict=True):
        for x, labels in epoch:
            assert x.shape == (5, 1, side, side)
            assert x.is_contiguous(memory_format=torch.channels_last)
            assert torch.equal(x, labels.view(5, 1, 1, 1).expand_as(x).to(x.dtype)), "of one level each"
    assert {x.dtype for epoch in epochs for x, _ in epoch} == {torch.bfloat16}


def test_lengths_are_of_whole_epochs_and_of_small_and_large_ones() -> None:
    given = argparse.Namespace(full=9, small=7, large=5, side=20)
    assert progressive.lengths(given) == {"9 epochs": (9, 0), "7 of 20 pixels, then 5": (12, 7)}


@pytest.mark.slow
def test_a_second_call_trains_no_pair_again(
    tmp_path: Path, digits: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.jsonl"
    words = ["--data", "digits", "--data-dir", str(digits), "--side", "6", "--full", "2", "--small", "1"]
    words += ["--large", "2", "--train-images", "200", "--validation-images", "100", "--seeds", "1"]
    words += ["--max-params", "5000", "--max-macs", "100000", "--rows", str(rows)]
    monkeypatch.setattr(sys, "argv", ["progressive", *words])
    progressive.main()
    first = rows.read_text()
    found = [json.loads(line) for line in first.splitlines()]
    assert [row["recipe"] for row in found] == ["2 epochs", "1 of 6 pixels, then 2"]
    assert [len(row["curve"]) for row in found] == [2, 3]
    said = capsys.readouterr().out
    assert len(said.splitlines()) == 4
    progressive.main()
    assert (rows.read_text(), capsys.readouterr().out) == (first, said)
