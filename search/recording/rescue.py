"""Keeps what a SQLite store held whose file was deleted or replaced while a search ran.

Whoever had it open still reads it, until the last of them ends: it is copied whole into the spool's folder,
where the trials under way lie already. Called by search/launcher/launcher.py and search/worker/worker.py,
once they train no more.
"""

import shlex
from pathlib import Path

from sqlalchemy import Engine

from space.errors import StorageError, StoreGoneError
from storage import sqlite_file

KEPT = "kept-store.db"  # in the spool's folder of the study


def keep(gone: StoreGoneError, engine: Engine, spool: Path, study: str) -> StoreGoneError:
    """Copies the store and returns the error to raise, which says where the copy is, how it comes back, and
    by which name the search goes on: a launch that is given none begins another."""
    place, kept = sqlite_file.path_of(str(engine.url.database)).absolute(), spool / KEPT
    try:
        sqlite_file.copy_open_file(engine, kept)
    except StorageError as error:
        return StoreGoneError(f"{gone}; {error}")
    back = f"`cp {shlex.quote(str(kept))} {shlex.quote(str(place))}`"
    # SQLite takes a log that lies beside a file for the file's own.
    other = "move the other file away, with its -wal and -shm, then " if place.exists() else ""
    return StoreGoneError(
        f"{gone}: what it held and what was trained is kept; {other}{back}, and the same launch with"
        f" `--study {shlex.quote(study)}` goes on"
    )
