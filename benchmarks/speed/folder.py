"""Measures how long a folder of many pictures takes from the command to the first batch. Linux only.

    python -m benchmarks.speed.folder [--data fashion-mnist] [--data-dir DIR] [--folder DIR]

Writes the data set as a folder of PNG files, train/CLASS/ and test/CLASS/, where it is not there yet; then
launches three searches in a data folder of their own: the first reads all pictures, the second finds what the
first has kept, the third has --new pictures more. Each ends once the first epoch of 256 images is stored.
Seconds by the clock, those of processors, and the most memory that the launcher and all its processes had
together at a time (PSS: what is shared counts once), looked at five times a second.
"""

import argparse
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.speed import start

SMALL = ("--train-images", "256", "--epochs", "1", "--max-macs", "2M", "--gpus", "none", "--no-baselines")
WAIT_SECONDS = 1800
SECONDS_BETWEEN_LOOKS = 0.2
HEAD = f"{'':28}{'clock':>10}{'processors':>12}{'memory':>11}"


def write(
    spec: str, data_dir: Path, folder: Path, image_size: int | None = None, limit: int | None = None
) -> int:
    """The data set as PNG files, unless the folder is there. Returns how many files it has.

    image_size is the side in pixels to scale to, limit how many training images (as many of each class as
    the data set's shares say); all, as they are, where None.
    """
    from trainer.data import dataset as datasets

    found = datasets.load(spec, data_dir, image_size)
    chosen = slice(None) if limit is None else datasets.split(found, 0, limit=limit).train
    parts = {"train": (found.images[chosen], found.labels[chosen]), "test": found.open_test()}
    if not folder.is_dir():
        new = folder.with_name(f"{folder.name}.new")
        for part, (images, labels) in parts.items():
            _write_part(new / part, images, labels)
        new.rename(folder)
    return sum(len(labels) for _, labels in parts.values())


def _write_part(part: Path, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
    """Images (N, H, W, 1 or 3) uint8 and labels (N,) int64 into a folder for each class."""
    for label in set(labels.tolist()):
        (part / f"{label}").mkdir(parents=True)
    for i, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        Image.fromarray(image.squeeze()).save(part / f"{label}" / f"{i:05}.png", compress_level=1)


def add_pictures(folder: Path, count: int) -> list[Path]:
    """So many pictures more in the first class: noise, of the size of the others."""
    some = next((folder / "train" / "0").glob("*.png"))
    with Image.open(some) as image:
        shape = np.asarray(image).shape
    dice, added = np.random.default_rng(0), list[Path]()
    for i in range(count):
        added.append(folder / "train" / "0" / f"new{i}.png")
        Image.fromarray(dice.integers(0, 256, shape, np.uint8)).save(added[-1])
    return added


def one_launch(folder: Path, data_dir: Path) -> str:
    """A launch up to its first epoch, as a row of the table."""
    given = argparse.Namespace(data=f"folder:{folder}", data_dir=data_dir)
    spent, began, most = _children_seconds(), time.perf_counter(), 0.0
    with tempfile.TemporaryDirectory() as here:
        process = start.launch(here, given, *SMALL)
        try:
            while not start.rows_of(here, "search_epochs"):
                if process.poll() is not None or time.perf_counter() - began > WAIT_SECONDS:
                    raise RuntimeError("the search ended, or hangs, before its first epoch")
                most = max(most, _memory(process.pid))
                time.sleep(SECONDS_BETWEEN_LOOKS)
            seconds = time.perf_counter() - began
        finally:
            start.end(process)
    return f"{seconds:>8.1f} s{_children_seconds() - spent:>10.1f} s{most:>7,.0f} MiB"


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _memory(pid: int) -> float:
    """PSS of a process and all below it, in MiB."""
    try:
        rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        rows = []
    own = sum(int(row.split()[1]) for row in rows if row.startswith("Pss:")) / 1024
    return own + sum(map(_memory, start.children(pid)))


def table(folder: Path, files: int, new: int, data_dir: Path) -> str:
    """All three launches; the new pictures are taken away again."""
    rows: Sequence[tuple[str, int]] = (
        (f"first time, {files:,} pictures", 0), ("second time", 0), (f"{new:,} pictures more", new),
    )  # fmt: skip
    lines, added = [HEAD], list[Path]()
    try:
        for name, count in rows:
            added += add_pictures(folder, count)
            lines.append(f"{name:28}{one_launch(folder, data_dir)}")
    finally:
        for path in added:
            path.unlink()
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--data-dir", type=Path, default=Path.home() / ".cache/parsimony")
    parser.add_argument("--folder", type=Path, help="[default: DATA_DIR/png/DATA]")
    parser.add_argument("--new", type=int, default=100, help="pictures that are added for the third launch")
    given = parser.parse_args()
    folder = (given.folder or given.data_dir / "png" / given.data).resolve()
    files = write(given.data, given.data_dir, folder)
    fresh = Path(tempfile.mkdtemp(prefix="folder-benchmark-"))
    try:
        print(table(folder, files, given.new, fresh))
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
