"""Muon for residual networks: orthogonal updates of convolutions, whose weights keep their norm.

Built by trainer/optimizers.py for recipes that say `optimizer = "muon"`. Changes the weights that it was
given, keeps momentum and first norms in its state (which checkpoints hold), waits for no device.

The update of a convolution is its gradient with momentum, as a matrix of output channels by all that they
see, with all of its singular values brought near 1 by three Newton-Schulz steps (K. Jordan et al., Muon: An
optimizer for hidden layers in neural networks, 2024). torch.optim.Muon does the same for linear layers; it
knows neither convolutions nor groups, and waits for the device at each step, so that no CUDA graph can hold
it. A test holds the two equal. A group of a grouped convolution is a matrix of its own; a depthwise one has
vectors, which are divided by their length. All else is stepped by SGD at the same rate.

A norm follows such convolutions, so that the length of their weights changes what a step is worth and not
what the network computes; in pre-activated blocks it follows the sum of their maps, whose shares are then
left to the norms within. The weights are brought back to the length that they began with after each step, in
place of weight decay (as in Jordan's airbench, to a fixed length): without that most of the gain is lost
(docs/recipe.md has the figures).
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim.sgd import sgd

# Of Jordan's quintic, steepest at 0: it brings singular values to about 0.7 to 1.2, not to 1.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 3  # as in airbench; 5, which torch has by default, gain nothing (docs/recipe.md)
TINY = 1e-7  # in place of the length of zeros

# What a matrix moves by, as a share of the rate of SGD. CIFAR-10 (JPEG), 8 epochs, one seed: 0.1 68.9%, 0.2
# 69.5%, 0.3 68.5%; SGD alone 66.9%.
SHARE = 0.2


class Muon(torch.optim.Optimizer):
    """Steps of all parameters of a network, by one learning rate, a number or a tensor () float32."""

    def __init__(
        self,
        matrices: Iterable[tuple[Tensor, int]],
        others: Iterable[dict[str, Any]],
        *,
        lr: float | Tensor,
        momentum: float = 0.9,
        nesterov: bool = True,
        fused: bool = False,
    ) -> None:
        """`matrices`: weights of convolutions (outputs, inputs of a group, height, width), float32, each with
        its groups. `others`: parameter groups for SGD, each with its weight_decay; by torch's fused kernel
        where that is said. `lr`: a number, or () float32 on the device of the weights."""
        found = list(matrices)
        first = {"params": [weight for weight, _ in found], "matrices": [groups for _, groups in found]}
        rest = [{"matrices": None, **group} for group in others]
        groups = [group for group in (first, *rest) if group["params"]]
        given = {"lr": lr, "momentum": momentum, "nesterov": nesterov, "weight_decay": 0.0}
        super().__init__(groups, given | {"fused": fused})

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Any) -> float: ...

    @torch.no_grad()
    def step(self, closure: Any = None) -> float | None:
        """One step by the gradients there are; parameters without one stay. A closure is called first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            (self._step_vectors if group["matrices"] is None else self._step_matrices)(group)
        return loss

    def _step_vectors(self, group: dict[str, Any]) -> None:
        """By torch's SGD."""
        parameters = [p for p in group["params"] if p.grad is not None]
        if not parameters:
            return
        sgd(
            parameters,
            [p.grad for p in parameters],
            [self._kept(p)["momentum_buffer"] for p in parameters],
            foreach=not group["fused"],
            fused=group["fused"],
            weight_decay=group["weight_decay"],
            momentum=group["momentum"],
            lr=group["lr"],
            dampening=0.0,
            nesterov=group["nesterov"],
            maximize=False,
        )

    def _step_matrices(self, group: dict[str, Any]) -> None:
        """By orthogonal updates, back to the first norms."""
        pairs = zip(group["params"], group["matrices"], strict=True)
        stepped = [(p, groups) for p, groups in pairs if p.grad is not None]
        if not stepped:
            return
        weights = [p for p, _ in stepped]
        gradients = [p.grad for p in weights]
        norms = [self._norm(p) for p in weights]
        buffers = [self._kept(p)["momentum_buffer"] for p in weights]
        torch._foreach_mul_(buffers, group["momentum"])
        torch._foreach_add_(buffers, gradients)
        updates: Iterable[Tensor] = buffers
        if group["nesterov"]:
            updates = torch._foreach_add(gradients, buffers, alpha=group["momentum"])
        found = orthogonal(updates, [groups for _, groups in stepped])
        torch._foreach_mul_(found, -SHARE)
        torch._foreach_mul_(found, group["lr"])
        torch._foreach_add_(weights, found)
        lengths = torch._foreach_norm(weights)
        torch._foreach_clamp_min_(lengths, TINY)
        torch._foreach_mul_(weights, torch._foreach_div(norms, lengths))

    def _kept(self, parameter: Tensor) -> dict[str, Tensor]:
        """The state of (...) float32, made of zeros where there is none."""
        state: dict[str, Tensor] = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        return state

    def _norm(self, weight: Tensor) -> Tensor:
        """() float32, what the length of weights (...) float32 was before their first step."""
        state = self._kept(weight)
        if "norm" not in state:
            state["norm"] = weight.norm()
        return state["norm"]


def orthogonal(updates: Iterable[Tensor], groups: Iterable[int]) -> list[Tensor]:
    """Of each update (outputs, inputs of a group, height, width) the nearest matrix whose singular values are
    about 1, group by group, float32 and of the same shape; for more rows than columns times the root of their
    ratio, as torch.optim.Muon has it. Updates of equal shape are computed together.
    """
    found = list(updates)
    alike: dict[tuple[int, ...], list[int]] = {}
    for place, (update, parts) in enumerate(zip(found, groups, strict=True)):
        rows, columns = len(update) // parts, update[0].numel()
        alike.setdefault((rows, columns, *update.shape), []).append(place)
    for (rows, columns, outputs, inputs, *side), places in alike.items():
        # The order of columns is free. This one is that in which maps keep the channels of a pixel together.
        together = torch.stack([found[place].permute(0, 2, 3, 1) for place in places])
        made = _orthogonal(together.reshape(-1, rows, columns))
        if rows > columns:
            made = made * math.sqrt(rows / columns)
        back = made.reshape(len(places), outputs, *side, inputs).permute(0, 1, 4, 2, 3)
        for place, one in zip(places, back.unbind(), strict=True):
            found[place] = one
    return found


def _orthogonal(matrices: Tensor) -> Tensor:
    """Of matrices (N, rows, columns) float32 as many of the same shape; of gradients of zeros, zeros.

    Each step multiplies by a polynomial of the matrix times its transpose. These are multiplied with each
    other first, small as they are, and the matrix by their product at last: half of the work, and the same to
    1e-6. In float32: bfloat16 has no digits for it, and is no faster for matrices of some hundred rows.
    """
    x: Tensor = matrices / matrices.norm(dim=(1, 2), keepdim=True).clamp(min=TINY)
    if 1 in x.shape[1:]:
        return x
    is_tall = x.shape[1] > x.shape[2]
    x = x.mT if is_tall else x
    first, third, fifth = COEFFICIENTS
    gram, product = x @ x.mT, None
    for step in range(NEWTON_SCHULZ_STEPS):
        factor = torch.baddbmm(gram, gram, gram, beta=third, alpha=fifth)
        factor.diagonal(dim1=1, dim2=2).add_(first)
        product = factor if product is None else factor @ product
        if step < NEWTON_SCHULZ_STEPS - 1:
            gram = factor @ (gram @ factor)
    assert product is not None
    x = product @ x
    return x.mT if is_tall else x


def matrices_of(network: torch.nn.Module, kind: type[torch.nn.Conv2d]) -> Iterator[tuple[Tensor, int]]:
    """The weights (outputs, inputs of a group, height, width) float32 of its convolutions of this kind, each
    with its groups."""
    for module in network.modules():
        if isinstance(module, kind):
            yield module.weight, module.groups
