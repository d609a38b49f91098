"""A folder whose pictures change after a study was made: the study goes on with its own, and says so."""

import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from command import Result, run
from picture_samples import folder_of, noise

from search.launcher import prepare
from search.study.config import open_images, open_images_from, require_same, split_images
from search.study.network_reference import ResolvedNetwork
from search.training import train
from space.errors import DataError, StudyError
from space.random_suggest import RandomSuggest
from trainer.data import dataset as datasets, prepared, sources

GOES_ON = "pets no longer holds the images of the study, which goes on with those of before"


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "pets")


def onward(said: str) -> list[str]:
    """The words of the command that the opening lines of a launch name to go on with, without `search`."""
    (line,) = (line for line in said.splitlines() if line.startswith("resume   "))
    return shlex.split(line.removeprefix("resume   search "))


@pytest.mark.slow
def test_a_study_whose_folder_has_a_picture_more_goes_on_with_its_images(
    capsys: pytest.CaptureFixture[str], pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "500")
    store = ("--storage", f"sqlite:///{tmp_path / 's.db'}", "--data-dir", tmp_path / "data")
    here = (*store, "--workers", 1, "--gpus", "none")

    def done(*given: object) -> Result:
        result = run(capsys, *given)
        assert result.code == 0, result.err
        return result

    small = ("--epochs", 1, "--max-params", "20k", "--max-macs", "400k", "--no-baselines")
    launch = ("launch", "--study", "my pets", "--data", f"folder:{pets}", *small, *here)
    assert "no longer holds" not in done(*launch, "--trials", 1).err
    noise(pets / "train/cat/new.png", 999)
    refused = run(capsys, *launch, "--trials", 2)
    assert refused.code == 2
    assert "leave the flag out" not in refused.one_line
    typed = shlex.join(map(str, store))
    assert refused.one_line.endswith(
        f"folder:{pets} has changed since: `search resume 'my pets' {typed}` goes on with its images of"
        " before, another name makes a new study"
    )
    assert GOES_ON in done("resume", "my pets", *here).err
    goes_on = done("launch", "--study", "my pets", "--trials", 2, *here).err
    assert GOES_ON in goes_on and "my pets: 2 of 2 trained" in goes_on
    written = ("--format", "safetensors", "--out", tmp_path / "best.safetensors")
    assert GOES_ON in done("export", "my pets", *store, *written).err
    one = ("--epochs", 1, "--seeds", 1, "--device", "cpu")
    assert GOES_ON in done("train", "my pets:0", *store, *one, "--out", tmp_path / "full").err
    copy = shutil.copytree(pets, tmp_path / "copy" / "pets")
    monkeypatch.chdir(tmp_path)
    for place, by in (("pets", "launch"), (copy, "resume")):
        printed = onward(done("resume", "my pets", *here, "--data", f"folder:{place}").err)
        assert printed[0] == by and GOES_ON in done(*printed).err
    few = ("--top", 1, "--epochs", 1, "--seeds", 1, "--rank-sample", 0, "--no-baseline")
    for place in (pets, copy):
        with monkeypatch.context() as elsewhere:
            elsewhere.setenv("SEARCH_DATA", f"folder:{place}")  # says where images lie, as for a worker
            typed_again = run(capsys, *launch, "--trials", 3)
            assert (typed_again.code, typed_again.one_line) == (2, refused.one_line)
            printed = onward(done("resume", "my pets", *here).err)
            assert printed[0] == "launch" and GOES_ON in done(*printed).err
            out = tmp_path / place.parent.name
            assert GOES_ON in done("train", "my pets:0", *store, *one, "--out", out / "there").err
            done("confirm", "my pets", *here, *few, "--out", out / "confirmed")
            assert GOES_ON in next((out / "confirmed").glob("*/log.txt")).read_text()
    for other in (f"folder:{copy}", "digits"):
        typed_other = run(capsys, "train", "my pets:0", *store, *one, "--data", other, "--out", "other")
        assert typed_other.code == 5 and f"{other} holds other images than pets" in typed_other.one_line
    shutil.rmtree(tmp_path / "data/cache")
    train = ("train", "my pets:0", *store, *one, "--out", tmp_path / "other")
    for command in (train, ("resume", "my pets", *here)):
        lost = run(capsys, *command)
        assert lost.code == 5
        assert lost.err.splitlines()[-1].endswith(
            "holds other images than pets, with which the study was made;"
            " put them back as they were, or make a new study under another name"
        )


def test_a_spec_names_the_place_of_a_data_set_however_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = f"folder:{tmp_path.resolve() / 'pets'}"
    assert all(sources.is_at(spec, place) for spec in (place, "folder:pets", "folder:./pets/"))
    assert not any(sources.is_at(spec, place) for spec in ("folder:cats", "digits", "tensors:pets"))
    assert sources.is_at("digits", "digits") and not sources.is_at("digits", "mnist")


def test_a_worker_that_is_started_again_takes_the_images_of_before(
    pets: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec, data_dir = f"folder:{pets}", tmp_path / "data"
    data, images = split_images(datasets.load(spec, data_dir), None, None, 0)
    assert open_images(data, data_dir).note == ""
    (pets / "train/cat/new.png").write_text("no picture")
    for change in (lambda: noise(pets / "train/cat/new.png", 999), lambda: shutil.rmtree(pets)):
        for given in (None, spec):
            found = open_images_from(data, data_dir, given, None)
            assert (found.dataset, found.split) == (images.dataset, images.split)
            assert found.note.endswith(GOES_ON)
            assert caplog.messages[-1] == found.note
        change()
    assert open_images(data, data_dir).note.endswith(GOES_ON), "the folder is gone"
    with pytest.raises(DataError):
        open_images(data, tmp_path / "elsewhere")


def test_a_study_whose_test_images_alone_have_changed_goes_on_with_those_of_before(
    pets: Path, tmp_path: Path
) -> None:
    """As where training images have changed too: its finals are tested on one set."""
    spec, data_dir = f"folder:{pets}", tmp_path / "data"
    flags = prepare.Flags("sqlite://", data_dir, 1, "night", data=spec)
    was = prepare.make_config(flags, None)
    tests = len(datasets.load(spec, data_dir).open_test()[1])
    here = (replace(flags, data=None), flags, replace(flags, data_is_place=True))
    goes_on = GOES_ON.replace("the images", "the test images")
    for change in (lambda: noise(pets / "test/cat/new.png", 999), lambda: shutil.rmtree(pets / "test")):
        change()
        found = [open_images_from(was.data, data_dir, given, None) for given in (None, spec)]
        for given in here:
            data, images = prepare._data(given, was)
            assert data == was.data
            found.append(images)
        for images in found:
            assert images.note.endswith(goes_on)
            assert images.dataset.test_digest == was.data.test_digest
            assert len(images.dataset.open_test()[1]) == tests
        like = prepare.make_config(replace(flags, data=None, like="night"), was)
        assert like.data.test_digest not in (None, was.data.test_digest) or not (pets / "test").exists()
    folder_of(pets)
    noise(pets / "test/cat/new.png", 999)
    shutil.rmtree(data_dir / "cache")
    for given in here:
        with pytest.raises(StudyError, match="was made with other test images; put them back, or"):
            require_same("night", was, prepare.make_config(given, was))
    with pytest.raises(DataError, match="holds other test images than pets"):
        open_images_from(was.data, data_dir, None, None)


def test_a_training_is_tested_on_the_test_images_of_another_place_that_is_typed(
    pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment says no more than where those of the study lie."""
    noise(pets / "test/cat/wide.png", 998, width=24)
    data_dir, other = tmp_path / "data", f"folder:{tmp_path / 'other'}"
    was = prepare.make_config(prepare.Flags("sqlite://", data_dir, 1, "night", data=f"folder:{pets}"), None)
    shutil.copytree(pets, tmp_path / "other")
    noise(tmp_path / "other/test/cat/new.png", 999)
    network = was.propose(RandomSuggest(0))
    found = ResolvedNetwork("night:0", network, was.recipe, was.data, study="night", trial=0)
    flags = train.Flags("night:0", "sqlite://", data_dir, data=other)

    def tests(given: train.Flags) -> tuple[str | None, int, str]:
        _, data, images = train._data(given, found)
        assert data.digest == was.data.digest
        assert data.test_digest == images.dataset.test_digest
        return data.test_digest, len(images.dataset.open_test()[1]), images.note

    now = datasets.load(other, data_dir).test_digest
    assert now != was.data.test_digest
    assert tests(flags) == (now, 8, "")
    assert tests(replace(flags, data=None)) == (was.data.test_digest, 7, "")
    bent = tests(replace(flags, data=None, fit="stretch"))
    assert bent[0] not in (now, was.data.test_digest) and bent[1:] == (7, "")
    monkeypatch.setenv("SEARCH_DATA", other)
    note = f"{other} no longer holds the test images of the study, which goes on with those of before"
    assert tests(flags) == (was.data.test_digest, 7, note)


def test_a_study_like_another_is_made_on_the_images_that_the_folder_has_now(
    pets: Path, tmp_path: Path
) -> None:
    flags = prepare.Flags("sqlite://", tmp_path / "data", 1, "night", data=f"folder:{pets}")
    was = prepare.make_config(flags, None)
    noise(pets / "train/cat/new.png", 999)
    like = replace(flags, data=None, study="next", like="night")
    now = prepare.make_config(like, was)
    assert now == prepare.make_config(flags, None) and now.data.digest != was.data.digest
    assert prepare.make_config(replace(flags, data=None), was) == was
    shutil.rmtree(pets)
    with pytest.raises(DataError, match="no folder"):
        prepare.make_config(like, was)


def test_of_the_states_of_a_folder_that_train_alike_the_one_it_had_last_is_opened(
    pets: Path, tmp_path: Path
) -> None:
    """The digest is of training and validation images alone."""
    spec, data_dir = f"folder:{pets}", tmp_path / "data"

    def load(count: int, **how: str) -> datasets.Dataset:
        shutil.rmtree(pets / "test", ignore_errors=True)
        if count:
            shutil.copytree(tmp_path / str(count) / "test", pets / "test")  # with the times of its files
        return datasets.load(spec, data_dir, **how)

    for count in (6, 8):
        folder_of(tmp_path / str(count), 1, count // 2)
    found = [load(0), load(8), load(6), load(6, fit="stretch")]
    assert len({one.digest for one in found}) == 1 and len({one.cache for one in found}) == 4
    data, _ = split_images(found[2], None, None, 0)
    opened = prepared.opened(data_dir, data.digest, None, data.spec, data.name, data.model_dump())
    assert opened is not None
    assert (opened.cache, len(opened.open_test()[1]), opened.scaling.fit) == (found[2].cache, 6, "pad")
    load(8)  # as it was before
    older = data.model_copy(update={"test_digest": None})  # a study that does not know its test images
    for of, tested, cache in ((data, 6, found[2].cache), (older, 8, found[1].cache)):
        assert prepared.find(data_dir / "cache", of.digest, of.model_dump()) == cache
        for source in (data_dir, data_dir / "cache"):
            there = tmp_path / f"there-{source.name}-{tested}"
            taken = open_images_from(of, there, None, str(source)).dataset
            assert len(taken.open_test()[1]) == tested
