"""How long a database is waited for, and what is kept when the disk is full as well."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ledger_samples import proposal
from sqlalchemy import Engine, text
from worker_samples import FakeTraining, make_config, make_context, make_study

from search.machine.signals import ShutdownRequest
from search.optuna_adapter import study as optuna_study
from search.recording import outage as outages, recorder
from search.recording.outage import Outage, OutageTooLongError
from search.recording.writer import TrialRows
from search.study.worker_options import WorkerOptions
from search.worker import trial as worker_trial, worker
from search.worker.context import WorkerContext
from space.errors import StorageError, UnreachableError
from storage import candidates, database, leases
from storage.leases import Claim
from storage.row_types import State, TrainingMetrics

AWAY = StorageError("cannot use postgresql://me:secret@db/x: connection refused\nand more")


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "RETRY_SECONDS", 0.0)


def test_what_was_away_for_too_long_is_not_waited_for_again() -> None:
    outage = Outage(0.0)

    def act() -> None:
        raise AWAY

    with pytest.raises(OutageTooLongError) as first:
        outage.insist(act)
    with pytest.raises(OutageTooLongError) as second:
        Outage(600.0).wait(first.value)
    assert first.value is second.value
    assert (
        str(first.value)
        == "the database was away for 0 s: cannot use postgresql://me:***@db/x: connection refused"
    )


def test_who_gives_up_does_not_wait() -> None:
    outage = Outage(600.0, cancelled=lambda: True)
    with pytest.raises(OutageTooLongError, match="told to end while the database is away"):
        outage.wait(AWAY)


def test_nobody_is_reaped_before_a_database_that_was_away_could_hear_everyone() -> None:
    outage = Outage(600.0)
    assert outage.calm(60.0)
    outage.miss()
    assert not outage.calm(0.0)
    outage.back()
    assert not outage.calm(60.0)
    assert outage.calm(0.0)


def test_a_worker_that_comes_after_an_outage_takes_no_trial_from_one_that_lives(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first look is after it: it took the trials of all who were not heard yet, and ended them so."""
    config = make_config()
    engine, record = make_study(sqlite_url, config, 2)
    with optuna_study.open_study(sqlite_url, record.name, config) as opened:
        opened.ask()
        alive = leases.claim(engine, record.id, "alive", 60.0)
        assert isinstance(alive, Claim)
        running = candidates.propose(engine, alive, proposal(0))
        with database.writing(engine) as connection:
            connection.execute(text("UPDATE search_claims SET expires_at = 100, renewed_at = 40"))

        @contextmanager
        def open_context(options: WorkerOptions, *_: object) -> Iterator[WorkerContext]:
            context = make_context(opened, engine, record, FakeTraining(), config, tmp_path)
            context.outage = Outage(options.database_timeout_seconds)
            yield context

        shutdown = ShutdownRequest(1.0)
        monkeypatch.setattr(worker, "open_context", open_context)
        monkeypatch.setattr(worker.time, "sleep", lambda _: setattr(shutdown, "count", 1))
        away = iter([UnreachableError("connection refused"), UnreachableError("connection refused")])
        connect = worker._connect

        def connect_at_last(url: str) -> Engine:
            for error in away:
                raise error
            return connect(url)

        monkeypatch.setattr(worker, "_connect", connect_at_last)
        options = WorkerOptions(
            storage=sqlite_url, data_dir=tmp_path, study="bench", name="new", parent=os.getpid()
        )
        worker._work_once(options, shutdown)
    states = [(row.worker, row.state) for row in candidates.candidates(engine, record.id)]
    assert states == [("alive", State.RUNNING), ("one", State.COMPLETED)]
    metrics = TrainingMetrics(0.5, 0.5, 1.0, 3, 1.0, 100.0)
    candidates.finish(engine, alive, running.id, State.COMPLETED, outcome=metrics)
    engine.dispose()


def test_a_disk_that_cannot_take_the_spool_costs_no_trial(
    sqlite_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What is owed is kept in memory, and written into the database once that is back."""
    (tmp_path / "file").touch()  # no folder can be made below it, by root neither
    config = make_config()
    engine, record = make_study(sqlite_url, config, 1)
    caplog.set_level("INFO", "search")
    with optuna_study.open_study(sqlite_url, record.name, config) as opened:
        context = make_context(opened, engine, record, FakeTraining(), config, tmp_path / "file" / "spool")
        context.outage = Outage(600.0)
        claim = leases.claim(engine, record.id, "one", 60.0)
        assert isinstance(claim, Claim)
        trial = opened.ask()
        candidate = worker_trial.record(context, claim, trial, context.config.propose(trial))
        entries = recorder.TrialRecorder(
            TrialRows(engine, opened, claim, trial, candidate), context.spool, context.outage
        )
        entries._keep()
        entries._keep()
        entries.close(worker_trial.State.FAILED, "for a test", None)
    engine.dispose()
    assert len(caplog.messages) == 1
    assert "kept in memory" in caplog.messages[0]


def test_a_worker_that_is_told_twice_what_its_launcher_was_told_finishes_its_trial() -> None:
    """A batch system's SIGTERM reaches it directly and from the launcher: SIGUSR1 is its second word."""
    launched, by_hand = ShutdownRequest(60.0, parent=os.getppid()), ShutdownRequest(60.0)
    for ending in (launched, by_hand):
        ending._heard(signal.SIGTERM, None)
        assert ending.draining
        assert not ending.cancelled()
        ending._heard(signal.SIGTERM, None)
    assert not launched.cancelled()
    assert by_hand.cancelled()
    launched._at_once(signal.SIGUSR1, None)
    assert launched.cancelled()
    orphan = ShutdownRequest(60.0, parent=1 if os.getppid() != 1 else 2)
    orphan._heard(signal.SIGTERM, None)
    orphan._heard(signal.SIGTERM, None)
    assert orphan.cancelled()
