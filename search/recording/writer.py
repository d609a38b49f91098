"""The thread that writes one training's messages into the database, in order: Epoch, Restart, TrialEnd.

It reads them from the inbox of a TrialRecorder and answers each. What the database has not taken is its own
business: it is tried again with the next message. It knows nothing of the spool and waits for nobody.
"""

import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Protocol

import optuna
from optuna.trial import Trial
from sqlalchemy import Engine

from search.optuna_adapter.entries import EndEntry, Entry, EpochEntry, write_both
from search.optuna_adapter.pruner import Pruning
from search.recording import reconcile as reconciling
from search.recording.outage import one_line
from search.recording.spool import SpooledTrial, TrialEnd
from storage import candidates
from storage.leases import Claim
from storage.row_types import Candidate, Epoch, State, TrainingMetrics

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Restart:
    """The training starts again from its first epoch: those so far do not count."""


Message = Epoch | Restart | TrialEnd


@dataclass(frozen=True)
class Posted:
    """A message, and where its answer goes: whether the pruner stops the trial, or what was raised."""

    message: Message
    answer: Future[bool]


Inbox = SimpleQueue[Posted | None]  # None ends the thread


class Rows(Protocol):
    """Where one training is written down. Methods raise LeaseLostError once it is somebody else's, and
    OUT_OF_REACH while the database is away; each may be said again."""

    @property
    def claim(self) -> Claim:
        """The right to train it."""

    @property
    def name(self) -> str:
        """What it is called in the log."""

    def save(self, epoch: Epoch) -> None:
        """Writes one epoch."""

    def finish(self, end: TrialEnd, written: dict[int, Epoch], anew: bool) -> None:
        """Writes the end. `written` are all epochs that count; with `anew` they replace what is stored."""

    def keep_late(self, state: State, outcome: TrainingMetrics | None) -> None:
        """Notes what came after the claim was lost."""

    def owed(self, epochs: tuple[Epoch, ...], end: TrialEnd | None) -> SpooledTrial | None:
        """What the next worker of this machine is to take in, should this one end while the database is away;
        None where there is nothing that it could not train again from the checkpoint."""

    def pruning(self) -> Pruning | None:
        """Whom to ask whether it goes on; None where nobody is asked."""


@dataclass(frozen=True)
class TrialRows:
    """The rows of one trial in the ledger and in Optuna's tables."""

    engine: Engine
    study: optuna.Study
    claim: Claim
    trial: Trial
    candidate: Candidate

    @property
    def name(self) -> str:
        return f"trial {self.trial.number}"

    def pruning(self) -> Pruning:
        return Pruning(self.study, self.trial)

    def owed(self, epochs: tuple[Epoch, ...], end: TrialEnd | None) -> SpooledTrial:
        return SpooledTrial(self.claim, self.candidate.id, self.trial.number, epochs, end)

    def keep_late(self, state: State, outcome: TrainingMetrics | None) -> None:
        candidates.keep_late(self.engine, self.claim, self.candidate.id, state, outcome)

    def save(self, epoch: Epoch) -> None:
        save = partial(candidates.save_epoch, self.engine, self.claim, self.candidate.id, epoch)
        self._in_both(save, EpochEntry(self.trial.number, epoch.epoch, epoch.value))

    def finish(self, end: TrialEnd, written: dict[int, Epoch], anew: bool) -> None:
        steps = {step: epoch.value for step, epoch in written.items()}
        state, value = reconciling.optuna_outcome(end.state, end.outcome, steps)
        finish = partial(
            candidates.finish,
            self.engine,
            self.claim,
            self.candidate.id,
            end.state,
            reason=end.reason,
            outcome=end.outcome,
            epochs=written.values(),
            anew=anew,
        )
        self._in_both(finish, EndEntry(self.trial.number, state, value, steps, anew))

    def _in_both(self, write: Callable[..., None], entry: Entry) -> None:
        """Into the ledger and Optuna's tables. Where Optuna's tables refuse the ledger counts."""
        refusal = write_both(self.study, write, entry)
        if refusal is not None:
            logger.info("%s: Optuna's tables refuse: %s", self.name, one_line(refusal))


def write_messages(rows: Rows, inbox: Inbox) -> None:
    """Until None comes: writes what is owed, the oldest first, and answers the message that came last."""
    pruning = rows.pruning()
    written: dict[int, Epoch] = {}  # by their number, since the last restart
    owed = deque[Epoch | TrialEnd]()
    anew = False  # what is stored may be of a training that was given up
    while (posted := inbox.get()) is not None:
        message, pruned = posted.message, False
        if isinstance(message, Restart):
            anew = anew or bool(written or owed)
            written.clear()
            owed.clear()
            if pruning:
                pruning.steps.clear()
        elif not (owed and owed[-1] is message):  # else said again, because it failed
            owed.append(message)
        try:
            while owed:
                _write(rows, owed[0], written, anew)
                done = owed.popleft()  # whatever the pruner says: it is written
                if pruning and isinstance(done, Epoch):
                    pruned = _ask_pruner(rows, pruning, done)
        except BaseException as error:
            posted.answer.set_exception(error)
        else:
            posted.answer.set_result(pruned)


def _write(rows: Rows, message: Epoch | TrialEnd, written: dict[int, Epoch], anew: bool) -> None:
    """Writes one message."""
    if isinstance(message, TrialEnd):
        rows.finish(message, written, anew)
        return
    rows.save(message)
    written[message.epoch] = message


def _ask_pruner(rows: Rows, pruning: Pruning, epoch: Epoch) -> bool:
    """Whether the pruner stops the trial after this epoch. It does not where Optuna's part of the trial is
    gone, as while somebody deletes or renames the study in its dashboard: the ledger counts."""
    pruning.steps[epoch.epoch] = epoch.value
    try:
        return pruning.stops()
    except KeyError as error:
        logger.info("%s: the pruner cannot say, so it goes on: %s", rows.name, one_line(error))
        return False
