"""One trial's entries, in order, into a database that may be away.

Writing is done by a thread of its own: a training waits a few seconds for an answer, then goes on without one
and without pruning, and what it owes stays in a spool file. At the end of the trial the debt is paid, however
long the database is away, up to the worker's patience.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from typing import TypeVar

import optuna
from optuna.trial import Trial
from sqlalchemy import Engine
from sqlalchemy.exc import (
    DataError,
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from search.optuna_adapter import storage as optuna_storage
from search.optuna_adapter import study as optuna_study
from search.optuna_adapter.pruner import Pruning
from search.recording.spool import End, Owed, Spool
from space.errors import LeaseLostError, StorageError
from storage import candidates, leases
from storage.candidates import Also
from storage.database import redacted
from storage.leases import Claim
from storage.records import Candidate, Epoch, Measured, State

# The database, not the trial: wait and try again.
OUT_OF_REACH = (
    StorageError,
    OperationalError,
    InterfaceError,
    InternalError,
    PoolTimeout,
    optuna.exceptions.StorageInternalError,
)
ANSWER_SECONDS = 5.0  # that a training waits for an entry
RETRY_SECONDS = 1.0
Answer = TypeVar("Answer")


class OutOfPatienceError(StorageError):
    """The database was away for too long, or the user does not want to wait for it."""


class Patience:
    """How long the database has been away, and whether that is too long, or nobody wants to wait."""

    def __init__(
        self, seconds: float, say: Callable[[str], None], given_up: Callable[[], bool] = lambda: False
    ) -> None:
        self.seconds, self.say, self.given_up = seconds, say, given_up
        self.since: float | None = None  # when a wait began
        self.missed = False  # an answer, without waiting for it
        self.returned = float("-inf")

    def wait(self, error: BaseException) -> None:
        """Waits a moment. Raises OutOfPatienceError when the database was away for longer than it may."""
        if isinstance(error, OutOfPatienceError):
            raise error
        line = one_line(error)
        if self.since is None:
            self.since = monotonic()
            self.say(f"the database is away: {line}")
        if self.given_up():
            raise OutOfPatienceError(f"told to end while the database is away: {line}") from None
        if monotonic() - self.since > self.seconds:
            raise OutOfPatienceError(f"the database was away for {self.seconds:.0f} s: {line}") from None
        sleep(RETRY_SECONDS)

    def insist(self, act: Callable[[], Answer]) -> Answer:
        """What `act`, which may be repeated, returns once the database lets it. Raises OutOfPatienceError."""
        while True:
            try:
                answer = act()
            except OUT_OF_REACH as error:
                self.wait(error)
            else:
                self.back()
                return answer

    def miss(self) -> None:
        """It did not answer, and nobody waits for it."""
        self.missed = True

    def back(self) -> None:
        """It answered."""
        if self.since is not None:
            self.say(f"the database is back after {monotonic() - self.since:.0f} s")
        if self.since is not None or self.missed:
            self.returned = monotonic()
        self.since, self.missed = None, False

    def calm(self, seconds: float) -> bool:
        """Whether it has answered for so long that a living worker would have been heard by now."""
        return self.since is None and not self.missed and monotonic() - self.returned > seconds


def one_line(error: BaseException) -> str:
    """What an error of the database says, without the statement."""
    nothing = "it does not answer" if isinstance(error, TimeoutError) else type(error).__name__
    return redacted((str(error).strip().splitlines() or [nothing])[0])


class Book:
    """Where a trial is written down. Raises LeaseLostError once the trial is somebody else's."""

    def __init__(
        self,
        engine: Engine,
        study: optuna.Study,
        claim: Claim,
        trial: Trial,
        candidate: Candidate,
        spool: Path,
        patience: Patience,
    ) -> None:
        self.engine, self.study, self.claim = engine, study, claim
        self.trial, self.candidate, self.patience = trial, candidate, patience
        self.pruning = Pruning(study, trial)
        self.spool = Spool(spool, claim)
        self.epochs: list[Epoch] = []  # that are owed
        self.entered: dict[int, Epoch] = {}
        self.anew = False  # what is stored may be of a training that was given up
        self.end: End | None = None
        self.unkept = False  # on the disk, as was said
        self.paid = False  # the end is written, by us and by Optuna
        self.writer = ThreadPoolExecutor(1, thread_name_prefix="book")
        self.writing: Future[bool] | None = None

    def epoch(self, epoch: Epoch) -> bool:
        """Enters an epoch. Returns whether the pruner stops the trial; False while nobody can say."""
        self._require_open()
        self.epochs.append(epoch)
        try:
            pruned = self._write(ANSWER_SECONDS)
        except (TimeoutError, *OUT_OF_REACH) as error:
            self._keep()
            if not self.patience.missed:
                self.patience.say(
                    f"trial {self.trial.number} goes on without the database: {one_line(error)}"
                )
            self.patience.miss()
            return False
        self.patience.back()
        self.spool.clear()
        return pruned

    def start_over(self) -> None:
        """The training starts again from its first epoch: those so far do not count."""
        self.anew = self.anew or bool(self.entered or self.epochs)
        self.epochs, self.entered = [], {}
        self.pruning.steps.clear()

    def close(self, state: State, reason: str | None, outcome: Measured | None) -> None:
        """Enters how the trial ended. Raises StorageError when patience is at an end; the spool stays."""
        self._require_open()
        self.end = End(state, reason, outcome)
        try:
            self._pay_patiently()
        except LeaseLostError:
            self.patience.insist(
                lambda: candidates.keep_late(self.engine, self.claim, self.candidate.id, state, outcome)
            )
            self.spool.clear()
            raise
        except BaseException:
            self.spool.close()
            raise
        finally:
            self.writer.shutdown(wait=False)
        self.patience.back()
        self.spool.clear()

    def _pay_patiently(self) -> None:
        while not self.paid:
            try:
                self._write(ANSWER_SECONDS)
            except (TimeoutError, *OUT_OF_REACH) as error:
                self._keep()
                self.patience.wait(error)

    def _require_open(self) -> None:
        """Once the end was entered, by whichever thread, the trial is over for all of them."""
        if self.end is not None:
            raise leases.lost(self.claim)

    def drop(self) -> None:
        """The trial is another's: nothing more is owed."""
        self.writer.shutdown(wait=False)
        self.spool.clear()

    def _keep(self) -> None:
        """On the disk if that takes it; what is owed stays in memory too."""
        owing = tuple(self.epochs)  # first: the writer moves them from here to there
        epochs = {epoch.epoch: epoch for epoch in (*self.entered.values(), *owing)}  # all: see results.finish
        owed = Owed(self.claim, self.candidate.id, self.trial.number, tuple(epochs.values()), self.end)
        try:
            self.spool.keep(owed)
        except OSError as error:
            if not self.unkept:
                self.patience.say(
                    f"{self.spool.path} cannot be written, it is kept in memory: {error.strerror}"
                )
            self.unkept = True

    def _write(self, seconds: float) -> bool:
        """All that is owed, in the writer's thread; one that hangs is waited for again, not doubled."""
        if self.writing is None or self.writing.done():
            self.writing = self.writer.submit(self._pay)
        return self.writing.result(seconds)

    def _pay(self) -> bool:
        pruned = False
        while owed := self.epochs:
            self._enter(owed[0], owed)
            pruned = self.pruning.stops()
            owed.pop(0)
        if self.end is not None:
            self._finish(self.end)
            self.paid = True
        return pruned

    def _enter(self, epoch: Epoch, owed: list[Epoch]) -> None:
        trial_id, step, value = self.trial._trial_id, epoch.epoch, epoch.validation_accuracy
        save = partial(candidates.save_epoch, self.engine, self.claim, self.candidate.id, epoch)
        self._in_both(save, partial(optuna_storage.report, trial_id=trial_id, step=step, value=value))
        if owed is self.epochs:  # not started over meanwhile
            self.pruning.steps[step] = value
            self.entered[step] = epoch

    def _finish(self, end: End) -> None:
        trial_id, steps = self.trial._trial_id, self.pruning.steps
        state, value = optuna_study.told(end.state, end.outcome, steps)
        finish = partial(
            candidates.finish,
            self.engine,
            self.claim,
            self.candidate.id,
            end.state,
            reason=end.reason,
            outcome=end.outcome,
            epochs=self.entered.values(),
            anew=self.anew,
        )
        tell = partial(
            optuna_storage.end, trial_id=trial_id, state=state, value=value, steps=steps, anew=self.anew
        )
        self._in_both(finish, tell)

    def _in_both(self, write: Callable[..., None], also: Also) -> None:
        """Into the ledger and Optuna's tables in one transaction: half the commits, and no death in between.

        Where Optuna's tables refuse (somebody deletes the study in its dashboard) the ledger counts.
        """
        try:
            write(also=also)
        except (IntegrityError, ProgrammingError, DataError) as error:
            self.patience.say(f"trial {self.trial.number}: Optuna's tables refuse: {one_line(error)}")
            write()
