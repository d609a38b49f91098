"""The published networks are counted, mapped and listed as their authors' figures say."""

import json
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from space import cost, published
from space.errors import ArchitectureError
from space.published import Published
from trainer import learning_rate, model
from trainer.recipe import checks
from trainer.recipe.document import Recipe

FACTS = Path(__file__).parents[3] / "shared" / "seeds" / "seeds.json"
ALL = {entry.name: entry for entry in published.everything()}
LISTED = [name for name, entry in ALL.items() if entry.evidence == "layers"]


@pytest.fixture(scope="module")
def facts() -> list[dict[str, Any]]:
    """The collected facts, which lie beside the repository where it is developed."""
    if not FACTS.is_file():
        pytest.skip("the collected facts are not here")
    entries: list[dict[str, Any]] = json.loads(FACTS.read_text())["entries"]
    return entries


def test_every_network_has_a_name_of_its_own_and_loads_by_it() -> None:
    assert len(published.names()) == len(ALL) == 78
    assert all(published.load(name) == entry.architecture for name, entry in ALL.items())


def test_an_unknown_name_is_answered_with_names_that_come_close() -> None:
    with pytest.raises(ArchitectureError, match="published:001-finale: no such network; there are 001-final"):
        published.load("001-finale")


@pytest.mark.parametrize("name", ALL)
def test_a_published_network_costs_what_its_entry_says(name: str) -> None:
    assert cost.total(ALL[name].architecture) == (ALL[name].parameters, ALL[name].macs)


def test_entries_are_the_collected_facts(facts: list[dict[str, Any]]) -> None:
    for fact, entry in zip(facts, ALL.values(), strict=True):
        assert entry.source == f"{fact['seed']:03d}, {fact['published_in']}: {fact['name']}"
        assert entry.name.startswith(f"{fact['seed']:03d}-")
        assert entry.kind == fact["kind"]
        assert entry.accuracy == pytest.approx(_share(fact["published"].get("accuracy")))
        assert entry.printed_parameters == fact["published"].get("params")
        counted = fact["reproduced"]
        assert entry.parameters == counted["params"] == counted["closed_form"] == counted["torch"]
        assert (entry.evidence == "layers") == ("listing" in counted["how"] or "sizes" in counted["how"])


def _share(percent: float | None) -> float | None:
    return None if percent is None else percent / 100


def test_maps_operations_and_inputs_of_the_classifier_are_the_collected_ones(
    facts: list[dict[str, Any]],
) -> None:
    for fact, entry in zip(facts, ALL.values(), strict=True):
        given, ours = fact["architecture"], entry.architecture
        assert entry.macs == given["macs_32px"], entry.name
        assert list(ours.maps[: len(ours.stages) + 1]) == given["feature_maps_32px_input"], entry.name
        positions = ours.pool.map_after(ours.maps[-1]) ** 2
        last = ours.tail[-1].width if ours.tail else ours.stages[-1].width
        assert last * positions == given["fc_in_features"], entry.name


def test_every_field_of_the_collected_architectures_has_its_place(facts: list[dict[str, Any]]) -> None:
    for fact, entry in zip(facts, ALL.values(), strict=True):
        assert _said(entry) == _collected(fact["architecture"]), entry.name


def _said(entry: Published) -> dict[str, Any]:
    """Our document in the words of the facts."""
    ours = entry.architecture
    stem, block, head, pool = ours.stem, ours.block, ours.head, ours.stem.max_pool
    return {
        "N": len(ours.stages),
        **{
            letter: [getattr(stage, field) for stage in ours.stages]
            for letter, field in (("B", "blocks"), ("C", "width"), ("F", "kernel"), ("stride", "stride"))
        },
        "K": [stage.shortcut_kernel for stage in ours.stages] if block.residual else None,
        "stem": (stem.width, stem.kernel, stem.stride, stem.bias),
        "max_pool": pool and [pool.kernel, pool.stride, pool.padding],
        "gate": stem.squeeze_excitation and stem.squeeze_excitation.reduction,
        "block": (block.convolutions, block.preactivation, block.bias, block.residual, block.dropout),
        "activation": ours.activation,
        "tail": [(conv.width, conv.kernel, conv.stride, conv.bias) for conv in ours.tail],
        "pool": (ours.pool.output, ours.pool.kernel, ours.pool.stride),
        "head": (head.dropout, list(head.hidden), head.bias, ours.classes, head.softmax),
    }


def _collected(given: dict[str, Any]) -> dict[str, Any]:
    stem, block, head = given["stem"], given["block"], given["head"]
    assert stem["padding"] == stem["kernel"] // 2 and stem["bn"] and stem["act"] and block["se"] is None
    return {
        **{letter: given[letter] for letter in "NBCF"},
        "stride": given["stage_stride"],
        "K": given["K"] if block["residual"] else None,
        "stem": (stem["width"], stem["kernel"], stem["stride"], stem["bias"]),
        "max_pool": stem["maxpool"],
        "gate": stem["se"] and stem["se"]["reduction"],
        "block": (
            block["convs_per_block"],
            block["preactivation"],
            block["conv_bias"],
            block["residual"],
            (block["dropout"] or {"rate": 0.0})["rate"],
        ),
        "activation": given["activation"],
        "tail": [
            (c["out"], c["kernel"], c["stride"], c["bias"]) for c in (given["tail"] or {}).get("convs", ())
        ],
        "pool": _pool(given["pool"]["kind"], given["pool"]["P"]),
        "head": (
            head["dropout"],
            head["hidden_fc"],
            head["fc_bias"],
            head["classes"],
            head["softmax_before_loss"],
        ),
    }


def _pool(kind: str, sizes: int | list[int]) -> tuple[int | None, int | None, int | None]:
    first, *rest = sizes if isinstance(sizes, list) else [sizes]
    if kind == "adaptive_avg":
        return first, None, None
    return None, first, rest[0] if kind != "avg" else None


@pytest.mark.parametrize("name", LISTED)
def test_the_ordered_layer_sizes_are_those_that_the_authors_printed(name: str) -> None:
    """Their listings agree with the plain reading of their tables that `sizes` writes down, in order."""
    network = model.build(ALL[name].architecture)
    kinds = (nn.Conv2d, nn.BatchNorm2d, nn.Linear)
    built = [model.count(module) for module in network.modules() if isinstance(module, kinds)]
    assert [row.parameters for row in cost.layers(ALL[name].architecture) if row.parameters] == built
    assert built == sizes(ALL[name])


def sizes(entry: Published) -> list[int]:
    """Parameters of each layer by arithmetic alone: conv, norm, conv, norm, projection, its norm."""
    ours = entry.architecture
    width, listing = ours.stem.width, list[int]()
    listing += [3 * width * ours.stem.kernel**2 + ours.stem.bias * width, 2 * width]
    if ours.stem.squeeze_excitation:
        hidden = width // 16
        listing += [width * hidden + hidden, hidden * width + width]
    for stage in ours.stages:
        for i in range(stage.blocks):
            stride = stage.stride if i == 0 else 1
            inputs = width
            for _ in range(ours.block.convolutions):
                weights = inputs * stage.width * stage.kernel**2
                listing += [weights + ours.block.bias * stage.width, 2 * stage.width]
                inputs = stage.width
            if ours.block.residual and (stride > 1 or width != stage.width):
                listing += [width * stage.width * stage.shortcut_kernel**2, 2 * stage.width]
            width = stage.width
    return [*listing, width * 10 + 10]


def test_the_listing_of_the_gated_network_has_its_53_sizes() -> None:
    printed = [row.parameters for row in cost.layers(published.load("004-final")) if row.parameters]
    assert len(printed) == 53
    assert printed[:8] == [1_728, 128, 260, 320, 36_864, 128, 36_864, 128]
    assert printed[20:26] == [73_728, 256, 147_456, 256, 8_192, 256]
    assert printed[-3:] == [589_824, 512, 2_570]


def test_the_counts_that_were_printed_wrong_stay_known() -> None:
    wrong = {
        entry.parameters: entry.printed_parameters
        for entry in ALL.values()
        if entry.printed_parameters not in (None, entry.parameters)
    }
    assert wrong == {4_926_282: 4_997_802, 4_815_940: 4_813_298}


@pytest.mark.parametrize("name", ALL)
def test_every_recipe_loads(name: str) -> None:
    recipe = Recipe.parse(dict(ALL[name].recipe), name)
    graves = {mistake.name for mistake in checks.of_training(recipe, ALL[name].architecture)} - {None}
    assert graves == set(recipe.accept), "a row accepts the mistakes that it makes, and no others"


def test_the_mistakes_that_were_made_are_found() -> None:
    def made(name: str) -> set[str | None]:
        recipe = Recipe.parse(dict(ALL[name].recipe), name)
        return {mistake.name for mistake in checks.of_training(recipe, ALL[name].architecture)}

    assert made("001-scheduler-one-cycle") == {"one_cycle_per_epoch"}
    assert made("001-epochs-300") == made("001-scheduler-polynomial") == {"short_schedule"}
    assert made("001-optimizer-adam") == {"coupled_decay"}
    assert made("000-resblock") == {"softmax"}
    assert made("003-model4") == {"training_mode"}
    assert made("001-final") == set()


def test_every_recipe_is_one_at_any_number_of_epochs() -> None:
    """Some were refused as too short at every seventeenth: their length was stretched to a last bit less."""
    recipes = [Recipe.parse(dict(entry.recipe), name) for name, entry in ALL.items()]
    of_a_length = {repr((recipe.schedule, recipe.epochs)): recipe for recipe in recipes}
    for recipe in of_a_length.values():
        for epochs in range(1, 301):
            stretched = recipe.for_epochs(epochs)
            assert Recipe.parse(stretched.model_dump(), "stretched") == stretched


def test_the_rates_are_those_that_the_logs_show() -> None:
    def rates(name: str, *epochs: int) -> list[float]:
        recipe = Recipe.parse(dict(ALL[name].recipe), name)
        return [learning_rate.rate(recipe, 10 * epoch, 10 * recipe.epochs) for epoch in epochs]

    assert rates("001-scheduler-one-cycle", 0, 199) == pytest.approx([4.0e-4, 4.16e-4], rel=2e-3)
    assert rates("001-scheduler-linear", 0, 5, 199) == pytest.approx([0.0333, 0.1, 0.1], rel=2e-3)
    assert rates("001-scheduler-polynomial", *range(6)) == pytest.approx([0.1, 0.08, 0.06, 0.04, 0.02, 0])
    assert rates("001-epochs-100", 99) == pytest.approx([0.0508], rel=2e-3)
    assert rates("001-epochs-300", 299) == pytest.approx([0.0492], rel=2e-3)
    assert rates("002-final", 0, 45) == pytest.approx([4e-4, 0.01])


def test_recipes_are_the_collected_facts(facts: list[dict[str, Any]]) -> None:
    for fact, entry in zip(facts, ALL.values(), strict=True):
        given, recipe = fact["recipe"], Recipe.parse(dict(entry.recipe), entry.name)
        assert (recipe.epochs, recipe.batch_size) == (given["epochs"], given["batch_size"]), entry.name
        optimizer = given["optimizer"]
        assert recipe.optimizer == optimizer["name"].lower()
        assert recipe.weight_decay == optimizer["weight_decay"]
        assert recipe.momentum == optimizer.get("momentum", 0)
        assert recipe.learning_rate == (given["scheduler"] or {}).get("max_lr", optimizer["lr"])
        assert recipe.clip_value == (given["grad_clip"] or {}).get("value")
        assert recipe.jensen_shannon == (given["loss"]["jsd"] or {"weight": 0})["weight"]
        operations = {operation["op"]: operation for operation in given["augment"]}
        crop = operations.get("random_crop", {"padding": 0, "padding_mode": recipe.crop_edge})
        assert (recipe.crop_padding, recipe.crop_edge) == (crop["padding"], crop["padding_mode"])
        assert recipe.flip == ("hflip" in operations)
        assert recipe.rotation == operations.get("random_rotation", {"degrees": 0})["degrees"]
        assert recipe.enlarge == operations.get("resize", {"size": None})["size"]
        policy = recipe.expanded_policy
        assert {policy.name if policy else None} == (set(operations) & {"augmix", "autoaugment"} or {None})
