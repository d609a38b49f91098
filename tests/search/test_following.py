"""`search worker --follow`: what it does with studies that it cannot do."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ledger_samples import train
from worker_samples import FakeTraining, make_config, make_context, make_study

from search.machine.signals import ShutdownRequest
from search.optuna_adapter import study as optuna_study
from search.study import reader
from search.study.finish_plan import FinishPlan
from search.study.worker_options import WorkerOptions
from search.worker import left_out as leaving, log, worker as workers
from search.worker.left_out import LEFT_OUT_SECONDS, StudiesLeftOut
from space.errors import StudyError, UsageError
from storage import candidates, studies
from storage.row_types import State
from storage.studies import Study

Follow = Callable[[], dict[str, int]]


def fails(error: Exception) -> Callable[..., Any]:
    def fail(*_: object) -> None:
        raise error

    return fail


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the worker takes for the time since its start."""
    shown = [0.0]
    monkeypatch.setattr(leaving, "monotonic", lambda: shown[0])
    return shown


@pytest.fixture
def follow(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Follow]]:
    """Two studies of a trial each, `older` and `newer`, and a worker that follows them until nothing is left
    that it can do; it returns how many trials of each are trained."""
    images = make_config().data.model_copy(update={"spec": f"folder:{tmp_path / 'bob' / 'pictures'}"})
    engine, older = make_study(sqlite_url, make_config(), 1, "older")
    other, newer = make_study(sqlite_url, make_config().model_copy(update={"data": images}), 1, "newer")
    other.dispose()
    left_out, really_open = StudiesLeftOut(), workers.open_context

    def ready(cannot: Callable[..., Any] | None = None) -> Follow:
        """`cannot` raises what the newer study cannot be opened for; without it the worker finds out."""

        @contextmanager
        def open_context(options: Any, engine: Any, record: Study, *more: Any) -> Iterator[Any]:
            if record.name == "newer":
                (cannot or really_open)(options, engine, record, *more).__enter__()
            with optuna_study.open_study(sqlite_url, record.name, make_config()) as study:
                yield make_context(study, engine, record, FakeTraining(), make_config(), tmp_path)

        monkeypatch.setattr(workers, "open_context", open_context)

        def run() -> dict[str, int]:
            shutdown = ShutdownRequest(1.0)
            monkeypatch.setattr(workers.time, "sleep", lambda _: setattr(shutdown, "count", 1))
            options = WorkerOptions(storage=sqlite_url, data_dir=tmp_path, name="one", follow=True)
            workers._work_through(options, engine, shutdown, left_out)
            return {
                record.name: candidates.tally(engine, record.id)[State.COMPLETED] for record in (older, newer)
            }

        return run

    yield ready
    engine.dispose()


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line for line in caplog.messages if line.startswith("leaves")]


@pytest.mark.parametrize(
    ("cannot", "line"),
    [
        (None, "leaves newer out for now: there is no folder "),
        (fails(StudyError("it was deleted")), "leaves newer out for now: it was deleted"),
        (fails(UsageError("--score: f1.py: No such file")), "leaves newer out for now: --score: f1.py"),
    ],
)
def test_a_study_that_cannot_be_done_here_keeps_a_worker_from_no_other(
    follow: Callable[..., Follow],
    cannot: Callable[..., Any] | None,
    line: str,
    clock: list[float],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It ended for good, as did each of --workers N --follow, by the pictures of a colleague."""
    caplog.set_level(log.level(verbose=False, quiet=False))
    works = follow(cannot)
    assert works() == {"older": 1, "newer": 0}
    (reason,) = said(caplog)
    assert reason.startswith(line)
    clock[0] += LEFT_OUT_SECONDS + 1
    assert works() == {"older": 1, "newer": 0}
    assert said(caplog) == [reason], "it is tried again, and said once"
    assert caplog.messages.count("works on newer") == 1


def test_a_study_that_was_left_out_is_done_once_it_can_be(
    follow: Callable[..., Follow], clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    answers = iter([StudyError("renamed in the dashboard"), nullcontext()])

    def open_once_more(*_: object) -> Any:
        answer = next(answers)
        if isinstance(answer, StudyError):
            raise answer
        return answer

    works = follow(open_once_more)
    assert works()["newer"] == 0
    clock[0] += LEFT_OUT_SECONDS - 1
    assert works()["newer"] == 0, "not before its time"
    clock[0] += 2
    assert works()["newer"] == 1
    assert said(caplog) == ["leaves newer out for now: renamed in the dashboard"]


def test_a_second_stage_that_cannot_be_read_keeps_a_worker_from_no_other(
    follow: Callable[..., Follow],
    sqlite_url: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    works = follow()
    with reader.open_store(sqlite_url) as engine:
        newer = studies.find(engine, "newer")
        train(engine, newer, 0, 0.5)
        studies.set_finish(engine, newer.id, {"rungs": [], "finals": {"seeds": 3, "surprise": 1}})
        with pytest.raises(StudyError, match="the stored second stage is damaged, or of another version: "):
            FinishPlan.from_record(studies.find(engine, "newer").finish)
    assert works() == {"older": 1, "newer": 1}
    (reason,) = said(caplog)
    assert reason.startswith("leaves newer out for now: the stored second stage is damaged")


def test_a_study_that_has_the_id_of_one_that_was_deleted_is_not_left_out(sqlite_url: str) -> None:
    """SQLite gives it again; the one that is launched anew may be the mend of the other."""
    engine, record = make_study(sqlite_url, make_config(), 1, "pets")
    again = replace(record, created_at=record.created_at + timedelta(seconds=60))
    engine.dispose()
    left_out = StudiesLeftOut()
    left_out.add(record, UsageError("no images"))
    assert (left_out.has(record), left_out.has(again), left_out.knows(again)) == (True, False, False)
