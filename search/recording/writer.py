"""The thread that writes one trial's messages into the database, in order: Epoch, Restart, TrialEnd.

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

import optuna
from optuna.trial import Trial
from sqlalchemy import Engine

from search.optuna_adapter.entries import EndEntry, Entry, EpochEntry, write_both
from search.optuna_adapter.pruner import Pruning
from search.recording import reconcile as reconciling
from search.recording.outage import one_line
from search.recording.spool import TrialEnd
from storage import candidates
from storage.leases import Claim
from storage.row_types import Candidate, Epoch

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


@dataclass(frozen=True)
class TrialRows:
    """The rows of one trial in the ledger and in Optuna's tables."""

    engine: Engine
    study: optuna.Study
    claim: Claim
    trial: Trial
    candidate: Candidate

    def save(self, epoch: Epoch) -> None:
        """Raises LeaseLostError, and OUT_OF_REACH while the database is away."""
        save = partial(candidates.save_epoch, self.engine, self.claim, self.candidate.id, epoch)
        self._in_both(save, EpochEntry(self.trial.number, epoch.epoch, epoch.validation_accuracy))

    def finish(self, end: TrialEnd, written: dict[int, Epoch], anew: bool) -> None:
        """`written` are all epochs that count; with `anew` they replace what is stored. Raises as save()."""
        steps = {step: epoch.validation_accuracy for step, epoch in written.items()}
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
            logger.info("trial %d: Optuna's tables refuse: %s", self.trial.number, one_line(refusal))


def write_messages(rows: TrialRows, inbox: Inbox) -> None:
    """Until None comes: writes what is owed, the oldest first, and answers the message that came last."""
    pruning = Pruning(rows.study, rows.trial)
    written: dict[int, Epoch] = {}  # by their number, since the last restart
    owed = deque[Epoch | TrialEnd]()
    anew = False  # what is stored may be of a training that was given up
    while (posted := inbox.get()) is not None:
        message, pruned = posted.message, False
        if isinstance(message, Restart):
            anew = anew or bool(written or owed)
            written.clear()
            owed.clear()
            pruning.steps.clear()
        elif not (owed and owed[-1] is message):  # else said again, because it failed
            owed.append(message)
        try:
            while owed:
                pruned = _write_and_ask_pruner(rows, pruning, owed[0], written, anew)
                owed.popleft()
        except BaseException as error:
            posted.answer.set_exception(error)
        else:
            posted.answer.set_result(pruned)


def _write_and_ask_pruner(
    rows: TrialRows, pruning: Pruning, message: Epoch | TrialEnd, written: dict[int, Epoch], anew: bool
) -> bool:
    """Writes one message, and asks the pruner after an epoch. Returns whether it stops the trial."""
    if isinstance(message, TrialEnd):
        rows.finish(message, written, anew)
        return False
    rows.save(message)
    pruning.steps[message.epoch] = message.validation_accuracy
    written[message.epoch] = message
    return pruning.stops()
