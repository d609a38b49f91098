"""The life of one trial: propose, judge, train, write down, tell.

The ledger hears first and Optuna second, so that nothing which counts depends on Optuna's answer. Training is
a function that is handed in: this module knows what a trial is, not how a network learns.
"""

import traceback
from collections.abc import Callable
from dataclasses import dataclass, fields
from hashlib import sha256
from time import monotonic
from typing import Any, Protocol

import optuna
from optuna.trial import Trial, TrialState
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from search import study as studies
from search.plan import Plan
from search.watch import Watch
from space.architecture import Architecture
from space.budget import judge
from space.errors import DivergedError, ExhaustedError, LeaseLostError, StorageError
from space.sampling import propose
from storage import results
from storage.leases import Claim
from storage.records import Candidate, Epoch, Measured, Proposal, State
from trainer.outcome import EpochReport, Outcome

WIDEN_AFTER = 20  # repeats in a row: then proposals are random
GIVE_UP_AFTER = 400  # proposals for one claim: then the space holds nothing new

# Not the trial's fault, and not to be written down where nothing can be written.
OUT_OF_REACH = (LeaseLostError, StorageError, SQLAlchemyError, optuna.exceptions.StorageInternalError)


class Cancelled(BaseException):
    """The worker was told to end now. Not an Exception: nothing but the trial's own end may catch it."""


class TimedOut(Exception):
    """The trial took longer than it may."""


class Train(Protocol):
    """What a worker can do: train a network, calling back after each epoch and each batch."""

    def __call__(
        self,
        architecture: Architecture,
        seed: int,
        *,
        on_epoch: Callable[[EpochReport], None],
        on_batch: Callable[[int, int], None],
    ) -> Outcome: ...


@dataclass(frozen=True)
class Limits:
    """Seconds: of silence until a worker is taken for dead, without a batch, for a whole trial."""

    lease_seconds: float = 60.0
    stall_seconds: float = 300.0
    trial_seconds: float = float("inf")


@dataclass
class Bench:
    """Where a worker works: the study, the ledger, its device."""

    study: optuna.Study
    engine: Engine
    study_id: int
    plan: Plan
    train: Train
    limits: Limits
    device: str
    versions: dict[str, Any]
    cancelled: Callable[[], bool]
    abandon: Callable[[], None]  # ends this process, whose training hangs
    say: Callable[[str], None]


def run(bench: Bench, claim: Claim) -> State:
    """Uses one claim: proposes until a network is worth training, and trains it.

    Raises ExhaustedError where nothing new is proposed any more, LeaseLostError where the claim was taken.
    """
    for attempt in range(GIVE_UP_AFTER):
        random = attempt >= WIDEN_AFTER
        sampler = "random" if random else bench.plan.sampler
        bench.study.sampler = studies.make_sampler(sampler, bench.plan.seed, claim.ordinal, attempt)
        trial = bench.study.ask()
        architecture, candidate = enter(bench, claim, trial)
        if candidate.state == State.RUNNING:
            return train(bench, claim, trial, candidate, architecture)
        original = None
        if candidate.repeat_of is not None:
            original = studies.trial_of(bench.study, candidate.repeat_of)
        studies.answer(bench.study, trial, candidate, original)
        bench.say(f"trial {trial.number} {candidate.state}: {candidate.reason}")
    raise ExhaustedError(f"{GIVE_UP_AFTER} proposals in a row were networks that the study already has")


def enter(bench: Bench, claim: Claim, trial: Trial) -> tuple[Architecture, Candidate]:
    """Turns the answer of Optuna into a network, judges it, and enters it into the ledger."""
    plan = bench.plan
    architecture = propose(plan.space, plan.budget, plan.task, trial)
    verdict = judge(architecture, plan.budget)
    studies.annotate(trial, verdict)
    fingerprint = architecture.fingerprint
    proposal = Proposal(
        number=trial.number,
        architecture=architecture.document(),
        fingerprint=fingerprint,
        parameters=verdict.parameters,
        macs=verdict.macs,
        depth=len(architecture.stages),
        seed=training_seed(plan.seed, fingerprint),
        attempt=int(trial.user_attrs.get("attempt", 1)),
        over_budget=verdict.excess,
        device=bench.device,
        versions=bench.versions,
    )
    return architecture, results.propose(bench.engine, claim, proposal)


def training_seed(study_seed: int, fingerprint: str) -> int:
    """The same network is trained from the same seed in every attempt, whoever does it: 31 bits."""
    digest = sha256(f"{study_seed}:{fingerprint}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


class Progress:
    """What a training says while it runs: kept, and reported; and the place where it is stopped."""

    def __init__(self, bench: Bench, claim: Claim, trial: Trial, candidate: Candidate) -> None:
        self.bench, self.claim, self.trial, self.candidate = bench, claim, trial, candidate
        self.reports: list[EpochReport] = []
        self.started = monotonic()
        self.watch = Watch(
            bench.engine, claim, bench.limits.lease_seconds, bench.limits.stall_seconds, self.stalled
        )

    def epoch(self, report: EpochReport) -> None:
        self.watch.progress()
        self.reports.append(report)
        row = Epoch(
            epoch=report.epoch,
            train_loss=report.train_loss,
            validation_loss=report.validation_loss,
            validation_accuracy=report.validation_accuracy,
            learning_rate=report.learning_rate,
            seconds=report.seconds,
        )
        results.save_epoch(self.bench.engine, self.claim, self.candidate.id, row)
        self.trial.report(report.validation_accuracy, report.epoch)
        if report.epoch < report.epochs and self.trial.should_prune():
            raise optuna.TrialPruned

    def batch(self, _step: int, _steps: int) -> None:
        self.watch.progress()
        if self.bench.cancelled():
            raise Cancelled
        limit = self.bench.limits.trial_seconds
        if monotonic() - self.started > limit:
            raise TimedOut(f"not done after {limit:.0f} s, --trial-timeout")

    def stalled(self) -> None:
        """The training hangs and will not hear of anything: its end is written for it, by another thread."""
        reason = f"no batch for {self.bench.limits.stall_seconds:.0f} s, --stall-timeout"
        try:
            write_end(self, State.TIMED_OUT, reason, self.measured())
        finally:
            self.bench.abandon()

    @property
    def epochs(self) -> int:
        return self.reports[-1].epoch if self.reports else 0

    def measured(self) -> Measured | None:
        """What is known of a training that was stopped."""
        if not self.reports:
            return None
        last = self.reports[-1]
        return Measured(
            accuracy=last.validation_accuracy,
            best_accuracy=max(report.validation_accuracy for report in self.reports),
            loss=last.validation_loss,
            epochs=last.epoch,
            seconds=sum(report.seconds for report in self.reports),
            images_per_second=last.images_per_second,
        )


def train(
    bench: Bench, claim: Claim, trial: Trial, candidate: Candidate, architecture: Architecture
) -> State:
    """Trains a candidate and writes down how that ended, whatever the way.

    Raises LeaseLostError, after which the trial is somebody else's; Cancelled, once that is recorded; and
    whatever the database says when it is gone.
    """
    progress = Progress(bench, claim, trial, candidate)
    state: State
    reason: str | None
    measured: Measured | None
    try:
        with progress.watch:
            outcome = bench.train(
                architecture, candidate.seed, on_epoch=progress.epoch, on_batch=progress.batch
            )
        state, reason = State.COMPLETED, None
        measured = measured_of(outcome)
    except OUT_OF_REACH:
        raise
    except (Exception, Cancelled) as error:
        state, reason = ending(error, progress)
        measured = progress.measured()
    write_end(progress, state, reason, measured)
    if state == State.CANCELLED:
        raise Cancelled
    return state


def write_end(progress: Progress, state: State, reason: str | None, measured: Measured | None) -> None:
    """The ledger first, then Optuna. Raises LeaseLostError where the trial is somebody else's by now."""
    bench = progress.bench
    results.finish(
        bench.engine, progress.claim, progress.candidate.id, state, reason=reason, outcome=measured
    )
    told = studies.TOLD.get(state, TrialState.FAIL)
    value = measured.accuracy if measured and told == TrialState.COMPLETE else None
    bench.study.tell(progress.trial, value, state=told)


def measured_of(outcome: Outcome) -> Measured:
    """The part of an outcome that the ledger keeps."""
    return Measured(**{field.name: getattr(outcome, field.name) for field in fields(Measured)})


def ending(error: BaseException, progress: Progress) -> tuple[State, str]:
    """What it means for a trial that its training raised this, and the reason in one line."""
    plan = progress.bench.plan
    if isinstance(error, optuna.TrialPruned):
        return State.PRUNED, f"{plan.pruner} after epoch {progress.epochs} of {plan.recipe.epochs}"
    if isinstance(error, DivergedError):
        return State.DIVERGED, str(error)
    if isinstance(error, TimedOut):
        return State.TIMED_OUT, str(error)
    if isinstance(error, Cancelled):
        return State.CANCELLED, "the worker was told to end"
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, not imported
        return State.OUT_OF_MEMORY, str(error).split("\n")[0]
    return State.FAILED, "".join(traceback.format_exception(error)[-3:]).strip()
