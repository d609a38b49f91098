"""How long a database is waited for, and what is kept when the disk is full as well."""

import os
import signal
from pathlib import Path

import pytest
from bench_samples import FakeTraining, make_bench, make_plan, make_study

from search.machine.signals import ShutdownRequest
from search.optuna_adapter import study as optuna_study
from search.recording import outage, recorder
from search.recording.outage import Outage, OutageTooLongError
from search.worker import trial as worker_trial
from space.errors import StorageError
from storage import leases
from storage.leases import Claim

AWAY = StorageError("cannot use postgresql://me:secret@db/x: connection refused\nand more")


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outage, "RETRY_SECONDS", 0.0)


def test_what_ran_out_of_patience_is_not_waited_for_again() -> None:
    said: list[str] = []
    patience = Outage(0.0, said.append)

    def act() -> None:
        raise AWAY

    with pytest.raises(OutageTooLongError) as first:
        patience.insist(act)
    with pytest.raises(OutageTooLongError) as second:
        Outage(600.0, said.append).wait(first.value)
    assert first.value is second.value
    assert (
        str(first.value)
        == "the database was away for 0 s: cannot use postgresql://me:***@db/x: connection refused"
    )


def test_who_gives_up_does_not_wait() -> None:
    patience = Outage(600.0, lambda _: None, given_up=lambda: True)
    with pytest.raises(OutageTooLongError, match="told to end while the database is away"):
        patience.wait(AWAY)


def test_nobody_is_reaped_before_a_database_that_was_away_could_hear_everyone() -> None:
    patience = Outage(600.0, lambda _: None)
    assert patience.calm(60.0)
    patience.miss()
    assert not patience.calm(0.0)
    patience.back()
    assert not patience.calm(60.0)
    assert patience.calm(0.0)


def test_a_disk_that_cannot_take_the_spool_costs_no_trial(sqlite_url: str, tmp_path: Path) -> None:
    """What is owed is kept in memory, and written into the database once that is back."""
    (tmp_path / "file").touch()  # no folder can be made below it, by root neither
    plan = make_plan()
    engine, record = make_study(sqlite_url, plan, 1)
    said: list[str] = []
    with optuna_study.open_study(sqlite_url, record.name, plan) as opened:
        bench = make_bench(opened, engine, record, FakeTraining(), plan, tmp_path / "file" / "spool")
        bench.patience = Outage(600.0, said.append)
        claim = leases.claim(engine, record.id, "one", 60.0)
        assert isinstance(claim, Claim)
        trial = opened.ask()
        candidate = worker_trial.enter(bench, claim, trial, bench.plan.propose(trial))
        entries = recorder.TrialRecorder(engine, opened, claim, trial, candidate, bench.spool, bench.patience)
        entries._keep()
        entries._keep()
        entries.close(worker_trial.State.FAILED, "for a test", None)
    engine.dispose()
    assert len(said) == 1
    assert "kept in memory" in said[0]


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
