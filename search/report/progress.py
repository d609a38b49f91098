"""How the search went: every trial and the best so far, against trials, device time or wall time.

Reads the report's data; returns HTML. Called by search/report/page.py.
"""

from collections.abc import Sequence
from itertools import accumulate

import plotly.graph_objects as go

from search.report.data import ReportData, axis_range, ended, score, thinned
from search.report.parts import BLUE, GREEN, GREY, RED, panel, paragraph, range_switch, section, switch
from search.study.finish_plan import duration
from search.study.score import both
from storage.row_types import Candidate, State

POINTS = 1500  # drawn at most
UPPER = 0.25  # the axis begins at this quantile of those that were trained to the end
HEIGHT = 460
AXES = ("trials that ended", "device time, hours", "wall time, hours")


def progress(data: ReportData) -> str:
    """The section; nothing where nothing was trained."""
    if not data.trained:
        return ""
    figure, switches = _figure(data)
    reading = (
        "Each point is a trial, above those trained to the end, below the pruned ones with the score at"
        " which they were stopped; the line is the best so far. A click on a point opens the trial below."
    )
    said = [_summary(data), panel("", reading, figure, HEIGHT, switches)]
    if len(data.trained) > POINTS:
        said.append(
            paragraph(
                f"of {len(data.trained):,} trained, {POINTS:,} are drawn: the best, and evenly of the others",
                note=True,
            )
        )
    return section("search", "The search", said)


def _summary(data: ReportData) -> str:
    if not data.completed:
        return paragraph(f"{len(data.pruned):,} networks were pruned, and none trained to the end yet")
    best = data.completed[0]
    order = [row.number for row in data.trained]
    place, spent = order.index(best.number) + 1, _spent(data)
    total = sum(data.seconds.values())
    line = f"the best brief score, {both(data.config.score, best)} of trial {best.number}, was the"
    line += f" {_ordinal(place)}"
    line += f" of {len(order):,} trained"
    if total:
        line += f", after {100 * spent[best.number] / total:.0f}% of {duration(total)} of device time"
    return paragraph(line)


def _ordinal(number: int) -> str:
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{ending}"


def _spent(data: ReportData) -> dict[int, float]:
    """Device-seconds of all that had ended, by the trial that ended then."""
    rows = sorted(data.rows, key=lambda row: (ended(row), row.number))
    spent = accumulate(data.seconds[row.id] for row in rows)
    return dict(zip((row.number for row in rows), spent, strict=True))


def _figure(data: ReportData) -> tuple[go.Figure, list[str]]:
    places = _places(data)
    figure = go.Figure()
    for i in range(len(AXES)):
        _add(figure, data, {number: place[i] for number, place in places.items()}, shown=not i)
    # Traces that have nothing to show in one axis are missing in all: each axis has as many.
    each = len(figure.data) // len(AXES)
    figure.update_xaxes(title=AXES[0], anchor="y2" if data.pruned else "y")
    title = f"validation {data.scored}, %"
    figure.update_layout(yaxis={"title": title, "domain": [0.32, 1] if data.pruned else [0, 1]})
    if data.pruned:
        figure.update_layout(yaxis2={"title": "when stopped", "domain": [0, 0.24], "anchor": "x"})
    switches = [_axes(each, len(figure.data))]
    if data.completed:
        scores = [score(row) for row in data.completed]
        upper, everything = axis_range(scores, UPPER), axis_range(scores)
        figure.update_layout(yaxis_range=upper)
        _baseline(figure, data)
        switches.append(range_switch("upper three quarters", upper, everything))
    return figure, switches


def _places(data: ReportData) -> dict[int, tuple[float, float, float]]:
    """Where a trial stands on each axis."""
    spent = _spent(data)
    return {
        row.number: (i, round(spent[row.number] / 3600, 4), round(data.hours(ended(row)), 4))
        for i, row in enumerate(data.trained, 1)
    }


def _axes(each: int, traces: int) -> str:
    choices = dict[str, tuple[dict[str, object], dict[str, object]]]()
    for i, name in enumerate(AXES):
        visible = [i * each <= trace < (i + 1) * each for trace in range(traces)]
        choices[name.partition(",")[0]] = ({"visible": visible}, {"xaxis.title.text": name})
    return switch(choices)


def _add(figure: go.Figure, data: ReportData, places: dict[int, float], shown: bool) -> None:
    drawn = thinned(data.trained, POINTS)
    for state, name, colour, axis in (
        (State.COMPLETED, "trained to the end", BLUE, "y"),
        (State.PRUNED, "pruned", GREY, "y2"),
    ):
        rows = [row for row in drawn if row.state == state]
        if rows:
            figure.add_scatter(
                **_points(rows, places), name=name, yaxis=axis, visible=shown,
                marker={"color": colour, "size": 6 if state == State.COMPLETED else 4, "opacity": 0.7},
            )  # fmt: skip
    if data.completed:
        x, y, numbers = _best_so_far(data.trained, places)
        figure.add_scatter(
            x=x, y=y, customdata=numbers, mode="lines", line={"color": RED, "shape": "hv", "width": 2},
            name="best so far", visible=shown,
            hovertemplate="best so far: trial %{customdata}, %{y:.2f}%<extra></extra>",
        )  # fmt: skip


def _points(rows: Sequence[Candidate], places: dict[int, float]) -> dict[str, object]:
    return {
        "x": [places[row.number] for row in rows],
        "y": [round(100 * score(row), 2) for row in rows],
        "customdata": [row.number for row in rows],
        "mode": "markers",
        "hovertemplate": "trial %{customdata}: %{y:.2f}%<extra></extra>",
    }


def _best_so_far(
    trained: Sequence[Candidate], places: dict[int, float]
) -> tuple[list[float], list[float], list[int]]:
    """The steps of the line, and its end."""
    x, y, numbers, best = list[float](), list[float](), list[int](), -1.0
    for row in trained:
        if row.state == State.COMPLETED and score(row) > best:
            best = score(row)
            x.append(places[row.number])
            y.append(round(100 * best, 2))
            numbers.append(row.number)
    return [*x, places[trained[-1].number]], [*y, y[-1]], [*numbers, numbers[-1]]


def _baseline(figure: go.Figure, data: ReportData) -> None:
    if (here := data.standing.standing) is None:
        return
    figure.add_hline(
        y=100 * score(here.baseline), line={"color": GREEN, "dash": "dash", "width": 1.5},
        annotation_text="best baseline", annotation_position="bottom right",
        annotation_font={"color": GREEN}, yref="y",
    )  # fmt: skip
