"""Rows to stdout, as a table, JSON or CSV, and lines for people. Called by every command that shows data.

For programs a row has all its keys (search/commands/fields.py), numbers are numbers, times are ISO 8601 with
their zone, and nothing is null. A table for people has some of the keys.
"""

import csv
import json
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import Any

import click

from search.commands.fields import Fields
from search.commands.printed import completed
from search.study.streams import forget
from space.errors import UsageError

NO_TEXT = re.compile("[\ud800-\udfff]")  # bytes of a file's name that are no UTF-8, as Python keeps them
DIGITS = 10  # of a number that is written: 0.30000000000000004 is 0.3

Row = Mapping[str, Any]


def emit(
    rows: Sequence[Row],
    form: str,
    keys: Fields | None = None,
    *,
    columns: Sequence[str] | None = None,
    table: Sequence[str] | None = None,
    drop: Sequence[str] = (),
    cut: Sequence[str] = (),
    title: str = "",
) -> None:
    """Rows as a table for people, JSON or CSV for programs, with the `columns` that were asked for.

    `keys` are those of every row, and head a CSV file without rows. A table has the keys in `table`; on a
    narrow terminal it loses those in `drop`, in this order, and texts in `cut` are cut. Raises UsageError for
    a column that there is not.
    """
    _require_known(columns, keys)
    if form == "json":
        chosen = [_chosen(row, columns or keys) for row in rows]
        click.echo(json.dumps(plain(chosen), indent=1, ensure_ascii=False, allow_nan=False))
    elif form == "csv":
        names = list(columns or keys or (rows[0] if rows else ()))
        writer = csv.DictWriter(sys.stdout, fieldnames=names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(_flat(_chosen(row, names)) for row in rows)
    else:
        from search.commands import table as tables

        shown = [_chosen(row, columns or table) for row in rows]
        tables.show(plain(shown), title, drop=() if columns else drop, cut=cut)


def tell(line: str, *, err: bool = False) -> None:
    """A line for people, in which a command may stand that is to be typed (printed.py)."""
    click.echo(completed(line), err=err)


def say(line: str) -> None:
    """As tell() to stdout, at the end of long work, which whoever read it may not have waited for."""
    try:
        tell(line)
    except OSError:
        forget(sys.stdout)


def emit_document(document: Row) -> None:
    """One JSON document, for what is no row: numbers and times as in the rows."""
    click.echo(json.dumps(plain(document), indent=1, ensure_ascii=False, allow_nan=False))


def _require_known(columns: Sequence[str] | None, keys: Fields | None) -> None:
    for name in columns or ():
        if keys is not None and name not in keys:
            raise UsageError(f"no column {name!r}; there are {', '.join(keys)}")


def _chosen(row: Row, names: Iterable[str] | None) -> Row:
    return row if names is None else {name: row[name] for name in names if name in row}


def plain(value: Any) -> Any:
    """A value of which every part is one of JSON; what is no finite number is null. Of a text, as the name of
    a file can be, what is no UTF-8 becomes question marks, as in folder_listing.readable()."""
    if isinstance(value, str) and not isinstance(value, Enum):
        return NO_TEXT.sub("\ufffd", value)
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(inside) for key, inside in value.items()}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (list, tuple)):
        return [plain(inside) for inside in value]
    if isinstance(value, datetime):
        return value.astimezone().isoformat(timespec="seconds") if value.tzinfo is None else value.isoformat(
            timespec="seconds"
        )  # fmt: skip
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value if value is None or isinstance(value, (int, bool)) else plain(str(value))


def _flat(row: Row) -> dict[str, Any]:
    """What has parts as JSON in one cell."""
    return {
        key: json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else value
        for key, value in plain(row).items()
    }
