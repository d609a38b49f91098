"""Everything that a report of a study is made from, and what several of its sections count alike.

Holds rows of the ledger in memory; reads and writes nothing. Made by search/report/page.py, given to each
section.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from search.study import device_time
from search.study.config import StudyConfig
from search.study.score import WORDS
from search.study.second_stage import SecondStage
from search.study.standing import Baselines, standing
from space.architecture import Architecture
from storage.row_types import TRAINED, Candidate, Epoch, RungTraining, State
from storage.studies import Study
from storage.trainings import Finished


@dataclass(frozen=True)
class ReportData:
    """One study at one moment. `full`: full trainings of its networks; `differing`: trials of which Optuna
    holds a parameter that is not the network's."""

    record: Study
    config: StudyConfig
    rows: Sequence[Candidate]
    epochs: Mapping[int, Sequence[Epoch]]  # by the candidate's id
    differing: int = 0
    second: SecondStage | None = None
    full: Sequence[Finished] = ()

    @cached_property
    def trained(self) -> list[Candidate]:
        """Those with an accuracy, trained to the end or pruned, in the order in which they ended."""
        found = [row for row in self.rows if row.state in TRAINED and row.accuracy is not None]
        return sorted(found, key=lambda row: (ended(row), row.number))

    @cached_property
    def completed(self) -> list[Candidate]:
        """Those that were trained to the end, the best first; of equals the smaller."""
        found = [row for row in self.trained if row.state == State.COMPLETED]
        return sorted(found, key=lambda row: (-score(row), row.parameters, row.number))

    @cached_property
    def pruned(self) -> list[Candidate]:
        """Those that the pruner stopped, in the order in which they ended."""
        return [row for row in self.trained if row.state == State.PRUNED]

    @cached_property
    def winner(self) -> Candidate | None:
        """The best by finals, be it by earlier ones than those that are owed, else by its brief score."""
        first = self.second.confirmed if self.second else None
        return first.candidate if first else self.completed[0] if self.completed else None

    @cached_property
    def standing(self) -> Baselines:
        """How far the search is ahead of its baselines, by brief scores."""
        return standing(self.rows, self.images)

    @cached_property
    def networks(self) -> dict[int, Architecture]:
        """What was trained, by the trial's number: of all that have an accuracy."""
        return {row.number: Architecture.parse(row.architecture) for row in self.trained}

    @property
    def images(self) -> int:
        """Validation images, by which an accuracy was measured."""
        return self.config.data.validation_images

    @property
    def scored(self) -> str:
        """What the search maximises, in words."""
        return WORDS[self.config.score]

    @cached_property
    def began(self) -> datetime:
        """When the first network was proposed."""
        return min((row.proposed_at for row in self.rows), default=self.record.created_at)

    @property
    def trainings(self) -> Sequence[RungTraining]:
        """Those of the second stage."""
        return self.second.trainings if self.second else ()

    @cached_property
    def seconds(self) -> dict[int, float]:
        """Seconds that devices had each candidate, by its id; an attempt that another went on from once."""
        return device_time.spent(self.rows, self.epochs)

    def hours(self, moment: datetime) -> float:
        """Hours since the first proposal."""
        return (moment - self.began).total_seconds() / 3600


def score(row: Candidate) -> float:
    """What the search maximises, 0..1."""
    return row.value or 0.0


def ended(row: Candidate) -> datetime:
    """When it ended, or for want of that was proposed."""
    return row.finished_at or row.proposed_at


def thinned(rows: Sequence[Candidate], most: int) -> list[Candidate]:
    """At most so many, in their order: the best third of that number, and evenly of the others."""
    if len(rows) <= most:
        return list(rows)
    best = {row.id for row in sorted(rows, key=score, reverse=True)[: most // 3]}
    others = [row for row in rows if row.id not in best]
    room = most - len(best)
    kept = best | {others[i * len(others) // room].id for i in range(room)}
    return [row for row in rows if row.id in kept]


def axis_range(values: Sequence[float], quantile: float = 0.0) -> list[float]:
    """Both ends of an axis in percent, for accuracies of 0..1 from this quantile up, with some air."""
    ordered = sorted(values)
    low, high = 100 * ordered[int(quantile * (len(ordered) - 1))], 100 * ordered[-1]
    air = max(0.06 * (high - low), 0.2)
    return [round(low - air, 2), round(high + air, 2)]
