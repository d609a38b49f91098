"""What recipes are worth: the first guesses of the default space, trained for real by several recipes.

    python -m benchmarks.recipes --rows build/recipes.jsonl [--only augmented-128,plain-32]
        [--data fashion-mnist] [--networks 2] [--seeds 3] [--train-images 12000] [--epochs 6]
        [--max-params 300000] [--max-macs 8000000] [--repeats 1,2,4] [--test]

The recipes are those of benchmarks/recipes.toml, each a table of what differs from one that is said in full
there; the first of them (or of --only) is what the others are compared to. --only takes three other names:
`default`, what a training of this length of these images has unless told, `default-sgd`, the same by SGD, and
published:NAME, the recipe of a published system (space/published.py), stretched to the epochs, its shift as
a part of the side; images of another number of channels than it was made for are normalised by what is
measured, and restarts are left out: one cycle ends with the training. The networks are those that a
launch of the default space enters first (space/baselines.py), which no recipe was ever chosen with. Every
training is on one thread, from a seed that depends on the seed's number alone. Accuracies are of 3,000
validation images (or, with --test, of the test images too, for which nothing is chosen) after the last epoch.
With --repeats each recipe is trained by repeated augmentation too (E. Hoffer et al., Augment your batch, CVPR
2020; M. Berman et al., MultiGrain, 2019): a batch then has so many copies of each of its images, augmented by
themselves, and an epoch as many steps as ever, of so many times fewer images.

Rows are appended as they finish, and a second call goes on where the first one ended. Prints a table: the
mean, and the mean of the differences, network by network and seed by seed, with Student's 95% interval.
"""

import argparse
import json
import math
import os
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded

from benchmarks.prior import SEED, ground, read

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from trainer.recipe.document import Recipe

RECIPES = Path(__file__).with_suffix(".toml")
SIDE, CHANNELS = 32, 3  # of the images that the shifts of recipes.toml, and the published recipes, are for
SAME = ("data", "epochs", "train_images", "image_size")  # of rows that may be compared
PUBLISHED = "published:"


def recipes(
    only: Sequence[str] | None,
    epochs: int,
    side: int = SIDE,
    default: "Recipe | None" = None,
    channels: int = CHANNELS,
) -> dict[str, Any]:
    """By name, in the order asked for, for images of so many channels and pixels a side. `default`: what the
    name stands for. Raises SystemExit for a name that is none."""
    from trainer.recipe.document import Recipe

    tables = tomllib.loads(RECIPES.read_text(encoding="utf-8"))
    common = tables.pop("common")
    special = {"default": default, "default-sgd": default and default.model_copy(update={"optimizer": "sgd"})}
    known = (*tables, *special, *published_names())
    unknown = [name for name in only or () if name not in known]
    if unknown:
        said = ", ".join((*tables, *special))
        raise SystemExit(f"{RECIPES.name} has no recipe {unknown[0]}; it has {said} and published:NAME")
    found: dict[str, Any] = {}
    for name in only or tables:
        if name in special:
            found[name] = special[name]
        elif name.startswith(PUBLISHED):
            found[name] = published_recipe(name, epochs, side, channels)
        else:
            said = common | tables[name] | {"epochs": epochs}
            said["crop_padding"] = shift(said["crop_padding"], side)
            found[name] = Recipe.parse(said, f"{RECIPES.name} [{name}]")
    return found


def published_names() -> list[str]:
    """As --only takes them."""
    from space import published

    return [PUBLISHED + entry.name for entry in published.everything()]


def published_recipe(name: str, epochs: int, side: int, channels: int) -> "Recipe":
    """That of a published system, for other images and another length."""
    from space import published
    from trainer.recipe.document import Recipe, Scale
    from trainer.recipe.schedules import CosineRestarts

    found = Recipe.parse(dict(published.find(name.removeprefix(PUBLISHED)).recipe), name)
    if isinstance(found.planned, CosineRestarts):  # whose cycle is the whole training then
        found = found.model_copy(update={"epochs": round(found.planned.first)})
    change: dict[str, Any] = {"crop_padding": shift(found.crop_padding, side)}
    by_channel = isinstance(found.normalisation, Scale) or found.normalisation in ("cifar10", "imagenet")
    if by_channel and channels != CHANNELS:
        change["normalisation"] = "measured"
    return found.for_epochs(epochs).model_copy(update=change)


def shift(pixels: int, side: int) -> int:
    """Of 32 pixels a side, as so many of these."""
    return math.floor(pixels * side / SIDE + 0.5)


def run(given: argparse.Namespace) -> None:
    """Trains what has no row yet."""
    import torch

    from space.baselines import baselines
    from space.space import default
    from trainer.data import alignment
    from trainer.recipe.defaults import default_recipe

    torch.set_num_threads(1)
    dataset, split, task, budget = ground(given)
    found = baselines(default(), budget, task)
    networks = {one.name: one.architecture for one in found if not one.reason}
    images = len(split.train)
    aligned = alignment.is_aligned(dataset.images)
    usual = default_recipe(given.data, given.epochs, images, dataset.image_size, aligned)
    asked = recipes(given.only, given.epochs, dataset.image_size, usual, dataset.channels)
    done = {key(row) for row in read(given.rows)}
    given.rows.parent.mkdir(parents=True, exist_ok=True)
    for seed in range(given.seeds):
        for name in list(networks)[: given.networks]:
            for (recipe, document), repeats in product(asked.items(), given.repeats):
                about = {
                    "recipe": named(recipe, repeats),
                    "network": name,
                    "seed": seed,
                    "data": given.data,
                    "epochs": given.epochs,
                    "train_images": given.train_images,
                    "image_size": dataset.image_size,
                    "max_macs": given.max_macs,
                }
                if key(about) in done:
                    continue
                with repeated(repeats):
                    found = measured(networks[name], document, dataset, split, SEED + seed, given.test)
                row = about | found
                with given.rows.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")


def named(recipe: str, repeats: int) -> str:
    """As rows and table call it."""
    return recipe if repeats == 1 else f"{recipe} x{repeats}"


@contextmanager
def repeated(times: int) -> Iterator[None]:
    """Has trainings take so many copies of an image one after another, each augmented by itself; the batch
    is a multiple of it. The images of an epoch are a random part of all."""
    from trainer.data.batches import DeviceDataset

    plain = DeviceDataset.order

    def order(data: DeviceDataset, generator: "Generator") -> "Tensor":
        found = plain(data, generator)
        return found[: -(-len(found) // times)].repeat_interleave(times)[: len(found)]

    DeviceDataset.order = order  # type: ignore[method-assign]
    try:
        yield
    finally:
        DeviceDataset.order = plain  # type: ignore[method-assign]


def key(row: dict[str, Any]) -> tuple[Any, ...]:
    """What makes a training another one."""
    return tuple(row[name] for name in ("recipe", "network", "seed", *SAME, "max_macs"))


def measured(network: Any, recipe: Any, dataset: Any, split: Any, seed: int, test: bool) -> dict[str, Any]:
    """One training, and what it came to."""
    from torch import from_numpy

    from space import cost
    from space.errors import DivergedError
    from trainer import loop
    from trainer.callbacks import TrainingCallbacks
    from trainer.outcome import EpochReport

    reports: list[EpochReport] = []
    spent, start = cost.total(network), time.process_time()
    heard = TrainingCallbacks(on_epoch=reports.append)
    tested = None
    try:
        fitted = loop.fit(network, recipe, dataset, split, seed=seed, callbacks=heard)
        seconds = time.process_time() - start
        if test:
            images, labels = (from_numpy(part) for part in dataset.open_test())
            tested = loop.evaluate(fitted.model, images, labels, fitted.normalisation).accuracy
    except DivergedError:
        reports, seconds = [], time.process_time() - start
    return {
        "accuracy": reports[-1].validation_accuracy if reports else 0.0,
        "test_accuracy": tested,
        "curve": [report.validation_accuracy for report in reports],
        "train_losses": [report.train_loss for report in reports],
        "parameters": spent.parameters,
        "macs": spent.macs,
        "cpu_seconds": round(seconds, 1),
    }


def compared(rows: Sequence[dict[str, Any]], measure: str = "accuracy") -> Iterator[dict[str, Any]]:
    """A row a recipe of those that were trained alike: means, and the difference from the first recipe."""
    from search.study.statistics import student

    pairs: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = {}
    for row in rows:
        pairs.setdefault(row["recipe"], {})[key(row)[1:]] = row
    first = next(iter(pairs.values()), {})
    for name, mine in pairs.items():
        shared = [at for at in mine if at in first]
        gains = [mine[at][measure] - first[at][measure] for at in shared]
        half = None
        if len(gains) > 1:
            mean, freedom = fmean(gains), len(gains) - 1
            variance = sum((gain - mean) ** 2 for gain in gains) / freedom
            half = student(freedom) * (variance / len(gains)) ** 0.5
        timed = [at for at in shared if first[at]["cpu_seconds"]]  # a tiny one takes 0.0 s
        yield {
            "recipe": name,
            "trainings": len(mine),
            "mean": fmean(row[measure] for row in mine.values()),
            "gain": fmean(gains) if gains else None,
            "half": half,
            "time": fmean(mine[at]["cpu_seconds"] / first[at]["cpu_seconds"] for at in timed)
            if timed
            else None,
        }


def table(rows: Sequence[dict[str, Any]], measure: str = "accuracy", what: str = "Recipe") -> str:
    """Markdown."""
    lines = [
        f"| {what} | Trainings | Mean | Against the first | Processor time |",
        "| --- | --- | --- | --- | --- |",
    ]
    for number, row in enumerate(compared(rows, measure)):
        mean = f"{100 * row['mean']:.1f}%"
        gain = f"{100 * row['gain']:+.1f}" if number and row["gain"] is not None else ""
        gain += f" ± {100 * row['half']:.1f}" if number and row["half"] is not None else ""
        spent = f"{row['time']:.2f}" if row["time"] else ""
        lines.append(f"| {row['recipe']} | {row['trainings']} | {mean} | {gain} | {spent} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--only", type=lambda text: text.split(","), help="recipes by name, the first first")
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--data-dir", type=Path, default=Path.home() / ".cache" / "parsimony")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--networks", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--train-images", type=int, default=12_000)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--max-params", type=int, default=300_000)
    parser.add_argument("--max-macs", type=int, default=8_000_000)
    parser.add_argument(
        "--repeats",
        type=lambda text: [int(one) for one in text.split(",")],
        default=[1],
        help="copies of an image in a batch, each augmented by itself",
    )
    parser.add_argument("--test", action="store_true", help="the test images too")
    given = parser.parse_args()
    run(given)
    asked = [named(*one) for one in product(recipes(given.only, given.epochs), given.repeats)]
    conditions = (given.data, given.epochs, given.train_images)
    rows = [
        row
        for name in asked
        for row in read(given.rows)
        if row["recipe"] == name and (row["data"], row["epochs"], row["train_images"]) == conditions
    ]
    print(table(rows))
    if given.test:
        print(
            "\nTest images:\n\n"
            + table([row for row in rows if row["test_accuracy"] is not None], "test_accuracy")
        )


if __name__ == "__main__":
    main()
