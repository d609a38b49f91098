"""Finds known mistakes in recipes: each was made in a published system, and explains one of its numbers.

Takes a recipe, returns what is wrong with it in words. Called by trainer/recipe/document.py for every recipe,
and by search/training/train.py and the commands for a recipe and its network. A grave mistake has a name and
is refused unless the recipe accepts it by that name; the others are only told. Free of torch.
"""

import math
from dataclasses import dataclass
from typing import Literal, Protocol

from space.architecture import Architecture
from trainer.recipe.optimizer_defaults import COUPLED, OPTIMIZER_DEFAULTS
from trainer.recipe.schedules import ROUNDING, Base, Cosine, CosineRestarts, Limited, OneCycle

Name = Literal["one_cycle_per_epoch", "short_schedule", "coupled_decay", "softmax", "training_mode"]


class Training(Protocol):
    """What is looked at of a recipe."""

    @property
    def epochs(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def optimizer(self) -> str: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def schedule(self) -> object: ...
    @property
    def warm_up(self) -> float: ...
    @property
    def planned(self) -> Base: ...
    @property
    def evaluate_in_training_mode(self) -> bool: ...


@dataclass(frozen=True)
class RecipeWarning:
    """`name` is None for one that is only told."""

    name: Name | None
    reason: str

    @property
    def refusal(self) -> str:
        return f'{self.reason}; if that is meant, add accept = ["{self.name}"]'


def of_recipe(recipe: Training) -> list[RecipeWarning]:
    """The grave ones first."""
    found = [*_of_schedule(recipe), *_of_optimizer(recipe)]
    if recipe.evaluate_in_training_mode:
        found.append(
            RecipeWarning(
                "training_mode",
                "evaluate_in_training_mode true: dropout stays on, and a score depends on which images share"
                " a batch",
            )
        )
    return sorted(found, key=lambda mistake: mistake.name is None)


def of_training(recipe: Training, architecture: Architecture) -> list[RecipeWarning]:
    """Those of the recipe, and of the recipe for this network."""
    if not architecture.head.softmax:
        return of_recipe(recipe)
    softmax = RecipeWarning(
        "softmax",
        "head.softmax true: cross-entropy applies a softmax of its own, and of two in a row the loss cannot"
        f" fall below {_floor(architecture.classes):.2f}",
    )
    return [softmax, *of_recipe(recipe)]


def of_images(recipe: Training, images: int) -> list[str]:
    """What becomes of a recipe where there are so few training images; nothing where there are enough."""
    if recipe.batch_size <= images:
        return []
    return [f"batch_size {recipe.batch_size} is cut to the {images:,} training images: an epoch is one step"]


def _floor(classes: int) -> float:
    """Cross-entropy of scores that are themselves probabilities, at best 1 and zeros."""
    return math.log(math.e + classes - 1) - 1


def _of_schedule(recipe: Training) -> list[RecipeWarning]:
    schedule = recipe.planned
    if isinstance(schedule, OneCycle) and schedule.unit == "epoch":
        reason = (
            "schedule one_cycle with unit epoch: it is made to move with every step; by epochs it jumps"
            + (f", and of its {schedule.length:g} it sees {recipe.epochs}" if schedule.length else "")
        )
        return [RecipeWarning("one_cycle_per_epoch", reason)]
    if isinstance(schedule, CosineRestarts):
        return _of_restarts(recipe, schedule)
    return _of_length(recipe, schedule) + _of_warm_up(recipe, schedule)


def _of_warm_up(recipe: Training, schedule: Base) -> list[RecipeWarning]:
    found = []
    if schedule.warm_up >= recipe.epochs:
        found.append(
            RecipeWarning(
                None, f"schedule.warm_up {schedule.warm_up:g} is not over in {recipe.epochs} epochs"
            )
        )
    if (
        isinstance(recipe.schedule, str)
        and recipe.schedule != "one_cycle"
        and recipe.warm_up not in (0, 0.25)
    ):
        found.append(
            RecipeWarning(
                None,
                f"warm_up {recipe.warm_up:g} is of one_cycle; for {recipe.schedule} write a table:"
                f' schedule = {{name = "{recipe.schedule}", warm_up = EPOCHS}}',
            )
        )
    return found


def _of_length(recipe: Training, schedule: Base) -> list[RecipeWarning]:
    end = schedule.end
    if end is None or math.isclose(end, recipe.epochs, rel_tol=ROUNDING):  # it may have been stretched
        return []
    name = getattr(schedule, "name", "")
    if end > recipe.epochs:
        return [
            RecipeWarning(
                None,
                f"schedule {name} lasts {end:g} epochs, the training {recipe.epochs}: it ends before the"
                " rate has come down",
            )
        ]
    if isinstance(schedule, Cosine):
        return [
            RecipeWarning(
                "short_schedule",
                f"schedule.length {end:g} is shorter than the {recipe.epochs} epochs: a cosine climbs again"
                " after its length",
            )
        ]
    if isinstance(schedule, Limited) and not getattr(schedule, "final", 0.0):
        return [
            RecipeWarning(
                "short_schedule",
                f"schedule.length {end:g} is shorter than the {recipe.epochs} epochs: the rate is 0 for the"
                " rest, and nothing is learned",
            )
        ]
    return []


def _of_restarts(recipe: Training, schedule: CosineRestarts) -> list[RecipeWarning]:
    left = schedule.share(max(0.0, recipe.epochs - schedule.warm_up), 1.0)
    if left < 1e-6:
        return []
    reason = f"schedule cosine_restarts: after {recipe.epochs} epochs {left:.0%} of a cycle is over, not all"
    return [RecipeWarning(None, f"{reason}; the rate has not come down")]


def _of_optimizer(recipe: Training) -> list[RecipeWarning]:
    usual = OPTIMIZER_DEFAULTS[recipe.optimizer]
    told = f"learning_rate {recipe.learning_rate:g}"
    if usual.lowest <= recipe.learning_rate <= usual.highest:
        return []
    if recipe.optimizer in COUPLED and recipe.weight_decay and recipe.learning_rate > usual.highest:
        return [
            RecipeWarning(
                "coupled_decay",
                f"{told} with weight_decay {recipe.weight_decay:g} in {recipe.optimizer}: its L2 enters the"
                " gradient, and at such a rate the decay is what is learned; use adamw, or a rate up to"
                f" {usual.highest:g}",
            )
        ]
    return [
        RecipeWarning(
            None, f"{told} is outside the {usual.lowest:g} to {usual.highest:g} usual with {recipe.optimizer}"
        )
    ]
