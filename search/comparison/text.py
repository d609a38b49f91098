"""What a comparison of searches says in words: who is ahead at equal cost, what the scores of shared networks
say, and what must be known to read either.

Reads a Comparison; returns lines. Called by search/commands/compare.py and search/report/compare.py.
"""

from collections.abc import Sequence

from search.comparison import comparability
from search.comparison.studies import Axis, ComparedStudy, Comparison, FinalLead, Pair
from search.study.finish_plan import duration
from search.study.score import WORDS
from search.study.statistics import LEAST_RUNS, Difference
from search.study.text import counted

LEAST = 0.00005  # a difference of accuracies that is not 0.00 points


def amount(axis: Axis, value: float) -> str:
    """So much of what a search costs: 120 trials, 43.2M images, 2 h 10 min."""
    if axis == Axis.TRIALS:
        return counted(int(value), "trial")
    if axis == Axis.SECONDS:
        return duration(value)
    for scale, unit in ((1e9, "G"), (1e6, "M")):
        if value >= scale:
            return f"{value / scale:.1f}{unit} images"
    return counted(int(value), "image")


def totals(study: ComparedStudy) -> str:
    """What a study has cost in all."""
    return ", ".join(amount(axis, study.total.cost(axis)) for axis in Axis) + " of device time"


def about(study: ComparedStudy) -> str:
    """Name, data and cost in one line."""
    data, epochs = study.config.data, study.config.recipe.epochs
    return (
        f"{study.label}  {study.name}: {data.name}, {counted(epochs, 'epoch')},"
        f" {data.validation_images:,} validation images; {totals(study)}"
    )


def points(value: float) -> str:
    """A difference of two accuracies without its sign, in points of percent."""
    digits = 1 if abs(value) >= 0.0005 or not value else 2
    return f"{100 * abs(value):.{digits}f} points"


def ends(found: Difference) -> str:
    """Both ends of its interval in points; one beside zero with two digits, so that its sign is seen."""
    low, high = (f"{100 * end:.{1 if abs(end) >= 0.0005 or not end else 2}f}" for end in found[1:])
    return f"{low} to {high}"


def verdict(found: Difference) -> str:
    """ahead or behind where the interval leaves no doubt of it, else not clear."""
    return "ahead" if found.low > 0 else "behind" if found.high < 0 else "not clear"


def lead(found: Difference, one: str, other: str) -> str:
    """A difference of the bests in words."""
    if found.points < 0:
        found, one, other = Difference(-found.points, -found.high, -found.low), other, one
    ahead = found.points >= LEAST
    who = f"{one} is ahead by {points(found.points)}" if ahead else f"{one} and {other} are level"
    return f"{who}, 95% {ends(found)}: {'clear' if found.low > 0 else 'not clear'}"


def gap(value: float, one: ComparedStudy) -> str:
    """A difference of what both searches maximise, `one` less the other, which has no interval."""
    where = (
        "as high as" if abs(value) < LEAST else f"{points(value)} {'higher' if value > 0 else 'lower'} than"
    )
    return f"{one.label} has a {WORDS[one.config.score]} {where} the other"


def standing(found: Comparison, pair: Pair) -> list[str]:
    """All that is known of two studies, a line each: of their finals, at equal cost, of what they share.

    Finals come first: they are what a search ends with, brief scores only rank.
    """
    costs = {axis: amount(axis, found.limits[axis]) for axis in Axis}
    costs[Axis.SECONDS] += " of device time"
    lines = [f"at {costs[axis]}: {at_equal(found, pair, axis)}" for axis in Axis]
    return [
        *finals(pair),
        *([not_comparable(pair)] if pair.reasons else lines),
        shared(pair),
    ]


def at_equal(found: Comparison, pair: Pair, axis: Axis) -> str:
    """How the bests of two studies stand at the equal amount, in words."""
    one, other = pair.one, pair.other
    without = [study.label for study in (one, other) if found.best(study, axis) is None]
    if len(without) == 2:
        return f"neither {one.label} nor {other.label} had trained a network to the end by then"
    if without:
        return f"{without[0]} had not trained a network to the end by then"
    if pair.reasons:
        return not_comparable(pair)
    best, rival = found.best(one, axis), found.best(other, axis)
    same = "; it is the same network" if best and rival and best.fingerprint == rival.fingerprint else ""
    said = lead(pair.leads[axis], one.label, other.label)
    if one.config.score != "accuracy":
        said = f"{gap(pair.gaps[axis], one)}; of accuracy, {said}"
    return said + same


def not_comparable(pair: Pair) -> str:
    """Why no brief scores are compared."""
    return _not_comparable([pair], pair.reasons)


def _not_comparable(pairs: Sequence[Pair], reasons: Sequence[str]) -> str:
    named = ", ".join(f"{pair.one.label} and {pair.other.label}" for pair in pairs)
    return f"the brief scores of {named} are not comparable: {'; '.join(reasons)}"


def finals(pair: Pair) -> list[str]:
    """How the winners of the finals stand, on validation and on test images; nothing where one has none."""
    winners = [study.winner for study in (pair.one, pair.other) if study.winner]
    said = list[str]()
    if pair.finals:
        said.append(f"winners of the finals: {_final(pair.finals, pair, [one.seeds for one in winners])}")
    if pair.tests:
        tested = [one.tested_seeds for one in winners]
        said.append(f"the same on test images: {_final(pair.tests, pair, tested)}")
    return said


def _final(found: FinalLead, pair: Pair, numbers: Sequence[int]) -> str:
    """A lead in words; `numbers`: of the seeds that each mean is of."""
    one, other = pair.one, pair.other
    if found.points is None:
        return f"not comparable: {'; '.join(found.reasons)}"
    seeds = [counted(number, "seed") for number in numbers]
    over = f"over {seeds[0]}" if seeds[0] == seeds[1] else f"over {' and '.join(seeds)}"
    if found.interval:
        return f"{over} {lead(found.interval, one.label, other.label)}"
    if not found.points:
        return f"{over} {one.label} and {other.label} are level: not clear"
    ahead = one.label if found.points > 0 else other.label
    few = min(numbers) < LEAST_RUNS
    why = f"{'fewer than three' if few else 'equal'} seeds give no useful interval"
    return f"{over} {ahead} is ahead by {points(found.points)}: not clear, {why}"


def shared(pair: Pair) -> str:
    """The networks that two studies have both trained, and what their scores say of each other."""
    found, one, other = pair.shared, pair.one.label, pair.other.label
    if not found.trained:
        return f"no network was trained in both {one} and {other}"
    said = f"{counted(found.trained, 'network')} trained in both {one} and {other}"
    said += f", {len(found.scores):,} of them to the end in both"
    if found.difference:
        if found.difference.low == found.difference.high == 0:
            said += ": the same scores"
        else:
            apart = found.difference
            first, second = one, other
            if apart.points < 0:
                first, second, apart = other, one, Difference(-apart.points, -apart.high, -apart.low)
            higher = f"{points(apart.points)} higher than" if apart.points >= LEAST else "as high as"
            said += f": on average {first} scores them {higher} {second} (95% over networks {ends(apart)})"
    if found.correlation:
        low, high = found.correlation.interval
        said += f"; Kendall's tau of the scores {found.correlation.tau:.2f} (95% {low:.2f} to {high:.2f})"
    return said


def warnings(found: Comparison) -> list[str]:
    """What forbids to compare, each in a line, the plainest first."""
    apart = [pair for pair in found.pairs if pair.reasons]
    alike = {reasons: [pair for pair in apart if pair.reasons == reasons] for reasons in
             dict.fromkeys(pair.reasons for pair in apart)}  # fmt: skip
    lines = [_not_comparable(pairs, reasons) for reasons, pairs in alike.items()]
    ran_on = dict.fromkeys(comparability.shown(study.settings["devices"]) for study in found.studies)
    if len(ran_on) > 1:
        lines.append(f"they ran on other devices ({'; '.join(ran_on)}): equal device time is not equal work")
    for study in found.studies:
        if not study.completed:
            lines.append(f"{study.label} has trained no network to the end: it has pruned all of them")
    return lines


def notes(found: Comparison) -> list[str]:
    """How to read the figures, each in a line."""
    lines = [
        "Equal means: up to the smallest total that any of them reached. Intervals are 95%, and hold the luck"
        " of the validation images alone: not that of the seeds, nor that of having run each search once."
    ]
    if any(pair.validated_alike for pair in found.pairs if pair.leads):
        lines.append(
            "Differences take both scores for independent; on the same validation images they are not, and"
            " the true interval is narrower (Newcombe 1998)."
        )
    if scored := dict.fromkeys(
        WORDS[study.config.score] for study in found.studies if study.config.score != "accuracy"
    ):
        lines.append(
            f"The best is that by {' or '.join(scored)} where a search maximises it; figures, curves and"
            " intervals are of its accuracy."
        )
    if len(found.pairs) > 1:
        lines.append(
            f"Each of {len(found.pairs)} pairs has an interval of its own: the more pairs, the more likely"
            " one of them looks clear by luck."
        )
    if any(pair.finals for pair in found.pairs):
        lines.append("Intervals of winners of finals are over seeds (Student; differences Welch 1947).")
    return lines
