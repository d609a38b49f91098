"""Connections to PostgreSQL that do not wait for ever for an answer, and transactions that wait for nobody.

Called by storage/database.py for engines of PostgreSQL, ours and Optuna's; at_once() by whoever holds a lock
that hundreds of workers take. Knows no table and no statement.

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

# Of a connection for at_once(): what it sends is a transaction by itself.
ONE_MESSAGE = {"isolation_level": "AUTOCOMMIT", "no_parameters": True}


class BoundedConnection(psycopg.Connection[Any]):
    """Raises OperationalError, and is closed, where an answer takes longer than `answer_seconds`."""

    answer_seconds = ANSWER_SECONDS
    limits = ""  # what at_once() begins each message with

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


class PooledConnector(Connector):
    """The same through PgBouncer, where each transaction may run in another session of the server.

    So nothing is left to a session: no statement is prepared, and the limits, which a session else has from
    its start, are set anew for each transaction. PgBouncer refuses them as start-up options.
    """

    def __init__(self, url: URL, arguments: Mapping[str, Any], limits: Mapping[str, int]) -> None:
        super().__init__(url, {**arguments, "prepare_threshold": None})
        # No query: SET TRANSACTION ISOLATION LEVEL, which may follow, must come before the first.
        self._limits = "; ".join(f"SET LOCAL {name} = {value}" for name, value in limits.items())
        # A query here: SQLAlchemy looks at the first answer alone, and closes what has no rows.
        each = ", ".join(f"set_config('{name}', '{value}', true)" for name, value in limits.items())
        self._query = f"SELECT {each}; "

    def __call__(self) -> BoundedConnection:
        connection = super().__call__()
        connection.limits = self._query
        return connection

    def begin(self, connection: Connection) -> None:
        """Sets the limits, all in one round trip; at_once() sends them with its message."""
        if connection.get_execution_options().get("isolation_level") != ONE_MESSAGE["isolation_level"]:
            connection.exec_driver_sql(self._limits)


def at_once(connection: Connection, message: str, values: Mapping[str, Any]) -> list[Any]:
    """Run several statements as one transaction in one round trip; return the rows of the last.

    Each statement sees what was committed before it began, and a lock that the first takes is held for as
    long as the server needs for the others: no process that waits for its turn on a busy machine stands in
    between. `message` has statements parted by semicolons, with %(name)s where a value goes; the connection
    has the options ONE_MESSAGE. Raises SQLAlchemy's errors, and then nothing was done.
    """
    driver: Any = connection.connection.driver_connection
    # Values are written into the text, quoted: the protocol takes none beside several statements.
    whole = driver.limits + psycopg.ClientCursor(driver).mogrify(message, values)
    cursor: Any = connection.exec_driver_sql(whole).cursor
    while cursor.nextset():
        pass
    found: list[Any] = cursor.fetchall()
    return found
