"""The report of a study that still runs, as serve.py serves it: what its workers do, then the usual sections.

Reads a RunState and the report's data; returns HTML whose parts carry a digest, so that live.js replaces
those that have changed. Called by search/report/serve.py.
"""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from html import escape

from search.report import fates, page as report_page
from search.report.data import ReportData
from search.report.parts import boxes, contents, frame, own_script, paragraph, section, table
from search.study.finish_plan import duration
from search.study.run_state import RunState
from search.study.state_text import one_line
from search.study.text import counted, percent
from search.study.worker_rows import WorkerRow
from storage.row_types import State

PLOTLY = "/plotly.js"  # where a served page finds it
SHOWN = 40  # workers in the table
KINDS = {"running": "runs", "stopping": "runs", "broken": "away"}  # of a word, as page.css has them


def live_page(data: ReportData, state: RunState, stamp: str) -> str:
    """The page; `stamp` is what tells it from an earlier one."""
    sections = [now(data, state), *report_page.sections_of(data)]
    parts = [
        ("head", f"<header id=head>{report_page.head(data)}</header>"),
        ("contents", contents(sections).replace("<nav>", "<nav id=contents>", 1)),
        *((report_page.name_of(one), one) for one in sections),
    ]
    body = "\n".join(_with_digest(name, part) for name, part in parts)
    best = data.completed[0] if data.completed else None
    line = _bar(one_line(state, best), KINDS.get(state.word, "rests"))
    own = [own_script(name) for name in ("trials.js", "page.js", "live.js")]
    scripts = "".join([own[0], f"<script src={PLOTLY}></script>", *own[1:]])
    return frame(escape(data.record.name), f"{body}\n{line}", scripts, stamp)


def problem_page(name: str, line: str) -> str:
    """A page of one line, which becomes the report once the database answers."""
    body = f"<h1>{escape(name)}</h1>{_bar(line, 'away')}"
    return frame(escape(name), body, own_script("live.js"))


def _bar(line: str, kind: str) -> str:
    return f"<div id=live class='live {kind}' role=status>{escape(line)}</div>"


def _with_digest(name: str, part: str) -> str:
    digest = sha256(part.encode()).hexdigest()[:16]
    return part.replace(f"id={name}", f"id={name} data-digest={digest}", 1)


def now(data: ReportData, state: RunState) -> str:
    """What the workers do, and how long it may still take."""
    left = max(0, state.record.trials - state.trained)
    figures = [
        (f"{state.trained:,} of {state.record.trials:,}", "trained to the end, or pruned while training"),
        (counted(len(state.busy), "worker"), f"at work; the search is {state.word}"),
    ]
    if left and state.busy and (pace := _seconds_a_trial(data)):
        more = f"for {counted(left, 'trial')} more, at the pace of the last"
        figures.append((f"about {duration(left * pace)}", more))
    said = [boxes(figures), _table(state.workers, data.config.recipe.epochs)]
    if state.why:
        said.append(paragraph(state.why))
    return section("now", "Now", said)


def _seconds_a_trial(data: ReportData, last: int = 20) -> float | None:
    """Seconds from the end of one trained network to that of the next, over the last few, without the time in
    which no trial ran: a night between two launches, the second stage of the one before."""
    ends = [row.finished_at for row in data.trained if row.finished_at][-last - 1 :]
    if len(ends) < 2:
        return None
    rows = [row for row in data.rows if row.state != State.LOST]  # its end is when that was noticed
    gaps = fates.outages(fates.spans(replace(data, rows=rows, second=None)), times_median=0.0)
    pauses = [(max(start, ends[0]), min(end, ends[-1])) for start, end in gaps]
    away = sum((end - start).total_seconds() for start, end in pauses if start < end)
    return ((ends[-1] - ends[0]).total_seconds() - away) / (len(ends) - 1)


def _table(workers: Sequence[WorkerRow], epochs: int) -> str:
    if not workers:
        return paragraph("no worker is there")
    shown = [_row(one, epochs) for one in workers[:SHOWN]]
    head = ("does", "accuracy", "parameters", "worker", "device", "host")
    more = [paragraph(f"and {len(workers) - SHOWN:,} more", note=True)] if len(workers) > SHOWN else []
    return "".join([table(head, shown, text=("worker", "does", "device", "host")), *more])


def _row(one: WorkerRow, epochs: int) -> tuple[str, ...]:
    """A line of the table, without times, which would stand still in it."""
    here, held = one.presence, one.running
    does = one.state
    if held and held.number is not None:
        does += f" trial {held.number}, epoch {held.epoch or 0} of {held.epochs or epochs}"
    return (
        does,
        percent(held.accuracy) if held else "-",
        f"{held.parameters:,}" if held and held.parameters else "-",
        one.name,
        (held.device if held else None) or (here.device if here else None) or "-",
        here.host if here else "-",
    )
