"""Reads a study as Snapshots, one after another: what has ended since the one before is news.

Reads the ledger; writes nothing. Called by the launcher twice a second and by `search status --watch`.
"""

from collections.abc import Mapping

from sqlalchemy import Engine

from search.launcher.display import Snapshot
from search.study import second_stage
from search.study.config import StudyConfig
from search.study.second_stage import SecondStage
from search.study.standing import Baselines, standing
from storage import candidates, leases, studies
from storage.row_types import TRAINED, Candidate, RungTraining, State
from storage.studies import Study


class Snapshots:
    """The snapshots of one study. What ended before the first is no news."""

    def __init__(
        self, engine: Engine, record: Study, config: StudyConfig, *, has_slots: bool = False
    ) -> None:
        """`record` is read anew each time: its number of trials may change. `has_slots`: whoever reads them
        starts workers itself."""
        self.engine, self.record, self.config, self.has_slots = engine, record, config, has_slots
        self.ended: int | None = None  # candidates that had ended at the last look
        self.known: set[int] | None = None  # trainings of the second stage that had
        self.rows: list[Candidate] = []  # all candidates, once the trials are done
        self.rows_ended: int | None = None  # how many had ended when they were read

    def take(self) -> Snapshot:
        """The study as it is now. Raises SQLAlchemy's errors for a database out of reach, StudyError where
        the study has gone."""
        self.record = studies.find(self.engine, self.record.name)
        tally = candidates.tally(self.engine, self.record.id)
        ended = _ended(tally)
        fresh = 0 if self.ended is None else ended - self.ended
        best = candidates.best(self.engine, self.record.id)
        second = self.load_second_stage(self.record, tally)
        snapshot = Snapshot(
            name=self.record.name,
            target=self.record.trials,
            tally=tally,
            order=self.record.order,
            running=leases.running(self.engine, self.record.id),
            best=best[0] if best else None,
            finished=self._last(fresh),
            epochs=self.config.recipe.epochs,
            validation_images=self.config.data.validation_images,
            baselines=self._baselines(tally[State.COMPLETED]),
            second=second,
            ended=self._ended_since(second),
            score=self.config.score,
            has_slots=self.has_slots,
        )
        self.ended = ended
        return snapshot

    def load_second_stage(self, record: Study, tally: Mapping[State, int]) -> SecondStage | None:
        """The second stage of the study as it is now, once its trials are done, None before; these are read
        again only where one has ended, or more were asked for in between. Raises as take()."""
        if sum(tally[state] for state in TRAINED) < record.trials:
            self.rows_ended = None
            return None
        if self.rows_ended != _ended(tally):
            self.rows = candidates.candidates(self.engine, record.id)
            self.rows_ended = _ended(tally)
        return second_stage.load(self.engine, record, self.rows)

    def _ended_since(self, second: SecondStage | None) -> list[RungTraining]:
        """Trainings of the second stage that have ended since the last look."""
        ended = [one for one in second.trainings if one.has_ended] if second else []
        known, self.known = self.known, {one.id for one in ended}
        return [] if known is None else [one for one in ended if one.id not in known]

    def _baselines(self, completed: int) -> Baselines:
        rows = candidates.yardstick(self.engine, self.record.id)
        return standing(rows, self.config.data.validation_images, completed)

    def _last(self, count: int) -> list[Candidate]:
        if not count:
            return []
        ended = set(State) - {State.RUNNING}
        rows = candidates.candidates(
            self.engine, self.record.id, states=ended, sort="finished_at", descending=True, limit=count
        )
        return rows[::-1]


def _ended(tally: Mapping[State, int]) -> int:
    """How many candidates have ended."""
    return sum(tally.values()) - tally[State.RUNNING]
