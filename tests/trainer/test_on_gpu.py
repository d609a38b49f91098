"""What only a GPU can show: recorded steps, and that nothing waits. Skipped where there is none."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from recipe_samples import noise

from benchmarks.speed.gpu_parts import waits_told
from search.launcher import workers_per_gpu
from search.machine.usable_device import usable_device
from space.architecture import Architecture, Stage, Stem
from trainer import loop, step_graph, throughput
from trainer.callbacks import TrainingCallbacks
from trainer.data import batches
from trainer.data.dataset import Split
from trainer.device import select_device
from trainer.recipe.document import Recipe

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]
NETWORK = Architecture(
    channels=3,
    image_size=8,
    stem=Stem(width=8),
    stages=(Stage(blocks=1, width=8), Stage(blocks=1, width=16, stride=2)),
)
RECIPES: list[dict[str, Any]] = [
    {},
    {"optimizer": "muon"},
    {"optimizer": "adamw"},
    {"mixup": 0.2, "cutmix": 1.0, "ema": 0.9},
]


def losses(fields: dict[str, Any], make: step_graph.MakeRecorder, folder: Path) -> list[float]:
    recipe = Recipe.model_validate({"epochs": 4, "batch_size": 16, "crop_padding": 1} | fields)
    told: list[float] = []
    loop.fit(
        NETWORK,
        recipe,
        *noise(NETWORK, 100, folder),
        seed=0,
        device="cuda",
        callbacks=TrainingCallbacks(on_epoch=lambda report: told.append(report.train_loss)),
        make_recorder=make,
    )
    return told


@pytest.mark.parametrize("fields", RECIPES)
def test_recorded_steps_train_as_plain_ones_do(
    fields: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "trainer"):
        recorded = losses(fields, step_graph.cuda_recorder, tmp_path)
    assert caplog.records == [], "the recording did not fail"
    assert recorded == pytest.approx(losses(fields, step_graph.plain_steps, tmp_path), rel=0.02)


def test_a_probe_begins_with_a_gpu_that_its_process_has_not_touched() -> None:
    task = {
        "networks": [NETWORK.document()],
        "recipe": Recipe(batch_size=16, crop_padding=1).model_dump(mode="json"),
        "seconds": 0.1,
    }
    (probe,) = workers_per_gpu.side_by_side(task, {}, 1)
    assert probe.images_per_second > 0 and probe.memory > 0


@pytest.mark.parametrize("fields", RECIPES)
def test_a_forecast_times_steps_that_were_recorded(
    fields: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    recipe = Recipe.model_validate({"batch_size": 16, "crop_padding": 1} | fields)
    with caplog.at_level(logging.WARNING, "trainer"):
        found = throughput.measure(NETWORK, recipe, 0.1)
    assert caplog.records == [], "the recording did not fail"
    assert (found.batch, found.device) == (16, "cuda") and found.seconds > 0


def test_splits_of_a_data_set_share_its_images_on_the_gpu(tmp_path: Path) -> None:
    dataset, split = noise(NETWORK, 100, tmp_path)
    fewer = Split("fewer", split.train[:50], split.validation)
    one, other = (batches.feed(dataset, part, select_device("cuda")) for part in (split, fewer))
    assert one.images.is_cuda and one.images.data_ptr() == other.images.data_ptr()
    assert len(other.train) == 50


def test_cuda_without_an_index_is_made_the_present_gpu() -> None:
    assert usable_device(Recipe(), "cuda").index == torch.cuda.current_device() == 0


def test_an_epoch_of_plain_steps_waits_for_the_gpu_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, said = loop._Run._train, list[int]()

    def told(run: loop._Run) -> float:
        with waits_told(run.device) as waits:
            loss = train(run)
        said.append(len(waits))
        return loss

    monkeypatch.setattr(loop._Run, "_train", told)
    losses({"policy": "randaugment"}, step_graph.plain_steps, tmp_path)
    assert said[1:] == [1, 1, 1]
