"""A folder with all that people have in theirs, as a new user goes: data, launch, train, confirm, predict."""

import json
from pathlib import Path

import messy_folder
import pytest
from command import Result, run

SMALL = ("--max-params", "20k", "--max-macs", "400k", "--epochs", 1, "--no-baselines", "--pruner", "none")
UNEVEN = "warning  uneven classes: 23 training images of F, 2 of none"
PLAN = (
    "data     signs: 697 training and 176 validation images of 3x32x32, 37 classes",
    "images   24x24 to 90x70, scaled to 32, padded (--fit); colour",
    "images   110 pictures with transparency, laid on white",
    "images   109 pictures of more than 8 bits, all scaled alike: 65,535 is white",
    "warning  skipped 2 pictures that cannot be read: train/D/broken.png, train/E/cut.png",
    "note     left out 10 files: .txt 10",
    "warning  7 of 37 classes have fewer than 5 validation images: O (4 of 24), V (4 of 24), W (4 of 24),"
    " X (4 of 24), Y (4 of 24), Z (4 of 24), none (1 of 3)",
    f"{UNEVEN}; --class-weights balanced lets them count alike",
    "note     2 pictures in train/ are copies of others; they stay on one side of the split",
    "warning  1 picture in two classes: train/O/006.png is train/0/of-the-letter-O.png",
    "warning  4 of 226 test images are also training images",
    "augment  none; not mirrored (on: flip = true); fields of a --recipe FILE",
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEARCH_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("SEARCH_STORAGE", raising=False)
    monkeypatch.setenv("COLUMNS", "250")
    messy_folder.write(tmp_path / "signs")
    return tmp_path


def done(result: Result) -> Result:
    assert result.code == 0, result.err
    return result


@pytest.mark.thorough  # each of its parts has tests of its own: trainer/test_picture_folder.py and others
@pytest.mark.slow
def test_a_folder_with_all_of_it_at_once(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    def search(*given: object) -> Result:
        return run(capsys, *given)

    back = Path("signs/train/A/again")
    back.symlink_to(".")
    looped = search("data", "folder:signs")
    assert looped.code == 5
    assert looped.one_line.startswith(f"search: {here}/signs/train/A/again and {here}/signs/train/A are one")
    back.unlink()
    shown = done(search("data", "folder:signs")).err.splitlines()
    assert set(PLAN[:-1]) <= set(shown), shown
    assert "augment  in trials of 8 epochs: none; not mirrored (on: flip = true)" in shown
    assert any(line.startswith("         in a full training of 200 epochs: shifted") for line in shown)
    launch = ("launch", "--trials", 2, "--study", "a", "--data", "folder:signs", "--gpus", "none", *SMALL)
    refused = search(*launch)
    assert refused.code == 5
    assert refused.err.splitlines()[-1].startswith(
        f"search: cannot read 2 pictures of {here / 'signs'}: train/D/broken.png ("
    )
    assert search("space", "sample", "--data", "folder:signs").code == 5
    drawn = done(search("space", "sample", "-n", 1, "--data", "folder:signs", "--skip-damaged"))
    assert len(drawn.out.splitlines()) == 5, "a table of one network"
    weighed = ("--class-weights", "balanced", "--score", "balanced-accuracy")
    launched = done(search(*launch, "--workers", 1, "--skip-damaged", *weighed))
    plan = launched.err.splitlines()
    alike = {line for line in PLAN[1:] if not line.startswith(UNEVEN)}
    assert alike | {UNEVEN} <= set(plan), plan
    assert "score    the search maximises balanced accuracy of validation images, not accuracy" in plan
    assert "a: 2 of 2 trained" in launched.err
    status = done(search("status", "a")).out
    assert "best so far: balanced accuracy " in status
    done(search("report", "a"))
    report = Path("report.html").read_text()
    assert '"validation balanced accuracy, %"' in report
    assert "32×32 pixels; pictures that are not square padded (--fit pad)" in report
    assert "left out (--skip-damaged)" in report
    done(search("train", "a:0", "--epochs", 1, "--seeds", 1, "--out", "full", "--device", "cpu"))
    result = json.loads(Path("full/result.json").read_text())
    assert {"test balanced accuracy", "test macro F1"} <= result["summary"].keys()
    assert result["data"]["skip_damaged"] is True
    confirm = ("confirm", "a", "--top", 1, "--seeds", 1, "--epochs", 1, "--rank-sample", 0, "--no-baseline")
    done(search(*confirm, "--workers", 1, "--gpus", "none"))
    exported = done(search("export", "a", "--out", "best.json", "--weights", "best.safetensors"))
    how = f"(1 epoch of {result['data']['train_images']:,} images, seed 0)"
    assert exported.err.startswith(f"wrote best.safetensors: weights of a full training {how}\n")
    (trained,) = Path("confirm-a").glob("*/seed-0.safetensors")
    assert Path("best.safetensors").read_bytes() == trained.read_bytes()
    by = [
        search("predict", weights, "signs/test", "--format", "json")
        for weights in ("full", "best.json", "a:0")
    ]
    for found in by:
        assert done(found).err.startswith("accuracy ")
        assert len(json.loads(found.out)) == 226
    tested = result["seeds"][0]["test"]["accuracy"]
    assert f"accuracy {100 * tested:.2f}% of 226 pictures" in by[0].err, "as the training's test says"
    damaged = search("predict", "full", "signs/train/D")
    assert (damaged.code, len(damaged.err.strip().splitlines())) == (5, 1)
    assert damaged.out.count("signs/train/D/") == 24
