"""The learning rate of every step. Free of torch; knows nothing of epochs."""

import math

from trainer.recipe import Recipe

FIRST_SHARE = 1 / 25


def rate(recipe: Recipe, step: int, steps: int) -> float:
    """Learning rate of step 0 <= step < steps: half a cosine up over the warm-up, half a cosine down to zero.

    `one_cycle` is that of Smith and Topin (arXiv 1708.07120) without its cycle of the momentum: it rises
    from 1/25 of the highest rate. `cosine` (arXiv 1608.03983) starts at the highest rate.
    """
    rise = round(recipe.warm_up * steps) if recipe.schedule == "one_cycle" else 0
    if step < rise:
        return recipe.learning_rate * (FIRST_SHARE + (1 - FIRST_SHARE) * _half_cosine(1 - step / rise))
    return recipe.learning_rate * _half_cosine((step - rise) / (steps - rise))


def _half_cosine(progress: float) -> float:
    return (1 + math.cos(math.pi * progress)) / 2
