"""Full training on few pictures, and of a file that says itself what it was trained on."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import Result, run
from picture_samples import folder_of, noise
from PIL import Image

from search.launcher.prepare import Flags, make_config
from search.study import config as study_config, full_training
from search.training import train
from space import cost
from space.architecture import Architecture
from space.errors import RecipeError
from storage import database, trainings
from trainer.data import dataset as datasets
from trainer.recipe.defaults import brief_recipe
from trainer.recipe.document import Recipe

NETWORK = {
    "channels": 3,
    "image_size": 12,
    "classes": 2,
    "stem": {"width": 4},
    "stages": [{"blocks": 1, "width": 4}, {"blocks": 1, "width": 8, "stride": 2}],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "pets", 20)


def trained(capsys: pytest.CaptureFixture[str], tmp_path: Path, network: Path, *more: object) -> Result:
    store = (
        "--storage",
        f"sqlite:///{tmp_path / 's.db'}",
        "--data-dir",
        tmp_path / "data",
        "--device",
        "cpu",
    )
    return run(capsys, "train", network, "--seeds", 1, "--out", tmp_path / "out", *store, *more)


def job(tmp_path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((tmp_path / "out" / "training.json").read_text())
    return found


def test_a_default_batch_is_cut_to_few_pictures_as_a_search_cuts_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, folder: Path
) -> None:
    (tmp_path / "net.json").write_text(json.dumps(NETWORK))
    few = ("--data", f"folder:{folder}", "--epochs", 1, "--train-images", 12)
    result = trained(capsys, tmp_path, tmp_path / "net.json", *few)
    assert result.code == 0, result.err
    assert "note     batch_size 16 is cut to the 12 training images: an epoch is one step" in result.err


@pytest.mark.parametrize("before", [None, True])
def test_a_training_goes_on_whatever_an_older_version_said_of_its_pictures(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, folder: Path, before: bool | None
) -> None:
    (tmp_path / "net.json").write_text(json.dumps(NETWORK))
    few = ("--data", f"folder:{folder}", "--epochs", 1)
    assert trained(capsys, tmp_path, tmp_path / "net.json", *few).code == 0
    document = job(tmp_path)
    assert document["data"].pop("aligned") is False
    if before is not None:
        document["data"]["aligned"] = before
    (tmp_path / "out" / "training.json").write_text(json.dumps(document))
    assert trained(capsys, tmp_path, tmp_path / "net.json", *few, "--resume").code == 0


def test_seeds_that_were_tested_on_other_test_images_are_tested_again_from_their_weights(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, folder: Path
) -> None:
    """Else a mean, an interval and a matrix would be of two sets."""
    (tmp_path / "net.json").write_text(json.dumps(NETWORK))
    few = (tmp_path / "net.json", "--data", f"folder:{folder}", "--epochs", 1, "--seeds", 2)
    others = "the test images of pets are others than those it was tested on: "

    def tested(count: int, *more: object) -> tuple[str, dict[str, Any]]:
        shutil.rmtree(folder / "test")
        for seed, name in enumerate(("cat", "dog")):
            for i in range(count):
                noise(folder / "test" / name / f"{i}.png", 1_000 + 100 * seed + i)
        result = trained(capsys, tmp_path, *few, *more)
        assert result.code == 0, result.err
        return " ".join(result.err.split()), json.loads((tmp_path / "out" / "result.json").read_text())

    said, first = tested(3)
    assert others not in said
    said, same = tested(3, "--resume")
    assert others not in said and same["seeds"] == first["seeds"]
    said, now = tested(5, "--seeds", 3, "--resume")
    assert f"{others}the network is tested again" in said and "seed 0 epoch" not in said
    assert now["run"] == first["run"] and now["data"]["test_digest"] != first["data"]["test_digest"]
    assert [seed["test"]["images"] for seed in first["seeds"] + now["seeds"]] == [6, 6, 10, 10, 10]
    assert {sum(map(sum, seed["test"]["confusion"])) for seed in now["seeds"]} == {10}
    engine = database.connect(f"sqlite:///{tmp_path / 's.db'}")
    assert [row.test_images for row in trainings.of_study(engine, None)] == [10, 10, 10]
    engine.dispose()
    said, left = tested(3, "--resume", "--no-test")
    assert f"{others}these results are left out" in said
    assert [seed["test"] for seed in left["seeds"]] == [None, None]


def test_only_a_batch_that_somebody_wrote_is_refused(tmp_path: Path, folder: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    flags = Flags(
        storage=f"sqlite:///{tmp_path / 's.db'}",
        data_dir=tmp_path / "data",
        trials=3,
        data=f"folder:{folder}",
        recipe=recipe,
    )
    recipe.write_text("epochs = 2")
    assert make_config(flags, None).recipe.batch_size == 16
    recipe.write_text("batch_size = 128")
    with pytest.raises(RecipeError, match="batch_size 128 is more than the 32 training images; lower it"):
        make_config(flags, None)


@pytest.fixture
def exported(tmp_path: Path, folder: Path) -> Path:
    """A network as search export leaves it, found by a search of the folder."""
    dataset = datasets.load(f"folder:{folder}", tmp_path / "data")
    data, _ = study_config.split_images(dataset, None, 0.25, 7)
    network = Architecture.parse(NETWORK)
    spent, recipe = cost.total(network), Recipe(epochs=2, batch_size=16, learning_rate=0.05, flip=False)
    document = {
        "format": "parsimony.export/1",
        "fingerprint": network.fingerprint,
        "parameters": spent.parameters,
        "macs": spent.macs,
        "budget": {"max_parameters": 5_000_000, "max_macs": None},
        "architecture": network.document(),
        "layers": [row._asdict() for row in cost.layers(network)],
        "metrics": {
            "validation_accuracy": 0.9,
            "interval_95": [0.8, 0.95],
            "best_epoch_accuracy": 0.9,
            "validation_loss": 0.3,
            "measured_on": "10 images",
            "standing": "brief score only",
        },
        "recipe": recipe.model_dump(mode="json"),
        "data": data.model_dump(mode="json"),
        "origin": {
            "study": "night",
            "trial": 7,
            "trained": 20,
            "seed": 1,
            "epochs": 2,
            "seconds": 1.0,
            "device": "cpu",
            "versions": {},
        },
    }
    path = tmp_path / "best.json"
    path.write_text(json.dumps(document))
    return path


def test_an_exported_network_is_trained_on_its_own_images_split_and_recipe(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, exported: Path
) -> None:
    result = trained(capsys, tmp_path, exported, "--epochs", 1)
    assert result.code == 0, result.err
    own, was = job(tmp_path), json.loads(exported.read_text())
    assert own["data"] == was["data"]
    assert own["recipe"] == was["recipe"] | {"epochs": 1}


def test_what_was_written_of_the_recipe_of_a_search_stays_in_a_full_training(
    tmp_path: Path, exported: Path
) -> None:
    document = json.loads(exported.read_text())
    data = study_config.DataConfig.model_validate(document["data"])
    brief = brief_recipe(data.spec, data.train_images, None, data.image_size, data.aligned)
    assert brief.crop_padding == 0
    document["recipe"] = brief.model_dump(mode="json")
    exported.write_text(json.dumps(document))
    flags = train.Flags(str(exported), f"sqlite:///{tmp_path / 's.db'}", tmp_path / "data", device="cpu")
    assert train.make(flags).recipe.crop_padding > 0, "by default, in so many epochs"
    exported.write_text(json.dumps(document | {"recipe_written": ["crop_padding"]}))
    assert train.make(flags).recipe.crop_padding == 0


@pytest.fixture
def scans(folder: Path) -> Path:
    """The folder, with pictures that hardly differ, as scans do."""
    ground = np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8)
    for i, path in enumerate(sorted((folder / "train").rglob("*.png"))):
        ground[0, 0] = i
        Image.fromarray(ground).save(path)
    return folder


def test_a_network_of_a_search_of_before_is_trained_as_its_finals_were(
    tmp_path: Path, scans: Path, exported: Path
) -> None:
    """Which did not know that pictures fill their frame in one way: they were shifted in 12 epochs."""
    document = json.loads(exported.read_text())
    assert document["data"].pop("aligned") is True
    data = study_config.DataConfig.model_validate(document["data"])
    brief = brief_recipe(data.spec, data.train_images, None, data.image_size, data.aligned)
    exported.write_text(json.dumps(document | {"recipe": brief.model_dump(mode="json")}))
    store, place = f"sqlite:///{tmp_path / 's.db'}", tmp_path / "data"
    made = train.make(train.Flags(str(exported), store, place, epochs=12, device="cpu"))
    assert made.data == data and made.recipe == full_training.adapted(brief, data, data, 12)
    assert made.recipe.crop_padding > 0
    (tmp_path / "net.json").write_text(json.dumps(NETWORK))
    new = train.Flags(str(tmp_path / "net.json"), store, place, data=data.spec, epochs=12, device="cpu")
    assert train.make(new).recipe.crop_padding == 0, "it is of no search"


def test_a_training_that_an_older_version_has_begun_goes_on_by_its_recipe(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, scans: Path
) -> None:
    (tmp_path / "net.json").write_text(json.dumps(NETWORK))
    given = ("--data", f"folder:{scans}", "--epochs", 12)
    assert trained(capsys, tmp_path, tmp_path / "net.json", *given).code == 0
    (tmp_path / "out" / "seed-0.json").unlink()
    document = job(tmp_path)
    assert document["data"].pop("aligned") is True and document["recipe"]["crop_padding"] == 0
    document["recipe"]["crop_padding"] = 2
    (tmp_path / "out" / "training.json").write_text(json.dumps(document))
    again = trained(capsys, tmp_path, tmp_path / "net.json", *given, "--resume")
    assert again.code == 0, again.err
    assert "shift" in again.err and job(tmp_path) == document


def test_images_that_have_moved_need_a_flag_which_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, folder: Path, exported: Path
) -> None:
    shutil.move(folder, tmp_path / "elsewhere")
    result = trained(capsys, tmp_path, exported, "--epochs", 1)
    assert result.code == 5
    assert result.one_line.startswith(
        f"search: {exported} was trained on folder:{folder} (there is no folder"
    )
    assert result.one_line.endswith("; say by --data where its images lie")
    moved = trained(capsys, tmp_path, exported, "--epochs", 1, "--data", f"folder:{tmp_path / 'elsewhere'}")
    assert moved.code == 0, moved.err
    assert job(tmp_path)["recipe"]["learning_rate"] == 0.05


def test_images_that_have_changed_are_not_taken_for_its_own(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, folder: Path, exported: Path
) -> None:
    (folder / "train/cat/00.png").unlink()
    result = trained(capsys, tmp_path, exported, "--epochs", 1)
    assert result.code == 5
    assert "no longer holds the images that" in result.one_line and "--data" in result.one_line
    asked = trained(capsys, tmp_path, exported, "--epochs", 1, "--data", f"folder:{folder}")
    assert asked.code == 0, asked.err
    assert job(tmp_path)["recipe"]["learning_rate"] == 0.14, "other images, and their usual recipe"
