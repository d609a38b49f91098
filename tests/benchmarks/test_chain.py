"""The whole chain at equal time: its table compares round by round, and a tiny run of it goes through."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from comparison_samples import FINAL_EPOCHS, add_finals, add_study
from picture_samples import folder_of
from PIL import Image

from benchmarks import chain, chain_script
from search.launcher import prepare
from space.errors import DataError
from trainer.data import dataset as datasets


def row(side: str, at: int, *test: float) -> dict[str, object]:
    return {"side": side, "round": at, "test": list(test), "wall": 60.0, "trained": 4, "parameters": 1_000}


def test_sides_are_compared_round_by_round() -> None:
    ours = [row("ours", at, 0.90 + at / 100, 0.92 + at / 100) for at in range(3)]
    hand = [row("hand", at, 0.90 + at / 100) for at in range(3)]
    first, second = chain.summary([*ours, *hand, row("hand", 3, 0.5)])
    assert first["test"].mean == pytest.approx(0.92) and first["ahead"] is None
    assert second["ahead"] == pytest.approx(0.01), "the round that ours has not is in no difference"
    assert second["interval"].low == pytest.approx(0.01) and second["rounds"] == 4
    said = chain.table([first, second])
    assert "| ours | 3 | 4 | 1.0 | 1,000 | 92.00% (" in said and "| +1.00 points (1.00 to 1.00) |" in said


def test_two_rounds_have_no_interval() -> None:
    rows = [row(side, at, score) for side, score in (("ours", 0.9), ("plain", 0.8)) for at in range(2)]
    assert "+10.00 points (no interval of fewer than 3 rounds)" in chain.table(chain.summary(rows))


def test_rows_that_were_measured_otherwise_are_not_added_to(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps(row("ours", 0, 0.9) | {"conditions": {"minutes": 5}}) + "\n")
    given = chain.arguments(["--rows", str(rows), "--data", "digits", "--data-dir", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"was measured otherwise: \{'minutes': 5\}"):
        chain.measure(given)


def test_a_data_set_without_test_images_is_refused_before_hours_are_spent(tmp_path: Path) -> None:
    pictures = folder_of(tmp_path / "pictures", test=0)
    words = ["--data", f"folder:{pictures}", "--data-dir", str(tmp_path / "data")]
    given = chain.arguments(["--rows", str(tmp_path / "rows"), *words])
    with pytest.raises(DataError, match="no test images"):
        chain.measure(given)


def test_a_folder_too_is_made_smaller_beside_the_rows(tmp_path: Path) -> None:
    pictures = folder_of(tmp_path / "pictures")
    words = ["--rows", str(tmp_path / "build/rows"), "--data", f"folder:{pictures}", "--image-size", "6"]
    given = chain.arguments([*words, "--images", "8", "--data-dir", str(tmp_path / "data")])
    given.rows.parent.mkdir()
    assert chain.as_folder(given) == f"folder:{tmp_path}/build/pictures-8-6"
    found = datasets.load(chain.as_folder(given), tmp_path / "data")
    assert found.images.shape == (8, 6, 6, 3) and len(found.open_test()[0]) == 6


def test_the_plain_script_has_the_recipe_of_our_trials(tmp_path: Path) -> None:
    """Of pictures that fill their frame in one way too, which a folder is known for by itself."""
    dice = np.random.default_rng(0)
    ground = dice.integers(0, 200, (12, 12))
    for i in range(40):
        place = tmp_path / "scans/train" / ("cat", "dog")[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((ground + dice.integers(0, 50, (12, 12))).astype(np.uint8)).save(place / f"{i}.png")
    spec = f"folder:{tmp_path / 'scans'}"
    flags = prepare.Flags("", tmp_path / "data", 3, data=spec, epochs=12)
    ours = prepare.make_config(flags, None)
    words = [tmp_path / "x.db", "--seconds", 1, "--workers", 1, "--seed", 0, "--epochs", 12, "--data", spec]
    given = chain_script.arguments([*map(str, words), "--max-params", "9", "--max-macs", "9"])
    dataset = datasets.load(spec, tmp_path / "data")
    assert chain_script.recipe_of(given, dataset, ours.data.train_images) == ours.recipe
    assert ours.data.aligned and ours.recipe.crop_padding == 0


def test_the_winner_of_a_search_is_read_from_its_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = chain.arguments(["--rows", str(tmp_path / "rows"), "--minutes", "5"])

    def launched(_given: object, *words: object) -> None:
        told = [str(word) for word in words]
        assert told[told.index("--timeout") + 1] == "300s"
        assert ("--no-baselines" in told) == ("random" in told)
        url = told[told.index("--storage") + 1]
        add_finals(url, add_study(url, chain.STUDY, [0.5, 0.6]), 1, (0.7, 0.8, 0.9), (0.6, 0.7, 0.8))

    monkeypatch.setattr(chain, "command", launched)
    for side in ("ours", "random"):
        found = chain.measured(given, side, 0, None)
        assert (found["side"], found["trained"], found["epochs"]) == (side, 2, FINAL_EPOCHS)
        assert (found["test"], found["validation"]) == ([0.6, 0.7, 0.8], [0.7, 0.8, 0.9])
        (only,) = found["finalists"]
        assert only["trial_seconds"] == 10 and len(only["seconds"]) == 3
        assert (only["trial"], only["test"], only["validation"]) == (1, found["test"], found["validation"])


@pytest.mark.thorough  # a benchmark as a whole
@pytest.mark.slow
@pytest.mark.parametrize("side", ["plain", "hand"])
def test_what_was_made_otherwise_is_trained_to_the_end_as_ours_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: str
) -> None:
    """The plain script asks for sixty networks here, of which few fit, however long they take."""
    really = chain.run

    def run(words: list[object], pinned: object = None) -> None:
        if "benchmarks.chain_script" not in words:
            assert "--storage" in words, "its rows are no user's"
            return really(words, pinned)
        script = chain_script.arguments([*map(str, words[3:])])
        assert (script.seconds, script.epochs) == (97, 1)
        return chain_script.work(script, 0, time.time() + 600, trials=60)

    monkeypatch.setattr(chain, "run", run)
    words = ["--data", "digits", "--train-images", "200", "--max-params", "30000", "--max-macs", "1300000"]
    words += ["--workers", "1", "--data-dir", str(tmp_path / "data")]
    given = chain.arguments(["--rows", str(tmp_path / "rows"), *words])
    ours = {"trial_epochs": 1, "epochs": 2, "wall": 100.0, "final_seconds": 1.0}
    found = chain.measured(given, side, 0, ours)
    assert len(found["test"]) == 3 and all(0 < accuracy <= 1 for accuracy in found["test"])
    assert found["epochs"] == 2 and found["parameters"] <= 30_000 and found["macs"] <= 1_300_000
