"""Measures a training's FLOP/s against those of a large matrix product and a large convolution.

    python -m benchmarks.speed.limits [--device cpu] [--networks 001-final slim 002-final] [--rounds 3]

One process; every round measures all, so that a noisy machine is noisy for each. A training of an image is
counted as three passes of two operations a multiply-accumulate; what normalisation, augmentation and the
optimizer do is not counted, and takes its time. Batches of 128, made-up images of CIFAR-10's size.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded

import torch
from torch.nn import functional

from trainer.device import cudnn_choices

BATCH, CHANNELS, SIDE = 128, 128, 32  # of the convolution
PASSES = 3  # forward, gradient of the images, gradient of the weights


def rate(action: Callable[[], Any], operations: float, device: torch.device) -> float:
    """FLOP/s of an action, after one to warm up, over at least 0.3 s."""
    action()
    wait(device)
    begun, times = time.perf_counter(), 0
    while (spent := time.perf_counter() - begun) < 0.3 or times < 3:
        action()
        wait(device)
        times += 1
    return operations * times / spent


def wait(device: torch.device) -> None:
    """Until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def product(dtype: torch.dtype, size: int, device: torch.device) -> float:
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return rate(lambda: left @ right, 2.0 * size**3, device)


def convolution(dtype: torch.dtype, device: torch.device) -> float:
    images = torch.randn(BATCH, CHANNELS, SIDE, SIDE, device=device).to(dtype)
    weights = torch.randn(CHANNELS, CHANNELS, 3, 3, device=device).to(dtype)
    images, weights = (one.to(memory_format=torch.channels_last) for one in (images, weights))
    operations = 2.0 * BATCH * SIDE**2 * CHANNELS**2 * 9
    with torch.inference_mode():
        return rate(lambda: functional.conv2d(images, weights, padding=1), operations, device)


def training(name: str, precision: str, batches: int, device: torch.device) -> tuple[float, float]:
    """Images a second and FLOP/s of this project's loop; its start-up is not in it."""
    from benchmarks.speed.training import architecture
    from space import cost
    from trainer import loop
    from trainer.data import dataset as datasets
    from trainer.recipe.document import Recipe

    network = architecture(name, 3, SIDE, 10)
    dataset, split = made_up(datasets, BATCH * batches)
    recipe = Recipe.model_validate({"epochs": 2, "batch_size": BATCH, "precision": precision})
    outcome = loop.fit(network, recipe, dataset, split, seed=0, device=device).outcome
    images = outcome.images_per_second
    return images, images * 2 * PASSES * cost.total(network).macs


def made_up(data: Any, images: int) -> tuple[Any, Any]:
    """Noise for pictures: speed does not depend on what they show."""
    import numpy as np

    dice = np.random.default_rng(0)
    pixels = dice.integers(0, 256, (images + 64, SIDE, SIDE, 3), dtype=np.uint8)
    labels = np.arange(images + 64, dtype=np.int64) % 10
    dataset = data.Dataset(
        spec="noise",
        name="noise",
        classes=tuple("abcdefghij"),
        image_size=SIDE,
        channels=3,
        digest="noise",
        images=pixels,
        labels=labels,
        cache=Path("nowhere"),
    )
    rows = np.arange(images + 64)
    return dataset, data.Split(digest="noise", train=rows[:images], validation=rows[images:])


def turn(given: argparse.Namespace, device: torch.device) -> dict[str, float]:
    """FLOP/s of everything, once."""
    found = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        with cudnn_choices(device, timed=False):  # float32 without TF32, as in a training
            found[f"product {name}"] = product(dtype, given.size, device)
            found[f"convolution {name}"] = convolution(dtype, device)
        for network in given.networks:
            found[f"{network} {name}"] = training(network, name, given.batches, device)[1]
    return found


def summary(turns: list[dict[str, float]]) -> list[dict[str, Any]]:
    """Medians, and each one's share of the larger of product and convolution in the same turn."""
    rows = []
    for key in turns[0]:
        precision = key.rsplit(" ", 1)[1]
        shares = [
            one[key] / max(one[f"product {precision}"], one[f"convolution {precision}"]) for one in turns
        ]
        median = statistics.median(one[key] for one in turns)
        rows.append({"what": key, "flops": median, "share": statistics.median(shares)})
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    lines = [f"{'':26}{'GFLOP/s':>10}{'of the limit':>14}"]
    lines += [f"{row['what']:26}{row['flops'] / 1e9:>10.0f}{100 * row['share']:>13.0f}%" for row in rows]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--networks", nargs="+", default=["001-final", "slim", "002-final"])
    parser.add_argument("--size", type=int, help="of the matrices; 2048, or 8192 on a GPU")
    parser.add_argument("--batches", type=int, default=8, help="in an epoch; two epochs are trained")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    device = torch.device(given.device)
    given.size = given.size or (8_192 if device.type == "cuda" else 2_048)
    rows = summary([turn(given, device) for _ in range(given.rounds)])
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "one thread"
    found = {"device": name, "torch": torch.__version__, "rounds": given.rounds, "rows": rows}
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
