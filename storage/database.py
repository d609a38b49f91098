"""Opens a database: a URL becomes an engine that neither hangs nor shows a password.

Makes and migrates our tables, and gives transactions and the database's clock to the rest of storage/. Called
by every command with --storage and by the worker. Knows nothing of studies or candidates.

SQLite runs under SQLAlchemy's documented recipe: sqlite3's own transaction control is switched off and we say
BEGIN, because a deferred transaction that turns into a writing one fails at once ("database is locked").
storage/sqlite_file.py and storage/postgres.py connect.
"""

import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    ColumnElement,
    Connection,
    Double,
    Engine,
    Select,
    create_engine,
    event,
    literal_column,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from space.errors import AccessError, StorageError, UnreachableError
from storage import migrations, privileges
from storage.privileges import Needs
from storage.sqlite_file import WAIT_SECONDS, SqliteFile, looking_at
from storage.url import (
    has_pooler,
    is_sqlite,
    masked,
    normalise as normalise,
    parse,
    redacted as redacted,
    without_word,
)

SECONDS_OF_SQLITE = "(julianday('now') - 2440587.5) * 86400.0"
SECONDS_OF_POSTGRES = "CAST(extract(epoch FROM clock_timestamp()) AS double precision)"
LIMITS = {  # milliseconds, of a session; of each transaction where a pooler stands before the server
    "statement_timeout": 30_000,
    "lock_timeout": 30_000,
    "idle_in_transaction_session_timeout": 60_000,
}
NO_RIGHT = ("42501", "25006")  # of PostgreSQL: insufficient privilege, read-only transaction
READ_ONLY = text("SHOW transaction_read_only")
MIGRATION_LOCK = 0x5EA2C4  # any constant, the same in every version


def engine_options(url: str) -> dict[str, Any]:
    """Return the keyword arguments of create_engine for this URL, ours and Optuna's alike.

    They bound every wait: to connect, for a lock, for a statement, for an answer over a cut cable. What the
    URL itself sets wins. Raises UsageError for a URL that `normalise` refuses.
    """
    parsed = parse(url)
    if is_sqlite(parsed):
        return {"creator": SqliteFile(parsed)}
    arguments: dict[str, Any] = {
        "connect_timeout": 10,  # seconds, as the keepalives
        "keepalives": 1,
        "keepalives_idle": 10,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 5_000,  # milliseconds, as those below
        "application_name": "parsimony",
    }
    arguments = {key: value for key, value in arguments.items() if key not in parsed.query}
    from storage import postgres  # loads psycopg, which a SQLite file does without

    if has_pooler(parsed):
        connector = postgres.PooledConnector(without_word(parsed), arguments, LIMITS)
        return {"creator": connector, "pool_pre_ping": True}
    server = {
        **LIMITS,
        "tcp_user_timeout": 5_000,
        "tcp_keepalives_idle": 10,
        "tcp_keepalives_interval": 2,
        "tcp_keepalives_count": 3,
    }
    options = [f"-c {key}={value}" for key, value in server.items()]
    arguments["options"] = " ".join([*options, *_texts(parsed.query.get("options"))])
    return {
        "connect_args": arguments,
        "creator": postgres.Connector(without_word(parsed), arguments),
        "pool_pre_ping": True,
    }


def _texts(value: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value or ()


# A process that stays: one connection is held, and a second opened for the moments in which two threads
# speak at once (a worker's heartbeat beside the thread that writes its epochs), and closed. A third waits.
FEW: dict[str, Any] = {"pool_size": 1, "max_overflow": 1}


def connect(url: str, *, create: bool = True, few: bool = False) -> Engine:
    """Return an engine whose database answered. With create=False a missing SQLite file is not made.

    With `few` it holds one connection to a server, and two at most: for workers and launchers, of which a
    server may have hundreds. Raises StorageError, one line without the password, where it cannot be reached,
    UsageError for a URL that `normalise` refuses.
    """
    parsed = parse(url)
    if is_sqlite(parsed):
        _check_file(parsed, create)
    options = engine_options(url)
    engine = create_engine(parsed, **options, **(FEW if few and not is_sqlite(parsed) else {}))
    watch_transactions(engine, options)
    if is_sqlite(parsed):
        event.listen(engine, "connect", _open_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    try:
        with translated(engine), engine.connect() as connection:
            connection.execute(select(1))
            if is_sqlite(parsed):
                _write_ahead(connection)
    except StorageError:
        engine.dispose()
        raise
    return engine


def watch_transactions(engine: Engine, options: Mapping[str, Any]) -> None:
    """Have each transaction of an engine begin with what its kind of database needs.

    `options` are those of engine_options that it was made with.
    """
    event.listen(engine, "begin", options["creator"].begin)
    if isinstance(options["creator"], SqliteFile):
        event.listen(engine, "checkout", options["creator"].check_out)


def require_place(url: str) -> None:
    """See that a SQLite file is there or could be made.

    Raises StorageError where its folder is not there or closed, UsageError as `normalise` does.
    """
    parsed = parse(url)
    if is_sqlite(parsed):
        _check_file(parsed, create=True)


def absent(url: str) -> bool:
    """Whether this is a SQLite file that is still to be made.

    Raises StorageError where that may not be seen, UsageError as `normalise` does.
    """
    parsed = parse(url)
    file = str(parsed.database)
    if not is_sqlite(parsed) or file.startswith("file:"):
        return False
    with looking_at(Path(file)):
        return not Path(file).exists()


def _check_file(url: URL, create: bool) -> None:
    file = str(url.database)
    if file.startswith("file:"):
        return
    with looking_at(Path(file)):
        has_folder, is_there = Path(file).parent.is_dir(), Path(file).exists()
    if not has_folder:
        raise StorageError(f"no folder {str(Path(file).parent)!r} for the database {file!r}; make it first")
    if not create and not is_there:
        raise StorageError(f"no database {file!r}; `search launch` makes one, --storage names another")


def _open_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None
    for pragma in ("foreign_keys = ON", "synchronous = NORMAL"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    options = connection.get_execution_options()
    if not options.get("writes", False):
        connection.exec_driver_sql("BEGIN")
        return
    # NORMAL does not wait for the disk at the end of a transaction in write-ahead mode, and FULL does.
    connection.exec_driver_sql(f"PRAGMA synchronous = {'FULL' if options.get('durable') else 'NORMAL'}")
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _write_ahead(connection: Connection) -> None:
    """Let readers and a writer work side by side. The mode stays in the file, for Optuna too."""
    connection.rollback()  # the mode cannot change inside a transaction
    cursor = connection.connection.cursor()
    give_up = time.monotonic() + WAIT_SECONDS
    while cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return  # a network file system may have answered "delete": slower, and still correct
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                return  # read-only: prepare() says so
            if time.monotonic() > give_up:
                raise StorageError(f"{_name(connection.engine)} stays locked by another process") from None
            time.sleep(0.02)  # the change of mode does not wait by itself


@contextmanager
def translated(engine: Engine) -> Iterator[None]:
    """Raise what the driver raises inside as a StorageError of one line, without the password.

    It is an AccessError where this user may not do it, an UnreachableError where a server does not answer.
    """
    try:
        yield
    except DBAPIError as error:
        line = masked(reason(error), engine.url)
        raise _kind_of(error)(f"cannot use {_name(engine)}: {line}") from None


def reason(error: BaseException) -> str:
    """Return the first line of what the driver said, which SQLAlchemy and Optuna wrap.

    Optuna's own words for whatever fails at a commit are a guess at data that do not fit.
    """
    wrapped = error.__cause__ if type(error).__name__ == "StorageInternalError" else None
    cause = getattr(error, "orig", None) or wrapped
    if isinstance(cause, Exception):
        return reason(cause)
    return redacted((str(error).strip().splitlines() or [type(error).__name__])[0])


def _kind_of(error: DBAPIError) -> type[StorageError]:
    cause = error.orig
    if getattr(cause, "sqlstate", None) in NO_RIGHT or "readonly database" in str(cause):
        return AccessError
    away = isinstance(error, OperationalError | InterfaceError) and not isinstance(cause, sqlite3.Error)
    return UnreachableError if away else StorageError


def require_rights(engine: Engine, needs: Needs) -> None:
    """See that this user may write what `needs` name; nothing is written.

    Raises AccessError, whose line says what to grant, and StorageError for a database out of reach.
    """
    with translated(engine), writing(engine) as connection:
        privileges.require(connection, needs)
        if connection.dialect.name == "postgresql" and connection.execute(READ_ONLY).scalar() == "on":
            raise AccessError(f"{_name(engine)} is read-only, as a standby is: it can be looked at alone")


def _name(engine: Engine) -> str:
    return redacted(engine.url.render_as_string(hide_password=True))


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Open one transaction that only reads."""
    with engine.begin() as connection:
        yield connection


@contextmanager
def writing(engine: Engine, *, durable: bool = True) -> Iterator[Connection]:
    """Open one transaction that writes; in SQLite it has the write lock from its start.

    With durable=False it does not wait for the disk: a PostgreSQL server that falls may forget the
    transactions of its last 0.6 s, a machine without power those in a SQLite file, in order. The next durable
    one makes all before it durable too.
    """
    with engine.execution_options(writes=True, durable=durable).begin() as connection:
        if not durable and connection.dialect.name == "postgresql":
            connection.exec_driver_sql("SET LOCAL synchronous_commit TO OFF")
        yield connection


def clock(dialect: str) -> ColumnElement[float]:
    """Return an expression: seconds since 1970 by the database's clock, which all workers share."""
    seconds = SECONDS_OF_SQLITE if dialect == "sqlite" else SECONDS_OF_POSTGRES
    return literal_column(seconds, Double)


def now(connection: Connection) -> float:
    """Return the seconds since 1970 by the database's clock."""
    return float(connection.execute(_now(connection.dialect.name)).scalar_one())


def moment(connection: Connection) -> datetime:
    """Return the time by the database's clock, in UTC."""
    return datetime.fromtimestamp(now(connection), UTC)


@cache
def _now(dialect: str) -> Select[Any]:
    return select(clock(dialect))


def prepare(engine: Engine) -> None:
    """Bring our tables to this version and see that they can be written; many may call it at once.

    Raises StorageError where it was made by a newer version, AccessError where this user may not do that.
    """
    with translated(engine):
        if not _is_current(engine):
            with writing(engine) as connection:
                if connection.dialect.name == "postgresql":
                    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
                if migrations.version(connection) != migrations.HEAD:
                    privileges.require_to_make_tables(connection, "search_studies")
                    migrations.upgrade(connection)
        with writing(engine) as connection:
            connection.execute(text("UPDATE search_studies SET name = name WHERE 1 = 0"))


def has_tables(engine: Engine) -> bool:
    """Return whether our tables are there, of whatever version. Raises StorageError for a database out of
    reach."""
    with translated(engine), reading(engine) as connection:
        return migrations.version(connection) is not None


def check(engine: Engine) -> None:
    """See that our tables are there and current without writing, for those who only look.

    Raises StorageError where they are absent, older or newer.
    """
    with translated(engine):
        if not _is_current(engine):
            with reading(engine) as connection:
                privileges.require_schema(connection)
            raise StorageError(f"{_name(engine)} is not ready: `search launch` makes or updates its tables")


def _is_current(engine: Engine) -> bool:
    with reading(engine) as connection:
        found = migrations.version(connection)
    if found is not None and int(found) > int(migrations.HEAD):
        raise StorageError(
            f"{_name(engine)} has tables of a newer version ({found}): upgrade this installation"
        )
    return found == migrations.HEAD
