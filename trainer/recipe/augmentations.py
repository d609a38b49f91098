"""Says in words which augmentations a recipe has, and which field of it switches each of them off.

Takes a recipe and returns text; reads and writes nothing. Called by the plan of `search launch`, the opening
lines of `search train` and the page of `search data`. Free of torch.
"""

from dataclasses import dataclass
from typing import Protocol

from trainer.recipe.policies import Policy


class Augmented(Protocol):
    """What is looked at of a recipe."""

    @property
    def crop_padding(self) -> int: ...
    @property
    def enlarge(self) -> int | None: ...
    @property
    def flip(self) -> bool: ...
    @property
    def flip_vertical(self) -> bool: ...
    @property
    def rotation(self) -> float: ...
    @property
    def cutout(self) -> int: ...
    @property
    def random_erasing(self) -> float: ...
    @property
    def expanded_policy(self) -> Policy | None: ...
    @property
    def mixup(self) -> float: ...
    @property
    def cutmix(self) -> float: ...


@dataclass(frozen=True)
class Augmentation:
    """What is done to training images at random, and the recipe field, with its value, that ends it."""

    what: str
    off: str

    def __str__(self) -> str:
        return f"{self.what} (off: {self.off})"


def augmentations(recipe: Augmented) -> list[Augmentation]:
    """All that are on, in the order in which they are applied; pixels are those of the scaled image."""
    policy = recipe.expanded_policy
    every = {
        Augmentation(f"cut out of {recipe.enlarge} pixels a side", "enlarge left out"): recipe.enlarge,
        Augmentation(f"shifted by up to {recipe.crop_padding} pixels", "crop_padding = 0"): (
            recipe.crop_padding
        ),
        Augmentation("mirrored left to right", "flip = false"): recipe.flip,
        Augmentation("mirrored top to bottom", "flip_vertical = false"): recipe.flip_vertical,
        Augmentation(f"turned by up to {recipe.rotation:g} degrees", "rotation = 0"): recipe.rotation,
        Augmentation(f"policy {policy.name if policy else ''}", "policy left out"): policy is not None,
        Augmentation(f"a square of {recipe.cutout} pixels blanked", "cutout = 0"): recipe.cutout,
        Augmentation(f"a rectangle blanked in {recipe.random_erasing:.0%} of them", "random_erasing = 0"): (
            recipe.random_erasing
        ),
        Augmentation(f"mixed by MixUp {recipe.mixup:g}", "mixup = 0"): recipe.mixup,
        Augmentation(f"mixed by CutMix {recipe.cutmix:g}", "cutmix = 0"): recipe.cutmix,
    }
    return [one for one, on in every.items() if on]


def described(recipe: Augmented) -> str:
    """One line: what is on, and where it is changed."""
    return f"{in_words(recipe)}; fields of a --recipe FILE"


def in_words(recipe: Augmented) -> str:
    """Every augmentation that is on with what switches it off, and how to have mirror images."""
    on = augmentations(recipe)
    parts = ", ".join(map(str, on)) or "none"
    mirror = "" if recipe.flip else "; not mirrored (on: flip = true)"
    return f"{parts}{mirror}"
