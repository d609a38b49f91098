"""The same with real trainings of real images: killed and told to end in the middle of them."""

import signal
from collections.abc import Callable
from typing import Any

import pytest
from fault_killer import Killer
from faults import Figures, Search, wait_until

from storage import candidates
from storage.row_types import State

pytestmark = pytest.mark.faults


@pytest.mark.thorough  # trainer/test_continued.py kills one
def test_real_trainings_survive_the_death_of_their_workers(
    postgres_url: str,
    search_on: Callable[..., Search],
    check: Callable[..., Any],
    keep: Callable[[Figures], None],
    full: bool,
) -> None:
    kills, asked = (8, 40) if full else (2, 8)
    search = search_on(postgres_url, fake=False)
    launcher = search.launch(asked, "--epochs", 12 if full else 6)
    killer = Killer(search, launcher, seed=2)
    wait_until(search.training, "a training")
    for _ in range(kills):
        killer.kill_one()
    launcher.require(0)
    keep(search.settle(check, "SIGKILL of workers, real trainings (torch)", asked))


@pytest.mark.thorough
def test_real_trainings_told_to_end_are_finished_and_gone_on_with(
    postgres_url: str,
    search_on: Callable[..., Search],
    check: Callable[..., Any],
    keep: Callable[[Figures], None],
) -> None:
    search = search_on(postgres_url, fake=False)
    launcher = search.launch(50, "--epochs", 12)
    wait_until(search.training, "a training")
    search.signal_all(signal.SIGTERM)
    assert launcher.code() == 143, launcher.said()
    search.fault()
    states = [row.state for row in search.ask(candidates.candidates)]
    assert states
    assert set(states) <= {State.COMPLETED, State.REPEATED}
    asked = search.trained() + 1
    search.launch(asked, "--epochs", 12).require(0)
    keep(search.settle(check, "SIGTERM to every process, real trainings (torch)", asked))
