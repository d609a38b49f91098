"""One trial's entries, in order, into a database that may be away.

Writing is done by a thread of its own: a training waits a few seconds for an answer, then goes on without one
and without pruning, and what it owes stays in a spool file. At the end of the trial the debt is paid, however
long the database is away, up to the worker's patience.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import optuna
from optuna.trial import Trial
from sqlalchemy import Engine
from sqlalchemy.exc import (
    DataError,
    IntegrityError,
    ProgrammingError,
)

from search.optuna_adapter import storage as optuna_storage
from search.optuna_adapter.pruner import Pruning
from search.recording import reconcile as reconciling
from search.recording.outage import OUT_OF_REACH, Outage, one_line
from search.recording.spool import Spool, SpooledTrial, TrialEnd
from space.errors import LeaseLostError
from storage import candidates, leases
from storage.candidates import TransactionStep
from storage.leases import Claim
from storage.records import Candidate, Epoch, State, TrainingMetrics

ANSWER_SECONDS = 5.0  # that a training waits for an entry


class TrialRecorder:
    """Where a trial is written down. Raises LeaseLostError once the trial is somebody else's."""

    def __init__(
        self,
        engine: Engine,
        study: optuna.Study,
        claim: Claim,
        trial: Trial,
        candidate: Candidate,
        spool: Path,
        patience: Outage,
    ) -> None:
        self.engine, self.study, self.claim = engine, study, claim
        self.trial, self.candidate, self.patience = trial, candidate, patience
        self.pruning = Pruning(study, trial)
        self.spool = Spool(spool, claim)
        self.epochs: list[Epoch] = []  # that are owed
        self.entered: dict[int, Epoch] = {}
        self.anew = False  # what is stored may be of a training that was given up
        self.end: TrialEnd | None = None
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

    def close(self, state: State, reason: str | None, outcome: TrainingMetrics | None) -> None:
        """Enters how the trial ended. Raises StorageError when patience is at an end; the spool stays."""
        self._require_open()
        self.end = TrialEnd(state, reason, outcome)
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
        owed = SpooledTrial(
            self.claim, self.candidate.id, self.trial.number, tuple(epochs.values()), self.end
        )
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

    def _finish(self, end: TrialEnd) -> None:
        trial_id, steps = self.trial._trial_id, self.pruning.steps
        state, value = reconciling.optuna_outcome(end.state, end.outcome, steps)
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

    def _in_both(self, write: Callable[..., None], also: TransactionStep) -> None:
        """Into the ledger and Optuna's tables in one transaction: half the commits, and no death in between.

        Where Optuna's tables refuse (somebody deletes the study in its dashboard) the ledger counts.
        """
        try:
            write(in_transaction=also)
        except (IntegrityError, ProgrammingError, DataError) as error:
            self.patience.say(f"trial {self.trial.number}: Optuna's tables refuse: {one_line(error)}")
            write()
