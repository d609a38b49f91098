"""Looks at one study again and again, while its database comes and goes.

Reads the store; writes nothing. Called by `search wait`, `search status --watch` and the live page.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine

from space.errors import StorageError
from storage import database, studies
from storage.studies import Study


class StudyFollower:
    """One study of a store, or whatever is its newest; connections are kept from look to look, and made anew
    once they broke."""

    def __init__(self, url: str, name: str | None, goes_on: bool = False) -> None:
        """The study of this name, without one the newest of the first look; with `goes_on` that of each
        look."""
        self.url, self.name = url, name
        self._always_newest = goes_on and name is None
        self._engine: Engine | None = None

    @contextmanager
    def look(self) -> Iterator[tuple[Engine, Study]]:
        """The store and the study's row as it is now.

        Raises StorageError, of one line, where the database is away or goes meanwhile, StudyError where there
        is no such study.
        """
        try:
            if self._engine is None:
                self._engine = database.connect(self.url, create=False)
                database.check(self._engine)
            with database.translated(self._engine):
                record = studies.find(self._engine, None if self._always_newest else self.name)
                self.name = record.name
                yield self._engine, record
        except StorageError:
            self.close()
            raise

    def close(self) -> None:
        """Gives the connections back; another look makes new ones."""
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None
