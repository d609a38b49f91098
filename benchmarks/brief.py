"""Measures what a brief score is worth: how well short trainings rank networks as a long one does.

    python -m benchmarks.brief [--data cifar10] [--data-dir DIR] [--networks 12] [--epochs 24]
                               [--train-images 5000] [--max-macs 40000000] [--image-size 16]
                               [--processes N] [--out build/brief.jsonl] [--json FILE]

Networks of the default space, within 5,000,000 parameters, that lie evenly over the multiply-accumulates of
uniform draws. Each is trained once long and once by every brief setting, each with a schedule of its own:
fewer epochs, fewer images, smaller images. Truth is the long training's accuracy on test images, which no
brief score sees. Kendall's tau with its bootstrap interval, processor time a network on one thread, and what
would be lost by taking the network that a brief score puts first. A broken-off run is gone on with (--out).
"""

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded

DRAWS = 300
TEST_IMAGES = 5_000


@dataclass(frozen=True)
class Setting:
    """A way to train: epochs, share of the training images, side in pixels (None: the images' own)."""

    epochs: int
    share: float = 1.0
    side: int | None = None

    @property
    def name(self) -> str:
        images = "all images" if self.share == 1 else f"{self.share:.0%} of the images"
        pixels = f", {self.side} x {self.side} pixels" if self.side else ""
        return f"{self.epochs} epochs, {images}{pixels}"


def settings(epochs: int, side: int) -> list[Setting]:
    """The long training first, then the brief ones, by what is made less."""
    found = [epochs, epochs // 2, epochs // 3, epochs // 6, epochs // 12]
    lengths = [Setting(n) for n in dict.fromkeys(max(1, n) for n in found)]
    few = max(1, epochs // 3)
    shares = [Setting(few, 0.5), Setting(few, 0.25)]
    small = [Setting(n, 1.0, side) for n in dict.fromkeys((max(1, epochs // 2), few, max(1, epochs // 6)))]
    return [*lengths, *shares, *small]


def networks(count: int, task: Any, max_macs: int | None) -> list[Any]:
    """Evenly over the ranks of multiply-accumulates of uniform proposals."""
    from space import cost, space
    from space.budget import Budget

    default, budget = space.default(), Budget(5_000_000, max_macs)
    drawn = {found.fingerprint: found for found in _draws(default, budget, task)}
    ranked = sorted(drawn.values(), key=lambda network: cost.total(network).macs)
    if count >= len(ranked):
        return ranked
    return [ranked[round(i * (len(ranked) - 1) / max(1, count - 1))] for i in range(count)]


def _draws(default: Any, budget: Any, task: Any) -> list[Any]:
    from space import sampling
    from space.budget import judge
    from space.random_suggest import RandomSuggest

    found = [sampling.propose(default, budget, task, RandomSuggest(seed)) for seed in range(DRAWS)]
    return [network for network in found if judge(network, budget).fits]


def is_valid(network: Any, side: int | None) -> bool:
    """Whether there is such a network for images of this side: a pool may be too large for them."""
    from space.architecture import Architecture
    from space.errors import ParsimonyError

    try:
        Architecture.parse(network.document() | ({"image_size": side} if side else {}))
    except ParsimonyError:
        return False
    return True


def measure(work: dict[str, Any]) -> dict[str, Any]:
    """One training in a process of its own: accuracies, and seconds of the processor."""
    import torch

    from space.architecture import Architecture
    from trainer import evaluation, loop
    from trainer.data import dataset as datasets
    from trainer.recipe import defaults as recipe_defaults, document as recipe_document

    torch.set_num_threads(1)
    setting = Setting(**work["setting"])
    dataset = datasets.load(work["data"], Path(work["data_dir"]), setting.side)
    images = round(work["train_images"] * setting.share)
    split = datasets.split(dataset, work["seed"], 0.1, images)
    split = replace(split, validation=spread(split.validation, work["validation_images"]))
    network = Architecture.model_validate(work["network"])
    network = network.model_copy(update={"image_size": dataset.image_size})
    name, side = work["data"].split(":")[0], dataset.image_size
    how = recipe_defaults.brief_recipe(name, len(split.train), setting.epochs, side)
    how = recipe_document.Recipe.parse(work.get("recipe", {}), "the benchmark", how)
    began = time.process_time()
    fitted = loop.fit(network, how, dataset, split, seed=work["seed"], device="cpu")
    spent = time.process_time() - began
    test = None
    if work["truth"]:
        pictures, labels = dataset.open_test()
        rows = spread(torch.arange(len(labels)).numpy(), TEST_IMAGES)
        found = (torch.from_numpy(pictures[rows]), torch.from_numpy(labels[rows]))
        test = evaluation.evaluate(fitted.model, *found, fitted.normalisation).accuracy
    return {"validation": fitted.outcome.accuracy, "test": test, "cpu_seconds": spent}


def spread(rows: Any, count: int) -> Any:
    """So many rows, evenly over all: they may lie in the order of their classes."""
    return rows if len(rows) <= count else rows[[i * len(rows) // count for i in range(count)]]


def run(given: argparse.Namespace) -> list[dict[str, Any]]:
    """All trainings, the long ones first; what --out holds already is not done again."""
    from space.space import Task
    from trainer.data import dataset as datasets

    dataset = datasets.load(given.data, given.data_dir)
    datasets.load(given.data, given.data_dir, given.image_size)  # scaled once, before processes meet at it
    task = Task(channels=dataset.channels, image_size=dataset.image_size, classes=len(dataset.classes))
    chosen = networks(given.networks, task, given.max_macs)
    done = kept(given.out)
    works = [
        {
            "key": f"{index} {network.fingerprint[:12]} {setting.name} {given.train_images} {given.seed}",
            "index": index,
            "network": network.document(),
            "setting": asdict(setting),
            "truth": setting == settings(given.epochs, given.image_size)[0],
            "data": given.data,
            "data_dir": str(given.data_dir),
            "train_images": given.train_images,
            "validation_images": given.validation_images,
            "seed": given.seed,
        }
        for setting in settings(given.epochs, given.image_size)
        for index, network in enumerate(chosen)
        if is_valid(network, setting.side)
    ]
    missing = [work for work in works if work["key"] not in done]
    with multiprocessing.get_context("spawn").Pool(given.processes) as pool, given.out.open("a") as file:
        for key, found in pool.imap_unordered(_named, missing):
            done[key] = found
            file.write(json.dumps({"key": key, **found}) + "\n")
            file.flush()
    return [{"index": work["index"], "setting": work["setting"], **done[work["key"]]} for work in works]


def _named(work: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return work["key"], measure(work)


def kept(path: Path) -> dict[str, dict[str, Any]]:
    """What was measured before, by its key; the file holds nothing else afterwards."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = path.read_text().splitlines() if path.exists() else []
    found = [json.loads(line) for line in lines if line.endswith("}")]  # the last may have been cut off
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return {row.pop("key"): row for row in found}


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each setting: seconds a network, tau with the truth, and points lost by choosing by it."""
    from search.study.statistics import correlation

    truth = {row["index"]: row["test"] for row in rows if row["test"] is not None}
    found = []
    for setting in dict.fromkeys(Setting(**row["setting"]) for row in rows):
        mine = {row["index"]: row for row in rows if Setting(**row["setting"]) == setting}
        order = sorted(mine)
        tau = correlation([mine[i]["validation"] for i in order], [truth[i] for i in order])
        first = max(order, key=lambda i: mine[i]["validation"])
        found.append(
            {
                "setting": setting.name,
                "cpu_seconds": statistics.mean(mine[i]["cpu_seconds"] for i in order),
                "tau": tau.tau if tau else None,
                "interval": list(tau.interval) if tau else None,
                "lost": 100 * (max(truth[i] for i in order) - truth[first]),
                "networks": len(order),
            }
        )
    return found


def table(rows: Sequence[dict[str, Any]]) -> str:
    longest = rows[0]["cpu_seconds"]
    lines = [
        f"{'trained for':44}{'CPU s':>7}{'share':>7}{'tau':>7}{'95%':>15}{'points lost':>13}{'networks':>10}"
    ]
    for row in rows:
        tau = f"{row['tau']:.2f}" if row["tau"] is not None else "-"
        between = "{:.2f} to {:.2f}".format(*row["interval"]) if row["interval"] else "-"
        share = f"{row['cpu_seconds'] / longest:.0%}"
        lines.append(
            f"{row['setting']:44}{row['cpu_seconds']:>7.1f}{share:>7}{tau:>7}{between:>15}{row['lost']:>13.1f}{row['networks']:>10}"
        )
    return "\n".join(lines)


def arguments(parser: argparse.ArgumentParser, name: str) -> None:
    """Of every benchmark that trains many networks."""
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--data-dir", type=Path, default=Path.home() / ".cache" / "parsimony")
    parser.add_argument("--train-images", type=int, default=5_000)
    parser.add_argument("--validation-images", type=int, default=2_000)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=Path(f"build/{name}.jsonl"))
    parser.add_argument("--json", type=Path)


def keep(
    given: argparse.Namespace,
    conditions: Sequence[str],
    rows: Sequence[dict[str, Any]],
    summed: Sequence[dict[str, Any]],
) -> None:
    """Writes --json, if it was asked for: these conditions, what was measured, and its summary."""
    found = {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "data": given.data.split(":")[0],
        **{name: getattr(given, name) for name in conditions},
        "rows": rows,
        "summary": summed,
    }
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments(parser, "brief")
    parser.add_argument("--networks", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=24, help="of the long training")
    parser.add_argument("--max-macs", type=int, default=40_000_000)
    parser.add_argument("--image-size", type=int, default=16, help="side of the smaller images, in pixels")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rows = run(given)
    found = summary(rows)
    keep(given, ("networks", "train_images", "validation_images", "max_macs"), rows, found)
    print(table(found))


if __name__ == "__main__":
    main()
