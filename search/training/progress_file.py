"""How far a full training is, as a small file in its folder while it runs: progress.json.

Written by search/training/progress.py, read by search/training/confirm_board.py, which shows several
trainings that are processes of their own. It is gone once the training has ended.
"""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from space import parser
from space.errors import UsageError

NAME = "progress.json"


@dataclass(frozen=True)
class TrainingMoment:
    """A full training at one moment: which seed, the `number`-th of `seeds`, is how far.

    `part` is the share of the seed's batches that are done, 0..1; accuracy that of validation images after
    `epoch`, None before the first.
    """

    seed: int
    number: int
    seeds: int
    epoch: int
    epochs: int
    accuracy: float | None
    part: float

    @property
    def position(self) -> float:
        """Seeds that are done, with the part of the one under way."""
        return self.number - 1 + self.part


def write(folder: Path, moment: TrainingMoment) -> None:
    """Replaces the file, without waiting for the disk. One that is full ends no training: then the file stays
    as it was."""
    new = folder / f".{NAME}"
    with suppress(OSError):
        new.write_text(json.dumps(asdict(moment)), encoding="utf-8")
        new.replace(folder / NAME)


def read(folder: Path) -> TrainingMoment | None:
    """What is there; None where nothing is, or not of this version."""
    try:
        found = TrainingMoment(**parser.read(folder / NAME, "JSON", UsageError))
        return found if _is_whole(found) else None
    except (UsageError, TypeError):
        return None


def _is_whole(found: TrainingMoment) -> bool:
    """Whether its numbers are numbers, which can be shown."""
    counts = (found.seed, found.number, found.seeds, found.epoch, found.epochs)
    parts = (found.part, 0.0 if found.accuracy is None else found.accuracy)
    if not all(type(count) is int and 0 <= count < 2**63 for count in counts) or not found.number:
        return False
    return all(type(part) in (int, float) and 0 <= part <= 1 for part in parts)


def remove(folder: Path) -> None:
    """Removes the file at the end of a training."""
    with suppress(OSError):
        (folder / NAME).unlink()
