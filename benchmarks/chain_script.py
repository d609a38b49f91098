"""What one would write with Optuna and this project's trainer alone: the script that the chain compares with.

    python -m benchmarks.chain_script STUDY.db --seconds 300 [--workers auto] [--data ...] [--epochs 6]
        [--max-params N] [--max-macs N] [--train-images N] [--seed N]

Called by benchmarks/chain.py. It draws from the same space, widths too, as plain parameters, and refuses what
exceeds the budget; trains by the brief recipe of the data set with our trainer, validating after each epoch;
Optuna's TPE proposes and its median prunes after a third of the epochs. `study.optimize` runs in a process
for each core or GPU. Optuna's tables in a SQLite file are all that it writes.
"""

import argparse
import multiprocessing
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded

STUDY = "plain"


def work(given: argparse.Namespace, number: int, ends: float, trials: int | None = None) -> None:
    """One process: trials until the time is up, or so many were asked for."""
    os.environ.update(slots(given.workers)[number].environment)  # before torch is loaded
    import optuna
    import torch

    from search import settings
    from space import sampling
    from space.budget import judge
    from space.errors import DivergedError
    from trainer import loop
    from trainer.callbacks import TrainingCallbacks
    from trainer.data import dataset as datasets
    from trainer.outcome import EpochReport

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    dataset = datasets.load(given.data, given.data_dir)
    is_small = len(dataset.labels) < settings.SMALL
    share = settings.SMALL_VALIDATION_SHARE if is_small else settings.VALIDATION_SHARE
    split = datasets.split(dataset, given.seed, share, given.train_images)
    recipe = recipe_of(given, dataset, len(split.train))
    space, budget, task = ground(given)

    def objective(trial: Any) -> float:
        network = sampling.plain(space, task, trial)
        if not judge(network, budget).fits:
            raise optuna.TrialPruned
        trial.set_user_attr("network", network.document())

        def on_epoch(report: EpochReport) -> None:
            trial.report(report.validation_accuracy, report.epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

        try:
            heard = TrainingCallbacks(on_epoch=on_epoch)
            fitted = loop.fit(
                network, recipe, dataset, split, seed=trial.number, device=None, callbacks=heard
            )
        except DivergedError:
            raise optuna.TrialPruned from None
        return fitted.outcome.accuracy

    study = optuna.create_study(
        storage=url(given.database),
        study_name=STUDY,
        direction="maximize",
        load_if_exists=True,
        sampler=optuna.samplers.TPESampler(seed=given.seed * 1_000 + number),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=10, n_warmup_steps=given.epochs // 3 + 1),
    )
    left = max(0.0, ends - time.time())
    study.optimize(objective, n_trials=trials, timeout=left, catch=(torch.OutOfMemoryError,))


def recipe_of(given: argparse.Namespace, dataset: Any, images: int) -> Any:
    """That of a trial of our search of so many training images."""
    from trainer.data import alignment
    from trainer.recipe.defaults import brief_recipe

    aligned = alignment.is_aligned(dataset.images)
    return brief_recipe(given.data, images, given.epochs, dataset.image_size, aligned)


def ground(given: argparse.Namespace) -> tuple[Any, Any, Any]:
    """The space, the budget, and what a network for these images takes and gives."""
    from space import space
    from space.budget import Budget
    from space.space import Task
    from trainer.data import dataset as datasets

    dataset = datasets.load(given.data, given.data_dir)
    task = Task(channels=dataset.channels, image_size=dataset.image_size, classes=len(dataset.classes))
    return space.default().for_images(task.image_size), Budget(given.max_params, given.max_macs), task


def slots(workers: str) -> Sequence[Any]:
    """Where the processes run: as many as are said, else one a GPU or core."""
    from search.machine import devices

    return devices.slots("all", None if workers == "auto" else int(workers))


def url(database: Path) -> str:
    return f"sqlite:///{database}"


def finished(database: Path) -> list[Any]:
    """Trials that were trained, to the end or until the median stopped them, as Optuna has them."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        trials = optuna.load_study(storage=url(database), study_name=STUDY).trials
    except KeyError:
        return []  # the time was up before a process had begun
    return [one for one in trials if one.state.is_finished() and one.intermediate_values]


def best(database: Path) -> dict[str, Any]:
    """The document of the network that validated best. Raises SystemExit where none was trained to the
    end."""
    whole = [one for one in finished(database) if one.state.name == "COMPLETE"]
    if not whole:
        raise SystemExit("the plain script trained nothing to the end in its time; give it more")
    network: dict[str, Any] = max(whole, key=lambda one: one.value).user_attrs["network"]
    return network


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("database", type=Path)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--workers", default="auto")
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--data-dir", type=Path, default=Path.home() / ".cache" / "parsimony")
    parser.add_argument("--train-images", type=int)
    parser.add_argument("--max-params", type=int, default=300_000)
    parser.add_argument("--max-macs", type=int)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(words)


def main() -> None:
    given = arguments()
    ends = time.time() + given.seconds
    import optuna

    optuna.storages.RDBStorage(url(given.database))  # the tables, before processes meet at them
    fresh = multiprocessing.get_context("spawn")
    processes = [
        fresh.Process(target=work, args=(given, at, ends)) for at in range(len(slots(given.workers)))
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(max(0.0, ends - time.time()))
    for process in processes:
        process.kill()  # what has not ended by now does not count
        process.join()


if __name__ == "__main__":
    main()
