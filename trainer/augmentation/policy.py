"""Carries out an augmentation policy on a batch: every image draws for itself, and equal draws run together.

Takes a batch of bytes and a policy of trainer/recipe/policies.py, returns a new batch. Called by
trainer/data/batches.py. Which operation, how strong and in which direction comes from the generator that is
given; how AugMix mixes comes from torch's own, which has no other source of Dirichlet numbers.
"""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.distributions import Dirichlet

from trainer.augmentation.operations import OPERATIONS
from trainer.recipe.policies import AugMix, AutoAugment, Policy, RandAugment, TrivialAugment


class Range(NamedTuple):
    """What the greatest strength, 1, means; `translate` in pixels, `rotate` in degrees, posterize in bits."""

    shear: float
    translate: float
    rotate: float
    enhance: float
    bits: float = 8.0  # that posterize keeps at strength 0
    taken: float = 4.0  # and how many fewer at strength 1


COMMON = (
    *("Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color"),
    *("Contrast", "Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize"),
)
PLAIN = (
    *("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Posterize", "Solarize", "AutoContrast"),
    "Equalize",
)
ENHANCING = ("Brightness", "Color", "Contrast", "Sharpness")
SIGNED = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", *ENHANCING)
GATHERS = ("cpu",)  # devices where it costs nothing to know how many images drew an operation
SHIFT = 150 / 331  # of the side: what the 331 pixels of the paper were shifted by


class _Layer(NamedTuple):
    """One operation for each image: which of `names` (N,), how strong (N,) 0..1, whether at all (N,) bool."""

    names: tuple[str, ...]
    which: Tensor
    strength: Tensor
    happens: Tensor | None = None


def apply_policy(x: Tensor, policy: Policy, generator: Generator) -> Tensor:
    """Images (N, C, H, W) uint8, of 1 or 3 channels, to the same shape and type; x is left as it is."""
    if isinstance(policy, RandAugment):
        return _rand_augment(x, policy, generator)
    if isinstance(policy, TrivialAugment):
        return _trivial_augment(x, generator)
    if isinstance(policy, AutoAugment):
        return _auto_augment(x, generator)
    return _augmix(x, policy, generator)


def _rand_augment(x: Tensor, policy: RandAugment, generator: Generator) -> Tensor:
    """Bytes (N, C, H, W) to the same (Cubuk et al., 2019, arXiv 1909.13719)."""
    reach = Range(0.3, SHIFT * x.shape[3], 30, 0.9)
    strength = torch.full((len(x),), policy.magnitude / 30, device=x.device)
    for _ in range(policy.operations):
        x = _apply(x, _Layer(COMMON, _drawn(x, len(COMMON), generator), strength), reach, generator)
    return x


def _trivial_augment(x: Tensor, generator: Generator) -> Tensor:
    """Bytes (N, C, H, W) to the same (Müller and Hutter, 2021, arXiv 2103.10158)."""
    strength = _drawn(x, 31, generator) / 30
    layer = _Layer(COMMON, _drawn(x, len(COMMON), generator), strength)
    return _apply(x, layer, Range(0.99, 32, 135, 0.99, taken=6), generator)


def _auto_augment(x: Tensor, generator: Generator) -> Tensor:
    """Bytes (N, C, H, W) to the same (Cubuk et al., 2018, arXiv 1805.09501)."""
    reach, names, table = Range(0.3, SHIFT * x.shape[3], 30, 0.9), tuple(OPERATIONS), _pairs(x.device)
    chosen = table[_drawn(x, len(table), generator)]
    for which, share, strength in (half.unbind(1) for half in chosen.unbind(1)):
        happens = torch.rand(len(x), generator=generator, device=x.device) < share
        x = _apply(x, _Layer(names, which.long(), strength, happens), reach, generator)
    return x


@lru_cache
def _pairs(device: torch.device) -> Tensor:
    """The policy found for CIFAR-10, (25, 2, 3) float32 on the device, as torchvision lists it.

    For both operations of each pair: its number, its probability and its strength 0..1.
    """
    from torchvision.transforms import AutoAugment as Reference, AutoAugmentPolicy

    names = list(OPERATIONS)
    pairs = Reference(AutoAugmentPolicy.CIFAR10).policies
    table = [[(names.index(n), p, (level or 0) / 9) for n, p, level in pair] for pair in pairs]
    return torch.tensor(table, device=device)


def _augmix(x: Tensor, policy: AugMix, generator: Generator) -> Tensor:
    """Bytes (N, C, H, W) to the same (Hendrycks et al., 2019, arXiv 1912.02781, algorithm 1)."""
    side = x.shape[3]
    reach = Range(0.3, side / 3, 30, 0.9, bits=4)
    names = PLAIN + ENHANCING if policy.every_operation else PLAIN
    alpha = torch.full((policy.width,), policy.alpha, device=x.device)
    # Arguments are not checked: the answer would be waited for.
    shares = Dirichlet(alpha, validate_args=False).sample((len(x),))
    kept = Dirichlet(alpha.new_full((2,), policy.alpha), validate_args=False).sample((len(x),))
    mixed = kept[:, :1, None, None] * x
    for chain in range(policy.width):
        depth = policy.depth or _drawn(x, 3, generator) + 1
        y = x
        for layer in range(policy.depth or 3):
            drawn = _drawn(x, len(names), generator)
            strength = _drawn(x, policy.severity, generator) / 9
            happens = None if isinstance(depth, int) else depth > layer
            y = _apply(y, _Layer(names, drawn, strength, happens), reach, generator)
        mixed = mixed + (kept[:, 1] * shares[:, chain])[:, None, None, None] * y
    return mixed.clamp_(0, 255).to(torch.uint8)


def _apply(x: Tensor, layer: _Layer, reach: Range, generator: Generator) -> Tensor:
    """A new batch of bytes (N, C, H, W); images that drew the same operation go through it together.

    To gather them, a GPU would be waited for, operation by operation: there all images go through each, and
    those that drew it take the result. Which of the two it is changes no image.
    """
    sign = torch.randint(2, (len(x),), generator=generator, device=x.device) * 2 - 1
    y = x.clone()
    for i, name in enumerate(layer.names):
        chosen = layer.which == i
        if layer.happens is not None:
            chosen = chosen & layer.happens
        if name == "Identity":
            continue
        if x.device.type not in GATHERS:
            amount = _amount(name, layer.strength, reach)
            changed = OPERATIONS[name](x, amount * sign if name in SIGNED else amount)
            y = torch.where(chosen[:, None, None, None], changed, y)
        elif len(of := chosen.nonzero().flatten()):
            amount = _amount(name, layer.strength[of], reach)
            y[of] = OPERATIONS[name](y[of], amount * sign[of] if name in SIGNED else amount)
    return y


def _amount(name: str, strength: Tensor, reach: Range) -> Tensor:
    """Strengths 0..1, (n,) float32, in the units of an operation."""
    if name == "Posterize":
        return (reach.bits - torch.round(strength * reach.taken)).clamp(0, 8)
    if name == "Solarize":
        return 1 - strength
    top = {"Shear": reach.shear, "Translate": reach.translate, "Rotate": reach.rotate}
    return strength * top.get(name.rstrip("XY"), reach.enhance)


def _drawn(x: Tensor, count: int, generator: Generator) -> Tensor:
    """A random number below `count` for each image of x, (N, C, H, W) of any type: (N,) int64."""
    return torch.randint(count, (len(x),), generator=generator, device=x.device)
