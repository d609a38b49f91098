"""Folders of pictures: nothing counts twice, nothing is left out in silence, all that is damaged is named."""

import json
import multiprocessing
import os
import shutil
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from picture_samples import folder_of, noise

from space.errors import DataError
from trainer.data import dataset as datasets, process_pool, sources
from trainer.data.dataset import Dataset
from trainer.data.picture_folder import Wanted
from trainer.data.survey import Survey


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "pets")


def load(folder: Path, size: int | None = None, **given: object) -> Dataset:
    return datasets.load(f"folder:{folder}", folder.parent / "data", size, **given)  # type: ignore[arg-type]


def survey_of(folder: Path) -> Survey:
    found = load(folder).survey
    assert found is not None
    return found


def refused(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_link_that_leads_back_up_is_refused_by_name(folder: Path) -> None:
    (folder / "train" / "cat" / "again").symlink_to(".")
    assert (
        f"{folder}/train/cat/again and {folder}/train/cat are one folder, whose pictures would count twice"
        in refused(folder)
    )


def test_a_link_to_the_whole_folder_is_refused(folder: Path) -> None:
    (folder / "train" / "cat" / "all").symlink_to(folder)
    assert "are one folder" in refused(folder)


def test_two_classes_that_are_one_folder_are_refused(folder: Path) -> None:
    (folder / "train" / "tomcat").symlink_to("cat")
    assert f"{folder}/train/tomcat and {folder}/train/cat are one folder" in refused(folder)


def test_a_link_to_pictures_elsewhere_is_followed(folder: Path, tmp_path: Path) -> None:
    shutil.move(folder / "train" / "cat", tmp_path / "cats")
    (folder / "train" / "cat").symlink_to(tmp_path / "cats")
    assert len(load(folder).labels) == 20


def test_copies_are_counted_where_they_mislead(folder: Path) -> None:
    train, test = folder / "train", folder / "test"
    for i in range(3):
        shutil.copy(train / "cat" / f"{i:02}.png", test / "cat")
    shutil.copy(train / "cat" / "05.png", train / "cat" / "copy.png")
    shutil.copy(train / "cat" / "06.png", train / "dog" / "stray.png")
    found = survey_of(folder)
    assert found.copies == 2
    assert found.across_classes == (("train/cat/06.png", "train/dog/stray.png"),)
    assert found.seen_before == {"validation": 0, "test": 3, "test in validation": 0}


@pytest.mark.parametrize("seed", range(5))
def test_copies_never_straddle_training_and_validation(folder: Path, seed: int) -> None:
    for i in range(10):
        for again in range(3):
            shutil.copy(folder / "train/cat" / f"{i:02}.png", folder / "train/cat" / f"{i:02}-{again}.png")
    dataset = load(folder)
    split = datasets.split(dataset, seed, 0.2)
    parts = [{dataset.images[row].tobytes() for row in rows} for rows in (split.train, split.validation)]
    assert parts[0].isdisjoint(parts[1])
    assert len(split.train) + len(split.validation) == 50
    assert np.bincount(dataset.labels[split.validation]).tolist() == [8, 2], "two of ten, with their copies"


def test_a_split_without_copies_is_the_one_it_was(folder: Path) -> None:
    dataset = load(folder)
    assert dataset.groups is None
    assert datasets.split(dataset, 0).validation.tolist() == [2, 13]


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_validation_images_of_the_folder_are_used(folder: Path, name: str) -> None:
    for i in range(4):
        noise(folder / name / "cat" / f"{i}.png", 1000 + i)
        noise(folder / name / "dog" / f"{i}.png", 2000 + i)
    dataset = load(folder)
    split = datasets.split(dataset, 0, 0.5)
    assert split.train.tolist() == list(range(20))
    assert split.validation.tolist() == list(range(20, 28))
    assert dataset.labels[split.validation].tolist() == [0] * 4 + [1] * 4
    assert split == datasets.split(dataset, 7), "nothing is drawn"


def test_training_pictures_that_are_also_validation_pictures_are_not_trained(folder: Path) -> None:
    (folder / "val/cat").mkdir(parents=True)
    for i in range(3):
        shutil.copy(folder / "train/cat" / f"{i:02}.png", folder / "val/cat")
    dataset = load(folder)
    split = datasets.split(dataset, 0)
    assert split.train.tolist() == list(range(3, 20))
    assert survey_of(folder).seen_before == {"validation": 3, "test": 0, "test in validation": 0}


def test_two_folders_of_validation_images_are_refused(folder: Path) -> None:
    for name in ("val", "valid"):
        noise(folder / name / "cat" / "0.png", 5)
    assert "has val/ and valid/; keep one of them" in refused(folder)


def test_all_that_pillow_reads_is_read(folder: Path) -> None:
    for i, suffix in enumerate(("jfif", "jpe", "TIF", "tga", "ico", "jp2", "ppm", "webp")):
        noise(folder / "train" / "cat" / f"more.{suffix}", 500 + i, 16, 16)
    found = survey_of(folder)
    assert found.counts["train"] == {"cat": 18, "dog": 10}
    assert found.left_out == {}


def test_what_is_left_out_is_counted_by_its_ending(folder: Path) -> None:
    for i in range(10):
        (folder / "train" / "cat" / f"{i}.TXT").write_text("notes")
    (folder / "train" / "dog" / "README").write_text("notes")
    (folder / "train" / "dog" / "._0.png").write_text("of a Mac")
    (folder / "train" / "list.csv").write_text("notes")
    noise(folder / "extra" / "cat" / "0.png", 1)
    found = survey_of(folder)
    assert found.left_out == {".txt": 10, "without an ending": 1, "hidden": 1, "outside of class folders": 1}
    assert found.folders == ("extra",)


def test_what_is_left_out_is_told_as_it_is_now(folder: Path) -> None:
    (folder / "train/cat/a.heic").write_text("of a phone")
    before = load(folder).digest
    (folder / "train/cat/b.heic").write_text("of a phone")
    (folder / "more").mkdir()
    found = survey_of(folder)
    assert (found.left_out, found.folders) == ({".heic": 2}, ("more",))
    (folder / "more").rmdir()
    assert survey_of(folder).folders == ()
    assert load(folder).digest == before, "the images are the same"


def test_a_class_whose_name_is_no_text_is_refused_by_name(folder: Path) -> None:
    noise(folder / "train" / os.fsdecode(b"caf\xe9") / "a.png", 900)
    assert "train named 'caf\ufffd' has a name that is no UTF-8; rename it" in refused(folder)


def test_a_folder_whose_name_is_no_text_is_refused_by_name(tmp_path: Path) -> None:
    found = refused(folder_of(tmp_path / os.fsdecode(b"caf\xe9")))
    assert "caf\ufffd' has a name that is no UTF-8; rename it" in found


def test_files_whose_names_are_no_text_are_told_of_in_text(folder: Path) -> None:
    odd = os.fsdecode(b"\xe9")
    shutil.copy(folder / "train/cat/00.png", folder / f"train/dog/{odd}.png")
    (folder / f"train/dog/damaged{odd}.png").write_text("no picture")
    (folder / f"train/dog/a.t{odd}").write_text("notes")
    (folder / f"more{odd}").mkdir()
    survey = load(folder, skip_damaged=True).survey
    assert survey is not None
    said = json.dumps(survey.document(), ensure_ascii=False)
    said.encode()
    assert said.count("\ufffd") == 4


def test_damaged_pictures_are_named_all_at_once(folder: Path) -> None:
    for i in range(6):
        (folder / "train" / "cat" / f"bad{i}.png").write_text("no picture")
    for i in range(6):
        whole = noise(folder / "train" / "dog" / f"cut{i}.png", 100 + i)
        whole.write_bytes(whole.read_bytes()[:200])
    told = refused(folder)
    assert told.startswith(f"cannot read 12 pictures of {folder}: train/cat/bad0.png (its content is of no")
    assert told.count(".png (") == 10
    assert "train/dog/cut3.png (" in told
    assert told.endswith(" and 2 more; replace or remove them, or leave them out by --skip-damaged")


def test_damaged_pictures_are_left_out_if_asked(folder: Path) -> None:
    (folder / "train" / "cat" / "03.png").write_text("no picture")
    cut = folder / "test" / "dog" / "01.png"
    cut.write_bytes(cut.read_bytes()[:200])
    dataset = load(folder, skip_damaged=True)
    assert (len(dataset.labels), len(dataset.open_test()[1])) == (19, 5)
    assert dataset.survey and [path for path, _ in dataset.survey.damaged] == [
        "train/cat/03.png",
        "test/dog/01.png",
    ]
    assert "cannot read 2 pictures" in refused(folder), "another cache"


def test_where_every_test_picture_is_damaged_and_skipped_there_is_no_test_set(folder: Path) -> None:
    for path in (folder / "test").rglob("*.png"):
        path.write_text("no picture")
    dataset = load(folder, skip_damaged=True)
    with pytest.raises(DataError, match="pets has no test images"):
        dataset.open_test()
    np.save(dataset.cache / "test-images.npy", dataset.images[:0])  # as a cache of before has it
    np.save(dataset.cache / "test-labels.npy", dataset.labels[:0])
    with pytest.raises(DataError, match="pets has no test images"):
        dataset.open_test()


def test_a_class_of_damaged_pictures_is_refused_even_then(folder: Path) -> None:
    for path in (folder / "train" / "cat").iterdir():
        path.write_text("no picture")
    with pytest.raises(DataError, match="no picture of the class 'cat' can be read: cannot read 10 pictures"):
        load(folder, skip_damaged=True)


@pytest.mark.parametrize(
    ("sizes", "side"),
    [
        ([(28, 28)], 28),
        ([(24, 24), (90, 70), (30, 40)], 32),
        ([(100, 90), (100, 80), (90, 70)], 64),
        ([(100, 96), (120, 96), (96, 96)], 96),
        ([(400, 300), (300, 400)], 128),
        ([(5, 9)], 8),
    ],
)
def test_the_side_is_the_median_of_the_shorter_ones_rounded(
    sizes: list[tuple[int, int]], side: int, tmp_path: Path
) -> None:
    for i, (width, height) in enumerate(sizes):
        for name in ("a", "b"):
            noise(tmp_path / "p" / "train" / name / f"{i}.png", 10 * i + (name == "a"), width, height)
    found = survey_of(tmp_path / "p")
    assert load(tmp_path / "p").image_size == found.side == side
    assert found.smallest == (min(w for w, _ in sizes), min(h for _, h in sizes))
    assert found.largest == (max(w for w, _ in sizes), max(h for _, h in sizes))


def test_a_survey_comes_back_from_the_cache_as_it_was(folder: Path) -> None:
    shutil.copy(folder / "train/cat/06.png", folder / "train/dog/stray.png")
    first = survey_of(folder)
    assert survey_of(folder) == first


def folders_of_cache(folder: Path) -> list[str]:
    return [path.name for path in (folder.parent / "data" / "cache").iterdir() if path.is_dir()]


@pytest.mark.parametrize("asked", list(permutations([(None, True), (None, False), (12, False)])))
def test_a_folder_is_stored_once_however_it_is_asked_for(
    folder: Path, asked: tuple[tuple[int | None, bool], ...]
) -> None:
    """As `search data`, `search launch` and a worker do."""
    found = [load(folder, size, skip_damaged=skip) for size, skip in asked]
    assert len({one.cache for one in found}) == 1 == len(folders_of_cache(folder))
    assert load(folder, 8).cache != found[0].cache
    noise(folder / "train/cat/new.png", 990)
    assert load(folder).cache != found[0].cache


def test_a_folder_without_its_damaged_pictures_is_stored_once_and_still_refused_with_them(
    folder: Path,
) -> None:
    (folder / "train/cat/bad.png").write_text("no picture")
    one, other = load(folder, skip_damaged=True), load(folder, 12, skip_damaged=True)
    assert one.cache == other.cache and len(folders_of_cache(folder)) == 1
    for size in (None, 12):
        with pytest.raises(DataError, match="cannot read a picture"):
            load(folder, size)


def test_a_folder_of_the_cache_that_was_deleted_is_made_again(folder: Path) -> None:
    cache = load(folder).cache
    shutil.rmtree(cache)
    cache.with_name(f"{cache.name}.new").mkdir()  # as a process leaves it that was killed
    assert load(folder).cache == cache and cache.is_dir()
    before = cache.rename(cache.with_name("folder-as-an-older-version-made-it"))
    for name in cache.parent.glob("*.same"):
        name.unlink()
    key = sources.find(f"folder:{folder}", folder.parent / "data", Wanted()).key
    older = before.rename(cache.with_name(f"{key}-v{datasets.LAYOUT}"))
    assert load(folder).cache == older and folders_of_cache(folder) == [older.name]


def race(folder: Path, size: int | None, answers: "multiprocessing.Queue[str]") -> None:
    answers.put(load(folder, size).cache.name)


def test_processes_that_ask_for_it_in_several_ways_make_one_folder(folder: Path) -> None:
    context = multiprocessing.get_context("spawn")
    answers: multiprocessing.Queue[str] = context.Queue()
    racing = [context.Process(target=race, args=(folder, size, answers)) for size in (None, 12, None, 12)]
    for process in racing:
        process.start()
    assert len({answers.get(timeout=120) for _ in racing}) == 1
    for process in racing:
        process.join(60)
    assert len(folders_of_cache(folder)) == 1


def test_a_picture_that_was_exchanged_is_noticed(folder: Path) -> None:
    path, before = folder / "train" / "cat" / "00.png", load(folder)
    os.utime(path, ns=(1, 1))
    assert load(folder).cache != before.cache, "its time"
    noise(path, 9999, 13)
    os.utime(path, ns=(1, 1))
    assert load(folder).digest != before.digest, "its size"


def test_many_pictures_are_read_by_several_processes_to_the_same_bytes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = load(folder, 16)
    monkeypatch.setattr(process_pool, "WORTH_PROCESSES", 2)
    monkeypatch.setattr(process_pool, "PART", 3)
    monkeypatch.setattr(process_pool, "LOG_SECONDS", 0)
    monkeypatch.setattr(process_pool, "cores", lambda: 2)
    together = datasets.load(f"folder:{folder}", folder.parent / "elsewhere", 16)
    assert together.digest == alone.digest
    assert "scaling pictures: 20 of 20" in capsys.readouterr().err


def spoil(folder: Path) -> int:
    """Every picture there becomes unreadable, of the same size and time: whoever opens one fails."""
    paths = list(folder.rglob("*.png"))
    for path in paths:
        status = path.stat()
        path.write_bytes(b"x" * status.st_size)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    return len(paths)


@pytest.mark.parametrize("colour", [True, False])
def test_of_a_folder_that_changed_only_what_is_new_is_read(tmp_path: Path, colour: bool) -> None:
    folder = tmp_path / "pets"
    for i in range(30):
        name = folder / ("train", "val", "test")[i % 3] / ("cat", "dog")[i % 2] / f"{i}.png"
        noise(name, i, 16, 12, colour)
    shutil.copy(folder / "train/cat/0.png", folder / "train/dog/copy.png")
    shutil.copytree(folder, tmp_path / "as-it-was")
    first = load(folder)
    spoil(folder)
    for root in (folder, tmp_path / "as-it-was"):
        (root / "train/cat/6.png").unlink()
        noise(root / "train/dog/new.png", 99, 16, 12, colour)
        noise(root / "test/cat/new.png", 98, 16, 12, colour)
    again, fresh = load(folder), load(tmp_path / "as-it-was")
    assert first.digest != again.digest == fresh.digest
    assert np.array_equal(again.images, fresh.images)
    assert np.array_equal(again.open_test()[0], fresh.open_test()[0])
    assert again.survey == fresh.survey and again.survey is not None and again.survey.copies == 1
    assert again.groups is not None and fresh.groups is not None
    assert np.array_equal(again.groups, fresh.groups)


def test_a_grey_folder_that_becomes_coloured_is_the_one_that_it_would_be(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "pets")
    for path in (folder / "train").rglob("*.png"):
        noise(path, int(path.stem) + 100 * (path.parent.name == "cat"), colour=False)
    shutil.copytree(folder, tmp_path / "as-it-was")
    assert load(folder).channels == 1
    spoil(folder / "train")
    for root in (folder, tmp_path / "as-it-was"):
        noise(root / "train/dog/new.png", 99)
    again, fresh = load(folder), load(tmp_path / "as-it-was")
    assert again.channels == 3
    assert np.array_equal(again.images, fresh.images)
    assert np.array_equal(again.open_test()[0], fresh.open_test()[0]), "test/ was coloured, and is again"


def test_pictures_that_are_scaled_otherwise_now_are_read_again(folder: Path) -> None:
    load(folder)
    assert load(folder, 8).images.shape[1:3] == (8, 8)
    spoil(folder / "train" / "cat")
    with pytest.raises(DataError, match="cannot read 10 pictures"):
        load(folder, 16)
    assert load(folder, 8).images.shape[1:3] == (8, 8), "its own cache is there still"


def test_a_cache_whose_notes_are_gone_costs_a_reading_and_no_error(folder: Path) -> None:
    before = load(folder)
    (before.cache / "pictures.npz").write_bytes(b"no notes")
    noise(folder / "train/dog/new.png", 99)
    assert len(load(folder).labels) == 21


@pytest.mark.parametrize(
    ("there", "told"),
    [
        (("Train/cat", "Train/dog"), "give Train/ the name train/"),
        (("training/cat", "validation/cat"), "give training/ the name train/"),
        (("cat", "dog"), "if cat, dog are its classes, make a folder train/ and move them into it"),
        (("my pets/train/cat",), "my pets/ in it has one: give --data 'folder:"),
        ((), "put the images into train/<class>/"),
    ],
)
def test_a_folder_without_train_is_told_what_to_do_with_what_it_has(
    there: tuple[str, ...], told: str, tmp_path: Path
) -> None:
    for name in there:
        noise(tmp_path / "pets" / name / "0.png", 1)
    (tmp_path / "pets").mkdir(exist_ok=True)
    assert f"{tmp_path}/pets has no train/ folder; {told}" in refused(tmp_path / "pets")


def test_a_file_in_place_of_a_folder_is_told_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "pets.zip").write_text("an archive")
    assert "pets.zip is a file and no folder; unpack it" in refused(tmp_path / "pets.zip")


def test_a_folder_that_is_a_link_to_itself_or_has_too_long_a_name_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert f"there is no folder {tmp_path}/loop" in refused(tmp_path / "loop")
    assert "File name too long" in refused(tmp_path / ("x" * 300))


def test_a_class_of_files_that_are_not_read_is_told_which(folder: Path) -> None:
    (folder / "train/emu").mkdir()
    for i in range(7):
        (folder / f"train/emu/IMG_{i}.HEIC").write_text("of a phone")
    assert "train/emu has no images that Pillow reads (.heic 7); fill it or take it away" in refused(folder)


def test_links_that_lead_nowhere_are_named_with_the_damaged_pictures(folder: Path) -> None:
    (folder / "train/cat/gone.png").symlink_to("/nowhere/a.png")
    (folder / "train/dog/itself.png").symlink_to("itself.png")
    told = refused(folder)
    assert "cannot read 2 pictures" in told
    assert "train/cat/gone.png (No such file or directory), train/dog/itself.png (Too many levels" in told
    assert len(load(folder, skip_damaged=True).labels) == 20


def test_a_hidden_class_is_told_of(folder: Path) -> None:
    noise(folder / "train/.emu/0.png", 1)
    assert survey_of(folder).left_out == {"hidden": 1}


def test_a_validation_class_whose_name_only_looks_like_that_of_train_is_told_so(folder: Path) -> None:
    (folder / "train/cat").rename(folder / "train/caf\xe9")
    (folder / "test/cat").rename(folder / "test/cafe\u0301")
    assert r"(its 'caf\xe9' is 'cafe\u0301' here); rename it" in refused(folder)
