"""How far the winner of a study is ahead of its best baseline, or that it is not.

Reads rows of the ledger; writes nothing. Called by status, the live board, the end of a launch, the report
and the export. What a baseline is stands in space/baselines.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from search.study.score import WORDS, ScoreName, both
from search.study.statistics import Difference, difference
from search.study.text import counted
from storage.row_types import Candidate, State


@dataclass(frozen=True)
class Standing:
    """The best baseline that was trained to the end, and the best network that the search proposed itself.

    `ahead` is the winner's accuracy less the baseline's, with its 95% interval; the winner is `proposed`.
    Where a search maximises another score, both are the best by it.
    """

    baseline: Candidate
    proposed: Candidate | None
    ahead: Difference | None  # None without a network that was proposed
    picked: int = 1  # networks that were trained to the end, of which `proposed` is the best
    least: float | None = None  # lower end of `ahead` where luck of that many is held by it too

    @property
    def points(self) -> float | None:
        """What the search maximises, the winner's less the baseline's, 0..1; None without a winner."""
        if self.proposed is None or self.ahead is None:
            return None
        return (self.proposed.value or 0.0) - (self.baseline.value or 0.0)

    @property
    def is_ahead(self) -> bool:
        """Whether the winner has the higher score, be it by luck."""
        return self.points is not None and self.points > 0


@dataclass(frozen=True)
class Baselines:
    """How many a study has, and how it stands where one of them was trained to the end."""

    standing: Standing | None
    number: int


NO_BASELINES = Baselines(None, 0)


def standing(rows: Sequence[Candidate], images: int, completed: int | None = None) -> Baselines:
    """Of these rows, the baselines of a study and its best networks, judged on so many validation images.

    `completed` networks of the study were trained to the end, where the rows are not all of them.
    """
    trained = [row for row in rows if row.state == State.COMPLETED and row.accuracy is not None]
    trained.sort(key=lambda row: (-(row.value or 0.0), row.parameters, row.number))
    guesses = [row for row in trained if row.baseline is not None]
    number = len({row.fingerprint for row in rows if row.baseline is not None})
    if not guesses:
        return Baselines(None, number)
    proposed = next((row for row in trained if row.baseline is None), None)
    picked = (len(trained) if completed is None else completed) - len(guesses)
    return Baselines(compared(proposed, guesses[0], images, max(1, picked)), number)


def compared(proposed: Candidate | None, baseline: Candidate, images: int, picked: int = 1) -> Standing:
    """A network, the best of so many that were picked from, beside a baseline."""
    if proposed is None or proposed.accuracy is None:
        return Standing(baseline, None, None)
    accuracies = proposed.accuracy, baseline.accuracy or 0.0
    least = difference(*accuracies, images, picked=picked).low
    return Standing(baseline, proposed, difference(*accuracies, images), picked, least)


def describe(found: Baselines, *, confirmed: bool = False, score: ScoreName = "accuracy") -> str | None:
    """One line for people; None for a study without baselines. With `confirmed` there is a winner of finals,
    be it another network than the best by brief scores, and the line says that it is of these; `score` is
    what the search maximises."""
    line = _line(found, score, "the best proposal" if confirmed else "the winner")
    return f"by brief scores: {line}" if line and confirmed else line


def _line(found: Baselines, score: ScoreName, who: str) -> str | None:
    if not found.number:
        return None
    here = found.standing
    if here is None:
        return f"of {counted(found.number, 'baseline')} none was trained to the end yet"
    best = f"the best baseline {here.baseline.baseline}: {both(score, here.baseline)}"
    if here.ahead is None or here.points is None:
        return f"{best}; no other network was trained to the end yet"
    interval, luck = f"95% interval {here.ahead}", _luck(here.ahead, here)
    points = f"{100 * abs(here.points):.1f} points"
    if score != "accuracy":  # its interval takes more than a score, and is not known
        points += f" of {WORDS[score]}"
        interval, luck = f"{100 * here.ahead.points:+.1f} of accuracy, {interval}", ""
    if not here.is_ahead:
        behind = f"{points} behind" if here.points < 0 else "level"
        return f"{best}; the search is not ahead: the best network that it proposed is {behind} ({interval})"
    return f"{best}; {who} is {points} ahead ({interval}{luck})"


def _luck(ahead: Difference, here: Standing) -> str:
    """Whether a lead may be luck: of the images, or of having picked the best of many on them."""
    if ahead.low <= 0:
        return "; that may be luck"
    is_clear = here.least is None or here.least > 0
    return "" if is_clear else f"; as the best of {here.picked:,} that may be luck"
