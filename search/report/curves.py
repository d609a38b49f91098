"""Learning curves of the trials, and what pruning has saved.

Reads the report's data; returns HTML. Called by search/report/page.py.
"""

from collections.abc import Sequence
from math import isfinite

import plotly.graph_objects as go

from search.report.data import ReportData, axis_range, score, thinned
from search.report.parts import AMBER, BLUE, GREEN, GREY, RED, VIOLET, boxes, panel, range_switch, section
from search.study.finish_plan import duration
from search.study.text import counted
from storage.row_types import Candidate, Epoch

BEST = 5  # curves with a colour of their own
PRUNED, OTHERS = 150, 100  # of the others, drawn at most
LONGEST = 60  # points of a curve, drawn at most
HEIGHT = 440
COLOURS = (RED, GREEN, AMBER, VIOLET, BLUE)


def curves(data: ReportData) -> str:
    """The section; nothing where no trial has an epoch."""
    said = [*_saved(data), *_drawn(data)]
    return section("curves", "Learning curves", said) if said else ""


def _saved(data: ReportData) -> list[str]:
    """Epochs that the pruned trials did not train, and their time at the pace of each."""
    whole = data.config.recipe.epochs
    pruned = [row for row in data.pruned if row.epochs and row.epochs < whole]
    if not pruned:
        return []
    epochs = sum(whole - (row.epochs or 0) for row in pruned)
    seconds = sum((row.seconds or 0.0) * (whole - (row.epochs or 0)) / (row.epochs or 1) for row in pruned)
    spent = sum(row.seconds or 0.0 for row in data.trained)
    total = whole * len(data.trained)
    figures = [
        (f"{len(pruned):,} pruned", f"of {len(data.trained):,} trained, each after its own number of epochs"),
        (
            f"{epochs:,} epochs",
            f"not trained, {100 * epochs / total:.0f}% of the {total:,} of all to the end",
        ),
        (duration(seconds), "of device time saved, at the pace of each pruned trial"),
    ]
    if spent + seconds:
        share = 100 * seconds / (spent + seconds)
        figures.append((f"{share:.0f}%", f"of the time of all to the end saved; spent: {duration(spent)}"))
    return [boxes(figures)]


def _drawn(data: ReportData) -> list[str]:
    best = [row for row in data.completed[:BEST] if data.epochs.get(row.id)]
    others = [row for row in thinned(data.completed[BEST:], OTHERS) if data.epochs.get(row.id)]
    pruned = [row for row in thinned(data.pruned, PRUNED) if data.epochs.get(row.id)]
    if not (best or pruned):
        return []
    figure = go.Figure()
    for rows, name, colour, opacity in (
        (pruned, "pruned", GREY, 0.6),
        (others, "trained to the end", BLUE, 0.35),
    ):
        if rows:
            x, y, numbers = _joined(rows, data)
            figure.add_scatter(
                x=x, y=y, customdata=numbers, mode="lines", line={"color": colour, "width": 1},
                opacity=opacity, name=name, hovertemplate="trial %{customdata}: %{y:.2f}%<extra></extra>",
            )  # fmt: skip
    for row, colour in zip(best, COLOURS, strict=False):
        x, y, numbers = _joined([row], data)
        figure.add_scatter(
            x=x, y=y, customdata=numbers, mode="lines", line={"color": colour, "width": 2.5},
            name=f"trial {row.number}",
            hovertemplate="trial %{customdata}, epoch %{x}: %{y:.2f}%<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(title="epoch").update_yaxes(title=f"validation {data.scored}, %")
    switches = _ranges(figure, data, [*best, *others], pruned)
    reading = f"Each line is a trial, the best {len(best)} in colour; grey ones were pruned where they end."
    if not best:
        reading = "Each line is a trial, which was pruned where it ends."
    hidden = len(data.trained) - len(best) - len(others) - len(pruned)
    if hidden > 0:
        reading += f" {hidden:,} of {counted(len(data.trained), 'trial')} are left out."
    return [panel("", reading, figure, HEIGHT, switches)]


def _ranges(
    figure: go.Figure, data: ReportData, ended: Sequence[Candidate], pruned: Sequence[Candidate]
) -> list[str]:
    """The part of the axis where the decisions fall, and a switch to all of it."""
    values = [epoch.value for row in [*ended, *pruned] for epoch in data.epochs[row.id]]
    values = [value for value in values if isfinite(value)]
    if not values:
        return []
    low = min([score(row) for row in ended] or [min(values)])
    decided = [value for value in values if value >= low - (max(values) - low)]
    upper, everything = axis_range(decided), axis_range(values)
    figure.update_yaxes(range=upper)
    return [range_switch("where it is decided", upper, everything)]


def _joined(
    rows: Sequence[Candidate], data: ReportData
) -> tuple[list[int | None], list[float | None], list[int]]:
    """Curves one after the other in one line, with a gap after each."""
    x, y, numbers = list[int | None](), list[float | None](), list[int]()
    for row in rows:
        curve = points(data.epochs[row.id], LONGEST)
        x += [*(epoch for epoch, _ in curve), None]
        y += [*(round(100 * value, 2) for _, value in curve), None]
        numbers += [row.number] * (len(curve) + 1)
    return x, y, numbers


def points(epochs: Sequence[Epoch], most: int) -> list[tuple[int, float]]:
    """Epochs with what the search maximises, at most so many, the last among them."""
    known = [(one.epoch, one.value) for one in epochs if isfinite(one.value)]
    if len(known) <= most:
        return known
    return [known[(i + 1) * len(known) // most - 1] for i in range(most)]
