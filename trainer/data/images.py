"""Image files: lists those of a folder, opens them, makes squares of them, as arrays of 8-bit grey or colour.

Writes nothing. Called by trainer/data/sources.py, and by `search predict`. Knows neither caches nor splits
nor torch.
"""

import os
import struct
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from space.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
LARGEST_DEFAULT = 64
QUARTER_TURNS = range(5, 9)  # EXIF orientations whose width is the height of what is stored


@dataclass(frozen=True)
class Picture:
    """One image file: where it is, and its class by position in the sorted class names."""

    path: str
    label: int
    size: int
    modified_ns: int


def class_names(part: Path) -> tuple[str, ...]:
    """The sub-folders of train/ or test/, sorted; hidden ones are left out. Raises OSError."""
    return tuple(sorted(entry.name for entry in os.scandir(part) if entry.is_dir() and entry.name[0] != "."))


def listed(part: Path, classes: Sequence[str]) -> list[Picture]:
    """Every image file below part/<class>/, in the order of the classes and then of the paths.

    Raises OSError for a folder that cannot be listed, DataError for a file that is gone meanwhile.
    """
    return [picture for label, name in enumerate(classes) for picture in _of_class(part / name, label)]


def _of_class(folder: Path, label: int) -> list[Picture]:
    found = []
    for directory, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        folders[:] = [name for name in folders if name[0] != "."]
        images = (name for name in names if name[0] != "." and os.path.splitext(name)[1].lower() in SUFFIXES)
        found += [os.path.join(directory, name) for name in images]
    return [_picture(path, label) for path in sorted(found, key=_parts)]


def _parts(path: str) -> list[str]:
    """What paths are sorted by: folder by folder, as pathlib does it."""
    return path.split(os.sep)


def _picture(path: str, label: int) -> Picture:
    try:
        status = os.stat(path)
    except OSError as error:
        raise unreadable(path, error) from error
    return Picture(path, label, status.st_size, status.st_mtime_ns)


def _refuse(error: OSError) -> None:
    raise error


def unreadable(path: str, error: Exception) -> DataError:
    """The one line that names a file that is no image."""
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        error = ValueError("its content is of no known image format")
    reason = str(getattr(error, "strerror", None) or error).partition("\n")[0] or type(error).__name__
    return DataError(f"cannot read the image {path}: {reason}; replace it or take it away")


def common_size(pictures: Sequence[Picture]) -> int:
    """The commonest shorter side in pixels, at most 64 (the smaller one of equals).

    Raises DataError for a file that is no image.
    """
    sides: Counter[int] = Counter()
    for picture in pictures:
        try:
            with opened(picture.path) as image:
                sides[min(upright_size(image))] += 1
        except _broken() as error:
            raise unreadable(picture.path, error) from error
    commonest = max(sides, key=lambda side: (sides[side], -side))
    return min(commonest, LARGEST_DEFAULT)


def decoded(pictures: Sequence[Picture], size: int, mode: str) -> NDArray[np.uint8]:
    """The pictures, upright, as (N, size, size, 3 or 1) uint8 for mode "RGB" or "L".

    The shorter side is scaled, the centre cut out. Raises DataError for a file that is no image.
    """
    images = np.empty((len(pictures), size, size, 3 if mode == "RGB" else 1), np.uint8)
    for row, picture in zip(images, pictures, strict=True):
        try:
            with opened(picture.path) as image:
                # A JPEG decoder can shrink while it decodes, which saves most of the time on photographs.
                image.draft(mode, (size, size))
                row[...] = np.asarray(fitted(upright(image), size, mode)).reshape(row.shape)
        except _broken() as error:
            raise unreadable(picture.path, error) from error
    return images


@contextmanager
def opened(path: str) -> "Iterator[Image.Image]":
    """A picture as Pillow opens it, not decoded yet; what Pillow only warns of (damaged EXIF) is not said."""
    from PIL import Image

    with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
        yield image


def upright_size(image: "Image.Image") -> tuple[int, int]:
    """Width and height of an opened image once it is turned as its EXIF says, without decoding it."""
    turned = image.format != "TIFF" and _orientation(image) in QUARTER_TURNS  # Pillow turns TIFF itself
    return image.size[::-1] if turned else image.size


def upright(image: "Image.Image") -> "Image.Image":
    """The image turned and mirrored as its EXIF orientation (tag 0x0112) says, as viewers show it."""
    from PIL import ImageOps

    image.load()
    if _orientation(image) in range(2, 9):
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _orientation(image: "Image.Image") -> int:
    """EXIF's 1 to 8; 1, upright, where there is none or none that can be read."""
    from PIL import ExifTags

    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except (TypeError, KeyError):
        return 1
    except _broken():
        return 1


def fitted(image: "Image.Image", size: int, mode: str) -> "Image.Image":
    """One image of any size and mode as a square of 8-bit grey ("L") or colour ("RGB")."""
    from PIL import Image, ImageOps

    if image.mode.startswith("I"):  # 16-bit grey: Pillow would clip at 255 and not scale
        image = Image.fromarray((np.asarray(image).astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8))
    if "transparency" in image.info:
        image = image.convert("RGBA")
    image = image.convert(mode)
    if image.size == (size, size):
        return image
    return ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)


def resized(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """(N, H, W, C) uint8 brought to (N, size, size, C) uint8, C 1 or 3; itself where that is its size."""
    from PIL import Image

    if images.shape[1:3] == (size, size):
        return images
    mode = "L" if images.shape[3] == 1 else "RGB"
    squares = [fitted(Image.fromarray(x[..., 0] if mode == "L" else x), size, mode) for x in images]
    return np.stack([np.asarray(square) for square in squares]).reshape(len(images), size, size, -1)


def grey(images: NDArray[np.uint8]) -> bool:
    """Whether the three channels of (N, H, W, 3) uint8 are equal everywhere."""
    return all(bool((x == x[..., :1]).all()) for x in images)


def _broken() -> tuple[type[Exception], ...]:
    """What Pillow raises for files that are cut off, empty, mislabelled or absurdly large."""
    from PIL import Image

    return (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
