"""Computes the learning rate of every step of a recipe, and the momentum where the schedule moves that too.

Reads the recipe's schedule (trainer/recipe/schedules.py). Called by trainer/loop.py for each step. A function
of the step alone, so a training that goes on needs no state of it. Free of torch.
"""

from typing import NamedTuple

from trainer.recipe.document import Recipe
from trainer.recipe.schedules import OneCycle


class ScheduleTime(NamedTuple):
    """Where a step stands in the units of its schedule; `t` counts from the start of the training."""

    t: float
    warm_up: float
    total: float  # of the schedule, without the warm-up
    epoch: float


def rate(recipe: Recipe, step: int, steps: int) -> float:
    """Learning rate of step 0 <= step < steps, where `steps` are those of all recipe.epochs.

    The warm-up is the gradual one of Goyal et al., 2017 (arXiv 1706.02677); schedules name their own sources.
    """
    schedule, now = recipe.planned, _schedule_time(recipe, step, steps)
    if now.t < now.warm_up:
        rise = schedule.warm_up_from
        return recipe.learning_rate * (rise + (1 - rise) * now.t / now.warm_up)
    return schedule.at(recipe.learning_rate, now.t - now.warm_up, now.total, now.epoch)


def momentum(recipe: Recipe, step: int, steps: int) -> float | None:
    """Momentum (first beta of Adam's kin) of a step; None where it stays as the recipe says."""
    schedule, now = recipe.planned, _schedule_time(recipe, step, steps)
    if not isinstance(schedule, OneCycle) or schedule.momentum is None:
        return None
    return schedule.momentum_at(max(0.0, now.t - now.warm_up), now.total)


def _schedule_time(recipe: Recipe, step: int, steps: int) -> ScheduleTime:
    schedule = recipe.planned
    if schedule.unit == "epoch":
        epoch, run, t = 1.0, recipe.epochs, step * recipe.epochs // steps
        warm_up = schedule.warm_up
    else:
        epoch, run, t = steps / recipe.epochs, steps, step
        warm_up = round(schedule.warm_up * epoch)
    length = getattr(schedule, "length", None)
    total = length * epoch if length else run - warm_up
    return ScheduleTime(t, warm_up, max(total, 1e-9), epoch)
