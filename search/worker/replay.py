"""Trains a stored trial again and says whether it came out the same.

Called by `search replay`; writes nothing.
"""

from collections.abc import Sequence
from contextlib import suppress

from search.study.statistics import wilson
from search.worker.training_function import TrainingFunction
from space.architecture import Architecture
from trainer.callbacks import TrainingCallbacks
from trainer.outcome import EpochReport
from trainer.recipe.document import Recipe


class _Enough(Exception):
    """As many epochs as the trial had."""


def run(
    train: TrainingFunction, architecture: Architecture, seed: int, epochs: int, recipe: Recipe | None = None
) -> list[float]:
    """Validation accuracies (0..1) of so many epochs, by the study's recipe or another.

    Raises as `train` does.
    """
    curve: list[float] = []

    def keep(report: EpochReport) -> None:
        curve.append(report.validation_accuracy)
        if len(curve) == epochs:
            raise _Enough

    with suppress(_Enough):
        train(architecture, seed, recipe=recipe, callbacks=TrainingCallbacks(on_epoch=keep))
    return curve


def compare(then: Sequence[float], now: Sequence[float], images: int) -> str:
    """In words: the same to the bit, within the 95% interval of these images, or different."""
    if not then or not now:
        return "different: there is no epoch to compare"
    words = f"{100 * then[-1]:.2f}% then, {100 * now[-1]:.2f}% now, after {len(now)} epochs"
    if list(then) == list(now):
        return f"same in every epoch, {words}"
    low, high = wilson(then[-1], images)
    if low <= now[-1] <= high:
        return f"within the noise of {images:,} images, {words}"
    return f"different, {words}"
