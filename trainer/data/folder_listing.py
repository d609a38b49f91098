"""Lists a folder of pictures: train/<class>/, val/<class>/ and test/<class>/, and what is left out of it.

Looks at names, sizes and times; opens no file and writes nothing. Called by trainer/data/picture_folder.py.
Follows links, but takes no folder twice.
"""

import os
import shlex
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from space.errors import DataError
from trainer.data.images import Picture

VALIDATION = ("val", "valid", "validation")  # what a folder of validation pictures may be called
TRAINING = ("train", "training", "trainset", "train_set")  # what train/ may be called, in any case
SHOWN = 4  # names of folders in a message
# What Pillow opens by another program, or not at all unless somebody adds a reader: no pictures to train on.
NOT_READ = frozenset({"BUFR", "EPS", "FITS", "GRIB", "HDF5", "MPEG", "WMF", "PDF"})


@dataclass(frozen=True)
class Listing:
    """The pictures of a folder, in the order of classes and then of paths; validation is empty without val/.

    left_out counts files that are no pictures, by their ending; folders are those beside train/ that nothing
    is read from.
    """

    root: Path
    classes: tuple[str, ...]
    train: list[Picture]
    validation: list[Picture]
    test: list[Picture]
    left_out: Counter[str]
    folders: tuple[str, ...]
    without: tuple[str, ...]  # of val/ and test/ those that are there and have no pictures of a class

    @property
    def parts(self) -> dict[str, list[Picture]]:
        """The pictures by the part of the data set that they belong to."""
        return {"train": self.train, "validation": self.validation, "test": self.test}


@lru_cache
def suffixes() -> frozenset[str]:
    """The endings of the files that Pillow reads as pictures, in small letters, with their dot."""
    from PIL import Image

    Image.init()
    every = Image.registered_extensions().items()
    return frozenset(name for name, kind in every if kind in Image.OPEN and kind not in NOT_READ)


def list_folder(root: Path) -> Listing:
    """Every picture of a folder.

    Raises DataError, in one line, for a folder that cannot be trained on: no train/, no pictures, one class,
    one without pictures or that train/ lacks, a folder that would count twice, one that cannot be listed, a
    name of the folder or of a class that is no text.
    """
    _require_text(os.fspath(root), "the folder")
    try:
        if not root.is_dir():
            raise DataError(_no_folder(root))
        if not (root / "train").is_dir():
            raise DataError(f"{root} has no train/ folder; {_what_is_there(root)}")
        return _listed(root)
    except OSError as error:
        raise DataError(f"cannot list {error.filename or root}: {error.strerror}") from error


def _no_folder(root: Path) -> str:
    if root.is_file():
        return f"{root} is a file and no folder; unpack it if it is an archive, and give --data folder:PATH"
    return f"there is no folder {root}; give --data folder:PATH with train/<class>/ in it"


def _what_is_there(root: Path) -> str:
    """What to do about a folder without train/, by what it has in its place."""
    folders = class_names(root)
    for name in folders:
        if name.lower() in TRAINING:
            return f"give {name}/ the name train/"
    for name in folders:
        if (root / name / "train").is_dir():
            inside = shlex.quote(f"folder:{root / readable(name)}")
            return f"{readable(name)}/ in it has one: give --data {inside}"
    if len(folders) > 1:
        names = ", ".join(map(readable, folders[:SHOWN])) + ", ..." * (len(folders) > SHOWN)
        return f"if {names} are its classes, make a folder train/ and move them into it"
    return "put the images into train/<class>/"


def _listed(root: Path) -> Listing:
    left_out = Counter[str]()
    classes = class_names(root / "train")
    for name in classes:
        _require_text(name, f"the class folder in {root / 'train'}")
    train = _part(root / "train", classes, left_out)
    _check(root / "train", classes, train)
    there = [name for name in VALIDATION if (root / name).is_dir()]
    if len(there) > 1:
        raise DataError(f"{root} has {there[0]}/ and {there[1]}/; keep one of them for validation")
    validation = _other_part(root / there[0], classes, left_out) if there else []
    test = _other_part(root / "test", classes, left_out)
    taken = {"train", "test", *there}
    others = tuple(name for name in class_names(root) if name not in taken)
    have = {"test": test, **({there[0]: validation} if there else {})}
    without = tuple(name for name in sorted(have) if not have[name] and (root / name).is_dir())
    return Listing(root, classes, train, validation, test, left_out, others, without)


def readable(path: str) -> str:
    """A path for a message or a page: bytes of it that are no UTF-8 become question marks."""
    return path.encode(errors="surrogateescape").decode(errors="replace")


def _require_text(name: str, what: str) -> None:
    """Raises DataError for a name that no page, document or database can hold."""
    if readable(name) != name:
        raise DataError(f"{what} named {readable(name)!r} has a name that is no UTF-8; rename it")


def alike_name(name: str) -> str:
    """The same for names that look alike: that differ in upper case, spaces around them, or the bytes of an
    accent."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold()).strip()


def class_names(part: Path) -> tuple[str, ...]:
    """The sub-folders of train/ or test/, sorted; hidden ones are left out. Raises OSError."""
    return tuple(sorted(entry.name for entry in os.scandir(part) if entry.is_dir() and entry.name[0] != "."))


def _other_part(part: Path, classes: tuple[str, ...], left_out: Counter[str]) -> list[Picture]:
    if not part.is_dir():
        return []
    unknown = sorted(set(class_names(part)) - set(classes))
    if unknown:
        alike = [name for name in classes if alike_name(name) == alike_name(unknown[0])]
        told = f" (its {alike[0]!a} is {unknown[0]!a} here)" if alike else ""
        raise DataError(
            f"{part / unknown[0]} is a class that train/ does not have{told}; rename it or take it away"
        )
    return _part(part, classes, left_out)


def _part(part: Path, classes: Sequence[str], left_out: Counter[str]) -> list[Picture]:
    """The pictures of the classes that the part has."""
    walk = _Walk(left_out)
    walk.enter(os.fspath(part))
    for entry in os.scandir(part):
        if not entry.is_dir():
            left_out["outside of class folders"] += 1
        elif entry.name[0] == ".":
            left_out["hidden"] += 1
    return [
        picture
        for label, name in enumerate(classes)
        if (part / name).is_dir()
        for picture in walk.pictures(os.fspath(part / name), label)
    ]


def _check(part: Path, classes: tuple[str, ...], train: list[Picture]) -> None:
    if not train:
        kinds = "png jpg jpeg jfif gif bmp webp tif"
        raise DataError(
            f"no images in {part}/<class>/; put files there that Pillow reads, with their ending: {kinds}..."
        )
    if len(classes) == 1:
        raise DataError(f"{part} has one class, {classes[0]!r}; at least two are needed")
    empty = set(range(len(classes))) - {picture.label for picture in train}
    if empty:
        folder = part / classes[min(empty)]
        raise DataError(
            f"the class folder {folder} has no images{_others_in(folder)}; fill it or take it away"
        )


def _others_in(folder: Path) -> str:
    """Which files of a folder are no pictures that are read, for a message; empty where it has none."""
    walk = _Walk(Counter())
    list(walk.pictures(os.fspath(folder), 0))
    if not walk.left_out:
        return ""
    kinds = ", ".join(f"{readable(kind)} {count}" for kind, count in walk.left_out.most_common(SHOWN))
    return f" that Pillow reads ({kinds})"


@dataclass
class _Walk:
    """A way through one part; `seen` has every folder on it by device and inode, with the path it had."""

    left_out: Counter[str]
    seen: dict[tuple[int, int], str] = field(default_factory=dict)

    def enter(self, folder: str) -> None:
        status = os.stat(folder)
        key = (status.st_dev, status.st_ino)
        if key in self.seen:
            raise DataError(
                f"{folder} and {self.seen[key]} are one folder, whose pictures would count twice;"
                " take one of the links away"
            )
        self.seen[key] = folder

    def pictures(self, folder: str, label: int) -> list[Picture]:
        found = sorted(self._paths(folder), key=_parts)
        return [_picture(path, label) for path in found]

    def _paths(self, folder: str) -> Iterator[str]:
        self.enter(folder)
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if entry.name[0] == ".":
                self.left_out["hidden"] += 1
            elif _is_folder(entry):
                yield from self._paths(entry.path)
            elif (suffix := os.path.splitext(entry.name)[1].lower()) in suffixes():
                yield entry.path
            else:
                self.left_out[suffix or "without an ending"] += 1


def _parts(path: str) -> list[str]:
    """What paths are sorted by: folder by folder, as pathlib does it."""
    return path.split(os.sep)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether a folder's entry is one; a link that leads to itself is taken for a file, which is damaged."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _picture(path: str, label: int) -> Picture:
    """The file; one that is not there, as a link may lead nowhere, is found damaged when it is opened."""
    try:
        status = os.stat(path)
    except OSError:
        return Picture(path, label, 0, 0)
    return Picture(path, label, status.st_size, status.st_mtime_ns)
