"""Rows to stdout, as a table, JSON or CSV. Called by every command that shows data."""

import csv
import json
import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    pass


def emit(rows: list[dict[str, Any]], form: str, title: str = "") -> None:
    """Rows as a table for people, JSON or CSV for programs."""
    if form == "json":
        click.echo(json.dumps(rows, indent=1, default=str))
    elif form == "csv":
        if not rows:
            return
        writer = csv.DictWriter(sys.stdout, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    else:
        from search.commands import table

        table.show(rows, title)
