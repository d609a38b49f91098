"""A plain Optuna script to compare with: its own storage, `study.optimize` in N processes.

    python -m benchmarks.speed.plain STUDY.db --seconds 300 --processes 2 [--data ...] [--epochs 8]
        [--max-macs N]

For comparison alone (benchmarks/speed/searches.py). It is spared what they get wrong: it draws from the same
space, within the same budget, and counts parameters by the same formula. Each process trains with the
reference loop on one thread, reports each epoch and prunes by the same median. Optuna writes down the rest.
"""

import argparse
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded


def arguments(parser: argparse.ArgumentParser) -> None:
    """What both sides of the comparison are told."""
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--data-dir", type=Path, default=Path.home() / ".cache" / "parsimony")
    parser.add_argument("--train-images", type=int)
    parser.add_argument("--max-params", type=int, default=5_000_000)
    parser.add_argument("--max-macs", type=int)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)


def work(given: argparse.Namespace, url: str, number: int, ends: float, trials: int | None = None) -> None:
    """One process: trials until the time is up, or so many were made."""
    import optuna
    import torch

    from benchmarks.speed import reference
    from space import sampling, space
    from space.budget import Budget
    from trainer import model
    from trainer.data import dataset as datasets
    from trainer.recipe import defaults as recipe_defaults

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    dataset = datasets.load(given.data, given.data_dir)
    split = datasets.split(dataset, given.seed, 0.1, given.train_images)
    parts = [(dataset.images[rows], dataset.labels[rows]) for rows in (split.train, split.validation)]
    of_images = task_of(dataset)
    usual = recipe_defaults.brief_recipe(given.data, len(split.train), given.epochs)
    settings = reference.Settings(
        given.epochs, usual.batch_size, usual.learning_rate, usual.momentum, usual.weight_decay, 0
    )
    default, budget = space.default(), Budget(given.max_params, given.max_macs)

    def objective(trial: Any) -> float:
        network = sampling.propose(default, budget, of_images, trial)

        built, accuracy = model.build(network), 0.0

        def on_epoch(epoch: int) -> None:
            nonlocal accuracy
            accuracy = reference.evaluate(built, parts[1], settings)
            trial.report(accuracy, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

        reference.train(built, parts[0], settings, trial.number, on_epoch)
        return accuracy

    study = optuna.create_study(
        storage=url,
        study_name="plain",
        direction="maximize",
        load_if_exists=True,
        sampler=optuna.samplers.TPESampler(seed=given.seed * 1_000 + number),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=10, n_warmup_steps=given.epochs // 3 + 1),
    )
    study.optimize(objective, n_trials=trials, timeout=max(0.0, ends - time.time()))


def task(given: argparse.Namespace) -> Any:
    """What a network for these images takes and gives."""
    from trainer.data import dataset as datasets

    return task_of(datasets.load(given.data, given.data_dir))


def task_of(dataset: Any) -> Any:
    from space.space import Task

    return Task(channels=dataset.channels, image_size=dataset.image_size, classes=len(dataset.classes))


def best(url: str, given: argparse.Namespace) -> Any:
    """The network of the best trial by validation, an Architecture. Raises SystemExit where none was trained
    to the end."""
    import optuna

    from space import sampling, space
    from space.budget import Budget

    try:
        params = optuna.load_study(storage=url, study_name="plain").best_params
    except (KeyError, ValueError):  # no process came to make the study, or no trial to its end
        raise SystemExit("the plain script trained nothing to the end in its time; give it more") from None
    answers = optuna.trial.FixedTrial(params)
    return sampling.propose(space.default(), Budget(given.max_params, given.max_macs), task(given), answers)


def results(url: str) -> list[dict[str, Any]]:
    """Trained candidates: when they ended, in seconds since 1970, and their accuracy if not pruned."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        trials = optuna.load_study(storage=url, study_name="plain").trials
    except KeyError:
        return []  # the time was up before a process had begun
    return [
        {
            "ended": trial.datetime_complete.timestamp(),
            "accuracy": trial.value if trial.state.name == "COMPLETE" else None,
        }
        for trial in trials
        if trial.state.name in ("COMPLETE", "PRUNED") and trial.datetime_complete
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("database", type=Path)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--processes", type=int, default=2)
    arguments(parser)
    given = parser.parse_args()
    url, ends = f"sqlite:///{given.database}", time.time() + given.seconds
    import optuna

    optuna.storages.RDBStorage(url)  # the tables, before processes meet at them
    fresh = multiprocessing.get_context("spawn")
    processes = [
        fresh.Process(target=work, args=(given, url, number, ends)) for number in range(given.processes)
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
