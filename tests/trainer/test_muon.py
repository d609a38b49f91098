"""Muon: updates as torch's own gives them, of convolutions too, whose weights keep their norm."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from space.architecture import Architecture, Block, Stage, Stem
from space.blocks import SqueezeExcitation
from trainer import model, optimizers
from trainer.muon import NEWTON_SCHULZ_STEPS, SHARE, Muon, orthogonal
from trainer.recipe.document import Recipe

CPU = torch.device("cpu")
SHAPES = [(8, 3, 3, 3), (16, 8, 3, 3), (16, 8, 1, 1), (4, 9, 1, 1), (8, 8, 3, 3), (8, 8, 3, 3)]


def weights(shapes: list[tuple[int, ...]] = SHAPES) -> list[nn.Parameter]:
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(shape)) for shape in shapes]


def gradients(shapes: list[tuple[int, ...]] = SHAPES, steps: int = 4) -> list[list[Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [[torch.randn(shape, generator=generator) for shape in shapes] for _ in range(steps)]


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_updates_of_convolutions_are_those_that_torch_has_for_their_matrices(
    nesterov: bool, layout: torch.memory_format
) -> None:
    """Its own Muon, which steps linear layers alone, on the same gradients, in bfloat16."""
    plain = [nn.Parameter(weight.detach().flatten(1).clone()) for weight in weights()]
    given = {"lr": 0.01 * SHARE, "weight_decay": 0, "momentum": 0.8, "nesterov": nesterov}
    theirs = torch.optim.Muon(plain, ns_steps=NEWTON_SCHULZ_STEPS, **given)
    mine = [nn.Parameter(weight.detach().to(memory_format=layout)) for weight in weights()]
    norms = [weight.norm().item() for weight in mine]
    ours = Muon([(w, 1) for w in mine], [], lr=0.01, momentum=0.8, nesterov=nesterov)
    for found in gradients():
        before = [weight.detach().clone() for weight in mine], [weight.detach().clone() for weight in plain]
        for weight, flat, gradient in zip(mine, plain, found, strict=True):
            weight.grad, flat.grad = gradient.to(memory_format=layout), gradient.flatten(1)
        ours.step()
        theirs.step()
        for was, flat_was, weight, flat, norm in zip(*before, mine, plain, norms, strict=True):
            moved = was + (flat - flat_was).detach().view_as(was)
            expected = moved * norm / moved.norm()
            assert (weight - expected).norm() < 0.05 * (flat - flat_was).norm(), "its bfloat16 rounds"


def test_weights_of_convolutions_keep_their_norm_and_their_layout() -> None:
    mine = [nn.Parameter(one.detach().to(memory_format=torch.channels_last)) for one in weights()]
    before = [weight.detach().clone() for weight in mine]
    optimizer = Muon([(weight, 1) for weight in mine], [], lr=1.0)
    for found in gradients(steps=20):
        for weight, gradient in zip(mine, found, strict=True):
            weight.grad = gradient
        optimizer.step()
    for weight, was in zip(mine, before, strict=True):
        assert weight.norm().item() == pytest.approx(was.norm().item(), rel=1e-5)
        assert (weight - was).norm() > 0.1 * was.norm()
        assert weight.is_contiguous(memory_format=torch.channels_last)


def test_singular_values_come_near_1_and_directions_stay() -> None:
    torch.manual_seed(0)
    update = torch.randn(32, 16, 3, 3)
    (found,) = orthogonal([update], [1])
    left, _, right = torch.linalg.svd(update.flatten(1), full_matrices=False)
    values = torch.einsum("or,oc,rc->r", left, found.flatten(1), right)
    assert 0.6 < values.min() <= values.max() < 1.3
    assert (left * values @ right - found.flatten(1)).norm() < 0.01 * found.norm()


def test_each_group_of_a_convolution_is_a_matrix_of_its_own() -> None:
    torch.manual_seed(0)
    update = torch.randn(12, 4, 3, 3)
    (together,) = orthogonal([update], [3])
    apart = orthogonal(update.split(4), [1, 1, 1])
    assert torch.allclose(together, torch.cat(apart), atol=1e-5)


def test_the_kernels_of_a_depthwise_convolution_have_the_length_1() -> None:
    torch.manual_seed(0)
    update = torch.randn(12, 1, 3, 3)
    (found,) = orthogonal([update], [12])
    assert torch.allclose(found, nn.functional.normalize(update.flatten(1)).view_as(update), atol=1e-6)


def test_weights_of_zeros_stay_numbers() -> None:
    weight = nn.Parameter(torch.zeros(4, 3, 3, 3))
    optimizer = Muon([(weight, 1)], [], lr=0.4)
    for gradient in (torch.zeros_like(weight), torch.ones_like(weight)):
        weight.grad = gradient
        optimizer.step()
        assert torch.equal(weight, torch.zeros_like(weight))


def test_a_gradient_of_zeros_moves_nothing_and_a_weight_without_one_stays() -> None:
    """The first: of blocks that begin as an identity, whose last norm is zero."""
    zero, without = weights(SHAPES[:2])
    before = zero.detach().clone(), without.detach().clone()
    optimizer = Muon([(zero, 1), (without, 1)], [], lr=0.4)
    zero.grad = torch.zeros_like(zero)
    optimizer.step()
    assert torch.allclose(zero, before[0]) and torch.equal(without, before[1])


NETWORK = Architecture(
    channels=3,
    image_size=8,
    stem=Stem(width=4),
    block=Block(squeeze_excitation=SqueezeExcitation(reduction=2)),
    stages=(Stage(blocks=1, width=4), Stage(blocks=1, width=8, stride=2)),
)


def loss(network: nn.Module) -> Tensor:
    found: Tensor = network(torch.linspace(-1, 1, 6 * 3 * 64).view(6, 3, 8, 8)).square().sum()
    return found


def test_what_is_no_convolution_before_a_norm_is_stepped_by_torchs_sgd() -> None:
    """Linear layers, norms, biases, and the gates of squeeze-and-excitation."""
    torch.manual_seed(0)
    network = model.build(NETWORK)
    orthogonal_ones = {f"{n}.weight" for n, m in network.named_modules() if isinstance(m, model.Convolution)}
    recipe = Recipe(optimizer="muon", learning_rate=0.3, weight_decay=0.01)
    ours = optimizers.build(network, recipe, CPU)
    named = dict(network.named_parameters())
    rest = {
        name: nn.Parameter(p.detach().clone()) for name, p in named.items() if name not in orthogonal_ones
    }
    assert any("squeeze.reduce" in name for name in rest) and "stem.conv.weight" in orthogonal_ones
    theirs = torch.optim.SGD(
        [
            {"params": [p for p in rest.values() if p.ndim > 1], "weight_decay": 0.01},
            {"params": [p for p in rest.values() if p.ndim == 1]},
        ],
        lr=0.3,
        momentum=0.9,
        nesterov=True,
    )
    for _ in range(3):
        ours.zero_grad()
        loss(network).backward()  # type: ignore[no-untyped-call]
        for name, parameter in rest.items():
            gradient = named[name].grad
            parameter.grad = None if gradient is None else gradient.clone()
        ours.step()
        theirs.step()
    assert all(torch.equal(parameter, named[name]) for name, parameter in rest.items())


def test_a_rate_that_is_a_tensor_steps_as_the_number_does() -> None:
    """As a recorded step reads it."""
    found = []
    for rate in (0.05, torch.tensor(0.05)):
        (weight,) = weights(SHAPES[:1])
        vector = nn.Parameter(torch.ones(3))
        others: list[dict[str, Any]] = [{"params": [vector], "weight_decay": 0.0}]
        optimizer = Muon([(weight, 1)], others, lr=rate, fused=isinstance(rate, Tensor))
        weight.grad, vector.grad = torch.ones_like(weight), torch.ones(3)
        optimizer.step()
        found.append((weight.detach(), vector.detach()))
    assert all(torch.allclose(one, other) for one, other in zip(*found, strict=True))


def test_a_closure_is_called_first_and_its_loss_comes_back() -> None:
    (weight,) = weights(SHAPES[:1])
    before = weight.detach().clone()
    optimizer = Muon([(weight, 1)], [], lr=0.4)

    def closure() -> Tensor:
        optimizer.zero_grad()
        found = weight.square().sum() * torch.linspace(0, 1, 3).sum()
        found.backward()  # type: ignore[no-untyped-call]
        return found.detach()

    assert optimizer.step(closure).item() == pytest.approx(1.5 * before.square().sum().item(), rel=1e-5)
    assert not torch.equal(weight, before)
