"""Finals that were shortened to a limit of time get the epochs that there turns out to be time for."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, strategies as st
from rung_samples import MOMENT, candidate, trained
from worker_samples import DATA, make_config

from search.study import finals_length, finish_plan, halving
from search.study.finish_plan import FinishPlan, Limit, make_plan
from search.study.halving import ReachedRung
from storage.row_types import Candidate, Epoch, RungEntry, RungTraining, Stage, State
from trainer.recipe.defaults import default_recipe

CONFIG = make_config().model_copy(
    update={"data": DATA.model_copy(update={"limit": 600, "train_images": 600})}
)
ALL = 900 / 600  # images of the finals to one of a trial
WANTED = make_plan(CONFIG, None, epochs=100, first=0)
NOW = 1e9
ROWS = [candidate(number, 0.5 + number / 100) for number in range(5)]  # each took 10 s an epoch


def shortened(epochs: int, seconds: float, workers: int = 2) -> FinishPlan:
    """A plan for so many epochs of finals, with so much time left for them."""
    plan = make_plan(CONFIG, WANTED, epochs=epochs, first=0)
    return plan.with_wanted(WANTED, 200, Limit(until=NOW + seconds, workers=workers))


def finals(
    plan: FinishPlan, rows: Sequence[Candidate], trainings: Sequence[RungTraining] = ()
) -> ReachedRung:
    return halving.reached(plan, rows, trainings)[-1]


def epochs_of(
    plan: FinishPlan,
    rows: Sequence[Candidate] = ROWS,
    trainings: Sequence[RungTraining] = (),
    epochs: Mapping[int, Sequence[Epoch]] | None = None,
) -> int | None:
    """Of the finals that it is lengthened to; None where it is not."""
    found = finals_length.fitted(CONFIG, plan, finals(plan, rows, trainings), trainings, NOW, epochs)
    if found is None:
        return None
    assert (found.rungs, found.whole, found.closed_from) == ((), WANTED, 200)
    assert found.limit == plan.limit
    return found.finals.recipe.epochs


def halved(row: Candidate, epochs: int, seconds: float, state: State = State.COMPLETED) -> RungTraining:
    """A training of a rung that took so long."""
    entry = RungEntry(row.id, Stage.HALVING, epochs, 0)
    return replace(trained(entry, 0.7 if state == State.COMPLETED else None, state), seconds=seconds)


def test_the_time_that_was_reckoned_for_a_baseline_goes_into_epochs() -> None:
    """Six trainings on two workers, three after another; a tenth slower than trials, on all images."""
    an_epoch = 3 * 10 * finals_length.SLACK * ALL
    plan = shortened(4, 1_000)
    assert len(finals(plan, ROWS).entrants) == plan.finals.networks == 2
    assert epochs_of(plan) == int((1_000 - 30) / an_epoch) == 19
    short = shortened(4, 300)
    assert epochs_of(short) == int(0.95 * 300 / an_epoch) == 5, "of little time a share is kept"


def test_finals_of_one_network_stay_so() -> None:
    plan = make_plan(CONFIG, WANTED, finalists=1, epochs=4, first=0)
    plan = plan.with_wanted(WANTED, 200, Limit(until=NOW + 1_000, workers=2))
    longer = finals_length.fitted(CONFIG, plan, finals(plan, ROWS), (), NOW)
    assert longer and (longer.finals.networks, longer.whole) == (1, WANTED)
    assert longer.finals.recipe.epochs == int((1_000 - 30) / (2 * 10 * finals_length.SLACK * ALL))


def test_a_second_turn_is_reckoned_by_the_slowest_whoever_it_will_be() -> None:
    """Four contenders on two workers, two after another, then two seeds side by side."""
    rows = [replace(ROWS[0], baseline="[1,1,1]"), *ROWS[1:4], replace(ROWS[4], seconds=57.0)]
    plan = make_plan(CONFIG, WANTED, finalists=1, epochs=4, first=0, contenders=4)
    plan = plan.with_wanted(WANTED, 200, Limit(until=NOW + 1_000, workers=2))
    longer = finals_length.fitted(CONFIG, plan, finals(plan, rows), (), NOW)
    assert longer and (longer.finals.networks, longer.finals.contenders) == (1, 4)
    assert longer.finals.recipe.epochs == int((1_000 - 30) / ((29 + 19) * finals_length.SLACK * ALL))
    turn = [trained(entry, 0.7) for entry in finals(plan, rows).missing]
    assert not finals(plan, rows, turn).is_first_turn
    assert finals_length.fitted(CONFIG, plan, finals(plan, rows, turn), turn, NOW) is None


def test_a_baseline_that_was_not_among_the_best_takes_its_share() -> None:
    rows = [replace(ROWS[0], baseline="[1,1,1]"), *ROWS[1:]]
    plan = shortened(4, 1_000)
    assert len(finals(plan, rows).entrants) == 3
    assert epochs_of(plan, rows) == int((1_000 - 30) / (5 * 10 * finals_length.SLACK * ALL)) == 11


def test_the_pace_of_a_network_is_that_of_its_longest_training() -> None:
    plan = shortened(4, 1_000, workers=1)
    best, second = finals(plan, ROWS).entrants
    trainings = [
        halved(best, 12, 200.0), halved(best, 48, 96.0), halved(best, 60, 9e9, State.FAILED),
        halved(second, 12, 1.0, State.DIVERGED), halved(ROWS[0], 48, 9e9),
    ]  # fmt: skip
    each = 3 * (96 / 48 + 10) * finals_length.SLACK * ALL
    assert epochs_of(plan, trainings=trainings) == int(970 / each)


def timed(*seconds: float) -> list[Epoch]:
    """Epochs that took so long."""
    return [Epoch(number, 1.0, 1.0, 0.5, 0.1, one) for number, one in enumerate(seconds, start=1)]


def test_an_hour_for_which_a_trial_was_stopped_is_no_pace() -> None:
    """As by docker pause: finals of 43 epochs became four."""
    plan, best = shortened(60, 2_000), ROWS[-1]
    epochs = {row.id: timed(10.0, 10.0, 10.0) for row in ROWS}
    assert epochs_of(plan, epochs=epochs) == epochs_of(plan) == 43
    rows = [*ROWS[:-1], replace(best, seconds=3_630.0)]
    for number in range(3):
        took = [10.0, 10.0, 10.0]
        took[number] = 3_610.0
        assert epochs_of(plan, rows, epochs=epochs | {best.id: timed(*took)}) == 43
    slow = [*ROWS[:-1], replace(best, seconds=130.0)]
    assert epochs_of(plan, slow, epochs=epochs | {best.id: timed(43.0, 44.0, 43.0)}) == epochs_of(plan, slow)


def test_an_hour_for_which_a_rung_was_stopped_is_no_pace() -> None:
    """All of its trainings were: finals of 200 epochs became 49. Who is as slow in its trial is slow, and
    another device may be slower."""
    whole = make_plan(CONFIG, None, epochs=200)
    plan = whole.with_wanted(whole, None, Limit(until=NOW + 8_000, workers=4))
    rows = [candidate(number, 0.5 + number / 100) for number in range(20)]

    def longest(rows: Sequence[Candidate], stopped: float, device: str = "cpu") -> int:
        trainings = list[RungTraining]()
        while (due := finals(plan, rows, trainings)).stage == Stage.HALVING:
            took = 10.0 * due.epochs + (stopped if due.epochs == 48 else 0.0)
            new = [trained(entry, 0.7 + entry.candidate_id / 1_000) for entry in due.missing]
            trainings += [replace(one, id=one.candidate_id, seconds=took, device=device) for one in new]
        found = finals_length.fitted(CONFIG, plan, due, trainings, NOW)
        return (found or plan).finals.recipe.epochs

    usual = longest(rows, 0.0)
    assert longest(rows, 3_600.0) == usual > 100
    assert longest([replace(row, seconds=255.0) for row in rows], 3_600.0) == 49
    assert longest(rows, 3_600.0, "another") == 49


def test_small_batches_of_brief_trials_are_no_measure_of_larger_ones() -> None:
    """What a step costs beside its images is worth 24 of them: an epoch in batches of 64 takes 1.375 to 2.5
    of one in batches of 16."""
    recipe = default_recipe("folder:pets", 3, 600)
    assert recipe.batch_size == 16
    data = CONFIG.data.model_copy(update={"spec": "folder:pets"})
    config = CONFIG.model_copy(update={"recipe": recipe, "data": data})
    wanted = make_plan(config, None, epochs=150, first=0)
    plan = make_plan(config, wanted, epochs=4, first=0)
    plan = plan.with_wanted(wanted, 200, Limit(until=NOW + 1_000, workers=6))
    found = finals_length.fitted(config, plan, finals(plan, ROWS), (), NOW)
    assert found
    now = found.finals.recipe
    an_epoch = 10 * finals_length.SLACK * ALL * (1 + 24 / now.batch_size) / (1 + 24 / 16)
    assert now.batch_size > 16 and now.epochs <= 970 / an_epoch < now.epochs + 1


@pytest.mark.parametrize(("images", "brief"), [(600, 8), (1_000, 8), (600, 25)])
def test_the_longest_finals_that_fit_are_found_though_longer_ones_have_larger_batches(
    images: int, brief: int
) -> None:
    """An epoch in batches of 32 takes 0.7 of one in batches of 16: of 600 images 27 epochs take as long as
    19, which was as many as were found; and none were where one epoch more than trials have takes longer."""
    recipe = default_recipe("folder:pets", brief, images)
    data = CONFIG.data.model_copy(update={"spec": "folder:pets", "train_images": images, "limit": None})
    config = CONFIG.model_copy(update={"recipe": recipe, "data": data})
    wanted = make_plan(config, None, epochs=200, first=0)

    def takes(epochs: int, batch: int) -> float:
        return epochs * finish_plan.slower(batch, than=recipe.batch_size)

    lengths = range(brief + 1, 201)
    took = [takes(one, make_plan(config, wanted, epochs=one).finals.recipe.batch_size) for one in lengths]
    assert took != sorted(took)
    for seconds in range(5, 160):
        fitting = [length for length, one in zip(lengths, took, strict=True) if one <= seconds]
        assert finish_plan.longest(config, wanted, takes, seconds) == max(fitting, default=None)
    for batch in (8, 16):  # that of an older version, whose batches were smaller
        usual = wanted.finals.recipe
        finals = wanted.finals.model_copy(update={"recipe": usual.model_copy(update={"batch_size": batch})})
        stored = wanted.model_copy(update={"finals": finals})
        assert usual.batch_size > batch
        for seconds in range(5, int(took[-1])):
            expected = finish_plan.longest(config, wanted, takes, seconds)
            assert finish_plan.longest(config, stored, takes, seconds) == expected


def test_who_was_never_timed_is_as_slow_as_the_slowest() -> None:
    rows = [*ROWS[:-1], replace(ROWS[-1], seconds=None)]
    assert epochs_of(shortened(4, 1_000), rows) == epochs_of(shortened(4, 1_000))
    assert epochs_of(shortened(4, 1_000), [replace(row, seconds=None) for row in ROWS]) is None


def test_they_become_no_longer_than_was_asked_for_and_shorter_where_they_would_surely_not_end() -> None:
    """What is usual, without the tenth that is added to it, is 45 s an epoch of six trainings on two
    workers: 21 epochs in the time that there is."""
    assert epochs_of(shortened(21, 1_000)) is None, "which end, if nothing is slower"
    assert epochs_of(shortened(22, 1_000)) == epochs_of(shortened(40, 1_000)) == int(970 / 45) == 21
    assert epochs_of(shortened(40, 10)) == CONFIG.recipe.epochs + 1, "and no shorter than a trial"
    assert epochs_of(shortened(40, 1e6)) == 100
    assert epochs_of(shortened(40, -5)) is None, "a limit that has passed"


def test_a_plan_that_fitted_whole_is_shortened_where_its_networks_are_slower_than_was_reckoned() -> None:
    """As it was, the limit would have cut the finals off, and the search had no confirmed network."""
    for seconds, epochs in ((1_000, 21), (4_600, None)):
        whole = WANTED.with_wanted(WANTED, 200, Limit(until=NOW + seconds, workers=2))
        assert (whole.wanted, epochs_of(whole)) == (None, epochs)


def test_rungs_that_there_were_too_few_networks_for_make_finals_no_longer() -> None:
    whole = make_plan(CONFIG, None, epochs=100)
    plan = whole.with_wanted(whole, None, Limit(until=NOW + 1_000, workers=2))
    assert [rung.epochs for rung in plan.rungs] == [12, 48]
    for rows, lasts in ((ROWS[:2], 21), (ROWS, 49)):
        trainings = list[RungTraining]()
        while (due := finals(plan, rows, trainings)).stage == Stage.HALVING:
            trainings += [replace(trained(entry, 0.7), seconds=entry.epochs * 10.0) for entry in due.missing]
        assert bool(trainings) == (len(rows) > 2)
        found = finals_length.fitted(CONFIG, plan, due, trainings, NOW)
        assert found and found.finals.recipe.epochs == lasts


def test_finals_of_another_length_are_no_measure_of_how_fast_a_network_is() -> None:
    """They were trained on all images already, in batches of their own."""
    plan = shortened(4, 1_000)
    of_before = [
        replace(trained(RungEntry(row.id, Stage.FINALS, 60, seed), 0.7), seconds=60 * 10 * ALL)
        for row in finals(plan, ROWS).entrants
        for seed in range(3)
    ]
    assert epochs_of(plan, trainings=of_before) == epochs_of(plan) == 19


def test_finals_that_a_network_has_all_seeds_of_keep_their_length() -> None:
    """Of another length they would not be ranked beside it, and a better one would be lost."""
    plan = shortened(4, 1_000)
    before = [trained(RungEntry(ROWS[0].id, Stage.FINALS, 4, seed), 0.9) for seed in range(3)]
    assert epochs_of(plan, trainings=before[:2]) == 19
    assert finals(plan, ROWS, before).entered == () and epochs_of(plan, trainings=before) is None


def test_only_a_plan_of_a_launch_with_a_limit_that_has_not_begun_changes() -> None:
    unlimited = shortened(4, 1_000).with_wanted(WANTED, 200)
    for plan in (WANTED, unlimited):
        assert finals_length.fitted(CONFIG, plan, finals(plan, ROWS), (), NOW) is None
    plan = shortened(4, 1_000)
    waiting = trained(finals(plan, ROWS).missing[0], None, None)
    assert epochs_of(plan, trainings=[waiting]) is None


@given(st.floats(1, 1e5), st.integers(1, 16), st.lists(st.floats(0.1, 1e3), min_size=5, max_size=5))
def test_they_end_before_the_limit(seconds: float, workers: int, took: list[float]) -> None:
    rows = [replace(row, seconds=one) for row, one in zip(ROWS, took, strict=True)]
    plan = shortened(4, seconds, workers)
    epochs = epochs_of(plan, rows)
    if epochs is None:
        return
    an_epoch = {row.id: (row.seconds or 0.0) / 3 * ALL for row in rows}
    free = [0.0] * workers
    for entry in finals(plan, rows).missing:
        free[free.index(min(free))] += an_epoch[entry.candidate_id] * epochs
    assert max(free) <= seconds and 4 < epochs <= 100


def on_one_gpu(plan: FinishPlan, workers: int) -> FinishPlan:
    limit = Limit(until=NOW + 1_000, workers=workers, devices=1)
    return plan.with_wanted(WANTED, 200, limit)


def test_who_trained_alone_on_a_gpu_will_be_slower_beside_others() -> None:
    """Six finals on four workers that share one GPU, 10 s an epoch each. Who was trained beside three others
    will be as fast as that; who was alone there for a while, the slower the longer it was alone."""
    plan = on_one_gpu(shortened(4, 1_000), workers=4)
    best, second = finals(plan, ROWS).entrants
    others = [halved(row, 12, 120.0) for row in ROWS[:3]]

    def later(row: Candidate, seconds: float) -> RungTraining:
        return replace(halved(row, 12, 120.0), finished_at=MOMENT + timedelta(seconds=seconds))

    def epochs(slower: float) -> int:
        """Of best and of the second, one after the other on each worker."""
        return int(970 / ((10 + 10 * slower) * finals_length.SLACK * ALL))

    beside = [*others, halved(best, 12, 120.0)]
    assert epochs_of(plan, trainings=[*beside[:-1], later(best, 0), later(second, 0)]) == epochs(1.0)
    assert epochs_of(plan, trainings=[*beside, later(second, 120)]) == epochs(4.0), "it was alone"
    half = replace(later(second, 60), id=1)  # 60 s beside four others, then 60 s alone: three on the average
    assert epochs_of(plan, trainings=[*beside, half]) == epochs(4 / 3)
    apart = Limit(until=NOW + 1_000, workers=4, devices=4)
    plan = plan.with_wanted(WANTED, 200, apart)
    assert epochs_of(plan, trainings=[*beside, later(second, 120)]) == epochs(1.0), "each has its own"


def test_trials_shared_a_gpu_with_all_workers() -> None:
    assert epochs_of(on_one_gpu(shortened(4, 1_000), workers=4)) == epochs_of(shortened(4, 1_000, workers=4))


def test_a_plan_is_read_back_with_its_limit() -> None:
    for plan in (shortened(4, 1_000), on_one_gpu(shortened(4, 1_000), workers=4)):
        assert FinishPlan.from_record(plan.document()) == plan
    assert "devices" not in shortened(4, 1_000).document()["limit"], "older versions read it"
    assert "limit" not in WANTED.document()
