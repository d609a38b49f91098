"""Accuracy against size: the Pareto fronts, and what a larger budget of parameters has bought.

Reads the report's data; returns HTML. Called by search/report/page.py.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import plotly.graph_objects as go

from search.report.data import ReportData, axis_range, score, thinned
from search.report.parts import BLUE, GREEN, GREY, RED, panel, paragraph, range_switch, section
from search.study.statistics import Difference, difference, wilson
from storage.row_types import Candidate

POINTS = 1500  # drawn at most
UPPER, UPPER_NAME = 0.25, "upper three quarters"
HEIGHT, CURVE_HEIGHT = 380, 420
STEPS = 10  # of the budget


def size(data: ReportData) -> str:
    """The section; nothing where no network was trained to the end."""
    if not data.completed:
        return ""
    budget = data.config.budget
    plots = [
        _front(data, "parameters", lambda row: row.parameters, budget.max_parameters),
        _front(data, "multiply-accumulates", lambda row: row.macs, budget.max_macs),
    ]
    said = [f"<div class=columns>{''.join(plots)}</div>"]
    if len(data.completed) > POINTS:
        said.append(
            paragraph(
                f"of {len(data.completed):,} trained to the end, {POINTS:,} are drawn: the best, and evenly"
                " of the others; the fronts are of all",
                note=True,
            )
        )
    return section("size", "Accuracy against size", [*said, *_budget_curve(data)])


def pareto(rows: Sequence[Candidate], amount: Callable[[Candidate], int]) -> list[Candidate]:
    """The networks that none as small is better than, from the smallest on."""
    front = list[Candidate]()
    for row in sorted(rows, key=lambda row: (amount(row), -score(row), row.number)):
        if not front or score(row) > score(front[-1]):
            front.append(row)
    return front


def _front(data: ReportData, name: str, amount: Callable[[Candidate], int], limit: int | None) -> str:
    front = pareto(data.completed, amount)
    known = {row.id for row in front}
    others = [row for row in thinned(data.completed, POINTS) if row.id not in known]
    figure = go.Figure()
    hover = "trial %{customdata}: %{y:.2f}%, %{x:,} " + name + "<extra></extra>"
    plain = {"mode": "markers", "marker": {"color": BLUE, "size": 5, "opacity": 0.5}}
    line = {"color": GREEN, "shape": "hv"}
    on_front = {"mode": "lines+markers", "line": line, "marker": {"color": GREEN, "size": 8}}
    for rows, called, style in ((others, "trained to the end", plain), (front, "Pareto front", on_front)):
        figure.add_scatter(
            x=[amount(row) for row in rows], y=[round(100 * score(row), 2) for row in rows],
            customdata=[row.number for row in rows], name=called, hovertemplate=hover, **style,
        )  # fmt: skip
    sizes = [amount(row) for row in data.completed]
    wide = max(sizes) > 30 * max(1, min(sizes))
    figure.update_xaxes(title=name, type="log" if wide else "linear")
    if limit and max(sizes) > limit / 3:
        figure.add_vline(x=limit, line={"color": RED, "dash": "dash", "width": 1.5})
    scores = [score(row) for row in data.completed]
    upper = axis_range([*scores, *map(score, front)], UPPER)
    figure.update_yaxes(title=f"validation {data.scored}, %", range=upper)
    title = f"{name[0].upper()}{name[1:]}"
    end = "; dashed: the budget" if limit and max(sizes) > limit / 3 else ""
    reading = f"Up and to the left is better: nothing as small as a network on the front was better{end}."
    return panel(title, reading, figure, HEIGHT, [range_switch(UPPER_NAME, upper, axis_range(scores))])


class Step(NamedTuple):
    """The best network within a share of the budget, of how many, and its gain over the one before.

    `gain` is None for the first, and where the best is still the same network.
    """

    share: float
    best: Candidate
    networks: int
    gain: Difference | None


def _accuracy(row: Candidate) -> float:
    """Whose intervals are known, whatever the search maximises."""
    return row.accuracy or 0.0


def budget_steps(data: ReportData) -> list[Step]:
    """The steps at which there is a network, from the smallest budget to the whole."""
    limit, found = data.config.budget.max_parameters, list[Step]()
    for i in range(1, STEPS + 1):
        share = i / STEPS
        within = [row for row in data.completed if row.parameters <= share * limit]
        if within:
            best, before = within[0], found[-1].best if found else None
            is_new = before is not None and best.id != before.id
            gain = difference(_accuracy(best), _accuracy(before), data.images) if before and is_new else None
            found.append(Step(share, best, len(within), gain))
    return found


def _budget_curve(data: ReportData) -> list[str]:
    steps = budget_steps(data)
    if len(steps) < 2:
        return []
    x = [round(100 * step.share) for step in steps]
    y = [100 * _accuracy(step.best) for step in steps]
    intervals = [wilson(_accuracy(step.best), data.images) for step in steps]
    figure = go.Figure()
    figure.add_scatter(
        x=x, y=[round(value, 2) for value in y], customdata=[step.best.number for step in steps],
        text=[f"{step.best.parameters:,} parameters; best of {step.networks:,}" for step in steps],
        error_y={
            "type": "data", "symmetric": False, "thickness": 1.2,
            "array": [round(100 * found.high - at, 3) for found, at in zip(intervals, y, strict=True)],
            "arrayminus": [round(at - 100 * found.low, 3) for found, at in zip(intervals, y, strict=True)],
        },
        mode="lines+markers", line={"color": BLUE}, marker={"size": 7}, name="best within the budget",
        hovertemplate="up to %{x}%: %{y:.2f}%, trial %{customdata}<br>%{text}<extra></extra>",
    )  # fmt: skip
    _add_gains(figure, steps)
    figure.update_layout(
        yaxis={"title": "validation accuracy, %", "domain": [0.45, 1]},
        yaxis2={"title": "gain, points", "domain": [0, 0.34], "anchor": "x"},
        bargap=0.5,
    )
    figure.update_xaxes(title="share of the parameter budget, %", anchor="y2", dtick=10)
    reading = (
        "Above, the best network with at most so many parameters; below, what each further tenth of the"
        " budget gained, with no bar where the best was still the same. Whiskers are 95% intervals: a gain"
        " whose whisker reaches zero may be luck."
    )
    note = (
        f"Of a tenth in which few networks were trained the best is worth less: up to {x[0]}% there were"
        f" {steps[0].networks:,}, in all {steps[-1].networks:,}. The intervals hold the luck of the"
        " validation images, not that of having picked the best."
    )
    if data.config.score != "accuracy":
        note = f"The best is that by {data.scored}; drawn is its accuracy, whose interval is known. {note}"
    return [panel("What the budget buys", reading, figure, CURVE_HEIGHT), paragraph(note, note=True)]


def _add_gains(figure: go.Figure, steps: Sequence[Step]) -> None:
    gains = [(round(100 * step.share), step.gain) for step in steps if step.gain]
    figure.add_bar(
        x=[at for at, _ in gains], y=[round(100 * gain.points, 2) for _, gain in gains], yaxis="y2",
        marker={"color": GREEN, "opacity": 0.6}, name="gain over the step before", width=5,
        error_y={
            "type": "data", "symmetric": False, "thickness": 1.2, "color": GREY,
            "array": [round(100 * (gain.high - gain.points), 3) for _, gain in gains],
            "arrayminus": [round(100 * (gain.points - gain.low), 3) for _, gain in gains],
        },
        hovertemplate="up to %{x}%: %{y:+.2f} points<extra></extra>",
    )  # fmt: skip
