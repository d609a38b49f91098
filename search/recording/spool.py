"""Files of what a worker could not write while the database was away, in DATA_DIR/spool/STUDY, one for a
trial.

Written by the recorder: replaced whole each time, and locked (flock) by its owner while that lives. Read by
take_in(), before each claim of any worker of this machine: what a dead owner left is written into the
database; in time it counts, late it is kept as late.
"""

import fcntl
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import IO

import optuna
from sqlalchemy import Engine

from search.optuna_adapter.entries import EndEntry, write_both
from search.recording import reconcile as reconciling
from space.errors import LeaseLostError
from storage import candidates
from storage.leases import Claim
from storage.row_types import Epoch, State, TrainingMetrics

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrialEnd:
    """How a trial ended."""

    state: State
    reason: str | None
    outcome: TrainingMetrics | None


@dataclass(frozen=True)
class SpooledTrial:
    """All entries of one trial, some of which the database does not have yet."""

    claim: Claim
    candidate_id: int
    number: int
    epochs: tuple[Epoch, ...]
    end: TrialEnd | None

    def text(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> "SpooledTrial":
        """Raises ValueError, KeyError, TypeError or RecursionError for what is none."""
        found = json.loads(text)
        end = found["end"]
        if end:
            outcome = TrainingMetrics(**end["outcome"]) if end["outcome"] else None
            end = TrialEnd(State(end["state"]), end["reason"], outcome)
        epochs = tuple(Epoch(**epoch) for epoch in found["epochs"])
        return cls(Claim(**found["claim"]), found["candidate_id"], found["number"], epochs, end)


class Spool:
    """The file of one trial; it exists only while something is owed."""

    def __init__(self, folder: Path, claim: Claim) -> None:
        self.path = folder / f"{claim.study_id}-{claim.token}.json"
        self._file: IO[str] | None = None

    def keep(self, owed: SpooledTrial) -> None:
        """Holds exactly this from now on, on the disk. Raises OSError, and then holds what it held."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = self.path.with_suffix(".new")
        file = new.open("w", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(owed.text() + "\n")
            file.flush()
            os.fsync(file.fileno())
            new.rename(self.path)
        except OSError:
            new.unlink(missing_ok=True)
            with suppress(OSError):  # closing tries to write what is left
                file.close()
            raise
        self.close()
        self._file = file

    def clear(self) -> None:
        """Nothing is owed any more. A file that cannot be removed stays: it holds nothing that is new."""
        if self._file is not None:
            _remove(self.path)
            self.close()

    def close(self) -> None:
        """Leaves the file to whoever starts next."""
        if self._file is not None:
            self._file.close()
            self._file = None


def take_in(folder: Path, study: optuna.Study, engine: Engine, study_id: int) -> None:
    """Writes down what dead workers of this machine still owed to this study.

    Raises OUT_OF_REACH's errors.
    """
    for path in sorted(folder.glob(f"{study_id}-*.json")):
        with _abandoned(path) as file:
            if file is None:
                continue
            try:
                owed = SpooledTrial.parse(file.read())
            except (ValueError, KeyError, TypeError, RecursionError):
                logger.info("%s is damaged and is left where it is", path)
                continue
            logger.info("trial %d: %s, from %s", owed.number, settle(owed, study, engine), path.name)
            _remove(path)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        logger.info("%s cannot be removed: %s", path, error.strerror)


@contextmanager
def _abandoned(path: Path) -> Iterator[IO[str] | None]:
    """The open file, if no living worker holds it."""
    try:
        # A network file system locks exclusively only what is open for writing.
        file = path.open("r+" if os.access(path, os.W_OK) else "r", encoding="utf-8")
    except OSError:
        yield None
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            replaced = not os.path.samestat(os.fstat(file.fileno()), path.stat())
        except OSError:
            yield None
            return
        yield None if replaced else file


def settle(owed: SpooledTrial, study: optuna.Study, engine: Engine) -> str:
    """Writes down one trial. Returns what became of it: written down, late, or never ended."""
    steps = {epoch.epoch: epoch.value for epoch in owed.epochs}
    try:
        if owed.end is None:
            for epoch in owed.epochs:
                candidates.save_epoch(engine, owed.claim, owed.candidate_id, epoch)
            return "epochs written down, the end never came"
        state, value = reconciling.optuna_outcome(owed.end.state, owed.end.outcome, steps)
        finish = partial(
            candidates.finish,
            engine,
            owed.claim,
            owed.candidate_id,
            owed.end.state,
            reason=owed.end.reason,
            outcome=owed.end.outcome,
            epochs=owed.epochs,
            anew=bool(owed.epochs),
        )
        refusal = write_both(study, finish, EndEntry(owed.number, state, value, steps, bool(steps)))
    except LeaseLostError:
        if owed.end is not None:
            candidates.keep_late(engine, owed.claim, owed.candidate_id, owed.end.state, owed.end.outcome)
        return "late, another worker had it"
    return f"{owed.end.state.value}, written down" + (", but not by Optuna" if refusal else "")
