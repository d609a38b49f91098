"""What a forecast says of a space is what drawing, enumerating and counting it say."""

import json
import math
import random
from itertools import product
from typing import Any

import pytest
from examples import examples
from hypothesis import given, settings, strategies as st
from space_samples import CALM, TASKS, spaces as random_spaces

from space import cost, counting, forecast, lift, smallest, space as spaces
from space.budget import Budget
from space.errors import NothingFitsError, SpaceError
from space.forecast import Share
from space.random_suggest import RandomSuggest
from space.sampling import nearest, plain, propose
from space.space import (
    BlockKnobs,
    FloatRange,
    HeadKnobs,
    IntRange,
    SearchSpace,
    StageKnobs,
    StemKnobs,
    Task,
    WidthKnob,
)

SMALL = SearchSpace(
    depth=IntRange(low=1, high=2),
    width=WidthKnob(low=8, high=64),
    stage=StageKnobs(blocks=IntRange(low=1, high=3), kernel=(1, 3), width_ratio=(1.0, 2.0)),
)
TASK = Task(image_size=8)
BUDGET = Budget(60_000)


def brute_force(seed: int) -> int:
    """Parameters of a uniform draw of SMALL, by formulas written out here."""
    dice = random.Random(seed)
    width = round(math.exp(dice.uniform(math.log(7.5), math.log(64.5))))
    base = min(
        8 * k for k in range(1, 9) if abs(8 * k - width) == min(abs(8 * j - width) for j in range(1, 9))
    )
    total, inputs, here = 27 * base + 2 * base, base, base  # the stem
    for stage in range(dice.choice((1, 2))):
        blocks, kernel = dice.choice((1, 2, 3)), dice.choice((1, 3))
        here = base if stage == 0 else base * dice.choice((1, 2))
        total += kernel**2 * (inputs * here + (2 * blocks - 1) * here * here) + 4 * blocks * here
        if stage:  # its stride asks for a projection
            total += inputs * here + 2 * here
        inputs = here
    return total + 10 * here + 10


@pytest.mark.thorough  # 100,000 draws
@pytest.mark.slow
def test_the_shares_are_those_of_100_000_draws_made_in_another_way() -> None:
    counts = [brute_force(seed) for seed in range(100_000)]
    told = forecast.forecast(SMALL, BUDGET, TASK, draws=8_000)
    for share, found in (
        (told.fit, sum(n <= 60_000 for n in counts)),
        (told.upper_half, sum(30_000 < n <= 60_000 for n in counts)),
    ):
        true = found / len(counts)
        error = math.sqrt(true * (1 - true) * (1 / share.draws + 1 / len(counts)))
        assert 0.05 < true < 0.95
        assert abs(share.value - true) <= 4 * error


def test_the_draws_are_as_many_as_by_the_formulas_written_out_here() -> None:
    """The brute force above counts what cost counts."""
    drawn = {cost.total(plain(SMALL, TASK, RandomSuggest(seed))).parameters for seed in range(1_000)}
    assert len(drawn) > 100 and drawn <= {brute_force(seed) for seed in range(60_000)}


class Script(RandomSuggest):
    """Gives the answers of a list, one after another, each cut to what may be chosen."""

    def __init__(self, answers: tuple[int, ...]) -> None:
        super().__init__(0)
        self.script = iter(answers)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return min(high, low + step * next(self.script))

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return choices[min(len(choices) - 1, next(self.script))]


def every(space: SearchSpace, task: Task) -> set[str]:
    """All networks of a space of lists, one by one: fingerprints of documents."""
    found = set[str]()
    for answers in product(range(3), repeat=8):
        found.add(json.dumps(plain(space, task, Script(answers)).document()))
    return found


@pytest.mark.thorough  # all networks of a space
@pytest.mark.parametrize(
    ("space", "task"),
    [
        (
            SearchSpace(
                depth=(2,),
                stage=StageKnobs(blocks=(1, 2)),
                width=WidthKnob(low=8, high=10, round_to=(1,)),
            ),
            Task(),
        ),
        (
            SearchSpace(
                depth=(1,), stage=StageKnobs(blocks=(1, 2), kernel=(1, 3)), width=WidthKnob(low=8, high=8)
            ),
            Task(),
        ),
        (
            SearchSpace(depth=(1, 2), stage=StageKnobs(blocks=(1, 2, 2)), width=WidthKnob(low=8, high=8)),
            Task(),
        ),
        (
            SearchSpace(
                depth=(2,),
                stage=StageKnobs(blocks=(1,), kernel=(3, 5, 7), width_ratio=(1.0, 1.5, 2.0)),
                stem=StemKnobs(stride=(1, 2)),
                width=WidthKnob(low=8, high=8),
            ),
            Task(image_size=8),
        ),
        (
            SearchSpace(
                depth=(1,),
                stage=StageKnobs(blocks=(1,)),
                head=HeadKnobs(form=("linear", "hidden", "tail"), hidden=(10, 20)),
                block=BlockKnobs(activation=("relu", "gelu"), convolutions=(2, 2, 3)),
                width=WidthKnob(low=8, high=8),
            ),
            Task(),
        ),
    ],
)
def test_a_small_space_has_as_many_networks_as_are_found_one_by_one(space: SearchSpace, task: Task) -> None:
    assert counting.networks(space, task) == len(every(space, task))


def test_a_ratio_without_steps_counts_by_the_widths_it_leads_to() -> None:
    space = SearchSpace(
        depth=(2,),
        width=WidthKnob(low=16, high=16),
        stage=StageKnobs(blocks=(1,), width_ratio=FloatRange(low=1.0, high=2.0)),
    )
    assert counting.networks(space, Task()) == len({16, 24, 32})


def test_smallest_and_largest_enclose_every_draw_and_are_reached() -> None:
    told = forecast.forecast(SMALL, BUDGET, TASK)
    counts = [cost.total(plain(SMALL, TASK, RandomSuggest(seed))) for seed in range(3_000)]
    assert told.smallest == min(counts)
    assert told.largest == max(counts) == cost.total(forecast.largest(SMALL, TASK))
    assert told.largest_drawn <= told.largest
    assert told.smallest == cost.total(smallest.smallest(SMALL, TASK))


def test_the_largest_network_has_a_projection_that_only_a_stride_asks_for() -> None:
    knobs = StageKnobs(blocks=(1,), width_ratio=(1.0,), stride=(1, 2), shortcut_kernel=(1, 3))
    space = SearchSpace(depth=(2, 3), width=WidthKnob(low=64, high=64), stage=knobs)
    counts = [cost.total(plain(space, Task(), RandomSuggest(seed))) for seed in range(300)]
    found = forecast.largest(space, Task())
    assert max(counts).parameters == cost.total(found).parameters
    assert [stage.stride for stage in found.stages] == [1, 2, 2]


def test_the_smallest_network_may_have_any_depth() -> None:
    """Four stages halve the map to 1x1 before the classifier of 100 classes, and the fifth saves nothing."""
    space = SearchSpace(
        depth=(2, 3, 4, 5),
        stage=StageKnobs(blocks=(1,), width_ratio=(1.0, 2.0)),
        pool=spaces.PoolKnobs(size=(4,)),
    )
    task = Task(channels=1, image_size=8, classes=100)
    sizes = [
        cost.total(smallest.smallest(space.model_copy(update={"depth": (depth,)}), task)).parameters
        for depth in (2, 3, 4, 5)
    ]
    assert sizes == [15_436, 7_100, 5_964, 7_228]
    assert len(smallest.require_smallest(space, Budget(5_964), task).stages) == 4


@settings(CALM, max_examples=examples(100))
@given(random_spaces(), TASKS, st.integers(0, 2**32))
def test_no_draw_is_larger_than_the_largest_or_smaller_than_the_smallest(
    space: SearchSpace, task: Task, seed: int
) -> None:
    drawn = cost.total(plain(space, task, RandomSuggest(seed))).parameters
    assert drawn <= cost.total(forecast.largest(space, task)).parameters
    assert drawn >= cost.total(smallest.smallest(space, task)).parameters


def test_the_widest_packaged_space_has_beyond_all_measure_and_is_forecast_all_the_same() -> None:
    told = forecast.forecast(spaces.packaged("published"), Budget(10**12), Task(), draws=200)
    assert told.networks > 10**30 and told.largest.parameters > 10**12
    assert told.fit.value == 1.0 and told.causes == ()


def test_the_widest_space_that_can_be_said_neither_overflows_nor_hangs() -> None:
    space = SearchSpace(
        depth=IntRange(low=1, high=16),
        width=WidthKnob(low=1, high=65_536, round_to=tuple(range(1, 33))),
        stage=StageKnobs(
            blocks=IntRange(low=1, high=1_000),
            kernel=tuple(range(1, 33, 2)),
            width_ratio=FloatRange(low=0.0, high=10.0**6, step=1.0),
            stride=(1,),
        ),
        stages={"3": spaces.StageOverride(width_ratio=FloatRange(low=0.5, high=1_000.0, log=True))},
        head=HeadKnobs(form=("hidden",), hidden=IntRange(low=1, high=65_536)),
    )
    told = forecast.forecast(space, Budget(10**12, 10**15), Task(image_size=64), draws=50)
    assert told.networks > 10**100 and 0 < told.fit.value < 1


def test_the_value_that_makes_networks_too_large_is_named_and_its_companions_are_not() -> None:
    space = SearchSpace(
        depth=(1, 3), stage=StageKnobs(blocks=(1,), kernel=(1, 7), shortcut_kernel=(1, 3)), width=WidthKnob()
    )
    told = forecast.forecast(space, Budget(2_000_000), Task(image_size=64), draws=4_000)
    named = {cause.knob for cause in told.causes}
    assert {"width", "depth", "kernel_3"} <= named
    assert not any(name.startswith("shortcut_kernel") for name in named), "they only stand in deep networks"
    for cause in told.causes:
        assert 0.2 <= cause.of_misses <= 1 and cause.lift > 1
    assert [cause.lift for cause in told.causes] == sorted(
        (cause.lift for cause in told.causes), reverse=True
    )


def test_shares_of_a_cause_are_counted_over_all_draws() -> None:
    answers = [{"kernel": 7, "other": 1}] * 60 + [{"kernel": 3, "other": 1}] * 40
    misses = [True] * 50 + [False] * 50
    assert lift.over_represented(answers, misses) == [
        lift.OverRepresented("kernel", "7", of_misses=1.0, of_draws=0.6)
    ]


def test_a_value_that_nearly_all_draws_have_is_not_blamed() -> None:
    answers = [{"kernel": 7}] * 960 + [{"kernel": 3}] * 40
    assert lift.over_represented(answers, [True] * 960 + [False] * 40) == []


def test_where_few_draws_fit_the_values_of_those_that_do_are_told() -> None:
    told = forecast.forecast(spaces.packaged("published"), Budget(40_000), Task())
    assert told.fit.value < forecast.RARE
    assert {("depth", "2")} <= {(cause.knob, cause.value) for cause in told.helps}
    assert all(cause.lift > 1 for cause in told.helps)
    assert forecast.forecast(SMALL, BUDGET, TASK, draws=500).helps == ()


def test_nothing_is_blamed_where_nothing_misses() -> None:
    assert lift.over_represented([{"kernel": 7}] * 100, [False] * 100) == []


def test_the_interval_is_wilsons() -> None:
    low, high = Share(10, 100).interval
    assert (round(low, 4), round(high, 4)) == (0.0552, 0.1744)
    assert Share(0, 50).interval[0] == 0 and Share(50, 50).interval[1] == 1
    assert Share(0, 50).interval[1] > 0.05


def test_the_same_seed_gives_the_same_forecast_and_another_seed_another() -> None:
    first, again, other = (forecast.forecast(SMALL, BUDGET, TASK, draws=500, seed=s) for s in (1, 1, 2))
    assert first == again != other


def test_the_smallest_networks_are_kept_for_each_space_and_equal_spaces_share_them() -> None:
    wide = spaces.parse({"depth": [2], "stage": {"kernel": [1, 3]}, "stages": {"2": {"kernel": [3]}}})
    again = spaces.parse({"depth": [2], "stage": {"kernel": [1, 3]}, "stages": {"2": {"kernel": [3]}}})
    free = spaces.parse({"depth": [2], "stage": {"kernel": [1, 3]}})
    assert wide == again != free and hash(wide) == hash(again)
    assert smallest.smallest(wide, TASK) is smallest.smallest(again, TASK)
    assert [stage.kernel for stage in smallest.smallest(wide, TASK).stages] == [1, 3]
    assert [stage.kernel for stage in smallest.smallest(free, TASK).stages] == [1, 1]


def test_a_budget_below_the_smallest_network_is_refused() -> None:
    with pytest.raises(NothingFitsError, match="smallest network"):
        forecast.forecast(SMALL, Budget(50), TASK)


def test_where_hardly_a_draw_fits_plain_draws_are_refused_and_construction_is_not() -> None:
    told = forecast.forecast(spaces.packaged("published"), Budget(2_000), Task(), draws=1_500)
    assert told.scarce and told.fit_macs.low > 0
    with pytest.raises(SpaceError, match=r"under 1%: use --sampling fit"):
        forecast.require_luck(told)
    forecast.require_luck(forecast.forecast(SMALL, BUDGET, TASK, draws=200))


def test_expected_proposals_are_the_trials_over_the_share() -> None:
    told = forecast.forecast(SMALL, BUDGET, TASK, draws=500)
    assert told.proposals(100) == pytest.approx(100 * told.fit.draws / told.fit.hits)


def test_a_plain_draw_has_the_width_that_was_asked_for_on_the_grid_of_its_grain() -> None:
    space = SearchSpace(depth=(1,), width=WidthKnob(low=5, high=61, round_to=(8,)))
    for seed in range(200):
        dice = RandomSuggest(seed)
        width = plain(space, TASK, dice).stages[0].width
        assert width % 8 == 0 and 8 <= width <= 56
        assert abs(width - min(max(dice.answers["width"], 8), 56)) <= 4


@pytest.mark.parametrize(("wanted", "found"), [(1, 8), (12, 8), (13, 16), (20, 16), (21, 24), (99, 24)])
def test_the_nearest_of_a_grid(wanted: int, found: int) -> None:
    assert nearest(range(8, 25, 8), wanted) == found


def test_dice_draw_evenly_on_the_scale_they_are_asked_for() -> None:
    dice = RandomSuggest(3)
    ints = [dice.suggest_int("a", 1, 100, log=True) for _ in range(4_000)]
    floats = [dice.suggest_float("b", 1.0, 100.0, log=True) for _ in range(4_000)]
    steps = {dice.suggest_float("c", 0.0, 0.5, step=0.1) for _ in range(200)}
    assert abs(sum(n <= 10 for n in ints) / 4_000 - math.log(10.5 / 0.5) / math.log(100.5 / 0.5)) < 0.03
    assert abs(sum(x <= 10 for x in floats) / 4_000 - 0.5) < 0.03
    assert {min(ints), max(ints)} == {1, 100} and 1 <= min(floats) <= max(floats) <= 100
    assert len(steps) == 6 and max(steps) == 0.5
    assert {dice.suggest_int("d", 2, 8, step=3) for _ in range(100)} == {2, 5, 8}


def test_proposals_take_dice_for_a_sampler() -> None:
    dice = RandomSuggest(1)
    propose(SMALL, BUDGET, TASK, dice)
    assert {"depth", "budget_share", "blocks_1"} <= set(dice.answers)
    dice.clear()
    assert dice.answers == {}
