"""The record of those who hear of a training while it runs. Holds functions, reads and writes nothing itself.

Made by whoever starts a training (search/worker/attempt.py, search/worker/replay.py, search/training/run.py),
called by trainer/loop.py. Free of torch, so that a worker's modules can name it before they load torch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.outcome import EpochReport, Outcome

OnEpoch = Callable[[EpochReport], None]
OnBatch = Callable[[int, int], None]
OnContinue = Callable[[Sequence[EpochReport]], None]
SaveWeights = Callable[[Path], None]
OnTrained = Callable[[Outcome, SaveWeights], None]


@dataclass(frozen=True)
class TrainingCallbacks:
    """Each may be left out. What one raises passes through `fit` and ends the training: so it is stopped."""

    on_epoch: OnEpoch | None = None  # after each epoch, once it is validated
    on_batch: OnBatch | None = None  # (step, steps): after each step of all, from 1, and while validating
    on_continue: OnContinue | None = None  # once, with the epochs that a checkpoint already holds
    on_trained: OnTrained | None = None  # at the end, with what writes the weights to a file


NO_CALLBACKS = TrainingCallbacks()
