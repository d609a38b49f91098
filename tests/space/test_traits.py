"""What a space's proposals are like is counted as it is said."""

import pytest

from space import space as spaces, traits
from space.architecture import Architecture, MaxPool, Stage, Stem
from space.budget import Budget
from space.space import SearchSpace, StageKnobs, StemKnobs, Task, WidthKnob


def network(stride: int = 1, kernel: int = 3, pool: bool = False) -> Architecture:
    stem = Stem(width=8, stride=stride, max_pool=MaxPool() if pool else None)
    return Architecture(stem=stem, stages=(Stage(blocks=1, width=8, kernel=kernel),))


def test_full_resolution_is_neither_a_stride_nor_a_pool_in_the_stem() -> None:
    assert traits.keeps_resolution(network())
    assert not traits.keeps_resolution(network(stride=2)) and not traits.keeps_resolution(network(pool=True))
    assert traits.is_3x3(network()) and not traits.is_3x3(network(kernel=5))


def test_a_space_of_one_kind_has_all_of_its_proposals_so() -> None:
    plain = SearchSpace(depth=(3,), stage=StageKnobs(blocks=(3,)))
    seen = traits.traits(plain, Budget(), Task(), 20)
    assert seen.shares["both, and no softmax at the end"] == 1 and seen.shares["softmax at the end"] == 0
    assert 0 < seen.shares["three halving 3x3 stages of basic blocks, over 70% of it"] < 1, (
        "by the share of the budget"
    )
    early = SearchSpace(depth=(2,), stem=StemKnobs(stride=(2,), max_pool=(True,)))
    assert traits.traits(early, Budget(), Task(), 5).shares["stages begin at 8x8 or less"] == 1


def test_what_does_not_fit_at_its_slimmest_is_counted_as_shrunk() -> None:
    deep = SearchSpace(depth=(3,), stage=StageKnobs(blocks=(1, 500)), width=WidthKnob(low=8))
    seen = traits.traits(deep, Budget(200_000), Task(), 60)
    assert 0.7 < seen.shares["shrunk to fit"] < 1, "where one stage or more was drawn with 500 blocks"
    assert traits.traits(deep, Budget(10**8), Task(), 5).shares["shrunk to fit"] == 0


def test_the_dearest_tenth_has_a_tenth_where_all_cost_the_same() -> None:
    one = SearchSpace(depth=(2,), stage=StageKnobs(blocks=(1,)), width=WidthKnob(low=16, high=16))
    seen = traits.traits(one, Budget(), Task(), 50)
    assert seen.dearest_tenth == pytest.approx(0.1)
    assert seen.macs_median == seen.macs_p90 == seen.macs_max


def test_the_default_space_proposes_what_works_and_the_space_before_it_did_not() -> None:
    new = traits.traits(spaces.default(), Budget(), Task(), 300).shares
    old = traits.traits(spaces.packaged("published"), Budget(), Task(), 300).shares
    assert new["both, and no softmax at the end"] > 0.55 > 0.05 > old["both, and no softmax at the end"]
    assert new["three halving 3x3 stages of basic blocks, over 70% of it"] > 0.15
    assert old["three halving 3x3 stages of basic blocks, over 70% of it"] < 0.02
    assert new["softmax at the end"] == 0 and new["stages begin at 8x8 or less"] < 0.02
