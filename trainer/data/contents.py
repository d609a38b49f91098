"""A data set in memory, between the code that reads its files and the cache that keeps it.

Made by trainer/data/sources.py and trainer/data/torchvision_files.py, written to the cache by
trainer/data/dataset.py. Knows no files.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Part:
    """Images (N, H, W, C) uint8 and labels (N,) int64, which are positions in the class names."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Contents:
    """A whole data set; test is None where a folder has no test/."""

    classes: tuple[str, ...]
    train: Part
    test: Part | None
