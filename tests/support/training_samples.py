"""A small training of a few digits that can be ended anywhere, and a disk that is full."""

import dataclasses
import logging
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from space.architecture import Architecture, Block, Head, Stage, Stem
from trainer import loop
from trainer.callbacks import TrainingCallbacks
from trainer.checkpoint import CheckpointOptions, Identity
from trainer.data import dataset as datasets
from trainer.outcome import EpochReport, Outcome
from trainer.recipe.document import Recipe

EPOCHS = 4
STEPS = 3  # an epoch: 192 images in batches of 64
RECIPE = Recipe(epochs=EPOCHS, batch_size=64, learning_rate=0.2, crop_padding=1, precision="float32")
NETWORK = Architecture(
    channels=1,
    image_size=8,
    stem=Stem(width=4),
    block=Block(dropout=0.2),
    stages=(Stage(blocks=1, width=4), Stage(blocks=1, width=8, stride=2)),
    head=Head(dropout=0.1),
)


class Stop(Exception):
    pass


@dataclasses.dataclass
class Training:
    """Trains NETWORK on a few digits, and remembers what it was told."""

    folder: Path
    path: Path | None
    recipe: Recipe = RECIPE
    seed: int = 3
    seconds: float = 0.0
    device: str = "cpu"
    told: list[EpochReport] = dataclasses.field(default_factory=list)
    before: list[EpochReport] = dataclasses.field(default_factory=list)
    said: list[str] = dataclasses.field(default_factory=list)

    def run(self, stop_at: int | None = None) -> loop.Fitted:
        """stop_at: the step, counted from 1, after which the training is ended."""
        with logged_to(self.said):
            return self._fit(stop_at)

    def _fit(self, stop_at: int | None) -> loop.Fitted:
        return loop.fit(
            NETWORK,
            self.recipe,
            *digits(self.folder),
            seed=self.seed,
            device=self.device,
            callbacks=TrainingCallbacks(
                on_epoch=self.told.append,
                on_batch=lambda step, _: stop(step == stop_at),
                on_continue=self.before.extend,
            ),
            checkpoint=CheckpointOptions(self.path, self.seconds) if self.path else None,
        )

    def run_until(self, step: int) -> None:
        with pytest.raises(Stop):
            self.run(step)


@contextmanager
def logged_to(lines: list[str]) -> Iterator[None]:
    """Every warning of the trainer, as a line."""
    handler, logger = logging.Handler(), logging.getLogger("trainer")
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def stop(now: bool) -> None:
    if now:
        raise Stop


def bits(fitted: loop.Fitted) -> list[torch.Tensor]:
    return list(fitted.model.state_dict().values())


def timeless(record: EpochReport | Outcome) -> EpochReport | Outcome:
    return dataclasses.replace(record, seconds=0.0, images_per_second=0.0)


def same(one: loop.Fitted, other: loop.Fitted) -> bool:
    weights = zip(bits(one), bits(other), strict=True)
    return timeless(one.outcome) == timeless(other.outcome) and all(torch.equal(x, y) for x, y in weights)


def digits(folder: Path) -> tuple[datasets.Dataset, datasets.Split]:
    dataset = datasets.load("digits", folder)
    return dataset, datasets.split(dataset, seed=0, limit=192)


def identified(folder: Path) -> Identity:
    """Of what Training trains unless told otherwise."""
    return Identity.of(NETWORK, RECIPE, *digits(folder), 3, torch.device("cpu"))


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """Writes beyond fail in the middle, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
