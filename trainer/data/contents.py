"""A data set that can be read, and one in memory: between the code that reads files and the cache.

Made by trainer/data/sources.py, trainer/data/picture_folder.py and trainer/data/torchvision_files.py, written
to the cache by trainer/data/dataset.py. Knows no files.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from trainer.data.images import Scaling
from trainer.data.known_pictures import Known, KnownPictures
from trainer.data.survey import Survey


@dataclass(frozen=True)
class Part:
    """Images (N, H, W, C) uint8 and labels (N,) int64, which are positions in the class names."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Contents:
    """A whole data set; test is None where a folder has no test/, validation where it has no val/.

    groups, (N,) int64 over training and validation images, has the same number for images that are copies of
    each other; None where there are none. survey is what a folder was found to hold.
    """

    classes: tuple[str, ...]
    train: Part
    test: Part | None
    validation: Part | None = None
    groups: NDArray[np.int64] | None = None
    scaling: Scaling = field(default_factory=Scaling)
    survey: Survey | None = None
    known: Known | None = None  # of a folder's pictures, for its next reading


@dataclass(frozen=True)
class Source:
    """A data set that can be read: spec is canonical, key names its state, read() does the slow work.

    read() is told what an earlier reading of the same spec knows. keys() has, of what was read, the keys of
    all ways to ask that give the same; the first is that of the cache. None: there is one way.
    """

    spec: str
    name: str
    key: str
    read: Callable[[KnownPictures], Contents]
    keys: Callable[[Contents], tuple[str, ...]] | None = None
