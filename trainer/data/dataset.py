"""A data set as memory-mapped arrays, its cache, and its split into training and validation images.

Reads what trainer/data/sources.py finds and writes it, once, to DATA_DIR/cache/KEY: images and labels as .npy
files, those of the test set apart, and facts.json. Another key of the same contents, as of a folder that is
asked for by the side it has by itself, is a small file that names that folder. A folder's own validation
images (val/) lie behind its training images; groups.npy says which images are copies of each other,
pictures.npz which file is which, so that a folder that has changed is read where it changed. Called by
launcher and workers (through search/study/config.py), by full training and by the benchmarks. Knows nothing
of torch, of augmentation or of how images are decoded.
"""

import hashlib
import json
import os
import shutil
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from space.errors import DataError, UsageError
from trainer.data import known_pictures, sources
from trainer.data.contents import Contents, Part, Source
from trainer.data.file_lock import locked
from trainer.data.images import Fit, Scaling
from trainer.data.picture_folder import Wanted
from trainer.data.survey import Survey

LAYOUT = 1  # part of the cache key of every data set: raise it when the files of the cache change

SAME = ".same"  # ends the name of a small file that names the folder of the cache which another key has
UNFINISHED = ".new"  # ends the name of a folder of the cache that is still being filled


@dataclass(frozen=True)
class Dataset:
    """Training images (N, H, W, C) uint8 and labels (N,) int64, mapped from files; equal by digest.

    The digest says nothing of the test images, which have one of their own.

    The last `own_validation` of them are the validation images that a folder brings. groups, (N,) int64, is
    the same for images that are copies of each other; None where there are none.
    """

    spec: str
    name: str
    classes: tuple[str, ...]
    image_size: int
    channels: int
    digest: str
    images: NDArray[np.uint8] = field(compare=False, repr=False)
    labels: NDArray[np.int64] = field(compare=False, repr=False)
    cache: Path = field(compare=False)
    own_validation: int = 0
    groups: NDArray[np.int64] | None = field(default=None, compare=False, repr=False)
    scaling: Scaling = field(default_factory=Scaling, compare=False)
    survey: Survey | None = field(default=None, compare=False, repr=False)

    @cached_property
    def test_digest(self) -> str | None:
        """sha256 of the test images and labels: see test_digest_of()."""
        return test_digest_of(self.cache)

    def open_test(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The sealed test images (N, H, W, C) uint8 and labels (N,) int64, mapped from files.

        For the final confirmation only, never for choosing. Raises DataError where there are none.
        """
        try:
            part = _part(self.cache, "test")
            if not len(part.labels):  # of a folder whose test pictures were all damaged, and skipped
                raise ValueError("it is empty")
            return part.images, part.labels
        except (OSError, ValueError) as error:
            raise DataError(
                f"{self.name} has no test images; add test/<class>/, or delete {self.cache} if damaged"
            ) from error


@dataclass(frozen=True)
class Split:
    """Sorted indices into the training images, (N,) int64 each and disjoint; equal by digest (sha256)."""

    digest: str
    train: NDArray[np.int64] = field(compare=False, repr=False)
    validation: NDArray[np.int64] = field(compare=False, repr=False)


def load(
    spec: str,
    data_dir: Path,
    image_size: int | None = None,
    fit: Fit = "pad",
    skip_damaged: bool = False,
) -> Dataset:
    """Open what a spec names (catalogue.SPECS); the first caller converts it, others wait and then map it.

    image_size is the side in pixels to scale to; None keeps the data set's own (for a folder of mixed sizes
    survey.usual_side). fit and skip_damaged are of folders. Raises UsageError for an unknown spec or a size
    out of range; DataError, in one line, for whatever is wrong with the data or with writing the cache.
    """
    source = sources.find(spec, data_dir, Wanted(image_size, fit, skip_damaged))
    own = _folder(data_dir / "cache", source.key)
    cache = _filled(own)
    if cache is None:
        try:
            cache = _fill(own, source)
        except OSError as error:
            raise DataError(
                f"cannot write {own}: {error.strerror or error}; choose another --data-dir"
            ) from error
    with suppress(OSError):  # of a cache that cannot be written
        os.utime(cache / "facts.json")  # which state a folder had last: prepared.find()
    return _opened(source.spec, source.name, cache)


def open_prepared(folder: Path, spec: str, name: str) -> Dataset:
    """Open a folder of the cache, whoever made it, as the data set of this spec and name.

    Raises DataError where it is damaged.
    """
    return _opened(spec, name, folder)


def digest_of(folder: Path) -> str:
    """The digest of the images and labels that lie in a folder of the cache, whatever its facts say.

    Raises DataError where they cannot be read.
    """
    try:
        return _digest(_part(folder, "train"))
    except (OSError, ValueError) as error:
        raise DataError(f"the cache {folder} is damaged ({error}); delete it") from error


def test_digest_of(folder: Path, *, as_told: bool = True) -> str | None:
    """The digest of the test images and labels in a folder of the cache; None where there are none, or none
    that can be read.

    As its facts say. A cache of before, whose facts do not say, is hashed each time, and stays as it is; so
    is every one without `as_told`.
    """
    with suppress(OSError, ValueError):
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8")) if as_told else {}
        if "test_digest" in facts:
            told: str | None = facts["test_digest"]
            return told
        part = _part(folder, "test")
        return _digest(part) if len(part.labels) else None
    return None


def split(dataset: Dataset, seed: int, validation_share: float = 0.1, limit: int | None = None) -> Split:
    """Stratified validation images, the same for any limit; training is the rest, cut to `limit` if given.

    Where a folder brings validation images, these are they. Copies of one image are never on both sides.
    Raises UsageError for a share outside (0, 1) or a limit below the number of classes; DataError where no
    class has an image to spare.
    """
    if not 0 < validation_share < 1:
        raise UsageError(f"validation share {validation_share} is not between 0 and 1")
    labels = np.asarray(dataset.labels)
    held = _held(dataset, labels, validation_share, seed)
    train = np.setdiff1d(np.arange(len(labels), dtype=np.int64), held)
    if dataset.groups is not None:  # of a folder's own validation images there may be copies in train/
        train = train[~np.isin(dataset.groups[train], dataset.groups[held])]
    if limit is not None and limit < len(train):
        if limit < len(dataset.classes):
            raise UsageError(f"limit {limit} is below the {len(dataset.classes)} classes of {dataset.name}")
        train = train[sources.cut(labels[train], limit, seed)]
    if not len(held):
        raise DataError(f"{dataset.name} has one image in each class; nothing is left to validate on")
    if not len(train):
        raise DataError(f"every training image of {dataset.name} is a validation image too; take some away")
    return Split(hashlib.sha256(train.tobytes() + b"|" + held.tobytes()).hexdigest(), train, held)


def _held(dataset: Dataset, labels: NDArray[np.int64], share: float, seed: int) -> NDArray[np.int64]:
    """Sorted indices (M,) int64 of the validation images; of copies (`groups`) all or none."""
    if dataset.own_validation:
        return np.arange(len(labels) - dataset.own_validation, len(labels), dtype=np.int64)
    groups = dataset.groups
    if groups is None:
        return sources.stratified(labels, round(share * len(labels)), seed)
    single = np.unique(groups, return_index=True)[1]
    chosen = single[sources.stratified(labels[single], round(share * len(single)), seed)]
    return np.flatnonzero(np.isin(groups, groups[chosen])).astype(np.int64)


def _part(folder: Path, name: str) -> Part:
    """The train or test part of a folder of the cache. Raises OSError or ValueError."""
    return Part(_mapped(folder / f"{name}-images.npy"), _mapped(folder / f"{name}-labels.npy"))


def _mapped(path: Path) -> NDArray[Any]:
    """An .npy file, as it was saved. Raises OSError or ValueError."""
    # Copy-on-write: pages are shared by all processes, and torch takes the array without a copy.
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="c", allow_pickle=False)
    except EOFError as error:  # empty, as a machine leaves it that lost its power
        raise ValueError(f"{path.name}: {error}") from error
    return array


def _opened(spec: str, name: str, cache: Path) -> Dataset:
    try:
        facts = json.loads((cache / "facts.json").read_text(encoding="utf-8"))
        train = _part(cache, "train")
        groups = _mapped(cache / "groups.npy") if facts.get("copies") else None
        survey = Survey.from_document(facts["survey"]) if facts.get("survey") else None
        scaling = Scaling(**facts.get("scaling", {}))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"the cache {cache} is damaged ({error}); delete it") from error
    return Dataset(
        spec=spec,
        name=name,
        classes=tuple(facts["classes"]),
        image_size=train.images.shape[1],
        channels=train.images.shape[3],
        digest=facts["digest"],
        images=train.images,
        labels=train.labels,
        cache=cache,
        own_validation=facts.get("own_validation", 0),
        groups=groups,
        scaling=scaling,
        survey=survey,
    )


def _folder(caches: Path, key: str) -> Path:
    return caches / f"{key}-v{LAYOUT}"


def _filled(own: Path) -> Path | None:
    """A key's folder of the cache: its own, or the one of another key that its file names; None for none."""
    if own.is_dir():
        return own
    with suppress(OSError, ValueError):
        other = own.with_name(own.with_name(own.name + SAME).read_text(encoding="utf-8"))
        return other if other.is_dir() else None
    return None


def _fill(own: Path, source: Source) -> Path:
    """Reads the source and returns its folder of the cache, which is `own` or that of the same contents by
    another key. Locks are taken in this order, and no holder of the second waits for a first."""
    own.parent.mkdir(parents=True, exist_ok=True)
    with locked(own.with_name(f"{own.name}.lock")):
        if found := _filled(own):  # another process was first
            return found
        contents = source.read(known_pictures.of_folder(own.parent, source.spec))
        keys = source.keys(contents) if source.keys else (source.key,)
        cache, *others = (_folder(own.parent, key) for key in keys)
        with nullcontext() if cache == own else locked(cache.with_name(f"{cache.name}.lock")):
            if not cache.is_dir():
                _make(cache, contents)
        if contents.known:
            known_pictures.remember(own.parent, source.spec, cache)
        for other in others:
            _point(other, cache)
        return cache


def _make(cache: Path, contents: Contents) -> None:
    new = cache.with_name(cache.name + UNFINISHED)
    shutil.rmtree(new, ignore_errors=True)  # a killed process may have left one
    try:
        new.mkdir()
        _write(new, contents)
        new.rename(cache)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _point(other: Path, cache: Path) -> None:
    """Names the folder in the file of another key, whole or not at all."""
    new = other.with_name(f"{other.name}{SAME}.{os.getpid()}")
    new.write_text(cache.name, encoding="utf-8")
    new.replace(other.with_name(other.name + SAME))


def _write(folder: Path, contents: Contents) -> None:
    train = _joined(contents.train, contents.validation)
    for name, part in {"train": train, "test": contents.test}.items():
        if part is not None:
            np.save(folder / f"{name}-images.npy", part.images)
            np.save(folder / f"{name}-labels.npy", part.labels)
    if contents.groups is not None:
        np.save(folder / "groups.npy", contents.groups)
    if contents.known is not None:
        known_pictures.save(folder, contents.known)
    facts = {
        "classes": contents.classes,
        "digest": _digest(train),
        "test_digest": _digest(contents.test) if contents.test and len(contents.test.labels) else None,
        "own_validation": len(contents.validation.labels) if contents.validation else 0,
        "copies": contents.groups is not None,
        "scaling": asdict(contents.scaling),
        "survey": contents.survey.document() if contents.survey else None,
    }
    (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")


def _joined(train: Part, validation: Part | None) -> Part:
    if validation is None:
        return train
    return Part(
        np.concatenate([train.images, validation.images]), np.concatenate([train.labels, validation.labels])
    )


def _digest(part: Part) -> str:
    digest = hashlib.sha256(repr(part.images.shape).encode())
    digest.update(np.ascontiguousarray(part.images).data)
    digest.update(np.ascontiguousarray(part.labels).data)
    return digest.hexdigest()
