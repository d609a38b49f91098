"""The file of a SQLite store: connects to it, and sees that it stays the file that was opened.

Made by storage/database.py, one for each engine, ours and Optuna's alike. Reads and writes no table.

A file that is deleted or replaced while it is open goes on under no name: SQLite writes into it to the end,
without an error, and nothing of that is on the disk afterwards. So device and inode are compared at the start
of each transaction. A file that this user may not write is opened for reading alone.
"""

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from sqlalchemy import URL, Connection, Engine
from sqlalchemy.exc import DBAPIError, DisconnectionError

from space import files
from space.errors import AccessError, StorageError, StoreGoneError

WAIT_SECONDS = 60  # for another process's transaction
AS_WHO_RUNS = os.access in os.supports_effective_ids
FORMAT, WRITE_AHEAD = 18, 2  # where a file's header says how it is written, and what it says with a log


class UnchangingConnection(sqlite3.Connection):
    """One that was told that nobody writes to its file."""


class SqliteFile:
    """One file as one engine opened it. Called by the engine's pool, it returns a new connection."""

    def __init__(self, url: URL) -> None:
        """`url` as storage/url.py reads it."""
        kind = url.get_dialect()
        args, self._named = kind(dbapi=kind.import_dbapi()).create_connect_args(url)  # type: ignore[call-arg]
        self._name = str(args[0])
        self.path = path_of(self._name)
        self._opened: tuple[int, int] | None = None  # device and inode, once there was a connection

    def __call__(self) -> sqlite3.Connection:
        """Raises StoreGoneError where the file is not the one that was opened first."""
        self.require_same()
        name, named = self._name, self._named
        if not named.get("uri") and self.is_read_only:
            name, named = self._read_only_name(named)
        connection: sqlite3.Connection = sqlite3.connect(name, **{"timeout": WAIT_SECONDS, **named})
        self._opened = self._opened or identity(self.path)
        return connection

    @property
    def is_read_only(self) -> bool:
        """Whether there is a file, which this user may not write, or beside which there can be no log.

        Raises StorageError where the file system does not say.
        """
        with looking_at(self.path):
            return self.path.exists() and not (_writable(self.path) and _writable(self.path.parent))

    def _read_only_name(self, named: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Whoever writes has a log and an index beside the file. Where there are none nobody writes, and in
        a closed folder SQLite could not make them: it is told that the file stays as it is."""
        name = f"file:{quote(str(self.path))}?mode=ro"
        if self._has_log or not _is_written_ahead(self.path):
            return name, {**named, "uri": True}
        return f"{name}&immutable=1", {**named, "uri": True, "factory": UnchangingConnection}

    @property
    def _has_log(self) -> bool:
        with looking_at(self.path):
            return all(self.path.with_name(f"{self.path.name}{end}").exists() for end in ("-wal", "-shm"))

    def check_out(self, connection: sqlite3.Connection, *_: object) -> None:
        """Called by the engine's pool for a connection that is taken again. Raises DisconnectionError, for
        which the pool makes another, where somebody has begun to write since it was made."""
        if isinstance(connection, UnchangingConnection) and self._has_log:
            raise DisconnectionError

    def begin(self, connection: Connection) -> None:
        """Called by the engine at the start of a transaction. Raises StoreGoneError as a call does,
        StorageError where the file system does not say, and AccessError where the transaction is to write
        and this user may not."""
        self.require_same()
        if connection.get_execution_options().get("writes", False) and self.is_read_only:
            raise AccessError(
                f"{self.path} can be looked at, and not be written: it, or its folder, is closed"
            )

    def require_same(self) -> None:
        """Raises StoreGoneError where the file was deleted or replaced since it was opened, and StorageError,
        after which it is tried again, where a network file system does not say."""
        if self._opened is None:
            return
        with looking_at(self.path):
            found = identity(self.path)
        if found != self._opened:
            how = "deleted" if found is None else "replaced by another file"
            raise StoreGoneError(f"{self.path} was {how} while it was in use")


def path_of(name: str) -> Path:
    """The file that a name of SQLite means: a path, or file:PATH?OPTIONS."""
    if not name.startswith("file:"):
        return Path(name)
    path = name.removeprefix("file:").partition("?")[0]
    return Path(
        unquote(path.removeprefix("//localhost").removeprefix("//") if path.startswith("//") else path)
    )


def identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of a file; None where there is none. Raises OSError where that cannot be said."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


@contextmanager
def looking_at(path: Path) -> Iterator[None]:
    """Raises StorageError where the file system does not say what is at `path`, or not to this user."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{path} cannot be looked at: {error.strerror}") from error


def _is_written_ahead(path: Path) -> bool:
    with looking_at(path), path.open("rb") as file:
        return file.read(FORMAT + 1)[FORMAT:] == bytes([WRITE_AHEAD])


def _writable(path: Path) -> bool:
    return os.access(path, os.W_OK, effective_ids=AS_WHO_RUNS)


def copy_open_file(engine: Engine, target: Path) -> None:
    """Write what an engine's connections still read, of a file that has gone, into another file.

    Raises StorageError where no connection is left to it, or the other one cannot be written.
    """
    new = target.with_name(f".{target.name}-{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with closing(engine.raw_connection()) as source, closing(sqlite3.connect(new)) as copy:
            connection: Any = source.driver_connection
            connection.rollback()
            connection.backup(copy)
        new.replace(target)
    except (OSError, sqlite3.Error, DBAPIError, StoreGoneError) as error:
        files.discard(new)
        raise StorageError(f"nothing of it could be kept: {error}") from None
