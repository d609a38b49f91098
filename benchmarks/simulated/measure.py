"""Figures of one simulated search, and the statistics that compare several.

What the search had chosen after so many trials and after so much training, with Student's t interval (1908)
of means, and Holm's correction (1979) of several comparisons. Called by suite.py and report.py; also by the
other benchmarks for their intervals. Writes nothing.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.simulated.simulator import Finish, Search

TRIALS_GRID = (10, 20, 30, 40, 50, 75, 100, 125, 150, 175, 200)
COST_GRID = tuple(round(0.1 * i, 1) for i in range(1, 16))  # of the reference cost


@dataclass(frozen=True)
class SearchFigures:
    """One search: the truth of the network it would have named after so many trials, or so much training (in
    shares of the reference cost); None before its first finished network, or beyond its end. `cost`,
    `hours` and `epochs` are what the asked-for trials took."""

    seed: int
    by_trials: tuple[float | None, ...]
    by_cost: tuple[float | None, ...]
    cost: float
    hours: float
    trials: int
    epochs: int
    asks: int
    repeated: int
    over: int
    pruned: int
    promoted: int

    def document(self) -> dict[str, Any]:
        return asdict(self)


def figures_of(search: Search, reference: float) -> SearchFigures:
    at = [(f.trials, f.cost) for f in search.finished]
    best = winners(search.finished)
    counts, costs = [trials for trials, _ in at], [cost for _, cost in at]
    return SearchFigures(
        seed=search.seed,
        by_trials=tuple(_until(counts, best, n, search.trained) for n in scaled(search.trials)),
        by_cost=tuple(_until(costs, best, share * reference, search.spent) for share in COST_GRID),
        cost=(search.cost_at_trials or search.spent) / reference,
        hours=(search.time_at_trials or search.time) / 3600,
        trials=search.trained,
        epochs=search.epochs,
        promoted=search.promoted,
        **search.tally,
    )


def scaled(trials: int) -> list[int]:
    """The points of the trials axis, for a search of any length."""
    return [max(1, round(n * trials / TRIALS_GRID[-1])) for n in TRIALS_GRID]


def winners(finished: Sequence[Finish]) -> list[float]:
    """After each finished network, the truth of the one that has the highest observed accuracy; of equals
    the smaller, as search/study/statistics.py names it."""
    best, found = None, []
    for finish in finished:
        if best is None or (finish.observed, -finish.parameters) > (best.observed, -best.parameters):
            best = finish
        found.append(best.truth)
    return found


def _until(at: Sequence[float], best: Sequence[float], limit: float, end: float) -> float | None:
    """The winner at `limit`; the last one where a search ended in between, None where long before."""
    count = int(np.searchsorted(at, limit, side="right"))
    return best[count - 1] if count and end >= limit * 0.98 else None


@dataclass(frozen=True)
class Interval:
    """A mean with the half-width of its 95% interval (Student's t), in points of accuracy."""

    mean: float
    half: float
    count: int


def interval(values: Sequence[float]) -> Interval:
    """Of numbers, one from each seed."""
    from scipy.stats import t

    count = len(values)
    if count < 2:
        return Interval(float(np.mean(values)) if count else float("nan"), float("nan"), count)
    error = float(np.std(values, ddof=1)) / count**0.5
    return Interval(float(np.mean(values)), float(t.ppf(0.975, count - 1)) * error, count)


def p_value(differences: Sequence[float]) -> float:
    """Two-sided, of the paired t-test that they are 0 on average."""
    from scipy.stats import ttest_1samp

    if len(differences) < 2 or np.std(differences) == 0:
        return 1.0
    return float(ttest_1samp(differences, 0.0).pvalue)


def holm(p_values: dict[str, float]) -> dict[str, float]:
    """Holm's correction: so many comparisons were made, and luck makes some of them look clear."""
    ordered = sorted(p_values.items(), key=lambda item: item[1])
    corrected, highest = {}, 0.0
    for rank, (name, p) in enumerate(ordered):
        highest = max(highest, min(1.0, p * (len(ordered) - rank)))
        corrected[name] = highest
    return corrected
