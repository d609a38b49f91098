"""A search with a second stage and a limit of time ends its trials in time for it."""

from collections.abc import Iterator

import pytest
from comparison_samples import add_study
from hypothesis import given, strategies as st
from sqlalchemy import Engine
from worker_samples import make_config

from search.launcher import closing
from search.launcher.closing import Closing, fitting, takes
from search.study.finish_plan import FinishPlan, make_plan
from storage import database, studies

CONFIG = make_config(epochs=8)  # 1,000 images, 900 of them for trials
WANTED = make_plan(CONFIG, None)
PACE = 10.0  # seconds of an epoch of a trial


def shape(plan: FinishPlan) -> tuple[list[tuple[int, int]], int]:
    return [(rung.networks, rung.epochs) for rung in plan.rungs], plan.finals.recipe.epochs


def test_what_was_wanted_is_kept_where_there_is_time() -> None:
    assert shape(WANTED) == ([(16, 32), (4, 128)], 200)
    assert fitting(CONFIG, WANTED, takes(CONFIG, WANTED, PACE, 2), PACE, 2) == WANTED


def test_finals_are_shortened_first_then_fewer_networks_go_on() -> None:
    whole = takes(CONFIG, WANTED, PACE, 2)
    found = [shape(fitting(CONFIG, WANTED, share * whole, PACE, 2)) for share in (0.95, 0.7, 0.3, 0.05)]
    rungs = [[rung[0] for rung in one[0]] for one in found]
    assert rungs == [[16, 4], [8], [8], []]
    assert found[0][1] > 128 and 128 < found[1][1] < 200 and 32 < found[2][1] < 200 and 8 < found[3][1] < 32


def test_where_hardly_anything_fits_finals_are_the_shortest_there_are() -> None:
    assert shape(fitting(CONFIG, WANTED, 1.0, PACE, 2)) == ([], 9)


@given(st.floats(1, 1e6), st.floats(0.01, 100), st.integers(1, 64), st.integers(1, 30), st.integers(31, 300))
def test_a_plan_that_was_shortened_fits_but_for_the_shortest(
    seconds: float, pace: float, workers: int, brief: int, longest: int
) -> None:
    config = make_config(epochs=brief)
    wanted = make_plan(config, None, epochs=longest)
    found = fitting(config, wanted, seconds, pace, workers)
    assert found.finals.recipe.epochs <= longest
    assert takes(config, found, pace, workers) <= seconds or shape(found) == ([], brief + 1)
    assert (found.finals.seeds, found.finals.networks) == (wanted.finals.seeds, wanted.finals.networks)


@pytest.fixture
def engine(sqlite_url: str) -> Iterator[Engine]:
    """A study to 200 trials, five of which took 10 s for 3 epochs each."""
    record = add_study(sqlite_url, "s", [0.5, 0.6, 0.7, 0.65, 0.4])
    engine = database.connect(sqlite_url)
    studies.set_trials(engine, record.id, 200)
    yield engine
    engine.dispose()


def watch(engine: Engine) -> Closing:
    record = studies.find(engine, "s")
    config = make_config()
    wanted = make_plan(config, None, epochs=100)
    studies.set_finish(engine, record.id, wanted.document())
    return Closing(engine, record.id, config, wanted)


def kept(engine: Engine) -> tuple[int, int]:
    """Trials asked for, and epochs of the finals."""
    record = studies.find(engine, "s")
    plan = FinishPlan.from_record(record.finish)
    assert plan
    return record.trials, plan.finals.recipe.epochs


def test_trials_go_on_while_there_is_time_for_the_second_stage(engine: Engine) -> None:
    watching = watch(engine)
    assert not watching.look(elapsed=90_000, left=10_000, workers=2)
    assert (*kept(engine), watching.note) == (200, 100, "")


def test_trials_end_when_the_second_stage_needs_what_is_left(engine: Engine) -> None:
    watching = watch(engine)
    whole = takes(watching.config, watching.wanted, 10 / 3, 2)
    assert watching.look(elapsed=2 * whole, left=whole, workers=2)
    trials, epochs = kept(engine)
    assert trials == 5 and 90 < epochs < 100  # those that run end first
    assert watching.note.startswith(f"trials ended after {closing.duration(2 * whole)}, to leave time for")


def test_trials_have_half_of_the_time_at_least(engine: Engine) -> None:
    watching = watch(engine)
    assert not watching.look(elapsed=400, left=600, workers=2)
    trials, epochs = kept(engine)
    assert trials == 200 and epochs < 20, "a plan that fits is there when the trials end by themselves"
    assert watching.look(elapsed=500, left=500, workers=2)
    assert kept(engine)[0] == 5


def test_what_runs_when_trials_are_ended_counts(engine: Engine) -> None:
    from storage import leases

    record = studies.find(engine, "s")
    leases.claim(engine, record.id, "one", 60)
    watching = watch(engine)
    assert watching.look(elapsed=500, left=500, workers=2)
    assert kept(engine)[0] == 6


def test_a_second_stage_that_has_begun_is_left_alone(engine: Engine) -> None:
    studies.set_trials(engine, studies.find(engine, "s").id, 5)
    watching = watch(engine)
    assert not watching.look(elapsed=500, left=500, workers=2)
    assert (*kept(engine), watching.note) == (5, 100, "")
