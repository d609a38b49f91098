"""The choices that a network is made of, and how much of the accuracy each explains.

Read from the architectures, not from the sampler's parameters: a kernel that did not fit its map counts as
what was trained. Reads the report's data; returns values. Called by search/report/choice_plots.py.

The importance of a choice is epsilon squared (T. L. Kelley, An unbiased correlation ratio measure, PNAS 21,
1935): the share of the variance of accuracy that its values explain, taken alone, less what as many values at
random would explain. Choices come together, so shares of several overlap and do not add up. The largest of
many shares is large by chance where networks are few: by_chance() says how large, by permutation (P. H.
Westfall and S. S. Young, Resampling-based multiple testing, 1993).
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from random import Random
from statistics import fmean, quantiles

from search.report.data import ReportData, score
from space.architecture import Architecture

MOST_VALUES = 6  # of a number, more are put into ranges
FEWEST = 8  # networks trained to the end: of fewer nothing is compared
SHUFFLES, SHUFFLED = 199, 500  # permutations, and networks at most: of more chance explains two percent

Value = float | str


def _uniform(values: Sequence[Value]) -> Value:
    """What all stages have, or that they differ."""
    return values[0] if len(set(values)) == 1 else "mixed"


CHOICES: dict[str, Callable[[Architecture], Value]] = {
    "stages": lambda n: len(n.stages),
    "blocks in all": lambda n: sum(stage.blocks for stage in n.stages),
    "width of the first stage": lambda n: n.stages[0].width,
    "kernel": lambda n: _uniform([stage.kernel for stage in n.stages]),
    "block kind": lambda n: n.block.kind,
    "pool": lambda n: f"{n.pool.kind} {n.pool.output or f'of {n.pool.kernel}'}",
    "width of the last stage": lambda n: n.stages[-1].width,
    "widening from first to last": lambda n: round(n.stages[-1].width / n.stages[0].width, 1),
    "growth of width": lambda n: str(_uniform([stage.growth for stage in n.stages])),
    "stride of the first stages": lambda n: "-".join(str(stage.stride) for stage in n.stages[:2]),
    "stem width": lambda n: n.stem.width,
    "stem kernel": lambda n: n.stem.kernel,
    "map after the stem": lambda n: n.maps[0],
    "last map": lambda n: n.maps[-1],
    "convolutions a block": lambda n: len(n.block.branch(8, 8, 3, 1)),
    "expansion": lambda n: n.block.expansion or 0 if n.block.kind != "basic" else "none",
    "groups": lambda n: n.block.groups,
    "shortcuts": lambda n: n.block.shortcut if n.block.residual else "none",
    "shortcut kernel": lambda n: _uniform([stage.shortcut_kernel for stage in n.stages]),
    "activation": lambda n: n.activation.replace("_", " "),
    "preactivation": lambda n: "yes" if n.block.preactivation else "no",
    "squeeze-and-excitation": lambda n: (
        "blocks" if n.block.squeeze_excitation else "stem" if n.stem.squeeze_excitation else "none"
    ),
    "dropout in blocks": lambda n: n.block.dropout,
    "head": lambda n: (
        "softmax" if n.head.softmax else "hidden" if n.head.hidden else "tail" if n.tail else "linear"
    ),
    "dropout in the head": lambda n: n.head.dropout,
}


@dataclass(frozen=True)
class Choice:
    """A choice that varies: its values in order, and which of them each trial has (an index), by number."""

    name: str
    values: tuple[str, ...]
    of: Mapping[int, int]
    importance: float | None  # epsilon squared, 0..1; None where accuracies are all alike
    early: float | None  # the same of all that were trained, after the epoch that all of them reached


def varying(data: ReportData) -> list[Choice]:
    """The choices of which networks trained to the end have more than one value, the most telling first."""
    if len(data.completed) < FEWEST:
        return []
    early = early_scores(data)[1]
    found = [_choice(name, value, data, early) for name, value in CHOICES.items()]
    known = [choice for choice in found if choice and len(choice.values) > 1]
    return sorted(known, key=lambda choice: -weight(choice))


def _squares(values: Sequence[float]) -> float:
    """The sum of the squared distances from their mean."""
    mean = fmean(values)
    return sum((value - mean) ** 2 for value in values)


def weight(choice: Choice) -> float:
    """What choices are sorted by: what it explains of final and of early accuracies."""
    return (choice.importance or 0.0) + (choice.early or 0.0)


def early_scores(data: ReportData) -> tuple[int, dict[int, float]]:
    """The last epoch that all trained networks reached, and their accuracies after it, by number.

    None of them where there is nothing to add: no network was pruned, or curves are missing.
    """
    curves = {row.number: data.epochs.get(row.id, []) for row in data.trained}
    last = min((len(curve) for curve in curves.values()), default=0)
    if not data.pruned or not last:
        return 0, {}
    found = {number: curve[last - 1].value for number, curve in curves.items()}
    return last, {number: value for number, value in found.items() if isfinite(value)}


def _choice(
    name: str, value: Callable[[Architecture], Value], data: ReportData, early: Mapping[int, float]
) -> Choice | None:
    completed = {row.number for row in data.completed}
    raw = {number: value(network) for number, network in data.networks.items()}
    ordered = _ranges(raw, completed)
    names = tuple(dict.fromkeys(label for _, label in sorted(set(ordered.values()))))
    of = {number: names.index(label) for number, (_, label) in ordered.items()}
    if len({of[number] for number in completed}) < 2:
        return None
    return Choice(
        name,
        names,
        of,
        importance=epsilon_squared([(of[row.number], score(row)) for row in data.completed]),
        early=epsilon_squared([(of[number], value) for number, value in early.items()]),
    )


def _ranges(raw: Mapping[int, Value], completed: set[int]) -> dict[int, tuple[float, str]]:
    """Each value with a number to sort by; numbers of many values in four ranges of about as many trials."""
    if any(isinstance(value, str) for value in raw.values()):
        order = {value: i for i, value in enumerate(sorted(set(raw.values()), key=_sortable))}
        return {number: (order[value], _text(value)) for number, value in raw.items()}
    numbers = {number: float(value) for number, value in raw.items()}
    if len(set(numbers.values())) <= MOST_VALUES:
        return {number: (value, _text(value)) for number, value in numbers.items()}
    known = [numbers[number] for number in completed]
    cuts = sorted(set(quantiles(known, n=4)))
    spans = {number: sum(value > cut for cut in cuts) for number, value in numbers.items()}
    labels = dict[int, str]()
    for span in set(spans.values()):
        inside = [numbers[number] for number in spans if spans[number] == span]
        low, high = min(inside), max(inside)
        labels[span] = _text(low) if low == high else f"{_text(low)}–{_text(high)}"
    return {number: (span, labels[span]) for number, span in spans.items()}


def _sortable(value: Value) -> tuple[bool, float, str]:
    return (False, value, "") if not isinstance(value, str) else (True, 0.0, value)


def _text(value: Value) -> str:
    return value if isinstance(value, str) else f"{value:,.10g}"


def epsilon_squared(scores: Sequence[tuple[int, float]]) -> float | None:
    """Of values and accuracies; 0 for no more than chance, 1 where the value says it all (Kelley 1935).

    None where it says nothing: no trials, accuracies all alike, or as many values as trials.
    """
    if not scores:
        return None
    groups = dict[int, list[float]]()
    for value, accuracy in scores:
        groups.setdefault(value, []).append(accuracy)
    total, free = _squares([accuracy for _, accuracy in scores]), len(scores) - len(groups)
    within = sum(_squares(group) for group in groups.values())
    if total < 1e-12 or free < 1:
        return None
    return max(0.0, 1 - (within / free) / (total / (len(scores) - 1)))


def by_chance(found: Sequence[Choice], data: ReportData) -> float | None:
    """What the largest importance of these choices stays below in 95 of 100 cases where the accuracies of the
    networks trained to the end are dealt to them at random, from a fixed seed.

    None where accuracies are all alike, and of more than SHUFFLED networks.
    """
    scores = [score(row) for row in data.completed]
    total, mean = _squares(scores) if scores else 0.0, fmean(scores or [0.0])
    if total < 1e-12 or len(scores) > SHUFFLED:
        return None
    values = [[choice.of[row.number] for row in data.completed] for choice in found]
    random, dealt = Random(0), [value - mean for value in scores]
    largest = list[float]()
    for _ in range(SHUFFLES):
        random.shuffle(dealt)
        largest.append(max((_explained(each, dealt, total) for each in values), default=0.0))
    return sorted(largest)[round(0.95 * (SHUFFLES + 1)) - 1]


def _explained(values: Sequence[int], centred: Sequence[float], total: float) -> float:
    """Epsilon squared, from accuracies less their mean and the sum of their squares."""
    counts, sums = Counter(values), dict[int, float]()
    for value, accuracy in zip(values, centred, strict=True):
        sums[value] = sums.get(value, 0.0) + accuracy
    free = len(values) - len(counts)
    if free < 1:
        return 0.0
    within = total - sum(part**2 / counts[value] for value, part in sums.items())
    return max(0.0, 1 - (within / free) / (total / (len(values) - 1)))
