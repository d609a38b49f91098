"""Full trainings, one row a seed: of whatever network, from a study or not.

Reads and writes the trainings of a database. Written by search/training/ and, for the finals of a search,
by search/recording/; read by `search trainings`, `search export` and the confirmation of a study. Knows no
files.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, delete, insert, select

from storage import tables
from storage.database import moment, reading, writing
from storage.row_types import OF_FINALS


def run_of_finals(study_id: int, number: int, epochs: int) -> str:
    """Return the run of the seeds that a trial's network has in the finals of its search."""
    return f"{OF_FINALS}{study_id}-{number}-{epochs}"


@dataclass(frozen=True)
class Training:
    """Accuracies 0..1, losses in nats: on validation images after the last epoch, on test images once.

    `run` is common to the seeds that were trained together; test figures are None without test images.
    """

    run: str
    seed: int
    subject: str
    study: str | None
    trial: int | None
    fingerprint: str
    parameters: int
    macs: int
    architecture: dict[str, Any]
    recipe: dict[str, Any]
    data: dict[str, Any]
    epochs: int
    accuracy: float
    best_accuracy: float
    best_epoch: int
    loss: float
    test_accuracy: float | None
    test_loss: float | None
    test_images: int | None
    seconds: float
    device: str
    versions: dict[str, Any]
    folder: str


@dataclass(frozen=True)
class Finished(Training):
    """A row as it is stored."""

    finished_at: datetime

    @property
    def seen_images(self) -> int:
        """Epochs by training images; of a row that does not say how many there were, the epochs."""
        return self.epochs * int(self.data.get("train_images") or 1)


COLUMNS = [tables.trainings.c[field.name] for field in fields(Finished)]


def save(engine: Engine, trainings: Sequence[Training]) -> None:
    """Adds the seeds of one run, in one transaction; those that are there already are replaced."""
    with writing(engine) as connection:
        save_in(connection, trainings)


def save_in(connection: Connection, trainings: Sequence[Training]) -> None:
    """The same inside a transaction of the caller's."""
    finished_at = moment(connection)
    for training in trainings:
        same = (tables.trainings.c.run == training.run) & (tables.trainings.c.seed == training.seed)
        connection.execute(delete(tables.trainings).where(same))
        connection.execute(insert(tables.trainings).values(**asdict(training), finished_at=finished_at))


def by_length(trainings: Iterable[Finished]) -> list[list[Finished]]:
    """Runs, each with the seeds that are given of it: the one that saw most images over its seeds (epochs by
    training images) first, of equals the newest. A short try of a network that was trained at length, or one
    on a part of the images, does not come before that."""
    found: dict[str, list[Finished]] = {}
    for training in trainings:
        found.setdefault(training.run, []).append(training)
    newest = reversed(found.values())
    return sorted(newest, key=lambda run: -sum(training.seen_images for training in run))


def of_study(engine: Engine, study: str | None, trial: int | None = None) -> list[Finished]:
    """Those of the trials of a study, of one `trial` of it, or all there are; in the order in which they were
    stored."""
    wanted = select(*COLUMNS).order_by(tables.trainings.c.id)
    if study is not None:
        wanted = wanted.where(tables.trainings.c.study == study)
    if trial is not None:
        wanted = wanted.where(tables.trainings.c.trial == trial)
    with reading(engine) as connection:
        return [Finished(*row) for row in connection.execute(wanted)]
