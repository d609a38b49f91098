"""One training under a claim: beside its heartbeat, within the memory there is, and what its end means.

Called by search/worker/trial.py for a trial and by search/worker/rung_training.py for a training of the
second stage. Runs the context's training function; it writes no row, and knows no study.
"""

import logging
import traceback
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import optuna

from search.recording.spool import TrialEnd
from search.study.short_form import short_form
from search.study.text import counted, percent
from search.worker.callbacks import AttemptCallbacks, Cancelled, TimedOut
from search.worker.context import WorkerContext
from search.worker.training_function import OnTest
from space.architecture import Architecture
from space.errors import DivergedError, LeaseLostError
from storage.row_types import State
from trainer.callbacks import OnTrained, TrainingCallbacks
from trainer.outcome import Outcome
from trainer.recipe.document import Recipe

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Assignment:
    """What a claim is for: a network, and how it is trained."""

    name: str  # in the log: "trial 12"
    architecture: Architecture
    parameters: int
    recipe: Recipe
    seed: int
    checkpoint: Path
    on_trained: OnTrained | None  # keeps the weights, if they are worth it
    on_test: OnTest | None = None  # of the finals: they train on all images, and hear of the test images


def train(context: WorkerContext, callbacks: AttemptCallbacks, work: Assignment) -> TrialEnd:
    """Trains. Returns how that ended, whatever the training raised but LeaseLostError and KeyboardInterrupt:
    a score of the user's own may call sys.exit(), and libraries raise what is no Exception."""
    try:
        with callbacks.heartbeat:
            outcome, note = _train_within_memory(context, callbacks, work)
        return TrialEnd(State.COMPLETED, note, callbacks.metrics(outcome))
    except LeaseLostError:
        callbacks.recorder.drop()  # the checkpoint stays: whoever has the claim now may go on from it
        raise
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        state, reason = meaning_of(error, callbacks)
        return TrialEnd(state, _storable(reason), callbacks.metrics())


def close(callbacks: AttemptCallbacks, end: TrialEnd) -> None:
    """Records how a training ended. Raises Cancelled, once that is recorded; LeaseLostError where the claim
    was lost meanwhile, OutageTooLongError when the database stays away."""
    callbacks.recorder.close(end.state, end.reason, end.outcome)
    logger.info(described(callbacks.name, end))
    if end.state == State.CANCELLED:
        raise Cancelled  # its checkpoint stays: it will be gone on with


def described_network(architecture: Architecture, parameters: int) -> str:
    """A network in the log, where its training begins."""
    return f"{short_form(architecture)}, {parameters:,} parameters"


def described(name: str, end: TrialEnd) -> str:
    """How a training ended, in one line of the log."""
    line, outcome = f"{name} {end.state.value.replace('_', ' ')}", end.outcome
    if outcome is not None:
        after = f"after {counted(outcome.epochs, 'epoch')}, {outcome.seconds:.1f} s"
        line += f": {percent(outcome.accuracy)} {after}"
    reason = (end.reason or "").strip().splitlines()
    return f"{line}: {reason[-1]}" if reason else line


def _train_within_memory(
    context: WorkerContext, callbacks: AttemptCallbacks, work: Assignment
) -> tuple[Outcome, str | None]:
    """Trains beside the others of this device; without enough memory once more alone, at half the batch.

    Returns the outcome, and what is to be said of how it came about. Goes on from the checkpoint of an
    attempt that broke off. Raises what the training does, MemoryError where half the batch is too much too.
    """
    recipe, lock = work.recipe, context.device_lock
    attempt = _attempt(context, callbacks, work)
    try:
        with lock.shared(callbacks.waiting):
            callbacks.begin(recipe.batch_size)
            return attempt(recipe=recipe), None
    except MemoryError as error:
        beside_others = lock.is_occupied()
        smaller, short = recipe.halved(), f"out of memory at batch {recipe.batch_size}"
        logger.info("%s %s (%s): once more alone, at half of it", work.name, short, first_line(error))
    try:
        with lock.exclusive(callbacks.waiting):
            callbacks.begin(smaller.batch_size)
            outcome = attempt(recipe=smaller)
            context.out_of_memory_beside_others += beside_others  # it was not the network that is too large
            return outcome, f"{short}, trained alone at {smaller.batch_size}"
    except MemoryError as error:
        raise MemoryError(f"{short}, and alone at {smaller.batch_size}: {first_line(error)}") from None


def _attempt(context: WorkerContext, callbacks: AttemptCallbacks, work: Assignment) -> "partial[Outcome]":
    """The training, but for its recipe; with checkpoint and weights where the disk has space."""
    kept = context.files.has_space(work.parameters)
    return partial(
        context.train_network,
        work.architecture,
        work.seed,
        callbacks=TrainingCallbacks(
            on_epoch=callbacks.epoch,
            on_batch=callbacks.batch,
            on_continue=callbacks.continued,
            on_trained=work.on_trained if kept else None,
        ),
        checkpoint=work.checkpoint if kept else None,
        on_test=work.on_test,
    )


def meaning_of(error: BaseException, callbacks: AttemptCallbacks) -> tuple[State, str]:
    """What it means that a training raised this, and the reason in one line."""
    config = callbacks.context.config
    if isinstance(error, optuna.TrialPruned):
        return State.PRUNED, f"{config.pruner} after epoch {callbacks.epochs} of {config.recipe.epochs}"
    if isinstance(error, DivergedError):
        return State.DIVERGED, str(error)
    if isinstance(error, TimedOut):
        return State.TIMED_OUT, str(error)
    if isinstance(error, Cancelled):
        return State.CANCELLED, "the worker was told to end"
    if isinstance(error, MemoryError):
        return State.OUT_OF_MEMORY, first_line(error)
    return State.FAILED, "".join(traceback.format_exception(error)[-3:]).strip()


def _storable(text: str) -> str:
    """What an error says, with what no database takes escaped: NUL, bytes of a file's name of no text."""
    return text.encode(errors="backslashreplace").decode().replace("\0", r"\x00")


def first_line(error: BaseException) -> str:
    """What an error says, or its name where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]
