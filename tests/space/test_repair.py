"""Every repair fits, is the one change that it says, and no step further from the budget than it must be."""

import re
from typing import Any

import pytest
from hypothesis import assume, given, strategies as st
from space_samples import CALM, architectures

from space import cost, published
from space.architecture import Architecture, Block, Stage, Stem
from space.budget import Budget, judge
from space.repair import Repair, repairs, scaled

SHARES = st.floats(0.02, 0.99)


def budget_below(network: Architecture, share: float, kind: str) -> Budget:
    """So much of what the network costs, of parameters, of multiply-accumulates or of both."""
    spent = cost.total(network)
    parameters, macs = (max(1, int(x * share)) for x in spent)
    wide = 2 * spent.parameters
    return Budget(wide if kind == "macs" else parameters, None if kind == "parameters" else macs)


BUDGETS = st.tuples(SHARES, st.sampled_from(("parameters", "macs", "both")))


def single(found: list[Repair]) -> list[Repair]:
    """Those of one change. "The first stage alone" takes away several stages at once and is none."""
    return [
        repair
        for repair in found
        if re.fullmatch(SINGLE, repair.name) and not repair.change.startswith("the first stage alone")
    ]


SINGLE = (
    r"base-width-\d+(-multiples-of-8)?|widest-\d+(-multiples-of-8)?|stage-\d+-(blocks|kernel|width)-\d+"
    r"|shortcut-kernel-1|stages-\d+|expansion-\d+"
)


@CALM
@given(architectures(), BUDGETS)
def test_every_repair_fits_and_is_another_network(network: Architecture, below: tuple[float, str]) -> None:
    budget = budget_below(network, *below)
    assume(not judge(network, budget).fits)
    found = repairs(network, budget)
    prints = [repair.architecture.fingerprint for repair in found]
    assert len(set(prints)) == len(prints) and network.fingerprint not in prints
    assert len({repair.name for repair in found}) == len(found) == len({repair.change for repair in found})
    for repair in found:
        verdict = judge(repair.architecture, budget)
        assert verdict.fits and (verdict.parameters, verdict.macs) == (repair.parameters, repair.macs)
        assert 0 < repair.kept <= 1
        assert Architecture.parse(repair.architecture.document()) == repair.architecture
    kept = [round(repair.kept, 3) for repair in found]
    assert kept == sorted(kept, reverse=True)


@CALM
@given(architectures(), BUDGETS)
def test_a_repair_is_the_one_change_that_its_words_say(
    network: Architecture, below: tuple[float, str]
) -> None:
    budget = budget_below(network, *below)
    for repair in single(repairs(network, budget)):
        assert repair.architecture == said(network, repair.name)
        assert one_step_back(network, repair, budget)


def said(network: Architecture, name: str) -> Architecture:
    """The network that a name of a single change describes."""
    document = network.document()
    stages: list[dict[str, Any]] = document["stages"]
    if found := re.fullmatch(r"stage-(\d+)-(\w+)-(\d+)", name):
        stages[int(found[1]) - 1][found[2]] = int(found[3])
    elif found := re.fullmatch(r"stages-(\d+)", name):
        assert int(found[1]) == len(stages) - 1
        del stages[-1]
    elif found := re.fullmatch(r"expansion-(\d+)", name):
        document["block"]["expansion"] = int(found[1])
    elif name == "shortcut-kernel-1":
        for stage in stages:
            stage["shortcut_kernel"] = 1
    else:
        return scaled(network, *widths(network, name))
    return Architecture.parse(document)


def widths(network: Architecture, name: str) -> tuple[int, int, int]:
    found = re.fullmatch(r"(base-width|widest)-(\d+)(-multiples-of-8)?", name)
    assert found, name
    every = [network.stem.width, *(s.width for s in network.stages), *(c.width for c in network.tail)]
    old = network.stages[0].width if found[1] == "base-width" else max(*every, *network.head.hidden)
    return int(found[2]), old, 8 if found[3] else 1


def one_step_back(network: Architecture, repair: Repair, budget: Budget) -> bool:
    """Whether a step less of the same change is the network itself, or does not fit."""
    if found := re.fullmatch(r"stage-(\d+)-(\w+)-(\d+)", repair.name):
        step = 2 if found[2] == "kernel" else 1
        less = said(network, f"stage-{found[1]}-{found[2]}-{int(found[3]) + step}")
    elif found := re.fullmatch(r"expansion-(\d+)", repair.name):
        step = 1 if network.block.kind == "inverted" else -1
        less = said(network, f"expansion-{int(found[1]) + step}")
    elif re.fullmatch(r"stages-\d+|shortcut-kernel-1", repair.name):
        return True
    else:
        new, old, grain = widths(network, repair.name)
        if new + grain >= old:
            return True
        less = scaled(network, new + grain, old, grain)
    return not judge(less, budget).fits


@CALM
@given(architectures(), BUDGETS)
def test_what_narrow_widths_can_mend_is_mended_by_one_change(
    network: Architecture, below: tuple[float, str]
) -> None:
    budget = budget_below(network, *below)
    assume(not judge(network, budget).fits and judge(scaled(network, 1, 10**6), budget).fits)
    found = repairs(network, budget)
    assert found == single(found)
    assert any(repair.name.startswith(("base-width", "widest")) for repair in found)


@CALM
@given(architectures())
def test_a_network_that_fits_has_no_repairs(network: Architecture) -> None:
    assert repairs(network, Budget(*cost.total(network))) == []


def test_no_change_makes_a_network_fit_one_parameter() -> None:
    assert repairs(published.load("001-final"), Budget(1)) == []


def test_changes_are_combined_where_none_is_enough_alone() -> None:
    network, budget = published.load("001-final"), Budget(200)
    assert not judge(scaled(network, 1, 256), budget).fits
    assert [(repair.change, repair.parameters) for repair in repairs(network, budget)] == [
        ("one block in each stage, all widths, the widest 256 to 2", 174),
        ("kernel 1 in all stages, all widths, the widest 256 to 2", 162),
        ("the first stage alone, base width 64 to 1", 137),
    ]


def test_bottlenecks_are_made_narrower_and_inverted_blocks_thinner() -> None:
    stages = (Stage(blocks=2, width=64), Stage(blocks=2, width=128, stride=2))

    def expansions(block: Block, limit: int) -> list[str]:
        network = Architecture(stem=Stem(width=64), stages=stages, block=block)
        return [r.change for r in repairs(network, Budget(limit)) if r.name.startswith("expansion")]

    assert expansions(Block(kind="bottleneck"), 40_000) == ["expansion 4 to 6 in all blocks"]
    assert expansions(Block(kind="inverted"), 210_000) == ["expansion 6 to 3 in all blocks"]
    assert expansions(Block(kind="inverted"), 1_000) == []


def test_the_repairs_of_a_published_network_are_those_of_a_hand_count() -> None:
    """Stage 4 of 001-resnet18: 3x3 convolutions of 256x512 and three of 512x512, 1x1 shortcut, five norms.

    Without it the map has 8x8 pixels, and the pool of window 4 leaves four positions to the classifier.
    """
    network = published.load("001-resnet18")
    found = {repair.name: repair for repair in repairs(network, Budget())}
    last = 9 * 256 * 512 + 3 * 9 * 512 * 512 + 256 * 512 + 5 * 2 * 512
    smaller = 256 * 512 + 3 * 512 * 512 + 256 * 512 + 5 * 2 * 512
    assert found["stage-4-kernel-1"].parameters == 11_173_962 - last + smaller
    assert found["stages-3"].parameters == 11_173_962 - last + (4 * 256 - 512) * 10
    assert found["base-width-42"].change == "base width 64 to 42"
    assert found["base-width-40-multiples-of-8"].change == "base width 64 to 40 (multiples of 8)"
    shapes = [stage.width for stage in found["base-width-40-multiples-of-8"].architecture.stages]
    assert shapes == [40, 80, 160, 320]


@pytest.mark.parametrize(
    ("blocks", "limit", "change"),
    [(4, 0.9, "one block less in stage 1"), (9, 0.5, "5 blocks less in stage 1")],
)
def test_blocks_are_counted_in_words(blocks: int, limit: float, change: str) -> None:
    stage = {"blocks": blocks, "width": 16}
    network = Architecture.parse({"stem": {"width": 16}, "stages": [stage]})
    found = repairs(network, budget_below(network, limit, "parameters"))
    assert change in [repair.change for repair in found]


@pytest.mark.thorough  # very large
def test_the_largest_document_is_repaired_at_once() -> None:
    stage = {"blocks": 1_000, "width": 65_536, "kernel": 63, "shortcut_kernel": 63}
    network = Architecture.parse({"stem": {"width": 65_536, "kernel": 63}, "stages": [stage] * 16})
    assert cost.total(network).parameters > 10**17
    found = repairs(network, Budget())
    assert found and all(judge(repair.architecture, Budget()).fits for repair in found)
