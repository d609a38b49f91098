"""The function that trains one network for a worker. Loads torch when it is made.

Made by search/worker/context.py and by `search replay`. Writes checkpoints, and weights where it is told to.
"""

import logging
import platform
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from search import settings
from search.machine.processes import leave_lost_device
from search.machine.usable_device import usable_device
from search.study import own_score
from search.study.config import DataConfig, Images, StudyConfig
from space.architecture import Architecture
from space.errors import DataError
from trainer.callbacks import TrainingCallbacks
from trainer.data.dataset import Dataset, Split, split
from trainer.messages import one_line
from trainer.outcome import Outcome
from trainer.recipe.document import Recipe

if TYPE_CHECKING:
    from trainer.loop import Fitted

logger = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 5.0  # at most so much of a training is lost with its worker, and the epoch under way


@dataclass(frozen=True)
class FinalScore:
    """Of a trained network on all test images: accuracy 0..1, loss in nats."""

    accuracy: float
    loss: float
    images: int


OnTest = Callable[[FinalScore | None], None]


class TrainingFunction(Protocol):
    """Trains a network by the study's recipe or another, from the checkpoint if there is one.

    From a checkpoint on_continue hears of the epochs done before. on_trained is handed the outcome, and
    what saves the weights to a file. With on_test it is a final training: on all training images, where
    trials have fewer, and on_test hears once how it did on the test images, None where there are none.
    Raises DivergedError, and MemoryError, of whichever device; after it nothing is held any more.
    """

    def __call__(
        self,
        architecture: Architecture,
        seed: int,
        *,
        recipe: Recipe | None = None,
        callbacks: TrainingCallbacks,
        checkpoint: Path | None = None,
        on_test: OnTest | None = None,
    ) -> Outcome: ...


def make_training_function(
    config: StudyConfig,
    images: Images,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    memory: int | None = None,
    leave: Callable[[str], None] = leave_lost_device,
) -> tuple[str, TrainingFunction]:
    """The name of this process's device, and a function that trains on it. Loads torch.

    memory bounds what a training may take of the device, in bytes; it ends as one for which there is none.

    `leave` ends this process, with what CUDA said, once its GPU answers nothing but errors.

    Raises DeviceError where torch finds no GPU though one was given, or is there and was not hidden; and
    where a GPU cannot train one convolution. UsageError for a score of the user's own that cannot be loaded.
    """
    import torch

    from trainer import loop
    from trainer.device import bound_memory, is_lost, memory_errors, released_afterwards
    from trainer.step_graph import cuda_recorder, plain_steps

    torch.set_num_threads(settings.threads())
    device, dataset = usable_device(config.recipe), images.dataset
    score = own_score.load(config.own_score) if config.own_score else None
    if memory is not None:
        bound_memory(device, memory)

    def train_network(
        architecture: Architecture,
        seed: int,
        *,
        recipe: Recipe | None = None,
        callbacks: TrainingCallbacks,
        checkpoint: Path | None = None,
        on_test: OnTest | None = None,
    ) -> Outcome:
        kept = loop.CheckpointOptions(checkpoint, checkpoint_seconds) if checkpoint else None
        by = recipe or config.recipe
        try:
            with released_afterwards(device), memory_errors():
                fitted = loop.fit(
                    architecture,
                    by,
                    dataset,
                    images.split if on_test is None else _whole(config.data, images),
                    seed=seed,
                    device=device,
                    callbacks=callbacks,
                    checkpoint=kept,
                    score=score,
                    make_recorder=plain_steps if settings.plain_steps() else cuda_recorder,
                )
                if on_test is not None:
                    on_test(_test(fitted, by, dataset, callbacks))
                return fitted.outcome
        except RuntimeError as error:
            if is_lost(device):
                leave(one_line(error))
            raise

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine() + " CPU"
    return name, train_network


def _whole(data: DataConfig, images: Images) -> Split:
    """The study's validation part, and all that is not in it to train on, as in `search train`."""
    if data.limit is None:
        return images.split
    return split(images.dataset, data.split_seed, data.validation_share)


def _test(
    fitted: "Fitted", recipe: Recipe, dataset: Dataset, callbacks: TrainingCallbacks
) -> FinalScore | None:
    """Reads the test images, which nothing else in a worker does; where there are none the log says so. On a
    GPU, which the training has filled, they are a batch at a time."""
    import torch

    from trainer.evaluation import EVALUATED, evaluate

    try:
        images, labels = dataset.open_test()
    except DataError as error:
        logger.warning("a final training has no accuracy on test images: %s", error)
        return None
    found = evaluate(
        fitted.model,
        torch.from_numpy(images),
        torch.from_numpy(labels),
        fitted.normalisation,
        on_part=partial(callbacks.on_batch, 0, 0) if callbacks.on_batch else None,
        training=recipe.evaluate_in_training_mode,
        most=EVALUATED * recipe.batch_size,  # as the validation, which went well
    )
    return FinalScore(found.accuracy, found.loss, len(labels))
