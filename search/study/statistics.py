"""Confidence intervals and rank correlation of accuracies. Standard library; reads and stores nothing.

Called by everything that prints or exports an accuracy. Sources: E. B. Wilson, Probable inference, the law
of succession, and statistical inference (JASA 22, 1927); Student, The probable error of a mean (Biometrika
6, 1908); R. G. Newcombe, Interval estimation for the difference between independent proportions (Statistics
in Medicine 17, 1998), method 10; B. L. Welch, The generalization of Student's problem when several different
population variances are involved (Biometrika 34, 1947); M. G. Kendall, A new measure of rank correlation
(Biometrika 30, 1938), tau-b for ties (Biometrika 33, 1945), computed as W. R. Knight does (JASA 61, 1966);
B. Efron, Bootstrap methods (Annals of Statistics 7, 1979); E. C. Fieller, H. O. Hartley and E. S. Pearson,
Tests for rank correlation coefficients (Biometrika 44, 1957); C. L. Mallows, Non-null ranking models
(Biometrika 44, 1957); C. J. Clopper and E. S. Pearson, The use of confidence or fiducial limits illustrated
in the case of the binomial (Biometrika 26, 1934); O. J. Dunn, Multiple comparisons among means (JASA 56,
1961).
"""

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from math import atanh, comb, exp, log, sqrt, tanh
from random import Random
from statistics import NormalDist, fmean, stdev
from typing import NamedTuple

Z95 = 1.959964  # two-sided 95% quantile of the normal distribution


class Interval(NamedTuple):
    """Both ends of a 95% interval of an accuracy or a correlation; printed in percent."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.low:.1f}-{100 * self.high:.1f}%"


def wilson(accuracy: float, images: int, quantile: float = Z95) -> Interval:
    """95% interval of an accuracy (0..1) measured once on `images` images (Wilson 1927); of another level by
    another quantile of the normal distribution.

    It holds the luck of these images only: neither that of the seed, nor that of having chosen the best.
    """
    z = quantile
    scale = 1 + z**2 / images
    centre = (accuracy + z**2 / (2 * images)) / scale
    half = z * sqrt(accuracy * (1 - accuracy) / images + z**2 / (4 * images**2)) / scale
    return Interval(max(0.0, centre - half), min(1.0, centre + half))


class Difference(NamedTuple):
    """One accuracy less another, 0..1, and both ends of its 95% interval; printed in points of percent."""

    points: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.low:.1f} to {100 * self.high:.1f}"


def difference(
    one: float, other: float, images: int, other_images: int | None = None, picked: int = 1
) -> Difference:
    """`one` less `other`, two accuracies measured once on `images` images, with its 95% interval; `other` on
    `other_images`, where they are not as many.

    Newcombe (1998), method 10: the distances to the ends of both Wilson intervals, by Pythagoras. It takes
    the two for independent. Measured on the same images they are not: what is hard for one network is hard
    for the other, so the true interval is narrower, and this one is on the safe side. As that of wilson(),
    it holds the luck of the images only.

    Where `one` is the best of so many that were `picked` from, it is as much wider as holds the differences
    of all of them at once, in 95 of 100 cases (Dunn 1961, after Bonferroni).
    """
    z = Z95 if picked <= 1 else NormalDist().inv_cdf(1 - 0.025 / picked)
    first, second = wilson(one, images, z), wilson(other, other_images or images, z)
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


LEAST_RUNS = 3  # of two, Student's interval is 12.7 times their half distance: as good as 0-100%


class Spread(NamedTuple):
    """Accuracies of several runs of one training: mean, standard deviation, 95% interval of the mean, and
    the accuracies themselves.

    deviation is None for a single run, interval for fewer than LEAST_RUNS and for equal accuracies: these say
    nothing of it.
    """

    mean: float
    deviation: float | None
    interval: Interval | None
    values: tuple[float, ...] = ()

    @property
    def is_level(self) -> bool:
        """Whether several runs came to the same accuracy: seeds differ by less than an image then, which is
        not by nothing."""
        return len(self.values) > 1 and min(self.values) == max(self.values)


def spread(values: Sequence[float]) -> Spread:
    """Of at least one accuracy, 0..1; the interval of the mean is Student's t (1908), cut to 0..1.

    Equal accuracies have none: of a few hundred images three seeds often get the same number right, and of
    their deviation of 0 Student's interval would be a point.

    Raises statistics.StatisticsError for none.
    """
    mean, runs = fmean(values), len(values)
    deviation = stdev(values) if runs > 1 else None
    if not deviation or runs < LEAST_RUNS:
        return Spread(mean, deviation, None, tuple(values))
    half = student(runs - 1) * deviation / sqrt(runs)
    return Spread(mean, deviation, Interval(max(0.0, mean - half), min(1.0, mean + half)), tuple(values))


def student(freedom: int) -> float:
    """Quantile of Student's t, two-sided 95%, for so many degrees of freedom, at least one."""
    if freedom <= len(T95):
        return T95[freedom - 1]
    z = Z95  # the first terms of Cornish and Fisher's expansion
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def difference_of_means(one: Spread, runs: int, other: Spread, other_runs: int) -> Difference | None:
    """The mean of `runs` accuracies less the mean of `other_runs` others, with Welch's 95% interval (1947).

    It holds the luck of the seeds, and takes the runs for independent. None where one of them has fewer than
    LEAST_RUNS runs, or the runs of both are level: these say too little of their spread.
    """
    if one.deviation is None or other.deviation is None or min(runs, other_runs) < LEAST_RUNS:
        return None
    parts = ((one.deviation**2 / runs, runs), (other.deviation**2 / other_runs, other_runs))
    variance, apart = sum(part for part, _ in parts), one.mean - other.mean
    if not variance:
        return None
    freedom = variance**2 / sum(part**2 / (count - 1) for part, count in parts)
    half = student(max(1, int(freedom))) * sqrt(variance)  # rounded down: on the safe side
    return Difference(apart, max(-1.0, apart - half), min(1.0, apart + half))


def mean_difference(one: Sequence[float], other: Sequence[float]) -> Difference | None:
    """The mean of `one` less `other`, two accuracies of each of the same networks, with Student's 95%
    interval over the networks. None for fewer than LEAST_RUNS networks."""
    apart = [a - b for a, b in zip(one, other, strict=True)]
    if len(apart) < LEAST_RUNS:
        return None
    mean = fmean(apart)
    half = student(len(apart) - 1) * stdev(apart) / sqrt(len(apart))
    return Difference(mean, max(-1.0, mean - half), min(1.0, mean + half))


class Correlation(NamedTuple):
    """Kendall's tau-b of two scores of the same networks, and its 95% interval."""

    tau: float
    interval: Interval
    networks: int


BOOTSTRAPPED = 30  # networks: of more the interval is Fieller's, which is as good then and at once there


def correlation(one: Sequence[float], other: Sequence[float], draws: int = 2000) -> Correlation | None:
    """Kendall's tau-b (1938, 1945) of two scores of the same networks, with its 95% interval.

    1: the same order, 0: none in common, -1: the reverse. None for fewer than four networks, or where one
    score is the same for all. The interval is Efron's percentile bootstrap (1979) over the networks, from a
    fixed seed; for more than BOOTSTRAPPED networks that of Fieller, Hartley and Pearson (1957). Networks that
    are all in one order are so in every draw of a bootstrap: theirs is of_one_order().
    """
    tau = _tau(one, other)
    if tau is None or len(one) < 4:
        return None
    if len(one) > BOOTSTRAPPED:
        return Correlation(tau, _fieller(tau, len(one)), len(one))
    if abs(tau) == 1:
        least = of_one_order(len(set(one)))
        return Correlation(tau, Interval(least, 1.0) if tau > 0 else Interval(-1.0, -least), len(one))
    random, found = Random(0), list[float]()
    for _ in range(draws):
        chosen = random.choices(range(len(one)), k=len(one))
        drawn = _tau([one[i] for i in chosen], [other[i] for i in chosen])
        if drawn is not None:
            found.append(drawn)
    found.sort()
    last = len(found) - 1
    return Correlation(tau, Interval(found[round(0.025 * last)], found[round(0.975 * last)]), len(one))


def of_one_order(networks: int) -> float:
    """The least tau at which two or more networks, none of them level, are all in the same order once in 40
    times: the lower end of a 95% interval, as Clopper and Pearson (1934) have it of n hits in n.

    In the model of Mallows (1957) an order has a chance of q to the power of its pairs that disagree, so the
    one that agrees has 1 / ((1) (1 + q) (1 + q + q^2) ...); the i-th factor also says how many pairs disagree
    on average. Of normally distributed scores the ends are about 0.05 higher.
    """
    low, high = -20.0, 20.0  # of the logarithm of q
    for _ in range(60):
        middle = (low + high) / 2
        chance = -sum(log(sum(exp(middle * j) for j in range(i))) for i in range(1, networks + 1))
        low, high = (middle, high) if chance > log(0.025) else (low, middle)
    powers = [[exp(low * j) for j in range(i)] for i in range(1, networks + 1)]
    disagree = sum(sum(j * power for j, power in enumerate(factor)) / sum(factor) for factor in powers)
    return 1 - 2 * disagree / comb(networks, 2)


def _fieller(tau: float, networks: int) -> Interval:
    """95% of tau: Fisher's z of it has a variance of 0.437 / (networks - 4)."""
    if abs(tau) >= 1:
        return Interval(tau, tau)
    half = Z95 * sqrt(0.437 / (networks - 4))
    return Interval(tanh(atanh(tau) - half), tanh(atanh(tau) + half))


def _tau(one: Sequence[float], other: Sequence[float]) -> float | None:
    """tau-b: agreeing less disagreeing pairs, over the geometric mean of the pairs untied in each score.

    In the order of `one`, each network is met by all that are below it there: those below it in `other` too
    agree with it, those above disagree (Knight 1966).
    """
    agreed, seen = 0, list[float]()
    for _, level in groupby(sorted(zip(one, other, strict=True)), key=lambda pair: pair[0]):
        values = [value for _, value in level]
        for value in values:
            agreed += bisect_left(seen, value) - (len(seen) - bisect_right(seen, value))
        for value in values:
            insort(seen, value)
    untied = [
        comb(len(one), 2) - sum(comb(n, 2) for n in Counter(scores).values()) for scores in (one, other)
    ]
    scale = sqrt(untied[0] * untied[1])
    return agreed / scale if scale else None
