"""What each choice of the search space did to the accuracy of what was trained.

Read from the architectures, not from the sampler's parameters: a kernel that did not fit its map counts as
what was trained. Reads the report's data; returns HTML. Called by search/report/page.py.

The importance of a choice is epsilon squared (T. L. Kelley, An unbiased correlation ratio measure, PNAS 21,
1935): the share of the variance of accuracy that its values explain, taken alone, less what as many values at
random would explain. Choices come together, so shares of several overlap and do not add up.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import isfinite
from statistics import fmean, quantiles

import plotly.graph_objects as go

from search.report.data import ReportData, axis_range, score
from search.report.parts import AMBER, BLUE, GREY, panel, paragraph, section
from space.architecture import Architecture
from storage.row_types import Candidate

MOST_VALUES = 6  # of a number, more are put into ranges
LEAST = 0.01  # of the variance: what explains less has no bar
FEWEST = 8  # networks trained to the end: of fewer nothing is compared
BOXES = 12  # choices with a plot of their own
AXES, LINES = 8, 250  # of the parallel coordinates
HEIGHT, BOX_HEIGHT, PARALLEL_HEIGHT = 420, 250, 430

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


def choices(data: ReportData) -> str:
    """The section; nothing where too few networks were trained to compare."""
    found = varying(data)
    if not found:
        return ""
    said = [
        _importance(found, data),
        f"<h3>Accuracy by choice</h3><p class=reading>{escape(_reading(found))}</p>",
        f"<div class=small-plots>{''.join(_boxes(choice, data) for choice in found[:BOXES])}</div>",
        _parallel(found[:AXES], data),
    ]
    return section("choices", "What each choice did", said)


def varying(data: ReportData) -> list[Choice]:
    """The choices of which networks trained to the end have more than one value, the most telling first."""
    if len(data.completed) < FEWEST:
        return []
    early = early_scores(data)[1]
    found = [_choice(name, value, data, early) for name, value in CHOICES.items()]
    known = [choice for choice in found if choice and len(choice.values) > 1]
    return sorted(known, key=lambda choice: -_weight(choice))


def _weight(choice: Choice) -> float:
    return (choice.importance or 0.0) + (choice.early or 0.0)


def early_scores(data: ReportData) -> tuple[int, dict[int, float]]:
    """The last epoch that all trained networks reached, and their accuracies after it, by number.

    None of them where there is nothing to add: no network was pruned, or curves are missing.
    """
    curves = {row.number: data.epochs.get(row.id, []) for row in data.trained}
    last = min((len(curve) for curve in curves.values()), default=0)
    if not data.pruned or not last:
        return 0, {}
    found = {number: curve[last - 1].validation_accuracy for number, curve in curves.items()}
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
    mean, free = fmean(accuracy for _, accuracy in scores), len(scores) - len(groups)
    total = sum((accuracy - mean) ** 2 for _, accuracy in scores)
    within = sum((accuracy - fmean(group)) ** 2 for group in groups.values() for accuracy in group)
    if total < 1e-12 or free < 1:
        return None
    return max(0.0, 1 - (within / free) / (total / (len(scores) - 1)))


def _importance(found: Sequence[Choice], data: ReportData) -> str:
    shown = [choice for choice in found if _weight(choice) >= LEAST][::-1]
    if not shown:
        return paragraph("taken alone, none of the choices that vary explains the spread of the accuracies")
    epoch, early = early_scores(data)
    figure = go.Figure()
    if early:
        name = f"all {len(early):,} trained, after epoch {epoch}"
        _bars(figure, name, GREY, [(choice.name, choice.early) for choice in shown])
    name = f"the {len(data.completed):,} trained to the end, after epoch {data.config.recipe.epochs}"
    _bars(figure, name, BLUE, [(choice.name, choice.importance) for choice in shown])
    longest = 100 * max(max(choice.importance or 0.0, choice.early or 0.0) for choice in shown)
    figure.update_xaxes(title="share of the variance, %", range=[0, 1.15 * longest])
    figure.update_layout(bargap=0.25, legend_traceorder="reversed")
    reading = (
        "How much of the spread of the accuracies each choice explains when it is taken alone (epsilon"
        " squared: less what chance explains). Choices come together, so shares overlap and do not add up."
    )
    if early:
        reading += " Pruned networks are in the grey bars alone, which favour what learns fast."
    if len(shown) < len(found):
        reading += f" {len(found) - len(shown)} more choices explain nothing to speak of."
    return panel("Which choices matter", reading, figure, 120 + 32 * len(shown))


def _bars(figure: go.Figure, name: str, colour: str, shares: Sequence[tuple[str, float | None]]) -> None:
    figure.add_bar(
        x=[round(100 * (share or 0.0), 1) for _, share in shares],
        y=[choice for choice, _ in shares],
        orientation="h",
        name=name,
        marker={"color": colour},
        text=[f"{100 * (share or 0.0):.0f}%" for _, share in shares],
        textposition="outside",
        cliponaxis=False,
        hovertemplate="%{y}: %{x:.1f}%<extra></extra>",
    )


def _reading(found: Sequence[Choice]) -> str:
    more = f" The {BOXES} that explain most are shown." if len(found) > BOXES else ""
    return (
        "A box holds the middle half of the networks trained to the end with that value, its line their"
        " median, the whiskers all of them; the axis begins below the lowest box. Under it, how many there"
        " are and, where there is room, what share of all with that value was pruned: what is often pruned"
        f" shows its better part.{more}"
    )


def _boxes(choice: Choice, data: ReportData) -> str:
    groups, pruned = _grouped(choice, data.completed), _grouped(choice, data.pruned)
    shown = [i for i in range(len(choice.values)) if groups.get(i)]
    spread = [_five(groups[i]) for i in shown]
    room = len(shown) <= 4
    labels = [_label(choice.values[i], len(groups[i]), len(pruned.get(i, [])), room) for i in shown]
    figure = go.Figure(
        go.Box(
            x=labels,
            lowerfence=[found[0] for found in spread],
            q1=[found[1] for found in spread],
            median=[found[2] for found in spread],
            q3=[found[3] for found in spread],
            upperfence=[found[4] for found in spread],
            marker={"color": BLUE},
            line={"width": 1.5},
            name="",
            showlegend=False,
        )
    )
    lowest = [value for found in spread for value in found[1:]]
    figure.update_yaxes(title="", range=axis_range([value / 100 for value in lowest]))
    figure.update_xaxes(type="category", tickangle=0, tickfont_size=10)
    return panel(choice.name, "", figure, BOX_HEIGHT)


def _grouped(choice: Choice, rows: Sequence[Candidate]) -> dict[int, list[float]]:
    found = dict[int, list[float]]()
    for row in rows:
        found.setdefault(choice.of[row.number], []).append(100 * score(row))
    return found


def _five(values: Sequence[float]) -> list[float]:
    """Least, quartiles and greatest."""
    if len(values) == 1:
        return [round(values[0], 2)] * 5
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return [round(value, 2) for value in (min(values), low, middle, high, max(values))]


def _label(value: str, completed: int, pruned: int, room: bool) -> str:
    share = f"<br>{100 * pruned / (completed + pruned):.0f}% pruned" if pruned and room else ""
    return f"{escape(value)}<br>n={completed:,}{share}"


def _parallel(found: Sequence[Choice], data: ReportData) -> str:
    """Lines through the values of each choice: as lines, since Plotly's own need WebGL, and no printer."""
    tenth = max(1, len(data.completed) // 10)
    best, rest = data.completed[:tenth], data.completed[tenth:]
    rest = rest[:: max(1, len(rest) // LINES)]
    figure = go.Figure()
    for rows, name, colour, opacity in (
        (rest, "the others", GREY, 0.25),
        (best[:60], f"the best {tenth:,}", AMBER, 0.8),
    ):
        x, y, numbers = list[float | None](), list[float | None](), list[int]()
        for i, row in enumerate(rows):
            x += [*range(len(found)), None]
            y += [*(_height(choice, row, i, len(rows)) for choice in found), None]
            numbers += [row.number] * (len(found) + 1)
        figure.add_scatter(
            x=x, y=y, customdata=numbers, mode="lines", line={"color": colour, "width": 1.2}, opacity=opacity,
            name=name, hovertemplate="trial %{customdata}<extra></extra>",
        )  # fmt: skip
    places = [(i, j, value) for i, choice in enumerate(found) for j, value in enumerate(choice.values)]
    figure.add_scatter(
        x=[i for i, _, _ in places],
        y=[_level(j, len(found[i].values)) for i, j, _ in places],
        text=[f"<b>{escape(value)}</b>" for _, _, value in places],
        mode="text", textposition="middle right", hoverinfo="skip", showlegend=False, cliponaxis=False,
    )  # fmt: skip
    figure.update_xaxes(
        tickvals=list(range(len(found))), ticktext=[choice.name.replace(" ", "<br>", 1) for choice in found],
        range=[-0.15, len(found) - 0.3], tickangle=0,
    )  # fmt: skip
    figure.update_yaxes(visible=False, range=[-0.08, 1.08])
    reading = (
        "Each line is a network trained to the end, through its value of each choice; where the lines of the"
        " best run together, they agree."
    )
    return panel("The best and the others", reading, figure, PARALLEL_HEIGHT, wide=True)


def _level(value: int, values: int) -> float:
    return value / (values - 1) if values > 1 else 0.5


def _height(choice: Choice, row: Candidate, place: int, rows: int) -> float:
    """Where a line crosses an axis: at its value, a little apart from the others with the same."""
    apart = 0.5 * (place / max(1, rows - 1) - 0.5) / max(1, len(choice.values) - 1)
    return round(_level(choice.of[row.number], len(choice.values)) + 0.3 * apart, 4)
