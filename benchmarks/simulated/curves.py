"""Trains networks of the default space and writes their learning curves, one row each in a file.

    python -m benchmarks.simulated.curves train fashion-mnist --rows fashion.jsonl --data-dir DIR
    python -m benchmarks.simulated.curves train digits --rows digits.jsonl --data-dir DIR
    python -m benchmarks.simulated.curves train cifar10-jpeg --rows cifar.jsonl --data-dir DIR --folder DIR
    python -m benchmarks.simulated.curves pack digits.jsonl benchmarks/curves/digits.json.gz

Rows are appended as they finish, and a second call goes on where the first one ended. First uniform draws,
then proposals of a real search (so that good networks are there in numbers), then some of them again from
other seeds (how much of an accuracy is luck), then published ones, then uniform draws until there are
enough. The packed file is read by benchmarks/simulated/table.py.
"""

import argparse
import gzip
import json
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded

import optuna
import torch

from benchmarks.simulated.machine import machine
from benchmarks.simulated.proposals import Proposer
from search.optuna_adapter import ask as optuna_ask
from search.optuna_adapter.weights import weigh
from space import cost, membership, published, sampling, space
from space.architecture import Architecture
from space.budget import Budget
from space.errors import DivergedError
from space.space import SearchSpace, Task
from trainer import loop
from trainer.data import dataset as datasets
from trainer.data.dataset import Dataset, Split
from trainer.device import training_type
from trainer.recipe.defaults import brief_recipe
from trainer.recipe.document import Recipe

PACKAGES = ("torch", "torchvision", "numpy", "optuna", "scikit-learn")
SIGNIFICANT = 4  # digits of what is packed
CURVES = ("accuracy", "loss", "training_loss", "seconds", "truth")  # what a training is kept of
FIRST_FURTHER = 400  # draws from here on are uniform again
FURTHER = 10_000  # training seeds from here on are repetitions
PUBLISHED = ("000-res-512-d", "001-final", "002-final", "003-final", "004-final")


@dataclass(frozen=True)
class Setting:
    """Which images, how long, within what; how many networks at least, and of them uniform draws, proposals
    of a search, and repeats."""

    name: str
    image_size: int
    epochs: int
    budget: Budget
    validation_share: float
    train_images: int | None = None
    networks: int = 310
    uniform: int = 200
    searched: int = 100
    repeated: int = 20
    seeds: int = 3
    split_seed: int = 0

    @property
    def draws(self) -> int:
        return self.uniform + self.searched


SETTINGS = {
    "digits": Setting("digits", 8, 12, Budget(200_000, 1_500_000), 0.2),
    "fashion-mnist": Setting("Fashion-MNIST", 14, 8, Budget(200_000, 1_500_000), 1 / 30, 3_000, searched=80),
    "cifar10-jpeg": Setting("CIFAR-10 (JPEG)", 16, 8, Budget(200_000, 1_200_000), 0.02, 2_000),
}


@dataclass(frozen=True)
class Ground:
    """Everything that the trainings of one file have in common."""

    setting: Setting
    space: SearchSpace
    task: Task
    recipe: Recipe
    dataset: Dataset
    split: Split

    def conditions(self) -> dict[str, Any]:
        setting = self.setting
        return {
            "data": setting.name,
            "data_digest": self.dataset.digest,
            "split_digest": self.split.digest,
            "train_images": len(self.split.train),
            "validation_images": len(self.split.validation),
            "test_images": len(self.dataset.open_test()[1]),
            "budget": {"max_parameters": setting.budget.max_parameters, "max_macs": setting.budget.max_macs},
            "space": self.space.model_dump(mode="json"),
            "task": self.task.model_dump(mode="json"),
            "recipe": self.recipe.model_dump(mode="json"),
            "precision": str(training_type(self.recipe, torch.device("cpu"))).removeprefix("torch."),
            "seeds": {"split": setting.split_seed, "sampler": 0, "training": "1000 + draw, then + 10000"},
            "python": platform.python_version(),
            "packages": {name: version(name) for name in PACKAGES},
            "machine": machine(),
        }


def ground(name: str, data_dir: Path, folder: Path | None) -> Ground:
    setting = SETTINGS[name]
    spec = f"folder:{folder}" if folder else name
    dataset = datasets.load(spec, data_dir, setting.image_size)
    split = datasets.split(dataset, setting.split_seed, setting.validation_share, setting.train_images)
    task = Task(channels=dataset.channels, image_size=dataset.image_size, classes=len(dataset.classes))
    recipe = brief_recipe(spec.partition(":")[0], len(split.train), setting.epochs)
    return Ground(setting, space.default(), task, recipe, dataset, split)


def more(on: Ground, rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Further uniform draws until there are enough networks: a search proposes many a one again."""
    had = {Architecture.parse(row["architecture"]).fingerprint for row in rows if "architecture" in row}
    draws = [row["draw"] for row in rows if row["draw"] >= FIRST_FURTHER]
    draw = max(draws, default=FIRST_FURTHER - 1)
    while len(had) < on.setting.networks:
        draw += 1
        trial, architecture = asked(on, draw, optuna.create_study())
        if architecture.fingerprint in had:
            continue
        row = entry(on, draw, trial.params, architecture)
        had.add(Architecture.parse(row["architecture"]).fingerprint)
        yield row


def measured(on: Ground, architecture: Architecture, seed: int) -> dict[str, Any]:
    """One training; `truth` is the accuracy on the test images, which no simulated search ever sees."""
    epochs: list[loop.EpochReport] = []
    try:
        callbacks = loop.TrainingCallbacks(on_epoch=epochs.append)
        fitted = loop.fit(architecture, on.recipe, on.dataset, on.split, seed=seed, callbacks=callbacks)
    except DivergedError as error:
        empty: dict[str, Any] = {name: [] for name in CURVES}
        return {"seed": seed, "diverged": str(error), **empty, "truth": 0.1}
    images, labels = (torch.from_numpy(part) for part in on.dataset.open_test())
    truth = loop.evaluate(fitted.model, images, labels, fitted.normalisation).accuracy
    return {
        "seed": seed,
        "accuracy": [report.validation_accuracy for report in epochs],
        "loss": [report.validation_loss for report in epochs],
        "training_loss": [report.train_loss for report in epochs],
        "seconds": [report.seconds for report in epochs],
        "truth": truth,
    }


def asked(on: Ground, draw: int, study: optuna.Study) -> tuple[optuna.Trial, Architecture]:
    """The next trial as a real search asks for it: choices by their weights, and stored as trained."""
    study.sampler = weigh(sampler(on, draw), sampling.prior(on.space))
    proposer = Proposer(on.space, on.setting.budget, on.task)
    trial, made = optuna_ask.ask(study, proposer, lambda *_: {})
    return trial, made.architecture


def entry(on: Ground, draw: int, params: dict[str, Any], architecture: Architecture) -> dict[str, Any]:
    """This network, of these answers, trained: a row of the file."""
    spent = cost.total(architecture)
    return {
        "draw": draw,
        "params": params,
        "architecture": architecture.document(),
        "parameters": spent.parameters,
        "macs": spent.macs,
        **measured(on, architecture, seed=1_000 + draw),
    }


def sampler(on: Ground, draw: int) -> optuna.samplers.BaseSampler:
    """Plain draws first, then a search, then plain again: seeded by the draw, so that a broken-off run goes
    on as it would have."""
    if not on.setting.uniform <= draw < on.setting.draws:
        return optuna.samplers.RandomSampler(seed=draw)
    return optuna.samplers.TPESampler(seed=draw)


def train(on: Ground, rows: Path) -> None:
    """Appends the rows that are still missing. One row is one training."""
    done = read(rows)
    study = optuna.create_study(direction="maximize")
    firsts = drawn(on, done)
    for row in firsts:
        study.enqueue_trial(row["params"])
        trial = study.ask()
        sampling.propose(on.space, on.setting.budget, on.task, trial)
        study.tell(trial, row["accuracy"][-1] if row["accuracy"] else 0.1)
    for draw in range(len(firsts), on.setting.draws):
        trial, architecture = asked(on, draw, study)
        row = entry(on, draw, trial.params, architecture)
        study.tell(trial, row["accuracy"][-1] if row["accuracy"] else 0.1)
        append(rows, row)
    for row in again(on, read(rows)):
        append(rows, row)
    for row in known(on, read(rows)):
        append(rows, row)
    for row in more(on, read(rows)):
        append(rows, row)


def drawn(on: Ground, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """First trainings of what a sampler proposed."""
    return [row for row in rows if row["draw"] < on.setting.draws and row["seed"] < FURTHER]


def known(on: Ground, rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The published networks' shapes, as wide as the budget lets them be: what a search may begin with."""
    had = {row["draw"] for row in rows}
    for draw, name in enumerate(PUBLISHED, start=on.setting.draws):
        found = membership.suggestions_of(on.space, Budget(), Task(), published.load(name))
        if draw not in had and isinstance(found, dict):
            answers = membership.Answers(found | {"budget_share": 1.0}, {})
            architecture = sampling.propose(on.space, on.setting.budget, on.task, answers)
            yield entry(on, draw, answers.asked, architecture) | {"published": name}


def again(on: Ground, rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Networks spread evenly over the ranks, from further seeds."""
    firsts = [row for row in drawn(on, rows) if row["accuracy"]]
    had = {(row["draw"], row["seed"]) for row in rows}
    ranked = sorted(firsts, key=lambda row: row["accuracy"][-1])
    count = min(on.setting.repeated, len(ranked))
    chosen = [ranked[round(i * (len(ranked) - 1) / max(1, count - 1))] for i in range(count)]
    for extra in range(1, on.setting.seeds):
        for row in chosen:
            seed = row["seed"] + FURTHER * extra
            if (row["draw"], seed) not in had:
                yield {"draw": row["draw"], **measured(on, Architecture.parse(row["architecture"]), seed)}


def read(rows: Path) -> list[dict[str, Any]]:
    if not rows.exists():
        return []
    lines = rows.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip() and "conditions" not in line[:16]]


def append(rows: Path, row: dict[str, Any]) -> None:
    with rows.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def rounded(value: Any) -> Any:
    """Floats to four significant digits: the file stays small, and 2,000 images tell no more."""
    if isinstance(value, float):
        return float(f"{value:.{SIGNIFICANT}g}")
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    return [rounded(part) for part in value] if isinstance(value, list) else value


def pack(rows: Path, target: Path) -> dict[str, Any]:
    """One compact file: the conditions, the networks with their curves, and the repeats from other seeds."""
    lines = rows.read_text(encoding="utf-8").splitlines()
    conditions = next(json.loads(line)["conditions"] for line in lines if "conditions" in line[:16])
    found = read(rows)
    firsts = [row for row in found if row["seed"] < FURTHER]
    networks = [{**row, **{key: rounded(row[key]) for key in CURVES if key in row}} for row in firsts]
    repeats = [
        {key: rounded(row[key]) for key in ("draw", "seed", *CURVES) if key in row}
        for row in found
        if row["seed"] >= FURTHER
    ]
    packed = {"conditions": conditions, "networks": networks, "repeats": repeats}
    text = json.dumps(packed, separators=(",", ":"))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(gzip.compress(text.encode(), mtime=0))
    return packed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    commands = parser.add_subparsers(required=True, dest="command")
    training = commands.add_parser("train")
    training.add_argument("setting", choices=SETTINGS)
    training.add_argument("--rows", type=Path, required=True)
    training.add_argument("--data-dir", type=Path, required=True)
    training.add_argument("--folder", type=Path, help="unpacked CIFAR-10 (JPEG)")
    packing = commands.add_parser("pack")
    packing.add_argument("rows", type=Path)
    packing.add_argument("target", type=Path)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    if arguments.command == "pack":
        packed = pack(arguments.rows, arguments.target)
        print(f"{len(packed['networks'])} networks, {len(packed['repeats'])} repeats: {arguments.target}")
        return
    on = ground(arguments.setting, arguments.data_dir, arguments.folder)
    if not arguments.rows.exists():
        append(arguments.rows, {"conditions": on.conditions()})
    train(on, arguments.rows)


if __name__ == "__main__":
    main()
