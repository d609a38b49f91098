"""What Optuna's tables hold of a training, as two entries: the value of an epoch, and the end of the trial.

write_both() writes an entry beside the ledger's: where shortcuts are on into Optuna's tables in the ledger's
own transaction, so that no death comes between the two; else by Optuna's public interface once the ledger has
committed. A death in between is repaired by recording/reconcile.py, since the ledger is what counts. Called
by recording/writer.py and recording/spool.py.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.trial import TrialState
from sqlalchemy import Connection
from sqlalchemy.exc import DataError, IntegrityError, ProgrammingError

from search.optuna_adapter import shortcuts

# The tables are not as they should be; to wait for the database does not help.
REFUSALS = (IntegrityError, ProgrammingError, DataError)


@dataclass(frozen=True)
class EpochEntry:
    """A trial's value after an epoch (what the search maximises, 0 to 1), in place of one that is there."""

    number: int
    epoch: int
    value: float

    def write(self, connection: Connection, trial_id: int) -> None:
        from search.optuna_adapter import statements  # imports private modules of Optuna

        statements.report(connection, trial_id, self.epoch, self.value)

    def tell(self, study: optuna.Study, trial_id: int) -> None:
        # Trial.report() ignores a second value for an epoch, which a training that starts over has.
        study._storage.set_trial_intermediate_value(trial_id, self.epoch, self.value)


@dataclass(frozen=True)
class EndEntry:
    """How a trial ended: its state, its value (of a pruned one that of its last epoch), and all its epochs.

    `epochs` replace what is stored where some of them are not there, or with `anew`.
    """

    number: int
    state: TrialState
    value: float | None
    epochs: Mapping[int, float]
    anew: bool

    def write(self, connection: Connection, trial_id: int) -> None:
        from search.optuna_adapter import statements

        statements.end(connection, trial_id, self.state, self.value, self.epochs, self.anew)

    def tell(self, study: optuna.Study, trial_id: int) -> None:
        """By study.tell(), which finds the value of a pruned trial in its last epoch.

        Optuna has no way to take back the later epochs of a training that started over and then was stopped.
        """
        stored = study._storage.get_trial(trial_id)
        for epoch, value in self.epochs.items():
            if stored.intermediate_values.get(epoch) != value and not stored.state.is_finished():
                study._storage.set_trial_intermediate_value(trial_id, epoch, value)
        final = self.value if self.state == TrialState.COMPLETE else None
        study.tell(self.number, final, state=self.state, skip_if_finished=True)


Entry = EpochEntry | EndEntry


def write_both(study: optuna.Study, write: Callable[..., None], entry: Entry) -> Exception | None:
    """Writes the entry beside the ledger's part, in one transaction: write(in_transaction=step) writes that
    part and calls step(connection) before it commits.

    Returns None, or the error with which Optuna's tables refused (somebody deletes the study in its
    dashboard): then the ledger's part is written all the same. Raises what `write` does, and SQLAlchemy's or
    Optuna's errors where the database is away; both parts may be written again then. A trial of Optuna's that
    has ended stays as it is.
    """
    try:
        trial_id = study._storage.get_trial_id_from_study_id_trial_number(study._study_id, entry.number)
    except KeyError as error:
        write()
        return error
    if not shortcuts.enabled():
        write()
        return _tell(study, entry, trial_id)
    try:
        write(in_transaction=partial(entry.write, trial_id=trial_id))
    except REFUSALS as error:
        write()
        return error
    return None


def _tell(study: optuna.Study, entry: Entry, trial_id: int) -> Exception | None:
    try:
        with suppress(UpdateFinishedTrialError):
            entry.tell(study, trial_id)
    except KeyError as error:
        return error
    except StorageInternalError as error:
        if isinstance(error.__cause__, REFUSALS):
            return error
        raise
    return None
