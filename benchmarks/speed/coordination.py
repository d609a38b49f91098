"""Measures what a trial costs outside of its training, by size of the study.

That is: propose, judge, claim, report, store.

    python -m benchmarks.speed.coordination [--trials 200 2000 10000] [--workers 1 8] [--rounds 40]
        [--json FILE] [--storage postgresql://...]

Each study is filled with so many finished trials of the default space, then workers run trials whose
training takes no time and reports eight epochs. Milliseconds of wall time a trial, median and quartiles over
all workers; without --storage in a SQLite file. PostgreSQL: any server that can make databases.
"""

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any
from uuid import uuid4

os.environ.setdefault("OMP_NUM_THREADS", "1")

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages._rdb import models
from sqlalchemy import Connection, Engine, create_engine, insert, text

from search.machine.device_lock import DeviceLock
from search.optuna_adapter import statements, storage as optuna_storage, study as optuna_study
from search.recording.outage import Outage
from search.study.config import DataConfig, StudyConfig
from search.study.files import StudyFiles
from search.study.worker_options import WorkerOptions
from search.worker import trial as worker_trial
from search.worker.context import WorkerContext
from space import cost, sampling, space
from space.architecture import Architecture
from space.budget import Budget
from space.space import Task
from storage import database, leases, studies, tables
from storage.leases import Claim
from trainer.outcome import EpochReport, Outcome
from trainer.recipe.document import Recipe

EPOCHS = 8
PARTS = ("claim", "propose", "epochs", "end")
CONFIG = StudyConfig(
    space=space.default(),
    budget=Budget(5_000_000),
    task=Task(),
    recipe=Recipe(epochs=EPOCHS),
    data=DataConfig(
        spec="none",
        name="none",
        image_size=32,
        limit=None,
        validation_share=0.1,
        split_seed=0,
        train_images=45_000,
        validation_images=5_000,
        digest="0" * 64,
        split_digest="0" * 64,
    ),
    sampler="tpe",
    pruner="median",
    seed=0,
)


def curve(architecture: Architecture) -> list[float]:
    """Made-up accuracies: more parameters are better, and no two networks alike."""
    final = 0.5 + cost.total(architecture).parameters / 2e7 + int(architecture.fingerprint[:6], 16) / 2**30
    return [final * (epoch + 4) / (EPOCHS + 4) for epoch in range(1, EPOCHS + 1)]


@dataclass
class Instant:
    """Trains nothing and reports as a training does; remembers when it began and ended."""

    began: float = 0.0
    began_processor: float = 0.0  # the same in seconds of this process's processor
    ended: float = 0.0
    spans: dict[str, list[float]] = field(default_factory=lambda: {part: [] for part in PARTS})

    def __call__(self, architecture: Architecture, seed: int, **calls: Any) -> Outcome:
        del seed
        self.began, self.began_processor = time.perf_counter(), time.process_time()
        scores = curve(architecture)
        try:
            for epoch, score in enumerate(scores, start=1):
                calls["callbacks"].on_epoch(EpochReport(epoch, EPOCHS, 1.0, 1.0, score, 0.1, 0.1, 1.0))
        finally:
            self.ended = time.perf_counter()
        return Outcome(scores[-1], scores[-1], 1.0, EPOCHS, 0.8, 1.0, 5_000)


class Remembering:
    """Random answers, and what was asked: the parameters of a finished trial."""

    def __init__(self, seed: int) -> None:
        self.trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask()

    @property
    def params(self) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
        return self.trial.params, self.trial.distributions


def fill(url: str, name: str, trials: int) -> Engine:
    """A study of so many finished trials, in both books."""
    engine = database.connect(url)
    database.prepare(engine)
    optuna_study.create(url, name, CONFIG)
    record = studies.create(
        engine,
        name,
        trials=10**6,
        max_parameters=CONFIG.budget.max_parameters,
        max_macs=None,
        seed=0,
        settings=CONFIG.document(),
        versions={},
    )
    known, rows = [], []
    for number in range(trials):
        asked = Remembering(number)
        network = sampling.propose(CONFIG.space, CONFIG.budget, CONFIG.task, asked.trial)
        scores = curve(network)
        known.append(_known(asked, network, scores))
        rows.append(_row(record.id, number, network, scores[-1]))
    if trials:
        with optuna_storage.open_storage(url) as storage:
            optuna_id = storage.get_study_id_from_name(name)
        with engine.begin() as connection:
            _store(connection, optuna_id, known)
            connection.execute(insert(tables.candidates), rows)
    return engine


def _store(connection: Connection, study_id: int, known: Sequence[optuna.trial.FrozenTrial]) -> None:
    """Finished trials into Optuna's tables at once: one by one would take longer than what is measured."""
    table = models.TrialModel.__table__
    heads = [
        {
            "number": number,
            "study_id": study_id,
            "state": one.state,
            "datetime_start": statements.as_utc(one.datetime_start),
            "datetime_complete": statements.as_utc(one.datetime_complete),
        }
        for number, one in enumerate(known)
    ]
    stored = insert(table).returning(table.c.trial_id, sort_by_parameter_order=True)
    ids = [row.trial_id for row in connection.execute(stored, heads)]
    parts: dict[str, list[dict[str, Any]]] = {"values": []}
    for trial_id, one in zip(ids, known, strict=True):
        value, kind = models.TrialValueModel.value_to_stored_repr(one.value or 0.0)
        mine = statements.parts_of(one) | {"values": [{"objective": 0, "value": value, "value_type": kind}]}
        for part, entries in mine.items():
            parts.setdefault(part, []).extend({**entry, "trial_id": trial_id} for entry in entries)
    for part, entries in parts.items():
        connection.execute(insert(statements.PARTS[part].__table__), entries)


def _known(asked: Remembering, network: Architecture, scores: list[float]) -> optuna.trial.FrozenTrial:
    params, distributions = asked.params
    spent = cost.total(network)
    return optuna.trial.create_trial(
        params=params,
        distributions=distributions,
        value=scores[-1],
        intermediate_values=dict(enumerate(scores, start=1)),
        user_attrs={"parameters": spent.parameters, "macs": spent.macs},
    )


def _row(study_id: int, number: int, network: Architecture, accuracy: float) -> dict[str, Any]:
    spent, moment = cost.total(network), datetime.now(UTC)
    return {
        "study_id": study_id,
        "number": number,
        "state": "completed",
        "architecture": network.document(),
        "fingerprint": f"{number:x}-{network.fingerprint}",  # random draws may repeat; rows may not
        "parameters": spent.parameters,
        "macs": spent.macs,
        "depth": len(network.stages),
        "accuracy": accuracy,
        "best_accuracy": accuracy,
        "loss": 1.0,
        "epochs": EPOCHS,
        "seed": 0,
        "attempt": 1,
        "proposed_at": moment,
        "finished_at": moment,
        "token": 0,
    }


def work(url: str, name: str, worker: str, rounds: int, start: Barrier, answers: Any) -> None:
    """One worker: its spans in milliseconds, after a round to warm up."""
    optuna_study.quiet()
    engine = database.connect(url)
    train = Instant()
    with (
        optuna_study.open_study(url, name, CONFIG) as opened,
        tempfile.TemporaryDirectory() as folder,
    ):
        context = context_of(opened, engine, studies.find(engine, name).id, train, Path(folder))
        _one(context, train, worker)
        train.spans = {part: [] for part in PARTS}
        start.wait()
        for _ in range(rounds):
            _one(context, train, worker)
    answers.put(train.spans)


def _one(context: WorkerContext, train: Instant, worker: str) -> None:
    begun = time.perf_counter()
    claim = leases.claim(context.engine, context.study_id, worker, 60.0)
    claimed = time.perf_counter()
    assert isinstance(claim, Claim)
    worker_trial.run(context, claim)
    moments = (begun, claimed, train.began, train.ended, time.perf_counter())
    for part, since, until in zip(PARTS, moments, moments[1:], strict=False):
        train.spans[part].append(1_000 * (until - since))


def context_of(
    opened: optuna.Study, engine: Engine, study_id: int, train: Instant, folder: Path
) -> WorkerContext:
    return WorkerContext(
        study=opened,
        engine=engine,
        study_id=study_id,
        config=CONFIG,
        final_data=CONFIG.data,
        train_network=train,
        options=WorkerOptions(storage=str(engine.url), data_dir=folder),
        spool=folder / "spool",
        files=StudyFiles(folder / "kept", 0),
        device_lock=DeviceLock(folder / "slots", "none"),
        outage=Outage(60.0),
        device="none",
        versions={},
        cancelled=lambda: False,
        abandon=lambda: None,
    )


def measure(url: str, trials: int, workers: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    """One study of this size, which grows by the few trials that are measured in it."""
    name = f"bench-{uuid4().hex[:8]}"
    fill(url, name, trials).dispose()
    return [_measured(url, name, trials, count, max(rounds // count, 3)) for count in workers]


def _measured(url: str, name: str, trials: int, workers: int, rounds: int) -> dict[str, Any]:
    fresh = multiprocessing.get_context("spawn")
    answers, start = fresh.Queue(), fresh.Barrier(workers)
    processes = [
        fresh.Process(target=work, args=(url, name, f"worker-{i}", rounds, start, answers))
        for i in range(workers)
    ]
    for process in processes:
        process.start()
    spans = [answers.get() for _ in processes]
    for process in processes:
        process.join()
    parts = {part: [x for found in spans for x in found[part]] for part in PARTS}
    totals = [sum(trial) for trial in zip(*parts.values(), strict=True)]
    low, middle, high = statistics.quantiles(totals, n=4)
    return {
        "trials": trials,
        "workers": workers,
        "rounds": rounds,
        "milliseconds": {"median": middle, "low_quartile": low, "high_quartile": high},
        "parts": {part: statistics.median(values) for part, values in parts.items()},
    }


@contextmanager
def store(server: str | None) -> Iterator[str]:
    """A database of its own, removed afterwards."""
    if server is None:
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{folder}/bench.db"
        return
    engine = create_engine(database.normalise(server), isolation_level="AUTOCOMMIT")
    name = f"bench_{uuid4().hex}"
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield engine.url.set(database=name).render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        engine.dispose()


def table(result: dict[str, Any]) -> str:
    lines = [f"{result['kind']}, milliseconds a trial outside of training", ""]
    lines.append(
        f"{'trials':>8}{'workers':>9}{'median':>9}{'quartiles':>16}" + "".join(f"{p:>9}" for p in PARTS)
    )
    for row in result["rows"]:
        spent = row["milliseconds"]
        quartiles = f"{spent['low_quartile']:.0f}-{spent['high_quartile']:.0f}"
        parts = "".join(f"{row['parts'][part]:>9.1f}" for part in PARTS)
        lines.append(f"{row['trials']:>8,}{row['workers']:>9}{spent['median']:>9.0f}{quartiles:>16}{parts}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trials", type=int, nargs="+", default=[200, 2_000, 10_000])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=40, help="trials measured, of all workers")
    parser.add_argument("--storage", help="postgresql://..., whose server can make databases")
    parser.add_argument("--json", type=Path, help="write the figures here")
    given = parser.parse_args()
    optuna_study.quiet()
    with store(given.storage) as url:
        rows = [row for n in given.trials for row in measure(url, n, given.workers, given.rounds)]
    kind = "PostgreSQL" if given.storage else "SQLite"
    result = {
        "kind": kind,
        "python": platform.python_version(),
        "optuna": optuna.__version__,
        "cores": os.cpu_count(),
        "rows": rows,
    }
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()
