"""A table on stdout for people: as narrow as the terminal where it can be, and never a broken number.

Where even a table of broken headings and texts is too wide, each row becomes a block of lines. Called by
search/commands/output.py.
"""

from collections.abc import Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPED = 200  # columns where there is no terminal
BEYOND = 10_000  # columns: wider than any table


def show(rows: Sequence[dict[str, Any]], title: str = "") -> None:
    """Prints them; says "none" on stderr where there is none."""
    if not rows:
        click.echo("none", err=True)
        return
    console = Console()
    if not console.is_terminal:
        console.width = PIPED
    unbound = console.options.update(width=BEYOND)
    table = _table(rows, title, tight=False)
    if console.measure(table, options=unbound).maximum > console.width:
        table = _table(rows, title, tight=True)
        if console.is_terminal and console.measure(table, options=unbound).minimum > console.width:
            _blocks(rows, title)
            return
    console.print(table)


def _table(rows: Sequence[dict[str, Any]], title: str, tight: bool) -> Table:
    """A `tight` one breaks headings and texts, so that numbers can stay whole."""
    table = Table(title=title or None, title_justify="left", header_style="bold")
    for name in rows[0]:
        numeric, heading = any(isinstance(row[name], (int, float)) for row in rows), name.replace("_", " ")
        table.add_column(
            heading.replace(" ", "\n") if tight and numeric else heading,
            justify="right" if numeric else "left",
            overflow="fold",
            no_wrap=tight and numeric,
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
    if name.endswith(("accuracy", "share")) and isinstance(value, float):
        return f"{100 * value:.2f}%"
    if isinstance(value, float):
        return f"{value:.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
