"""Trainings that hang, break, diverge, eat all memory, crash the interpreter or are killed by the kernel."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from faults import Figures, Search, require_equal_results

from search.machine import devices
from storage import candidates
from storage.row_types import State

pytestmark = pytest.mark.faults


def thorough(*values: object) -> object:
    return pytest.param(*values, marks=pytest.mark.thorough)


def run(search: Search, act: str, asked: int, *flags: object, **more: Any) -> Counter[State]:
    """A search in which this befalls some trainings. Returns the states of its candidates.

    Repeated proposals are left out: whether one turns up in so small a space is the sampler's luck.
    """
    search.orders(acts=[{"act": act, "share": [0.0, 0.5], **more}])
    search.launch(asked, *flags).require(0)
    require_equal_results(search)
    log = (search.place / "training" / "trained.log").read_text()
    search.injected = log.count(f"{act} ")
    assert search.injected > 0, "no training misbehaved: choose a larger share"
    return states_of(search)


def states_of(search: Search) -> Counter[State]:
    rows = search.ask(candidates.candidates)
    return Counter(row.state for row in rows if row.state != State.REPEATED)


@pytest.mark.thorough  # one that hangs goes through the same; search/test_trial.py has each of these
@pytest.mark.parametrize(
    ("act", "state", "fault"),
    [
        ("memory", State.OUT_OF_MEMORY, "a training that eats all memory (RLIMIT_AS)"),
        ("raise", State.FAILED, "a training that raises"),
        ("diverge", State.DIVERGED, "a training whose loss is NaN"),
    ],
)
def test_a_training_that_ends_badly_is_written_down_and_the_number_is_reached(
    act: str,
    state: State,
    fault: str,
    sqlite_url: str,
    search_on: Callable[..., Search],
    check: Callable[..., Any],
    keep: Callable[[Figures], None],
    full: bool,
) -> None:
    asked = 40 if full else 8
    search = search_on(sqlite_url)
    states = run(search, act, asked)
    assert states[State.COMPLETED] == asked
    assert states[state] >= 1
    reasons = [row.reason for row in search.ask(candidates.candidates) if row.state == state]
    assert all(reasons)
    keep(search.settle(check, fault, asked))


@pytest.mark.thorough
def test_without_memory_a_training_is_tried_again_at_half_the_batch(
    sqlite_url: str,
    search_on: Callable[..., Search],
    check: Callable[..., Any],
    keep: Callable[[Figures], None],
) -> None:
    search = search_on(sqlite_url)
    states = run(search, "memory", 8, once=True)
    assert states == {State.COMPLETED: 8}
    rows = [row for row in search.ask(candidates.candidates) if "out of memory" in (row.reason or "")]
    assert len(rows) == search.injected
    keep(search.settle(check, "a training that eats all memory once", 8))


@pytest.mark.thorough
def test_workers_leave_a_device_whose_memory_is_short_until_one_is_left(
    sqlite_url: str, search_on: Callable[..., Search]
) -> None:
    """Where their number was ours to choose."""
    if devices.cores() == 1:
        pytest.skip("one core has one worker, which has nobody to leave it to")
    search = search_on(sqlite_url)
    search.orders(acts=[{"act": "memory", "share": [0.0, 0.5], "once": True}])
    chosen = search.launch(24, "--workers", "auto")
    chosen.require(0)
    closed = [line for line in chosen.said().splitlines() if "was closed" in line]
    assert 1 <= len(closed) < devices.cores()
    assert all("the memory of its device was short" in line for line in closed)
    assert states_of(search) == {State.COMPLETED: 24}


@pytest.mark.parametrize(
    ("act", "fault"),
    [
        thorough("crash", "an interpreter that crashes (SIGSEGV)"),
        thorough("killed", "a worker killed as by the kernel, out of memory"),
    ],
)
def test_a_process_that_dies_of_its_training_is_one_lost_attempt(
    act: str,
    fault: str,
    faulty_url: str,
    search_on: Callable[..., Search],
    check: Callable[..., Any],
    keep: Callable[[Figures], None],
    full: bool,
) -> None:
    asked = 40 if full else 8
    search = search_on(faulty_url)
    states = run(search, act, asked, once=True, times=10 if full else 2)
    assert states == {State.COMPLETED: asked, State.LOST: search.injected}
    keep(search.settle(check, fault, asked))


def test_a_training_that_hangs_is_timed_out(
    faulty_url: str,
    search_on: Callable[..., Search],
    check: Callable[..., Any],
    keep: Callable[[Figures], None],
    full: bool,
) -> None:
    asked = 24 if full else 6
    search = search_on(faulty_url)
    states = run(search, "hang", asked, "--stall-timeout", "3s", times=5 if full else 1)
    assert states == {State.COMPLETED: asked, State.TIMED_OUT: search.injected}
    keep(search.settle(check, "a training that hangs", asked))


@pytest.mark.thorough
def test_a_network_that_kills_every_worker_is_given_up_after_three_attempts(
    sqlite_url: str,
    search_on: Callable[..., Search],
    check: Callable[..., Any],
    keep: Callable[[Figures], None],
) -> None:
    search = search_on(sqlite_url)
    search.orders(acts=[{"act": "crash", "share": [0.0, 1.0], "times": 3}])
    search.launch(6, workers=1).require(0)  # three deaths in a row close the only slot, for a minute
    lost = [row for row in search.ask(candidates.candidates) if row.state == State.LOST]
    assert [row.attempt for row in lost] == [1, 2, 3]
    search.injected = 3
    assert states_of(search) == {State.COMPLETED: 6, State.LOST: 3}
    keep(search.settle(check, "a network that crashes every worker", 6))
