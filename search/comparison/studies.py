"""Two or more searches beside each other: how good the best was at equal cost, and what else differs.

Computes from configurations and rows of the ledger; reads and writes nothing. Called by
search/commands/compare.py; search/report/compare.py draws it.

A search is taken in the order in which its trials ended. What it has cost by then is the number of networks
trained (to the end, or pruned), the images trained on (epochs times training images) and the seconds that
devices were busy, of all trials that ended for good. Attempts that were lost or told to end are in none of
them: another attempt goes on from where they were, or begins anew where their checkpoint lies on another
machine, and only its own cost counts. Its best is the network with the highest score among those
trained to the end, as in `search best`.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import combinations
from string import ascii_uppercase
from typing import Self

from search.comparison import comparability
from search.comparison.comparability import DifferingSetting, Settings
from search.study import halving, statistics
from search.study.config import StudyConfig
from search.study.second_stage import Finalist, SecondStage
from search.study.statistics import Correlation, Difference, Spread
from space.errors import NothingTrainedError
from storage.row_types import INTERRUPTED, TRAINED, Candidate, State
from storage.studies import Study

UNFINISHED = INTERRUPTED | {State.RUNNING}
DRAWS = 500  # of the bootstrap of a correlation: there may be one for each of 28 pairs


class Axis(StrEnum):
    """What a search has cost, by which two of them are made equal."""

    TRIALS = "trials"
    IMAGES = "images"
    SECONDS = "seconds"


@dataclass(frozen=True)
class Step:
    """A search once one more of its trials had ended: what all so far have cost, and the best of them."""

    trials: int
    images: int
    seconds: float  # of devices
    best: Candidate | None  # None before a network was trained to the end

    def cost(self, axis: Axis) -> float:
        """What was spent by then."""
        return float(getattr(self, axis.value))


def steps_of(rows: Iterable[Candidate], train_images: int) -> tuple[Step, ...]:
    """One for each trial that ended for good and has cost something, in the order of their ends."""
    ended = [row for row in rows if row.state in TRAINED or (row.seconds and row.state not in UNFINISHED)]
    ended.sort(key=lambda row: (row.finished_at or row.proposed_at, row.number))
    steps, at = list[Step](), Step(0, 0, 0.0, None)
    for row in ended:
        at = Step(
            at.trials + (row.state in TRAINED),
            at.images + (row.epochs or 0) * train_images,
            at.seconds + (row.seconds or 0.0),
            _better(at.best, row),
        )
        steps.append(at)
    return tuple(steps)


def _better(best: Candidate | None, row: Candidate) -> Candidate | None:
    """Of two networks, with the order of `search best`: accuracy, of equals the smaller."""
    if not halving.has_score(row):
        return best
    return row if best is None or _rank(row) < _rank(best) else best


def _rank(row: Candidate) -> tuple[float, int, int]:
    return -halving.score(row), row.parameters, row.number


@dataclass(frozen=True)
class ComparedStudy:
    """One of the searches. `label` is what lines and axes call it: A, B, C..."""

    label: str
    name: str
    config: StudyConfig
    settings: Settings
    trained: Mapping[str, Candidate]  # by fingerprint: to the end, or pruned while training
    steps: tuple[Step, ...]
    winner: Finalist | None  # of the finals; None before they are over, and in a search without
    has_finals: bool

    @classmethod
    def from_rows(
        cls,
        label: str,
        record: Study,
        config: StudyConfig,
        rows: Sequence[Candidate],
        second: SecondStage | None,
    ) -> Self:
        """A study by its rows. Raises NothingTrainedError where no network was trained."""
        trained = {row.fingerprint: row for row in rows if row.state in TRAINED}
        if not trained:
            raise NothingTrainedError(f"study {record.name!r}: nothing was trained yet")
        finalists = second.finalists if second and second.is_over else []
        return cls(
            label=label,
            name=record.name,
            config=config,
            settings=comparability.settings_of(record, config, trained.values()),
            trained=trained,
            steps=steps_of(rows, config.data.train_images),
            winner=finalists[0] if finalists else None,
            has_finals=second is not None,
        )

    @property
    def images(self) -> int:
        """How many it was validated on."""
        return self.config.data.validation_images

    @property
    def total(self) -> Step:
        """All that it has cost, and the best of all."""
        return self.steps[-1]

    @property
    def completed(self) -> dict[str, Candidate]:
        """The networks that were trained to the end, by fingerprint."""
        return {mark: row for mark, row in self.trained.items() if halving.has_score(row)}

    @cached_property
    def curve(self) -> tuple[Step, ...]:
        """The steps in which the best became better: the best-so-far curve is flat between them."""
        found = list[Step]()
        for step in self.steps:
            if step.best and (not found or found[-1].best is not step.best):
                found.append(step)
        return tuple(found)

    def best_within(self, axis: Axis, limit: float) -> Candidate | None:
        """The best of what it had come to for so much."""
        place = bisect_right(self.steps, limit, key=lambda step: step.cost(axis))
        return self.steps[place - 1].best if place else None


@dataclass(frozen=True)
class SharedNetworks:
    """Networks that two studies have both trained; those trained to the end in both have two scores, which
    are accuracies here, whatever is maximised."""

    trained: int
    scores: tuple[tuple[Candidate, Candidate], ...]
    difference: Difference | None  # the mean over networks; None for fewer than three
    correlation: Correlation | None  # None for fewer than four


@dataclass(frozen=True)
class FinalLead:
    """Winner of the finals of one study less that of another, by their means over seeds.

    `reasons`: why they are not comparable; then there are no points. `interval` is Welch's; None where a
    winner had fewer than three seeds, and where all seeds of each were equal.
    """

    reasons: tuple[str, ...]
    points: float | None
    interval: Difference | None


@dataclass(frozen=True)
class Pair:
    """Two of the studies. Differences are of `one` less `other`.

    `reasons` are why brief scores are not comparable. `leads` has an entry for each axis on which both had a
    network that was trained to the end by the limit; it is empty where there are reasons. `leads` are of
    accuracy, `gaps` of what both searches maximise, by which their bests are the best.
    """

    one: ComparedStudy
    other: ComparedStudy
    reasons: tuple[str, ...]
    leads: Mapping[Axis, Difference]
    gaps: Mapping[Axis, float]
    shared: SharedNetworks
    finals: FinalLead | None  # on validation images; None where one of them has no winner of finals
    tests: FinalLead | None  # the same on test images; None where one of them was not tested

    @property
    def validated_alike(self) -> bool:
        """Whether both were validated on the same images: intervals of differences are then wider than they
        need be."""
        return comparability.validated_alike(self.one.settings, self.other.settings)


@dataclass(frozen=True)
class Comparison:
    """The studies, what is equal, every pair, and the settings that differ."""

    studies: tuple[ComparedStudy, ...]
    limits: Mapping[Axis, float]  # the smallest total that any of them reached
    pairs: tuple[Pair, ...]
    differing: tuple[DifferingSetting, ...]

    def best(self, study: ComparedStudy, axis: Axis) -> Candidate | None:
        """The best of a study at the equal amount."""
        return study.best_within(axis, self.limits[axis])


def compare(studies: Sequence[ComparedStudy]) -> Comparison:
    """Of two studies or more; the limits are the same for every pair."""
    limits = {axis: min(study.total.cost(axis) for study in studies) for axis in Axis}
    return Comparison(
        studies=tuple(studies),
        limits=limits,
        pairs=tuple(_pair(one, other, limits) for one, other in combinations(studies, 2)),
        differing=comparability.differing([study.settings for study in studies]),
    )


def labels(number: int) -> str:
    """A letter for each of so many studies."""
    return ascii_uppercase[:number]


def _pair(one: ComparedStudy, other: ComparedStudy, limits: Mapping[Axis, float]) -> Pair:
    reasons = comparability.of_brief_scores(one.settings, other.settings)
    leads, gaps = dict[Axis, Difference](), dict[Axis, float]()
    for axis in Axis if not reasons else ():
        first, second = one.best_within(axis, limits[axis]), other.best_within(axis, limits[axis])
        if first and second:
            accuracies = first.accuracy or 0.0, second.accuracy or 0.0
            leads[axis] = statistics.difference(*accuracies, one.images, other.images)
            gaps[axis] = halving.score(first) - halving.score(second)
    finals, tests = _finals(one, other)
    return Pair(one, other, reasons, leads, gaps, _shared(one, other), finals, tests)


def _shared(one: ComparedStudy, other: ComparedStudy) -> SharedNetworks:
    here, there = one.completed, other.completed
    both = tuple((here[mark], there[mark]) for mark in here if mark in there)
    first, second = ([pair[i].accuracy or 0.0 for pair in both] for i in (0, 1))
    return SharedNetworks(
        trained=len(one.trained.keys() & other.trained.keys()),
        scores=both,
        difference=statistics.mean_difference(first, second),
        correlation=statistics.correlation(first, second, DRAWS),
    )


def _finals(one: ComparedStudy, other: ComparedStudy) -> tuple[FinalLead | None, FinalLead | None]:
    """On validation images and on test images."""
    first, second = one.winner, other.winner
    if first is None or second is None:
        return None, None
    reasons = comparability.of_finals(one.settings, other.settings)
    validation = _final(reasons, first.validation, second.validation)
    if first.test is None or second.test is None:
        return validation, None
    reasons = comparability.of_tests(_tested(one, first), _tested(other, second))
    return validation, _final(reasons, first.test, second.test)


def _tested(study: ComparedStudy, winner: Finalist) -> Settings:
    """The settings of a study with the test images that its winner was tested on."""
    found = {"data.test_digest": winner.test_digest, comparability.TEST_IMAGES: winner.test_images}
    return {**study.settings, **found}


def _final(reasons: tuple[str, ...], one: Spread, other: Spread) -> FinalLead:
    if reasons:
        return FinalLead(reasons, None, None)
    interval = statistics.difference_of_means(one, len(one.values), other, len(other.values))
    return FinalLead((), one.mean - other.mean, interval)
