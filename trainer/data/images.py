"""One image file at a time: opened, turned upright, laid on white, brought to 8 bits and to a square.

Reads files, writes none. Called by trainer/data/picture_folder.py through trainer/data/survey.py for whole
folders, by trainer/data/sources.py for arrays, and by `search predict`. Knows neither folders nor caches nor
torch.
"""

import re
import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from space.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

Fit = Literal["pad", "crop", "stretch"]
FITS: tuple[Fit, ...] = get_args(Fit)
FITTED: dict[Fit, str] = {"pad": "padded", "crop": "cut", "stretch": "stretched"}  # for messages
QUARTER_TURNS = range(5, 9)  # EXIF orientations whose width is the height of what is stored
TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}  # EXIF orientations, and what of PIL.Image.Transpose turns them upright
GROUND = "white"  # what a transparent picture is laid on
DARKEST = 32  # of 256: the brightest level below which colours of 16 bits are taken for others of fewer bits
GREY_BYTES = 1 << 20  # of images that are looked at together
DEEPEST = 16  # bits of a grey level, unless the training pictures say otherwise


@dataclass(frozen=True)
class Scaling:
    """How pictures of a data set become squares of bytes; kept with the weights, for `search predict`.

    fit: pad keeps the whole picture and repeats its outermost pixels, crop cuts the ends of the longer side
    off, stretch bends it. bits: grey levels of more than 8 bits are divided by 2 ** (bits - 8), one number
    for the whole data set.
    """

    fit: Fit = "crop"  # what was done before there was a choice
    bits: int = DEEPEST


AS_BEFORE = Scaling()


@dataclass(frozen=True)
class Picture:
    """One image file: where it is, and its class by position in the sorted class names."""

    path: str
    label: int
    size: int
    modified_ns: int


def reason(error: Exception) -> str:
    """Why a file is no image, on one line."""
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        error = ValueError("its content is of no known image format")
    return str(getattr(error, "strerror", None) or error).partition("\n")[0] or type(error).__name__


def unreadable(path: str, why: str) -> DataError:
    """The one line that names a file that is no image."""
    return DataError(f"cannot read the image {path}: {why}; replace it or take it away")


def decoded(
    pictures: Sequence[Picture], size: int, mode: str, scaling: Scaling = AS_BEFORE
) -> NDArray[np.uint8]:
    """The pictures, upright, as (N, size, size, 3 or 1) uint8 for mode "RGB" or "L".

    Raises DataError for the first file that is no image.
    """
    images, failures = decode_part([picture.path for picture in pictures], size, mode, scaling)
    for row, why in failures.items():
        raise unreadable(pictures[row].path, why)
    return images


def decode_part(
    paths: Sequence[str], size: int, mode: str, scaling: Scaling
) -> tuple[NDArray[np.uint8], dict[int, str]]:
    """The pictures as (N, size, size, 3 or 1) uint8, and why some could not be read, by their row."""
    images = np.zeros((len(paths), size, size, 3 if mode == "RGB" else 1), np.uint8)
    failures = dict[int, str]()
    for row, path in enumerate(paths):
        try:
            with opened(path) as image:
                # A JPEG decoder can shrink while it decodes, which saves most of the time on photographs.
                image.draft(mode, (size, size))
                images[row] = np.asarray(fitted(upright(image), size, mode, scaling)).reshape(
                    images[row].shape
                )
        except broken() as error:
            failures[row] = reason(error)
    return images, failures


@contextmanager
def opened(path: str | BinaryIO) -> "Iterator[Image.Image]":
    """A picture as Pillow opens it, not decoded yet; what Pillow only warns of (damaged EXIF) is not said."""
    from PIL import Image

    with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
        yield image


def upright_size(image: "Image.Image") -> tuple[int, int]:
    """Width and height of an opened image once it is turned as its EXIF says, without decoding it."""
    turned = image.format != "TIFF" and _orientation(image) in QUARTER_TURNS  # Pillow turns TIFF itself
    return image.size[::-1] if turned else image.size


def upright(image: "Image.Image") -> "Image.Image":
    """The image turned and mirrored as its EXIF orientation (tag 0x0112) says, as viewers show it.

    Its pixels alone: ImageOps.exif_transpose() writes the EXIF anew too, which fails for many a damaged one.
    """
    from PIL.Image import Transpose

    image.load()
    turn = TURNS.get(_orientation(image))
    return image if turn is None else image.transpose(Transpose[turn])


def _orientation(image: "Image.Image") -> int:
    """EXIF's 1 to 8; 1, upright, where there is none or none that can be read."""
    from PIL import ExifTags

    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except broken():
        return 1


def fitted(image: "Image.Image", size: int, mode: str, scaling: Scaling = AS_BEFORE) -> "Image.Image":
    """One image of any size and mode as a square of 8-bit grey ("L") or colour ("RGB").

    Raises ValueError for pixels that are floating-point or negative numbers.
    """
    image = on_ground(shallow(image, scaling.bits)).convert(mode)
    return image if image.size == (size, size) else _squared(image, size, scaling.fit)


def depth(image: "Image.Image") -> int | None:
    """Bits that the largest grey level of a picture needs; None for pictures of 8 bits. Decodes deep ones.

    Raises ValueError for levels that cannot be scaled: floating-point numbers, negative ones, and colours, or
    grey levels with transparency, of 16 bits that use so few of them that Pillow, which keeps the upper 8,
    makes them black.
    """
    if image.mode.startswith(("I", "F")):
        return int(_levels(image).max()).bit_length()
    deep = any(re.search(r";16[BLN]", str(tile[3])) for tile in getattr(image, "tile", ()))
    if deep and np.asarray(on_ground(image)).max() < DARKEST:  # opacity uses all of its 16 bits
        raise ValueError("its colours of 16 bits are all but black; save it with 8 bits a colour")
    return None


def shallow(image: "Image.Image", bits: int) -> "Image.Image":
    """Grey levels of more than 8 bits as 8 bits, clipped where they need more than `bits`; else the image.

    Raises ValueError for floating-point and negative levels.
    """
    from PIL import Image

    if not image.mode.startswith(("I", "F")):
        return image
    levels = _levels(image) >> max(0, bits - 8)
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8))


def _levels(image: "Image.Image") -> NDArray[np.int64]:
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers; save it with 8 or 16 bits a pixel")
    levels: NDArray[np.int64] = np.asarray(image).astype(np.int64)
    if levels.size and levels.min() < 0:
        raise ValueError("it has negative pixels; save it with 8 or 16 bits a pixel")
    return levels


def transparent(image: "Image.Image") -> bool:
    """Whether a picture may let the ground through: RGBA, LA, or a palette or colour that is transparent."""
    return image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info


def on_ground(image: "Image.Image") -> "Image.Image":
    """A transparent picture laid on white, so that what nobody sees is not trained; others as they are."""
    from PIL import Image

    if not transparent(image):
        return image
    image = image.convert("LA") if image.mode == "La" else image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, GROUND), image).convert("RGB")


def _squared(image: "Image.Image", size: int, fit: Fit) -> "Image.Image":
    from PIL import Image, ImageOps

    if fit == "crop":
        return ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    if fit == "stretch":
        return image.resize((size, size), Image.Resampling.BICUBIC)
    longest = max(image.size)
    width, height = (max(1, round(side * size / longest)) for side in image.size)
    inside = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
    beside = [((size - side) // 2, size - side - (size - side) // 2) for side in (height, width)]
    return Image.fromarray(np.pad(inside, [*beside, (0, 0)][: inside.ndim], mode="edge"))


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
    together = max(1, GREY_BYTES // max(1, images[:1].nbytes))  # one at a time is slow where they are small
    parts = (images[i : i + together] for i in range(0, len(images), together))
    return all(bool((x == x[..., :1]).all()) for x in parts)


def broken() -> tuple[type[Exception], ...]:
    """What Pillow raises for files that are cut off, empty, mislabelled, absurdly large, or whose tags hold
    values of another type than theirs: to be caught around the reading of one file, and of nothing else."""
    from PIL import Image

    mislabelled = (SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, struct.error)
    return (OSError, EOFError, Image.DecompressionBombError, *mislabelled)
