"""What each choice of the search space did to the accuracy of what was trained, in plots.

Makes the figures of the report's data; parts.py draws them, as those of every section. Called by
search/report/page.py. Which choices there are, and what they explain, search/report/choices.py says.
"""

from collections.abc import Sequence
from html import escape
from statistics import quantiles

import plotly.graph_objects as go

from search.report.choices import Choice, by_chance, early_scores, varying, weight
from search.report.data import ReportData, axis_range, score
from search.report.parts import AMBER, BLUE, GREY, panel, paragraph, section
from storage.row_types import Candidate

LEAST = 0.01  # of the variance: what explains less has no bar
BOXES = 12  # choices with a plot of their own
AXES, LINES, BEST = 8, 250, 60  # of the parallel coordinates: axes, and lines of the others and of the best
BOX_HEIGHT, PARALLEL_HEIGHT = 250, 430


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


def _importance(found: Sequence[Choice], data: ReportData) -> str:
    shown = [choice for choice in found if weight(choice) >= LEAST][::-1]
    if not shown:
        return paragraph("taken alone, none of the choices that vary explains the spread of the accuracies")
    epoch, early = early_scores(data)
    figure = go.Figure()
    if early:
        name = f"all {len(early):,} trained, after epoch {epoch}"
        _bars(figure, name, GREY, [(choice.name, choice.early) for choice in shown])
    name = f"the {len(data.completed):,} trained to the end, after epoch {data.config.recipe.epochs}"
    _bars(figure, name, BLUE, [(choice.name, choice.importance) for choice in shown])
    chance = by_chance(found, data) or 0.0
    longest = 100 * max(max(choice.importance or 0.0, choice.early or 0.0) for choice in shown)
    is_drawn = chance >= LEAST
    if is_drawn:
        longest = max(longest, 100 * chance)
        figure.add_vline(x=100 * chance, line={"color": BLUE, "dash": "dot", "width": 1.5})
    figure.update_xaxes(title="share of the variance, %", range=[0, 1.15 * longest])
    figure.update_layout(bargap=0.25, legend_traceorder="reversed")
    reading = (
        "How much of the spread of the accuracies each choice explains when it is taken alone (epsilon"
        " squared: less what chance explains). Choices come together, so shares overlap and do not add up."
    )
    if early:
        reading += " Pruned networks are in the grey bars alone, which favour what learns fast."
    if is_drawn:
        reading += (
            f" Dotted: were accuracies dealt at random, the largest{' blue' if early else ''} bar would end"
            f" below {100 * chance:.0f}% in 95 of 100 cases; what ends before that may be chance."
        )
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
        (best[:BEST], f"the best {tenth:,}", AMBER, 0.8),
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
