"""What plain draws of a search space are worth: networks of several spaces, trained briefly for real.

    python -m benchmarks.prior OLD.toml NEW.toml --rows build/prior.jsonl [--data fashion-mnist]
        [--draws 40] [--train-images 12000] [--image-size 28] [--epochs 8] [--max-params 300000]
        [--max-macs 20000000] [--part 1/2]

Draw 0 of each space, then draw 1 of each, and so on; one training of each from a seed that depends on the
draw alone, by the brief recipe of the data set, on one thread. Accuracies are of 3,000 validation images
after the last epoch; test images are not read. Rows are appended as they finish, and a second call goes on
where the first one ended; `--part 1/2` and `--part 2/2` side by side, with the same rows, take every other
draw each. Reads space files and a data set; writes the rows, and prints a table with, for
each space after the first, how likely a difference as large is luck (a permutation test of the medians).
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded

VALIDATION_IMAGES = 3_000
SEED = 1_000  # of the training of draw 0
PERMUTATIONS = 20_000
FIGURES = ("best", "upper_quartile", "median", "lower_quartile", "worst")


def networks(path: Path, draws: int, budget: Any, task: Any) -> list[Any]:
    """The first draws of a space within the budget, none twice; the same whenever they are asked for."""
    from space import sampling
    from space.random_suggest import RandomSuggest
    from space.space import load

    space, dice = load(path), RandomSuggest(seed=0)
    found: dict[str, Any] = {}
    while len(found) < draws:
        dice.clear()
        network = sampling.propose(space, budget, task, dice)
        found.setdefault(network.fingerprint, network)
    return list(found.values())


def ground(given: argparse.Namespace, validated: int = VALIDATION_IMAGES) -> tuple[Any, Any, Any, Any]:
    """Data set, split, task and budget of a call; of benchmarks/recipes.py and benchmarks/variants.py too.

    Raises SystemExit for a data set of too few images.
    """
    from space.budget import Budget
    from space.space import Task
    from trainer.data import dataset as datasets

    dataset = datasets.load(given.data, given.data_dir, given.image_size)
    images, wanted = len(dataset.labels), validated + given.train_images
    if images < wanted:
        raise SystemExit(
            f"{given.data} has {images:,} training images, and this takes {given.train_images:,} of them,"
            f" and {validated:,} to validate on: lower --train-images, or take another data set"
        )
    split = datasets.split(dataset, 0, validated / images, given.train_images)
    task = Task(channels=dataset.channels, image_size=dataset.image_size, classes=len(dataset.classes))
    return dataset, split, task, Budget(given.max_params, given.max_macs)


def run(given: argparse.Namespace) -> None:
    """Trains what has no row yet."""
    import torch

    from space import cost
    from space.errors import DivergedError
    from trainer import loop
    from trainer.callbacks import TrainingCallbacks
    from trainer.outcome import EpochReport
    from trainer.recipe.defaults import brief_recipe

    torch.set_num_threads(1)
    dataset, split, task, budget = ground(given)
    recipe = brief_recipe(given.data, given.train_images, given.epochs, dataset.image_size)
    drawn = {path.stem: networks(path, given.draws, budget, task) for path in given.spaces}
    done = {(row["space"], row["draw"]) for row in read(given.rows)}
    given.rows.parent.mkdir(parents=True, exist_ok=True)
    for draw in draws_of(given.part, given.draws):
        for name, found in drawn.items():
            if (name, draw) in done:
                continue
            spent, start = cost.total(found[draw]), time.process_time()
            reports: list[EpochReport] = []
            heard = TrainingCallbacks(on_epoch=reports.append)
            try:
                loop.fit(found[draw], recipe, dataset, split, seed=SEED + draw, callbacks=heard)
            except DivergedError:
                reports = []
            row = {
                "space": name,
                "draw": draw,
                "accuracy": reports[-1].validation_accuracy if reports else 0.0,
                "curve": [report.validation_accuracy for report in reports],
                "losses": [report.validation_loss for report in reports],
                "parameters": spent.parameters,
                "macs": spent.macs,
                "cpu_seconds": round(time.process_time() - start, 1),
                "architecture": found[draw].document(),
            }
            with given.rows.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")


def part_of(text: str) -> tuple[int, int]:
    """`2/3` as (2, 3); a type of argparse.

    Raises:
        ValueError: no two whole numbers, or the first not between one and the second.
    """
    part, _, parts = text.partition("/")
    if not 1 <= int(part) <= int(parts):
        raise ValueError(text)
    return int(part), int(parts)


def draws_of(part: tuple[int, int], draws: int) -> range:
    """The draws of a part of as many as there are."""
    return range(part[0] - 1, draws, part[1])


def read(rows: Path) -> list[dict[str, Any]]:
    """The rows of earlier calls."""
    if not rows.exists():
        return []
    return [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines() if line.strip()]


def luck(one: Sequence[float], other: Sequence[float], figure: Any) -> float:
    """How often a random division of all the values differs in this figure at least as much (two-sided)."""
    both, random = [*one, *other], Random(0)
    seen = abs(figure(other) - figure(one))
    hits = 0
    for _ in range(PERMUTATIONS):
        random.shuffle(both)
        hits += abs(figure(both[len(one) :]) - figure(both[: len(one)])) >= seen
    return (hits + 1) / (PERMUTATIONS + 1)


def summary(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """A row a space: best, quartiles, compute, and how likely the difference from the first is luck."""
    found = []
    values = {name: [row["accuracy"] for row in rows if row["space"] == name] for name in names}
    for name in names:
        mine = [row for row in rows if row["space"] == name]
        low, middle, high = statistics.quantiles(values[name], n=4)
        first = values[names[0]]
        found.append({
            "space": name, "networks": len(mine), "best": max(values[name]), "upper_quartile": high,
            "median": middle, "lower_quartile": low, "worst": min(values[name]),
            "median_macs": statistics.median(row["macs"] for row in mine),
            "cpu_seconds": sum(row["cpu_seconds"] for row in mine),
            "p_median": None if name == names[0] else luck(first, values[name], statistics.median),
            "p_best": None if name == names[0] else luck(first, values[name], max),
        })  # fmt: skip
    return found


def table(found: Sequence[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| Space | Networks | Best | Upper quartile | Median | Lower quartile | Worst | MACs | Luck |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in found:
        shares = " | ".join(
            f"{100 * row[key]:.1f}%"
            for key in ("best", "upper_quartile", "median", "lower_quartile", "worst")
        )
        p = "" if row["p_median"] is None else f"p = {row['p_median']:.4f}, of the bests {row['p_best']:.4f}"
        macs = f"{row['median_macs'] / 1e6:.1f}M"
        lines.append(f"| {row['space']} | {row['networks']} | {shares} | {macs} | {p} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("spaces", type=Path, nargs="+", metavar="SPACE.toml")
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--data-dir", type=Path, default=Path.home() / ".cache" / "parsimony")
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--train-images", type=int, default=12_000)
    parser.add_argument("--image-size", type=int, help="pixels a side; those of the data set else")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--max-params", type=int, default=300_000)
    parser.add_argument("--max-macs", type=int, default=20_000_000)
    parser.add_argument("--part", type=part_of, default=(1, 1), metavar="K/N", help="only each Nth draw")
    given = parser.parse_args()
    run(given)
    print(table(summary(read(given.rows), [path.stem for path in given.spaces])))


if __name__ == "__main__":
    main()
