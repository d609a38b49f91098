"""A small training of a few digits that can be ended anywhere, and a disk that is full."""

import dataclasses
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from space.architecture import Architecture, Block, Head, Stage, Stem
from trainer import loop
from trainer.checkpoint import Identity
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
        return loop.fit(
            NETWORK,
            self.recipe,
            *digits(self.folder),
            seed=self.seed,
            device=self.device,
            on_epoch=self.told.append,
            on_batch=lambda step, _: stop(step == stop_at),
            checkpoint=self.path,
            checkpoint_seconds=self.seconds,
            on_continue=self.before.extend,
            say=self.said.append,
        )

    def run_until(self, step: int) -> None:
        with pytest.raises(Stop):
            self.run(step)


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
