"""Progressive resizing: what a training gains whose first epochs see images scaled down, in the same time.

    python -m benchmarks.progressive --rows build/progressive.jsonl [--full 9] [--small 7] [--large 5]
        [--side 20] [--data fashion-mnist] [--image-size 28] [--seeds 3] [--blocks 1,1,1]
        [--only pre-gelu-padding] [--train-images 12000] [--validation-images 10000]
        [--max-params 300000] [--max-macs 8000000]

One network of benchmarks/variants.toml, trained by the default recipe for --full epochs, and for --small
epochs on images of --side pixels and then --large ones on whole images, under one cycle of the rate; choose
the lengths so that both take alike. Images are scaled once they are augmented and normalised, each pixel the
weighted mean of what it covers (bilinear, antialiased). Recipes are those of as many epochs, augmented as
that of --full. As in J. Howard's entry to DAWNBench (2018) and in EfficientNetV2 (M. Tan and Q. Le, ICML
2021), in one step.

One thread; seeds depend on their number alone, and are shared by both. Accuracies are of whole validation
images after the last epoch; test images are not read. Rows are appended as they finish, and a second call
goes on where the first one ended. Prints the table of benchmarks/recipes.py, with processor time.
"""

import argparse
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded

from benchmarks.prior import SEED, ground, read
from benchmarks.recipes import measured, table
from benchmarks.variants import conditions, network, variants

if TYPE_CHECKING:
    from torch import Generator, Tensor, dtype

    from trainer.recipe.document import Recipe


@contextmanager
def scaled_down(epochs: int, side: int) -> Iterator[None]:
    """Has the first epochs of the training in it see images of so many pixels a side."""
    from torch import channels_last, float32
    from torch.nn.functional import interpolate

    from trainer.data.batches import DeviceDataset

    plain, begun = DeviceDataset.epoch, 0

    def epoch(
        data: DeviceDataset, recipe: "Recipe", generator: "Generator", kind: "dtype" = float32
    ) -> "Iterator[tuple[Tensor, Tensor]]":
        nonlocal begun
        begun += 1
        for x, labels in plain(data, recipe, generator, kind):
            if begun <= epochs:
                x = interpolate(x.float(), size=(side, side), mode="bilinear", antialias=True)
                x = x.to(kind, memory_format=channels_last)
            yield x, labels

    DeviceDataset.epoch = epoch  # type: ignore[method-assign]
    try:
        yield
    finally:
        DeviceDataset.epoch = plain  # type: ignore[method-assign]


def lengths(given: argparse.Namespace) -> dict[str, tuple[int, int]]:
    """By the name of a row: epochs in all, and those of them that are on small images."""
    of_both = given.small + given.large
    small = f"{given.small} of {given.side} pixels, then {given.large}"
    return {f"{given.full} epochs": (given.full, 0), small: (of_both, given.small)}


def run(given: argparse.Namespace) -> None:
    """Trains what has no row yet."""
    import torch

    from trainer.data import alignment
    from trainer.recipe.defaults import default_recipe

    torch.set_num_threads(1)
    dataset, split, task, budget = ground(given, given.validation_images)
    made = network(task, budget, given.blocks, variants([given.only])[given.only])
    aligned = alignment.is_aligned(dataset.images)
    recipes = {
        epochs: default_recipe(given.data, epochs, len(split.train), dataset.image_size, aligned)
        for epochs, _ in lengths(given).values()
    }
    augmented = recipes[given.full].model_dump(include={"crop_padding", "flip"})
    given.rows.parent.mkdir(parents=True, exist_ok=True)
    for seed in range(given.seeds):
        for name, (epochs, small) in lengths(given).items():
            about = about_of(given, name, seed)
            if any({key: row.get(key) for key in about} == about for row in read(given.rows)):
                continue
            recipe = recipes[epochs].model_copy(update=augmented)
            with scaled_down(small, given.side):
                found = measured(made, recipe, dataset, split, SEED + seed, test=False)
            with given.rows.open("a", encoding="utf-8") as file:
                file.write(json.dumps(about | found | {"batch": recipe.batch_size}) + "\n")


def about_of(given: argparse.Namespace, name: str, seed: int) -> dict[str, Any]:
    """What makes a training another one."""
    about = {"recipe": name, "network": f"{list(given.blocks)}, {given.only}", "seed": seed}
    return about | conditions(given)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--full", type=int, default=9)
    parser.add_argument("--small", type=int, default=7)
    parser.add_argument("--large", type=int, default=5)
    parser.add_argument("--side", type=int, default=20)
    parser.add_argument("--only", default="pre-gelu-padding", help="a network of variants.toml")
    parser.add_argument("--blocks", type=lambda text: tuple(map(int, text.split(","))), default=(1, 1, 1))
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--data-dir", type=Path, default=Path.home() / ".cache" / "parsimony")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--train-images", type=int, default=12_000)
    parser.add_argument("--validation-images", type=int, default=10_000)
    parser.add_argument("--max-params", type=int, default=300_000)
    parser.add_argument("--max-macs", type=int, default=8_000_000)
    given = parser.parse_args()
    given.epochs = given.full  # of a pair: the rows that are compared
    run(given)
    wanted = [about_of(given, name, seed) for name in lengths(given) for seed in range(given.seeds)]
    rows = [row for about in wanted for row in read(given.rows) if about.items() <= row.items()]
    print(table(rows, what="Training"))


if __name__ == "__main__":
    main()
