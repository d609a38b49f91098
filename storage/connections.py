"""How many connections a PostgreSQL server has left, and whether those that a command needs are among them.

Reads the server's settings and its list of connections, which every role may count. Called by the launcher
and by workers before they start: a server that is full answers nobody, whoever looks or stops a search
included. A SQLite file has no such limit, and behind a pooler (PgBouncer) it is the pooler's, which is not
asked.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, text

from space.errors import StorageError
from storage.database import reading

# Left free for people who look, and for the moments in which a worker speaks by two connections.
SPARE = 5

# Limits of the server, of the database and of the role; and who is connected, before us and in all. A plain
# role sees whose other roles' connections are, not of which kind nor since when: they count as clients that
# came earlier. Processes of the server itself are nobody's. PostgreSQL has reserved_connections since 16.
QUERY = text(
    """
    WITH me AS (SELECT backend_start, pid FROM pg_stat_activity WHERE pid = pg_backend_pid()),
    others AS (
        SELECT a.usename = current_user AS same_role, a.datname = current_database() AS same_database,
            (coalesce(a.backend_start, '-infinity'), a.pid) < (me.backend_start, me.pid) AS is_earlier
        FROM pg_stat_activity a, me WHERE coalesce(a.backend_type, 'client backend') = 'client backend'
            AND a.usesysid IS NOT NULL AND a.pid <> me.pid
    )
    SELECT pg_backend_pid() AS process, current_setting('max_connections')::int AS most,
        current_setting('superuser_reserved_connections')::int
            + coalesce(current_setting('reserved_connections', true), '0')::int AS reserved,
        (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user) AS of_role,
        (SELECT datconnlimit FROM pg_database WHERE datname = current_database()) AS of_database,
        count(*) AS used,
        count(*) FILTER (WHERE same_role) AS used_by_role,
        count(*) FILTER (WHERE same_database) AS used_in_database,
        count(*) FILTER (WHERE is_earlier) AS earlier,
        count(*) FILTER (WHERE is_earlier AND same_role) AS earlier_by_role,
        count(*) FILTER (WHERE is_earlier AND same_database) AS earlier_in_database
    FROM others
    """
)


@dataclass(frozen=True)
class Room:
    """What is left of the tightest limit, our own connection counted as used."""

    limit: str  # in words: "max_connections = 100, 3 of them reserved"
    used: int  # connections that count towards it
    free: int  # after all that are there
    free_at_turn: int  # after those alone that were there before us: nobody who came later takes it from us


def room(engine: Engine) -> Room | None:
    """Return what a server has left for this role and database; None for a file and behind a pooler.

    Raises SQLAlchemy's errors for a database out of reach.
    """
    return min(rooms(engine), key=lambda found: found.free, default=None)


def rooms(engine: Engine) -> list[Room]:
    """What is left of each limit that there is. Raises as `room` does."""
    if engine.name != "postgresql":
        return []
    with reading(engine) as connection:
        row = connection.execute(QUERY).one()
        driver: Any = connection.connection.driver_connection
        if driver.info.backend_pid != row.process:  # a pooler answers with a number of its own
            return []
    limits = [
        _room(f"max_connections = {row.most}, {row.reserved} of them reserved", row.most - row.reserved,
              row.used, row.earlier),
        _room(f"the role's CONNECTION LIMIT of {row.of_role}", row.of_role, row.used_by_role,
              row.earlier_by_role),
        _room(f"the database's CONNECTION LIMIT of {row.of_database}", row.of_database,
              row.used_in_database, row.earlier_in_database),
    ]  # fmt: skip
    return [found for found in limits if found]


def _room(words: str, limit: Any, used: int, earlier: int) -> Room | None:
    """None where there is no limit, which a database and a role say by -1."""
    if limit is None or limit < 0:
        return None
    return Room(words, used + 1, limit - used - 1, limit - earlier - 1)


def require_room(engine: Engine, workers: int) -> None:
    """See that so many workers fit beside who is connected, one connection each.

    Raises StorageError, one line that says how many do.
    """
    found = room(engine)
    if found is None or workers + SPARE <= found.free:
        return
    fit = max(0, found.free - SPARE)
    raise StorageError(
        f"{_count(workers)} one connection each, and the server has {max(0, found.free)} left"
        f" ({found.limit}, {found.used} in use), of which {SPARE} stay free for others:"
        f" {_advice(fit)} or raise the limit"
    )


def require_turn(engine: Engine) -> None:
    """See that this process, which is connected, leaves a few connections to others.

    Of many that start at once those that came last are refused. Raises StorageError of one line.
    """
    found = min(rooms(engine), key=lambda one: one.free_at_turn, default=None)
    if found is None or found.free_at_turn >= SPARE:
        return
    raise StorageError(
        f"the server is full: of its connections {found.used} are in use ({found.limit}), and {SPARE} stay"
        " free for others: end some, start fewer workers, or raise the limit"
    )


def _count(workers: int) -> str:
    return "1 worker needs" if workers == 1 else f"{workers} workers need"


def _advice(fit: int) -> str:
    return f"--workers {fit} fits," if fit else "none fits: end some of those that are connected,"
