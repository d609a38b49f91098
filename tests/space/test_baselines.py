"""First guesses: plain networks, as wide as the budget lets them be, which the space can make exactly."""

import pytest
from hypothesis import given, strategies as st
from space_samples import CALM, TASKS

from space import baselines, cost, sampling, space as spaces
from space.architecture import Architecture
from space.baselines import plain
from space.budget import Budget
from space.errors import SpaceError
from space.membership import suggestions_of
from space.random_suggest import RandomSuggest
from space.space import Task

DEFAULT = spaces.default()
GREY = Task(channels=1, image_size=28)
NAMES = [f"{shape} at {share}" for share in ("full budget", "half the budget")
         for shape in ("[3,3,3]", "[2,2,2]", "[1,1,1]")]  # fmt: skip


def widths(budget: Budget, task: Task) -> list[int]:
    return [guess.architecture.stages[0].width for guess in baselines.baselines(DEFAULT, budget, task)]


def test_the_default_space_has_six_of_known_widths_and_sizes() -> None:
    found = baselines.baselines(DEFAULT, Budget(5_000_000, 1_000_000_000), Task())
    assert [guess.name for guess in found] == NAMES
    assert [guess.architecture.stages[0].width for guess in found] == [64, 80, 128, 48, 56, 88]
    best_known = found[0].architecture  # 95.4% on CIFAR-10 after 300 plain epochs
    assert cost.total(best_known).parameters == 4_327_754
    assert [(s.blocks, s.width, s.kernel, s.stride) for s in best_known.stages] == [
        (3, 64, 3, 1), (3, 128, 3, 2), (3, 256, 3, 2)
    ]  # fmt: skip
    assert cost.total(found[0].architecture).macs == 647_694_848


def test_a_compute_budget_bounds_them_too_and_narrow_ones_take_finer_widths() -> None:
    limits = Budget(300_000, 20_000_000)
    assert widths(limits, GREY) == [12, 15, 23, 8, 11, 16]
    first = baselines.baselines(DEFAULT, limits, GREY)[0].architecture
    assert cost.total(first) == cost.Cost(153_550, 17_471_136)


@CALM
@given(
    task=TASKS.filter(lambda task: task.image_size >= 5),  # a map of 1x1 takes no 3x3 kernel
    parameters=st.integers(2_000, 10_000_000),
    macs=st.none() | st.integers(100_000, 2_000_000_000),
)
def test_each_is_made_by_the_space_exactly_or_left_out_with_a_reason(
    task: Task, parameters: int, macs: int | None
) -> None:
    space, budget = DEFAULT.for_images(task.image_size), Budget(parameters, macs)
    for guess in baselines.baselines(space, budget, task):
        if guess.reason:
            assert "channels wide it uses" in guess.reason
            continue
        assert budget.allows(cost.total(guess.architecture), 0.5 if "half" in guess.name else 1.0)
        assert isinstance(suggestions_of(space, budget, task, guess.architecture), dict)


def test_one_that_is_too_large_at_its_narrowest_comes_last_with_the_reason() -> None:
    found = baselines.baselines(DEFAULT, Budget(50_000), Task(channels=1, image_size=8))
    assert [guess.name for guess in found if not guess.reason] == [
        "[2,2,2] at full budget", "[1,1,1] at full budget", "[1,1,1] at half the budget"
    ]  # fmt: skip
    assert found[-1].reason == "even 8 channels wide it uses 88% of the budget"


def test_a_network_that_fits_for_two_has_the_name_of_the_first() -> None:
    space = DEFAULT.model_copy(update={"baselines": spaces.Baselines(blocks=((1, 1),), budget=(1.0, 0.999))})
    (guess,) = baselines.baselines(space, Budget(100_000), GREY)
    assert guess.name == "[1,1] at full budget"


@pytest.mark.parametrize(
    ("depth", "high", "blocks"),
    [([3], 65_536, None), ([3], 40_000, None), ([8], 2_048, [[1] * 8])],
)
def test_a_space_whose_widths_go_further_than_a_document_has_those_that_can_be_said(
    depth: list[int], high: int, blocks: list[list[int]] | None
) -> None:
    table = {"blocks": blocks} if blocks else {}
    space = spaces.parse({"depth": depth, "width": {"high": high}, "baselines": table})
    narrow = spaces.parse({"depth": depth, "width": {"high": 512}, "baselines": table})
    limits = Budget(5_000_000), Task()
    assert baselines.baselines(space, *limits) == baselines.baselines(narrow, *limits) != []
    found = baselines.baselines(space, Budget(10**15), Task())
    assert found and all(guess.architecture.stages[-1].width == 65_536 for guess in found)


def test_one_whose_last_stage_is_wider_than_a_document_can_say_comes_last_with_the_reason() -> None:
    table = {"blocks": [[1] * 8, [1]], "budget": [1.0]}
    space = spaces.parse({"depth": [1, 8], "width": {"low": 1_024, "high": 2_048}, "baselines": table})
    short, long = baselines.baselines(space, Budget(10**9), Task())
    assert (short.name, short.reason) == ("[1] at full budget", "")
    assert long.name == "[1,1,1,1,1,1,1,1] at full budget"
    assert long.reason == "even 1,024 channels wide its last stage has 131,072, over 65,536"


@pytest.mark.parametrize(
    ("share", "names"),
    [
        ({"low": 0.5, "high": 1.0}, ["[1,1] at full budget", "[1,1] at half the budget"]),
        ({"low": 0.25, "high": 0.5}, ["[1,1] at half the budget"]),
        (
            {"low": 0.5, "high": 1.0, "step": 0.3},
            ["[1,1] at 80% of the budget", "[1,1] at half the budget"],
        ),
        (
            {"low": 0.2, "high": 1.0, "step": 0.4},
            ["[1,1] at full budget", "[1,1] at 20% of the budget"],
        ),
    ],
)
def test_each_uses_a_share_that_a_proposal_may_use_and_is_called_by_it(
    share: dict[str, float], names: list[str]
) -> None:
    table = {"blocks": [[1, 1]]}
    space = spaces.parse({"depth": [2], "budget_share": share, "baselines": table, "width": {"round_to": 1}})
    found = baselines.baselines(space, Budget(100_000), GREY)
    assert [guess.name for guess in found] == names
    for guess in found:
        assert isinstance(suggestions_of(space, Budget(100_000), GREY, guess.architecture), dict)


def test_variants_of_the_default_space_are_what_was_ahead_and_as_wide_as_the_full_budget_lets_them_be() -> (
    None
):
    limits = Budget(300_000, 20_000_000)
    found = baselines.variants(DEFAULT, limits, GREY)
    said = "pre-activated, padded shortcuts, gelu"
    assert [one.name for one in found] == [f"{name}, {said}" for name in NAMES[:3]]
    for one, guess in zip(found, baselines.baselines(DEFAULT, limits, GREY), strict=False):
        network, plainly = one.architecture, guess.architecture
        assert network.block.preactivation and network.block.shortcut == "padding"
        assert network.activation == "gelu"
        assert [one.blocks for one in network.stages] == [one.blocks for one in plainly.stages]
        assert network.stages[0].width >= plainly.stages[0].width  # padding takes no weights
        assert network.fingerprint != plainly.fingerprint
        assert limits.allows(cost.total(network))
        assert isinstance(suggestions_of(DEFAULT, limits, GREY, network), dict)
    assert baselines.variants(spaces.packaged("published"), limits, GREY) == []


def test_each_variant_is_made_of_all_blocks_and_of_the_first_share() -> None:
    table = {
        "blocks": [[1, 1], [2, 2]], "budget": [0.5, 1.0],
        "variants": [
            {"activation": "gelu"}, {"activation": "silu", "preactivation": True, "shortcut": "identity"}
        ],
    }  # fmt: skip
    space = spaces.parse({"depth": [2], "width": {"round_to": 1}, "baselines": table})
    found = baselines.variants(space, Budget(100_000), GREY)
    assert [one.name for one in found] == [
        "[1,1] at half the budget, gelu", "[2,2] at half the budget, gelu",
        "[1,1] at half the budget, pre-activated, identity shortcuts alone, silu",
        "[2,2] at half the budget, pre-activated, identity shortcuts alone, silu",
    ]  # fmt: skip
    made = [one.architecture for one in found]
    assert [(one.activation, one.block.preactivation, one.block.shortcut) for one in made] == [
        ("gelu", False, "projection"), ("gelu", False, "projection"),
        ("silu", True, "identity"), ("silu", True, "identity"),
    ]  # fmt: skip
    assert all(Budget(100_000).allows(cost.total(one.architecture), 0.5) for one in found)


def test_a_space_without_the_table_has_none_and_the_table_changes_no_draw() -> None:
    without = DEFAULT.model_copy(update={"baselines": None})
    assert baselines.baselines(without, Budget(), Task()) == []
    assert spaces.packaged("published").baselines is None

    def drawn(space: spaces.SearchSpace) -> Architecture:
        return sampling.propose(space, Budget(), Task(), RandomSuggest(0))

    assert drawn(without) == drawn(DEFAULT)


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({"blocks": []}, "baselines.blocks"),
        ({"blocks": [[0]]}, "baselines.blocks.0.0"),
        ({"budget": [1.5]}, "baselines.budget.0"),
        ({"width": 8}, "baselines.width: unknown field"),
        (
            {"variants": [{}]},
            "baselines.variants.0: a variant changes something: preactivation, activation, shortcut",
        ),
        ({"variants": [{"kernel": 5}]}, "baselines.variants.0.kernel: unknown field"),
        ({"variants": [{"activation": "elu"}]}, "baselines.variants.0.activation"),
        ({"variants": [{"shortcut": "none"}]}, "baselines.variants.0.shortcut"),
    ],
)
def test_a_wrong_table_is_refused_with_its_place(table: dict[str, object], problem: str) -> None:
    with pytest.raises(SpaceError, match=problem.replace(".", r"\.")):
        spaces.parse({"baselines": table})


def test_a_plain_network_halves_the_map_and_doubles_the_width() -> None:
    network = plain(Task(), 10, (1, 2, 3, 4))
    assert [stage.width for stage in network.stages] == [10, 20, 40, 80]
    assert network.maps == (32, 32, 16, 8, 4)
