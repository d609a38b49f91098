"""Folders of pictures for the tests, each of whose pictures is unlike the others."""

from pathlib import Path

import numpy as np
from PIL import Image


def noise(path: Path, seed: int, width: int = 12, height: int = 12, colour: bool = True) -> Path:
    """A picture that no other seed makes."""
    shape = (height, width, 3) if colour else (height, width)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8)).save(path)
    return path


def folder_of(root: Path, train: int = 10, test: int = 3, classes: tuple[str, ...] = ("cat", "dog")) -> Path:
    """train/ and test/ with so many pictures of each class, 12x12, all different."""
    seed = 0
    for part, count in (("train", train), ("test", test)):
        for name in classes:
            for i in range(count):
                seed += 1
                noise(root / part / name / f"{i:02}.png", seed)
    return root
