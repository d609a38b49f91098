"""The function that trains one network for a worker. Loads torch when it is made.

Made by search/worker/context.py and by `search replay`. Writes checkpoints, and weights where it is told to.
"""

import logging
import platform
from pathlib import Path
from typing import Protocol

from search import settings
from search.study.config import Images, StudyConfig
from space.architecture import Architecture
from space.errors import DeviceError
from trainer.callbacks import TrainingCallbacks
from trainer.outcome import Outcome
from trainer.recipe.document import Recipe

logger = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 5.0  # at most so much of a training is lost with its worker, and the epoch under way


class TrainingFunction(Protocol):
    """Trains a network by the study's recipe or another, from the checkpoint if there is one.

    From a checkpoint on_continue hears of the epochs done before. on_trained is handed the outcome, and
    what saves the weights to a file. Raises DivergedError, and MemoryError, of whichever device; after it
    nothing is held any more.
    """

    def __call__(
        self,
        architecture: Architecture,
        seed: int,
        *,
        recipe: Recipe | None = None,
        callbacks: TrainingCallbacks,
        checkpoint: Path | None = None,
    ) -> Outcome: ...


def make_training_function(
    config: StudyConfig,
    images: Images,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    memory: int | None = None,
) -> tuple[str, TrainingFunction]:
    """The name of this process's device, and a function that trains on it. Loads torch.

    memory bounds what a training may take of the device, in bytes; it ends as one for which there is none.

    Raises DeviceError where a GPU was given and torch finds none.
    """
    import torch

    from trainer import loop
    from trainer.device import bound_memory, memory_errors, released_afterwards

    torch.set_num_threads(settings.threads())
    device = loop.select_device(None)
    if device.type == "cpu" and settings.given_gpu():
        raise DeviceError(f"GPU {settings.given_gpu()} was given, but torch finds none")
    dataset = images.dataset
    if memory is not None:
        bound_memory(device, memory)

    def train_network(
        architecture: Architecture,
        seed: int,
        *,
        recipe: Recipe | None = None,
        callbacks: TrainingCallbacks,
        checkpoint: Path | None = None,
    ) -> Outcome:
        kept = loop.CheckpointOptions(checkpoint, checkpoint_seconds) if checkpoint else None
        with memory_errors(), released_afterwards(device):
            return loop.fit(
                architecture,
                recipe or config.recipe,
                dataset,
                images.split,
                seed=seed,
                device=device,
                callbacks=callbacks,
                checkpoint=kept,
                brief=True,
            ).outcome

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine() + " CPU"
    return name, train_network
