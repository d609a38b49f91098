"""Where a training of the second stage is written down: its row in the ledger; of a final, its full training
too.

Made by search/worker/rung_training.py and handed to a TrialRecorder, as TrialRows is for a trial. Optuna is
told nothing: what it learns from are the brief trials. Nothing of it is owed to a database that is away: the
next attempt goes on from the checkpoint.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, Engine

from search.recording.spool import TrialEnd
from storage import rungs, studies, trainings
from storage.leases import Claim
from storage.row_types import Epoch, RungTraining, State, TrainingMetrics
from storage.trainings import Training

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RungRows:
    """The row of one training of the second stage."""

    engine: Engine
    claim: Claim
    training: RungTraining
    name: str  # in the log
    # The full training that a final is once it is done, in the study of this name.
    full: Callable[[TrainingMetrics, str], Training] | None

    def save(self, epoch: Epoch) -> None:
        """Raises LeaseLostError, and OUT_OF_REACH while the database is away."""
        rungs.save_epoch(self.engine, self.claim, self.training.id, epoch)

    def finish(self, end: TrialEnd, _written: dict[int, Epoch], _anew: bool) -> None:
        """Both rows in one transaction, on one connection. Raises as save()."""

        def add(connection: Connection) -> None:
            if self.full and end.state == State.COMPLETED and end.outcome:
                name = studies.lock(connection, self.claim.study_id).name
                trainings.save_in(connection, [self.full(end.outcome, name)])

        rungs.finish(
            self.engine,
            self.claim,
            self.training.id,
            end.state,
            reason=end.reason,
            outcome=end.outcome,
            in_transaction=add,
        )

    def keep_late(self, state: State, _outcome: TrainingMetrics | None) -> None:
        """Somebody else trains it by now, to the same result."""
        logger.info("%s: %s, too late: another worker has it", self.name, state)

    def owed(self, _epochs: tuple[Epoch, ...], _end: TrialEnd | None) -> None:
        """Nothing."""

    def pruning(self) -> None:
        """Nobody is asked."""
