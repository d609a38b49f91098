"""Which values of which knobs stand in the networks that miss the budget more often than elsewhere.

Numbers of many values count in thirds, as they were drawn. It knows no network: only answers and whether
each was a miss; asked of those that fit instead, it says which values a network that fits has.
"""

import bisect
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

MANY = 8  # numbers of more values are cut into thirds
ENOUGH, LEAST_SHARE = 30, 0.2  # misses, and their share of all misses
LEAST_LIFT = 1.05  # below it a value says nothing: where nearly all miss, so do nearly all of its networks
CERTAIN = 4.0  # standard errors by which a value's misses exceed those of the knob's other values


@dataclass(frozen=True)
class OverRepresented:
    """A knob's value, with its share of the misses and of all draws (0 to 1)."""

    knob: str
    value: str
    of_misses: float
    of_draws: float

    @property
    def lift(self) -> float:
        return self.of_misses / self.of_draws


def over_represented(
    answers: Sequence[Mapping[str, Any]], misses: Sequence[bool], most: int = 5
) -> list[OverRepresented]:
    """The values of highest lift among those that stand in a fifth of the misses at least.

    A value must miss more often than the knob's other values do: the knobs of stage 4 stand in deep networks
    alone, and all their values would be blamed for the depth.
    """
    drawn: dict[str, list[tuple[Any, bool]]] = defaultdict(list)
    for answer, missed in zip(answers, misses, strict=True):
        for name, value in answer.items():
            drawn[name].append((value, missed))
    found = [cause for name in drawn for cause in _of_knob(name, drawn[name], len(answers), sum(misses))]
    return sorted(
        (cause for cause in found if cause.lift >= LEAST_LIFT), key=lambda cause: cause.lift, reverse=True
    )[:most]


def _of_knob(name: str, drawn: list[tuple[Any, bool]], draws: int, missed: int) -> list[OverRepresented]:
    label = _labels([value for value, _ in drawn])
    seen: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for value, miss in drawn:
        counts = seen[label(value)]
        counts[0] += 1
        counts[1] += miss
    return [
        OverRepresented(name, text, bad / missed, count / draws)
        for text, (count, bad) in seen.items()
        if bad >= max(ENOUGH, LEAST_SHARE * missed)
        and _is_worse(bad, count, sum(miss for _, miss in drawn) - bad, len(drawn) - count)
    ]


def _is_worse(bad: int, count: int, others_bad: int, others: int) -> bool:
    """Whether `bad` of `count` is certainly more than `others_bad` of `others`; a test of two shares."""
    if not others:
        return False
    pooled = (bad + others_bad) / (count + others)
    error = sqrt(pooled * (1 - pooled) * (1 / count + 1 / others))
    return bad / count - others_bad / others > CERTAIN * error


def _labels(values: list[Any]) -> Callable[[Any], str]:
    """What a value is called: itself, or the third of all draws in which it lies."""
    different = set(values)
    if len(different) <= MANY or not all(type(value) in (int, float) for value in different):
        return str
    ordered = sorted(values)
    cuts = [ordered[len(ordered) // 3], ordered[2 * len(ordered) // 3]]
    parts: list[list[Any]] = [[], [], []]
    for value in ordered:
        parts[bisect.bisect_right(cuts, value)].append(value)
    names = [f"{_short(part[0])} to {_short(part[-1])}" if part else "" for part in parts]
    return lambda value: names[bisect.bisect_right(cuts, value)]


def _short(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.2f}"
