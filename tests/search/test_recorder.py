"""The database goes away in the middle of a training: restarted, frozen, for too long, for good."""

import errno
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from command import run
from network_files import lie_on_nfs
from optuna.trial import TrialState
from postgres_server import Postgres
from sqlalchemy import text
from worker_samples import FakeTraining, make_config, make_context, make_study

from search.launcher.launcher import Launch
from search.launcher.prepare import Flags
from search.launcher.worker_group import WorkerGroup
from search.optuna_adapter import study as optuna_study
from search.recording import outage, reconcile as reconciling, recorder, recovery, spool
from search.recording.outage import Outage
from search.recording.writer import TrialRows
from search.study import files
from search.worker import trial as worker_trial
from search.worker.context import WorkerContext
from space.architecture import Architecture
from space.errors import LeaseLostError, StorageError
from storage import candidates, leases, studies
from storage.leases import Claim
from storage.row_types import Epoch, State, TrainingMetrics


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "search")
    monkeypatch.setattr(recorder, "ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(outage, "RETRY_SECONDS", 0.1)


class Stepwise(FakeTraining):
    """A training of six epochs that lets something happen before each of them."""

    def __init__(self, happens: dict[int, Callable[[], object]]) -> None:
        super().__init__(epochs=6)
        self.happens = happens

    def __call__(self, architecture: Architecture, seed: int, **calls):  # type: ignore[no-untyped-def]
        def on_batch(step: int, steps: int) -> None:
            self.happens.pop(step, lambda: None)()
            calls["callbacks"].on_batch(step, steps)

        callbacks = replace(calls["callbacks"], on_batch=on_batch)
        return super().__call__(architecture, seed, callbacks=callbacks)


@contextmanager
def context_on(url: str, folder: Path, train: FakeTraining, timeout: float = 60.0) -> Iterator[WorkerContext]:
    config = make_config(epochs=6)
    engine, record = make_study(url, config, 3)
    with optuna_study.open_study(url, record.name, config) as opened:
        context = make_context(opened, engine, record, train, config, folder)
        context.outage = Outage(timeout)
        yield context
    engine.dispose()


def take(context: WorkerContext, worker: str = "one") -> Claim:
    claim = leases.claim(context.engine, context.study_id, worker, 60.0)
    assert isinstance(claim, Claim)
    return claim


def require_all_written(context: WorkerContext, folder: Path) -> None:
    (row,) = candidates.candidates(context.engine, context.study_id)
    assert row.state == State.COMPLETED
    stored = candidates.epochs(context.engine, context.study_id)[row.id]
    assert [epoch.epoch for epoch in stored] == [1, 2, 3, 4, 5, 6]
    (trial,) = context.study.get_trials(deepcopy=False)
    assert (trial.state, trial.value) == (TrialState.COMPLETE, row.accuracy)
    assert sorted(trial.intermediate_values) == [1, 2, 3, 4, 5, 6]
    assert not list(folder.glob("*.json"))


def test_a_restart_of_the_server_costs_nothing(server: Postgres, tmp_path: Path) -> None:
    train = Stepwise({2: server.stop, 5: server.start})
    with context_on(server.url(), tmp_path, train) as context:
        assert worker_trial.run(context, take(context)) == State.COMPLETED
        require_all_written(context, tmp_path)


def test_a_server_that_comes_back_after_the_training_is_waited_for(server: Postgres, tmp_path: Path) -> None:
    later = threading.Timer(3.0, server.start)
    train = Stepwise({3: server.kill, 6: later.start})
    with context_on(server.url(), tmp_path, train) as context:
        assert worker_trial.run(context, take(context)) == State.COMPLETED
        require_all_written(context, tmp_path)
    later.join()


def test_a_frozen_server_does_not_hold_a_training_up(server: Postgres, tmp_path: Path) -> None:
    """It acknowledges every packet and answers none: only not waiting for it helps."""
    train = Stepwise({3: server.freeze, 6: lambda: threading.Timer(2.0, server.thaw).start()})
    with context_on(server.url(), tmp_path, train) as context:
        assert worker_trial.run(context, take(context)) == State.COMPLETED
        require_all_written(context, tmp_path)


class Timed(Future[bool]):
    """An answer that notes how long it was waited for, in seconds."""

    waits: ClassVar[list[float | None]] = []

    def result(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout)
        return super().result(timeout)


def test_a_training_waits_for_a_database_that_hangs_once_and_not_after_each_epoch(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    thawed, save = threading.Event(), candidates.save_epoch

    def hang(*given: Any, **named: Any) -> None:
        assert thawed.wait(60)
        save(*given, **named)

    monkeypatch.setattr(recorder, "Future", Timed)
    monkeypatch.setattr(candidates, "save_epoch", hang)
    monkeypatch.setattr(Timed, "waits", [])
    monkeypatch.setattr(recorder, "SHARE", 1000)

    with context_on(sqlite_url, tmp_path, Stepwise({6: thawed.set})) as context:
        assert worker_trial.run(context, take(context)) == State.COMPLETED
        require_all_written(context, tmp_path)
    assert Timed.waits[:5] == [recorder.ANSWER_SECONDS, *[recorder.HANGING_SECONDS] * 4]


@pytest.fixture
def forgetful(server: Postgres) -> Postgres:
    """Flushes what nobody waits for after ten seconds, not after 0.2."""
    server.stop()
    server.settings["wal_writer_delay"] = "10s"
    return server.start()


def test_epochs_that_a_fallen_server_forgot_are_written_again(forgetful: Postgres, tmp_path: Path) -> None:
    """Nobody waits for the disk after an epoch, so the server may lose some, but not the end's."""
    left: list[int] = []

    def crash() -> None:
        forgetful.stop(signal.SIGQUIT)
        forgetful.start()
        left.extend(map(len, candidates.epochs(context.engine, context.study_id).values()))

    with context_on(forgetful.url(), tmp_path, Stepwise({6: crash})) as context:
        assert worker_trial.run(context, take(context)) == State.COMPLETED
        assert sum(left) < 5, "the server was to forget some of five epochs"
        require_all_written(context, tmp_path)


def test_what_a_worker_could_not_write_is_taken_in_by_the_next(
    server: Postgres, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train = Stepwise({4: server.stop})
    with context_on(server.url(), tmp_path, train, timeout=0.5) as context:
        with pytest.raises(StorageError, match="the database was away for"):
            worker_trial.run(context, take(context))
        assert len(list(tmp_path.glob("*.json"))) == 1
        server.start()
        spool.take_in(tmp_path, context.study, context.engine, context.study_id)
        assert caplog.messages[-1:] == [f"trial 0: completed, written down, from {context.study_id}-1.json"]
        require_written_by_the_next(context, tmp_path)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of all that is said: no database is away, however busy the machine."""
    monkeypatch.setattr(recorder, "ANSWER_SECONDS", 60.0)


@pytest.mark.usefixtures("patient")
def test_what_got_through_is_not_late(
    sqlite_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker died between the commit and clearing its spool."""
    with context_on(sqlite_url, tmp_path, FakeTraining()) as context:
        claim = take(context)
        trial = context.study.ask()
        candidate = worker_trial.record(context, claim, trial, context.config.propose(trial))
        entries = recorder.TrialRecorder(
            TrialRows(context.engine, context.study, claim, trial, candidate), tmp_path, context.outage
        )
        entries.post_epoch(Epoch(1, 1.0, 1.0, 0.5, 0.1, 1.0))
        metrics = TrainingMetrics(0.5, 0.5, 1.0, 1, 1.0, 100.0)
        assert not entries._post(spool.TrialEnd(State.COMPLETED, None, metrics)).result()
        entries._keep()
        entries.spool.close()
        spool.take_in(tmp_path, context.study, context.engine, context.study_id)
        assert caplog.messages == [f"trial 0: completed, written down, from {context.study_id}-1.json"]
        assert candidates.late(context.engine, context.study_id) == []
        assert context.study.get_trials(deepcopy=False)[0].value == 0.5
        entries.drop()


@pytest.mark.parametrize("forget", [False, True])
def test_the_next_worker_tells_optuna_all_that_the_spool_holds(
    forget: bool, sqlite_url: str, tmp_path: Path
) -> None:
    with context_on(sqlite_url, tmp_path, FakeTraining()) as context:
        claim = take(context)
        trial = context.study.ask()
        candidate = worker_trial.record(context, claim, trial, context.config.propose(trial))
        entries = recorder.TrialRecorder(
            TrialRows(context.engine, context.study, claim, trial, candidate), tmp_path, context.outage
        )
        for number, accuracy in ((1, 0.25), (2, 0.5)):
            entries.post_epoch(Epoch(number, 1.0, 1.0, accuracy, 0.1, 1.0))
        if forget:
            with context.engine.execution_options(writes=True).begin() as connection:
                connection.execute(text("DELETE FROM search_epochs WHERE epoch = 2"))
                connection.execute(text("DELETE FROM trial_intermediate_values WHERE step = 2"))
        entries._end = spool.TrialEnd(State.PRUNED, "median", None)
        entries._keep()
        entries.spool.close()
        spool.take_in(tmp_path, context.study, context.engine, context.study_id)
        (told,) = context.study.get_trials(deepcopy=False)
        assert (told.state, told.value) == (TrialState.PRUNED, 0.5)
        assert told.intermediate_values == {1: 0.25, 2: 0.5}
        (stored,) = candidates.epochs(context.engine, context.study_id).values()
        assert [epoch.validation_accuracy for epoch in stored] == [0.25, 0.5]
        entries.drop()


@contextmanager
def left_by_the_dead(url: str, data_dir: Path) -> Iterator[WorkerContext]:
    """A worker has died with a trial that it had trained, all of which lies in the spool of its machine."""
    with context_on(url, data_dir, FakeTraining()) as context:
        record = studies.find(context.engine, "bench")
        folder = files.study_folders(data_dir, url, record).spool
        claim = take(context)
        trial = context.study.ask()
        candidate = worker_trial.record(context, claim, trial, context.config.propose(trial))
        entries = recorder.TrialRecorder(
            TrialRows(context.engine, context.study, claim, trial, candidate), folder, context.outage
        )
        entries._epochs[1] = Epoch(1, 1.0, 1.0, 0.5, 0.1, 1.0)
        metrics = TrainingMetrics(0.5, 0.5, 1.0, 1, 1.0, 100.0)
        entries._end = spool.TrialEnd(State.COMPLETED, None, metrics)
        entries._keep()
        entries.spool.close()
        yield context
        (row,) = candidates.candidates(context.engine, context.study_id)
        assert (row.state, row.accuracy) == (State.COMPLETED, 0.5)
        assert candidates.late(context.engine, context.study_id) == []
        assert context.study.get_trials(deepcopy=False)[0].value == 0.5
        assert not list(folder.glob("*.json"))
        entries.drop()


def test_a_spool_on_a_network_file_system_is_taken_in(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lie_on_nfs(monkeypatch)
    with left_by_the_dead(sqlite_url, tmp_path) as context:
        record = studies.find(context.engine, "bench")
        recovery.take_in(context.engine, sqlite_url, record, tmp_path)


def test_a_spool_that_cannot_be_removed_costs_no_trial(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A disk that was mounted for reading alone once the file lay there."""

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def away_and_back() -> None:
        monkeypatch.setattr(candidates, "save_epoch", save_epoch)
        monkeypatch.setattr(Path, "unlink", refuse)

    def away(*_: object, **__: object) -> None:
        raise StorageError("it is away")

    save_epoch = candidates.save_epoch
    monkeypatch.setattr(candidates, "save_epoch", away)
    with context_on(sqlite_url, tmp_path, Stepwise({3: away_and_back})) as context:
        assert worker_trial.run(context, take(context)) == State.COMPLETED
        assert list(tmp_path.glob("*.json"))
        assert candidates.candidates(context.engine, context.study_id)[0].state == State.COMPLETED
        spool.take_in(tmp_path, context.study, context.engine, context.study_id)
        assert "cannot be removed: Read-only file system" in caplog.messages[-1]
        monkeypatch.undo()


def test_a_launcher_takes_in_what_its_worker_had_trained_before_it_died(
    sqlite_url: str, tmp_path: Path
) -> None:
    with left_by_the_dead(sqlite_url, tmp_path) as context:
        record = studies.find(context.engine, "bench")
        flags = Flags(sqlite_url, tmp_path, 3, "bench")
        launch = Launch(flags, context.engine, record, context.config, context.study, [])
        assert launch._on_death("one"), "it had finished a trial"


def test_workers_by_hand_take_in_what_one_of_them_had_trained(sqlite_url: str, tmp_path: Path) -> None:
    with left_by_the_dead(sqlite_url, tmp_path) as context:
        assert WorkerGroup(context.options, [], lambda _: None)._on_death("one")


def expire_all(context: WorkerContext) -> None:
    with context.engine.execution_options(writes=True).begin() as connection:
        connection.execute(text("UPDATE search_claims SET expires_at = 0"))


@pytest.mark.parametrize("command", [("status", "bench"), ("rename", "bench", "other")])
def test_who_takes_claims_back_takes_in_first_what_their_workers_had_trained(
    command: tuple[str, ...], sqlite_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with left_by_the_dead(sqlite_url, tmp_path) as context:
        expire_all(context)
        given = ("--storage", sqlite_url, "--data-dir", str(tmp_path))
        assert run(capsys, *command, *given).code == 0


@pytest.mark.usefixtures("patient")
def test_where_optunas_tables_refuse_the_ledger_counts(
    sqlite_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As they do while somebody deletes the study in its dashboard."""

    with context_on(sqlite_url, tmp_path, FakeTraining()) as context:
        claim = take(context)
        trial = context.study.ask()
        candidate = worker_trial.record(context, claim, trial, context.config.propose(trial))
        entries = recorder.TrialRecorder(
            TrialRows(context.engine, context.study, claim, trial, candidate), tmp_path, context.outage
        )
        with context.engine.execution_options(writes=True).begin() as connection:
            refuse = "CREATE TRIGGER no BEFORE UPDATE ON trials BEGIN SELECT RAISE(ABORT, 'no'); END"
            connection.execute(text(refuse))
        entries.close(State.COMPLETED, None, TrainingMetrics(0.5, 0.5, 1.0, 1, 1.0, 100.0))
        assert candidates.candidates(context.engine, context.study_id)[0].state == State.COMPLETED
        assert caplog.messages == ["trial 0: Optuna's tables refuse: no"]


def require_written_by_the_next(context: WorkerContext, folder: Path) -> None:
    (row,) = candidates.candidates(context.engine, context.study_id)
    assert (row.state, row.epochs) == (State.COMPLETED, 6)
    assert len(candidates.epochs(context.engine, context.study_id)[row.id]) == 6
    (trial,) = context.study.get_trials(deepcopy=False)
    assert (trial.state, trial.value) == (TrialState.COMPLETE, row.accuracy)
    assert not list(folder.glob("*.json"))


def test_a_result_that_comes_late_is_kept_as_late_and_changes_nothing(
    sqlite_url: str, tmp_path: Path
) -> None:
    def taken_over() -> None:
        with context.engine.execution_options(writes=True).begin() as connection:
            connection.execute(text("UPDATE search_claims SET expires_at = 0, lease_seconds = 0"))
        reconciling.tell_lost(context.study, leases.reap(context.engine, context.study_id))

    # After the last batch nobody asks for the lease any more: the result itself finds out.
    train = FakeTraining()
    with context_on(sqlite_url, tmp_path, train) as context:
        claim = take(context)
        trial = context.study.ask()
        candidate = worker_trial.record(context, claim, trial, context.config.propose(trial))
        entries = recorder.TrialRecorder(
            TrialRows(context.engine, context.study, claim, trial, candidate), tmp_path, context.outage
        )
        taken_over()
        with pytest.raises(LeaseLostError):
            entries.close(State.COMPLETED, None, None)
        (late,) = candidates.late(context.engine, context.study_id)
        assert (late.candidate_id, late.state) == (candidate.id, State.COMPLETED)
        assert candidates.candidates(context.engine, context.study_id)[0].state == State.LOST
        assert worker_trial.run(context, take(context)) == State.COMPLETED
        assert [row.attempt for row in candidates.candidates(context.engine, context.study_id)] == [1, 2]


def test_a_damaged_spool_is_left_where_it_is_and_named(
    sqlite_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with context_on(sqlite_url, tmp_path, FakeTraining()) as context:
        damaged = tmp_path / f"{context.study_id}-9.json"
        damaged.write_text('{"claim": ')
        spool.take_in(tmp_path, context.study, context.engine, context.study_id)
        assert caplog.messages == [f"{damaged} is damaged and is left where it is"]
        assert damaged.exists()
