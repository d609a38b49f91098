"""What `--data` names, as something that can be read: a published data set, digits, a folder of images.

A Source is a name, a key that changes when its content does, and a way to read it. Looks into folders; writes
nothing itself (a data set that is downloaded is kept in the data folder). Called by trainer/data/dataset.py,
whose cache keeps the result.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from space.errors import DataError, UsageError
from trainer.data import images as image_files, torchvision_files
from trainer.data.catalogue import DATASETS, SPECS
from trainer.data.contents import Contents, Part

DIGITS_TEST_SHARE = 0.2
DIGITS_SEED = 20
DECODING = 2  # part of the cache key of a folder: raise it when its files are read in another way


@dataclass(frozen=True)
class Source:
    """A data set that can be read: spec is canonical, key names its state, read() does the slow work."""

    spec: str
    name: str
    key: str
    read: Callable[[], Contents]


def find(spec: str, data_dir: Path, image_size: int | None) -> Source:
    """The source that a spec names, not read yet.

    Raises UsageError for an unknown spec or a size outside 4..512, DataError for a folder that cannot be
    used.
    """
    if image_size is not None and not 4 <= image_size <= 512:
        raise UsageError(f"image size {image_size} is outside 4..512; choose another")
    kind, _, rest = spec.partition(":")
    if kind == "folder" and rest:
        return _folder(Path(rest).expanduser().resolve(), image_size)
    known = DATASETS.get(spec)
    if known is None:
        raise UsageError(f"unknown data set {spec!r}; use {SPECS}")
    size = image_size or known.image_size
    return Source(
        spec,
        known.title,
        f"{spec}-{size}",
        lambda: _digits(size) if spec == "digits" else _published(spec, data_dir, size),
    )


def stratified(labels: NDArray[np.int64], total: int, seed: int) -> NDArray[np.int64]:
    """Sorted indices (M,) int64 of about `total` of the images that `labels` (N,) belong to.

    Each class in proportion, at least one, never a whole class; equal for equal seeds.
    The largest remainders round up, so the total is exact unless a small class moves it.
    RandomState, because numpy promises that its stream never changes.
    """
    random = np.random.RandomState(seed)
    counts = np.bincount(labels)
    exact = counts * total / counts.sum()
    quota = np.floor(exact).astype(np.int64)
    quota[np.argsort(quota - exact, kind="stable")[: total - quota.sum()]] += 1
    quota = np.minimum(np.maximum(quota, 1), np.maximum(counts - 1, 0))
    chosen = [random.permutation(np.flatnonzero(labels == label))[:n] for label, n in enumerate(quota)]
    return np.sort(np.concatenate(chosen))


def _digits(size: int) -> Contents:
    """Images (N, size, size, 1) uint8 from scikit-learn's 17 levels of grey; a fifth are test images."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    images, labels = image_files.resized(images, size), bunch.target.astype(np.int64)
    test = np.zeros(len(labels), bool)
    test[stratified(labels, round(DIGITS_TEST_SHARE * len(labels)), DIGITS_SEED)] = True
    classes = tuple(str(name) for name in bunch.target_names)
    return Contents(classes, Part(images[~test], labels[~test]), Part(images[test], labels[test]))


def _published(name: str, data_dir: Path, size: int) -> Contents:
    """Images (N, size, size, 1 or 3) uint8 and labels (N,) int64. Raises DataError."""
    whole = torchvision_files.read(name, data_dir)
    assert whole.test is not None  # every one of them has test images
    train, test = (Part(image_files.resized(x.images, size), x.labels) for x in (whole.train, whole.test))
    return Contents(whole.classes, train, test)


def _folder(root: Path, image_size: int | None) -> Source:
    if not root.is_dir():
        raise DataError(f"there is no folder {root}; give --data folder:PATH with train/<class>/ in it")
    if not (root / "train").is_dir():
        raise DataError(f"{root} has no train/ folder; put the images into train/<class>/")
    try:
        classes = image_files.class_names(root / "train")
        train = image_files.listed(root / "train", classes)
        test = _test_pictures(root / "test", classes)
    except OSError as error:
        raise DataError(f"cannot list {error.filename or root}: {error.strerror}") from error
    _check(root / "train", classes, train)
    key = _key(root, image_size, classes, [*train, *test])
    spec = f"folder:{root}"
    return Source(spec, root.name, key, lambda: _read_folder(classes, train, test, image_size))


def _test_pictures(part: Path, classes: tuple[str, ...]) -> list[image_files.Picture]:
    if not part.is_dir():
        return []
    unknown = sorted(set(image_files.class_names(part)) - set(classes))
    if unknown:
        raise DataError(
            f"{part / unknown[0]} is a class that train/ does not have; rename it or take it away"
        )
    return image_files.listed(part, [name for name in classes if (part / name).is_dir()])


def _check(part: Path, classes: tuple[str, ...], train: list[image_files.Picture]) -> None:
    if not train:
        kinds = " ".join(sorted(suffix[1:] for suffix in image_files.SUFFIXES))
        raise DataError(f"no images in {part}/<class>/; put files there that end in one of: {kinds}")
    if len(classes) == 1:
        raise DataError(f"{part} has one class, {classes[0]!r}; at least two are needed")
    empty = set(range(len(classes))) - {picture.label for picture in train}
    if empty:
        raise DataError(
            f"the class folder {part / classes[min(empty)]} has no images; fill it or take it away"
        )


def _key(
    root: Path, image_size: int | None, classes: tuple[str, ...], files: list[image_files.Picture]
) -> str:
    digest = hashlib.sha256(repr((DECODING, image_size, classes)).encode())
    start = len(str(root / "x")) - 1
    for file in files:
        name = file.path[start:]
        digest.update(f"{name}\0{file.size}\0{file.modified_ns}\n".encode(errors="surrogateescape"))
    return f"folder-{digest.hexdigest()[:24]}"


def _read_folder(
    classes: tuple[str, ...],
    train: list[image_files.Picture],
    test: list[image_files.Picture],
    image_size: int | None,
) -> Contents:
    """Images (N, size, size, 1) uint8 where all training images are grey, else (N, size, size, 3).

    Raises DataError for an image that cannot be read.
    """
    size = image_size or image_files.common_size(train)
    images = image_files.decoded(train, size, "RGB")
    mode = "L" if image_files.grey(images) else "RGB"
    images = np.ascontiguousarray(images[..., :1]) if mode == "L" else images
    held_out = Part(image_files.decoded(test, size, mode), _labels(test)) if test else None
    return Contents(classes, Part(images, _labels(train)), held_out)


def _labels(files: list[image_files.Picture]) -> NDArray[np.int64]:
    """(N,), in the order of the files."""
    return np.asarray([file.label for file in files], np.int64)
