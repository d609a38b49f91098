"""A study is deleted or renamed in optuna-dashboard while somebody is at it: the ledger counts."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import in_the_dashboard
import pytest
from command import run
from ledger_samples import proposal
from sqlalchemy import text
from worker_samples import FakeTraining, make_config, make_context, make_study

from search.launcher.launcher import Launch
from search.launcher.prepare import Flags
from search.optuna_adapter import care, study as optuna_study
from search.recording import reconcile as reconciling, recorder
from search.study.config import PrunerName
from search.worker import worker
from search.worker.context import WorkerContext
from space.architecture import Architecture
from space.errors import StudyError
from storage import candidates, database, invariants, leases, studies
from storage.leases import Claim
from storage.row_types import State
from trainer.outcome import Outcome

Change = Callable[[str], None]

CHANGES: list[Change] = [
    partial(in_the_dashboard.delete, name="bench"),
    partial(in_the_dashboard.rename, old="bench", new="monday"),
]


class Interrupted(FakeTraining):
    """A training of six epochs that lets something happen before the fifth, past every pruner's warm-up."""

    def __init__(self, happens: Callable[[], None]) -> None:
        super().__init__(epochs=6)
        self.happens = happens

    def __call__(self, architecture: Architecture, seed: int, **calls: Any) -> Outcome:
        def on_batch(step: int, steps: int) -> None:
            if step == 5:
                self.happens()
            calls["callbacks"].on_batch(step, steps)

        return super().__call__(architecture, seed, callbacks=replace(calls["callbacks"], on_batch=on_batch))


@contextmanager
def context_on(url: str, folder: Path, train: FakeTraining, pruner: PrunerName) -> Iterator[WorkerContext]:
    config = make_config(epochs=6, pruner=pruner)
    engine, record = make_study(url, config, 3)
    with optuna_study.open_study(url, record.name, config) as opened:
        optuna_study.identify(opened, record.id)
        yield make_context(opened, engine, record, train, config, folder)
    engine.dispose()


@pytest.mark.parametrize("change", CHANGES, ids=["deleted", "renamed"])
@pytest.mark.parametrize(
    ("pruner", "plain"),
    [
        ("median", False),
        ("median", True),
        ("asha", False),
        ("asha", True),
        ("hyperband", False),
        ("none", False),
    ],
)
def test_a_trial_under_way_is_completed_whoever_the_pruner_is(
    pruner: PrunerName,
    plain: bool,
    change: Change,
    sqlite_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "search")
    if plain:
        monkeypatch.setenv("SEARCH_PLAIN_OPTUNA", "1")
    monkeypatch.setattr(recorder, "ANSWER_SECONDS", 60.0)  # a machine that is busy prunes nothing by that
    with context_on(sqlite_url, tmp_path, Interrupted(lambda: change(sqlite_url)), pruner) as context:
        assert worker.run_next(context) == State.COMPLETED
        (row,) = candidates.candidates(context.engine, context.study_id)
        assert (row.state, row.epochs) == (State.COMPLETED, 6)
        assert len(candidates.epochs(context.engine, context.study_id)[row.id]) == 6
        assert leases.running(context.engine, context.study_id) == []
        assert invariants.check(context.engine, context.study_id) == []
        said = [line for line in caplog.messages if "the pruner cannot say, so it goes on" in line]
        assert bool(said) == (plain or pruner in ("asha", "hyperband")), "the fast median asks for no trial"
        with pytest.raises(KeyError):
            worker.run_next(context)


def test_what_a_worker_cannot_go_on_with_is_lost_and_tried_again(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ran for ever, under no claim, and its network was trained by nobody."""

    def gone(context: WorkerContext, claim: Claim) -> State:
        candidates.propose(context.engine, claim, proposal(context.study.ask().number))
        raise KeyError("it is gone")

    monkeypatch.setattr(worker.worker_trial, "run", gone)
    with context_on(sqlite_url, tmp_path, FakeTraining(), "none") as context:
        with pytest.raises(KeyError):
            worker.run_next(context)
        (row,) = candidates.candidates(context.engine, context.study_id)
        assert (row.state, row.reason) == (State.LOST, "worker one gave it back")
        assert candidates.next_retry(context.engine, context.study_id) == row
        assert invariants.check(context.engine, context.study_id) == []
        assert reconciling.disagreements(context.study, [row]) == []


@pytest.mark.parametrize("deleted", [False, True])
def test_repair_gives_a_trial_back_that_runs_under_no_claim(
    deleted: bool, sqlite_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with context_on(sqlite_url, tmp_path, FakeTraining(epochs=6), "none") as context:
        claim = leases.claim(context.engine, context.study_id, "one", 60.0)
        assert isinstance(claim, Claim)
        worker.worker_trial.propose_new(context, claim)
        with database.writing(context.engine) as connection:
            connection.execute(text("DELETE FROM search_claims"))
        (problem,) = invariants.check(context.engine, context.study_id)
        assert problem == "trial 0 is running and has 0 claims, not one"
        if deleted:
            in_the_dashboard.delete(sqlite_url, "bench")
        store = ("--storage", sqlite_url)
        repaired = run(capsys, "db", "repair", "bench", *store)
        assert repaired.out.startswith("bench: 1 trial ran under no claim: lost, to be tried again\n")
        assert "the books agree" in run(capsys, "db", "check", "bench", *store).out
        (row,) = candidates.candidates(context.engine, context.study_id)
        assert (row.state, candidates.next_retry(context.engine, context.study_id)) == (State.LOST, row)
        assert "no claim" not in run(capsys, "db", "repair", "bench", *store).out


def test_repair_leaves_a_trial_alone_that_a_worker_holds(
    sqlite_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with context_on(sqlite_url, tmp_path, FakeTraining(), "none") as context:
        claim = leases.claim(context.engine, context.study_id, "one", 60.0)
        assert isinstance(claim, Claim)
        _, row, _ = worker.worker_trial.propose_new(context, claim)
        assert "no claim" not in run(capsys, "db", "repair", "bench", "--storage", sqlite_url).out
        assert candidates.find(context.engine, context.study_id, row.number).state == State.RUNNING


@pytest.mark.parametrize("change", CHANGES, ids=["deleted", "renamed"])
def test_a_launch_whose_worker_dies_then_ends_with_the_line_of_what_happened(
    change: Change, sqlite_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It was told as a fault of the program: that no such trial has been created."""
    caplog.set_level("INFO", "search")
    with context_on(sqlite_url, tmp_path, FakeTraining(), "none") as context:
        claim = leases.claim(context.engine, context.study_id, "one", 60.0)
        assert isinstance(claim, Claim)
        candidates.propose(context.engine, claim, proposal(context.study.ask().number))
        change(sqlite_url)
        record = studies.find(context.engine, "bench")
        flags = Flags(sqlite_url, tmp_path, 3, "bench")
        launch = Launch(flags, context.engine, record, context.config, context.study, [])
        assert not launch._on_death("one")
        assert [row.state for row in candidates.candidates(context.engine, record.id)] == [State.LOST]
        assert "trial 0: Optuna's part of it is gone, the ledger counts: " in caplog.messages[-1]
        with pytest.raises(KeyError):
            launch._reconciled()
        with pytest.raises(StudyError, match=r"was deleted: `search db repair|was renamed in the dashboard"):
            optuna_study.require_there(context.study, context.engine, "bench")


def test_a_worker_whose_study_was_deleted_does_not_take_the_next_one_for_it(
    database_url: str, tmp_path: Path
) -> None:
    """A worker by hand that was stopped (Ctrl-Z) trained by its old settings into the study that was launched
    meanwhile: networks of 40 times its budget."""
    train = FakeTraining(epochs=6)
    with context_on(database_url, tmp_path, train, "none") as context:
        assert worker.work_on_one(context) == State.COMPLETED
        studies.delete(context.engine, context.study_id, lambda at: care.delete(at, "bench"))
        engine, record = make_study(database_url, make_config(max_parameters=100_000), 3, "new")
        with pytest.raises(StudyError, match=f"id {context.study_id} was deleted"):
            worker.work_on_one(context)
        assert candidates.candidates(engine, record.id) == [] and len(train.asked) == 1
        engine.dispose()
