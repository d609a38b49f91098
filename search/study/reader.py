"""Opens a store, or one study of it, for reading. Creates no table and no file.

Called by every command that looks at a study, and by search/training/.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from search.study.config import StudyConfig
    from search.study.second_stage import SecondStage
    from search.study.standing import Baselines
    from storage.row_types import Candidate, Epoch
    from storage.studies import Study

NUMBER = re.compile(r"[0-9]{1,18}")  # of a trial; a longer one is none that a database could hold


@dataclass(frozen=True)
class StudyView:
    """One study, opened to be read; `number` is the trial after the colon, if one was named."""

    engine: "Engine"
    record: "Study"
    number: int | None

    @property
    def config(self) -> "StudyConfig":
        """The stored configuration."""
        from search.study.config import StudyConfig

        return StudyConfig.from_record(self.record.settings)

    @property
    def trained(self) -> int:
        """How many networks count as trained: to the end, or pruned while training."""
        from storage import candidates

        tally = candidates.tally(self.engine, self.record.id)
        return sum(tally[state] for state in candidates.TRAINED)

    def rows(self) -> "list[Candidate]":
        """Every proposal, by its number."""
        from storage import candidates

        return candidates.candidates(self.engine, self.record.id)

    def epochs(self) -> "dict[int, list[Epoch]]":
        """The learning curves, by the candidate's id."""
        from storage import candidates

        return candidates.epochs(self.engine, self.record.id)

    def baselines(self) -> "Baselines":
        """How far the winner is ahead of the best baseline."""
        from search.study.standing import standing
        from storage import candidates
        from storage.row_types import State

        rows = candidates.yardstick(self.engine, self.record.id)
        completed = candidates.tally(self.engine, self.record.id)[State.COMPLETED]
        return standing(rows, self.config.data.validation_images, completed)

    def gave_up(self) -> str:
        """Why too many networks in a row came to nothing, which ended its search; empty where it did not."""
        from search.study import gave_up
        from storage import candidates

        if self.record.order != "gave_up":
            return ""
        rows = candidates.untrained_in_a_row(self.engine, self.record.id)
        return gave_up.reason(rows, self.record.name)

    def second_stage(self) -> "SecondStage | None":
        """Halving and finals as they stand, None where the search ends with its trials."""
        if self.record.finish is None:
            return None
        from search.study import second_stage

        return second_stage.load(self.engine, self.record)

    def candidate(self) -> "Candidate":
        """The trial that was named, else the best by finals, be it by earlier ones than those that are owed,
        else the best by its brief score.

        Raises StudyError where there is no such trial, NothingTrainedError where there is no best one.
        """
        from space.errors import NothingTrainedError
        from storage import candidates

        if self.number is not None:
            return candidates.find(self.engine, self.record.id, self.number)
        if (stage := self.second_stage()) and (first := stage.confirmed):
            return first.candidate
        found = candidates.best(self.engine, self.record.id)
        if not found:
            raise NothingTrainedError(f"study {self.record.name!r}: nothing was trained to the end yet")
        return found[0]


@contextmanager
def open_store(url: str) -> "Iterator[Engine]":
    """The store, opened for reading. Raises StorageError where there is none, or one of another version, and
    in place of what the driver raises inside."""
    from storage import database

    engine = database.connect(url, create=False)
    try:
        database.check(engine)
        with database.translated(engine):
            yield engine
    finally:
        engine.dispose()


@contextmanager
def open_study(url: str, reference: str | None, *, whole: bool = False) -> Iterator[StudyView]:
    """The study NAME or the trial NAME:137; the newest study without a reference.

    Raises StudyError for a trial where only a `whole` study makes sense and for a name that is not there,
    StorageError as open_store does.
    """
    from space.errors import StudyError
    from storage import studies

    name, number = split_reference(reference)
    if whole and number is not None:
        raise StudyError(f"{reference!r} is a trial; name the study alone")
    with open_store(url) as engine:
        yield StudyView(engine, studies.find(engine, name), number)


def split_reference(reference: str | None) -> tuple[str | None, int | None]:
    """STUDY:137 into its study and trial; `:137` is of the newest study."""
    if reference is None:
        return None, None
    name, colon, number = reference.rpartition(":")
    if colon and NUMBER.fullmatch(number):
        return name or None, int(number)
    return reference, None
