"""From which share of the mean image on a shift harms: data sets that are aligned ever less, made from one.

    python -m benchmarks.alignment --rows build/alignment.jsonl [--jitter 0,1,2,3,4] [--data fashion-mnist]
        [--seeds 2] [--train-images 6000] [--image-size 14] [--epochs 16] [--blocks 2,2,2]
        [--max-params 100000] [--max-macs 2000000]

Each image is moved once and for all, by up to so many pixels each way at random (its outermost pixels
repeated), training and validation images alike; one network then is trained by the brief recipe with and
without a shift of an eighth of the side, on one thread. Accuracies are of 3,000 validation images after the
last epoch; test images are not read. Rows are appended as they finish, and a second call goes on where the
first one ended. Prints the share of the variance of pixels that the mean image explains
(trainer/data/alignment.py) and what the shift gained, of each jitter.
"""

import argparse
import json
import os
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded

from benchmarks.prior import SEED, VALIDATION_IMAGES, ground, read
from benchmarks.recipes import measured
from benchmarks.variants import conditions, network


def jittered(images: Any, pixels: int) -> Any:
    """Images (N, H, W, C) uint8, each moved by up to so many pixels, always alike."""
    import numpy as np

    side = images.shape[1]
    padded = np.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)), mode="edge")
    moves = np.random.default_rng(SEED).integers(0, 2 * pixels + 1, (len(images), 2))
    return np.stack(
        [
            one[down : down + side, right : right + side]
            for one, (down, right) in zip(padded, moves, strict=True)
        ]
    )


def run(given: argparse.Namespace) -> None:
    """Trains what has no row yet."""
    import torch

    from trainer.data import alignment
    from trainer.recipe.defaults import SHIFT, brief_recipe

    torch.set_num_threads(1)
    dataset, split, task, budget = ground(given, VALIDATION_IMAGES)
    made = network(task, budget, given.blocks, {})
    brief = brief_recipe(given.data, given.train_images, given.epochs, dataset.image_size)
    given.rows.parent.mkdir(parents=True, exist_ok=True)
    for seed, jitter, shift in product(
        range(given.seeds), given.jitter, (0, round(SHIFT * dataset.image_size))
    ):
        about = {"jitter": jitter, "shift": shift, "seed": seed, "network": str(list(given.blocks))}
        about |= conditions(given)
        if any({name: row.get(name) for name in about} == about for row in read(given.rows)):
            continue
        moved = replace(dataset, images=jittered(dataset.images, jitter), digest=f"jitter {jitter}")
        recipe = brief.model_copy(update={"crop_padding": shift, "flip": False})
        share = alignment.mean_share(moved.images)
        row = about | {"share": share} | measured(made, recipe, moved, split, SEED + seed, test=False)
        with given.rows.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown, a row for each jitter."""
    lines = [
        "| Moved by up to | Mean image explains | Not shifted | Shifted | Gained |",
        "| --- | --- | --- | --- | --- |",
    ]
    for jitter in sorted({row["jitter"] for row in rows}):
        of = [row for row in rows if row["jitter"] == jitter]
        plain, shifted = (
            [row["accuracy"] for row in of if bool(row["shift"]) == is_shifted]
            for is_shifted in (False, True)
        )
        if plain and shifted:
            gain = 100 * (fmean(shifted) - fmean(plain))
            lines.append(
                f"| {jitter} pixel{'s' * (jitter != 1)} | {100 * fmean(row['share'] for row in of):.0f}% |"
                f" {100 * fmean(plain):.1f}% | {100 * fmean(shifted):.1f}% | {gain:+.1f} points |"
            )
    return "\n".join(lines)


def main() -> None:
    def numbers(text: str) -> tuple[int, ...]:
        return tuple(int(part) for part in text.split(","))

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--jitter", type=numbers, default=(0, 1, 2, 3, 4))
    parser.add_argument("--blocks", type=numbers, default=(2, 2, 2))
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--data-dir", type=Path, default=Path.home() / ".cache" / "parsimony")
    parser.add_argument("--image-size", type=int, default=14)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--train-images", type=int, default=6_000)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--max-params", type=int, default=100_000)
    parser.add_argument("--max-macs", type=int, default=2_000_000)
    given = parser.parse_args()
    run(given)
    wanted = conditions(given)
    print(table([row for row in read(given.rows) if {name: row[name] for name in wanted} == wanted]))


if __name__ == "__main__":
    main()
