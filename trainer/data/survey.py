"""What is in a folder of pictures: sizes, modes, copies, damage; looked at once, and kept with the cache.

Reads every picture's bytes, decodes none that has 8 bits. `look` is called by trainer/data/picture_folder.py
before pictures are scaled; the Survey that comes of it is written to the cache by trainer/data/dataset.py and
said in words by trainer/data/survey_text.py. Knows no split and no torch.
"""

import hashlib
import io
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median_low
from typing import Any, Self

from trainer.data import images as image_files
from trainer.data.folder_listing import readable
from trainer.data.images import DEEPEST, Fit, Picture
from trainer.data.process_pool import over_parts

SIDES = (8, 12, 16, 24, 32, 48, 64, 96, 128)  # what pictures of mixed sizes are scaled to, unless it is said
MODEST_SIDE = 64  # and no more than that where larger ones would take more than so many bytes
MODEST_BYTES = 1 << 30
NAMED = 10  # files that a message names


@dataclass(frozen=True)
class Look:
    """One picture, not scaled yet: upright width and height, mode, and a digest of the file's bytes.

    bits is what its grey levels need, None where they have 8; damage says why it cannot be read.
    """

    width: int = 0
    height: int = 0
    mode: str = ""
    transparent: bool = False
    bits: int | None = None
    digest: bytes = b""
    damage: str | None = None


@dataclass(frozen=True)
class Survey:
    """What a folder holds, as JSON values. Paths are relative to it.

    copies: training pictures that are, byte for byte, an earlier one; across_classes: pairs of them that are
    in two classes; seen_before: pictures of the validation and test parts that are training pictures too,
    and under "test in validation" test pictures that are validation pictures of val/.
    """

    counts: Mapping[str, Mapping[str, int]]  # pictures by part and class
    smallest: tuple[int, int]  # the least width and height of a training picture
    largest: tuple[int, int]
    modes: Mapping[str, int]
    transparent: int
    deep: int
    bits: int
    side: int
    fit: Fit
    copies: int = 0
    across_classes: tuple[tuple[str, str], ...] = ()
    seen_before: Mapping[str, int] | None = None
    damaged: tuple[tuple[str, str], ...] = ()  # of those that were skipped: path and reason
    left_out: Mapping[str, int] | None = None
    folders: tuple[str, ...] = ()
    without: tuple[str, ...] = ()  # of val/ and test/ those that have no pictures in class folders

    def document(self) -> dict[str, Any]:
        """The survey as JSON values."""
        return asdict(self)

    @classmethod
    def from_document(cls, found: Mapping[str, Any]) -> Self:
        """The survey from JSON values. Raises TypeError for those of another version."""
        pairs = {name: tuple(tuple(pair) for pair in found[name]) for name in ("across_classes", "damaged")}
        sides = {name: tuple(found[name]) for name in ("smallest", "largest", "folders")}
        without = tuple(found.get("without", ()))  # not in a cache of before
        return cls(**{**found, **pairs, **sides, "without": without})


def look(pictures: Sequence[Picture]) -> list[Look]:
    """A look at each picture, on all cores where there are many."""
    paths = [picture.path for picture in pictures]
    return [one for part in over_parts(_look_at, paths, "looking at pictures") for one in part]


def _look_at(paths: Sequence[str]) -> list[Look]:
    return [_look_at_one(path) for path in paths]


def _look_at_one(path: str) -> Look:
    try:
        content = Path(path).read_bytes()
        with image_files.opened(io.BytesIO(content)) as image:
            # First the depth: finding the EXIF of a PNG decodes it, and loses how many bits it had.
            bits = image_files.depth(image)
            width, height = image_files.upright_size(image)
            return Look(
                width,
                height,
                image.mode,
                image_files.transparent(image),
                bits,
                hashlib.blake2b(content, digest_size=16).digest(),
            )
    except image_files.broken() as error:
        return Look(damage=image_files.reason(error))


def usual_side(looks: Sequence[Look]) -> int:
    """Pixels a side to scale to where nobody said it: of squares of one size, that; else the median of the
    shorter sides, rounded to the nearest of SIDES."""
    largest = SIDES[-1]
    if len(looks) * 3 * largest**2 > MODEST_BYTES:
        largest = MODEST_SIDE
    sizes = {(one.width, one.height) for one in looks}
    if len(sizes) == 1 and (width := next(iter(sizes))[0]) == next(iter(sizes))[1] and 4 <= width <= largest:
        return width
    middle = median_low(min(one.width, one.height) for one in looks)
    return min((side for side in SIDES if side <= largest), key=lambda side: (abs(side - middle), side))


def depth_of(looks: Sequence[Look]) -> int:
    """Bits of the largest grey level among pictures of more than 8, at least 8: one number for all."""
    deep = [one.bits for one in looks if one.bits is not None]
    return max(8, *deep) if deep else DEEPEST


def groups(looks: Sequence[Look]) -> list[int] | None:
    """For each picture the row of the first that has the same bytes; None where no two have."""
    first = dict[bytes, int]()
    found = [first.setdefault(one.digest, row) for row, one in enumerate(looks)]
    return found if len(first) < len(looks) else None


def across_classes(
    pictures: Sequence[Picture], looks: Sequence[Look], root: Path
) -> tuple[tuple[str, str], ...]:
    """Each picture that has the bytes of an earlier one of another class, beside that one."""
    same = groups(looks) or []
    return tuple(
        (relative(pictures[first].path, root), relative(pictures[row].path, root))
        for row, first in enumerate(same)
        if pictures[row].label != pictures[first].label
    )


def seen_before(looks: Sequence[Look], training: Sequence[Look]) -> int:
    """How many have the bytes of a training picture."""
    known = {one.digest for one in training}
    return sum(one.digest in known for one in looks)


def relative(path: str, root: Path) -> str:
    """A picture's path below its folder, for messages."""
    return readable(os.path.relpath(path, root))


def class_counts(pictures: Sequence[Picture], classes: Sequence[str]) -> dict[str, int]:
    """Pictures of each class."""
    counts = Counter(picture.label for picture in pictures)
    return {name: counts[label] for label, name in enumerate(classes)}
