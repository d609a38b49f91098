"""What a search with a second stage has cost, and what picking the best of many was worth.

Computes both from rows of the ledger, and says them in one line each; reads and writes nothing. Called by
status, the end of a launch and the report.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from search.study import device_time
from search.study.finish_plan import duration
from search.study.halving import ReachedRung, score
from search.study.text import counted
from storage.row_types import Candidate, Epoch, RungTraining, Stage

FEWEST = 4  # networks in a rung: of fewer nothing is said


@dataclass(frozen=True)
class Bill:
    """Seconds of training, by part of the search; those of an attempt that was lost with its worker, or told
    to end, once, where the next one has gone on from its checkpoint: its seconds hold them."""

    brief: float
    halving: float
    finals: float

    @property
    def total(self) -> float:
        return self.brief + self.halving + self.finals

    def __str__(self) -> str:
        parts = {"brief": self.brief, "halving": self.halving, "finals": self.finals}
        whole = self.total or 1.0
        shares = ", ".join(f"{name} {100 * seconds / whole:.0f}%" for name, seconds in parts.items())
        return f"{shares} of {duration(self.total)} of training"


def bill(
    rows: Sequence[Candidate], trainings: Sequence[RungTraining], epochs: Mapping[int, Sequence[Epoch]]
) -> Bill:
    """Of all that was trained, whatever came of it; `epochs` as of device_time.spent()."""
    spent = {stage: sum(one.seconds or 0.0 for one in trainings if one.stage == stage) for stage in Stage}
    brief = sum(device_time.spent(rows, epochs).values())
    return Bill(brief, spent[Stage.HALVING], spent[Stage.FINALS])


@dataclass(frozen=True)
class Shrinkage:
    """How far the best of a group by its brief scores were ahead of its mean, and how far the same networks
    were when all of the group were trained again, with other seeds, by what the search maximises, 0..1."""

    best: int  # networks
    networks: int
    epochs: int  # of the second training
    lead: float
    left: float

    def __str__(self) -> str:
        kept = f"{max(0.0, self.left / self.lead):.0%}" if self.lead > 0 else "nothing"
        who = "the best brief score was" if self.best == 1 else f"the {self.best} best brief scores were"
        return (
            f"picking: {who} {100 * self.lead:.2f} points above the mean of {self.networks} networks,"
            f" {100 * self.left:.2f} when all were trained again for {counted(self.epochs, 'epoch')}:"
            f" {kept} of the lead was left"
        )


def shrinkage(rungs: Sequence[ReachedRung]) -> Shrinkage | None:
    """Of the first rung; None before it is over, and where it says too little.

    What a score owes to luck does not come again in an independent training: the lead of those who were
    picked by it shrinks by that much (regression to the mean), and by what learns fast and ends low.
    """
    first = rungs[0] if rungs else None
    if first is None or not first.is_over or first.stage != Stage.HALVING or len(first.scores) < FEWEST:
        return None
    again = first.scores
    through = [entrant for entrant in first.entrants if entrant.number in again]
    best = [row.number for row in sorted(through, key=score, reverse=True)][: max(1, len(through) // FEWEST)]
    brief = {row.number: score(row) for row in through}
    return Shrinkage(
        best=len(best),
        networks=len(brief),
        epochs=first.epochs,
        lead=_lead(brief, best),
        left=_lead(again, best),
    )


def _lead(scores: Mapping[int, float], best: Sequence[int]) -> float:
    return fmean(scores[number] for number in best) - fmean(scores.values())
