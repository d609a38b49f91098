"""Pictures for benchmarks where no data set can be downloaded: made up, or from a file of arrays.

Writes a folder of PNG files, train/CLASS/, once. Called by benchmarks/speed/gpu.py. What is made up can
be learned: each class is a pattern of its own, under noise, so that accuracies differ and trials are pruned.
"""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CLASSES, SIDE = 10, 32
PATTERN, NOISE = 24.0, 40.0  # grey levels: deviation of a class's pattern, and of the noise over it


def made_up(count: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images (count, 32, 32, 3) uint8 and labels (count,) int64, ten classes in turn.

    A pattern is of 8 x 8 patches, mirrored at random and shifted by up to 4 pixels around the edge.
    """
    dice = np.random.default_rng(seed)
    patches = dice.normal(0, PATTERN, (CLASSES, SIDE // 4, SIDE // 4, 3))
    patterns = patches.repeat(4, axis=1).repeat(4, axis=2).astype(np.float32)
    labels = np.arange(count, dtype=np.int64) % CLASSES
    images = np.empty((count, SIDE, SIDE, 3), np.uint8)
    for i, label in enumerate(labels):
        pattern = np.roll(patterns[label], dice.integers(-4, 5, 2), axis=(0, 1))
        pattern = pattern[:, ::-1] if dice.random() < 0.5 else pattern
        noise = dice.standard_normal((SIDE, SIDE, 3), np.float32) * NOISE
        images[i] = np.clip(128 + pattern + noise, 0, 255)
    return images, labels


def folder_of(spec: str, folder: Path, count: int) -> str:
    """`folder:PATH` of so many made-up pictures (`noise`), or of those of a .npz file; written if need be.

    Raises OSError and KeyError for a file that is none, or without `images` or `labels`.
    """
    if spec == "noise":
        return f"folder:{_written(folder / f'noise-{count}', lambda: made_up(count))}"
    path = Path(spec).expanduser().resolve()

    def read() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        with np.load(path) as arrays:
            return arrays["images"], arrays["labels"]

    return f"folder:{_written(folder / f'images-{path.stem}-{path.stat().st_size}', read)}"


Pictures = tuple[NDArray[np.uint8], NDArray[np.int64]]


def _written(folder: Path, make: Callable[[], Pictures]) -> Path:
    """The folder, whole: it has its name only once all of it is there."""
    if folder.exists():
        return folder
    new = folder.with_name(folder.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    images, labels = make()
    for label in np.unique(labels):
        (new / "train" / f"class{label}").mkdir(parents=True)

    def write(i: int) -> None:
        pixels = images[i][..., 0] if images.shape[3] == 1 else images[i]
        Image.fromarray(pixels).save(new / "train" / f"class{labels[i]}" / f"{i:06}.png", compress_level=1)

    with ThreadPoolExecutor() as pool:
        list(pool.map(write, range(len(labels))))
    new.replace(folder)
    return folder
