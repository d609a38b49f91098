"""A data set as memory-mapped arrays, its cache, and its split into training and validation images.

Reads what trainer/data/sources.py finds and writes it, once, to DATA_DIR/cache/KEY: images and labels as .npy
files, those of the test set apart, and facts.json. Called by launcher and workers (through
search/study/config.py), by full training and by the benchmarks. Knows nothing of torch, of augmentation or of
how images are decoded.
"""

import hashlib
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from space.errors import DataError, UsageError
from trainer.data import sources
from trainer.data.contents import Contents, Part
from trainer.data.file_lock import locked

LAYOUT = 1  # part of the cache key of every data set: raise it when the files of the cache change


@dataclass(frozen=True)
class Dataset:
    """Training images (N, H, W, C) uint8 and labels (N,) int64, mapped from files; equal by digest."""

    spec: str
    name: str
    classes: tuple[str, ...]
    image_size: int
    channels: int
    digest: str
    images: NDArray[np.uint8] = field(compare=False, repr=False)
    labels: NDArray[np.int64] = field(compare=False, repr=False)
    cache: Path = field(compare=False)

    def open_test(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The sealed test images (N, H, W, C) uint8 and labels (N,) int64, mapped from files.

        For the final confirmation only, never for choosing. Raises DataError where there are none.
        """
        try:
            return _mapped(self.cache / "test-images.npy"), _mapped(self.cache / "test-labels.npy")
        except OSError as error:
            raise DataError(
                f"{self.name} has no test images; add test/<class>/, or delete {self.cache} if damaged"
            ) from error


@dataclass(frozen=True)
class Split:
    """Sorted indices into the training images, (N,) int64 each and disjoint; equal by digest (sha256)."""

    digest: str
    train: NDArray[np.int64] = field(compare=False, repr=False)
    validation: NDArray[np.int64] = field(compare=False, repr=False)


def load(spec: str, data_dir: Path, image_size: int | None = None) -> Dataset:
    """Open what a spec names (catalogue.SPECS); the first caller converts it, others wait and then map it.

    image_size is the side in pixels to scale to; None keeps the data set's own (for a folder the commonest
    shorter side, at most 64). Raises UsageError for an unknown spec or a size out of range; DataError, in one
    line, for whatever is wrong with the data or with writing the cache.
    """
    source = sources.find(spec, data_dir, image_size)
    cache = data_dir / "cache" / f"{source.key}-v{LAYOUT}"
    if not cache.is_dir():
        try:
            _fill(cache, source)
        except OSError as error:
            raise DataError(
                f"cannot write {cache}: {error.strerror or error}; choose another --data-dir"
            ) from error
    return _opened(source, cache)


def split(dataset: Dataset, seed: int, validation_share: float = 0.1, limit: int | None = None) -> Split:
    """Stratified validation images, the same for any limit; training is the rest, cut to `limit` if given.

    Raises UsageError for a share outside (0, 1) or a limit below the number of classes; DataError where no
    class has an image to spare.
    """
    if not 0 < validation_share < 1:
        raise UsageError(f"validation share {validation_share} is not between 0 and 1")
    labels = np.asarray(dataset.labels)
    held = sources.stratified(labels, round(validation_share * len(labels)), seed)
    train = np.setdiff1d(np.arange(len(labels), dtype=np.int64), held)
    if limit is not None and limit < len(train):
        if limit < len(dataset.classes):
            raise UsageError(f"limit {limit} is below the {len(dataset.classes)} classes of {dataset.name}")
        train = train[sources.stratified(labels[train], limit, seed)]
    if not len(held):
        raise DataError(f"{dataset.name} has one image in each class; nothing is left to validate on")
    return Split(hashlib.sha256(train.tobytes() + b"|" + held.tobytes()).hexdigest(), train, held)


def _mapped(path: Path) -> NDArray[Any]:
    """An .npy file, as it was saved. Raises OSError or ValueError."""
    # Copy-on-write: pages are shared by all processes, and torch takes the array without a copy.
    array: NDArray[Any] = np.load(path, mmap_mode="c", allow_pickle=False)
    return array


def _opened(source: sources.Source, cache: Path) -> Dataset:
    try:
        facts = json.loads((cache / "facts.json").read_text(encoding="utf-8"))
        images, labels = _mapped(cache / "train-images.npy"), _mapped(cache / "train-labels.npy")
    except (OSError, ValueError) as error:
        raise DataError(f"the cache {cache} is damaged ({error}); delete it") from error
    return Dataset(
        spec=source.spec,
        name=source.name,
        classes=tuple(facts["classes"]),
        image_size=images.shape[1],
        channels=images.shape[3],
        digest=facts["digest"],
        images=images,
        labels=labels,
        cache=cache,
    )


def _fill(cache: Path, source: sources.Source) -> None:
    cache.parent.mkdir(parents=True, exist_ok=True)
    with locked(cache.with_name(f"{cache.name}.lock")):
        if cache.is_dir():  # another process was first
            return
        contents = source.read()
        new = cache.with_name(f"{cache.name}.new")
        shutil.rmtree(new, ignore_errors=True)  # a killed process may have left one
        try:
            new.mkdir()
            _write(new, contents)
            new.rename(cache)
        finally:
            shutil.rmtree(new, ignore_errors=True)


def _write(folder: Path, contents: Contents) -> None:
    for name, part in {"train": contents.train, "test": contents.test}.items():
        if part is not None:
            np.save(folder / f"{name}-images.npy", part.images)
            np.save(folder / f"{name}-labels.npy", part.labels)
    facts = {"classes": contents.classes, "digest": _digest(contents.train)}
    (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")


def _digest(part: Part) -> str:
    digest = hashlib.sha256(repr(part.images.shape).encode())
    digest.update(np.ascontiguousarray(part.images).data)
    digest.update(np.ascontiguousarray(part.labels).data)
    return digest.hexdigest()
