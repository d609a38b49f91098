"""Confidence intervals and rank correlation of accuracies. Standard library; reads and stores nothing.

Called by everything that prints or exports an accuracy. Sources: E. B. Wilson, Probable inference, the law
of succession, and statistical inference (JASA 22, 1927); Student, The probable error of a mean (Biometrika
6, 1908); R. G. Newcombe, Interval estimation for the difference between independent proportions (Statistics
in Medicine 17, 1998), method 10; M. G. Kendall, A new measure of rank correlation (Biometrika 30, 1938),
tau-b for ties (Biometrika 33, 1945); B. Efron, Bootstrap methods (Annals of Statistics 7, 1979).
"""

from collections.abc import Sequence
from itertools import combinations
from math import sqrt
from random import Random
from statistics import fmean, stdev
from typing import NamedTuple

Z95 = 1.959964  # two-sided 95% quantile of the normal distribution


class Interval(NamedTuple):
    """Both ends of a 95% interval of an accuracy or a correlation; printed in percent."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.low:.1f}-{100 * self.high:.1f}%"


def wilson(accuracy: float, images: int) -> Interval:
    """95% interval of an accuracy (0..1) measured once on `images` images (Wilson 1927).

    It holds the luck of these images only: neither that of the seed, nor that of having chosen the best.
    """
    scale = 1 + Z95**2 / images
    centre = (accuracy + Z95**2 / (2 * images)) / scale
    half = Z95 * sqrt(accuracy * (1 - accuracy) / images + Z95**2 / (4 * images**2)) / scale
    return Interval(max(0.0, centre - half), min(1.0, centre + half))


class Difference(NamedTuple):
    """One accuracy less another, 0..1, and both ends of its 95% interval; printed in points of percent."""

    points: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.low:.1f} to {100 * self.high:.1f}"


def difference(one: float, other: float, images: int) -> Difference:
    """`one` less `other`, two accuracies measured once on `images` images, with its 95% interval.

    Newcombe (1998), method 10: the distances to the ends of both Wilson intervals, by Pythagoras. It takes
    the two for independent. Measured on the same images they are not: what is hard for one network is hard
    for the other, so the true interval is narrower, and this one is on the safe side. As that of wilson(),
    it holds the luck of the images only.
    """
    first, second = wilson(one, images), wilson(other, images)
    apart = one - other
    low = apart - sqrt((one - first.low) ** 2 + (second.high - other) ** 2)
    high = apart + sqrt((first.high - one) ** 2 + (other - second.low) ** 2)
    return Difference(apart, max(-1.0, low), min(1.0, high))


# Two-sided 95% quantiles of Student's t for 1, 2, 3... degrees of freedom.
T95 = (
    *(12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281, 2.2010, 2.1788),
    *(2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860, 2.0796, 2.0739, 2.0687, 2.0639),
    *(2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423),
)


class Spread(NamedTuple):
    """Accuracies of several runs of one training: mean, standard deviation, 95% interval of the mean.

    deviation and interval are None for a single run, which says nothing of either.
    """

    mean: float
    deviation: float | None
    interval: Interval | None


def spread(values: Sequence[float]) -> Spread:
    """Of at least one accuracy, 0..1; the interval of the mean is Student's t (1908), cut to 0..1.

    Raises statistics.StatisticsError for none.
    """
    mean, freedom = fmean(values), len(values) - 1
    if not freedom:
        return Spread(mean, None, None)
    deviation = stdev(values)
    quantile = T95[freedom - 1] if freedom <= len(T95) else Z95 + (Z95**3 + Z95) / (4 * freedom)
    half = quantile * deviation / sqrt(len(values))
    return Spread(mean, deviation, Interval(max(0.0, mean - half), min(1.0, mean + half)))


class Correlation(NamedTuple):
    """Kendall's tau-b of two scores of the same networks, and its 95% interval."""

    tau: float
    interval: Interval
    networks: int


def correlation(one: Sequence[float], other: Sequence[float], draws: int = 2000) -> Correlation | None:
    """Kendall's tau-b (1938, 1945) of two scores of the same networks, with its 95% interval.

    1: the same order, 0: none in common, -1: the reverse. None for fewer than four networks, or where one
    score is the same for all. The interval is Efron's percentile bootstrap (1979) over the networks, from a
    fixed seed.
    """
    tau = _tau(one, other)
    if tau is None or len(one) < 4:
        return None
    random, found = Random(0), list[float]()
    for _ in range(draws):
        chosen = random.choices(range(len(one)), k=len(one))
        drawn = _tau([one[i] for i in chosen], [other[i] for i in chosen])
        if drawn is not None:
            found.append(drawn)
    found.sort()
    last = len(found) - 1
    return Correlation(tau, Interval(found[round(0.025 * last)], found[round(0.975 * last)]), len(one))


def _tau(one: Sequence[float], other: Sequence[float]) -> float | None:
    """tau-b: agreeing less disagreeing pairs, over the geometric mean of the pairs untied in each score."""
    agreed, ties_one, ties_other, pairs = 0, 0, 0, 0
    for i, j in combinations(range(len(one)), 2):
        a, b = _sign(one[i] - one[j]), _sign(other[i] - other[j])
        agreed, pairs = agreed + a * b, pairs + 1
        ties_one, ties_other = ties_one + (a == 0), ties_other + (b == 0)
    scale = sqrt((pairs - ties_one) * (pairs - ties_other))
    return agreed / scale if scale else None


def _sign(value: float) -> int:
    return int(value > 0) - int(value < 0)
