"""What a network costs in closed form is what the built network has, to the digit, for any document."""

import pytest
import torch
from examples import examples
from hypothesis import given, settings
from space_samples import CALM, architectures
from torch import Tensor, nn

from space import cost
from space.architecture import Architecture, Stage, Stem
from trainer import model

POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)


def listed(network: nn.Module) -> dict[str, nn.Module]:
    """The modules that have parameters of their own, and the pools, in the order of the network."""
    kinds = (nn.Conv2d, nn.BatchNorm2d, nn.Linear, *POOLS)
    return {name: module for name, module in network.named_modules() if isinstance(module, kinds)}


@settings(CALM, max_examples=examples(2_000))
@given(architectures())
def test_the_closed_form_the_table_and_the_built_network_agree_to_the_digit(
    architecture: Architecture,
) -> None:
    total, table = cost.total(architecture), cost.layers(architecture)
    network = model.build(architecture)
    assert total.parameters == sum(row.parameters for row in table) == model.count(network)
    assert total.macs == sum(row.macs for row in table)
    counts = {name: model.count(module) for name, module in listed(network).items()}
    assert list(counts.items()) == [(row.name, row.parameters) for row in table]


@settings(CALM, max_examples=examples(500))
@given(architectures())
def test_shapes_and_multiply_accumulates_are_those_of_a_forward_pass(architecture: Architecture) -> None:
    network, seen = model.build(architecture).eval(), dict[str, tuple[int, int, int]]()
    for name, module in listed(network).items():
        module.register_forward_hook(_noting(seen, name))
    size = architecture.image_size
    with torch.no_grad():
        scores = network(torch.ones(1, architecture.channels, size, size))
    assert scores.shape == (1, architecture.classes)
    table = cost.layers(architecture)
    assert seen == {row.name: (row.channels, row.size, row.macs) for row in table}


def _noting(seen: dict[str, tuple[int, int, int]], name: str):
    def note(module: nn.Module, inputs: object, y: Tensor) -> None:
        products = 0
        if isinstance(module, (nn.Conv2d, nn.Linear)):  # each weight once for every output position
            products = module.weight.numel() * (y.numel() // y.shape[1])  # of its group alone
        seen[name] = (y.shape[1], y.shape[2] if y.ndim == 4 else 1, products)

    return note


@CALM
@given(architectures())
def test_the_maps_of_a_document_are_the_sizes_of_its_table(architecture: Architecture) -> None:
    sizes = {row.name: row.size for row in cost.layers(architecture)}
    last = architecture.block.depth
    for i, stage in enumerate(architecture.stages):
        assert sizes[f"stages.{i}.{stage.blocks - 1}.conv{last}"] == architecture.maps[i + 1]
    for i in range(len(architecture.tail)):
        assert sizes[f"tail.{i}.conv"] == architecture.maps[len(architecture.stages) + 1 + i]


@pytest.mark.parametrize("width", [4_096, 65_536])
def test_counts_beyond_ten_to_the_twelve_are_exact(width: int) -> None:
    stages = tuple(Stage(blocks=1_000, width=width, kernel=7) for _ in range(16))
    spent = cost.total(Architecture(image_size=1_024, stem=Stem(width=width), stages=stages))
    weights = 3 * 9 * width + 32_000 * 49 * width**2
    assert spent.parameters == weights + 2 * width * 32_001 + 10 * width + 10 > 10**12
    assert spent.macs == weights * 1_024**2 + 10 * width
