"""A table on stdout for people: as narrow as the terminal where it can be, and never a broken number.

Where even a table of broken headings and texts is too wide, each row becomes a block of lines. Called by
search/commands/output.py.
"""

import json
import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import click
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

BEYOND = 10_000  # columns: wider than any table
LEAST = 20  # columns of a text that is cut
BORDER = 3  # columns between two others
CONTROL = re.compile(r"[\x00-\x1f\x7f]")  # what rich breaks, expands or leaves out


def show(
    rows: Sequence[dict[str, Any]], title: str = "", *, drop: Sequence[str] = (), cut: Sequence[str] = ()
) -> None:
    """Prints them; says "none" on stderr where there is none. A pipe gets every row whole, on one line.

    On a terminal that is too narrow, columns in `drop` go, in this order, and texts in `cut` end in an
    ellipsis: a row stays a line. Where that does not do, headings and texts are broken.
    """
    if not rows:
        click.echo("none", err=True)
        return
    console = Console()
    if not console.is_terminal:
        console.width = BEYOND
        if (lines := _drawn(rows, title, console)) is not None:
            click.echo("\n".join(lines))
            return
    unbound = console.options.update(width=BEYOND)
    table = _table(rows, title)
    if console.measure(table, options=unbound).maximum > console.width:
        widths = _widths(rows, console.width, drop, cut) if cut else None
        if widths:
            rows = [{name: row[name] for name in widths} for row in rows]
        table = _table(rows, title, tight=True, widths=widths)
        if not widths and console.measure(table, options=unbound).minimum > console.width:
            _blocks(rows, title)
            return
    console.print(table)


def _drawn(rows: Sequence[dict[str, Any]], title: str, console: Console) -> list[str] | None:
    """The lines of the table as rich draws it for a pipe, in a fortieth of its time.

    None where it would draw something else: a cell of several lines, or a row wider than any table.
    """
    heads = [name.replace("_", " ") for name in rows[0]]
    cells = [[cell(name, value) for name, value in row.items()] for row in rows]
    if console.options.ascii_only or any(CONTROL.search(text) for row in (heads, *cells) for text in row):
        return None
    widths = [max(map(cell_len, column)) for column in zip(heads, *cells, strict=True)]
    if sum(widths) + BORDER * len(widths) + 1 > BEYOND or cell_len(title) > sum(widths):
        return None
    right = [_is_numeric(rows, name) for name in rows[0]]

    def line(bar: str, texts: Sequence[str]) -> str:
        padded = zip(texts, widths, right, strict=True)
        return bar + bar.join(f" {_padded(*one)} " for one in padded) + bar

    def rule(left: str, fill: str, between: str, end: str) -> str:
        return left + between.join(fill * (width + 2) for width in widths) + end

    top = [rule("┏", "━", "┳", "┓"), line("┃", heads), rule("┡", "━", "╇", "┩")]
    named = [title.ljust(len(top[0]))] if title else []
    return [*named, *top, *(line("│", row) for row in cells), rule("└", "─", "┴", "┘")]


def _padded(text: str, width: int, is_right: bool) -> str:
    blank = " " * (width - cell_len(text))
    return blank + text if is_right else text + blank


def say(lines: Iterable[str]) -> None:
    """Prints lines of text, broken between words where the terminal is narrower and indented from the second
    on; a pipe gets them whole."""
    console = Console()
    if not console.is_terminal:
        console.width = BEYOND
    for line in lines:
        indent = " " * (len(line) - len(line.lstrip()) + 2)
        for part in textwrap.wrap(line, console.width, subsequent_indent=indent):
            console.print(Text(part))


def _widths(
    rows: Sequence[dict[str, Any]], width: int, drop: Sequence[str], cut: Sequence[str]
) -> dict[str, int] | None:
    """The columns that stay and how wide they are, a row a line; None where that cannot be."""
    found = {}
    for name in rows[0]:
        words = name.split("_") if _is_numeric(rows, name) else [name]
        found[name] = max(*map(len, words), *(cell_len(cell(name, row[name])) for row in rows))
    left = list(drop)
    while (over := sum(found.values()) + BORDER * len(found) + 1 - width) > 0:
        for name in [name for name in reversed(found) if name in cut]:
            less = max(0, min(over, found[name] - LEAST))
            found[name], over = found[name] - less, over - less
        if over <= 0:
            return found
        if not left:
            return None
        found.pop(left.pop(0), None)
    return found


def _is_numeric(rows: Sequence[dict[str, Any]], name: str) -> bool:
    return any(isinstance(row[name], (int, float)) for row in rows)


def _table(
    rows: Sequence[dict[str, Any]], title: str, tight: bool = False, widths: dict[str, int] | None = None
) -> Table:
    """A `tight` one breaks headings and texts, so that numbers can stay whole; given `widths`, a text that
    is longer ends in an ellipsis."""
    table = Table(title=title or None, title_justify="left", header_style="bold")
    for name in rows[0]:
        numeric, heading = _is_numeric(rows, name), name.replace("_", " ")
        table.add_column(
            heading.replace(" ", "\n") if tight and numeric else heading,
            justify="right" if numeric else "left",
            overflow="ellipsis" if widths else "fold",
            no_wrap=bool(widths) or (tight and numeric),
            width=widths[name] if widths else None,
        )
    for row in rows:
        table.add_row(*(Text(cell(name, value)) for name, value in row.items()))
    return table


def _blocks(rows: Sequence[dict[str, Any]], title: str) -> None:
    if title:
        click.echo(title)
    longest = max(map(len, rows[0]))
    for row in rows:
        for name, value in row.items():
            if value not in (None, ""):
                click.echo(f"{name.replace('_', ' '):{longest}}  {cell(name, value)}")
        click.echo()


def cell(name: str, value: Any) -> str:
    """A value in a table: a dash for nothing, shares in percent, thousands parted."""
    if value is None:
        return "-"
    if name.endswith(("accuracy", "share", "score")) and isinstance(value, float):
        return f"{100 * value:.2f}%"
    if isinstance(value, float):
        return f"{value:.1f}"
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
