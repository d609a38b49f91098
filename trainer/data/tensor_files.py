"""Images that somebody gave as tensors, as files: DATA_DIR/tensors/KEY, which "tensors:KEY" names.

Writes and reads the parts as .npy files and the names of the classes as JSON. Written by parsimony/data.py,
read by trainer/data/sources.py. KEY ends in the digest of what is there, so that equal images are written
once and other ones never take their place.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from space.errors import DataError, UsageError
from trainer.data import images as image_files
from trainer.data.contents import Contents, Part, Source
from trainer.data.file_lock import locked

KIND = "tensors"
PARTS = ("train", "validation", "test")
KEY = re.compile(r"[\w.-]{1,80}-[0-9a-f]{12}")
RESIZABLE = (1, 3)  # channels that a picture has


def store(data_dir: Path, name: str, parts: Mapping[str, Part], classes: tuple[str, ...]) -> str:
    """Writes the parts, "train" among them, unless they are there; returns what names them.

    Without names the classes are numbered. Raises DataError for parts that do not go together, UsageError for
    a name that no folder can have.
    """
    if not KEY.fullmatch(f"{name}-{'0' * 12}"):
        raise UsageError(f"name {name!r}: give letters, digits, _, - and . alone, at most 80")
    classes = classes or _numbered(parts)
    _require_alike(parts, classes)
    key = f"{name}-{_digest(parts, classes)}"
    folder = data_dir / KIND / key
    try:
        _write(folder, parts, classes)
    except OSError as error:
        raise DataError(
            f"cannot write {folder}: {error.strerror or error}; choose another data_dir"
        ) from error
    return f"{KIND}:{key}"


def source(key: str, data_dir: Path, image_size: int | None) -> Source:
    """What a key names, not read yet. Raises DataError where it is not there or damaged, UsageError for a
    size that its images cannot be brought to."""
    folder = data_dir / KIND / key
    if not KEY.fullmatch(key) or not folder.is_dir():
        raise DataError(f"no tensors {key!r} in {data_dir / KIND}; parsimony.Data(...).store() writes some")
    try:
        shape = np.load(folder / "train-images.npy", mmap_mode="r", allow_pickle=False).shape
    except (OSError, ValueError) as error:
        raise _damaged(folder, error) from error
    size = image_size or shape[1]
    if size != shape[1] and shape[3] not in RESIZABLE:
        raise UsageError(f"images of {shape[3]} channels are not scaled; they have {shape[1]} pixels a side")
    name = key.rpartition("-")[0]
    return Source(f"{KIND}:{key}", name, f"{KIND}-{key}-{size}", lambda _known: _read(folder, size))


def _damaged(folder: Path, error: Exception) -> DataError:
    return DataError(f"{folder} is damaged ({error}); delete it and store the tensors again")


def _numbered(parts: Mapping[str, Part]) -> tuple[str, ...]:
    return tuple(map(str, range(max(int(part.labels.max()) for part in parts.values()) + 1)))


def _require_alike(parts: Mapping[str, Part], classes: tuple[str, ...]) -> None:
    shape = parts["train"].images.shape[1:]
    for name, part in parts.items():
        if part.images.shape[1:] != shape:
            raise DataError(f"{name}: images are {part.images.shape[1:]}, those of train {shape}")
        if int(part.labels.max()) >= len(classes):
            raise DataError(f"{name}: a label is {part.labels.max()}, and there are {len(classes)} classes")
    missing = sorted(set(range(len(classes))) - set(parts["train"].labels.tolist()))
    if len(classes) < 2 or missing:
        lacking = f"none of class {classes[missing[0]]!r}" if missing else "one class"
        raise DataError(f"train: {lacking}; give images of at least two classes, some of each")
    if len(set(classes)) < len(classes):
        raise DataError("classes: a name stands twice")


def _digest(parts: Mapping[str, Part], classes: tuple[str, ...]) -> str:
    found = hashlib.sha256(json.dumps(classes).encode())
    for name in PARTS:
        if part := parts.get(name):
            found.update(f"{name} {part.images.shape}".encode())
            found.update(np.ascontiguousarray(part.images).data)
            found.update(np.ascontiguousarray(part.labels).data)
    return found.hexdigest()[:12]


def _write(folder: Path, parts: Mapping[str, Part], classes: tuple[str, ...]) -> None:
    """Writes the folder, whole or not at all. Raises OSError."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_name(f"{folder.name}.lock")):
        if folder.is_dir():
            return
        new = folder.with_name(f"{folder.name}.new")
        shutil.rmtree(new, ignore_errors=True)  # a killed process may have left one
        try:
            new.mkdir()
            for name, part in parts.items():
                np.save(new / f"{name}-images.npy", part.images)
                np.save(new / f"{name}-labels.npy", part.labels)
            (new / "classes.json").write_text(json.dumps(classes), encoding="utf-8")
            new.rename(folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)


def _read(folder: Path, size: int) -> Contents:
    """The parts at this size. Raises DataError where a file is missing or damaged."""
    try:
        classes = tuple(json.loads((folder / "classes.json").read_text(encoding="utf-8")))
        train, validation, test = (_part(folder, name, size) for name in PARTS)
    except (OSError, ValueError) as error:
        raise _damaged(folder, error) from error
    if train is None:
        raise DataError(f"{folder} has no training images; delete it and store the tensors again")
    return Contents(classes, train, test, validation)


def _part(folder: Path, name: str, size: int) -> Part | None:
    """Images (N, size, size, C) uint8 and labels (N,) int64; None where there are none of this part."""
    if name != "train" and not (folder / f"{name}-images.npy").is_file():
        return None
    images = np.load(folder / f"{name}-images.npy", mmap_mode="r", allow_pickle=False)
    labels = np.load(folder / f"{name}-labels.npy", allow_pickle=False)
    return Part(image_files.resized(images, size), labels)
