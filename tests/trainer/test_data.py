"""Data sets: read once, split fairly, sealed; and one line for everything that can be wrong with a folder."""

import hashlib
import json
import multiprocessing
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from space.errors import DataError, UsageError
from trainer.data import dataset as datasets
from trainer.data.catalogue import DATASETS, SPECS


def paint(path: Path, size: tuple[int, int], colour: int | tuple[int, int, int], mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "pets"
    for part, count in (("train", 10), ("test", 3)):
        for i in range(count):
            paint(root / part / "cat" / f"{i}.png", (12, 9), (200, i, 0))
            paint(root / part / "dog" / f"{i}.jpg", (9, 20), (0, 10 * i, 200))
    return root


@pytest.fixture
def digits(tmp_path: Path) -> datasets.Dataset:
    return datasets.load("digits", tmp_path)


def open_folder(folder: Path, size: int | None = None) -> datasets.Dataset:
    return datasets.load(f"folder:{folder}", folder.parent / "data", size)


def test_digits_are_bytes_of_full_range_with_a_fifth_kept_for_the_test(digits: datasets.Dataset) -> None:
    images, labels = digits.open_test()
    assert digits.images.shape == (1438, 8, 8, 1)
    assert images.shape == (359, 8, 8, 1)
    assert digits.images.dtype == np.uint8
    assert int(digits.images.max()) == 255
    assert np.ptp(np.bincount(labels)) <= 2
    assert digits.classes == tuple("0123456789")


def test_test_images_are_not_among_the_training_images(digits: datasets.Dataset) -> None:
    training = {image.tobytes() for image in digits.images}
    assert sum(image.tobytes() in training for image in digits.open_test()[0]) == 0


def test_folders_that_differ_in_test_alone_have_one_digest_and_two_of_the_test(folder: Path) -> None:
    known = {}
    for count in (3, 5):
        for i in range(count):
            paint(folder / "test" / "cat" / f"{i}.png", (12, 9), (200, i, 90))
        known[count] = open_folder(folder)
    assert known[3].digest == known[5].digest
    assert known[3].test_digest != known[5].test_digest and known[5].test_digest
    shutil.rmtree(folder / "test")
    assert open_folder(folder).test_digest is None


def test_a_cache_of_before_has_its_test_images_hashed_and_stays_as_it_is(folder: Path) -> None:
    dataset = open_folder(folder)
    facts = dataset.cache / "facts.json"
    stored = json.loads(facts.read_text())
    assert stored.pop("test_digest") == dataset.test_digest
    facts.write_text(json.dumps(stored))
    assert open_folder(folder).test_digest == dataset.test_digest
    assert json.loads(facts.read_text()) == stored
    (dataset.cache / "test-labels.npy").unlink()
    assert open_folder(folder).test_digest is None


def test_a_split_is_stratified_and_disjoint_and_leaves_nothing_out(digits: datasets.Dataset) -> None:
    split = datasets.split(digits, seed=3)
    shares = np.bincount(digits.labels[split.validation]) / np.bincount(digits.labels)
    assert len(split.validation) == 144
    assert np.all(np.abs(shares - 0.1) < 0.01)
    assert sorted([*split.train, *split.validation]) == list(range(len(digits.labels)))


def test_a_split_is_the_same_wherever_it_is_made(digits: datasets.Dataset) -> None:
    split = datasets.split(digits, seed=0)
    assert split == datasets.split(digits, seed=0) != datasets.split(digits, seed=1)
    assert (
        split.digest == hashlib.sha256(split.train.tobytes() + b"|" + split.validation.tobytes()).hexdigest()
    )
    assert split.digest.startswith("17b8f873c20ee984")


def test_a_limit_cuts_the_training_images_and_keeps_the_validation_images(digits: datasets.Dataset) -> None:
    whole, small = datasets.split(digits, seed=0), datasets.split(digits, seed=0, limit=200)
    assert np.array_equal(whole.validation, small.validation)
    assert len(small.train) == 200
    assert set(small.train) < set(whole.train)
    assert np.ptp(np.bincount(digits.labels[small.train])) <= 2
    assert datasets.split(digits, seed=0, limit=5000) == whole


def test_every_class_is_validated_and_trained_even_when_it_is_tiny(folder: Path) -> None:
    for i in range(2):
        paint(folder / "train" / "emu" / f"{i}.png", (9, 9), (i, 200, 0))
    dataset = open_folder(folder)
    split = datasets.split(dataset, seed=0)
    for part in (split.train, split.validation):
        assert set(dataset.labels[part]) == {0, 1, 2}


def uneven(counts: tuple[int, ...]) -> datasets.Dataset:
    """Black images of so many of each class, which are told apart by their number alone."""
    labels = np.repeat(np.arange(len(counts)), counts)
    names, images = tuple(map(str, range(len(counts)))), np.zeros((len(labels), 4, 4, 1), np.uint8)
    return datasets.Dataset("black", "black", names, 4, 1, "black", images, labels, Path())


@pytest.mark.parametrize("limit", [10, 50, 100, 150, 170, 179, 180])
def test_a_limit_takes_no_class_away_that_has_one_image_to_train_on(limit: int) -> None:
    dataset = uneven((100, 100, 2))
    split = datasets.split(dataset, seed=0, limit=limit)
    assert np.bincount(dataset.labels[split.train], minlength=3)[2] == 1
    assert limit <= len(split.train) <= limit + 1, "one more where the small class moves it"


@pytest.mark.parametrize("limit", [150, 159, 160, 161, 163])
def test_a_limit_near_all_images_is_met(limit: int) -> None:
    assert len(datasets.split(uneven((5,) * 41), seed=0, limit=limit).train) == limit


@pytest.mark.parametrize(
    ("counts", "limit", "digest"),
    [
        ((100, 100, 20), 150, "d1ebe4efda24b3eb"),
        ((300, 200, 100), 100, "d5d0456c8d1413a1"),
        ((40, 30, 20, 3), 60, "459a167fa68b5699"),
    ],
)
def test_a_limit_under_which_every_class_had_its_images_draws_the_same_as_ever(
    counts: tuple[int, ...], limit: int, digest: str
) -> None:
    assert datasets.split(uneven(counts), seed=0, limit=limit).digest.startswith(digest)


@pytest.mark.parametrize("options", [{"validation_share": 0.0}, {"validation_share": 1.0}, {"limit": 9}])
def test_a_share_or_a_limit_that_leaves_a_class_out_is_refused(
    digits: datasets.Dataset, options: dict
) -> None:
    with pytest.raises(UsageError, match=r"validation share|limit 9 is below the 10 classes"):
        datasets.split(digits, seed=0, **options)


def test_a_search_works_when_the_test_files_were_deleted(folder: Path) -> None:
    for path in open_folder(folder).cache.glob("test-*"):
        path.unlink()
    dataset = open_folder(folder)
    assert len(datasets.split(dataset, seed=0).train) == 18
    with pytest.raises(DataError, match="no test images"):
        dataset.open_test()


@pytest.mark.parametrize("size", [0, 10, 200])
def test_a_file_of_images_that_was_cut_short_is_one_line(folder: Path, size: int) -> None:
    dataset = open_folder(folder)
    for name in ("test-images.npy", "train-images.npy"):
        path = dataset.cache / name
        content = path.read_bytes()[:size]
        path.unlink()  # the mapped one stays
        path.write_bytes(content)
    with pytest.raises(DataError, match=f"delete {dataset.cache} if damaged"):
        dataset.open_test()
    with pytest.raises(DataError, match=f"the cache {dataset.cache} is damaged"):
        open_folder(folder)


def test_a_folder_of_mixed_sizes_is_scaled_to_the_median_of_the_shorter_sides_rounded(folder: Path) -> None:
    dataset = open_folder(folder)
    assert (dataset.name, dataset.classes) == ("pets", ("cat", "dog"))
    assert dataset.images.shape == (20, 8, 8, 3)
    assert dataset.images[0, 4, 4].tolist() == [200, 0, 0]
    assert open_folder(folder, 16).images.shape == (20, 16, 16, 3)
    assert dataset.open_test()[1].tolist() == [0, 0, 0, 1, 1, 1]


def test_a_side_is_at_most_128_pixels_unless_asked_for(folder: Path) -> None:
    for i in range(50):
        paint(folder / "train" / "cat" / f"large{i}.png", (300, 200), (0, 0, i))
    assert open_folder(folder).image_size == 128
    assert open_folder(folder, 90).image_size == 90


def test_grey_images_of_any_mode_have_one_channel(tmp_path: Path) -> None:
    for name, mode, colour in (
        ("a/8bit.png", "L", 100),
        ("a/16bit.png", "I;16", 25600),
        ("b/colours.png", "RGB", (100, 100, 100)),
        ("b/palette.gif", "P", 100),
        ("b/alpha.png", "LA", (100, 255)),
    ):
        paint(tmp_path / "train" / name, (8, 8), colour, mode)
    images = datasets.load(f"folder:{tmp_path}", tmp_path / "data").images
    assert images.shape == (5, 8, 8, 1)
    assert images[1, 0, 0] == 100
    assert images[0, 0, 0] == 200, "25,600 needs 15 bits, of which the upper 8 stay"


def test_one_coloured_image_makes_a_folder_coloured(folder: Path) -> None:
    for part in ("train", "test"):
        for path in (folder / part).rglob("*.*"):
            path.unlink()
    paint(folder / "train" / "cat" / "0.png", (8, 8), 100, "L")
    paint(folder / "train" / "dog" / "0.png", (8, 8), (1, 2, 3))
    assert open_folder(folder).channels == 3


def test_a_changed_folder_is_read_again(folder: Path) -> None:
    before = open_folder(folder)
    paint(folder / "train" / "cat" / "more.png", (9, 9), (1, 2, 3))
    after = open_folder(folder)
    assert len(after.labels) == 21
    assert before != after


def test_the_spec_of_a_folder_is_absolute(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    assert datasets.load("folder:pets", Path("data")).spec == f"folder:{folder}"


def test_images_of_another_shape_or_with_other_labels_are_another_data_set(tmp_path: Path) -> None:
    """A study, its checkpoints and a server of images know them by the digest."""
    images, labels = np.arange(32, dtype=np.uint8), np.array([0, 1], np.int64)

    def digest(shape: tuple[int, ...], classes: NDArray[np.int64]) -> str:
        np.save(tmp_path / "train-images.npy", images.reshape(shape))
        np.save(tmp_path / "train-labels.npy", classes)
        return datasets.digest_of(tmp_path)

    first = digest((2, 4, 4, 1), labels)
    assert digest((2, 4, 4, 1), labels) == first
    assert digest((2, 4, 4, 1), labels[::-1]) != first
    assert digest((2, 2, 4, 2), labels) != first


def test_what_is_changed_in_memory_never_reaches_the_cache(digits: datasets.Dataset) -> None:
    before = digits.images[0].copy()
    digits.images[0] = 7
    assert np.array_equal(datasets.load("digits", digits.cache.parent.parent).images[0], before)


def test_hidden_files_and_other_files_are_left_out(folder: Path) -> None:
    (folder / "train" / ".cache").mkdir()
    (folder / "train" / "cat" / "._0.png").write_bytes(b"resource fork")
    (folder / "train" / "cat" / "notes.txt").write_text("not an image")
    assert len(open_folder(folder).labels) == 20


def test_images_in_deeper_folders_belong_to_their_class(folder: Path) -> None:
    paint(folder / "train" / "cat" / "siamese" / "0.PNG", (9, 9), (1, 2, 3))
    assert len(open_folder(folder).labels) == 21


def refused(spec: str, data_dir: Path) -> str:
    with pytest.raises(DataError) as caught:
        datasets.load(spec, data_dir)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("spec", ["imagenet", "folder:", "", "Digits"])
def test_an_unknown_data_set_is_refused_with_the_known_ones(spec: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        datasets.load(spec, tmp_path)
    assert str(caught.value) == f"unknown data set {spec!r}; use {SPECS}"


def test_a_folder_that_is_given_as_a_data_set_is_told_how(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    for spec in (folder.name, f"Folder:{folder.name}"):
        with pytest.raises(UsageError, match=f"of the folder that is there: folder:{folder.name}$"):
            datasets.load(spec, folder.parent)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert str(tmp_path / "nowhere") in refused(f"folder:{tmp_path / 'nowhere'}", tmp_path)


def test_a_folder_without_train_is_told_what_it_needs(tmp_path: Path) -> None:
    assert "no train/ folder; put the images into train/<class>/" in refused(f"folder:{tmp_path}", tmp_path)


def test_a_folder_without_images_is_told_which_files_count(tmp_path: Path) -> None:
    (tmp_path / "train" / "cat").mkdir(parents=True)
    (tmp_path / "train" / "cat" / "cat.svg").write_text("<svg/>")
    assert "no images in" in refused(f"folder:{tmp_path}", tmp_path)
    assert "png" in refused(f"folder:{tmp_path}", tmp_path)


def test_one_class_is_not_enough(tmp_path: Path) -> None:
    paint(tmp_path / "train" / "cat" / "0.png", (8, 8), (1, 2, 3))
    assert "one class, 'cat'; at least two are needed" in refused(f"folder:{tmp_path}", tmp_path)


def test_a_class_without_images_is_named(folder: Path) -> None:
    (folder / "train" / "emu").mkdir()
    assert "train/emu has no images" in refused(f"folder:{folder}", folder.parent)


def test_a_test_class_that_training_lacks_is_named(folder: Path) -> None:
    paint(folder / "test" / "emu" / "0.png", (8, 8), (1, 2, 3))
    assert "test/emu is a class that train/ does not have" in refused(f"folder:{folder}", folder.parent)


@pytest.mark.parametrize("content", ["", "not an image", None])
def test_an_unreadable_image_is_named(folder: Path, content: str | None) -> None:
    path = folder / "train" / "dog" / "5.jpg"
    if content is None:
        path.write_bytes(path.read_bytes()[:-200])
    else:
        path.write_text(content)
    assert f"cannot read a picture of {folder}: train/dog/5.jpg (" in refused(
        f"folder:{folder}", folder.parent
    )
    assert [path.suffix for path in (folder.parent / "cache").iterdir()] == [".lock"], "no half-made cache"


def test_a_data_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "choose another --data-dir" in refused("digits", tmp_path / "file")


def test_a_damaged_cache_is_named(digits: datasets.Dataset) -> None:
    (digits.cache / "facts.json").write_text("{")
    assert f"the cache {digits.cache} is damaged" in refused("digits", digits.cache.parent.parent)


def test_an_image_size_out_of_range_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"image size 1000 is outside 4\.\.512"):
        datasets.load("digits", tmp_path, 1000)


def test_the_catalogue_has_the_facts_of_digits(digits: datasets.Dataset) -> None:
    known = DATASETS["digits"]
    assert digits.images.shape == (known.train_images, known.image_size, known.image_size, known.channels)
    assert (len(digits.open_test()[1]), len(digits.classes)) == (known.test_images, known.classes)


def test_what_a_killed_conversion_left_is_cleared_away(folder: Path) -> None:
    cache = open_folder(folder).cache
    cache.rename(cache.with_name(f"{cache.name}.new"))
    assert open_folder(folder).cache.is_dir()
    assert not cache.with_name(f"{cache.name}.new").exists()


def load_and_tell(folder: str, answers: "multiprocessing.Queue[tuple[str, int]]") -> None:
    dataset = open_folder(Path(folder))
    answers.put((dataset.digest, (dataset.cache / "facts.json").stat().st_ino))


def test_processes_that_race_make_the_cache_once(folder: Path) -> None:
    context = multiprocessing.get_context("spawn")
    answers: multiprocessing.Queue[tuple[str, int]] = context.Queue()
    racers = [context.Process(target=load_and_tell, args=(str(folder), answers)) for _ in range(4)]
    for racer in racers:
        racer.start()
    found = {answers.get(timeout=120) for _ in racers}
    for racer in racers:
        racer.join()
    assert len(found) == 1
    assert len([path for path in (folder.parent / "data" / "cache").iterdir() if path.is_dir()]) == 1
