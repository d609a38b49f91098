"""published.toml holds the published networks, default.toml those that are not odd; the inverse of a proposal
is exact in any space."""

from typing import Any

import optuna
import pytest
from examples import examples
from hypothesis import given, settings, strategies as st
from space_samples import CALM, TASKS, Dice, architectures, spaces

from space import cost, published, sampling, space as spaces_, traits
from space.architecture import Architecture, Pool, Stage, Stem
from space.budget import Budget, judge
from space.errors import NothingFitsError
from space.membership import contains, plain_suggestions_of, suggestions_of
from space.random_suggest import RandomSuggest
from space.space import SameKnobs, SearchSpace, StageKnobs, Task

DEFAULT, PUBLISHED, BUDGET = spaces_.default(), spaces_.packaged("published"), Budget(5_000_000)
FITTING = [entry.name for entry in published.everything() if judge(entry.architecture, BUDGET).fits]


def test_all_published_networks_but_two_fit_the_budget() -> None:
    assert len(FITTING) == 76
    assert {entry.name for entry in published.everything()} - set(FITTING) == {"000-plain", "001-resnet18"}


def assert_made(space: SearchSpace, network: Architecture) -> None:
    """The suggestions are all that propose() asks for, may be chosen, and make the network."""
    answers = suggestions_of(space, BUDGET, Task(), network)
    assert isinstance(answers, dict), answers
    trial = optuna.trial.FixedTrial(answers)
    made = sampling.propose(space, BUDGET, Task(), trial)
    assert made.fingerprint == network.fingerprint
    assert cost.total(made) == cost.total(network)
    assert set(answers) == set(trial.params), "an answer to a question that is not asked"
    assert all(trial.distributions[name]._contains(trial.distributions[name].to_internal_repr(value))
               for name, value in answers.items())  # fmt: skip


@pytest.mark.parametrize("name", FITTING)
def test_a_published_network_lies_inside_their_space_and_is_made_exactly_by_suggestions(name: str) -> None:
    network = published.load(name)
    assert contains(PUBLISHED, network) == []
    assert_made(PUBLISHED, network)


def test_the_default_space_holds_the_published_networks_that_are_not_odd_and_says_why_not_the_others() -> (
    None
):
    reasons = {name: contains(DEFAULT, published.load(name)) for name in FITTING}
    inside = {name for name, told in reasons.items() if not told}
    assert len(inside) == 21
    assert inside >= {"000-og", "001-final", "003-final", "003-augmix", "004-final", "000-fc1024"}
    for name in inside:
        assert_made(DEFAULT, published.load(name))
    told = {reason.split(":")[0] for name in reasons.keys() - inside for reason in reasons[name]}
    assert {"pool", "head.form", "depth", "block.activation", "stages.3.width_ratio"} <= told


def family(width: int, blocks: int) -> Architecture:
    """Three halving stages, 3x3 throughout, widths doubling."""
    stages = [Stage(blocks=blocks, width=width * 2**i, stride=min(2, i + 1)) for i in range(3)]
    return Architecture(stem=Stem(width=width), stages=tuple(stages))


def test_the_default_space_holds_the_family_of_good_networks_and_first_guesses() -> None:
    network = family(64, 3)
    assert cost.total(network).parameters == 4_327_754
    assert_made(DEFAULT, network)
    answers = suggestions_of(DEFAULT, BUDGET, Task(), network)
    assert isinstance(answers, dict)
    assert (answers["same_blocks"], answers["blocks"], answers["kernel"], answers["width_ratio"]) == (
        True,
        3,
        3,
        2,
    )
    for width, blocks in ((12, 3), (16, 2), (20, 1), (80, 2)):
        assert contains(DEFAULT, family(width, blocks)) == []


def test_a_knob_that_all_stages_must_share_is_drawn_once_and_told_where_a_network_does_not() -> None:
    space = SearchSpace(
        depth=(3,),
        stage=StageKnobs(blocks=(1, 2), kernel=(3, 5)),
        same=SameKnobs(blocks=(True,), kernel=(True,)),
    )
    seen = set()
    for seed in range(40):
        dice = Dice(seed)
        network = sampling.propose(space, BUDGET, Task(), dice)
        assert len({stage.blocks for stage in network.stages}) == 1
        assert {"blocks", "kernel"} <= set(dice.answers) and "same_blocks" not in dice.answers
        seen.add((network.stages[0].blocks, network.stages[0].kernel))
    assert len(seen) == 4
    mixed = family(64, 2).model_copy(
        update={"stages": (Stage(blocks=1, width=64), *family(64, 2).stages[1:])}
    )
    assert contains(space, mixed) == ["same.blocks: the stages have 1, 2, 2; the space has one value for all"]


@settings(CALM, max_examples=examples(300))
@given(spaces(), TASKS, st.integers(10**4, 10**7), st.integers(0, 2**32))
def test_whatever_is_proposed_lies_inside_and_its_own_suggestions_make_it(
    space: SearchSpace, task: Task, limit: int, seed: int
) -> None:
    budget, dice = Budget(limit), Dice(seed)
    try:
        network = sampling.propose(space, budget, task, dice)
    except NothingFitsError:
        return
    assert contains(space, network) == []
    answers = suggestions_of(space, budget, task, network)
    if isinstance(answers, dict):
        again = sampling.propose(space, budget, task, optuna.trial.FixedTrial(answers))
        assert again.fingerprint == network.fingerprint
    else:  # the width that the share of the budget gives is another one; nothing else may be in the way
        assert answers and all(reason.startswith("budget_share: ") for reason in answers)


@settings(CALM, max_examples=examples(300))
@given(spaces(), architectures())
def test_a_network_that_is_called_inside_is_made_and_one_outside_is_told_where(
    space: SearchSpace, network: Architecture
) -> None:
    task = Task(channels=network.channels, image_size=network.image_size, classes=network.classes)
    reasons = contains(space, network)
    assert all(": " in reason and reason.isprintable() for reason in reasons)
    answers = suggestions_of(space, Budget(10**9), task, network)
    if isinstance(answers, dict):
        assert reasons == []
        made = sampling.propose(space, Budget(10**9), task, optuna.trial.FixedTrial(answers))
        assert made.fingerprint == network.fingerprint


@settings(CALM, max_examples=examples(100))
@given(spaces(), TASKS, st.integers(0, 2**32))
def test_whatever_is_drawn_without_a_budget_is_made_by_its_own_suggestions(
    space: SearchSpace, task: Task, seed: int
) -> None:
    network = sampling.plain(space, task, Dice(seed))
    answers = plain_suggestions_of(space, task, network)
    assert isinstance(answers, dict), answers
    trial = optuna.trial.FixedTrial(answers)
    assert sampling.plain(space, task, trial).fingerprint == network.fingerprint
    assert set(answers) == set(trial.params) and "budget_share" not in answers


def test_ratios_whose_product_is_too_small_for_a_float_are_found() -> None:
    space = spaces_.parse({
        "depth": [4], "width": {"low": 1, "high": 2, "round_to": 1},
        "stage": {"blocks": [1], "kernel": [1], "stride": [1], "width_ratio": [5e-324]},
        "stages": {"2": {"width_ratio": {"low": 1.0, "high": 2.0}}}, "same": {"width_ratio": [False]},
    })  # fmt: skip
    task = Task(channels=1, image_size=1)
    for seed in range(20):
        network = sampling.plain(space, task, Dice(seed))
        answers = plain_suggestions_of(space, task, network)
        assert isinstance(answers, dict), answers
        again = sampling.plain(space, task, optuna.trial.FixedTrial(answers))
        assert again.fingerprint == network.fingerprint


@pytest.mark.parametrize("grain", [1, 8])
@pytest.mark.parametrize("ratio", [{"low": 3.0, "high": 4.0}, [3.0, 3.5]])
def test_a_stage_that_is_cut_to_the_widest_that_can_be_said_is_made_by_its_own_suggestions(
    grain: int, ratio: object
) -> None:
    space = spaces_.parse({
        "depth": [6], "width": {"low": 144, "high": 149, "round_to": grain},
        "stage": {"blocks": [1], "kernel": [1], "stride": [1], "width_ratio": ratio},
    })  # fmt: skip
    for seed in range(20):
        network = sampling.plain(space, Task(channels=1, image_size=1), Dice(seed))
        answers = plain_suggestions_of(space, Task(channels=1, image_size=1), network)
        assert isinstance(answers, dict), answers
        again = sampling.plain(space, Task(channels=1, image_size=1), optuna.trial.FixedTrial(answers))
        assert again.fingerprint == network.fingerprint
        assert network.stages[-1].width > 30_000


def changed(**changes: Any) -> Architecture:
    return published.load("001-final").model_copy(update=changes)


def stages(*changes: dict[str, int]) -> tuple[Stage, ...]:
    old = published.load("001-final").stages
    return tuple(stage.model_copy(update=change) for stage, change in zip(old, changes, strict=True))


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (changed(stages=stages({"blocks": 14}, {}, {})), "stages.1.blocks: 14, not 1 to 13"),
        (changed(stages=stages({}, {"kernel": 9}, {})), "stages.2.kernel: 9, not 1, 3, 5, 7"),
        (changed(stages=stages({}, {}, {"stride": 4})), "stages.3.stride: 4, not 2"),
        (changed(stages=stages({}, {}, {"width": 640})), "stages.3.width_ratio: 5, not 1 to 4"),
        (changed(stages=stages({}, {}, {})[:1]), "depth: 1, not 2 to 5"),
        (changed(stem=Stem(width=60)), "stem.width_ratio: 0.9375, not 0.5, 0.75, 1.0"),
        (changed(stem=Stem(width=64, bias=True)), "stem.bias: True; a space has False"),
        (changed(pool=Pool(output=3)), "pool: {'kind': 'avg', 'output': 3} is none of the space"),
    ],
)
def test_a_network_outside_is_told_the_knob_and_the_value(network: Architecture, reason: str) -> None:
    assert contains(PUBLISHED, network) == [reason]
    assert suggestions_of(PUBLISHED, Budget(10**8), Task(), network) == [reason]


def test_a_network_over_the_budget_or_of_other_images_has_no_suggestions() -> None:
    network = published.load("001-final")
    assert suggestions_of(DEFAULT, Budget(4_697_161), Task(), network) == [
        "4,697,162 parameters, 1 over 4,697,161"
    ]
    assert suggestions_of(DEFAULT, BUDGET, Task(image_size=8), network) == [
        "image_size: 32, where the data have 8"
    ]
    answers = suggestions_of(DEFAULT, Budget(100_000_000), Task(), network)
    assert answers == ["budget_share: it uses 0.0470 of the budget, not 0.5 to 1"]


def test_most_proposals_of_the_default_space_have_a_plain_head_full_resolution_and_3x3_kernels() -> None:
    dice = RandomSuggest(1)
    made = [sampling.propose(DEFAULT, BUDGET, Task(), dice) for _ in range(400)]
    assert not any(n.tail or n.head.softmax for n in made)
    assert sum(not n.head.hidden for n in made) > 350
    assert sum(traits.keeps_resolution(n) for n in made) > 340
    assert sum(traits.is_3x3(n) for n in made) > 220
    assert sum(traits.keeps_resolution(n) and traits.is_3x3(n) for n in made) > 200
