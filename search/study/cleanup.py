"""Finds and removes files of a study in DATA_DIR/kept that no running trial and no retry will read.

Reads the ledger and the folder; called by `search gc` and `search delete`.
"""

import shutil
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from sqlalchemy import Engine

from search.study.files import StudyFiles
from storage import candidates, rungs
from storage.row_types import DEDUPLICATED, TRAINED, Stage, State
from storage.studies import Study

DAY_SECONDS = 24 * 3600.0


def stale(engine: Engine, record: Study, folder: Path, best: int) -> list[Path]:
    """The files in the study's folder that may go; `best` is of how many networks the weights stay."""
    rows = candidates.candidates(engine, record.id)
    over = {row.fingerprint for row in rows if row.state in DEDUPLICATED - {State.RUNNING}}
    started = {row.fingerprint for row in rows if row.state in (State.RUNNING, State.LOST, State.CANCELLED)}
    done = sum(row.state in TRAINED for row in rows) >= record.trials
    # Weights are kept before the end of a trial is written; one that has ended since is among the leaders.
    running = {row.number for row in rows if row.state == State.RUNNING}
    leaders = candidates.best(engine, record.id, best) if best else []
    second = rungs.of_study(engine, record.id)
    finals = {(one.number, one.epochs, one.seed) for one in second if one.stage == Stage.FINALS}
    unfinished = {one.key for one in second if not one.has_ended} | (set() if done else started - over)
    return StudyFiles(folder, best).stale({row.number for row in leaders} | running, unfinished, finals)


def others(kept: Path, known: Collection[str]) -> list[Path]:
    """The folders that belong to none of these studies."""
    return [path for path in _inside(kept) if path.is_dir() and path.name not in known]


def size_of(paths: Iterable[Path]) -> int:
    """Bytes of files, and of folders with what is in them."""
    return sum(_bytes(path) + size_of(_inside(path)) for path in paths)


def remove(paths: Iterable[Path]) -> None:
    """Removes files; one that is gone already is no error."""
    for path in paths:
        with suppress(OSError):
            path.unlink()


def remove_folders(folders: Iterable[Path]) -> None:
    """Removes folders with what is in them; one that is gone already is no error."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def is_quiet(folder: Path, now: float) -> bool:
    """Whether nothing in a folder was written for a day: another store's study may be at work in it."""
    newest = max((path.stat().st_mtime for path in [folder, *_inside(folder)]), default=0.0)
    return now - newest > DAY_SECONDS


def _inside(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _bytes(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size if path.is_file() else 0
    return 0
