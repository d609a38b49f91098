"""Connections to PostgreSQL that do not wait for ever for an answer.

Called by storage/database.py for engines of PostgreSQL, ours and Optuna's. Knows no table and no statement.

The server's own time limits help while it lives, TCP's while packets are lost. A server that is frozen (a
stopped process, a paused container, a host that swaps) still acknowledges every packet and answers none: only
a limit on our side ends that wait.
"""

from collections.abc import Generator, Mapping
from time import monotonic
from typing import Any

import psycopg
from sqlalchemy import URL, Connection

ANSWER_SECONDS = 40.0  # beyond the server's limits of 30 s: a living one speaks first


class BoundedConnection(psycopg.Connection[Any]):
    """Raises OperationalError, and is closed, where an answer takes longer than `answer_seconds`."""

    answer_seconds = ANSWER_SECONDS

    def wait(self, gen: Generator[Any, Any, Any], *arguments: Any, **named: Any) -> Any:
        """As psycopg's, which may be woken in its intervals (0.1 s) without having heard anything."""
        try:
            return super().wait(_limited(gen, self.answer_seconds), *arguments, **named)
        except _NoAnswer:
            self.pgconn.finish()
            raise psycopg.OperationalError(f"no answer for {self.answer_seconds:.0f} s") from None


class _NoAnswer(Exception):
    """The server has not answered within the time."""


def _limited(gen: Generator[Any, Any, Any], seconds: float) -> Generator[Any, Any, Any]:
    """The generator, as long as something is ready within the time."""
    end = monotonic() + seconds
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if not ready and monotonic() > end:
                raise _NoAnswer
            wanted = gen.send(ready)
    except StopIteration as stop:
        return stop.value


class Connector:
    """What create_engine's `creator` takes: connects as its dialect would, with a time limit."""

    def __init__(self, url: URL, arguments: Mapping[str, Any]) -> None:
        kind = url.get_dialect()
        self._args, named = kind(dbapi=kind.import_dbapi()).create_connect_args(url)  # type: ignore[call-arg]
        self._named = {**named, **arguments}

    def __call__(self) -> BoundedConnection:
        return BoundedConnection.connect(*self._args, **self._named)

    def begin(self, connection: Connection) -> None:
        """Called by the engine at the start of a transaction."""
