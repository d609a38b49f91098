"""Copies in bfloat16 of the weights of convolutions and linear layers, made by one operator for all of them.

autocast casts each weight by an operator of its own, and each gradient back: more than a hundred kernels in a
step of 001-final. Made by trainer/training_step.py where a GPU trains in bfloat16; the numbers are the same.
Knows no optimizer: weights stay float32, and the optimizer sees these alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def is_worthwhile(device: torch.device, precision: torch.dtype) -> bool:
    """Where each operator is a launch, and in the precision for which weights are cast."""
    return device.type == "cuda" and precision is torch.bfloat16


class CastWeights:
    """Lends a network copies of its weights for a forward and a backward pass."""

    def __init__(self, network: nn.Module) -> None:
        layers = [module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
        self._places = [
            (layer, name)
            for layer in layers
            for name in ("weight", "bias")
            if getattr(layer, name) is not None
        ]
        self._weights: list[Tensor] = [getattr(layer, name) for layer, name in self._places]
        self._copies = [
            torch.empty_like(weight, dtype=torch.bfloat16).requires_grad_() for weight in self._weights
        ]

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Within, the layers compute with the copies. Afterwards the weights have the gradients of these."""
        for copy in self._copies:
            copy.grad = None  # what a pass that was broken off has left
        with torch.no_grad():
            torch._foreach_copy_(self._copies, self._weights)
        self._put(self._copies)
        try:
            yield
        finally:
            self._put(self._weights)
        given = [(w, c) for w, c in zip(self._weights, self._copies, strict=True) if c.grad is not None]
        gradients = [torch.empty_like(weight) for weight, _ in given]
        with torch.no_grad():
            torch._foreach_copy_(gradients, [copy.grad for _, copy in given if copy.grad is not None])
        for (weight, copy), gradient in zip(given, gradients, strict=True):
            weight.grad, copy.grad = gradient, None

    def _put(self, tensors: list[Tensor]) -> None:
        """Has the layers compute with these, (...) float32 or bfloat16, of the shapes of their own."""
        for (layer, name), tensor in zip(self._places, tensors, strict=True):
            layer._parameters[name] = tensor  # type: ignore[assignment]
