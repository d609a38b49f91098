"""Kinds of blocks, groups, shortcuts and growth as knobs: asked for where they apply, and no space of before
means anything else."""

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from examples import examples
from hypothesis import given, settings, strategies as st
from space_samples import CALM, TASKS, Dice, spaces

from space import (
    branches,
    cost,
    counting,
    forecast,
    random_suggest,
    sampling,
    smallest,
    space as spaces_,
)
from space.architecture import Architecture, Block, Stage, Stem
from space.budget import Budget, judge
from space.document import Document
from space.errors import NothingFitsError, SpaceError
from space.membership import contains, suggestions_of
from space.random_suggest import RandomSuggest
from space.space import BlockKnobs, SameKnobs, SearchSpace, StageKnobs, Task, WidthKnob
from space.weights import Weighted
from trainer import model

NEW = {"block": ("kind", "expansion", "groups", "shortcut"), "stage": ("growth",), "same": ("growth",)}


def before(space: SearchSpace) -> SearchSpace:
    """The space as a file or a stored study said it before there were kinds of blocks."""
    document = space.model_dump(mode="json")
    for section, names in NEW.items():
        for name in names:
            del document[section][name]
    for stage in document["stages"].values():
        del stage["growth"]
    if isinstance(document["block"]["activation"], dict):  # the weights that the default had then
        document["block"]["activation"] = {"relu": 8, "leaky_relu": 1, "gelu": 1, "silu": 2}
        document["block"]["preactivation"] = {"false": 3, "true": 1}
    return spaces_.parse(document)


def digest(space: SearchSpace, budget: Budget, task: Task) -> str:
    """Of 300 proposals and 300 plain draws: networks and answers."""
    dice, text = RandomSuggest(0), []
    for _ in range(300):
        dice.clear()
        proposed = sampling.propose(space, budget, task, dice)
        text.append(json.dumps([proposed.fingerprint, dice.answers]))
        text.append(sampling.plain(space, task, dice).fingerprint)
    return hashlib.sha256("\n".join(text).encode()).hexdigest()[:16]


@pytest.mark.thorough  # many draws
@pytest.mark.parametrize(
    ("name", "budget", "task", "wanted"),
    [
        ("default", Budget(5_000_000), Task(), "4c15c77553bff4dd"),
        ("default", Budget(300_000, 20_000_000), Task(channels=1, image_size=28), "b1bd77bdd757d273"),
        ("default", Budget(20_000), Task(), "96b3611dac00bd37"),
        ("published", Budget(5_000_000), Task(), "0d8242bea34d6987"),
    ],
)
def test_a_space_without_these_knobs_gives_the_networks_and_answers_that_it_gave_before_them(
    name: str, budget: Budget, task: Task, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps of a float, of which the published space has some, as they were reckoned: 0.30000000000000004."""
    for module in (sampling, random_suggest):
        monkeypatch.setattr(module, "on_step", lambda value: value)
    assert digest(before(spaces_.packaged(name)), budget, task) == wanted


def test_what_a_space_leaves_out_is_basic_blocks_with_projections_in_steps() -> None:
    block, stage = SearchSpace().block, SearchSpace().stage
    assert (block.kind, block.groups, block.shortcut, stage.growth) == (
        ("basic",), (1,), ("projection",), ("step",)
    )  # fmt: skip
    assert before(spaces_.packaged("published")) == spaces_.packaged("published")


def kinds(*names: str, **others: Any) -> SearchSpace:
    block = BlockKnobs(kind=names, convolutions=(2, 3), expansion=(2, 4), groups=(1, 2, 8), **others)  # type: ignore[arg-type]
    return SearchSpace(depth=(3,), stage=StageKnobs(shortcut_kernel=(1, 3)), block=block)


@pytest.mark.parametrize(
    ("kind", "asked"),
    [
        ("basic", {"convolutions"}),
        ("bottleneck", {"expansion", "groups"}),
        ("inverted", {"expansion"}),
    ],
)
def test_a_kind_is_asked_for_what_goes_with_it_alone(kind: str, asked: set[str]) -> None:
    for seed in range(10):
        dice = Dice(seed)
        network = sampling.propose(kinds(kind), Budget(), Task(), dice)
        assert network.block.kind == kind
        assert dice.answers.keys() & {"convolutions", "expansion", "groups"} == asked


def test_kernels_of_shortcuts_are_asked_for_where_shortcuts_are_projections() -> None:
    space, seen = kinds("basic", shortcut=("projection", "padding")), set()
    for seed in range(20):
        dice = Dice(seed)
        shortcut = sampling.propose(space, Budget(), Task(), dice).block.shortcut
        assert ("shortcut_kernel_2" in dice.answers) == (shortcut == "projection")
        seen.add(shortcut)
    assert seen == {"projection", "padding"}


def test_growth_is_asked_for_where_a_stage_has_two_blocks() -> None:
    space = SearchSpace(depth=(2,), stage=StageKnobs(blocks=(1, 2), growth=("step", "linear")))
    seen = set()
    for seed in range(40):
        dice = Dice(seed)
        for i, stage in enumerate(sampling.propose(space, Budget(), Task(), dice).stages, start=1):
            assert (f"growth_{i}" in dice.answers) == (stage.blocks == 2)
            seen.add((stage.blocks, stage.growth))
    assert seen == {(1, "step"), (2, "step"), (2, "linear")}


def test_one_growth_for_all_stages_is_drawn_once() -> None:
    space = SearchSpace(
        depth=(3,),
        stage=StageKnobs(blocks=(2,), growth=("step", "linear")),
        same=SameKnobs(growth=(True,)),
    )
    for seed in range(10):
        dice = Dice(seed)
        network = sampling.propose(space, Budget(), Task(), dice)
        assert {stage.growth for stage in network.stages} == {dice.answers["growth"]}
    mixed = network.model_copy(
        update={"stages": tuple(
            Stage(blocks=2, width=16 * 2**i, stride=1 + (i > 0), growth=growth)
            for i, growth in enumerate(("step", "linear", "step"))
        ), "stem": Stem(width=16)}
    )  # fmt: skip
    assert any(reason.startswith("same.growth: ") for reason in contains(space, mixed))


def test_the_weights_of_every_question_are_told_whatever_the_kind() -> None:
    told = sampling.prior(spaces_.default())
    wanted = {"block_kind", "convolutions", "expansion", "groups", "shortcut", "same_growth", "growth"}
    assert wanted | {"growth_1", "growth_4", "shortcut_kernel_2"} <= told.keys()
    assert told["block_kind"] == {"basic": 0.85, "bottleneck": 0.1, "inverted": 0.05}


@settings(CALM, max_examples=examples(100))
@given(spaces(blocks=4, width=48, ratio=2.0), TASKS, st.integers(0, 2**32))
def test_what_a_proposal_costs_is_what_is_built(space: SearchSpace, task: Task, seed: int) -> None:
    try:
        network = sampling.propose(space, Budget(200_000), task, Dice(seed))
    except NothingFitsError:
        return
    verdict = judge(network, Budget(200_000))
    assert verdict.fits
    assert model.count(model.build(network)) == verdict.parameters


@settings(CALM, max_examples=examples(100))
@given(spaces(blocks=3), TASKS, st.integers(0, 2**32))
def test_of_one_kind_no_branch_is_cheaper_than_the_cheapest_nor_dearer_than_the_dearest(
    space: SearchSpace, task: Task, seed: int
) -> None:
    shape = sampling.draw(space, Dice(seed))
    base = space.width.grid(shape.round_to)[0]

    def spent(branch: branches.BranchSkeleton) -> int:
        again = replace(shape, branch=branch)
        return cost.total(sampling.realise(again, space, base, task)).parameters

    alike = branches.cheaper(space.block, shape.branch)
    dear = [b for b in branches.dearest(space.block) if b.block_kind == shape.branch.block_kind]
    assert min(map(spent, alike)) <= spent(shape.branch) <= max(map(spent, dear))


def test_smallest_and_largest_are_of_the_kind_that_makes_them_so() -> None:
    space = SearchSpace(
        depth=(2,),
        width=WidthKnob(low=64, high=64),
        stage=StageKnobs(blocks=(2,), growth=("step", "linear")),
        block=BlockKnobs(
            kind=("basic", "bottleneck", "inverted"),
            expansion=(2, 4),
            groups=(1, 2, 8),
            shortcut=("projection", "identity"),
        ),
    )
    drawn = [cost.total(sampling.plain(space, Task(), Dice(seed))) for seed in range(400)]
    assert cost.total(smallest.smallest(space, Task())) == min(drawn)
    assert cost.total(forecast.largest(space, Task())) == max(drawn)
    assert counting.networks(space, Task()) == (1 + 2 * 3 + 2) * 2 * 2**2


def made(space: SearchSpace, network: Architecture) -> Any:
    return suggestions_of(space, Budget(10**7), Task(), network)


def test_a_network_is_read_back_where_another_value_of_a_knob_builds_the_same() -> None:
    stages = (Stage(blocks=1, width=8, growth="linear"), Stage(blocks=2, width=16, stride=2))
    network = Architecture(
        stem=Stem(width=8), stages=stages, block=Block(kind="bottleneck", expansion=16, groups=8)
    )
    space = SearchSpace(
        depth=(2,),
        stage=StageKnobs(blocks=(1, 2)),
        block=BlockKnobs(kind=("basic", "bottleneck"), expansion=(4,), groups=(1, 8)),
        budget_share=spaces_.FloatRange(low=0.0001, high=1),
    )
    assert contains(space, network) == []  # of 8 or 16 channels a quarter is no more than 8 groups either
    wider = network.model_copy(update={"block": Block(kind="bottleneck", expansion=2, groups=1)})
    assert contains(space, wider) == ["block.expansion: 2, not 4"]
    inverted = network.model_copy(update={"block": Block(kind="inverted", shortcut="padding")})
    told = contains(space, inverted)
    assert {"block.kind: inverted, not basic, bottleneck", "block.shortcut: padding, not projection"} <= set(
        told
    )


def test_a_network_without_shortcuts_lies_in_a_space_of_identities_that_none_of_its_blocks_can_have() -> None:
    stages = (Stage(blocks=1, width=16), Stage(blocks=1, width=32, stride=2))
    network = Architecture(stem=Stem(width=8), stages=stages, block=Block(residual=False))
    space = SearchSpace(
        depth=(2,),
        stem=spaces_.StemKnobs(width_ratio=(0.5,)),
        block=BlockKnobs(shortcut=("projection", "identity")),
    )
    assert contains(space, network) == []
    longer = network.model_copy(update={"stages": (Stage(blocks=2, width=16), stages[1])})
    assert contains(space, longer) == ["block.residual: False; a space has True"]


def test_bad_values_are_told_with_their_place() -> None:
    for field, value, told in (
        ("kind", ["wide"], "block.kind"),
        ("expansion", [1], "block.expansion"),
        ("groups", [0], "block.groups"),
        ("shortcut", {"none": 1}, "block.shortcut"),
    ):
        with pytest.raises(SpaceError, match=rf"space: {told}"):
            spaces_.parse({"block": {field: value}})
    with pytest.raises(SpaceError, match=r"space: stages\.2\.growth"):
        spaces_.parse({"stages": {"2": {"growth": ["fast"]}}})


def test_weights_of_kinds_come_back_from_a_stored_study() -> None:
    space = spaces_.default()
    assert isinstance(space.block.kind, Weighted) and isinstance(space, Document)
    assert spaces_.parse(json.loads(space.model_dump_json())) == space
