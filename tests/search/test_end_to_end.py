"""Whole searches with real worker processes, on SQLite and on PostgreSQL.

The first trains real images. The others are about processes and books: their trainings are stand-ins that
take as long as they are told to (tests/support/fake_training), and no process loads torch.
"""

import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from command import Result, fake_training, finish, run, start
from faults import wait_until
from optuna.trial import TrialState
from sqlalchemy import Engine, text

from search.optuna_adapter import study as optuna_study
from search.study.config import StudyConfig
from storage import candidates, database, leases, studies
from storage.row_types import TRAINED, State

SMALL = ("--data", "digits", "--train-images", 200, "--max-macs", 300_000, "--gpus", "none")


@pytest.fixture
def place(tmp_path: Path, digits: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of its own, with the digits at hand but their test images gone for good."""
    monkeypatch.setenv("SEARCH_DATA_DIR", str(tmp_path / "data"))
    shutil.copytree(digits, tmp_path / "data")
    return tmp_path


SLOW, QUICK = 0.25, 0.005  # seconds a batch: long enough to be met in training on a busy machine, and no time


def trainings(place: Path, seconds: float) -> dict[str, str]:
    """The environment of a search whose trainings, from now on, take so long a batch, of four an epoch."""
    return {"SEARCH_DATA_DIR": str(place / "data")} | fake_training(place / "training", seconds)


@contextmanager
def opened(url: str) -> Iterator[tuple[Engine, studies.Study]]:
    engine = database.connect(url, create=False)
    try:
        yield engine, studies.find(engine)
    finally:
        engine.dispose()


def require_books_agree(url: str, trials: int) -> dict[State, int]:
    """The invariant: every proposal ended in one state, the number is exact, Optuna says the same."""
    with opened(url) as (engine, record):
        tally = candidates.tally(engine, record.id)
        rows = candidates.candidates(engine, record.id)
        assert leases.running(engine, record.id) == []
        with optuna_study.open_study(url, record.name, StudyConfig.from_record(record.settings)) as study:
            known = study.get_trials(deepcopy=False)
    assert sum(tally[state] for state in TRAINED) == trials
    assert tally[State.RUNNING] == 0
    assert [row.number for row in rows] == [trial.number for trial in known]
    assert all(trial.state.is_finished() for trial in known)
    completed = {trial.number: trial.value for trial in known if trial.state == TrialState.COMPLETE}
    assert {
        row.number: row.accuracy for row in rows if row.state == State.COMPLETED
    }.items() <= completed.items()
    return tally


@pytest.mark.slow
def test_a_search_finds_keeps_shows_and_exports(
    place: Path, faulty_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = ("--storage", faulty_url)
    leave = ("--out", "best.json", "--report", "report.html")
    launched = finish(
        start(
            "launch",
            "--trials",
            6,
            "--epochs",
            2,
            "--workers",
            2,
            "--study",
            "first",
            *SMALL,
            *store,
            *leave,
            cwd=place,
            SEARCH_DATA_DIR=str(place / "data"),
        )
    )
    assert launched.code == 0, launched.err
    assert "best network: trial" in launched.out
    assert "95% interval" in launched.out
    for said in ("first, to 6", "stop     Ctrl-C", "resume   search launch first --trials 6", "cpu0, cpu1"):
        assert said in launched.err
    assert sum(require_books_agree(faulty_url, 6).values()) >= 6
    require_views(place, store, capsys)
    require_plain_sql(faulty_url)
    page = (place / "report.html").read_text()
    assert "Where every proposal and every minute went" in page
    assert "<script src" not in page, "the page must stand alone"


def require_views(place: Path, store: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    def ask(*arguments: object) -> Result:
        result = run(capsys, *arguments)
        assert result.code == 0, result.err
        return result

    (status,) = json.loads(ask("status", "first", *store, "--format", "json").out)
    assert (status["trained"], status["trials"]) == (6, 6)
    assert "6 of 6 trained" in ask("status", *store).out
    (listed,) = json.loads(ask("list", *store, "--format", "json").out)
    assert listed["study"] == "first"
    rows = json.loads(ask("trials", "--study", "first", *store, "--format", "json", "--sort", "accuracy").out)
    done = [row["accuracy"] for row in rows if row["state"] == "completed"]
    assert done == sorted(done, reverse=True)
    assert ask("trials", *store, "--format", "csv", "--limit", 2).out.count("\n") == 3
    (leader,) = json.loads(ask("best", *store, "--format", "json").out)
    assert leader["low_accuracy"] < leader["accuracy"] == max(done) < leader["high_accuracy"]
    exported = json.loads((place / "best.json").read_text())
    assert exported["metrics"]["validation_accuracy"] == pytest.approx(
        leader["accuracy"], abs=1e-9
    )  # 10 digits
    assert exported["origin"]["trial"] == leader["trial"]
    assert exported["parameters"] == sum(row["parameters"] for row in exported["layers"])
    assert ask("verify", place / "best.json").out.count("ok  ") == 5
    shown = ask("show", f"first:{leader['trial']}", *store).out
    assert f"{exported['parameters']:,} parameters" in shown
    assert shown == ask("show", place / "best.json").out
    other = ask("export", f"first:{leader['trial']}", *store, "--out", place / "again.json")
    assert other.out == ""
    assert "the books agree, 6 of 6 trained" in ask("db", "check", *store).out
    assert ask("replay", f"first:{leader['trial']}", *store).out.startswith(
        f"trial {leader['trial']}: same in every epoch"
    )
    assert "none" in ask("ps", *store).err
    assert json.loads((place / "again.json").read_text()) == exported


def require_plain_sql(url: str) -> None:
    """What people will ask with psql or sqlite3 alone."""
    ten_best = "SELECT number, accuracy, parameters FROM search_candidates ORDER BY accuracy DESC LIMIT 10"
    by_depth = "SELECT depth, avg(accuracy), count(*) FROM search_candidates GROUP BY depth"
    ended = "SELECT number, state, reason FROM search_candidates WHERE state <> 'completed'"
    with opened(url) as (engine, _), engine.connect() as connection:
        assert len(connection.execute(text(ten_best)).all()) >= 6
        assert connection.execute(text(by_depth)).all()
        assert all(reason for _, _, reason in connection.execute(text(ended)))


def in_training(url: str) -> bool:
    """Whether a trial has stored an epoch and has many to go."""
    if database.absent(url):
        return False
    try:
        with opened(url) as (engine, record):
            return any(running.epoch for running in leases.running(engine, record.id))
    except Exception:  # the launcher is still making the tables
        return False


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.thorough  # tests/faults/test_torch.py kills them too
@pytest.mark.slow
def test_a_killed_worker_costs_no_trial(place: Path, faulty_url: str) -> None:
    launcher = start(
        "launch",
        "--trials",
        2,
        "--epochs",
        25,
        "--workers",
        1,
        "--pruner",
        "none",
        *SMALL,
        "--storage",
        faulty_url,
        cwd=place,
        **trainings(place, SLOW),
    )
    wait_until(lambda: in_training(faulty_url), "a training")
    (worker,) = children(launcher.pid)
    trainings(place, QUICK)
    os.kill(worker, signal.SIGKILL)
    ended = finish(launcher)
    assert ended.code == 0, ended.err
    tally = require_books_agree(faulty_url, 2)
    assert tally[State.LOST] == 1
    with opened(faulty_url) as (engine, record):
        lost, retried = candidates.candidates(engine, record.id)[:2]
    assert (lost.state, retried.attempt, retried.seed) == (State.LOST, 2, lost.seed)
    assert retried.fingerprint == lost.fingerprint


@pytest.mark.thorough  # tests/faults/test_processes.py has SIGTERM, to stand-ins
@pytest.mark.slow
def test_ctrl_c_drains_and_the_search_goes_on_later(place: Path, sqlite_url: str) -> None:
    flags = ("--epochs", 10, "--workers", 2, "--study", "night", *SMALL, "--storage", sqlite_url)
    launcher = start("launch", "--trials", 40, *flags, cwd=place, **trainings(place, 0.05))
    wait_until(lambda: in_training(sqlite_url), "a training")
    launcher.send_signal(signal.SIGINT)
    ended = finish(launcher)
    assert ended.code == 130
    answer = r"stopping: (1 worker finishes its trial|\d+ workers finish their trials); Ctrl-C ends at once"
    assert re.search(answer, ended.err), ended.err
    with opened(sqlite_url) as (engine, record):
        first = candidates.tally(engine, record.id)
        assert leases.running(engine, record.id) == []
    trained = sum(first[state] for state in TRAINED)
    assert 1 <= trained < 40
    assert first[State.CANCELLED] == first[State.RUNNING] == 0
    quick = trainings(place, QUICK)
    resumed = finish(start("launch", "--trials", trained + 2, *flags, cwd=place, **quick))
    assert resumed.code == 0, resumed.err
    require_books_agree(sqlite_url, trained + 2)


@pytest.mark.thorough  # tests/faults/test_processes.py does it to stand-ins
@pytest.mark.parametrize(("told", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_ends_at_once_and_leaves_nothing_running(
    place: Path, sqlite_url: str, told: signal.Signals, code: int
) -> None:
    launcher = start(
        "launch",
        "--trials",
        4,
        "--epochs",
        5_000,
        "--workers",
        2,
        "--pruner",
        "none",
        *SMALL,
        "--storage",
        sqlite_url,
        cwd=place,
    )
    wait_until(lambda: in_training(sqlite_url), "a training")
    workers = children(launcher.pid)
    launcher.send_signal(told)
    assert launcher.stderr is not None
    assert any("stopping: " in line for line in launcher.stderr), "it ended unasked"
    launcher.send_signal(told)
    ended = finish(launcher)
    assert ended.code == code
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    tally = require_books_agree(sqlite_url, 0)
    assert tally[State.CANCELLED] >= 1


@pytest.mark.thorough  # the launcher is told to stop in the same way
@pytest.mark.slow
def test_time_that_is_up_ends_short_with_what_there_is(place: Path, sqlite_url: str) -> None:
    ended = finish(
        start(
            "launch",
            "--trials",
            50,
            "--epochs",
            2,
            "--workers",
            1,
            "--timeout",
            "10s",
            *SMALL,
            "--storage",
            sqlite_url,
            cwd=place,
            **trainings(place, 0.1),
        )
    )
    assert ended.code == 4, ended.err
    assert "time was up" in ended.err


def test_another_budget_space_or_data_for_a_study_that_exists_is_refused(
    place: Path, sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--storage", sqlite_url, "--study", "first", "--trials", 1, *SMALL)
    quick = trainings(place, QUICK)
    assert finish(start("launch", *flags, "--epochs", 1, "--workers", 1, cwd=place, **quick)).code == 0
    space = place / "space.toml"
    space.write_text("depth = [2]\n")
    for changed, named in (
        (("--max-params", 1_000_000), "--max-params"),
        (("--space", space), "--space"),
        (("--epochs", 3), "--epochs"),
        (("--train-images", 100), "--data"),
        (("--sampler", "random"), "--sampler"),
        (("--seed", 5), "--seed"),
    ):
        result = run(capsys, "launch", *flags, *changed)
        assert result.code == 2
        assert "was made with another" in result.one_line
        assert named in result.one_line


@pytest.mark.slow
def test_workers_elsewhere_do_the_work_of_a_launcher_without_any(place: Path, faulty_url: str) -> None:
    store = {"SEARCH_STORAGE": faulty_url} | trainings(place, QUICK)
    launcher = start("launch", "--trials", 3, "--epochs", 1, "--workers", 0, *SMALL, cwd=place, **store)
    wait_until(lambda: _launched(faulty_url), "a study")
    worker = start("worker", cwd=place, CUDA_VISIBLE_DEVICES="", **store)
    assert finish(worker).code == 0
    ended = finish(launcher)
    assert ended.code == 0, ended.err
    require_books_agree(faulty_url, 3)


def _launched(url: str) -> bool:
    if database.absent(url):
        return False
    try:
        with opened(url):
            return True
    except Exception:  # the launcher is still making the tables
        return False


@pytest.mark.thorough  # Ctrl-C ends a search by the same path
@pytest.mark.slow
def test_an_order_reaches_the_workers_and_resume_goes_on(
    place: Path, faulty_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = ("--storage", faulty_url)
    flags = ("--epochs", 60, "--workers", 1, "--pruner", "none", "--lease", "2s", *SMALL)
    launcher = start("launch", "--trials", 2, *flags, *store, cwd=place, **trainings(place, SLOW))
    wait_until(lambda: in_training(faulty_url), "a training")
    assert run(capsys, "stop", "--now", *store).code == 0
    ended = finish(launcher)
    assert ended.code == 4, ended.err
    assert "`search resume" in ended.err
    with opened(faulty_url) as (engine, record):
        assert candidates.tally(engine, record.id)[State.CANCELLED] == 1
    quick = trainings(place, QUICK)
    resumed = finish(start("resume", "--workers", 1, "--gpus", "none", *store, cwd=place, **quick))
    assert resumed.code == 0, resumed.err
    require_books_agree(faulty_url, 2)
    assert run(capsys, "db", "check", *store).code == 0


@pytest.mark.thorough  # the order to stop comes the same way
@pytest.mark.slow
def test_a_paused_study_waits_and_goes_on_where_it_was(
    place: Path, sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = ("--storage", sqlite_url)
    flags = ("--epochs", 30, "--workers", 1, "--pruner", "none", *SMALL)
    launcher = start("launch", "--trials", 2, *flags, *store, cwd=place, **trainings(place, 0.1))
    wait_until(lambda: in_training(sqlite_url), "a training")
    assert run(capsys, "pause", *store).code == 0

    def waits() -> bool:
        with opened(sqlite_url) as (engine, record):
            return not leases.running(engine, record.id)

    wait_until(waits, "a pause")
    assert launcher.poll() is None
    trainings(place, QUICK)
    assert "go on" in run(capsys, "resume", *store).out
    ended = finish(launcher)
    assert ended.code == 0, ended.err
    require_books_agree(sqlite_url, 2)
