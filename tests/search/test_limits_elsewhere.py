"""The limit of a launch that has no workers of its own, and whose search is trained elsewhere."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console
from worker_samples import make_config, make_study

from search.launcher import launcher
from search.launcher.display import LogDisplay
from search.launcher.launcher import End, Launch
from search.launcher.prepare import Flags
from search.launcher.worker_pool import WorkerProcess
from search.machine.devices import Slot
from search.machine.signals import Interrupts
from search.optuna_adapter import study as optuna_study
from storage import leases, studies, workers
from storage.leases import Claim
from storage.studies import Control
from storage.workers import Doing

AT_ONCE = 1e-9  # seconds


@pytest.fixture
def launch(sqlite_url: str, tmp_path: Path) -> Iterator[Launch]:
    """One whose time is up, of a study of which nothing is trained."""
    config = make_config()
    engine, record = make_study(sqlite_url, config, 3)
    flags = Flags(sqlite_url, tmp_path, 3, record.name, timeout=AT_ONCE)
    with optuna_study.open_study(sqlite_url, record.name, config) as opened:
        yield Launch(flags, engine, record, config, opened, [])
    engine.dispose()


def order(launch: Launch) -> Control:
    return studies.get(launch.engine, launch.record.id).order


def claimed(launch: Launch) -> Claim:
    claim = leases.claim(launch.engine, launch.record.id, "elsewhere", 600.0)
    assert isinstance(claim, Claim)
    return claim


def run(launch: Launch, monkeypatch: pytest.MonkeyPatch, *acts: Callable[[], object]) -> tuple[End, str]:
    """Runs it to its end, and what it shows; between two looks these things happen. A look more fails."""
    left = list(acts)
    monkeypatch.setattr(launcher.time, "sleep", lambda _: left.pop(0)())
    shown = Console(file=io.StringIO(), width=500)
    end = launch.run(LogDisplay(shown), Interrupts())
    assert not left, "it ended before"
    return end, cast(io.StringIO, shown.file).getvalue()


@pytest.mark.parametrize("given", [Control.RUN, Control.PAUSE, Control.STOP])
def test_the_workers_elsewhere_are_told_to_end_and_waited_for(
    launch: Launch, monkeypatch: pytest.MonkeyPatch, given: Control
) -> None:
    claim, found = claimed(launch), list[Control]()
    studies.set_control(launch.engine, launch.record.id, given)
    end, said = run(
        launch,
        monkeypatch,
        lambda: found.append(order(launch)),
        lambda: leases.release(launch.engine, claim),
    )
    assert found == [Control.STOP_NOW] and order(launch) == Control.STOP_NOW
    assert (end.code, end.order) == (4, Control.STOP_NOW)
    assert end.spent == "time was up after 0 s, --timeout"
    assert "time was up after 0 s, --timeout: the workers elsewhere are told to end" in said
    assert leases.claim(launch.engine, launch.record.id, "elsewhere", 60.0) is leases.NoClaim.STOPPED


def test_a_limit_that_is_no_search_s_own_ends_no_workers_of_another_launch(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    here: dict[str, Any] = {"host": "h", "pid": 1, "lease_seconds": 60.0, "state": Doing.WORKING}
    workers.announce(launch.engine, launch.record.id, "h-cpu0-1-abc123.1", **here)
    claimed(launch)
    end, _ = run(launch, monkeypatch, lambda: None)
    assert (end.code, order(launch)) == (4, Control.RUN)
    assert end.spent == "time was up after 0 s, --timeout"
    assert leases.running(launch.engine, launch.record.id), "it is not waited for"


def test_a_search_that_is_done_in_time_gets_no_order(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    launch.flags = Flags(launch.flags.storage, launch.flags.data_dir, 3, launch.record.name, timeout=3600.0)
    claim = claimed(launch)

    def ends() -> None:
        leases.release(launch.engine, claim)
        studies.set_control(launch.engine, launch.record.id, Control.STOP)

    end, _ = run(launch, monkeypatch, ends)
    assert (end.spent, order(launch)) == (None, Control.STOP)


def test_a_launch_with_workers_of_its_own_ends_these_alone(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config()
    engine, record = make_study(sqlite_url, config, 3)
    flags = Flags(sqlite_url, tmp_path, 3, record.name, timeout=AT_ONCE)
    with optuna_study.open_study(sqlite_url, record.name, config) as opened:
        launch = Launch(flags, engine, record, config, opened, [Slot("cpu0", {})])
        (slot,) = launch.pool.slots
        slot.process = cast(WorkerProcess, object())
        signals = list[bool]()
        monkeypatch.setattr(launch.pool, "start", lambda: None)
        monkeypatch.setattr(launch.pool, "watch", lambda _: None)
        monkeypatch.setattr(launch.pool, "signal", lambda now: signals.append(now))
        monkeypatch.setattr(launch.pool, "kill", lambda: setattr(slot, "process", None))
        claimed(launch)
        end, _ = run(launch, monkeypatch, lambda: None)
        assert signals == [False, True] and (end.code, order(launch)) == (4, Control.RUN)
    engine.dispose()
