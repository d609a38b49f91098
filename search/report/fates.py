"""What became of every proposal, where the time of the workers went, and what failed.

Reads the report's data; returns HTML. Called by search/report/page.py.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from html import escape
from statistics import median
from typing import Any

import plotly.graph_objects as go

from search.report.data import ReportData
from search.report.parts import AMBER, BLUE, GREEN, GREY, RED, VIOLET, panel, paragraph, section, table
from search.study.finish_plan import duration
from search.study.text import counted
from storage.row_types import TRAINED, Candidate, State

UNTRAINED = {State.OVER_BUDGET, State.REPEATED}  # settled as they were proposed
COLOURS = {
    State.COMPLETED: BLUE,
    State.PRUNED: GREY,
    State.RUNNING: GREEN,
    State.REPEATED: VIOLET,
    State.OVER_BUDGET: VIOLET,
    State.LOST: RED,
    State.FAILED: "#ec4899",
    State.DIVERGED: "#d97706",
}  # of the others, which are rare: amber
NAMES = {State.COMPLETED: "trained to the end"}
WORKERS = 40  # drawn at most
BARS = 1_200  # pieces of a worker's line, drawn at most
NO_TRIAL = -1  # of a piece that is of several
FEWEST_OUTAGE, TIMES_MEDIAN = 60.0, 5.0  # nothing ran for so many seconds, and so many times a trial
REASONS = 12  # different ones in the table
FLOW_HEIGHT = 380


def fates(data: ReportData) -> str:
    """The section; nothing where nothing was proposed."""
    if not data.rows:
        return ""
    said = [*_flow(data), *_failures(data), *_timeline(data)]
    return section("fates", "Where every proposal and every minute went", said)


def _name(state: State) -> str:
    return NAMES.get(state, state.value.replace("_", " "))


def _flow(data: ReportData) -> list[str]:
    """Proposals into those that were new and fitted, and what became of these: each number is a sum."""
    tally = Counter(row.state for row in data.rows)
    found = [state for state in State if tally[state]]
    begun = len(data.rows) - sum(tally[state] for state in UNTRAINED)
    nodes, links = ["proposals"], list[tuple[int, int, int, str]]()
    if begun:
        nodes.append("begun")
        links.append((0, 1, begun, BLUE))
    for state in found:
        source = 0 if state in UNTRAINED else 1
        links.append((source, len(nodes), tally[state], COLOURS.get(state, AMBER)))
        nodes.append(_name(state))
    counts = [len(data.rows), *([begun] if begun else []), *(tally[state] for state in found)]
    figure = go.Figure(
        go.Sankey(
            node={
                "label": [f"{escape(name)}: {count:,}" for name, count in zip(nodes, counts, strict=True)],
                "color": GREY, "pad": 22, "thickness": 12, "line": {"width": 0},
            },
            link={
                "source": [link[0] for link in links], "target": [link[1] for link in links],
                "value": [link[2] for link in links], "color": [_pale(link[3]) for link in links],
                "hovertemplate": "%{value:,}<extra></extra>",
            },
        )
    )  # fmt: skip
    trained = sum(tally[state] for state in TRAINED)
    sums = " + ".join(f"{tally[state]:,} {_name(state)}" for state in found)
    reading = "From left to right; the height is how many. Over budget and repeated ones were never trained."
    said = [panel("Proposals", reading, figure, FLOW_HEIGHT, wide=True)]
    said.append(
        paragraph(
            f"{counted(len(data.rows), 'proposal')} = {sums}; {trained:,} of {data.record.trials:,} asked for"
            " count as trained"
        )
    )
    if data.differing:
        said.append(
            f"<p class=note>Of {data.differing} of {len(data.rows)} proposals Optuna holds a parameter that"
            " says something else than the network is; the attribute <code>differs</code> names it.</p>"
        )
    return said


def _pale(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.45)"


def _failures(data: ReportData) -> list[str]:
    """What ended without a score, by its reason."""
    failed = [row for row in data.rows if row.state not in TRAINED | UNTRAINED | {State.RUNNING}]
    if not failed:
        return []
    groups = dict[tuple[State, str], list[int]]()
    for row in failed:
        reason = ((row.reason or "no reason stored").strip().splitlines() or [""])[-1]
        groups.setdefault((row.state, reason), []).append(row.number)
    order = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
    lines = [
        (len(numbers), reason[:300], _name(state), _some(numbers))
        for (state, reason), numbers in order[:REASONS]
    ]
    head = ("trials", "reason", "state", "which")
    left = sum(len(numbers) for _, numbers in order[REASONS:])
    more = [paragraph(f"and {counted(left, 'trial')} of rarer reasons", note=True)] if left else []
    return ["<h3>What failed</h3>", table(head, lines, text=("reason",)), *more]


def _some(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:6]))
    return shown + (", ..." if len(numbers) > 6 else "")


@dataclass(frozen=True)
class Span:
    """A training of a worker, from when to when; `number` is the trial."""

    worker: str
    start: datetime
    end: datetime
    kind: str
    colour: str
    number: int


def spans(data: ReportData) -> list[Span]:
    """What the workers trained, trials and trainings of the second stage, in the order of their starts.

    Of a training of the second stage the start is not stored: it is taken as its end less its seconds.
    """
    found = [
        Span(row.worker, row.proposed_at, row.finished_at, _name(row.state), _colour(row), row.number)
        for row in data.rows
        if row.worker and row.finished_at and row.state not in UNTRAINED
    ]
    for one in data.second.trainings if data.second else ():
        if one.worker and one.finished_at and one.seconds:
            start = one.finished_at - timedelta(seconds=one.seconds)
            found.append(Span(one.worker, start, one.finished_at, "second stage", GREEN, one.number))
    return sorted(found, key=lambda span: (span.start, span.number))


def _colour(row: Candidate) -> str:
    return COLOURS.get(row.state, AMBER)


def outages(found: Sequence[Span], times_median: float = TIMES_MEDIAN) -> list[tuple[datetime, datetime]]:
    """When nothing ran although something had before and did again: long ones, as shorter are waiting. Those
    of more than a minute, and of so many times the median training."""
    if not found:
        return []
    usual = median((span.end - span.start).total_seconds() for span in found)
    least = timedelta(seconds=max(FEWEST_OUTAGE, times_median * usual))
    last, gaps = found[0].end, list[tuple[datetime, datetime]]()
    for span in found:
        if span.start - last > least:
            gaps.append((last, span.start))
        last = max(last, span.end)
    return gaps


def merged(found: Sequence[Span]) -> list[Span]:
    """Trainings of a worker with no gap to speak of between them as one, so that there are at most BARS."""
    start, end = _ends(found)
    gap = (end - start) * len({span.worker for span in found}) / BARS
    last, pieces = dict[str, Span](), list[Span]()
    for span in found:
        before = last.get(span.worker)
        if before and span.start - before.end <= gap:
            span = replace(before, end=max(before.end, span.end))
        else:
            span = replace(span, kind="training", colour=BLUE, number=NO_TRIAL)
            pieces += [before] if before else []
        last[span.worker] = span
    return [*pieces, *last.values()]


def _timeline(data: ReportData) -> list[str]:
    found = spans(data)
    if not found:
        return []
    workers = list(dict.fromkeys(sorted(span.worker for span in found)))
    shown = workers[:WORKERS]
    gaps = outages(found)
    reading = (
        "A line for each worker, a piece for each training in the colour of its end; where the line is thin"
        " the worker waited or proposed."
    )
    if gaps:
        times = ", ".join(duration((end - start).total_seconds()) for start, end in gaps[:5])
        reading += f" Shaded: nothing ran at all ({times})."
    if len(workers) > WORKERS:
        reading += f" {len(workers) - WORKERS} of {len(workers)} workers are left out."
    drawn = [span for span in found if span.worker in shown]
    if len(drawn) > BARS:
        reading = (
            "A line for each worker, thick where it trained and thin where it waited; neighbours of the"
            f" {len(drawn):,} trainings are drawn as one piece." + reading.partition("proposed.")[2]
        )
        drawn = merged(drawn)
    figure = _lines(data, found, drawn, shown, gaps)
    return [
        panel("Workers", reading, figure, 150 + 26 * len(shown), wide=True),
        _use(found, workers, gaps),
    ]


def _lines(
    data: ReportData,
    found: Sequence[Span],
    drawn: Sequence[Span],
    workers: Sequence[str],
    gaps: Sequence[tuple[datetime, datetime]],
) -> go.Figure:
    figure = go.Figure()
    ends = {worker: _ends([span for span in found if span.worker == worker]) for worker in workers}
    figure.add_scatter(
        **_joined([(worker, *ends[worker], NO_TRIAL) for worker in workers], data), mode="lines",
        line={"color": GREY, "width": 1}, name="waiting", hoverinfo="skip",
    )  # fmt: skip
    for kind, colour in dict.fromkeys((span.kind, span.colour) for span in drawn):
        mine = [span for span in drawn if span.kind == kind]
        pieces = [(span.worker, span.start, span.end, span.number) for span in mine]
        figure.add_scatter(
            **_joined(pieces, data), line={"color": colour, "width": 11}, mode="lines", name=kind,
            hovertemplate=_hover(kind, mine),
        )  # fmt: skip
    for start, end in gaps:
        figure.add_vrect(x0=data.hours(start), x1=data.hours(end), fillcolor=RED, opacity=0.18, line_width=0)
    figure.update_xaxes(title="hours since the first proposal")
    figure.update_yaxes(type="category", categoryorder="array", categoryarray=list(reversed(workers)))
    return figure


def _hover(kind: str, mine: Sequence[Span]) -> str:
    named = "" if mine[0].number == NO_TRIAL else "trial %{customdata}, "
    return f"{named}{escape(kind)}<extra></extra>"


def _ends(mine: Sequence[Span]) -> tuple[datetime, datetime]:
    return min(span.start for span in mine), max(span.end for span in mine)


def _joined(pieces: Sequence[tuple[str, datetime, datetime, int]], data: ReportData) -> dict[str, Any]:
    """Pieces one after the other in one trace, with a gap after each."""
    x, y, numbers = list[float | None](), list[str | None](), list[int]()
    for worker, start, end, number in pieces:
        x += [round(data.hours(start), 4), round(data.hours(end), 4), None]
        y += [escape(worker), escape(worker), None]
        numbers += [number] * 3
    return {"x": x, "y": y, "customdata": numbers}


def _use(found: Sequence[Span], workers: Sequence[str], gaps: Sequence[tuple[datetime, datetime]]) -> str:
    """What share of the time that workers were there for was spent on training."""
    start, end = _ends(found)
    wall = (end - start).total_seconds()
    away = sum((stop - begin).total_seconds() for begin, stop in gaps)
    busy = sum((span.end - span.start).total_seconds() for span in found)
    there = seconds_there(found)
    share = 100 * busy / there if there else 100.0
    text = (
        f"{counted(len(workers), 'worker')} over {duration(wall)} of wall time: {duration(busy)} of training,"
        f" {share:.0f}% of the time that they were there for"
    )
    return paragraph(f"{text}; for {duration(away)} nothing ran" if gaps else text)


def seconds_there(found: Sequence[Span]) -> float:
    """Seconds that the workers were there for: each from its first start to its last end, and on to the end
    of the last beside it where no later worker took its place. Every launch names its workers anew, and a
    worker that is started again has a new name too: what lies between them is nobody's."""
    spent, end, places = timedelta(), datetime.min.replace(tzinfo=UTC), list[datetime]()
    for first, last in sorted(_ends(mine) for mine in _by_worker(found).values()):
        if first >= end:  # all before it had ended: another launch
            spent += _idle(places, end)
            places = []
        if left := [place for place in places if place <= first]:
            places.remove(max(left))
        places.append(last)
        spent, end = spent + (last - first), max(end, last)
    return (spent + _idle(places, end)).total_seconds()


def _idle(places: Sequence[datetime], end: datetime) -> timedelta:
    return sum((end - place for place in places), timedelta())


def _by_worker(found: Sequence[Span]) -> dict[str, list[Span]]:
    groups = dict[str, list[Span]]()
    for span in found:
        groups.setdefault(span.worker, []).append(span)
    return groups
