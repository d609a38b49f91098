"""What a training calls while it runs: hands its epochs to the recorder, and stops it where it is told to.
The pruner is asked by search/recording/writer.py; its answer comes back here.

Made by search/worker/trial.py and search/worker/rung_training.py for one training, together with its recorder
and heartbeat. Called in the training's thread; `stalled` alone is called in the heartbeat's.
"""

import logging
from collections.abc import Sequence
from dataclasses import fields
from time import monotonic

import optuna

from search.recording.recorder import TrialRecorder
from search.recording.writer import Rows
from search.study import score as scores
from search.study.score import ScoreName
from search.study.text import percent
from search.worker.context import WorkerContext
from search.worker.heartbeat import Heartbeat
from storage.row_types import Epoch, State, TrainingMetrics
from trainer.outcome import EpochReport, Outcome

logger = logging.getLogger(__name__)


class Cancelled(BaseException):
    """The worker was told to end now. Not an Exception: nothing but the trial's own end may catch it."""


class TimedOut(Exception):
    """The trial took longer than --trial-timeout."""


class AttemptCallbacks:
    """The callbacks of one training. Each raises LeaseLostError once it is somebody else's."""

    def __init__(
        self,
        context: WorkerContext,
        rows: Rows,
        batch_size: int,
        *,
        prunable: bool = False,
        seconds: float | None = None,
    ) -> None:
        """`rows` is where it is written down; `seconds` bounds the whole of it."""
        self.context, self.started, self.seconds = context, monotonic(), seconds
        self.batch_size, self.prunable = batch_size, prunable
        self.score = context.config.score
        self.name = rows.name  # in the log
        self.reports: list[EpochReport] = []
        self.recorder = TrialRecorder(rows, context.spool, context.outage)
        limits = context.options
        self.heartbeat = Heartbeat(
            context.engine, rows.claim, limits.lease_seconds, limits.stall_seconds, self.stalled
        )

    def begin(self, batch_size: int) -> None:
        """A training starts, from its first epoch."""
        self.batch_size, self.started = batch_size, monotonic()
        self.reports.clear()
        self.recorder.start_over()

    def waiting(self) -> None:
        """The device is not free yet: no batch goes by, and nothing hangs. Raises Cancelled."""
        self.heartbeat.progress()
        self._require_to_go_on()

    def continued(self, reports: Sequence[EpochReport]) -> None:
        """Epochs that an earlier attempt has trained; the pruner has let them pass then."""
        for report in reports:
            self._record(report)
        logger.info("%s goes on after epoch %d, from a checkpoint", self.name, self.epochs)

    def epoch(self, report: EpochReport) -> None:
        """An epoch was trained and validated. Raises TrialPruned where the pruner stops the trial, which may
        be no baseline."""
        if self._record(report) and report.epoch < report.epochs and self.prunable:
            raise optuna.TrialPruned

    def _record(self, report: EpochReport) -> bool:
        self.heartbeat.progress()
        self.reports.append(report)
        logger.debug("%s epoch %d/%d: %s", self.name, report.epoch, report.epochs,
                     percent(report.validation_accuracy))  # fmt: skip
        known = {field.name: getattr(report, field.name) for field in fields(Epoch) if field.name != "score"}
        entry = Epoch(**known, score=scores.beside_accuracy(self.score, report))
        return self.recorder.post_epoch(entry)

    def batch(self, _step: int, _steps: int) -> None:
        """A batch was trained. Raises Cancelled, and TimedOut after --trial-timeout."""
        self.heartbeat.progress()
        self._require_to_go_on()
        limit = self.seconds
        if limit is not None and monotonic() - self.started > limit:
            raise TimedOut(f"not done after {limit:.0f} s, --trial-timeout")

    def _require_to_go_on(self) -> None:
        if self.context.cancelled() or self.heartbeat.cancelled:
            raise Cancelled

    def stalled(self) -> None:
        """The training hangs and will not hear of anything: its end is written for it, by another thread."""
        reason = f"no batch for {self.context.options.stall_seconds:.0f} s, --stall-timeout"
        try:
            self.recorder.close(State.TIMED_OUT, reason, self.metrics())
        finally:
            self.context.abandon()

    @property
    def epochs(self) -> int:
        """The last epoch that was trained, 0 before the first."""
        return self.reports[-1].epoch if self.reports else 0

    def metrics(self, outcome: Outcome | None = None) -> TrainingMetrics | None:
        """What a training came to, or what is known of one that was stopped; None before its first epoch."""
        if outcome is not None:
            return metrics_of(outcome, self.batch_size, self.score)
        if not self.reports:
            return None
        last = self.reports[-1]
        return TrainingMetrics(
            accuracy=last.validation_accuracy,
            best_accuracy=max(report.validation_accuracy for report in self.reports),
            loss=last.validation_loss,
            epochs=last.epoch,
            seconds=sum(report.seconds for report in self.reports),
            images_per_second=last.images_per_second,
            batch_size=self.batch_size,
            score=scores.beside_accuracy(self.score, last),
        )


def metrics_of(outcome: Outcome, batch_size: int, score: ScoreName) -> TrainingMetrics:
    """The part of an outcome that the ledger keeps of a search that maximises `score`."""
    return TrainingMetrics(
        accuracy=outcome.accuracy,
        best_accuracy=outcome.best_accuracy,
        loss=outcome.loss,
        epochs=outcome.epochs,
        seconds=outcome.seconds,
        images_per_second=outcome.images_per_second,
        batch_size=batch_size,
        score=scores.beside_accuracy(score, outcome),
    )
