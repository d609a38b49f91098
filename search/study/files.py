"""Checkpoint and weight files of one study, in DATA_DIR/kept/STUDY_ID.

Names the files, checks the free disk space before a trial, and says which files may be deleted. Used by
workers, by export and by gc. Which networks are the best, and how one is trained or saved, it does not know.
"""

import logging
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from search import settings
from search.study import places, worker_logs
from space import files
from space.errors import EnvironmentProblem
from storage.studies import Study
from storage.url import location, normalise, redacted

logger = logging.getLogger(__name__)

RESERVE = 256 << 20  # bytes of disk that are left to the database, the spool and the logs


BYTES_A_PARAMETER = 20  # weights and momentum, the old checkpoint beside the new one, and the weights kept


CHECKPOINT, WEIGHTS = ".checkpoint", ".safetensors"

KEEP_WEIGHTS = "keep-weights"  # beside them: of how many networks the weights are kept, as was last said

WRITING_SECONDS = 3600.0  # since something was last written: a file that is still half written was left so


class StudyFiles:
    """Checkpoints and weights of one study; the weights of its `best` networks are kept, 0 for none."""

    def __init__(self, folder: Path, best: int) -> None:
        self.folder, self.best = folder, best
        self.short = False  # of space, as was said

    def has_space(self, parameters: int) -> bool:
        """Whether a trial of so many parameters may leave files; says when that changes."""
        free = free_bytes(self.folder)
        short = free < RESERVE + BYTES_A_PARAMETER * parameters
        if short and not self.short:
            logger.info(
                "%d MB free for %s: goes on without checkpoints and kept weights", free >> 20, self.folder
            )
        elif self.short and not short:
            logger.info("there is space again: checkpoints and weights are kept")
        self.short = short
        return not short

    def checkpoint(self, training: str) -> Path:
        """Where a training is kept while it lasts: that of a trial by the network's fingerprint, one of the
        second stage by its key."""
        return self.folder / f"{training}{CHECKPOINT}"

    def weights(self, number: int) -> Path:
        """Where the weights of this trial are, if it is one of the best."""
        return self.folder / f"{number}{WEIGHTS}"

    def final(self, number: int, epochs: int, seed: int) -> Path:
        """Where the weights are that a network of the finals has after so many epochs from this seed."""
        return self.folder / f"final-{number}-{epochs}-{seed}{WEIGHTS}"

    def older_final(self, number: int, seed: int) -> Path:
        """Where an older version kept them, of whatever number of epochs it trained last."""
        return self.folder / f"final-{number}-{seed}{WEIGHTS}"

    def finals(self, number: int) -> list[Path]:
        """The weights that a network of the finals has here: of the longest first, of these by seed."""
        found = list[tuple[int, int, Path]]()
        for path in self.folder.glob(f"final-{number}-*{WEIGHTS}"):
            if match := re.fullmatch(rf"final-{number}-(?:(\d+)-)?(\d+)", path.stem):
                found.append((-int(match[1] or 0), int(match[2]), path))
        return [path for _, _, path in sorted(found)]

    def done(self, training: str) -> None:
        """This training is over: nobody will go on with it."""
        files.discard(self.checkpoint(training))

    def keep(self, number: int, save: Callable[[Path], None]) -> None:
        """Keeps weights. A disk that cannot take them is said, and is no reason to lose a trial."""
        self._keep(number, self.weights(number), save)

    def keep_final(self, number: int, epochs: int, seed: int, save: Callable[[Path], None]) -> None:
        """Keeps the weights of a final, in the same way."""
        self._keep(number, self.final(number, epochs, seed), save)

    def _keep(self, number: int, path: Path, save: Callable[[Path], None]) -> None:
        try:
            save(path)
        except EnvironmentProblem as error:
            logger.info("the weights of trial %d are not kept: %s", number, error)

    def tidy(self, best: Collection[int]) -> None:
        """Removes the weights of all trials but these."""
        for path, number in self._kept():
            if number not in best:
                files.discard(path)

    def _kept(self) -> Iterator[tuple[Path, int]]:
        for path in self.folder.glob(f"*{WEIGHTS}"):
            if match := re.fullmatch(r"(\d+)" + re.escape(WEIGHTS), path.name):
                yield path, int(match[1])

    def stale(
        self,
        best: Collection[int],
        unfinished: Collection[str],
        finals: Collection[tuple[int, int, int]] = (),
    ) -> list[Path]:
        """Every file but the weights of these trials and finals (trial, epochs, seed), and the checkpoints of
        these trainings; also what of these is half written for longer than writing takes."""
        names = {self.weights(number).name for number in best}
        names |= {self.final(*final).name for final in finals}
        names |= {self.older_final(number, seed).name for number, _, seed in finals}
        names |= {self.checkpoint(training).name for training in unfinished} | {KEEP_WEIGHTS}
        if not self.folder.is_dir():
            return []
        return sorted(
            path
            for path in self.folder.iterdir()
            if path.name not in names and _is_ours(path) and not _is_being_written(path, names)
        )


def kept_best(folder: Path, said: int | None) -> int:
    """Of how many networks the weights stay in a study's folder: as is said now, else as was said last on
    this machine, else settings.KEEP_WEIGHTS."""
    if said is not None:
        return said
    try:
        return max(0, int((folder / KEEP_WEIGHTS).read_text()))
    except (OSError, ValueError):
        return settings.KEEP_WEIGHTS


def note_best(folder: Path, said: int | None) -> None:
    """Notes the number for workers and gc that are told none. A disk that cannot take it is said."""
    if said is None or (kept_best(folder, None) == said and (folder / KEEP_WEIGHTS).is_file()):
        return
    try:
        files.replace(folder / KEEP_WEIGHTS, f"{said}\n".encode())
    except EnvironmentProblem as error:
        logger.warning("%s: --keep-weights %d is to be given again next time", error, said)


def _is_ours(path: Path) -> bool:
    return path.suffix in (CHECKPOINT, WEIGHTS) or path.name.startswith(".")  # half written, perhaps left


def _is_being_written(path: Path, names: Collection[str]) -> bool:
    """Whether files.replace() has a file of one of these names under way, which then takes its place."""
    if not path.name.startswith(".") or path.stem.removeprefix(".") not in names:
        return False
    try:
        return time.time() - path.stat().st_mtime < WRITING_SECONDS
    except OSError:
        return True  # it has taken its place


def free_bytes(folder: Path) -> int:
    """What the file system of a folder, which need not exist yet, has left."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free


class StudyFolders(NamedTuple):
    """What this machine has of one study of one store, a folder each; they need not be there."""

    kept: Path  # checkpoints and weights
    spool: Path  # what is owed to the study, and cannot be written into its database yet
    logs: Path  # by the study's name alone: other stores may have a study that logs there too


def study_folders(data_dir: Path, storage: str, record: Study) -> StudyFolders:
    """The folders of a study, however its store's URL is spelled.

    Older versions named two of them by the URL as it was typed, and a SQLite file may have been moved since:
    such a one is used, where it is there and no newer one. Raises UsageError for a URL that is none.
    """
    names = study_identities(data_dir, storage, record)
    return StudyFolders(
        kept=_first_there(kept_folder(data_dir), names),
        spool=_first_there(data_dir / "spool", names),
        logs=worker_logs.folder(data_dir, record.name),
    )


def study_identities(data_dir: Path, storage: str, record: Study) -> list[str]:
    """A folder's name for this study of this store (what is owed to one is never paid to another), then the
    name that it has in older versions, and those of files that it was moved from."""
    before = f"{redacted(normalise(storage))} {record.name} {record.created_at.isoformat()}"
    return [
        _identity(storage, record),
        sha256(before.encode()).hexdigest()[:16],
        *_moved(data_dir, storage, record),
    ]


def _moved(data_dir: Path, storage: str, record: Study) -> list[str]:
    return places.moved(data_dir, _identity(storage, record), location(storage), record)


def _identity(storage: str, record: Study) -> str:
    place = f"{location(storage)} {record.name} {record.created_at.isoformat()}"
    return sha256(place.encode()).hexdigest()[:16]


def _first_there(folder: Path, names: Sequence[str]) -> Path:
    """The first of these that is there, else the first of all."""
    return next((folder / name for name in names if (folder / name).is_dir()), folder / names[0])


def note_here(data_dir: Path, storage: str, record: Study) -> None:
    """Says that the study of this store logs in the folder of its name, and where the store is now, also for
    the folders that it has of files that it was moved from."""
    identity = _identity(storage, record)
    worker_logs.mark(worker_logs.folder(data_dir, record.name), identity)
    for one in reversed(_moved(data_dir, storage, record)):
        places.note_moved(data_dir, one, location(storage))
    places.note(data_dir, identity, location(storage), record)


def forget_here(data_dir: Path, storage: str, record: Study) -> None:
    """Takes back what note_here() says, of files that it was moved from too; the logs stay."""
    identities = study_identities(data_dir, storage, record)
    worker_logs.unmark(worker_logs.folder(data_dir, record.name), identities)
    places.forget(data_dir, identities)


def own_folders(data_dir: Path, storage: str, record: Study) -> list[Path]:
    """The folders that hold nothing of a study of another store: that of the logs is left out where they may
    be another one's too."""
    folders = study_folders(data_dir, storage, record)
    is_own = worker_logs.is_of_one(folders.logs, study_identities(data_dir, storage, record))
    return [folders.kept, folders.spool, *([folders.logs] if is_own else [])]


def move(data_dir: Path, storage: str, old: Study, new: Study) -> None:
    """Moves the folders that are a study's own to its new name, unless another one is there already."""
    own, logs = own_folders(data_dir, storage, old), worker_logs.folder(data_dir, old.name)
    forget_here(data_dir, storage, old)
    for here, there in zip(own, study_folders(data_dir, storage, new), strict=False):
        if here.is_dir() and not there.exists():
            here.rename(there)
            if here == logs:
                note_here(data_dir, storage, new)
    places.note(data_dir, _identity(storage, new), location(storage), new)


def kept_folder(data_dir: Path) -> Path:
    """Where on this machine the studies keep checkpoints and weights, each in a folder of its identity."""
    return data_dir / "kept"
