"""Optuna's own tables lie in the same database; each leaves the other's alone."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier

import optuna
from ledger_samples import epoch, make_study, outcome, start
from optuna.storages import RDBStorage
from sqlalchemy import Engine, MetaData, inspect, select
from worker_samples import make_config

from search.optuna_adapter import storage as adapter_storage, study as optuna_study
from storage import candidates, database, migrations
from storage.database import engine_options
from storage.row_types import State

TRIALS = 8


@contextmanager
def optuna_storage(url: str) -> Iterator[RDBStorage]:
    storage = RDBStorage(database.normalise(url), engine_kwargs=engine_options(url))
    yield storage
    storage.engine.dispose()


def optimise(storage: RDBStorage, name: str, trials: int = 2) -> list[float]:
    study = optuna.create_study(storage=storage, study_name=name, load_if_exists=True)
    for _ in range(trials):
        trial = study.ask()
        trial.report(trial.suggest_float("x", 0, 1), 1)
        study.tell(trial, trial.params["x"])
    return [trial.value for trial in study.trials if trial.value is not None]


def contents(engine: Engine, ours: bool) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table, of ours or of all the others."""
    metadata = MetaData()
    metadata.reflect(engine, only=lambda name, _: name.startswith("search_") == ours)
    with database.reading(engine) as connection:
        return {
            name: sorted((tuple(row) for row in connection.execute(select(table))), key=repr)
            for name, table in metadata.tables.items()
        }


def test_our_migrations_leave_the_tables_of_optuna_alone(database_url: str) -> None:
    with optuna_storage(database_url) as storage:
        values = optimise(storage, "before")
        engine = database.connect(database_url)
        before = contents(engine, ours=False)
        database.prepare(engine)
        assert contents(engine, ours=False) == before
        assert "alembic_version" in before
        assert optimise(storage, "before", trials=0) == values
        engine.dispose()


def test_the_tables_of_optuna_leave_ours_alone(engine: Engine, database_url: str) -> None:
    make_study(engine)
    before = contents(engine, ours=True)
    with optuna_storage(database_url) as storage:
        assert len(optimise(storage, "after")) == 2
    assert contents(engine, ours=True) == before
    database.prepare(engine)
    with database.reading(engine) as connection:
        assert migrations.version(connection) == migrations.HEAD


def test_a_worker_writes_to_both_in_turn(engine: Engine, database_url: str) -> None:
    study = make_study(engine, trials=TRIALS)
    with optuna_storage(database_url) as storage:
        theirs = optuna.create_study(storage=storage, study_name="digits", direction="maximize")
        for _ in range(TRIALS):
            trial = theirs.ask()
            claim, candidate = start(engine, study, trial.number)
            accuracy = trial.suggest_float("x", 0, 1)
            candidates.save_epoch(engine, claim, candidate.id, epoch(1, accuracy))
            trial.report(accuracy, 1)
            candidates.finish(engine, claim, candidate.id, State.COMPLETED, outcome=outcome(accuracy))
            theirs.tell(trial, accuracy)
        (best,) = candidates.best(engine, study.id)
        assert (best.number, best.accuracy) == (theirs.best_trial.number, theirs.best_value)
    assert len(inspect(engine).get_table_names()) > 8


def test_launchers_that_meet_at_an_empty_database_make_one_study(database_url: str) -> None:
    optuna_study.quiet()
    gate = Barrier(6)

    def launch(_: int) -> None:
        gate.wait(60)
        optuna_study.create(database_url, "both", make_config())

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(launch, range(6)))
    with adapter_storage.open_storage(database_url) as storage:
        assert optuna.get_all_study_names(storage) == ["both"]
