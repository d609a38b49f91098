"""The life of one trial: propose, judge, train, write down, tell.

The ledger decides, and Optuna is told in the same transaction: nothing that counts depends on its answer.
Training is a function that is handed in: this module knows what a trial is, not how a network learns.
"""

import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from hashlib import sha256
from pathlib import Path

import optuna
from optuna.trial import Trial

from search.optuna_adapter import ask as optuna_ask, sampler as samplers, study as optuna_study
from search.optuna_adapter.weights import weigh
from search.recording import reconcile as reconciling
from search.recording.outage import OUT_OF_REACH
from search.worker.callbacks import Cancelled, TimedOut, TrialCallbacks
from search.worker.context import WorkerContext
from space import cost
from space.architecture import Architecture
from space.budget import judge
from space.errors import DivergedError, ExhaustedError, LeaseLostError
from space.sampling import prior
from storage import candidates
from storage.leases import Claim
from storage.records import Candidate, Proposal, State
from trainer.outcome import Outcome

WIDEN_AFTER = 20  # repeats in a row: then proposals are random
GIVE_UP_AFTER = 400  # repeats in a row: then the space holds nothing new
GIVE_UP_OVER_BUDGET = 4_000  # proposals for one claim: then --sampling reject finds nothing that fits


def run(bench: WorkerContext, claim: Claim) -> State:
    """Uses one claim: proposes until a network is worth training, and trains it.

    Raises ExhaustedError where nothing new is proposed any more, LeaseLostError where the claim was taken.
    """
    repeats = 0
    for attempt in range(GIVE_UP_OVER_BUDGET):
        sampler = "random" if repeats >= WIDEN_AFTER else bench.plan.sampler
        seed = (bench.plan.seed, claim.ordinal, attempt)
        made = samplers.make_sampler(sampler, *seed, after=bench.study.sampler)
        bench.study.sampler = weigh(made, prior(bench.plan.space))
        trial, architecture = ask(bench)
        candidate = bench.patience.insist(partial(enter, bench, claim, trial, architecture))
        if candidate.state == State.RUNNING:
            return train(bench, claim, trial, candidate, architecture)
        original = None
        if candidate.repeat_of is not None:
            original = bench.patience.insist(partial(optuna_ask.trial_of, bench.study, candidate.repeat_of))
        bench.patience.insist(partial(reconciling.tell_untrained, bench.study, trial, candidate, original))
        bench.say(f"trial {trial.number} {candidate.state}: {candidate.reason}")
        repeats = repeats + 1 if original else 0
        if repeats >= GIVE_UP_AFTER:
            raise ExhaustedError(f"{repeats} proposals in a row were networks that the study already has")
    raise ExhaustedError(f"of {GIVE_UP_OVER_BUDGET} proposals none was new and within {bench.plan.budget}")


def ask(bench: WorkerContext) -> tuple[Trial, Architecture]:
    """The trial that somebody else could not end, if there is one; else what the sampler proposes."""
    broken = candidates.next_retry(bench.engine, bench.study_id)
    if broken:
        trial = optuna_ask.ask_again(bench.study, broken)
        return trial, bench.plan.propose(trial)
    return optuna_ask.ask(bench.study, bench.plan.propose, describe)


def describe(architecture: Architecture) -> dict[str, int]:
    """What everyone who reads the study with Optuna alone should see of a network."""
    spent = cost.total(architecture)
    return {"parameters": spent.parameters, "macs": spent.macs}


def enter(bench: WorkerContext, claim: Claim, trial: Trial, architecture: Architecture) -> Candidate:
    """Judges the network that Optuna's answer means, and enters it into the ledger."""
    plan = bench.plan
    verdict = judge(architecture, plan.budget)
    optuna_study.constrain(trial, verdict)
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
    return candidates.propose(bench.engine, claim, proposal)


def training_seed(study_seed: int, fingerprint: str) -> int:
    """The same network is trained from the same seed in every attempt, whoever does it: 31 bits."""
    digest = sha256(f"{study_seed}:{fingerprint}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def train(
    bench: WorkerContext, claim: Claim, trial: Trial, candidate: Candidate, architecture: Architecture
) -> State:
    """Trains a candidate and writes down how that ended, whatever the way.

    Raises LeaseLostError, after which the trial is somebody else's; Cancelled, once that is recorded; and
    StorageError when the database stays away: what is owed to it is in the spool then.
    """
    progress = TrialCallbacks(bench, claim, trial, candidate)
    state: State
    reason: str | None
    try:
        with progress.watch:
            outcome, reason = fit(bench, progress, candidate, architecture)
        state = State.COMPLETED
        measured = progress.measured(outcome)
    except LeaseLostError:
        progress.book.drop()  # the checkpoint stays: whoever has the trial now may go on from it
        raise
    except (Exception, Cancelled) as error:
        state, reason = ending(error, progress)
        measured = progress.measured()
    progress.book.close(state, reason, measured)
    if state == State.CANCELLED:
        raise Cancelled
    clear_away(bench, candidate)
    return state


def fit(
    bench: WorkerContext, progress: TrialCallbacks, candidate: Candidate, architecture: Architecture
) -> tuple[Outcome, str | None]:
    """Trains beside the others of this device; without enough memory once more alone, at half the batch.

    Returns the outcome, and what is to be said of how it came about. Goes on from the checkpoint of an
    attempt that broke off. Raises what the training does, MemoryError where half the batch is too much too.
    """
    recipe, room, shelf = bench.plan.recipe, bench.room, bench.shelf
    kept = shelf.has_space(candidate.parameters)
    train = partial(
        bench.train,
        architecture,
        candidate.seed,
        on_epoch=progress.epoch,
        on_batch=progress.batch,
        on_continue=progress.continued,
        on_trained=partial(keep, bench, candidate) if kept else None,
        checkpoint=shelf.checkpoint(candidate.fingerprint) if kept else None,
    )
    try:
        with room.together(progress.waiting):
            progress.begin(recipe.batch_size)
            return train(recipe=recipe), None
    except MemoryError as error:
        beside_others = room.is_occupied()
        smaller, short = recipe.halved(), f"out of memory at batch {recipe.batch_size}"
        bench.say(f"trial {candidate.number} {short} ({first_line(error)}): once more alone, at half of it")
    try:
        with room.alone(progress.waiting):
            progress.begin(smaller.batch_size)
            trained = train(recipe=smaller)
            bench.shortages += beside_others  # it was not the network that is too large
            return trained, f"{short}, trained alone at {smaller.batch_size}"
    except MemoryError as error:
        raise MemoryError(f"{short}, and alone at {smaller.batch_size}: {first_line(error)}") from None


def keep(bench: WorkerContext, candidate: Candidate, outcome: Outcome, save: Callable[[Path], None]) -> None:
    """Keeps the weights of a trained network that is among the best so far, as many as are kept."""
    if not bench.shelf.best:
        return
    try:
        best = candidates.best(bench.engine, bench.study_id, bench.shelf.best)
    except OUT_OF_REACH:
        best = []  # nobody can say: they are kept, and tidied away later
    if len(best) < bench.shelf.best or outcome.accuracy >= (best[-1].accuracy or 0.0):
        bench.shelf.keep(candidate.number, save)


def clear_away(bench: WorkerContext, candidate: Candidate) -> None:
    """A trial has ended for good: removes its checkpoint, and the weights that are no longer of the best."""
    bench.shelf.done(candidate.fingerprint)
    with suppress(*OUT_OF_REACH):
        best = candidates.best(bench.engine, bench.study_id, bench.shelf.best) if bench.shelf.best else []
        bench.shelf.tidy({row.number for row in best})


def ending(error: BaseException, progress: TrialCallbacks) -> tuple[State, str]:
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
    if isinstance(error, MemoryError):
        return State.OUT_OF_MEMORY, first_line(error)
    return State.FAILED, "".join(traceback.format_exception(error)[-3:]).strip()


def first_line(error: BaseException) -> str:
    """What an error says, or its name where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]
