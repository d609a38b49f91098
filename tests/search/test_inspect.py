"""The published systems on the command line, and the recipes that are looked up there."""

import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from command import ROOT, run
from comparison_samples import add_study
from picture_samples import folder_of

from search import settings
from search.launcher import prepare
from search.launcher.prepare import Flags as LaunchFlags
from search.study import full_training, network_reference, reader, recipe_file
from search.training import train as training_train
from search.training.train import Flags as TrainFlags
from space import published
from space.architecture import Architecture, Stage, Stem
from space.errors import ArchitectureError, StorageError
from trainer.recipe import checks
from trainer.recipe.defaults import default_recipe
from trainer.recipe.document import Recipe, schema


def test_the_list_has_every_row_and_marks_the_four_wrong_prints(capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(run(capsys, "published", "--format", "json").out)
    assert [row["name"] for row in rows] == published.names()
    wrong = [row for row in rows if row["misprinted"]]
    assert [row["name"] for row in wrong] == ["000-og-64", "003-final", "003-augmix", "003-optimizer-sgdr"]
    assert all(row["note"].startswith("Printed count is that of") for row in wrong)


def test_the_table_explains_its_marks_and_more_if_asked(capsys: pytest.CaptureFixture[str]) -> None:
    short, long = run(capsys, "published").out, run(capsys, "published", "--notes").out
    assert "000-og-64: Printed count is that of the row below" in short
    assert "001-epochs-100:" not in short
    assert "001-epochs-100: The cosine is still one of 200 epochs" in long


@pytest.mark.parametrize(("name", "count"), [("001-final", "4,697,162"), ("003-final", "4,815,940")])
def test_a_published_network_is_shown_as_a_file_is(
    capsys: pytest.CaptureFixture[str], name: str, count: str
) -> None:
    assert f"{count} parameters" in run(capsys, "show", f"published:{name}").out


def test_an_unknown_published_name_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, "show", "published:001-fnal")
    assert result.code == 2
    assert "published:001-fnal: no such network; there are 001-final" in result.one_line


def test_a_network_comes_with_its_recipe(tmp_path: Path) -> None:
    found = network_reference.resolve("published:002-final", "sqlite:///none.db")
    assert found.architecture == published.load("002-final")
    assert found.recipe and (found.recipe.optimizer, found.recipe.batch_size) == ("adam", 400)
    path = tmp_path / "net.json"
    path.write_text(json.dumps(found.architecture.document()))
    again = network_reference.resolve(str(path), "sqlite:///none.db")
    assert (again.name, again.architecture, again.recipe) == ("net", found.architecture, None)
    with pytest.raises(ArchitectureError, match=r"absent\.json: No such file"):
        network_reference.resolve("absent.json", "sqlite:///none.db")


def test_a_study_may_be_called_published(sqlite_url: str) -> None:
    assert not network_reference.is_published("published:7")
    assert network_reference.is_published("published:²")
    with pytest.raises(StorageError):
        network_reference.resolve("published:7", sqlite_url)


@pytest.mark.parametrize("number", ["²", "٣", "-1", "1.0", "9" * 30])
def test_a_trial_has_a_number_of_digits_that_a_database_holds(
    sqlite_url: str, capsys: pytest.CaptureFixture[str], number: str
) -> None:
    """Anything else is a name, and there is no such study."""
    add_study(sqlite_url, "night", [0.5])
    refused = run(capsys, "show", f"night:{number}", "--storage", sqlite_url)
    assert refused.code == 2 and refused.one_line.startswith("search: no study 'night:")
    assert run(capsys, "show", f"night:{'9' * 18}", "--storage", sqlite_url).one_line.startswith(
        f"search: the study has no trial {'9' * 18}; "
    )
    endless = f"night:{'9' * 5_000}"  # more digits than Python reads
    assert reader.split_reference(endless) == (endless, None)


def test_the_schema_that_is_printed_is_the_one_in_the_documents(capsys: pytest.CaptureFixture[str]) -> None:
    printed = run(capsys, "recipe", "schema").out
    assert printed == (ROOT / "docs/recipe.schema.json").read_text(), "run `make docs`"
    assert set(json.loads(printed)["properties"]) == set(Recipe.model_fields)


def test_a_recipe_is_checked_and_told_in_full(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('optimizer = "adam"\nlearning_rate = 0.1')
    result = run(capsys, "recipe", "check", path)
    assert "warning: learning_rate 0.1 is outside the 1e-05 to 0.01 usual with adam" in result.err
    assert Recipe.model_validate_json(result.out) == Recipe.load(path)
    path.write_text("learning_rate = -1")
    assert (
        "learning_rate: Input should be greater than 0 (found -1)"
        in run(capsys, "recipe", "check", path).one_line
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((), default_recipe("cifar10", 8)),
        (("--epochs", 200), default_recipe("cifar10", 200)),
        (("--data", "digits"), default_recipe("digits", 6)),
    ],
)
def test_a_recipe_that_says_nothing_is_the_default_recipe(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, given: tuple[object, ...], expected: Recipe
) -> None:
    path = tmp_path / "a.toml"
    path.write_text("")
    result = run(capsys, "recipe", "check", path, *given, "--data-dir", tmp_path)
    assert result.code == 0, result.err
    assert Recipe.model_validate_json(result.out) == expected
    path = tmp_path / "printed.json"
    path.write_text(result.out)
    assert Recipe.load(path) == expected, "what is printed is a recipe file"


@pytest.mark.parametrize(
    "written",
    ["epochs = 30", 'optimizer = "sgd"\nepochs = 8', 'schedule = {name = "linear", warm_up = 2}', ""],
)
def test_what_is_printed_is_what_a_launch_and_a_training_of_these_images_go_by(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, written: str
) -> None:
    """Few pictures of a folder: small batches, of trials no shift, no mirroring."""
    path, spec, data_dir = tmp_path / "a.toml", f"folder:{folder_of(tmp_path / 'pets')}", tmp_path / "data"
    path.write_text(written)
    store = f"sqlite:///{tmp_path / 'none.db'}"
    network = Architecture(
        channels=3, image_size=12, classes=2, stem=Stem(width=4), stages=(Stage(blocks=1, width=4),)
    )
    (tmp_path / "net.json").write_text(json.dumps(network.document()))

    def printed(*more: object) -> Recipe:
        result = run(capsys, "recipe", "check", path, "--data", spec, "--data-dir", data_dir, *more)
        assert result.code == 0, result.err
        return Recipe.model_validate_json(result.out)

    flags = LaunchFlags(storage=store, data_dir=data_dir, trials=1, data=spec, recipe=path)
    assert printed() == prepare.make_config(flags, None).recipe
    assert printed("--epochs", 16) == prepare.make_config(replace(flags, epochs=16), None).recipe
    given = {"storage": store, "data_dir": data_dir, "data": spec, "recipe": str(path), "device": "cpu"}
    job = training_train.make(TrainFlags(str(tmp_path / "net.json"), **given))
    default = partial(full_training.default_recipe, job.data)
    assert recipe_file.recipe_of(str(path), default, settings.FULL_EPOCHS) == job.recipe, "which is judged"
    if "schedule" not in written:  # of which a launch takes the epochs that it has for its own
        assert printed("--epochs", job.recipe.epochs) == job.recipe
    assert printed().batch_size == 16


def test_a_recipe_without_epochs_is_judged_for_trials_and_for_a_full_training(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "a.toml"
    path.write_text('schedule = {name = "cosine", length = 100}')
    refused = run(capsys, "recipe", "check", path)
    assert (refused.code, refused.out) == (2, "")
    assert "schedule.length 100 is shorter than the 200 epochs" in refused.one_line
    assert refused.one_line.endswith(
        "; it says no epochs, and search train takes it for one of 200: add epochs"
    )
    for epochs in (8, 100):
        path.write_text(f'epochs = {epochs}\nschedule = {{name = "cosine", length = 100}}')
        taken = run(capsys, "recipe", "check", path)
        assert taken.code == 0 and Recipe.model_validate_json(taken.out).epochs == epochs
        assert ("lasts 100 epochs, the training 8" in taken.err) == (epochs == 8)
    path.write_text('schedule = {name = "cosine", warm_up = 20}')
    warned = run(capsys, "recipe", "check", path)
    assert warned.err.splitlines() == [
        "warning: schedule.warm_up 20 is not over in 8 epochs",
        "note: what it leaves out is the default for cifar10, for trials of 8 epochs",
        "note: a full training has epochs 200, mixup 0.2, cutmix 1.0",
    ]


def test_a_recipe_that_does_not_fit_the_images_is_refused_where_these_are_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "a.toml"
    data = ("--data", f"folder:{folder_of(tmp_path / 'pets')}", "--data-dir", tmp_path / "data")
    for written, words in (
        ("cutout = 16", "cutout 16 is more than the 12 pixels of an image"),
        ("batch_size = 64", "batch_size 64 is more than the 16 training images"),
    ):
        path.write_text(written)
        assert run(capsys, "recipe", "check", path).code == 0
        refused = run(capsys, "recipe", "check", path, *data)
        assert (refused.code, words in refused.one_line) == (2, True), refused.err
    path.write_text("batch_size = 16")
    assert run(capsys, "recipe", "check", path, *data, "--train-images", 15).code == 2
    alone = run(capsys, "recipe", "check", path, "--train-images", 15)
    assert (alone.code, "go with --data" in alone.one_line) == (2, True)


def test_what_the_schema_has_as_default_is_default_for_all_images_and_lengths() -> None:
    """The others depend on them, and on the optimizer; what is left out of a file is not what Recipe has."""
    stated = {name: one["default"] for name, one in schema()["properties"].items() if "default" in one}
    found = [
        default_recipe(spec, epochs, images, side, aligned).model_dump(mode="json")
        for spec in ("cifar10", "digits", "svhn", "mnist", "fashion-mnist", "folder:pets")
        for epochs in (3, 8, 30, 200)
        for images, side, aligned in ((None, None, None), (500, 12, False), (50_000, 64, True))
    ]
    assert all(recipe[name] == value for recipe in found for name, value in stated.items())
    differ = {name for name in Recipe.model_fields if any(one[name] != found[0][name] for one in found)}
    assert differ == {"epochs", "batch_size", "learning_rate", "crop_padding", "flip", "mixup", "cutmix"}
    assert set(Recipe.model_fields) - set(stated) == differ | {
        "optimizer", "momentum", "nesterov", "weight_decay"}  # fmt: skip


def test_a_published_recipe_is_named_like_a_network() -> None:
    assert network_reference.load_recipe("published:004-final").clip_value == 0.1


def test_the_recipe_of_the_documents_loads(tmp_path: Path) -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", (ROOT / "docs/training.md").read_text(), flags=re.DOTALL)
    path = tmp_path / "recipe.toml"
    path.write_text(block)
    assert checks.of_recipe(Recipe.load(path)) == []
