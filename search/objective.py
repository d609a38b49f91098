"""The life of one trial: propose, judge, train, write down, tell.

The ledger hears first and Optuna second, so that nothing which counts depends on Optuna's answer. Training is
a function that is handed in: this module knows what a trial is, not how a network learns.
"""

import traceback
from dataclasses import fields
from hashlib import sha256
from time import monotonic

import optuna
from optuna.trial import Trial

from search import study as studies
from search.bench import Bench
from search.book import Book
from search.watch import Watch
from space.architecture import Architecture
from space.budget import judge
from space.errors import DivergedError, ExhaustedError, LeaseLostError
from space.sampling import propose
from storage import results
from storage.leases import Claim
from storage.records import Candidate, Epoch, Measured, Proposal, State
from trainer.outcome import EpochReport, Outcome

WIDEN_AFTER = 20  # repeats in a row: then proposals are random
GIVE_UP_AFTER = 400  # proposals for one claim: then the space holds nothing new


class Cancelled(BaseException):
    """The worker was told to end now. Not an Exception: nothing but the trial's own end may catch it."""


class TimedOut(Exception):
    """The trial took longer than it may."""


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
    """What a training says while it runs: entered into the book; and the place where it is stopped."""

    def __init__(self, bench: Bench, claim: Claim, trial: Trial, candidate: Candidate) -> None:
        limits = bench.limits
        self.bench, self.started = bench, monotonic()
        self.reports: list[EpochReport] = []
        self.book = Book(bench.engine, bench.study, claim, trial, candidate, bench.spool, bench.patience)
        self.watch = Watch(bench.engine, claim, limits.lease_seconds, limits.stall_seconds, self.stalled)

    def epoch(self, report: EpochReport) -> None:
        self.watch.progress()
        self.reports.append(report)
        pruned = self.book.epoch(
            Epoch(
                epoch=report.epoch,
                train_loss=report.train_loss,
                validation_loss=report.validation_loss,
                validation_accuracy=report.validation_accuracy,
                learning_rate=report.learning_rate,
                seconds=report.seconds,
            )
        )
        if pruned and report.epoch < report.epochs:
            raise optuna.TrialPruned

    def batch(self, _step: int, _steps: int) -> None:
        self.watch.progress()
        if self.bench.cancelled() or self.watch.ordered_to_end:
            raise Cancelled
        limit = self.bench.limits.trial_seconds
        if monotonic() - self.started > limit:
            raise TimedOut(f"not done after {limit:.0f} s, --trial-timeout")

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
    StorageError when the database stays away: what is owed to it is in the spool then.
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
    except LeaseLostError:
        progress.book.drop()
        raise
    except (Exception, Cancelled) as error:
        state, reason = ending(error, progress)
        measured = progress.measured()
    progress.book.close(state, reason, measured)
    if state == State.CANCELLED:
        raise Cancelled
    return state


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
