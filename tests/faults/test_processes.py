"""Workers and launchers that are killed, told to end, or two where one was meant: N stays N."""

import signal
from collections.abc import Callable
from typing import Any

import pytest
from fault_killer import Killer
from faults import Figures, Search, require_equal_results, wait_until

from storage import candidates, leases
from storage.row_types import State

pytestmark = pytest.mark.faults


@pytest.mark.thorough  # test_second_stage.py kills one
def test_workers_killed_again_and_again_cost_no_trial(
    faulty_url: str,
    search_on: Callable[..., Search],
    check: Callable[..., Any],
    keep: Callable[[Figures], None],
    full: bool,
) -> None:
    kills, trials = (50, 200) if full else (8, 30)
    search = search_on(faulty_url)
    search.orders(seconds=0.15)  # so that there are trials left for the last kill
    launcher = search.launch(trials, workers=3)
    killer = Killer(search, launcher, seed=1)
    wait_until(search.trained, "a first trial")
    for _ in range(kills):
        killer.kill_one()
    search.orders(seconds=0.005)  # the kills are over: let the rest be quick
    launcher.require(0)
    figures = search.settle(check, "SIGKILL of random workers in one search", trials)
    require_equal_results(search)
    assert figures.injected == kills
    keep(figures)


@pytest.mark.thorough  # test_second_stage.py kills one
def test_a_launcher_killed_and_launched_again_reaches_the_number(
    faulty_url: str,
    search_on: Callable[..., Search],
    check: Callable[..., Any],
    keep: Callable[[Figures], None],
    full: bool,
) -> None:
    """Its workers hear of its death from the kernel, finish their trials and end; the next goes on."""
    kills = 5 if full else 2
    search = search_on(faulty_url)
    for round_ in range(kills):
        launcher = search.launch(200)
        start = search.trained()
        wait_until(lambda start=start: search.trained() > start + 2, "some trials")
        launcher.process.kill()
        launcher.code()
        search.fault()
        if round_ % 2:  # the next launcher meets the workers of the first, or comes after them
            wait_until(lambda: not search.processes(), "the end of the workers")
    asked = search.trained() + 5
    search.launch(asked).require(0)
    wait_until(lambda: not search.processes(), "the end of the first one's workers")
    keep(search.settle(check, "SIGKILL of the launcher, then launched again", asked))


@pytest.mark.thorough  # search/test_signals.py has what each does of it
def test_a_sigterm_to_every_process_lets_trials_finish(
    faulty_url: str,
    search_on: Callable[..., Search],
    check: Callable[..., Any],
    keep: Callable[[Figures], None],
) -> None:
    """As a batch system does: launcher and workers hear it at once, and the launcher passes it on."""
    search = search_on(faulty_url)
    launcher = search.launch(200)
    wait_until(lambda: search.trained() > 2 and search.training(), "some trials")
    search.signal_all(signal.SIGTERM)
    assert launcher.code() == 143, launcher.said()
    search.fault()
    states = {row.state for row in search.ask(candidates.candidates)}
    assert State.CANCELLED not in states, "a trial that runs may finish within the grace period"
    keep(search.settle(check, "SIGTERM to every process", 200, done=False))
    asked = search.trained() + 4
    search.launch(asked).require(0)
    search.settle(check, "", asked)


@pytest.mark.thorough
@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_long_trainings_at_once(
    told: signal.Signals,
    sqlite_url: str,
    search_on: Callable[..., Search],
    check: Callable[..., Any],
    keep: Callable[[Figures], None],
) -> None:
    search = search_on(sqlite_url)
    search.orders(batches=1_000)
    launcher = search.launch(10)
    wait_until(lambda: len(search.ask(leases.running)) == 2 if search.study() else False, "two trainings")
    launcher.process.send_signal(told)
    wait_until(lambda: "stopping: " in launcher.said(), "an answer to the first signal")
    launcher.process.send_signal(told)
    assert launcher.code() == 128 + told, launcher.said()
    search.fault()
    states = [row.state for row in search.ask(candidates.candidates)]
    assert states.count(State.CANCELLED) == 2
    keep(search.settle(check, f"a second {told.name}", 10, done=False))


@pytest.mark.thorough
def test_two_launchers_of_one_study_share_the_number(
    faulty_url: str,
    search_on: Callable[..., Search],
    check: Callable[..., Any],
    keep: Callable[[Figures], None],
    full: bool,
) -> None:
    asked = 60 if full else 12
    search = search_on(faulty_url)
    first, second = search.launch(asked), search.launch(asked)
    search.injected = 1
    first.require(0)
    second.require(0)
    keep(search.settle(check, "two launchers of one study at once", asked))
