"""Whether all images of a data set fill their frame in one way, as scans and things on a plain ground do.

Computes from images; reads and writes nothing. Called by search/study/config.py, whose document keeps the
answer for trainer/recipe/defaults.py: a shift makes images of such a data set into others than it has, and
photographs into more of the same. docs/recipe.md has the figures. Free of torch.
"""

import numpy as np
from numpy.typing import NDArray

ALIGNED = 0.2  # share of the variance of pixels that the mean image of aligned ones explains
LOOKED_AT, SIDE = 2_000, 32  # images, and pixels of a side


def is_aligned(images: NDArray[np.uint8]) -> bool:
    """Of images (N, H, W, C), by some at random, always the same: every tenth may be of one class. Of large
    ones by some pixels."""
    step = max(1, images.shape[1] // SIDE)
    some = images[:, ::step, ::step]
    if len(images) > LOOKED_AT:
        drawn = np.random.default_rng(0).choice(len(images), LOOKED_AT, replace=False)
        some = some[np.sort(drawn)]
    return mean_share(some) >= ALIGNED


def mean_share(images: NDArray[np.uint8]) -> float:
    """The share of the variance of pixels, all channels together, that the mean of images (N, H, W, C)
    explains, 0 to 1, without what the mean of so few would explain by chance."""
    if len(images) < 2:
        return 0.0
    pixels = images.astype(np.float32)
    mean = pixels.mean(0, dtype=np.float64)
    ground = mean.mean((0, 1))
    whole = float(np.mean((pixels - ground.astype(np.float32)) ** 2, dtype=np.float64))
    if whole == 0:
        return 0.0
    explained = float(((mean - ground) ** 2).mean())
    return max(0.0, (explained - (whole - explained) / (len(images) - 1)) / whole)
