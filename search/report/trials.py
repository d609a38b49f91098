"""All trials of a study in a table that sorts and filters; a row opens its network, curve and commands.

Reads the report's data; returns HTML with the trials as compact JSON, which trials.js beside it shows, a
script of the page: a section that live.js puts in runs none of its own. A page stays small enough to be sent
around: of very many trials curves, and at last rows, are left out, and it says so. Called by
search/report/page.py.
"""

import shlex
from collections.abc import Sequence
from html import escape
from typing import Any

from search.report.curves import points
from search.report.data import ReportData, score
from search.report.parts import paragraph, script_data, section
from search.study.short_form import summary
from search.study.text import counted
from space.architecture import Architecture
from storage.row_types import TRAINED, Candidate, State

BYTES = 650_000  # of all that the table holds, at most: about 8,000 trials
CURVES, REASONS = 1_000, 500  # at most
LONGEST = 24  # points of a curve, at most
REASON = 300  # characters of a reason, at most
COLUMNS = (
    ("number", "trial", ""),
    ("state", "state", ""),
    ("accuracy", "accuracy", ""),
    ("parameters", "parameters", ""),
    ("macs", "MACs", "extra"),
    ("epochs", "epochs", "extra"),
    ("seconds", "time", "extra"),
    ("", "network", "extra text"),
)


def trials(data: ReportData) -> str:
    """The section; nothing where nothing was proposed."""
    if not data.rows:
        return ""
    shown, document = _fitting(data)
    reading = (
        "A click on a heading sorts, a click on a row opens it; words filter by network and state, a number"
        " finds a trial."
    )
    said = [f"<p class=reading>{escape(reading)}</p>", *_left_out(data, shown), _table(data, shown)]
    said.append(script_data(document, "trials-data"))
    return section("trials", "All trials", said)


def _fitting(data: ReportData) -> tuple[list[Candidate], dict[str, Any]]:
    """The rows that there is room for, all if possible, and what trials.js reads of them."""
    shown = list(data.rows)
    while True:
        document = _document(data, shown)
        size = len(script_data(document).encode())
        if size <= BYTES or len(shown) == 1:
            return shown, document
        shown = _foremost(data, int(0.98 * len(shown) * BYTES / size) or 1)


def _foremost(data: ReportData, most: int) -> list[Candidate]:
    """The rows that matter most: trained ones from the best down, then the newest of the others."""
    order = sorted(data.rows, key=lambda row: (row.state not in TRAINED, -score(row), -row.number))
    return sorted(order[:most], key=lambda row: row.number)


def _left_out(data: ReportData, shown: Sequence[Candidate]) -> list[str]:
    said = []
    if len(shown) < len(data.rows):
        missing = len(data.rows) - len(shown)
        said.append(
            f"{counted(missing, 'trial')} of {len(data.rows):,} are left out, those without an accuracy first"
        )
    if len(data.epochs) > CURVES:
        said.append(f"curves are kept of the best {CURVES:,}")
    note = "; ".join(said)
    whole = "search trials lists them all"
    return [paragraph(f"to keep the page small {note}; {whole}", note=True)] if said else []


def _table(data: ReportData, shown: Sequence[Candidate]) -> str:
    scored = (("score", data.scored, ""),) if _is_scored(data) else ()
    columns = (*COLUMNS[:2], *scored, *COLUMNS[2:])
    known = [state for state in State if any(row.state == state for row in shown)]
    states = "".join(
        f"<option value={list(State).index(state)}>{escape(_words(state))}</option>" for state in known
    )
    heads = "".join(
        f"<th class='{kind}' data-column={name}><button type=button>{title}</button>"
        if name
        else f"<th class='{kind}'>{title}"
        for name, title, kind in columns
    )
    return (
        "<div class=filters><input id=trials-query type=search placeholder='Filter: preactivation pruned'"
        f" aria-label=Filter><select id=trials-state aria-label=State><option value=''>every state</option>"
        f"{states}</select></div>"
        f"<div class=scrolled><table id=trials-table><thead><tr>{heads}</thead><tbody></tbody></table></div>"
        "<p class=note id=trials-said></p><button type=button class=more id=trials-more>Show more</button>"
        "<noscript><p>The table needs JavaScript; <code>search trials</code> prints the same.</p></noscript>"
    )


def _is_scored(data: ReportData) -> bool:
    """Whether there is a score beside accuracy."""
    return data.config.score != "accuracy"


def _words(state: State) -> str:
    return state.value.replace("_", " ")


def _document(data: ReportData, shown: Sequence[Candidate]) -> dict[str, Any]:
    """What trials.js reads: scores in hundredths of a percent, of curves in tenths."""
    words, index = list[str](), dict[str, int]()
    networks = list[list[int]]()
    for row in shown:
        network = data.networks.get(row.number) or Architecture.parse(row.architecture)
        line = summary(network).split(", ")
        for word in line:
            if word not in index:
                index[word] = len(words)
                words.append(word)
        networks.append([index[word] for word in line])
    best = sorted(shown, key=score, reverse=True)[:CURVES]
    with_reasons = [row for row in shown if row.reason and row.state not in TRAINED]
    scores = [None if row.score is None else round(1e4 * row.score) for row in shown]
    return {
        "scored": data.scored,
        "reference": shlex.quote(f"{data.record.name}:"),
        "states": [_words(state) for state in State],
        "columns": {
            "number": [row.number for row in shown],
            "state": [list(State).index(row.state) for row in shown],
            **({"score": scores} if _is_scored(data) else {}),
            "accuracy": [None if row.accuracy is None else round(1e4 * row.accuracy) for row in shown],
            "parameters": [row.parameters for row in shown],
            "macs": [row.macs for row in shown],
            "epochs": [row.epochs for row in shown],
            "seconds": [None if row.seconds is None else round(row.seconds) for row in shown],
            "network": networks,
        },
        "words": words,
        "baselines": {row.number: row.baseline for row in shown if row.baseline},
        "reasons": {row.number: _last_line(row.reason or "") for row in with_reasons[-REASONS:]},
        "curves": {row.number: _curve(data, row) for row in best if data.epochs.get(row.id)},
    }


def _curve(data: ReportData, row: Candidate) -> list[int]:
    return [round(1e3 * value) for _, value in points(data.epochs[row.id], LONGEST)]


def _last_line(reason: str) -> str:
    """What a traceback ends with."""
    lines = reason.strip().splitlines() or [""]
    return lines[-1][:REASON]
