"""Images of your own, from tensors or a torch Dataset, as a data set that workers can open.

Workers are processes of their own, which load data by a name: so the images are written once, as bytes, into
the folder of data (DATA_DIR/tensors/KEY), and "tensors:KEY" names them everywhere that --data is taken.
trainer/data/tensor_files.py writes and reads them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from parsimony.study import folder_of
from space.errors import DataError
from trainer.data import images as image_files, tensor_files
from trainer.data.contents import Part

if TYPE_CHECKING:
    from torch import Tensor

Pair = Any  # (images, labels): tensors or arrays; or a map-style torch Dataset of (image, label)


@dataclass(frozen=True)
class Data:
    """Images of your own. Each part is (images, labels), or a Dataset whose items are (image, label).

    images: (N, channels, side, side), uint8 of 0..255, or floating-point of 0..1, which becomes bytes: one
    part in 255 is the finest difference that is kept. Not normalised: that is done here, from the training
    images.
    An image of a Dataset may be a tensor (channels, side, side) or a PIL picture, square and all of one size;
    a picture is laid on white where it is transparent, and grey levels of 16 bits are divided by 256, as
    `search predict` does both.
    labels: (N,) integers from 0. classes: their names; numbers without them. name: of the data set.

    validation: yours, else a part of the training images is split off (docs/python.md). test: sealed; a
    search reads it in finals alone.
    """

    train: Pair
    validation: Pair | None = None
    test: Pair | None = None
    classes: Sequence[str] = ()
    name: str = "tensors"

    def store(self, data_dir: str | Path | None = None) -> str:
        """Writes the images, unless they are there, and returns their name for --data: "tensors:KEY".

        Raises DataError for images or labels that cannot be, or a disk that cannot take them.
        """
        parts = {
            name: _part(given, name)
            for name, given in (("train", self.train), ("validation", self.validation), ("test", self.test))
            if given is not None
        }
        return tensor_files.store(folder_of(data_dir), self.name, parts, tuple(map(str, self.classes)))


def of(given: Any) -> "str | Data":
    """What search() was given as data: a name, Data, (images, labels), or a Dataset."""
    return given if isinstance(given, (str, Data)) else Data(given)


def _part(given: Pair, name: str) -> Part:
    """Bytes (N, side, side, channels) and labels (N,). Raises DataError."""
    if isinstance(given, (tuple, list)) and len(given) == 2:
        try:
            images, labels = _array(given[0]), _array(given[1])
        except (ValueError, TypeError) as error:
            raise DataError(f"{name}: images and labels must be tensors or arrays: {error}") from None
    elif hasattr(given, "__getitem__") and hasattr(given, "__len__"):
        pairs = [given[i] for i in range(len(given))]
        if not pairs:
            raise DataError(f"{name}: the Dataset is empty")
        try:
            images = np.stack([_image(pair[0]) for pair in pairs])
            labels = np.array([int(pair[1]) for pair in pairs])
        except (ValueError, TypeError, LookupError) as error:
            raise DataError(f"{name}: items must be (image, label), images of one size: {error}") from None
    else:
        raise DataError(
            f"{name}: give (images, labels) or a Dataset with a length, not {type(given).__name__}"
        )
    return Part(_bytes(images, name), _labels(labels, len(images), name))


def _array(given: "Tensor | NDArray[Any] | Sequence[Any]") -> NDArray[Any]:
    """Of any shape. Raises ValueError or TypeError for what is no array."""
    if hasattr(given, "detach"):
        held = given.detach().cpu()
        given = held.float() if "bfloat16" in str(held.dtype) else held  # a type that numpy does not have
    return np.asarray(given)


def _image(given: Any) -> NDArray[Any]:
    """(channels, side, side) of a tensor, an array of that shape, or a PIL picture."""
    if hasattr(given, "convert"):  # PIL's
        given = image_files.on_ground(image_files.shallow(given, image_files.DEEPEST))
        pixels = np.asarray(given if given.mode in ("L", "RGB") else given.convert("RGB"))
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return _array(given)


def _bytes(images: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """(N, C, S, S) of bytes or of 0..1 to (N, S, S, C) uint8."""
    if images.ndim != 4 or images.shape[2] != images.shape[3] or 0 in images.shape:
        raise DataError(
            f"{name}: images have the shape {images.shape}; give (N, channels, side, side), square ones"
        )
    if np.issubdtype(images.dtype, np.floating):
        low, high = float(images.min()), float(images.max())
        if not (low >= 0 and high <= 1):
            raise DataError(
                f"{name}: floating-point images go from {low:g} to {high:g}; give 0..1, not normalised,"
                " or uint8"
            )
        images = np.rint(images * 255).astype(np.uint8)
    if images.dtype != np.uint8:
        raise DataError(f"{name}: images are {images.dtype}; give uint8 of 0..255, or floating-point of 0..1")
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1))


def _labels(labels: NDArray[Any], images: int, name: str) -> NDArray[np.int64]:
    if labels.shape != (images,) or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"{name}: labels are {labels.dtype} of the shape {labels.shape}; give {images} integers, one for"
            " each image"
        )
    if labels.min() < 0:
        raise DataError(f"{name}: labels begin at {labels.min()}; give 0 and up")
    return labels.astype(np.int64)
