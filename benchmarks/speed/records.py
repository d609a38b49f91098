"""Measures each habit of the CIFAR-10 speed records on its own against our default recipe.

    python -m benchmarks.speed.records [--data cifar10] [--data-dir DIR] [--networks 6] [--seeds 2]
        [--epochs 8] [--train-images 5000] [--max-macs 12000000] [--processes N]
                                 [--out build/records.jsonl] [--json FILE]

Networks of the default space, within 5,000,000 parameters, that lie evenly over the multiply-accumulates of
uniform draws, each trained by every habit from the same seeds: the same first weights, images and split.
Points of validation accuracy above the default, of each network the mean over its seeds; their mean with its
95% t interval, over the networks; and processor time. A broken-off run is gone on with (--out). Sources:
arXiv 2404.00498, KellerJordan/cifar10-airbench, tysam-code/hlb-CIFAR10.
"""

import argparse
import json
import multiprocessing
import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks import brief
from benchmarks.simulated.measure import interval

DEFAULT = "the default"
HABITS: dict[str, dict[str, Any]] = {
    DEFAULT: {},
    "batch 256, same rate": {"batch_size": 256},
    "batch 512, same rate": {"batch_size": 512},
    "batch 512, twice the rate": {"batch_size": 512, "learning_rate": 0.8},
    "triangular rate (straight, to 0)": {"schedule": "triangular"},
    "label smoothing 0.2": {"label_smoothing": 0.2},
    "no label smoothing": {"label_smoothing": 0.0},
    "averaged weights, decay 0.99": {"ema": 0.99},
    "weight decay of vectors too": {"decay_vectors": True},
    "momentum without Nesterov": {"nesterov": False},
    "padding by zeros": {"crop_edge": "zero"},
    "crops of 2 pixels": {"crop_padding": 2},
}


def measure(work: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """One training in a process of its own."""
    return key(work), brief.measure(work)


def key(work: dict[str, Any]) -> str:
    """All that the result depends on."""
    return json.dumps(work, sort_keys=True)


def changes(habit: str, epochs: int) -> dict[str, Any]:
    """The fields of the recipe; a triangle is a straight rise over a quarter, then a straight fall."""
    found = dict(HABITS[habit])
    if found.get("schedule") == "triangular":
        found["schedule"] = {"name": "linear", "warm_up": epochs / 4, "warm_up_from": 0.04}
    return found


def run(given: argparse.Namespace) -> list[dict[str, Any]]:
    """All trainings; what --out holds already is not done again."""
    from space.space import Task
    from trainer.data import dataset as datasets

    dataset = datasets.load(given.data, given.data_dir)
    task = Task(channels=dataset.channels, image_size=dataset.image_size, classes=len(dataset.classes))
    chosen = brief.networks(given.networks, task, given.max_macs)
    works = [
        {
            "index": index,
            "habit": habit,
            "network": network.document(),
            "setting": {"epochs": given.epochs},
            "recipe": changes(habit, given.epochs),
            "truth": False,
            "data": given.data,
            "data_dir": str(given.data_dir),
            "train_images": given.train_images,
            "validation_images": given.validation_images,
            "seed": seed,
        }
        for seed in range(given.seeds)
        for index, network in enumerate(chosen)
        for habit in HABITS
    ]
    done = brief.kept(given.out)
    missing = [work for work in works if key(work) not in done]
    with multiprocessing.get_context("spawn").Pool(given.processes) as pool, given.out.open("a") as file:
        for measured, found in pool.imap_unordered(measure, missing):
            done[measured] = found
            file.write(json.dumps({"key": measured, **found}) + "\n")
            file.flush()
    return [{name: work[name] for name in ("index", "habit", "seed")} | done[key(work)] for work in works]


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each habit: accuracy, points above the default with half the 95% interval, processor seconds."""
    usual = {(row["index"], row["seed"]): row for row in rows if row["habit"] == DEFAULT}
    found = []
    for habit in HABITS:
        mine = [row for row in rows if row["habit"] == habit]
        above: dict[int, list[float]] = {}
        for row in mine:
            points = 100 * (row["validation"] - usual[row["index"], row["seed"]]["validation"])
            above.setdefault(row["index"], []).append(points)
        means = [statistics.mean(one) for one in above.values()]
        over_networks = interval(means)
        found.append(
            {
                "habit": habit,
                "accuracy": statistics.mean(row["validation"] for row in mine),
                "points": over_networks.mean,
                "half": over_networks.half,
                "better": sum(one > 0 for one in means),
                "networks": len(means),
                "cpu_seconds": statistics.mean(row["cpu_seconds"] for row in mine),
            }
        )
    return found


def table(rows: Sequence[dict[str, Any]]) -> str:
    lines = [f"{'':36}{'accuracy':>9}{'points':>8}{'95%':>8}{'better in':>11}{'CPU s':>8}"]
    for row in rows:
        usual = row["habit"] == DEFAULT
        points = "" if usual else f"{row['points']:+.2f}"
        half = "" if usual else f"+-{row['half']:.2f}"
        better = "" if usual else f"{row['better']}/{row['networks']}"
        lines.append(
            f"{row['habit']:36}{100 * row['accuracy']:>8.1f}%{points:>8}{half:>8}{better:>11}"
            f"{row['cpu_seconds']:>8.1f}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    brief.arguments(parser, "records")
    parser.add_argument("--networks", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--max-macs", type=int, default=12_000_000)
    given = parser.parse_args()
    rows = run(given)
    found = summary(rows)
    conditions = ("networks", "seeds", "epochs", "train_images", "validation_images", "max_macs")
    brief.keep(given, conditions, rows, found)
    print(table(found))


if __name__ == "__main__":
    main()
