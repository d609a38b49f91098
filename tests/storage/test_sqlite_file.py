"""The file of a SQLite store: what a look says while others write or replace it, or nobody answers."""

import errno
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import pytest
from sqlalchemy import Engine, text

from search.recording import rescue
from space.errors import StorageError, StoreGoneError
from storage import database, sqlite_file


def names(engine: Engine) -> list[str]:
    with database.reading(engine) as connection:
        return list(connection.execute(text("SELECT name FROM notes ORDER BY rowid")).scalars())


def insert(path: Path, name: str) -> sqlite3.Connection:
    """Somebody else, who writes and stays."""
    writer = sqlite3.connect(path)
    writer.execute("CREATE TABLE IF NOT EXISTS notes (name TEXT)")
    writer.execute("INSERT INTO notes VALUES (?)", (name,))
    writer.commit()
    return writer


def test_a_reader_without_rights_sees_what_is_written_after_its_first_look(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A report that is served, or a dashboard, stays open for hours."""
    owner = database.connect(sqlite_url)
    path = Path(str(owner.url.database))
    owner.dispose()
    insert(path, "first").close()  # the last to write takes the log away
    monkeypatch.setattr(sqlite_file, "_writable", lambda _: False)
    reader = database.connect(sqlite_url)
    assert not path.with_name(f"{path.name}-wal").exists()
    assert names(reader) == ["first"]
    with closing(insert(path, "second")):
        assert names(reader) == ["first", "second"]
    reader.dispose()


def test_a_file_that_is_written_without_a_log_is_not_taken_for_one_that_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rolled-back.db"
    with closing(sqlite3.connect(path)) as writer:  # as on a network file system
        writer.execute("CREATE TABLE notes (name TEXT)")
        writer.execute("INSERT INTO notes VALUES ('first')")
        writer.commit()
        monkeypatch.setattr(sqlite_file, "_writable", lambda _: False)
        reader = database.connect(f"sqlite:///{path}")
        assert names(reader) == ["first"]
        writer.execute("INSERT INTO notes VALUES ('second')")
        writer.commit()
        assert names(reader) == ["first", "second"]
    reader.dispose()


def test_a_file_system_that_does_not_answer_is_waited_for_as_a_server_would_be(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = database.connect(sqlite_url)

    def stale(_: Path) -> NoReturn:
        raise OSError(errno.ESTALE, "Stale file handle")

    with monkeypatch.context() as patch:
        patch.setattr(sqlite_file, "identity", stale)
        with (
            pytest.raises(StorageError, match="cannot be looked at: Stale file handle") as told,
            engine.begin(),
        ):
            pass
        assert not isinstance(told.value, StoreGoneError)
    with engine.begin() as connection:
        assert connection.execute(text("SELECT 1")).scalar_one() == 1
    engine.dispose()


@pytest.mark.parametrize("is_replaced", [True, False])
def test_the_way_back_takes_the_log_of_another_file_out_of_the_way(
    sqlite_url: str, tmp_path: Path, is_replaced: bool
) -> None:
    """SQLite would take it for that of the file that is brought back."""
    engine = database.connect(sqlite_url)
    database.prepare(engine)
    place = Path(str(engine.url.database))
    place.unlink()
    if is_replaced:
        place.write_text("another")
    said = str(rescue.keep(StoreGoneError("gone"), engine, tmp_path / "spool", "my night"))
    assert said.endswith(", and the same launch with `--study 'my night'` goes on")
    assert ("move the other file away, with its -wal and -shm, then `cp" in said) == is_replaced
    engine.dispose()
