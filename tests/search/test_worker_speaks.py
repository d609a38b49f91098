"""What workers say while they work: lines of their logs, `search logs`, and `search ps`."""

import gc
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from command import Result, run
from ledger_samples import epoch, make_study, start, take
from sqlalchemy import Engine, text
from worker_samples import FakeTraining, make_config, make_context, make_study as make_both

from search.launcher.launcher import Launch
from search.launcher.prepare import Flags
from search.machine.processes import MADE_ROOM
from search.machine.signals import Interrupts, ShutdownRequest
from search.optuna_adapter import study as optuna_study
from search.study import worker_logs, worker_rows
from search.worker import heartbeat, log, worker as workers
from search.worker.context import WorkerContext
from search.worker.heartbeat import Heartbeat
from search.worker.presence import WorkerPresence
from space.architecture import Architecture
from space.errors import DivergedError, ParsimonyError, StorageError
from storage import candidates, database, leases, studies, workers as worker_table
from storage.row_types import State
from storage.studies import Control
from storage.workers import Doing

Say = Callable[[Doing], None]


@contextmanager
def works(
    url: str, train: FakeTraining, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[WorkerContext]:
    config = make_config()
    engine, record = make_both(url, config, 2)
    with optuna_study.open_study(url, record.name, config) as opened:
        context = make_context(opened, engine, record, train, config, folder)

        def open_context(*given: object) -> nullcontext[WorkerContext]:
            context.say = given[-1]  # type: ignore[assignment]
            return nullcontext(context)

        monkeypatch.setattr(workers, "open_context", open_context)
        yield context
    engine.dispose()


def work(context: WorkerContext) -> None:
    record = studies.find(context.engine, "bench")
    workers.work(context.options, context.engine, record, ShutdownRequest(1.0))


def test_a_worker_says_which_network_it_trains_and_what_came_of_it(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    errors = iter([DivergedError("training loss is nan in epoch 1")])

    def diverge_once(_: Architecture) -> None:
        if error := next(errors, None):
            raise error

    caplog.set_level(logging.INFO)
    with works(sqlite_url, FakeTraining(before=diverge_once), tmp_path, monkeypatch) as context:
        work(context)
        rows = candidates.candidates(context.engine, context.study_id)
    lines = caplog.messages
    assert "ready on fake" in lines
    for row in rows:
        begun = next(line for line in lines if line.startswith(f"trial {row.number}: "))
        assert begun.endswith(f", {row.parameters:,} parameters, 3 epochs")
    assert "trial 0 diverged: training loss is nan in epoch 1" in lines
    assert f"trial 1 completed: {100 * rows[1].accuracy:.2f}% after 3 epochs, 1.5 s" in lines
    assert lines[-1] == "ends: the study has its number"


def test_while_a_worker_works_no_collection_looks_through_what_was_there_before(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen: list[int] = []
    count = FakeTraining(before=lambda _: frozen.append(gc.get_freeze_count()))
    gc.unfreeze()
    try:
        with works(sqlite_url, count, tmp_path, monkeypatch) as context:
            work(context)
        assert gc.get_freeze_count() == 0, "another study's images can be freed"
    finally:
        gc.freeze()
    assert len(frozen) == 2 and min(frozen) > 10_000


def test_a_worker_gives_up_after_three_failures_in_a_row_and_not_after_more_that_are_apart(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fails every other network is theirs; what fails all of them is this machine's."""
    goes_wrong = iter([True, True, False, True, True, False, True, True, True])

    def fail(_: Architecture) -> None:
        if next(goes_wrong):
            raise RuntimeError("no space left on device")

    with works(sqlite_url, FakeTraining(before=fail), tmp_path, monkeypatch) as context:
        studies.set_trials(context.engine, context.study_id, 9)
        with pytest.raises(ParsimonyError, match="3 trials in a row failed here; see `search trials bench`"):
            work(context)
        tally = candidates.tally(context.engine, context.study_id)
        assert (tally[State.COMPLETED], tally[State.FAILED]) == (2, 7)


def test_a_worker_makes_room_for_two_shortages_in_ten_trials_and_not_for_two_far_apart(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of memory, beside others on its GPU, where it may leave that to them."""
    short = {4, 14, 23}  # counted from 1: ten trials hold the last two, and not the first two
    trained = 0

    def count(_: Architecture) -> None:
        nonlocal trained
        trained += 1
        context.out_of_memory_beside_others += trained in short

    with works(sqlite_url, FakeTraining(before=count), tmp_path, monkeypatch) as context:
        context.options = replace(context.options, make_room=True)
        studies.set_trials(context.engine, context.study_id, 40)
        with pytest.raises(SystemExit) as ended:
            work(context)
        assert (ended.value.code, trained) == (MADE_ROOM, 23)


def test_epochs_are_said_to_those_who_want_them(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(log.level(verbose=True, quiet=False))
    with works(sqlite_url, FakeTraining(), tmp_path, monkeypatch) as context:
        work(context)
    assert len([line for line in caplog.messages if line.startswith("trial 0 epoch ")]) == 3
    assert log.level(verbose=False, quiet=True) == logging.WARNING


def test_a_worker_says_that_it_is_paused_and_that_it_goes_on(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    seen = []
    with works(sqlite_url, FakeTraining(), tmp_path, monkeypatch) as context:
        studies.set_control(context.engine, context.study_id, Control.PAUSE)

        def while_it_waits(_: float) -> None:
            seen.append([one.state for one in worker_table.of_study(context.engine, context.study_id)])
            studies.set_control(context.engine, context.study_id, Control.RUN)

        monkeypatch.setattr(workers.time, "sleep", while_it_waits)
        work(context)
        assert worker_table.of_study(context.engine, context.study_id) == [], "it goes with its end"
    assert seen == [[Doing.PAUSED]]
    paused = caplog.messages.index("paused by `search pause`: waits for `search resume`")
    assert "goes on: `search resume` said so" in caplog.messages[paused:]


def test_a_worker_that_asks_while_the_search_is_resumed_goes_on(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pause refuses it a claim, and is over before it asks why."""
    claim = leases.claim
    with works(sqlite_url, FakeTraining(), tmp_path, monkeypatch) as context:
        studies.set_control(context.engine, context.study_id, Control.PAUSE)

        def refused_and_resumed(*given: object) -> object:
            answer = claim(*given)  # type: ignore[arg-type]
            studies.set_control(context.engine, context.study_id, Control.RUN)
            return answer

        monkeypatch.setattr(leases, "claim", refused_and_resumed)
        work(context)
        assert candidates.tally(context.engine, context.study_id)[State.COMPLETED] == 2


def test_an_order_in_the_middle_of_a_trial_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    beat = Heartbeat(None, None, 60.0, 60.0, lambda: None)  # type: ignore[arg-type]
    for order in (Control.RUN, Control.STOP, Control.STOP, Control.STOP_NOW):
        beat._hear(order)
    assert caplog.messages == ["told to stop: finishes its trial first", "told to end now"]
    assert beat.cancelled


@pytest.mark.parametrize(("lease", "stall", "most"), [(60.0, 600.0, 20.0), (60.0, 10.0, 5.0)])
def test_a_lease_is_renewed_well_before_it_runs_out_and_a_stall_is_seen_in_time(
    lease: float, stall: float, most: float
) -> None:
    """Two renewals may be lost with a connection."""
    pauses = list[float]()

    class Over:
        def wait(self, seconds: float) -> bool:
            pauses.append(seconds)
            return True

    beat = Heartbeat(None, None, lease, stall, lambda: None)  # type: ignore[arg-type]
    beat._over = Over()  # type: ignore[assignment]
    beat._beat()
    assert pauses == [pytest.approx(most, rel=0.5)] and pauses[0] <= most


def test_a_worker_that_was_stopped_for_long_does_not_hang_and_is_found_if_it_does_so_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its healthy training was written down as timed out at the moment in which it went on."""
    clock, stalled, renewed = [0.0], list[float](), list[float]()
    waits = iter([5.0, 1_000.0, 5.0, 5.0, 5.0])

    class Over:
        def wait(self, _: float) -> bool:
            clock[0] += next(waits)
            return False

    def renew(*_: object) -> Control:
        renewed.append(clock[0])
        return Control.RUN

    monkeypatch.setattr(heartbeat, "monotonic", lambda: clock[0])
    monkeypatch.setattr(leases, "renew", renew)
    beat = Heartbeat(None, None, 60.0, 10.0, lambda: stalled.append(clock[0]))  # type: ignore[arg-type]
    beat._over = Over()  # type: ignore[assignment]
    beat._beat()
    assert renewed == [5.0, 1_005.0, 1_010.0, 1_015.0], "its lease at once, if nobody has taken it back"
    assert stalled == [1_020.0], "10 s after it went on"


def test_a_worker_whose_database_is_away_works_on_unlisted(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise StorageError("cannot use it")

    engine, record = make_both(sqlite_url, make_config(), 2)
    for name in ("announce", "leave"):
        monkeypatch.setattr(worker_table, name, away)
    with WorkerPresence(engine, record.id, "one", 60.0) as presence:
        presence.say(Doing.WAITING)
        assert worker_table.of_study(engine, record.id) == []
    engine.dispose()


def test_a_worker_started_by_hand_has_a_log_beside_the_others(tmp_path: Path) -> None:
    log.configure()
    log.add_file(tmp_path / "night" / "by-hand.log")
    logging.getLogger("search.worker").info("trial 3 completed")
    log.add_file(tmp_path / "monday" / "by-hand.log")
    logging.getLogger("search.worker").info("trial 4 completed")
    assert "trial 3 completed" in (tmp_path / "night" / "by-hand.log").read_text()
    assert (tmp_path / "monday" / "by-hand.log").read_text().endswith("trial 4 completed\n")


LOGS = {
    "cpu0": """\
2026-03-01 12:00:00 works on bench
2026-03-01 12:00:02 trial 0: 16; 1x16, 1,000 parameters, 3 epochs
2026-03-01 12:00:09 trial 0 failed: ValueError: x
Traceback (most recent call last):
2026-03-01 12:00:10 trial 2: 16; 2x16, 1,000 parameters, 3 epochs
2026-03-01 12:00:11 told to pause: finishes its trial first
2026-03-01 12:00:12 trial 2 completed: 90.00% after 3 epochs, 2.0 s
2026-03-01 12:00:13 ends: the study has its number
""",
    "cpu1": "2026-03-01 12:00:03 trial 1: 16; 1x24, 1,000 parameters, 3 epochs\n",
}


@pytest.fixture
def logs(sqlite_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    engine, study = make_both(sqlite_url, make_config(), 3)
    for number in range(3):
        start(engine, study, number)
    engine.dispose()
    return lambda *more: run(capsys, "logs", *more, "--storage", sqlite_url, "--data-dir", tmp_path)


def write_logs(data_dir: Path) -> Path:
    place = worker_logs.folder(data_dir, "bench")
    place.mkdir(parents=True)
    for name, lines in LOGS.items():
        (place / f"{name}.log").write_text(lines)
    return place


def test_the_lines_of_all_workers_come_in_order_of_time(logs: Callable[..., Result], tmp_path: Path) -> None:
    write_logs(tmp_path)
    said = logs("bench")
    assert said.code == 0
    lines = said.out.splitlines()
    assert len(lines) == 9
    assert lines[2] == "cpu1  2026-03-01 12:00:03 trial 1: 16; 1x24, 1,000 parameters, 3 epochs"
    assert lines[4] == "cpu0  Traceback (most recent call last):"


def test_the_lines_of_one_trial_are_those_from_its_start_to_its_end(
    logs: Callable[..., Result], tmp_path: Path
) -> None:
    write_logs(tmp_path)
    lines = logs("bench:2").out.splitlines()
    assert [line[26:33] for line in lines] == ["trial 2", "told to", "trial 2"]
    assert logs("bench:7").code == 2


def test_without_a_log_on_this_machine_one_line_says_so(logs: Callable[..., Result]) -> None:
    for said in (logs("bench"), logs("bench:1")):
        assert said.code == 3
        assert "the workers of bench ran on other machines" in said.one_line


def test_whoever_follows_sees_what_comes_and_new_workers_too(tmp_path: Path) -> None:
    place = write_logs(tmp_path)
    steps = iter(
        [("cpu1", "2026-03-01 12:01:00 half a li"), ("cpu1", "ne\n"), ("cpu2", "2026-03-01 12:02:00 new\n")]
    )

    def pause() -> None:
        name, more = next(steps)
        with (place / f"{name}.log").open("a") as file:
            file.write(more)

    looks = []
    with suppress(RuntimeError):  # the steps are over
        for lines in worker_logs.StudyLogs(place).follow(pause):
            looks.append([line.text for line in lines])
    assert [len(look) for look in looks] == [9, 0, 1, 1]
    assert looks[2:] == [["2026-03-01 12:01:00 half a line"], ["2026-03-01 12:02:00 new"]]


def test_ps_lists_workers_that_start_wait_are_paused_and_train(engine: Engine) -> None:
    study = make_study(engine, trials=4)
    for name, doing in (
        ("a", Doing.STARTING),
        ("b", Doing.WAITING),
        ("c", Doing.PAUSED),
        ("d", Doing.WORKING),
    ):
        worker_table.announce(
            engine, study.id, name, host="box", pid=7, state=doing, lease_seconds=60.0, device="cpu"
        )
    claim, made = start(engine, study, 5, worker="d")
    candidates.save_epoch(engine, claim, made.id, epoch(2))
    take(engine, study, "e")  # of a worker that has no row: it chooses
    rows = worker_rows.joined(worker_table.of_study(engine, study.id), leases.running(engine, study.id))
    said = [worker_rows.described(row) for row in rows]
    assert said == ["starting", "waiting", "paused", "training trial 5, epoch 2", "chooses a network"]
    assert worker_rows.for_programs(rows[3])["pid"] == 7


def test_ps_says_how_long_a_worker_was_silent_and_forgets_the_dead(engine: Engine) -> None:
    study = make_study(engine, trials=4)
    for name in ("a", "b"):
        worker_table.announce(
            engine, study.id, name, host="box", pid=7, state=Doing.WAITING, lease_seconds=60.0
        )
    with database.writing(engine) as connection:
        connection.execute(text("UPDATE search_workers SET heard_at = heard_at - 41 WHERE name = 'a'"))
    rows = worker_rows.joined(worker_table.of_study(engine, study.id), [])
    assert 41 <= rows[0].heard < 60
    assert [worker_rows.described(row) for row in rows] == [f"silent for {rows[0].heard:.0f} s", "waiting"]
    leases.evict(engine, study.id, "a")
    assert [one.name for one in worker_table.of_study(engine, study.id)] == ["b"]


def test_ps_knows_where_a_worker_is_that_trains_for_more_than_an_hour(engine: Engine) -> None:
    """Its claim is renewed then, and not the row that has its host and process."""
    study = make_study(engine, trials=4)

    def announce(name: str) -> None:
        worker_table.announce(
            engine, study.id, name, host="box", pid=7, state=Doing.WORKING, lease_seconds=60.0
        )

    for name in ("killed", "trains"):
        announce(name)
    start(engine, study, 5, worker="trains")
    with database.writing(engine) as connection:
        connection.execute(text("UPDATE search_workers SET heard_at = heard_at - 3700"))
    announce("another")
    rows = worker_rows.joined(worker_table.of_study(engine, study.id), leases.running(engine, study.id))
    assert [(row.name, row.presence and row.presence.pid) for row in rows] == [("trains", 7), ("another", 7)]


def test_ps_gives_programs_the_state_of_each_worker(
    sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    engine, study = make_both(sqlite_url, make_config(), 3)
    worker_table.announce(engine, study.id, "a", host="box", pid=7, state=Doing.PAUSED, lease_seconds=60.0)
    engine.dispose()
    (row,) = json.loads(run(capsys, "ps", "--storage", sqlite_url, "--format", "json").out)
    assert (row["state"], row["host"], row["pid"], row["trial"]) == ("paused", "box", 7, None)
    assert "paused" in run(capsys, "ps", "--storage", sqlite_url).out


def test_a_pause_never_ends_a_launcher_that_has_no_workers_of_its_own(
    sqlite_url: str, tmp_path: Path
) -> None:
    config = make_config()
    engine, record = make_both(sqlite_url, config, 3)
    flags = Flags(sqlite_url, tmp_path, 3, "bench")
    with optuna_study.open_study(sqlite_url, record.name, config) as opened:
        launch = Launch(flags, engine, record, config, opened, [])
        for order, goes_on in ((Control.PAUSE, True), (Control.RUN, True), (Control.STOP, False)):
            studies.set_control(engine, record.id, order)
            assert launch._others_work(Interrupts()) == goes_on
        studies.set_control(engine, record.id, Control.PAUSE)
        launch.last = launch.snapshots.take()
        assert "paused by `search pause`: `search resume bench` goes on" in launch._note()
    engine.dispose()
