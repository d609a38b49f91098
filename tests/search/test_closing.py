"""A search with a second stage and a limit of time ends its trials in time for it."""

import io
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import optuna
import pytest
from command import typed
from comparison_samples import BEGIN, add_finals, add_study
from hypothesis import given, strategies as st
from ledger_samples import proposal, train
from rich.console import Console
from rung_samples import candidate as rung_candidate, trained
from sqlalchemy import Engine, delete, insert, select, update
from worker_samples import make_config

from search.commands import launch_session, plan as commands_plan
from search.launcher import closing, prepare
from search.launcher.closing import Begun, Closing, fitting, takes
from search.launcher.display import Display, LogDisplay
from search.launcher.launcher import End, Launch
from search.launcher.prepare import Flags
from search.launcher.snapshots import Snapshots
from search.launcher.worker_group import WorkerGroup
from search.launcher.worker_pool import WorkerProcess
from search.machine.devices import Slot
from search.machine.signals import Interrupts
from search.recording.outage import OutageTooLongError
from search.report import made, page
from search.study import finals_length, finish_plan, halving, run_state, state_text
from search.study.console import SteadyConsole
from search.study.finish_plan import SLACK, FinishPlan, describe_closing, duration, make_plan
from search.study.worker_options import WorkerOptions
from search.worker.worker import unique_name
from space.errors import EnvironmentProblem
from storage import candidates, database, leases, rungs, studies, tables, workers
from storage.row_types import RungTraining, Stage, State
from storage.studies import Study
from trainer.recipe.document import Recipe

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
    assert rungs == [[16, 4], [11], [14], []]
    assert found[0][1] > 128 and 128 < found[1][1] < 200 and 32 < found[2][1] < 200 and 8 < found[3][1] < 32


def test_a_little_too_little_time_shortens_finals_a_little_with_one_seed_too() -> None:
    wanted = make_plan(CONFIG, None, seeds=1)
    whole = takes(CONFIG, wanted, PACE, 1)
    found = fitting(CONFIG, wanted, whole - 10, PACE, 1)
    assert found.rungs == wanted.rungs and found.finals.recipe.epochs == 199
    for share in (0.95, 0.9, 0.85, 0.8, 0.75, 0.7):
        used = takes(CONFIG, fitting(CONFIG, wanted, share * whole, PACE, 1), PACE, 1) / whole
        assert used > 0.8 * share, "no more than a fifth of the time is left over"


def test_where_hardly_anything_fits_finals_are_the_shortest_there_are() -> None:
    assert shape(fitting(CONFIG, WANTED, 1.0, PACE, 2)) == ([], 9)


@pytest.mark.parametrize(
    ("epochs", "schedule"),
    [
        (7, {"name": "cosine", "length": 7}),
        (10, {"name": "cosine", "warm_up": 1, "length": 9}),
        (12, {"name": "linear", "warm_up": 2, "length": 10}),
        (20, {"name": "one_cycle", "warm_up": 1, "length": 19}),
    ],
)
def test_finals_whose_schedule_has_a_length_of_its_own_are_shortened_too(
    epochs: int, schedule: dict[str, Any]
) -> None:
    """One of the lengths that are tried was refused for a last bit, and the whole plan was kept."""
    recipe = Recipe.model_validate({"epochs": epochs, "schedule": schedule})
    config = make_config().model_copy(update={"recipe": recipe, "recipe_written": ("schedule",)})
    wanted = make_plan(config, None)
    whole = takes(config, wanted, PACE, 2)
    for share in range(2, 20):
        plan = fitting(config, wanted, share / 20 * whole, PACE, 2)
        assert takes(config, plan, PACE, 2) <= share / 20 * whole
        assert plan.finals.recipe.planned.end == pytest.approx(plan.finals.recipe.epochs)


@given(st.floats(1, 1e6), st.floats(0.01, 100), st.integers(1, 64), st.integers(1, 30), st.integers(31, 300))
def test_a_plan_that_was_shortened_fits_but_for_the_shortest(
    seconds: float, pace: float, workers: int, brief: int, longest: int
) -> None:
    config = make_config(epochs=brief)
    wanted = make_plan(config, None, epochs=longest)
    found = fitting(config, wanted, seconds, pace, workers)
    assert found.finals.recipe.epochs <= longest
    assert takes(config, found, pace, workers) <= seconds or shape(found) == ([], brief + 1)
    assert found.finals.seeds == wanted.finals.seeds
    assert found.finals.networks == 1 or found.finals.recipe.epochs >= longest / 2


def test_finals_of_less_than_half_the_epochs_are_of_one_network_and_the_best_baseline() -> None:
    whole = takes(CONFIG, WANTED, PACE, 2)
    half, third = (fitting(CONFIG, WANTED, share * whole, PACE, 2).finals for share in (0.5, 0.3))
    assert (half.networks, third.networks, third.seeds) == (2, 1, 3) and half.recipe.epochs >= 100
    of_two = third.recipe.epochs * 6 / 9  # as long as they would be with a network more
    assert of_two < 100 and third.recipe.epochs > 75, "and 14 networks go on in place of 11"
    four = make_plan(CONFIG, None, finalists=4)
    found = fitting(CONFIG, four, 0.2 * takes(CONFIG, four, PACE, 2), PACE, 2)
    assert found.finals.networks == 4, "whoever asks for another number has it"


@pytest.mark.parametrize(
    ("workers", "contenders"), [(1, 4), (2, 4), (3, 3), (4, 4), (5, 4), (6, None), (8, None)]
)
def test_the_first_seed_chooses_of_as_many_as_cost_no_more_time(workers: int, contenders: int | None) -> None:
    """Than six trainings of two networks: with many workers these are trained side by side."""
    whole = takes(CONFIG, WANTED, PACE, workers)
    found = fitting(CONFIG, WANTED, 0.2 * whole, PACE, workers)
    assert (found.finals.networks, found.finals.contenders) == (1, contenders)
    usual = found.model_copy(update={"finals": found.finals.model_copy(update={"contenders": None})})
    assert takes(CONFIG, found, PACE, workers) == pytest.approx(takes(CONFIG, usual, PACE, workers))


@pytest.mark.parametrize("brief", [2, 3])
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_time_is_kept_for_no_rung_that_finals_of_four_contenders_do_not_have(
    brief: int, workers: int
) -> None:
    """A rung of four would drop nobody before them: it takes no time, and the first has more networks."""
    config = make_config(epochs=brief)
    wanted = make_plan(config, None)
    for share in (0.25, 0.3, 0.35):
        seconds = share * takes(config, wanted, PACE, workers)
        found = fitting(config, wanted, seconds, PACE, workers)
        assert found.finals.contenders and [rung.epochs for rung in found.rungs] == [4 * brief]
        assert takes(config, found, PACE, workers) > 0.95 * seconds
        assert found.rungs[0].networks > 11


def test_what_has_ended_of_two_turns_counts_once() -> None:
    rows = [rung_candidate(number, 0.5 + number / 100) for number in range(9)]
    plan = make_plan(CONFIG, None, 1, 20, 3, first=0, contenders=4)
    (turn,) = halving.reached(plan, rows, ())
    trainings = [trained(entry, 0.7) for entry in turn.missing]
    whole, left = (takes(CONFIG, plan, PACE, 1, Begun(rows, of)) for of in ((), trainings))
    assert (len(trainings), left / whole) == (4, pytest.approx(2 / 6))
    *_, last = halving.reached(plan, rows, trainings)
    trainings += [trained(entry, 0.7) for entry in last.missing[:1]]
    assert takes(CONFIG, plan, PACE, 1, Begun(rows, trainings)) / whole == pytest.approx(1 / 6)


@pytest.mark.parametrize(("networks", "contenders", "left"), [(2, None, 9 / 9), (1, 4, 6 / 6)])
def test_finals_of_before_take_no_time_off_those_of_trials_that_were_added(
    networks: int, contenders: int | None, left: float
) -> None:
    """The networks that had all seeds are ranked beside others, which have none yet."""
    rows = [rung_candidate(number, 0.5 + number / 100) for number in range(9)]
    plan = make_plan(CONFIG, None, networks, 20, 3, first=0, contenders=contenders)
    trainings = list[RungTraining]()
    while missing := halving.reached(plan, rows, trainings)[-1].missing:
        trainings += [trained(entry, 0.7) for entry in missing]
    rows += [rung_candidate(number, 0.5 + number / 100) for number in range(9, 13)]
    whole, found = (takes(CONFIG, plan, PACE, 1, Begun(rows, of)) for of in ((), trainings))
    assert found / whole == pytest.approx(left)
    first = halving.reached(plan, rows, trainings)[-1]
    trainings += [trained(entry, 0.7) for entry in first.missing]
    after = takes(CONFIG, plan, PACE, 1, Begun(rows, trainings)) / whole
    assert after == pytest.approx(2 / 6 if contenders else 3 / 9), (
        "a baseline that there is not, else two seeds"
    )


@pytest.mark.parametrize("networks", [4, 6, 11, 40])
def test_rungs_are_reckoned_by_the_networks_that_there_are(networks: int) -> None:
    rows = [rung_candidate(number, 0.5 + number / 100) for number in range(networks)]
    few = takes(CONFIG, WANTED, PACE, 1, Begun(networks=networks))
    entered, trainings = 0, list[RungTraining]()
    while (rung := halving.reached(WANTED, rows, trainings)[-1]).stage == Stage.HALVING:
        entered += len(rung.missing) * rung.epochs
        trainings += [trained(entry, 0.7) for entry in rung.missing]
    finals = takes(CONFIG, WANTED.model_copy(update={"rungs": ()}), PACE, 1)
    assert few == pytest.approx(finals + SLACK * PACE * entered)


def test_a_rung_takes_as_long_as_its_slowest_training() -> None:
    alone, beside = (takes(CONFIG, WANTED, PACE, 16, Begun(slowest=one)) for one in (1.0, 3.0))
    assert alone + SLACK * PACE * 2 * sum(rung.epochs for rung in WANTED.rungs) == pytest.approx(beside)
    few = [takes(CONFIG, WANTED, PACE, 1, Begun(slowest=one)) for one in (1.0, 3.0)]
    assert few[0] == few[1], "which one worker does among others"


def test_a_trial_whose_process_was_stopped_counts_as_a_slow_one() -> None:
    """An hour of docker pause is in its seconds: the whole plan would be reckoned eight times as long."""
    rows = [replace(rung_candidate(number, 0.5), seconds=30.0, epochs=3) for number in range(16)]
    rows[3] = replace(rows[3], seconds=3_630.0)
    assert finish_plan.seconds_an_epoch(rows) == pytest.approx(10 * (15 + finish_plan.SLOWEST) / 16)
    assert 1 < finish_plan.slowest(rows) <= finish_plan.SLOWEST


def test_no_rung_is_of_two_networks() -> None:
    one = make_plan(CONFIG, WANTED, finalists=1, epochs=140, first=11)
    assert shape(one) == ([(11, 32)], 140)
    assert shape(make_plan(CONFIG, WANTED, finalists=1)) == shape(WANTED)


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
    studies.set_finish(engine, record.id, make_plan(config, None, epochs=100).document())
    return Closing(engine, record.id, config)


def plan_of(engine: Engine) -> FinishPlan:
    plan = FinishPlan.from_record(studies.find(engine, "s").finish)
    assert plan
    return plan


def kept(engine: Engine) -> tuple[int, int]:
    """Trials asked for, and epochs of the finals."""
    return studies.find(engine, "s").trials, plan_of(engine).finals.recipe.epochs


def needed(engine: Engine, plan: FinishPlan) -> float:
    """Seconds that two workers need for it, of the trials that there are."""
    return takes(make_config(), plan, 10 / 3, 2, closing.begun(engine, studies.find(engine, "s").id))


def whole_of(engine: Engine) -> float:
    return needed(engine, plan_of(engine).whole)


def test_trials_go_on_while_there_is_time_for_the_second_stage(engine: Engine) -> None:
    watching = watch(engine)
    assert not watching.look(elapsed=90_000, left=10_000, workers=2)
    assert (*kept(engine), watching.note) == (200, 100, "")


def test_trials_end_when_the_second_stage_needs_what_is_left(engine: Engine) -> None:
    watching, whole = watch(engine), whole_of(engine)
    assert watching.look(elapsed=2 * whole, left=whole, workers=2)
    trials, epochs = kept(engine)
    assert trials == 5 and 90 < epochs < 100  # those that run end first
    said = f"trials were closed in time after 5 of 200, {duration(2 * whole)}, to leave time for"
    assert watching.note.startswith(said)


def test_trials_end_while_all_that_was_asked_for_still_fits(engine: Engine) -> None:
    watching, whole = watch(engine), whole_of(engine)
    trial, look = 10.0, closing.EVERY
    assert not watching.look(elapsed=2 * whole, left=whole + trial + 2.5 * look, workers=2)
    assert watching.look(elapsed=2 * whole + look, left=whole + trial + 1.5 * look, workers=2)
    assert kept(engine) == (5, 100)
    assert plan_of(engine).wanted is None and plan_of(engine).closed_from == 200


@pytest.mark.parametrize(("time_limit", "seconds"), [(60, 3), (200, 10), (400, 15)])
def test_a_short_search_is_looked_at_more_often(engine: Engine, time_limit: float, seconds: float) -> None:
    """Trials of one minute went on for half of it where a third was due, by a look every 15 s."""
    watching = watch(engine)
    early, due = time_limit / 2 - 0.5, time_limit / 2 - 0.5 + seconds
    assert not watching.look(early, time_limit - early, workers=2)
    assert not watching.look(due - 0.1, time_limit - due + 0.1, workers=2), "it looks now and then"
    assert watching.look(due, time_limit - due, workers=2)


def test_trials_end_sooner_where_even_the_shortest_second_stage_would_not_fit_later(engine: Engine) -> None:
    """Its winner is confirmed so: a search that gave trials half of the time ended without one."""
    watching, config = watch(engine), make_config()
    shortest = fitting(config, plan_of(engine).whole, 0.0, 10 / 3, 2)
    needs, runs, look = takes(config, shortest, 10 / 3, 2), 10.0, 7.0
    assert shape(shortest) == ([], 4)
    assert needs == pytest.approx(finish_plan.SLACK * 10 / 3 * 4 * 3), "two of the first seeds, one of others"
    limit = 140.0  # half of it is too late
    for left, closes in ((needs + runs + 2.1 * look, False), (needs + runs + 1.9 * look, True)):
        watching = watch(engine)
        elapsed = limit - left
        assert elapsed < limit / 2
        assert watching.look(elapsed, left, workers=2) == closes
    assert kept(engine) == (5, 5), "it has until one more epoch just fits, without a look to spare"


def test_trials_that_nothing_would_confirm_any_more_have_their_half(engine: Engine) -> None:
    assert not watch(engine).look(elapsed=20, left=30, workers=2)
    assert watch(engine).look(elapsed=25, left=25, workers=2)


def test_the_time_of_the_second_stage_is_that_of_slower_networks_where_these_are_the_best(
    sqlite_url: str,
) -> None:
    """Full budgets are ahead and take longer: finals took a third longer than the pace of 11 trials
    said, some of them at half the budget."""
    record = add_study(sqlite_url, "s", [0.5 + number / 100 for number in range(12)])
    engine = database.connect(sqlite_url)
    table = tables.candidates
    with database.writing(engine) as connection:
        slower = update(table).where(table.c.number >= 8).values(seconds=30.0)
        connection.execute(slower)
    assert Closing(engine, record.id, make_config())._pace() == 10.0
    with database.writing(engine) as connection:
        connection.execute(slower.values(seconds=1.0))
    assert Closing(engine, record.id, make_config())._pace() == pytest.approx((8 * 10 + 4) / 36)
    engine.dispose()


def test_a_plan_that_was_shortened_has_the_limit_and_the_note_follows_its_finals(engine: Engine) -> None:
    watching = watch(engine)
    assert watching.look(elapsed=500, left=500, workers=2)
    plan = plan_of(engine)
    assert plan.limit and plan.limit.workers == 2
    assert 400 < plan.limit.until - studies.clock(engine) <= 500
    longer = make_plan(make_config(), plan.whole, epochs=77, first=0).with_wanted(
        plan.whole, plan.closed_from
    )
    studies.set_finish(engine, studies.find(engine, "s").id, longer.document())
    assert not watching.look(elapsed=520, left=480, workers=2)
    assert watching.note.startswith(f"trials were closed in time after 5 of 200, {duration(500)}, ")
    assert "for 77 epochs" in watching.note


def test_trials_have_half_of_the_time_at_least(engine: Engine) -> None:
    watching = watch(engine)
    assert not watching.look(elapsed=400, left=600, workers=2)
    trials, epochs = kept(engine)
    assert trials == 200 and epochs == 35, "a plan that fits is there when the trials end by themselves"
    assert needed(engine, plan_of(engine)) <= 600 - 10
    assert watching.look(elapsed=500, left=500, workers=2)
    assert kept(engine)[0] == 5


@pytest.mark.parametrize(("trials", "share"), [(11, 1 / 2), (12, 1 / 3)])
def test_where_finals_stay_short_trials_have_a_third_of_the_time_once_there_are_enough(
    sqlite_url: str, trials: int, share: float
) -> None:
    """Short finals gain more by epochs than a search by its thirteenth trial."""
    record = add_study(sqlite_url, "s", [0.5 + number / 100 for number in range(trials)])
    engine = database.connect(sqlite_url)
    studies.set_trials(engine, record.id, 200)
    watching, time_limit = watch(engine), 1_000
    early, due = share * time_limit - 1, share * time_limit + closing.EVERY
    assert not watching.look(elapsed=early, left=time_limit - early, workers=2)
    assert watching.look(elapsed=due, left=time_limit - due, workers=2)
    assert kept(engine)[0] == trials
    engine.dispose()


def test_where_a_third_of_the_time_would_do_for_long_finals_trials_have_half(sqlite_url: str) -> None:
    """Finals that are half as long as they were to be, or longer, are not worth fewer trials."""
    record = add_study(sqlite_url, "s", [0.5 + number / 100 for number in range(12)])
    engine = database.connect(sqlite_url)
    studies.set_trials(engine, record.id, 200)
    watching = watch(engine)
    time_limit = 1.2 * whole_of(engine)
    assert not watching.look(elapsed=0.4 * time_limit, left=0.6 * time_limit, workers=2)
    assert 50 <= kept(engine)[1] < 100
    assert watching.look(elapsed=0.5 * time_limit, left=0.5 * time_limit, workers=2)
    engine.dispose()


def test_what_runs_when_trials_are_ended_counts(engine: Engine) -> None:
    record = studies.find(engine, "s")
    leases.claim(engine, record.id, "one", 60)
    watching = watch(engine)
    assert watching.look(elapsed=500, left=500, workers=2)
    assert kept(engine)[0] == 6


def running_trial(engine: Engine, number: int, seconds: float, worker: str = "slow") -> None:
    """One more trial, that has run for so long; others took 10 s."""
    claim = leases.claim(engine, studies.find(engine, "s").id, worker, 60)
    assert isinstance(claim, leases.Claim)
    assert candidates.propose(engine, claim, proposal(number)).number == number
    table = tables.claims
    earlier = update(table).where(table.c.worker == worker).values(claimed_at=table.c.claimed_at - seconds)
    with database.writing(engine) as connection:
        connection.execute(earlier)


def test_a_trial_that_takes_the_time_of_the_second_stage_is_given_up(engine: Engine) -> None:
    """Nobody goes on before the last trial has ended, which may be of a network ten times slower."""
    running_trial(engine, 5, 25)
    running_trial(engine, 6, 5, "usual")
    watching = watch(engine)
    assert watching.look(elapsed=500, left=500, workers=2)
    assert kept(engine)[0] == 7
    needs = needed(engine, plan_of(engine))
    assert watching.stragglers(510, needs + 1, 2) == [], "it may still end in time"
    assert watching.stragglers(511, needs - 1, 2) == [], "it looks now and then"
    (lost,) = watching.stragglers(510 + closing.EVERY, needs - 1, 2)
    assert (lost.number, lost.state) == (5, State.LOST)
    assert lost.reason == "too slow, with worker slow: the second stage needed the time"
    assert kept(engine)[0] == 6, "the other one may end as it does"
    assert watching.note.startswith("trials were closed in time after 6 of 200, ")
    assert watching.note.endswith("; too slow for that and given up: trial 5")
    record = studies.find(engine, "s")
    assert leases.claim(engine, record.id, "two", 60) is leases.NoClaim.WAIT
    assert watching.stragglers(600, 1, 2) == []
    watching.look(elapsed=620, left=380, workers=2)
    assert watching.note.endswith("given up: trial 5"), "the note is made anew at each look"


@pytest.mark.parametrize("end", [State.DIVERGED, State.OUT_OF_MEMORY, State.LOST])
def test_a_trial_that_fails_after_they_were_closed_has_no_other_begun_in_its_place(
    engine: Engine, end: State
) -> None:
    """The network that had just been given up as too slow was begun again."""
    running_trial(engine, 5, 25)
    running_trial(engine, 6, 5, "usual")
    watching, record = watch(engine), studies.find(engine, "s")
    assert watching.look(elapsed=500, left=500, workers=2)
    assert [one.number for one in watching.stragglers(510, 1, 2)] == [5]
    assert kept(engine)[0] == 6
    fail(engine, "usual", end)
    assert kept(engine)[0] == 5
    assert leases.claim(engine, record.id, "two", 60) is leases.NoClaim.DONE
    assert candidates.next_retry(engine, record.id) is None
    watching.look(elapsed=530, left=470, workers=2)
    assert watching.note.startswith("trials were closed in time after 5 of 200, ")
    studies.set_trials(engine, record.id, 300)
    studies.set_finish(engine, record.id, plan_of(engine).whole.document())
    again = candidates.next_retry(engine, record.id)
    assert again and again.number == 5, "by a launch that asks for more trials"


def fail(engine: Engine, worker: str, end: State) -> None:
    """The trial of a worker comes to nothing."""
    record = studies.find(engine, "s")
    if end == State.LOST:
        leases.evict(engine, record.id, worker)
        return
    with database.reading(engine) as connection:
        table = tables.claims
        held = connection.execute(select(table).where(table.c.worker == worker)).one()
    claim = leases.Claim(held.token, record.id, held.ordinal, worker)
    candidates.finish(engine, claim, held.candidate_id, end, reason="so it is")


def test_a_trial_that_was_told_to_end_after_they_were_closed_goes_on(engine: Engine) -> None:
    running_trial(engine, 5, 25)
    running_trial(engine, 6, 5, "usual")
    watching, record = watch(engine), studies.find(engine, "s")
    assert watching.look(elapsed=500, left=500, workers=2)
    assert watching.stragglers(510, 1, 2)
    fail(engine, "usual", State.CANCELLED)
    assert isinstance(leases.claim(engine, record.id, "two", 60), leases.Claim)
    again = candidates.next_retry(engine, record.id)
    assert again and again.number == 6, "and not the one that was too slow"


def test_a_slow_trial_that_was_told_to_end_is_given_up_by_the_next_launch_as_soon_as_it_would_be(
    engine: Engine,
) -> None:
    """The next launch closed the trials once more, after half of its time, before it looked for such."""
    running_trial(engine, 5, 25)
    closed_by = watch(engine)
    assert closed_by.look(elapsed=500, left=500, workers=2)
    fail(engine, "slow", State.CANCELLED)
    record, was = studies.find(engine, "s"), plan_of(engine)
    watching = Closing(engine, record.id, make_config())
    assert watching.begin(250, 2)
    plan, trial = plan_of(engine), 10.0
    assert (plan.closed_from, plan.whole) == (200, was.whole)
    assert needed(engine, plan) <= 0.9 * 250 - trial, "which ends first"
    running_trial(engine, 6, 25, "again")
    assert not watching.look(elapsed=1, left=249, workers=2)
    assert watching.stragglers(20, 230, 2) == [], "it may still end in time"
    assert [one.number for one in watching.stragglers(40, 160, 2)] == [6]
    assert kept(engine)[0] == 5 and plan_of(engine) == plan
    assert watching.note.startswith("the second stage is shortened to the time: ")
    assert watching.note.endswith("; too slow for that and given up: trial 6")


def test_trials_of_a_launch_that_asks_for_more_than_were_closed_are_none_that_were_closed(
    engine: Engine,
) -> None:
    running_trial(engine, 5, 500)
    watching = watch(engine)
    studies.set_trials(engine, studies.find(engine, "s").id, 7)
    assert watching.begin(250, 2)
    assert watching.stragglers(40, 1, 2) == [] and plan_of(engine).wanted is None


def test_a_trial_that_takes_as_long_as_others_ends_however_short_the_time_is(engine: Engine) -> None:
    """Where not even the shortest second stage seems to fit, which is reckoned with some slack."""
    running_trial(engine, 5, 12)
    watching = watch(engine)
    assert watching.look(elapsed=500, left=5, workers=2)
    assert watching.stragglers(510, 1, 2) == []
    assert kept(engine)[0] == 6


def test_no_trial_is_given_up_while_trials_are_asked_for_or_the_second_stage_goes_on(engine: Engine) -> None:
    running_trial(engine, 5, 500)
    watching = watch(engine)
    assert watching.stragglers(900, 1, 2) == [], "nothing was closed"
    assert watching.look(elapsed=500, left=500, workers=2)
    studies.set_trials(engine, studies.find(engine, "s").id, 300)
    assert watching.stragglers(900, 1, 2) == [], "somebody asked for more"
    assert watching.look(elapsed=950, left=50, workers=2)
    enter(engine, state=None)
    assert watching.stragglers(990, 1, 2) == []


def test_where_trials_are_done_a_look_leaves_the_second_stage_alone(engine: Engine) -> None:
    studies.set_trials(engine, studies.find(engine, "s").id, 5)
    watching = watch(engine)
    assert not watching.look(elapsed=500, left=500, workers=2)
    assert (*kept(engine), watching.note) == (5, 100, "")


def enter(
    engine: Engine,
    state: State | None,
    epochs: int = 12,
    networks: int = 3,
    stage: Stage = Stage.HALVING,
) -> None:
    """A rung of the first networks, whose trainings are all at this."""
    record = studies.find(engine, "s")
    rows = candidates.candidates(engine, record.id)[:networks]
    with database.writing(engine) as connection:
        for row in rows:
            values = {"study_id": record.id, "candidate_id": row.id, "stage": stage, "attempt": 1,
                      "epochs": epochs, "seed": 0, "state": state, "accuracy": 0.5 if state else None,
                      "entered_at": BEGIN}  # fmt: skip
            connection.execute(insert(tables.rung_trainings).values(values))


def test_a_search_that_is_done_gets_a_second_stage_that_fits_before_its_workers_start(engine: Engine) -> None:
    studies.set_trials(engine, studies.find(engine, "s").id, 5)
    watching, whole = watch(engine), whole_of(engine)
    watching.begin(2 * whole, 2)
    assert (*kept(engine), watching.note) == (5, 100, "")
    watching.begin(whole / 2, 2)
    plan = plan_of(engine)
    assert plan.finals.recipe.epochs < 100 and plan.whole.finals.recipe.epochs == 100
    assert needed(engine, plan) <= whole / 2 - closing.STARTING
    assert watching.note.startswith("the second stage is shortened to the time: ")
    longer = make_plan(make_config(), plan.whole, epochs=77, first=0).with_wanted(plan.whole, None)
    studies.set_finish(engine, studies.find(engine, "s").id, longer.document())
    watching.look(elapsed=100, left=400, workers=2)
    assert "for 77 epochs" in watching.note


def new_study(engine: Engine, trials: int, plan: FinishPlan) -> Study:
    """One that has trained nothing."""
    settings = make_config().document()
    record = studies.create(
        engine, "new", trials=trials, max_parameters=9, max_macs=9, seed=0, settings=settings, versions={}
    )
    studies.set_finish(engine, record.id, plan.document())
    return record


@pytest.mark.parametrize(("seconds", "epochs"), [(100.0, 19), (9_000.0, 100)])
def test_finals_have_the_limit_though_all_trials_end_between_two_looks(
    engine: Engine, seconds: float, epochs: int
) -> None:
    """Finals of a new search of two trials were as long as was asked for, and were cut off."""
    config, whole = make_config(), make_plan(make_config(), None, epochs=100)
    record = new_study(engine, 2, whole)
    watching = Closing(engine, record.id, config)
    watching.begin(seconds, 2)
    assert not watching.look(elapsed=0.5, left=seconds - 0.5, workers=2), "no trial has ended"
    for number in range(2):
        train(engine, record, number, 0.5 + number / 10)
    assert not watching.look(elapsed=8, left=seconds - 8, workers=2)
    plan = FinishPlan.from_record(studies.get(engine, record.id).finish)
    assert plan and plan.limit and plan.limit.workers == 2 and plan.whole == whole
    assert seconds - 60 < plan.limit.until - studies.clock(engine) <= seconds
    rows = candidates.candidates(engine, record.id)
    (finals,) = [rung for rung in halving.reached(plan, rows, ()) if rung.stage == Stage.FINALS]
    fitted = finals_length.fitted(config, plan, finals, (), plan.limit.until - seconds + 10)
    assert (fitted or plan).finals.recipe.epochs == epochs


def test_a_launch_that_leaves_trials_owed_takes_its_limit_with_it(engine: Engine) -> None:
    watching, whole = watch(engine), plan_of(engine)
    watching.begin(1_000, 2)
    assert plan_of(engine).limit and plan_of(engine).whole == whole
    watching.end()
    assert plan_of(engine) == whole


def test_the_first_look_at_a_trial_is_as_soon_as_one_has_ended(engine: Engine) -> None:
    record = new_study(engine, 9, make_plan(make_config(), None, epochs=100))
    watching = Closing(engine, record.id, make_config())
    watching.begin(300, 2)
    assert not watching.look(elapsed=0, left=300, workers=2)
    train(engine, record, 0, 0.5)
    assert not watching.look(elapsed=0.5, left=299.5, workers=2)
    plan = FinishPlan.from_record(studies.get(engine, record.id).finish)
    assert plan and plan.wanted, "what would fit now"


def test_a_second_stage_that_is_under_way_keeps_its_plan(engine: Engine) -> None:
    studies.set_trials(engine, studies.find(engine, "s").id, 5)
    watching = watch(engine)
    enter(engine, None)
    watching.begin(100, 2)
    assert (*kept(engine), watching.note) == (5, 100, "")
    studies.set_trials(engine, studies.find(engine, "s").id, 50)
    assert watching.look(elapsed=500, left=500, workers=2)
    assert kept(engine) == (5, 100), "trials that were added are closed all the same"


def test_finals_that_have_chosen_by_their_first_seed_keep_their_length(engine: Engine) -> None:
    """Another one would train that seed again."""
    studies.set_trials(engine, studies.find(engine, "s").id, 5)
    watching = watch(engine)
    whole = plan_of(engine)
    short = make_plan(make_config(), whole, 1, 20, 3, first=0, contenders=4).with_wanted(whole, 200)
    for trained_networks, keeps in ((3, False), (4, True)):  # which are the best four
        enter(engine, State.COMPLETED, 20, trained_networks, Stage.FINALS)
        studies.set_finish(engine, studies.find(engine, "s").id, short.document())
        assert closing.begun(engine, watching.study_id).is_under_way(short) == keeps
        watching.begin(1e6, 2)
        assert (plan_of(engine).finals == short.finals) == keeps
        with database.writing(engine) as connection:
            connection.execute(delete(tables.rung_trainings))


def test_what_is_trained_of_the_second_stage_takes_no_time_and_what_waits_elsewhere_does(
    engine: Engine,
) -> None:
    watching = watch(engine)
    plan, config = plan_of(engine), make_config()
    study_id = studies.find(engine, "s").id
    whole = takes(config, plan, 10.0, 1, closing.begun(engine, study_id))
    enter(engine, State.COMPLETED, networks=5)
    there = closing.begun(engine, study_id)
    assert takes(config, plan, 10.0, 1, there) == whole - finish_plan.SLACK * 10.0 * 5 * 12
    enter(engine, None, epochs=77, networks=2)
    there = closing.begun(engine, study_id)
    assert there.strays(plan) == [77, 77]
    assert takes(config, plan, 10.0, 1, there) == whole + finish_plan.SLACK * 10.0 * (2 * 77 - 5 * 12)
    assert watching.note == ""


def again(engine: Engine, url: str, trials: int, **given: Any) -> tuple[int, FinishPlan]:
    """Trials and plan of another launch of the study."""
    flags = prepare.with_trials(Flags(url, Path(), trials, "s", **given))
    plan = prepare.plan_of(flags, studies.find(engine, "s"), make_config())
    assert plan
    return flags.trials, plan


def without_limit(plan: FinishPlan) -> FinishPlan:
    return plan.model_copy(update={"limit": None})


HERE_IT_IS: dict[str, Any] = {"host": "h", "pid": 1, "lease_seconds": 60.0, "state": workers.Doing.WORKING}


def worker_of_another_launch(engine: Engine) -> str:
    """The name of one that is heard of."""
    name = "h-cpu0-1-abc123.1"
    workers.announce(engine, studies.find(engine, "s").id, name, **HERE_IT_IS)
    return name


def test_the_same_command_goes_on_with_the_second_stage_of_trials_that_were_closed(
    engine: Engine, sqlite_url: str
) -> None:
    watching = watch(engine)
    assert watching.look(elapsed=500, left=500, workers=2)
    closed = plan_of(engine)
    assert closed.wanted and closed.closed_from == 200
    enter(engine, None)
    same: dict[str, Any] = {"finish": True, "final_epochs": 100, "timeout": 1_000.0}
    assert again(engine, sqlite_url, 200, **same) == (5, closed)
    assert again(engine, sqlite_url, 5) == (5, without_limit(closed)), "as search resume"
    trials, plan = again(engine, sqlite_url, 201, **same)
    assert trials == 201 and plan.closed_from is None, "more than were asked for before are trained"


def test_once_its_second_stage_is_over_the_same_command_trains_more_towards_the_whole_plan(
    engine: Engine, sqlite_url: str
) -> None:
    record = studies.find(engine, "s")
    watch(engine)
    whole = plan_of(engine)
    add_finals(sqlite_url, record, 2, (0.8, 0.9))
    short = plan_of(engine).with_wanted(whole, 200)
    studies.set_finish(engine, record.id, short.document())
    studies.set_trials(engine, record.id, 5)
    assert again(engine, sqlite_url, 5, timeout=9.0) == (5, short)
    assert again(engine, sqlite_url, 200, finish=True, timeout=9.0) == (200, whole)
    trials, plan = again(engine, sqlite_url, 5, finish=True)
    assert (trials, plan.finals.recipe.epochs, plan.closed_from) == (5, 100, 200)


def test_finals_go_on_by_the_recipe_that_an_older_version_planned_where_their_length_is_said_again(
    engine: Engine, sqlite_url: str
) -> None:
    """One that shifted images otherwise: another recipe threw finals away, or was averaged with the first."""
    record, config = studies.find(engine, "s"), make_config()
    usual = make_plan(config, None, epochs=100)
    shifted = usual.finals.recipe.model_copy(update={"crop_padding": usual.finals.recipe.crop_padding + 1})
    older = usual.model_copy(update={"finals": usual.finals.model_copy(update={"recipe": shifted})})
    assert make_plan(config, older, epochs=100) == make_plan(config, older) == older != usual
    assert make_plan(config, older, epochs=99).finals.recipe.crop_padding == usual.finals.recipe.crop_padding
    short = make_plan(config, older, 1, 37, first=0, contenders=4).with_wanted(older, 200)
    studies.set_finish(engine, record.id, short.document())
    studies.set_trials(engine, record.id, 5)
    enter(engine, None, epochs=37, stage=Stage.FINALS)
    same: dict[str, Any] = {"finish": True, "final_epochs": 100, "timeout": 1_000.0}
    assert again(engine, sqlite_url, 200, **same) == (5, short)
    studies.set_finish(engine, record.id, older.document())
    assert again(engine, sqlite_url, 5, **same) == (5, older), "nor where nothing was shortened"


def test_a_plan_that_was_shortened_comes_back_where_nothing_of_it_has_begun(
    engine: Engine, sqlite_url: str
) -> None:
    watching = watch(engine)
    wanted = plan_of(engine)
    assert not watching.look(elapsed=400, left=600, workers=2)
    assert plan_of(engine) != wanted
    assert again(engine, sqlite_url, 200) == (200, wanted)
    assert again(engine, sqlite_url, 200, finish=True) == (200, wanted)


def test_a_shortened_plan_grows_again_with_the_time_there_is_and_is_whole_without_a_limit(
    engine: Engine,
) -> None:
    watching = watch(engine)
    wanted = plan_of(engine)
    watching.look(elapsed=400, left=600, workers=2)
    assert plan_of(engine).whole == wanted != plan_of(engine)
    watching.look(elapsed=420, left=90_000, workers=2)
    grown = plan_of(engine)
    assert grown == wanted.with_wanted(wanted, None, grown.limit)
    watching.look(elapsed=440, left=600, workers=2)
    assert plan_of(engine).wanted == wanted
    watching.end()
    assert (studies.find(engine, "s").trials, plan_of(engine)) == (200, wanted)


def test_who_joins_after_trials_were_closed_leaves_the_plan_that_fits(
    engine: Engine, sqlite_url: str
) -> None:
    watching = watch(engine)
    assert watching.look(elapsed=500, left=500, workers=2)
    closed = plan_of(engine)
    assert closed.wanted and closed.limit
    same: dict[str, Any] = {"finish": True, "final_epochs": 100}
    assert again(engine, sqlite_url, 200, **same, timeout=60.0) == (5, closed)
    assert again(engine, sqlite_url, 5) == (5, without_limit(closed)), "as search resume"
    there = worker_of_another_launch(engine)
    assert again(engine, sqlite_url, 5) == (5, closed), "whose limit it is"
    record = studies.find(engine, "s")
    workers.leave(engine, record.id, there)
    workers.announce(engine, record.id, f"box-{unique_name()}", **HERE_IT_IS)
    assert again(engine, sqlite_url, 5) == (5, without_limit(closed)), "one by hand has none"
    assert again(engine, sqlite_url, 200, **same) == (5, closed.whole.with_wanted(closed.whole, 200))
    record = studies.find(engine, "s")
    opened = replace(record, trials=200, finish=closed.whole.document())  # as it was when images were read
    flags = Flags(sqlite_url, Path(), 200, "s", finish=True, final_epochs=100, timeout=60.0)
    assert prepare.plan_of(flags, opened, make_config()) == closed.whole
    assert prepare._plan_by_now(engine, opened, flags, make_config()) == closed


def test_a_limit_of_a_launch_that_is_gone_shortens_no_finals_of_one_without(
    engine: Engine, sqlite_url: str
) -> None:
    """The whole plan fitted the first launch, which was interrupted in its halving."""
    studies.set_trials(engine, studies.find(engine, "s").id, 5)
    watch(engine).begin(1e6, 2)
    whole = plan_of(engine)
    assert whole.limit and not whole.wanted
    enter(engine, None)
    assert again(engine, sqlite_url, 5, finish=True)[1].limit is None
    assert again(engine, sqlite_url, 5)[1].limit is None, "as search resume"
    assert again(engine, sqlite_url, 5, timeout=60.0)[1] == whole, "until it begins"
    record, unlimited = studies.find(engine, "s"), whole.model_copy(update={"limit": None})
    waiting = rungs.of_study(engine, record.id)
    prepare._planned(engine, record, unlimited)
    assert plan_of(engine) == unlimited and rungs.of_study(engine, record.id) == waiting


def test_a_plan_that_a_launch_which_is_gone_has_shortened_has_its_limit_no_longer_in_one_without(
    engine: Engine, sqlite_url: str
) -> None:
    """Its finals were shortened to the minutes that were left of the night before."""
    assert watch(engine).look(elapsed=500, left=500, workers=2)
    enter(engine, None)
    record, closed = studies.find(engine, "s"), plan_of(engine)
    assert closed.wanted and closed.limit
    flags = Flags(sqlite_url, Path(), 5, "s")
    plan = prepare.plan_of(flags, record, make_config())
    assert plan == without_limit(closed)
    waiting = rungs.of_study(engine, record.id)
    prepare._planned(engine, record, plan)
    assert plan_of(engine) == plan and rungs.of_study(engine, record.id) == waiting


@pytest.mark.parametrize("slots", [[Slot("cpu0", {})], []])
def test_a_launch_without_a_limit_drops_that_of_another_one_once_its_workers_have_gone(
    engine: Engine, sqlite_url: str, tmp_path: Path, slots: list[Slot]
) -> None:
    assert watch(engine).look(elapsed=500, left=500, workers=2)
    enter(engine, None)
    record, closed = studies.find(engine, "s"), plan_of(engine)
    flags = Flags(sqlite_url, tmp_path, 5, "s")
    there = worker_of_another_launch(engine)
    launch = Launch(flags, engine, record, make_config(), cast(optuna.Study, None), slots)
    launch._fit_in_time()
    launch._close_in_time()
    assert plan_of(engine) == closed
    workers.leave(engine, record.id, there)
    launch._close_in_time()
    assert plan_of(engine) == without_limit(closed)


def test_a_launch_that_finds_a_second_stage_under_way_has_it_end_with_its_own_limit(engine: Engine) -> None:
    watching = watch(engine)
    assert watching.look(elapsed=500, left=500, workers=2)
    enter(engine, None)
    was = plan_of(engine)
    watching.begin(5_000, 3)
    now = plan_of(engine)
    assert was.limit and now.limit and now.limit.workers == 3
    assert 4_900 < now.limit.until - studies.clock(engine) <= 5_000
    assert now == was.with_wanted(was.whole, was.closed_from, now.limit)


def test_that_the_space_is_exhausted_is_said_whatever_becomes_of_the_plan(
    engine: Engine, sqlite_url: str
) -> None:
    watching, record = watch(engine), studies.find(engine, "s")
    assert leases.close_exhausted(engine, record.id) is leases.NoClaim.DONE
    said = "the space is exhausted: trials ended after 5 of 200"
    same: dict[str, Any] = {"finish": True, "final_epochs": 100, "timeout": 1_000.0}
    for begins in (1e6, 500.0):
        watching.begin(begins, 2)
        plan = plan_of(engine)
        assert plan.limit and bool(plan.wanted) == (begins == 500.0)
        assert describe_closing(plan, 5) == said
        flags, kept_plan = again(engine, sqlite_url, 200, **same)
        assert flags == 5 and describe_closing(kept_plan, 5) == said, "the same command goes on"
    assert not watching.look(elapsed=10, left=490, workers=2)
    enter(engine, None)
    watching.begin(1_000, 3)
    watching.end()
    assert describe_closing(plan_of(engine), 5) == said
    trials, plan = again(engine, sqlite_url, 201, **same)
    assert (trials, plan.closed_from, plan.exhausted) == (201, None, False)
    assert FinishPlan.from_record(plan_of(engine).document()) == plan_of(engine)


@pytest.mark.parametrize(
    ("exhausted", "more"),
    [
        (True, "the space is exhausted: trials ended after 5 of 200; --trials 201 trains networks that are "),
        (False, "trials were closed in time after 5 of 200; --trials 200 trains more once it is over"),
    ],
)
def test_the_opening_lines_say_how_many_trials_train_more(
    capsys: pytest.CaptureFixture[str], exhausted: bool, more: str
) -> None:
    plan = WANTED.with_wanted(WANTED, 200, exhausted=exhausted)
    flags = Flags("sqlite://", Path(), 5)
    launch_session._say_finish(Console(width=500), flags, plan, CONFIG, 5, None)
    assert f"         {more}" in capsys.readouterr().out


def test_trials_that_were_closed_in_time_stay_so_where_the_last_one_finds_no_network(engine: Engine) -> None:
    watching, record = watch(engine), studies.find(engine, "s")
    claim = leases.claim(engine, record.id, "one", 60)
    assert isinstance(claim, leases.Claim)
    assert watching.look(elapsed=500, left=500, workers=2)
    leases.release(engine, claim)
    assert leases.close_exhausted(engine, record.id) is leases.NoClaim.DONE
    assert describe_closing(plan_of(engine), 5) == "trials were closed in time after 5 of 200"
    assert studies.find(engine, "s").trials == 5


def test_the_end_of_a_launch_of_an_exhausted_space_names_the_command_that_goes_on_with_all_its_flags(
    engine: Engine, sqlite_url: str, tmp_path: Path
) -> None:
    """Its time was up before its second stage was over."""
    watch(engine)
    record = studies.find(engine, "s")
    assert leases.close_exhausted(engine, record.id) is leases.NoClaim.DONE
    snapshot = Snapshots(engine, record, make_config()).take()
    end = End(snapshot, record.order, 0, None, "", "time was up", {}, False)
    console = Console(file=io.StringIO(), width=300)
    flags = Flags(sqlite_url, tmp_path, 200, "s", timeout=28_800.0)
    onward = partial(commands_plan.again, flags, "s", workers="3", gpus="all")
    with typed("launch", "s", "--storage", sqlite_url, "--data-dir", tmp_path):
        launch_session._say_end(console, flags, record, end, onward)
    assert isinstance(console.file, io.StringIO)
    said = console.file.getvalue()
    assert "\nthe space is exhausted: trials ended after 5 of 200\n" in said
    command = (
        f"search launch s --trials 5 --storage {sqlite_url} --data-dir {tmp_path} --timeout 8h --workers 3"
    )
    assert said.endswith(f"go on with `{command}`\n")
    assert said.count("search launch") == 1


def test_trials_that_were_opened_again_are_ended_in_time_again(engine: Engine) -> None:
    watching = watch(engine)
    assert watching.look(elapsed=500, left=500, workers=2)
    assert not watching.look(elapsed=520, left=480, workers=2)
    studies.set_trials(engine, studies.find(engine, "s").id, 300)
    assert watching.look(elapsed=540, left=460, workers=2)
    assert kept(engine)[0] == 5


def test_where_the_last_trials_run_already_none_is_said_to_be_closed(engine: Engine) -> None:
    record = studies.find(engine, "s")
    studies.set_trials(engine, record.id, 6)
    leases.claim(engine, record.id, "one", 60)
    watching = watch(engine)
    assert watching.look(elapsed=500, left=500, workers=2)
    assert watching.note.startswith("the second stage is shortened to the time: ")
    assert describe_closing(plan_of(engine), 6) == ""


def test_a_launch_that_read_its_images_while_trials_were_closed_opens_none(
    engine: Engine, sqlite_url: str
) -> None:
    watching = watch(engine)
    record = studies.find(engine, "s")
    assert watching.look(elapsed=500, left=500, workers=2)
    prepare._go_on(engine, record, Flags(sqlite_url, Path(), 200, "s"))
    assert kept(engine)[0] == 5


def test_a_launch_that_ends_leaves_a_second_stage_alone_that_comes_next(engine: Engine) -> None:
    watching = watch(engine)
    assert watching.look(elapsed=500, left=500, workers=2)
    closed = plan_of(engine)
    watching.end()
    assert closed.wanted and plan_of(engine) == closed


def test_a_study_like_one_that_was_closed_has_what_was_asked_for(engine: Engine, sqlite_url: str) -> None:
    watching = watch(engine)
    wanted = plan_of(engine)
    assert watching.look(elapsed=500, left=500, workers=2)
    flags = prepare.with_trials(Flags(sqlite_url, Path(), 0, "t", like="s"))
    assert flags.trials == 200
    assert prepare.plan_of(flags, None, make_config()) == wanted


def test_status_and_report_say_how_many_trials_were_asked_for(engine: Engine, sqlite_url: str) -> None:
    watching = watch(engine)
    assert watching.look(elapsed=500, left=500, workers=2)
    record = studies.find(engine, "s")
    state = run_state.load(engine, record, has_optuna=True)
    said = "trials were closed in time after 5 of 200"
    assert said in state_text.lines(engine, state, make_config())
    found = made.made(page.read(engine, record))
    assert f"200; {said}" in found
    assert "shortened to the time there was, from: the best 16 for 12 epochs" in found


def test_the_end_of_a_launch_that_was_cut_off_in_a_second_stage_says_that_trials_were_closed(
    engine: Engine, sqlite_url: str
) -> None:
    watching = watch(engine)
    assert watching.look(elapsed=500, left=500, workers=2)
    enter(engine, None)
    record = studies.find(engine, "s")
    snapshot = Snapshots(engine, record, make_config()).take()
    end = End(snapshot, record.order, 0, None, "", "time was up", {}, False)
    console = Console(file=io.StringIO(), width=200)
    flags = Flags(sqlite_url, Path(), 5, "s")
    launch_session._say_end(console, flags, record, end, lambda trials: f"again {trials}")
    assert isinstance(console.file, io.StringIO)
    said = console.file.getvalue().splitlines()
    assert said[-3:] == [
        "halving of 12 epochs: 0 of 5 trained",
        "trials were closed in time after 5 of 200",
        "go on with `again 5`",
    ]


def test_a_launch_whose_slots_were_all_closed_ends_with_a_line_that_says_why(engine: Engine) -> None:
    record = studies.find(engine, "s")
    snapshot = Snapshots(engine, record, make_config()).take()
    closed = {"cpu:0": "no such folder", "cpu:1": "no such folder", "cpu:2": "it has no disk"}
    launch_session._require_worker(record, End(snapshot, record.order, 0, None, "", None, {}, False))
    with pytest.raises(
        EnvironmentProblem, match="no worker is left: no such folder; it has no disk"
    ) as raised:
        launch_session._require_worker(record, End(snapshot, record.order, 0, None, "", None, closed, True))
    assert "search logs s" in str(raised.value)


def test_the_report_of_a_launch_shows_the_second_stage_that_was_trained(
    engine: Engine, sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written from the row as it stands by then: the whole plan would wait for its first rung."""
    asked = studies.find(engine, "s")
    plan = make_plan(make_config(), None, 1, 20, 1, first=0).with_wanted(WANTED, 200)
    assert studies.shorten(engine, asked.id, plan.document(), close=True)
    monkeypatch.setattr(launch_session.differing, "count", lambda *_: 0)
    config, snapshot = make_config(), Snapshots(engine, studies.find(engine, "s"), make_config()).take()
    console = SteadyConsole()
    report, written = tmp_path / "report.html", dict[str, Path]()
    launch_session._leave(console, engine, asked, config, snapshot, None, report, written)
    assert written == {"report": report}
    page_of_launch = (tmp_path / "report.html").read_text()
    assert "Finals of 20 epochs: 0 of 1 trained" in page_of_launch
    assert "trials were closed in time after 5 of 200" in page_of_launch


def test_a_second_stage_after_more_trials_is_of_all_of_them(engine: Engine) -> None:
    """One ends while more are asked for, which then are not."""
    watch(engine)
    record = studies.find(engine, "s")
    snapshots = Snapshots(engine, record, make_config())
    studies.set_trials(engine, record.id, 5)
    first = snapshots.take().second
    studies.set_trials(engine, record.id, 7)
    train(engine, record, 5, 0.9)
    assert snapshots.take().second is None
    studies.set_trials(engine, record.id, 6)
    second = snapshots.take().second
    assert first and second and (len(first.rows), len(second.rows)) == (5, 6)


@pytest.mark.parametrize(("gpus", "hours"), [(["0"] * 4, 8.0), (["0", "1"] * 2, 4.0), ([""] * 4, 2.0)])
def test_hours_of_a_gpu_that_workers_share_are_counted_once(
    gpus: list[str], hours: float, engine: Engine, sqlite_url: str, tmp_path: Path
) -> None:
    record = studies.find(engine, "s")
    flags = Flags(sqlite_url, tmp_path, 200, "s", max_gpu_hours=8.0)
    slots = [Slot(f"slot{i}", {"CUDA_VISIBLE_DEVICES": gpu}) for i, gpu in enumerate(gpus)]
    launch = Launch(flags, engine, record, make_config(), cast(optuna.Study, None), slots)
    for slot in launch.pool.slots:
        slot.process = cast(WorkerProcess, object())
    assert launch.pool.at_work == 4
    assert launch._limit_in() == 3_600 * hours
    began, looks = time.monotonic(), iter([])
    launch._look = lambda _: next(looks)  # type: ignore[method-assign]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "monotonic", iter([began, began + 60.0]).__next__)
        with pytest.raises(StopIteration):
            launch._attend(cast(Display, None), Interrupts())
    assert launch.device_seconds == pytest.approx(60.0 * 8.0 / hours)


def test_a_launch_that_ends_without_its_database_knows_the_order_of_its_last_look(
    engine: Engine, sqlite_url: str, tmp_path: Path
) -> None:
    """Not that of its beginning: `search stop` came meanwhile."""
    record = studies.find(engine, "s")
    flags = Flags(sqlite_url, tmp_path, 200, "s")
    launch = Launch(flags, engine, record, make_config(), cast(optuna.Study, None), [])
    studies.set_control(engine, record.id, studies.Control.STOP)
    launch.last = launch.snapshots.take()

    def away() -> Any:
        raise OutageTooLongError("told to end while the database is away")

    launch._reconciled = away  # type: ignore[method-assign]
    interrupts = Interrupts()
    interrupts.count = 2
    shown = LogDisplay(Console(file=io.StringIO()))
    assert launch._end(shown, interrupts).order == studies.Control.STOP


HERE = pytest.param([Slot("cpu0", {})], id="workers here")
NONE_HERE = pytest.param([], id="--workers 0")


@pytest.mark.parametrize("slots", [HERE, NONE_HERE])
def test_who_helps_another_launch_ends_no_trials_by_its_own_limit(
    engine: Engine, sqlite_url: str, tmp_path: Path, slots: list[Slot]
) -> None:
    watch(engine)
    record, plan = studies.find(engine, "s"), plan_of(engine)
    flags = Flags(sqlite_url, tmp_path, 200, "s", timeout=1.0)
    opened = cast(optuna.Study, None)

    def launched(slots: list[Slot]) -> Launch:
        return Launch(flags, engine, record, make_config(), opened, slots)

    here: dict[str, Any] = {"host": "h", "pid": 1, "lease_seconds": 60.0, "state": workers.Doing.WORKING}
    first, second = launched([Slot("cpu0", {})]), launched(slots)
    workers.announce(engine, record.id, f"h-cpu0-1-{first.pool.token}.1", **here)
    assert second._helps() and not first._helps()
    second._fit_in_time()
    assert plan_of(engine) == plan, "finals of another search do not end with this launch"
    first.started = second.started = time.monotonic() - 10.0
    second._close_in_time()
    assert kept(engine) == (200, 100)
    second.last = second.snapshots.take()
    assert "workers of another launch were here first" in second._note()
    workers.announce(engine, record.id, f"h-cpu0-1-{second.pool.token}.1", **here)
    assert not first._helps(), "who came later does not take a search over"
    workers.leave(engine, record.id, f"h-cpu0-1-{first.pool.token}.1")
    assert not second._helps(), "its limit is the search's once the others have gone"
    second._close_in_time()
    assert kept(engine)[0] == 5


@pytest.mark.parametrize("slots", [HERE, NONE_HERE])
@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("timeout", [100.0, 9e6])
def test_who_helps_a_launch_has_its_second_stage_end_with_its_own_limit_once_the_others_have_gone(
    engine: Engine, sqlite_url: str, tmp_path: Path, slots: list[Slot], begun: bool, timeout: float
) -> None:
    """Where all trials are done too: that of a launcher which was killed stood in the plan for ever."""
    studies.set_trials(engine, studies.find(engine, "s").id, 5)
    watch(engine).begin(1e6, 2)
    record, was = studies.find(engine, "s"), plan_of(engine)
    if begun:
        enter(engine, None)
    flags = Flags(sqlite_url, tmp_path, 5, "s", timeout=timeout)
    launch = Launch(flags, engine, record, make_config(), cast(optuna.Study, None), slots)
    there = worker_of_another_launch(engine)
    launch._fit_in_time()
    launch._close_in_time()
    assert plan_of(engine) == was
    workers.leave(engine, record.id, there)
    launch._close_in_time()
    plan = plan_of(engine)
    assert plan.limit and abs(plan.limit.until - studies.clock(engine) - timeout) < 60
    assert plan.whole == was.whole and bool(plan.wanted) == (timeout < 1e6 and not begun)
    launch._close_in_time()
    assert plan_of(engine) == plan, "once"


@pytest.mark.parametrize("slots", [HERE, NONE_HERE])
def test_workers_that_were_started_by_hand_make_no_launch_a_helper(
    engine: Engine, sqlite_url: str, tmp_path: Path, slots: list[Slot]
) -> None:
    """One that follows whatever is launched is there first, as is one that outlived a power cut: the limit of
    the only launch there is ends trials in time all the same."""
    watch(engine)
    record = studies.find(engine, "s")
    options = WorkerOptions(storage=sqlite_url, data_dir=tmp_path, name="mine")
    pool = WorkerGroup(options, [Slot("cpu0", {})], print).pool
    pool._open = lambda _: None  # type: ignore[method-assign]
    pool.start()
    here: dict[str, Any] = {"host": "h", "pid": 1, "lease_seconds": 60.0, "state": workers.Doing.WORKING}
    for name in ("gpubox-123-abc123", f"box-{unique_name()}", pool.slots[0].worker):
        workers.announce(engine, record.id, name, **here)
    flags = Flags(sqlite_url, tmp_path, 200, "s", timeout=1.0)
    opened = cast(optuna.Study, None)
    launch = Launch(flags, engine, record, make_config(), opened, slots)
    assert not launch._helps()
    launch.started = time.monotonic() - 10.0
    launch._close_in_time()
    assert kept(engine)[0] == 5


@pytest.mark.parametrize("slots", [HERE, NONE_HERE])
def test_a_launch_that_made_the_study_helps_nobody(
    engine: Engine, sqlite_url: str, tmp_path: Path, slots: list[Slot]
) -> None:
    """Another one may have joined while it measured how many workers share a GPU."""
    watch(engine)
    record = studies.find(engine, "s")
    here: dict[str, Any] = {"host": "h", "pid": 1, "lease_seconds": 60.0, "state": workers.Doing.WORKING}
    workers.announce(engine, record.id, "h-cpu0-1-abc123.1", **here)
    flags = Flags(sqlite_url, tmp_path, 200, "s", timeout=1.0)
    opened = cast(optuna.Study, None)
    given = (flags, engine, record, make_config(), opened, slots)
    assert Launch(*given)._helps() and not Launch(*given, made_study=True)._helps()
