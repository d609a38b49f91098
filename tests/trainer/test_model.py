"""The built network is what the cost table says, name by name and number by number."""

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from space import cost
from space.architecture import (
    Architecture,
    Block,
    Head,
    MaxPool,
    Pool,
    SqueezeExcitation,
    Stage,
    Stem,
    TailConvolution,
)
from trainer import model

LISTED = (nn.Conv2d, nn.BatchNorm2d, nn.Linear, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)


def small(**changes: object) -> Architecture:
    parts = {
        "image_size": 20,
        "stem": Stem(width=6),
        "stages": (Stage(blocks=2, width=6), Stage(blocks=2, width=10, stride=2, shortcut_kernel=3)),
    }
    return Architecture(**{**parts, **changes})  # type: ignore[arg-type]


BLOCKS = [
    Block(
        convolutions=convolutions,
        preactivation=preactivation,
        residual=residual,
        bias=convolutions == 2,
        dropout=0.1 * (convolutions == 1),
        squeeze_excitation=SqueezeExcitation(reduction=4) if gated else None,
    )
    for convolutions in (1, 2, 3, 4)
    for preactivation, residual, gated in itertools.product((False, True), repeat=3)
]
VARIANTS = [
    *(small(block=block) for block in BLOCKS),
    *(small(activation=name) for name in model.ACTIVATIONS),
    *(
        small(stem=Stem(width=5, kernel=kernel, stride=stride))
        for kernel in (1, 3, 7)
        for stride in (1, 2, 3)
    ),
    small(stem=Stem(width=8, bias=True, max_pool=MaxPool(), squeeze_excitation=SqueezeExcitation())),
    small(stages=(Stage(blocks=1, width=7, kernel=5, stride=3), Stage(blocks=3, width=7, kernel=1))),
    small(tail=(TailConvolution(width=9), TailConvolution(width=4, kernel=1, stride=2, bias=True))),
    small(tail=(TailConvolution(width=9),), block=Block(preactivation=True)),
    small(pool=Pool(output=3)),
    small(pool=Pool(kernel=4)),
    small(pool=Pool(kernel=5, stride=2)),
    small(pool=Pool(kind="max", kernel=3, stride=3), head=Head(hidden=(12, 7), dropout=0.3)),
    small(head=Head(bias=False, softmax=True), classes=3, channels=1),
]


@pytest.mark.parametrize("architecture", VARIANTS, ids=range(len(VARIANTS)))
def test_a_network_has_the_layers_and_counts_of_its_cost_table(architecture: Architecture) -> None:
    network, table = model.build(architecture), cost.layers(architecture)
    modules = {name: module for name, module in network.named_modules() if _is_listed(module)}
    assert list(modules) == [layer.name for layer in table]
    counts = [sum(p.numel() for p in module.parameters()) for module in modules.values()]
    assert counts == [layer.parameters for layer in table]
    assert model.count(network) == cost.total(architecture).parameters


@pytest.mark.parametrize("architecture", VARIANTS, ids=range(len(VARIANTS)))
def test_every_layer_puts_out_the_shape_of_the_cost_table(architecture: Architecture) -> None:
    network, shapes = model.build(architecture).eval(), dict[str, tuple[int, int]]()
    for layer in cost.layers(architecture):
        network.get_submodule(layer.name).register_forward_hook(_noting(shapes, layer.name))
    scores = network(torch.randn(2, architecture.channels, 20, 20))
    assert scores.shape == (2, architecture.classes)
    assert shapes == {layer.name: (layer.channels, layer.size) for layer in cost.layers(architecture)}


@pytest.mark.parametrize("architecture", VARIANTS, ids=range(len(VARIANTS)))
def test_every_parameter_gets_a_gradient(architecture: Architecture) -> None:
    network = model.build(architecture).train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
    network(torch.randn(4, architecture.channels, 20, 20)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def _is_listed(module: nn.Module) -> bool:
    return isinstance(module, (*LISTED, nn.AdaptiveMaxPool2d))


def _noting(shapes: dict[str, tuple[int, int]], name: str) -> Callable[..., None]:
    def note(module: nn.Module, inputs: object, output: Tensor) -> None:
        shapes[name] = (output.shape[1], output.shape[2] if output.ndim == 4 else 1)

    return note


def test_the_published_network_of_4697162_parameters_is_counted_to_the_digit() -> None:
    stages = (
        Stage(blocks=4, width=64),
        Stage(blocks=4, width=128, stride=2),
        Stage(blocks=3, width=256, stride=2),
    )
    assert model.count(model.build(Architecture(stem=Stem(width=64), stages=stages))) == 4_697_162


def test_a_seed_fixes_the_weights() -> None:
    def weights(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return nn.utils.parameters_to_vector(model.build(small()).parameters())

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_a_residual_block_starts_as_its_shortcut() -> None:
    block = model.build(small()).stages[0][1]
    x = torch.rand(4, 6, 20, 20)
    assert torch.equal(block(x), x)


def test_a_plain_block_does_not_start_as_zero() -> None:
    network = model.build(small(block=Block(residual=False)))
    assert network.stages[0][1](torch.rand(4, 6, 20, 20)).abs().sum() > 0


def test_scores_become_shares_only_when_the_document_asks_for_the_softmax() -> None:
    x = torch.randn(3, 3, 20, 20)
    shares = model.build(small(head=Head(softmax=True)))(x)
    assert torch.allclose(shares.sum(1), torch.ones(3))
    assert not torch.allclose(model.build(small())(x).sum(1), torch.ones(3))


def test_dropout_works_in_training_only() -> None:
    network = model.build(small(block=Block(dropout=0.5), head=Head(dropout=0.5)))
    x = torch.randn(2, 3, 20, 20)
    assert torch.equal(network.eval()(x), network(x))
    network.train()
    assert not torch.equal(network(x), network(x))


@pytest.mark.parametrize("channels", [1, 3, 4, 7, 8])
def test_a_strided_1x1_kernel_has_its_true_gradient(channels: int) -> None:
    torch.manual_seed(0)
    layer = model._convolution(channels, 14, kernel=1, stride=2).to(memory_format=torch.channels_last)
    x = torch.randn(4, channels, 30, 30).contiguous(memory_format=torch.channels_last)
    layer(x).square().sum().backward()
    exact = layer.weight.detach().double().requires_grad_()
    seen = x.double()[:, :, ::2, ::2]
    torch.einsum("nchw,kc->nkhw", seen, exact[:, :, 0, 0]).square().sum().backward()
    torch.testing.assert_close(layer.weight.grad, exact.grad.float(), rtol=1e-4, atol=1e-3)
