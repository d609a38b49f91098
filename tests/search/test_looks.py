"""What a launch without workers and a worker that follows look at twice a second: no whole ledger."""

from pathlib import Path
from typing import Any, cast

import optuna
import pytest
from ledger_samples import train
from sqlalchemy import Engine
from worker_samples import make_config, make_study

from search.launcher.launcher import Launch
from search.launcher.prepare import Flags
from search.machine.signals import Interrupts
from search.study import finish_plan
from search.worker import worker
from search.worker.left_out import StudiesLeftOut
from storage import candidates, rungs, studies
from storage.leases import Claim
from storage.row_types import RungEntry, Stage, State
from storage.studies import Study

TRIALS = 4


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Studies whose every candidate was read."""
    found, really = list[int](), candidates.candidates

    def read(engine: Engine, study_id: int, **how: Any) -> Any:
        found.append(study_id)
        return really(engine, study_id, **how)

    monkeypatch.setattr(candidates, "candidates", read)
    return found


def study_with_finals(url: str) -> tuple[Engine, Study]:
    config = make_config()
    engine, record = make_study(url, config, TRIALS)
    plan = finish_plan.make_plan(config, None)
    studies.set_finish(engine, record.id, plan.document() | {"rungs": []})
    return engine, studies.find(engine, record.name)


def end_finals(engine: Engine, record: Study) -> None:
    """Every seed of every trial has failed: nothing is left to train."""
    plan = finish_plan.FinishPlan.from_record(record.finish)
    assert plan is not None
    rows = candidates.candidates(engine, record.id)
    for seed in range(plan.finals.seeds):
        epochs = plan.finals.recipe.epochs
        rungs.enter(engine, record.id, [RungEntry(row.id, Stage.FINALS, epochs, seed) for row in rows])
    while isinstance(claimed := rungs.claim(engine, record.id, "one", 60.0), tuple):
        claim, training = claimed
        assert isinstance(claim, Claim)
        rungs.finish(engine, claim, training.id, State.FAILED, reason="for a test")


def test_a_launch_without_workers_reads_the_trials_once_and_when_one_has_ended(
    sqlite_url: str, tmp_path: Path, reads: list[int]
) -> None:
    engine, record = study_with_finals(sqlite_url)
    flags, opened = Flags(sqlite_url, tmp_path, TRIALS, "bench"), cast(optuna.Study, None)
    launch = Launch(flags, engine, record, make_config(), opened, [])

    def look(times: int = 3) -> bool:
        reads.clear()
        waits = [launch._others_work(Interrupts()) for _ in range(times)]
        assert len(set(waits)) == 1
        return waits[0]

    for number in range(TRIALS - 1):
        train(engine, record, number, 0.5)
    assert look() and reads == [], "the second stage is far"
    train(engine, record, TRIALS - 1, 0.5)
    assert look() and reads == [record.id]
    studies.set_trials(engine, record.id, TRIALS + 1)
    assert look() and reads == []
    train(engine, record, TRIALS, 0.5)
    assert look() and reads == [record.id]
    end_finals(engine, record)
    assert not look() and reads == []
    engine.dispose()


@pytest.mark.parametrize("finals", [True, False])
def test_a_worker_that_follows_looks_once_at_a_study_that_is_over(
    finals: bool, sqlite_url: str, monkeypatch: pytest.MonkeyPatch, reads: list[int]
) -> None:
    engine, record = (
        study_with_finals(sqlite_url) if finals else make_study(sqlite_url, make_config(), TRIALS)
    )
    counted, really = list[int](), candidates.tally

    def tally(engine: Engine, study_id: int) -> Any:
        counted.append(study_id)
        return really(engine, study_id)

    left_out = StudiesLeftOut()
    for number in range(TRIALS):
        assert worker._unfinished(engine, None, left_out) is not None
        train(engine, record, number, 0.5)
    if finals:
        assert worker._unfinished(engine, None, left_out) is not None
        end_finals(engine, record)
    monkeypatch.setattr(candidates, "tally", tally)
    reads.clear()
    for _ in range(3):
        assert worker._unfinished(engine, None, left_out) is None
    assert reads == [record.id] * finals and counted == [record.id]
    studies.set_trials(engine, record.id, TRIALS + 1)
    again = worker._unfinished(engine, None, left_out)
    assert again and again.id == record.id, "more was asked for"
    engine.dispose()
