"""What a training says while it runs: entered into the book; and the place where it is stopped."""

from collections.abc import Sequence
from dataclasses import fields
from time import monotonic

import optuna
from optuna.trial import Trial

from search.recording.recorder import TrialRecorder
from search.worker.context import WorkerContext
from search.worker.heartbeat import Heartbeat
from storage.leases import Claim
from storage.records import Candidate, Epoch, State, TrainingMetrics
from trainer.outcome import EpochReport, Outcome


class Cancelled(BaseException):
    """The worker was told to end now. Not an Exception: nothing but the trial's own end may catch it."""


class TimedOut(Exception):
    """The trial took longer than it may."""


class TrialCallbacks:
    def __init__(self, bench: WorkerContext, claim: Claim, trial: Trial, candidate: Candidate) -> None:
        limits = bench.limits
        self.bench, self.started = bench, monotonic()
        self.batch_size = bench.plan.recipe.batch_size
        self.reports: list[EpochReport] = []
        self.book = TrialRecorder(
            bench.engine, bench.study, claim, trial, candidate, bench.spool, bench.patience
        )
        self.watch = Heartbeat(bench.engine, claim, limits.lease_seconds, limits.stall_seconds, self.stalled)

    def begin(self, batch_size: int) -> None:
        """A training starts, from its first epoch."""
        self.batch_size, self.started = batch_size, monotonic()
        self.reports.clear()
        self.book.start_over()

    def waiting(self) -> None:
        """The device is not free yet: no batch goes by, and nothing hangs."""
        self.watch.progress()
        self._require_to_go_on()

    def continued(self, reports: Sequence[EpochReport]) -> None:
        """Epochs that an earlier attempt has trained; the pruner has let them pass then."""
        for report in reports:
            self._enter(report)
        self.bench.say(f"goes on after epoch {self.epochs}, from a checkpoint")

    def epoch(self, report: EpochReport) -> None:
        if self._enter(report) and report.epoch < report.epochs:
            raise optuna.TrialPruned

    def _enter(self, report: EpochReport) -> bool:
        self.watch.progress()
        self.reports.append(report)
        return self.book.epoch(Epoch(**{field.name: getattr(report, field.name) for field in fields(Epoch)}))

    def batch(self, _step: int, _steps: int) -> None:
        self.watch.progress()
        self._require_to_go_on()
        limit = self.bench.limits.trial_seconds
        if monotonic() - self.started > limit:
            raise TimedOut(f"not done after {limit:.0f} s, --trial-timeout")

    def _require_to_go_on(self) -> None:
        if self.bench.cancelled() or self.watch.ordered_to_end:
            raise Cancelled

    def stalled(self) -> None:
        """The training hangs and will not hear of anything: its end is written for it, by another thread."""
        reason = f"no batch for {self.bench.limits.stall_seconds:.0f} s, --stall-timeout"
        try:
            self.book.close(State.TIMED_OUT, reason, self.measured())
        finally:
            self.bench.abandon()

    @property
    def epochs(self) -> int:
        return self.reports[-1].epoch if self.reports else 0

    def measured(self, outcome: Outcome | None = None) -> TrainingMetrics | None:
        """What a training came to, or what is known of one that was stopped."""
        if outcome is not None:
            return measured(outcome, self.batch_size)
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
        )


def measured(outcome: Outcome, batch_size: int) -> TrainingMetrics:
    """The part of an outcome that the ledger keeps."""
    return TrainingMetrics(
        accuracy=outcome.accuracy,
        best_accuracy=outcome.best_accuracy,
        loss=outcome.loss,
        epochs=outcome.epochs,
        seconds=outcome.seconds,
        images_per_second=outcome.images_per_second,
        batch_size=batch_size,
    )
