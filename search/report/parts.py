"""Parts of a self-contained HTML page: its frame with style and scripts inside, figures, switches and tables.

Called by every module of search/report/ and by search/training/report.py (a full training). Reads page.css
and page.js beside it; writes no file. Figures leave their colours of text, lines and background to page.js,
which takes them from the style: a page is light or dark as the reader's screen is, and light on paper.
"""

import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

# Seen on white and on black alike.
BLUE, GREY, RED, GREEN, AMBER, VIOLET = "#3b82f6", "#9ca3af", "#ef4444", "#10b981", "#f59e0b", "#a78bfa"
COLOURS = (BLUE, RED, GREEN, AMBER, VIOLET, "#06b6d4")  # of lines that are told apart
VIEWPORT = '<meta name=viewport content="width=device-width, initial-scale=1">'  # as wide as a phone is


def beside(name: str) -> str:
    """The text of a file of this folder."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def own_script(name: str) -> str:
    """A script of this folder, as it stands in a page."""
    return f"<script>{beside(name)}</script>"


def html(title: str, parts: Sequence[str], figures: bool = True) -> str:
    """The whole page; `title` and `parts` are HTML already. Without `figures` it needs no Plotly."""
    # Last, so that what is to be read is there before four megabytes are; as text, which page.js runs when a
    # plot is to be drawn: that takes a second, in which nobody could scroll.
    plotly = f"<script type='text/plain' id=plotly>{get_plotlyjs()}</script>"
    script = f"{plotly}{own_script('page.js')}" if figures else ""
    return frame(title, "\n".join(parts), script)


def frame(title: str, body: str, scripts: str, stamp: str = "") -> str:
    """The page around its text and scripts; all is HTML already. `stamp` is what live.js calls its state."""
    head = f"<meta charset=utf-8>{VIEWPORT}<title>{title}</title><style>{beside('page.css')}</style>"
    stamped = f" data-stamp={stamp}" if stamp else ""
    return f"<!doctype html><html lang=en{stamped}><head>{head}</head><body>{body}\n{scripts}</body></html>\n"


def draw(figure: go.Figure, height: int) -> str:
    """A figure as HTML; `height` in pixels."""
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 52, "r": 12, "t": 12, "b": 44},
        font={"family": "system-ui, sans-serif", "size": 12},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        hoverlabel={"align": "left"},
    )
    figure.update_xaxes(automargin=True, title_standoff=8).update_yaxes(automargin=True, title_standoff=6)
    return f'<div class=plot style="height:{height}px">{script_data(json.loads(figure.to_json()))}</div>'


def script_data(value: object, name: str = "") -> str:
    """A value as JSON in an element that scripts read; nothing in it can end the element."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    named = f" id={name}" if name else ""
    return f'<script type="application/json"{named}>{text}</script>'


def switch(choices: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]]) -> str:
    """Buttons of which one is pressed, the first at the start: what each changes in traces and layout."""
    buttons = "".join(
        f"<button type=button aria-pressed={str(not i).lower()} data-set='{escape(json.dumps(update))}'>"
        f"{escape(name)}</button>"
        for i, (name, update) in enumerate(choices.items())
    )
    return f"<span class=switch>{buttons}</span>"


def range_switch(name: str, part: Sequence[float], everything: Sequence[float]) -> str:
    """Buttons for the accuracy axis: the part that matters, and all; nothing where they are the same."""
    if list(part) == list(everything):
        return ""
    return switch({name: ({}, {"yaxis.range": part}), "all": ({}, {"yaxis.range": everything})})


def panel(
    title: str, reading: str, figure: go.Figure, height: int, switches: Sequence[str] = (), wide: bool = False
) -> str:
    """A figure with its title and how to read it. A `wide` one scrolls by itself on a phone."""
    drawn = draw(figure, height)
    heading = f"<h3>{escape(title)}</h3>" if title else ""
    said = f"<p class=reading>{escape(reading)}</p>" if reading else ""
    buttons = f"<div class=switches>{''.join(switches)}</div>" if any(switches) else ""
    body = f"<div class=scrolled>{drawn}</div>" if wide else drawn
    return f"<figure class=panel>{heading}{said}{buttons}{body}</figure>"


def section(name: str, title: str, parts: Sequence[str]) -> str:
    """A part of the page with a heading, to which the contents link as #name."""
    return f"<section id={name}><h2>{escape(title)}</h2>\n" + "\n".join(parts) + "\n</section>"


def contents(sections: Sequence[str]) -> str:
    """Links to the sections that there are, by their own headings."""
    heads = re.findall(r"<section id=([\w-]+)><h2>(.*?)</h2>", "\n".join(sections))
    links = (f"<a href=#{name}>{title.partition(':')[0]}</a>" for name, title in heads)
    return f"<nav>{''.join(links)}</nav>"


LONG = len("100,000,000")


def boxes(figures: Sequence[tuple[str, str]]) -> str:
    """What matters most, large, each with what it is. A count of hundreds of millions is smaller: it has to
    fit one of six boxes side by side."""
    found = "".join(
        f"<div class=figure><b{' class=long' * (len(k) >= LONG)}>{escape(k)}</b>{escape(v)}</div>"
        for k, v in figures
    )
    return f"<div class=figures>{found}</div>"


def paragraph(text: str, note: bool = False) -> str:
    """A sentence that begins with a capital letter and ends with a full stop, whatever it was given."""
    whole = text[:1].upper() + text[1:] + ("" if text.endswith((".", ":")) else ".")
    return f"<p{' class=note' * note}>{escape(whole)}</p>"


def table(head: Sequence[str], rows: Sequence[Sequence[object]], text: Sequence[str] = ()) -> str:
    """Cells as text, numbers to the right; columns of `text` are to the left and may wrap."""
    kinds = [" class=text" if name in text else "" for name in head]
    top = "".join(f"<th{kind}>{escape(name)}" for name, kind in zip(head, kinds, strict=True))
    lines = (
        "<tr>" + "".join(f"<td{kind}>{escape(str(cell))}" for cell, kind in zip(row, kinds, strict=True))
        for row in rows
    )
    return f"<div class=wide><table><tr>{top}{''.join(lines)}</table></div>"


def facts(rows: Mapping[str, str]) -> str:
    """Names and values, one below the other."""
    lines = "".join(f"<tr><th>{escape(name)}<td>{escape(value)}" for name, value in rows.items() if value)
    return f"<table class=facts>{lines}</table>"
