"""Whatever a sampler answers in whatever space, the proposal fits the budget, the maps and the space."""

import math

import optuna
import pytest
from examples import examples
from hypothesis import given, settings, strategies as st
from space_samples import CALM, TASKS, Dice, spaces

from space import cost, sampling, space as spaces_
from space.architecture import Architecture
from space.budget import Budget, judge
from space.domains import FloatRange, holds, maximum, minimum, towards_low
from space.errors import NothingFitsError
from space.random_suggest import RandomSuggest
from space.space import IntRange, SearchSpace, StageKnobs, Task, WidthKnob, fits

SEEDS = st.integers(0, 2**32)
COUNTS = st.integers(3, 9).flatmap(lambda digits: st.integers(10 ** (digits - 1), 10**digits))
BUDGETS = st.builds(Budget, max_parameters=COUNTS, max_macs=st.none() | COUNTS)
STEPS = {"low": 0.0, "high": 0.5, "step": 0.1}
MANY = settings(CALM, max_examples=examples(200))


def grain_of(space: SearchSpace, architecture: Architecture) -> int:
    """The coarsest grain of the space that these widths could have."""
    widths = (architecture.stem.width, *(stage.width for stage in architecture.stages))
    return max(grain for grain in space.width.round_to if not any(width % grain for width in widths))


@MANY
@given(spaces(), TASKS, BUDGETS, SEEDS)
def test_a_proposal_never_exceeds_the_budget(
    space: SearchSpace, task: Task, budget: Budget, seed: int
) -> None:
    try:
        architecture = sampling.propose(space, budget, task, Dice(seed))
    except NothingFitsError as error:
        assert not judge(sampling.smallest(space, task), budget).fits
        assert "\n" not in str(error) and f"{budget.max_parameters:,}" in str(error)
    else:
        assert judge(architecture, budget).fits
        assert (architecture.channels, architecture.image_size) == (task.channels, task.image_size)
        assert architecture.classes == task.classes


@MANY
@given(spaces(), TASKS, SEEDS, st.booleans())
def test_a_proposal_stays_inside_the_ranges_of_the_space_and_its_kernels_fit_their_maps(
    space: SearchSpace, task: Task, seed: int, by_fit: bool
) -> None:
    if by_fit:
        architecture = proposed(space, Budget(10**8), task, seed)
    else:
        architecture = sampling.plain(space, task, Dice(seed))
    stem, block, pool = architecture.stem, architecture.block, architecture.pool
    assert holds(space.depth, len(architecture.stages))
    assert stem.stride in space.stem.stride and bool(stem.max_pool) in space.stem.max_pool
    assert_fits(stem.kernel, space.stem.kernel, task.image_size)
    for i, stage in enumerate(architecture.stages, start=1):
        knobs = space.knobs(i)
        assert holds(knobs.blocks, stage.blocks) and stage.stride in knobs.stride
        assert_fits(stage.kernel, knobs.kernel, architecture.maps[i])
        assert_fits(stage.shortcut_kernel, knobs.shortcut_kernel, architecture.maps[i])
        assert stage.growth in knobs.growth
    assert pool.kind in space.pool.kind
    last = architecture.maps[-1]
    if pool.kernel:
        assert pool.kernel in space.pool.window and pool.kernel <= last < 2 * pool.kernel
    else:
        assert pool.output in space.pool.size or pool.output == last < min(space.pool.size)
    head = architecture.head
    assert holds(space.head.dropout, head.dropout) and holds(space.block.dropout, block.dropout)
    forms = {"hidden": head.hidden, "tail": architecture.tail, "softmax": head.softmax}
    assert len([form for form, there in forms.items() if there]) <= 1
    assert {form for form, there in forms.items() if there} <= set(space.head.form)
    assert any(forms.values()) or "linear" in space.head.form
    assert all(holds(space.head.hidden, width) for width in head.hidden)
    assert block.kind in space.block.kind and block.shortcut in space.block.shortcut
    assert block.kind != "basic" or block.convolutions in space.block.convolutions
    assert block.kind == "basic" or block.expansion in space.block.expansion
    assert block.kind != "bottleneck" or block.groups in space.block.groups
    assert architecture.activation in space.block.activation
    gates = {(False, False): "none", (True, False): "stem", (False, True): "block"}
    gate = gates[bool(stem.squeeze_excitation), bool(block.squeeze_excitation)]
    assert gate in space.block.squeeze_excitation


@MANY
@given(spaces(), TASKS, BUDGETS, SEEDS)
def test_a_plain_draw_passes_the_judge_exactly_if_it_is_within_every_limit(
    space: SearchSpace, task: Task, budget: Budget, seed: int
) -> None:
    architecture = sampling.plain(space, task, Dice(seed))
    verdict, table = judge(architecture, budget), cost.layers(architecture)
    parameters, macs = sum(row.parameters for row in table), sum(row.macs for row in table)
    within = parameters <= budget.max_parameters and (budget.max_macs is None or macs <= budget.max_macs)
    assert verdict.fits == within
    assert within == all(excess <= 0 for excess in verdict.violations.values())
    assert architecture.stages[0].width in space.width.grid(grain_of(space, architecture))


def proposed(space: SearchSpace, budget: Budget, task: Task, seed: int) -> Architecture:
    """A proposal, or the smallest network where the budget is too low for the space."""
    try:
        return sampling.propose(space, budget, task, Dice(seed))
    except NothingFitsError:
        return sampling.smallest(space, task)


def assert_fits(kernel: int, choices: tuple[int, ...], size: int) -> None:
    assert kernel in choices
    assert fits(kernel, size) or kernel == min(choices)


@MANY
@given(spaces(), TASKS, SEEDS)
def test_widths_are_multiples_and_as_the_ratios_say(space: SearchSpace, task: Task, seed: int) -> None:
    architecture = proposed(space, Budget(10**7), task, seed)
    grain, base = grain_of(space, architecture), architecture.stages[0].width
    assert base in space.width.grid(grain)
    low = high = float(base)
    stem = space.stem.width_ratio
    assert_between(architecture.stem.width, base * minimum(stem), base * maximum(stem), grain)
    for i, stage in enumerate(architecture.stages[1:], start=2):
        ratio = space.knobs(i).width_ratio
        low, high = low * minimum(ratio), high * maximum(ratio)
        assert_between(stage.width, low, high, grain)


def assert_between(width: int, low: float, high: float, grain: int) -> None:
    """Within a grain's rounding, never under one grain, and no wider than a document can say."""
    most = 65_536 // grain * grain
    assert width % grain == 0
    assert max(grain, min(low - grain / 2, most)) - 1e-6 <= width <= max(grain, high + grain / 2) + 1e-6


@MANY
@given(spaces(), TASKS, BUDGETS, SEEDS)
def test_the_widest_network_of_a_shape_fits_its_share_and_the_next_width_exceeds_it(
    space: SearchSpace, task: Task, budget: Budget, seed: int
) -> None:
    dice = Dice(seed)
    shape, share = sampling.draw(space, dice), sampling.ask(dice, "budget_share", space.budget_share)
    widest = sampling.widest(shape, space, budget, share, task)
    grid = space.width.grid(shape.round_to)
    if widest is None:
        assert not budget.allows(cost.total(sampling.realise(shape, space, grid[0], task)), share)
        return
    assert budget.allows(cost.total(widest), share)
    at = grid.index(widest.stages[0].width)
    if at + 1 < len(grid):
        assert not budget.allows(cost.total(sampling.realise(shape, space, grid[at + 1], task)), share)


@pytest.mark.thorough
@MANY
@given(spaces(blocks=1_000, width=32_000, ratio=10.0**6), TASKS, st.integers(6, 40), SEEDS)
def test_ranges_and_counts_beyond_all_measure_neither_overflow_nor_hang(
    space: SearchSpace, task: Task, digits: int, seed: int
) -> None:
    budget = Budget(10**digits, max_macs=10 ** (digits + 3))
    architecture = proposed(space, budget, task, seed)
    verdict = judge(architecture, budget)
    assert verdict.fits or verdict.excess
    assert all(math.isfinite(excess) for excess in verdict.violations.values())
    assert all(stage.width <= 65_536 for stage in architecture.stages)


@settings(CALM, max_examples=examples(100))
@given(spaces(), TASKS, SEEDS)
def test_the_answers_that_a_study_keeps_give_the_same_network_again(
    space: SearchSpace, task: Task, seed: int
) -> None:
    dice, budget = Dice(seed), Budget(10**9)
    try:
        architecture = sampling.propose(space, budget, task, dice)
    except NothingFitsError:
        return
    fixed = optuna.trial.FixedTrial(dice.answers)
    assert sampling.propose(space, budget, task, fixed) == architecture


@settings(CALM, max_examples=examples(20))
@given(spaces(), TASKS)
def test_optuna_takes_every_question_without_a_warning(space: SearchSpace, task: Task) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(3):
        trial = study.ask()
        sampling.draw(space, trial)
        sampling.ask(trial, "budget_share", space.budget_share)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_step_of_a_float_is_the_number_that_a_person_writes_whoever_answers() -> None:
    """Three steps of 0.1 are 0.30000000000000004 to a sampler: another fingerprint of the same network."""
    space = spaces_.packaged("published")
    answer = optuna.trial.FixedTrial({"dropout": 3 * 0.1})
    fixed = spaces_.parse({"depth": [2], "stage": {"blocks": [1]}, "head": {"dropout": STEPS}})
    assert sampling.draw(fixed, answer).dropout == 0.3
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = {sampling.draw(space, study.ask()).dropout for _ in range(60)}
    dice = RandomSuggest(0)
    assert drawn == {sampling.draw(space, dice).dropout for _ in range(60)} == {0.0, 0.1, 0.2, 0.3, 0.4, 0.5}
    dice.clear()
    assert {dice.suggest_float("dropout", 0.0, 0.5, step=0.1) for _ in range(60)} == drawn


@pytest.mark.parametrize("value", [0.7, 0.8, 1.0, 1.2, 1.7])
def test_the_way_down_a_range_with_steps_begins_at_the_value_itself(value: float) -> None:
    knob = FloatRange(low=0.5, high=2.0, step=0.1)
    assert towards_low(knob, value, left=1.0) == value
    assert towards_low(knob, value, left=0.0) == 0.5
    assert holds(knob, towards_low(knob, value, left=0.5))


def test_proposals_of_the_default_space_use_the_share_of_the_budget_that_was_drawn() -> None:
    space, budget = spaces_.default(), Budget(5_000_000)
    used = []
    for seed in range(100):
        dice = Dice(seed)
        spent = judge(sampling.propose(space, budget, Task(), dice), budget)
        assert spent.fits
        used.append(spent.parameters / (budget.max_parameters * dice.answers["budget_share"]))
    assert sum(share > 0.7 for share in used) > 50, "multiples of 8 are coarse, but not that coarse"


def test_no_draw_of_the_default_space_is_smaller_than_its_smallest_network() -> None:
    space, task = spaces_.default(), Task()
    least = cost.total(sampling.smallest(space, task))
    for seed in range(1_000):
        narrow = sampling.realise(sampling.draw(space, Dice(seed)), space, space.width.low, task)
        assert cost.total(narrow).parameters >= least.parameters


def test_the_smallest_network_keeps_the_shape_where_that_saves_a_projection() -> None:
    space = SearchSpace(
        depth=(2,),
        width=WidthKnob(low=16, high=64, round_to=(16,)),
        stage=StageKnobs(blocks=(1,), kernel=(1,), width_ratio=(0.9, 1.0), stride=(1, 2)),
    )
    stages = sampling.smallest(space, Task()).stages
    assert [(stage.stride, stage.width) for stage in stages] == [(1, 16), (1, 16)]


def test_the_smallest_network_is_deep_where_a_narrow_last_stage_saves_most_of_a_classifier() -> None:
    space = SearchSpace(
        depth=IntRange(low=1, high=2),
        width=WidthKnob(low=256, high=512),
        stage=StageKnobs(width_ratio=(0.125,)),
    )
    assert len(sampling.smallest(space, Task(classes=10_000)).stages) == 2


@pytest.mark.parametrize("limits", [(77, None), (10**6, 99)])
def test_a_budget_below_the_smallest_network_is_refused_with_its_cost(limits: tuple[int, int | None]) -> None:
    space, task = spaces_.default(), Task()
    least = cost.total(sampling.smallest(space, task))
    with pytest.raises(NothingFitsError, match=f"smallest .* {least.parameters:,} parameters"):
        sampling.propose(space, Budget(*limits), task, Dice(1))


def test_a_budget_of_exactly_the_smallest_network_gets_it() -> None:
    space, task = spaces_.default(), Task()
    least = cost.total(sampling.smallest(space, task))
    found = sampling.propose(space, Budget(least.parameters), task, Dice(1))
    assert cost.total(found).parameters == least.parameters


def test_a_shape_too_large_at_its_slimmest_is_shrunk_and_not_refused() -> None:
    space, budget, shrunk = spaces_.default(), Budget(20_000), set()
    for seed in range(100):
        architecture = sampling.propose(space, budget, Task(), Dice(seed))
        assert judge(architecture, budget).fits
        shrunk.add(architecture.fingerprint)
    assert len(shrunk) > 20


def test_a_pool_that_does_not_fit_becomes_the_next_choice_of_the_space() -> None:
    space = SearchSpace(
        depth=(2,), stage=StageKnobs(stride=(4,)), pool=spaces_.PoolKnobs(size=(1, 8)), width=WidthKnob()
    )
    outputs = {proposed(space, Budget(), Task(image_size=16), seed).pool.output for seed in range(20)}
    assert outputs == {1}
