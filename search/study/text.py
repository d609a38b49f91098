"""Values of a search as text: percentages, counts of states, time spans, the best of a study.

Called by the commands, the live board, the reports and full training. Reads and writes nothing.
"""

from search.study.score import ScoreName, both
from search.study.short_form import summary
from search.study.statistics import LEAST_RUNS, Spread, wilson
from space.architecture import Architecture
from storage.row_types import Candidate, State

SHOWN_ALWAYS = (State.COMPLETED, State.PRUNED, State.OVER_BUDGET, State.REPEATED, State.FAILED)


def percent(accuracy: float | None) -> str:
    """An accuracy of 0..1 for people."""
    return "-" if accuracy is None else f"{100 * accuracy:.2f}%"


NO_INTERVAL = "two seeds give no useful interval"
IN_ITS_PLACE = f"{NO_INTERVAL}: both values stand in its place"


def two_values(found: Spread) -> str:
    """The values of two runs."""
    return " and ".join(map(percent, found.values))


def over_seeds(found: Spread, interval: str = "95%") -> str:
    """What is known of a mean over seeds beyond itself: its interval, after the word for it, both values of
    two, or that more of them are equal. Empty for one seed, which says nothing."""
    if found.interval:
        low, high = found.interval
        return f"{interval} {100 * low:.2f}-{100 * high:.2f}%"
    if 1 < len(found.values) < LEAST_RUNS:
        return f"{two_values(found)}: {NO_INTERVAL}"
    return f"{_equal(found)} give no useful interval" if found.is_level else ""


def _equal(found: Spread) -> str:
    return f"{len(found.values)} equal seeds"


def interval_cell(found: Spread | None) -> str:
    """The interval of a mean in a table, both values of two runs, that more are equal, - for one."""
    if found and found.interval:
        return str(found.interval)
    if found and found.is_level and len(found.values) >= LEAST_RUNS:
        return _equal(found)
    return two_values(found) if found and len(found.values) > 1 else "-"


def counts(tally: dict[State, int]) -> str:
    """The ledger in words, without the states that nobody is in."""
    shown = [state for state in State if state in SHOWN_ALWAYS or tally[state]]
    return " · ".join(f"{state.value.replace('_', ' ')} {tally[state]}" for state in shown)


def counted(number: int, noun: str) -> str:
    """A number and what it counts: 1 epoch, 8 epochs."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def span(seconds: float) -> str:
    """Seconds as 4:05 or 1:04:05."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def best_line(best: Candidate | None, images: int, score: ScoreName = "accuracy") -> str:
    """The leader with the 95% interval of an accuracy on so many validation images, by the study's score."""
    if best is None or best.accuracy is None:
        return "best so far: none"
    network = summary(Architecture.parse(best.architecture))
    return (
        f"best so far: {both(score, best)} (95% {wilson(best.accuracy, images)}), trial {best.number}, "
        f"{best.parameters:,} parameters, {network}"
    )
