"""Looking at a search until it has ended: `search wait`, `search status --watch`, and what `list` says."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command import run
from comparison_samples import Trial, add_finals, add_study
from sqlalchemy import Engine
from worker_samples import FakeTraining, make_config, make_context, make_study

from search.commands import watch
from search.launcher.display import Snapshot
from search.launcher.launcher import End
from search.optuna_adapter import study as optuna_study
from search.study import run_state
from search.study.run_state import RunState, code_of_end
from search.worker import trial as worker_trial
from storage import database, leases, studies, workers
from storage.leases import Claim
from storage.row_types import State
from storage.studies import Control, Study
from storage.workers import Doing

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def study(sqlite_url: str) -> tuple[Engine, Study]:
    engine, record = make_study(sqlite_url, make_config(), 3, "night")
    engine.dispose()
    return engine, record


def train(url: str, record: Study, folder: Path, most: int = 100) -> None:
    """Trains what is left, without training."""
    config, engine = make_config(), database.connect(url)
    with optuna_study.open_study(url, record.name, config) as opened:
        context = make_context(opened, engine, record, FakeTraining(), config, folder)
        for _ in range(most):
            claim = leases.claim(engine, record.id, "one", 60.0)
            if not isinstance(claim, Claim):
                break
            worker_trial.run(context, claim)
    engine.dispose()


def at_each_look(monkeypatch: pytest.MonkeyPatch, *acts: Callable[[], object]) -> None:
    """What happens between two looks, one after another; nobody waits. One look more would fail."""
    left = list(acts)
    monkeypatch.setattr(watch, "sleep", lambda _: left.pop(0)())


def test_wait_ends_with_code_0_and_one_line_once_the_last_trial_is_trained(
    sqlite_url: str, study: tuple[Engine, Study], tmp_path: Path, capsys: Capture, monkeypatch: Any
) -> None:
    _, record = study
    at_each_look(
        monkeypatch,
        lambda: train(sqlite_url, record, tmp_path, 1),
        lambda: train(sqlite_url, record, tmp_path),
    )
    result = run(capsys, "wait", "night", "--storage", sqlite_url)
    assert result.code == 0
    assert re.fullmatch(r"night: done, 3 of 3 trained, best \d\d\.\d\d% \(trial \d\)\n", result.out), (
        result.out
    )
    onward = f"`search resume night --storage {sqlite_url}`"
    assert result.err == f"nobody works on it: {onward} goes on here\n", "said once"


@pytest.mark.parametrize("order", ["stop", "stop_now", "gave_up"])
def test_wait_ends_with_code_4_where_the_search_was_ended_short(
    sqlite_url: str, study: tuple[Engine, Study], capsys: Capture, order: str
) -> None:
    engine, record = study
    studies.set_control(engine, record.id, Control(order))
    result = run(capsys, "wait", "--storage", sqlite_url)
    assert result.code == 4 and result.out.startswith("night: stopped, 0 of 3 trained")


def test_wait_waits_for_what_still_trains_after_a_stop(
    sqlite_url: str, study: tuple[Engine, Study], capsys: Capture, monkeypatch: Any
) -> None:
    engine, record = study
    claim = leases.claim(engine, record.id, "one", 60.0)
    assert isinstance(claim, Claim)
    studies.set_control(engine, record.id, Control.STOP)
    at_each_look(monkeypatch, lambda: leases.release(engine, claim))
    assert run(capsys, "wait", "--storage", sqlite_url).code == 4


def test_wait_does_not_end_while_a_search_is_paused_and_says_so_once(
    sqlite_url: str, study: tuple[Engine, Study], tmp_path: Path, capsys: Capture, monkeypatch: Any
) -> None:
    engine, record = study
    workers.announce(engine, record.id, "one", host="here", pid=1, state=Doing.PAUSED, lease_seconds=60.0)
    studies.set_control(engine, record.id, Control.PAUSE)
    at_each_look(
        monkeypatch,
        lambda: None,
        lambda: studies.set_control(engine, record.id, Control.RUN),
        lambda: train(sqlite_url, record, tmp_path),
    )
    result = run(capsys, "wait", "--storage", sqlite_url, "--idle", "1")
    assert result.code == 0
    onward = f"`search resume night --storage {sqlite_url}`"
    assert result.err == f"paused by `search pause`: {onward} goes on\n"


def test_wait_gives_up_on_a_search_that_nobody_works_on(
    sqlite_url: str, study: tuple[Engine, Study], capsys: Capture, monkeypatch: Any
) -> None:
    monkeypatch.setattr(watch, "monotonic", iter(range(0, 10_000, 400)).__next__)
    at_each_look(monkeypatch, lambda: None)
    result = run(capsys, "wait", "--storage", sqlite_url)
    assert result.code == 4 and result.out.startswith("night: waiting, 0 of 3 trained")


def test_wait_outlasts_a_database_that_goes_and_comes_back(
    sqlite_url: str, study: tuple[Engine, Study], tmp_path: Path, capsys: Capture, monkeypatch: Any
) -> None:
    file, aside = Path(sqlite_url.removeprefix("sqlite:///")), tmp_path / "aside"
    database.connect(sqlite_url).dispose()

    def go() -> None:
        file.rename(aside)
        watch_closed(monkeypatch)

    def come() -> None:
        monkeypatch.undo()
        aside.rename(file)
        at_each_look(monkeypatch, lambda: train(sqlite_url, study[1], tmp_path))

    at_each_look(monkeypatch, go, come)
    result = run(capsys, "wait", "--storage", sqlite_url)
    assert result.code == 0, result.err
    assert "the database is away: no database" in result.err


def watch_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite goes on reading a file that was moved away; a server that is gone does not answer."""
    from search.study.follower import StudyFollower

    original = StudyFollower.look

    def look(self: StudyFollower) -> Any:
        self.close()
        return original(self)

    monkeypatch.setattr(StudyFollower, "look", look)


def test_wait_for_a_store_that_is_not_there_ends_at_once_with_code_5(tmp_path: Path, capsys: Capture) -> None:
    result = run(capsys, "wait", "--storage", f"sqlite:///{tmp_path / 'none.db'}")
    assert result.code == 5 and "no database" in result.one_line


def test_wait_for_a_name_that_is_not_there_ends_with_code_2(
    sqlite_url: str, study: tuple[Engine, Study], capsys: Capture
) -> None:
    assert run(capsys, "wait", "nigth", "--storage", sqlite_url).one_line.endswith("did you mean 'night'?")


def test_wait_waits_for_the_finals_too_and_ends_4_where_none_came_through(
    sqlite_url: str, capsys: Capture
) -> None:
    record = add_study(sqlite_url, "a", [0.5, 0.6])
    add_optuna(sqlite_url, "a")
    add_finals(sqlite_url, record, 1, (0.9, 0.91))
    result = run(capsys, "wait", "a", "--storage", sqlite_url)
    assert result.code == 0 and "finals" in result.out
    engine = database.connect(sqlite_url)
    with database.writing(engine) as connection:
        connection.exec_driver_sql("UPDATE search_rung_trainings SET state = 'failed', accuracy = NULL")
    engine.dispose()
    assert run(capsys, "wait", "a", "--storage", sqlite_url).code == 4


@pytest.mark.parametrize("order", list(Control))
def test_a_study_of_which_nothing_is_left_is_done_whatever_its_order(
    sqlite_url: str, capsys: Capture, order: Control
) -> None:
    """The order came while the last trial was trained."""
    record = add_study(sqlite_url, "a", [0.5, 0.6])
    add_optuna(sqlite_url, "a")
    engine = database.connect(sqlite_url)
    studies.set_control(engine, record.id, order)
    store = ("--storage", sqlite_url)

    def state() -> RunState:
        return run_state.load(engine, studies.find(engine), has_optuna=True)

    assert (state().word, state().why, state().has_ended) == ("done", "", True)
    for form in (("list",), ("status", "a")):
        (row,) = json.loads(run(capsys, *form, *store, "--format", "json").out)
        assert row["state"] == "done"
    ended = run(capsys, "wait", "a", *store)
    assert ended.code == 0 and ended.out.startswith("a: done, 2 of 2 trained, best ")
    assert "goes on" not in ended.out + ended.err + run(capsys, "status", "a", *store).out
    add_finals(sqlite_url, record, 1, (0.9, 0.91))
    assert state().word == "done" and not state().why
    with database.writing(engine) as connection:
        connection.exec_driver_sql("UPDATE search_rung_trainings SET state = NULL WHERE seed = 1")
    halted = {Control.RUN: "waiting", Control.PAUSE: "paused"}.get(order, "stopped")
    assert state().word == halted, "a final is owed"
    assert bool(state().why) == (order not in (Control.RUN, Control.GAVE_UP))
    engine.dispose()


def test_a_worker_that_holds_a_trial_of_a_study_that_is_done_is_not_passed_over(
    sqlite_url: str, study: tuple[Engine, Study]
) -> None:
    """Somebody has asked for fewer trials meanwhile."""
    engine, record = study
    assert isinstance(leases.claim(engine, record.id, "one", 60.0), Claim)
    studies.set_control(engine, record.id, Control.STOP)
    with database.writing(engine) as connection:
        connection.exec_driver_sql("UPDATE search_studies SET trials = 0")
    state = run_state.load(engine, studies.find(engine), has_optuna=True)
    assert state.is_done and (state.word, bool(state.why)) == ("stopping", True)


def add_optuna(url: str, name: str) -> None:
    """Optuna's part of a study that was written into the ledger alone."""
    optuna_study.quiet()
    optuna_study.create(url, name, make_config())


def end_of(tally: dict[State, int], target: int, **others: Any) -> End:
    zero = dict.fromkeys(State, 0)
    snapshot = Snapshot("night", target, zero | tally, (), None, (), 3, 100)
    values: dict[str, Any] = {"interrupted": 0, "exhausted": None, "gave_up": "", "spent": None}
    return End(snapshot, Control.RUN, **(values | {"closed": {}, "none_left": False} | others))


@pytest.mark.parametrize(
    ("tally", "gave_up", "code"),
    [
        ({State.COMPLETED: 3}, "", 0),
        ({State.COMPLETED: 1, State.PRUNED: 1}, "", 4),
        ({State.OVER_BUDGET: 9}, "", 3),
        ({State.OVER_BUDGET: 9, State.PRUNED: 1}, "", 4),
        ({State.OVER_BUDGET: 9, State.FAILED: 20}, "too many", 4),
        ({}, "", 4),
    ],
)
def test_wait_and_launch_end_with_the_same_code(tally: dict[State, int], gave_up: str, code: int) -> None:
    end = end_of(tally, 3, gave_up=gave_up)
    asked = code_of_end(
        is_done=end.snapshot.is_done,
        has_no_winner=False,
        trained=end.snapshot.trained,
        over_budget=tally.get(State.OVER_BUDGET, 0),
        gave_up=bool(gave_up),
    )
    assert end.code == asked == code


def test_status_watch_prints_a_line_a_trial_to_a_pipe_and_ends_with_the_search(
    sqlite_url: str, study: tuple[Engine, Study], tmp_path: Path, capsys: Capture, monkeypatch: Any
) -> None:
    at_each_look(
        monkeypatch,
        lambda: train(sqlite_url, study[1], tmp_path, 1),
        lambda: train(sqlite_url, study[1], tmp_path),
    )
    result = run(capsys, "status", "night", "--watch", "--storage", sqlite_url)
    lines = result.out.splitlines()
    assert result.code == 0
    assert lines[0] == "night: waiting, 0 of 3 trained"
    assert [bool(re.match(r"\d\d:\d\d:\d\d [123]/3 trial \d completed", line)) for line in lines[2:5]] == [
        True
    ] * 3
    assert lines[5].startswith("night: 3 of 3 trained on digits")


def test_status_watch_draws_in_place_on_a_terminal(
    sqlite_url: str, study: tuple[Engine, Study], tmp_path: Path, capsys: Capture, monkeypatch: Any
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # what makes rich take a pipe for a terminal
    at_each_look(monkeypatch, lambda: train(sqlite_url, study[1], tmp_path))
    out = run(capsys, "status", "--watch", "--storage", sqlite_url).out
    assert "\x1b[2K" in out or "\x1b[1A" in out, "it goes back over what it drew"
    assert "3/3" in out, "the bar"
    assert out.rindex("night: 3 of 3 trained on digits") > out.rindex("\x1b["), "it ends as plain status"


def test_status_watch_is_for_people(sqlite_url: str, study: tuple[Engine, Study], capsys: Capture) -> None:
    result = run(capsys, "status", "--watch", "--format", "json", "--storage", sqlite_url)
    assert result.code == 2 and "search wait" in result.one_line


def test_list_says_how_long_each_study_took_and_where_it_was_launched(
    sqlite_url: str, capsys: Capture
) -> None:
    add_study(sqlite_url, "old", [Trial(0.5, seconds=90.0), Trial(0.6, seconds=60.0)])
    engine, _ = make_study(sqlite_url, make_config(), 3, "new")
    with database.writing(engine) as connection:
        connection.exec_driver_sql(
            "UPDATE search_studies SET versions = '{\"host\": \"gpu-1\"}' WHERE name = 'new'"
        )
    engine.dispose()
    out = run(
        capsys, "list", "--columns", "study,state,minutes,host", "--format", "csv", "--storage", sqlite_url
    ).out
    assert out.splitlines() == ["study,state,minutes,host", "old,broken,2.5,", "new,waiting,,gpu-1"]
