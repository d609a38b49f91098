"""Measures training throughput: this project's loop against the usual one, turn by turn.

    python -m benchmarks.speed.training [--data cifar10] [--networks 001-final slim 002-final] [--images 2560]
                                  [--epochs 1] [--seeds 3] [--json FILE]

Each turn is a fresh process: the reference loop as people run it (one process, two threads, two loader
workers), the same with one thread and no loader workers (as two such processes share two cores), and ours
(one thread). Same network, images, batch size and learning rate. CPU time is that of the process and its
children, wall time that of the steps; neither counts evaluation, nor what a process does once. What differs
in what is measured: ours trains in bfloat16 where the machine has it and pads by reflection; both evaluate in
float32.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

SIDES = {
    "reference, 2 threads": {"OMP_NUM_THREADS": "2", "side": "reference", "loader_workers": 2},
    "reference, 1 thread": {"OMP_NUM_THREADS": "1", "side": "reference", "loader_workers": 0},
    "ours": {"OMP_NUM_THREADS": "1", "side": "ours", "loader_workers": 0},
}


def architecture(name: str, channels: int, image_size: int, classes: int) -> Any:
    """A published network by its name, or `slim`: [2,2,2] blocks of width 16/32/64."""
    from space import published
    from space.architecture import Architecture, Stage, Stem

    if name == "slim":
        stages = tuple(Stage(blocks=2, width=w, stride=s) for w, s in ((16, 1), (32, 2), (64, 2)))
        found = Architecture(stem=Stem(width=16), stages=stages)
    else:
        found = published.find(name).architecture
        assert found is not None, f"{name} has no architecture"
    return found.model_copy(update={"channels": channels, "image_size": image_size, "classes": classes})


def turn(task: dict[str, Any]) -> dict[str, Any]:
    """One training, in this process: seconds, CPU seconds, loss and accuracy."""
    import torch

    from trainer.data import dataset as datasets

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    dataset = datasets.load(task["data"], Path(task["data_dir"]), task["image_size"])
    split = datasets.split(dataset, 0, 0.1, task["images"])
    network = architecture(task["network"], dataset.channels, dataset.image_size, len(dataset.classes))
    _warm_up(task["side"])
    train = _reference if task["side"] == "reference" else _ours
    before = _cpu_seconds()
    found, evaluate = train(task, dataset, split, network)
    cpu, images = _cpu_seconds() - before, found.pop("images")
    spent = {"cpu_ms": 1_000 * cpu / images, "wall_ms": 1_000 * found.pop("seconds") / images}
    spent |= apart(found.pop("epoch_seconds"), images)
    return found | spent | {"accuracy": evaluate(_spread(split.validation))}


def apart(seconds: Sequence[float], images: int) -> dict[str, float | None]:
    """Milliseconds an image in the first epoch, in which a process is cold, and in those after it.

    The second is None where there is one epoch; images are those of all epochs.
    """
    per_epoch, later = images / len(seconds), seconds[1:]
    steady = 1_000 * statistics.mean(later) / per_epoch if later else None
    return {"first_ms": 1_000 * seconds[0] / per_epoch, "steady_ms": steady}


Evaluate = Callable[[Any], float]  # the accuracy on these rows, which is not timed


def _reference(
    task: dict[str, Any], dataset: Any, split: Any, network: Any
) -> tuple[dict[str, Any], Evaluate]:
    import dataclasses

    from benchmarks.speed import reference
    from trainer import model

    settings = reference.Settings(epochs=task["epochs"], loader_workers=task["loader_workers"])
    built = model.build(network)
    trained = reference.train(
        built, (dataset.images[split.train], dataset.labels[split.train]), settings, task["seed"]
    )

    def evaluate(rows: Any) -> float:
        return reference.evaluate(built, (dataset.images[rows], dataset.labels[rows]), settings)

    return dataclasses.asdict(trained), evaluate


def _spread(rows: Any, count: int = 256) -> Any:
    """Some of the validation images, of all classes: a folder's are in the order of theirs."""
    return rows[:: max(1, len(rows) // count)][:count]


def _warm_up(side: str) -> None:
    """What a process does once, so that neither side is charged for it: loading its modules, and for a step
    of torch's own optimizer torch's compiler, which ours does without."""
    if side == "ours":
        from trainer import evaluation, loop

        del evaluation, loop
        return
    import torch

    from benchmarks.speed import reference

    del reference
    weight = torch.zeros(1, requires_grad=True)
    weight.sum().backward()
    torch.optim.SGD([weight], lr=0.1).step()


def _ours(task: dict[str, Any], dataset: Any, split: Any, network: Any) -> tuple[dict[str, Any], Evaluate]:
    import dataclasses

    import torch

    from trainer import evaluation, loop
    from trainer.recipe.document import Recipe

    device = "cuda" if torch.cuda.is_available() else "cpu"
    recipe = Recipe(epochs=task["epochs"], learning_rate=0.1, batch_size=128)
    one = dataclasses.replace(split, validation=split.validation[:1])
    losses, rates = list[float](), list[float]()

    def on_epoch(report: Any) -> None:
        losses.append(report.train_loss)
        rates.append(report.images_per_second)

    fitted = loop.fit(
        network,
        recipe,
        dataset,
        one,
        seed=task["seed"],
        device=device,
        callbacks=loop.TrainingCallbacks(on_epoch=on_epoch),
    )

    def evaluate(rows: Any) -> float:
        found = [torch.from_numpy(part[rows]).to(device) for part in (dataset.images, dataset.labels)]
        return evaluation.evaluate(fitted.model, *found, fitted.normalisation).accuracy

    images = task["epochs"] * (len(split.train) // 128) * 128
    seconds = images / fitted.outcome.images_per_second
    each = [images / task["epochs"] / rate for rate in rates]
    return {"loss": losses[-1], "seconds": seconds, "images": images, "epoch_seconds": each}, evaluate


def _cpu_seconds() -> float:
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(use.ru_utime + use.ru_stime for use in map(resource.getrusage, kinds))


def run(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Every network, seed and side in turn: A B C A B C."""
    rows = []
    for network in given.networks:
        for seed in range(given.seeds):
            for name, side in SIDES.items():
                task = {
                    "side": side["side"],
                    "loader_workers": side["loader_workers"],
                    "network": network,
                    "seed": seed,
                    "data": given.data,
                    "data_dir": str(given.data_dir),
                    "image_size": given.image_size,
                    "images": given.images,
                    "epochs": given.epochs,
                }
                environment = {**os.environ, "OMP_NUM_THREADS": str(side["OMP_NUM_THREADS"])}
                answer = subprocess.run(
                    [sys.executable, "-m", "benchmarks.speed.training", "--turn", json.dumps(task)],
                    env=environment,
                    stdout=subprocess.PIPE,
                    check=True,
                    text=True,
                )
                rows.append({"network": network, "name": name, "seed": seed, **json.loads(answer.stdout)})
    return rows


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Medians of each network and side, and how many times ours is faster, seed by seed."""
    found = []
    for network in dict.fromkeys(row["network"] for row in rows):
        ours = {row["seed"]: row for row in rows if (row["network"], row["name"]) == (network, "ours")}
        for name in SIDES:
            side = [row for row in rows if (row["network"], row["name"]) == (network, name)]
            entry = {"network": network, "name": name}
            for key in ("cpu_ms", "wall_ms", "loss", "accuracy"):
                entry[key] = statistics.median(row[key] for row in side)
            for key in ("cpu_ms", "wall_ms"):
                ratios = sorted(row[key] / ours[row["seed"]][key] for row in side)
                entry[f"{key}_ratio"] = statistics.median(ratios)
                entry[f"{key}_spread"] = [ratios[0], ratios[-1]]
            for key in ("first_ms", "steady_ms"):
                entry[key] = median_of(row[key] for row in side)
                entry[f"{key}_ratio"] = median_of(
                    row[key] and row[key] / ours[row["seed"]][key] for row in side
                )
            found.append(entry)
    return found


def median_of(values: Iterable[float | None]) -> float | None:
    """The median of what was measured; None where nothing was."""
    there = [value for value in values if value is not None]
    return statistics.median(there) if there else None


def table(rows: Sequence[dict[str, Any]]) -> str:
    heads = f"{'CPU ms':>8}{'ours x':>8}{'wall ms':>9}{'ours x':>8}{'loss':>8}{'accuracy':>10}"
    lines = [f"{'network':12}{'loop':24}{heads}"]
    for row in rows:
        lines.append(
            f"{row['network']:12}{row['name']:24}{row['cpu_ms']:>8.2f}{row['cpu_ms_ratio']:>8.2f}"
            f"{row['wall_ms']:>9.2f}{row['wall_ms_ratio']:>8.2f}{row['loss']:>8.3f}"
            f"{100 * row['accuracy']:>9.1f}%"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--data-dir", type=Path, default=Path.home() / ".cache" / "parsimony")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--networks", nargs="+", default=["001-final", "slim", "002-final"])
    parser.add_argument("--images", type=int, default=2_560)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--turn", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.turn:
        print(json.dumps(turn(json.loads(given.turn))))
        return
    rows = run(given)
    found = {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "data": given.data.split(":")[0],
        "images": given.images,
        "epochs": given.epochs,
        "seeds": given.seeds,
        "rows": rows,
        "summary": summary(rows),
    }
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")
    print(table(found["summary"]))


if __name__ == "__main__":
    main()
