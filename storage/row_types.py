"""The types of the rows that storage/ hands out and takes in, frozen, and the states of a candidate.

Plain values: this module reads and writes nothing, and knows no SQL. Used by storage/ and all of search/.
A trial is written down by search/recording/.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """What became of a candidate."""

    RUNNING = "running"
    COMPLETED = "completed"
    PRUNED = "pruned"
    OVER_BUDGET = "over_budget"
    REPEATED = "repeated"
    LOST = "lost"
    OUT_OF_MEMORY = "out_of_memory"
    TIMED_OUT = "timed_out"
    DIVERGED = "diverged"
    FAILED = "failed"
    CANCELLED = "cancelled"


TRAINED = frozenset({State.COMPLETED, State.PRUNED})  # the states that count towards the target

# A network in one of these states is not trained again; a lost or cancelled one may be. The database sees to
# it by the index whose condition tables.DEDUPLICATED is.
DEDUPLICATED = TRAINED | {
    State.RUNNING,
    State.DIVERGED,
    State.OUT_OF_MEMORY,
    State.TIMED_OUT,
    State.FAILED,
}

# Another attempt goes on from the last checkpoint of one in these states where it finds it: its seconds hold
# theirs then.
INTERRUPTED = frozenset({State.LOST, State.CANCELLED})

MAX_ATTEMPTS = 3  # at one network, where its worker is lost

# Trainings that were begun and came to nothing, for good; a lost one is such after its last attempt.
UNTRAINED = frozenset({State.DIVERGED, State.OUT_OF_MEMORY, State.TIMED_OUT, State.FAILED, State.LOST})

OF_FINALS = "finals-"  # how the runs of a search's own finals begin, among the full trainings

GIVE_UP_AFTER = 20  # untrained networks in a row: the cause is the study's and no network's


@dataclass(frozen=True)
class Proposal:
    """A network that a worker wants to train. `over_budget` is the reason why it may not."""

    number: int  # Optuna's number of the trial
    architecture: Mapping[str, Any]
    fingerprint: str
    parameters: int
    macs: int  # multiply-accumulates of one image
    depth: int  # stages
    seed: int
    attempt: int = 1
    over_budget: str | None = None
    device: str | None = None
    versions: Mapping[str, Any] | None = None
    baseline: str | None = None  # the first guess that it is (space/baselines.py): "[3,3,3] at full budget"


class Stage(StrEnum):
    """Which part of the second stage a training belongs to."""

    HALVING = "halving"  # a rung of successive halving: by the brief recipe, over more epochs
    FINALS = "finals"  # by the full recipe, with several seeds


@dataclass(frozen=True)
class RungEntry:
    """A training of the second stage that is asked for; no two of a study are equal."""

    candidate_id: int
    stage: Stage
    epochs: int  # with the stage they name the rung
    seed: int


class Scored:
    """What was trained and judged on validation images."""

    accuracy: float | None  # 0..1
    score: float | None  # that the search maximises in its place, 0..1; None where that is accuracy

    @property
    def value(self) -> float | None:
        """What its search maximises."""
        return self.accuracy if self.score is None else self.score


@dataclass(frozen=True)
class Ended(Scored):
    """What became of a candidate, without its network."""

    number: int
    state: State
    accuracy: float | None
    score: float | None


@dataclass(frozen=True)
class Epoch:
    """One trained epoch. Losses may be NaN."""

    epoch: int  # from 1
    train_loss: float
    validation_loss: float
    validation_accuracy: float  # 0..1
    learning_rate: float
    seconds: float
    score: float | None = None  # on the same images, as in Scored

    @property
    def value(self) -> float:
        """What its search maximises."""
        return self.validation_accuracy if self.score is None else self.score


@dataclass(frozen=True)
class TrainingMetrics(Scored):
    """What a training came to."""

    accuracy: float  # validation, after the last epoch, 0..1
    best_accuracy: float
    loss: float
    epochs: int
    seconds: float
    images_per_second: float
    batch_size: int | None = None  # of the training, smaller than the recipe's where memory was short
    score: float | None = None  # after the last epoch, as in Scored


@dataclass(frozen=True)
class Late:
    """What a worker that had lost its claim brought after all. It counts for nothing."""

    candidate_id: int
    token: int  # of the claim that it had
    worker: str
    state: State
    accuracy: float | None  # from here to images_per_second as in TrainingMetrics
    best_accuracy: float | None
    loss: float | None
    epochs: int | None
    seconds: float | None
    images_per_second: float | None
    arrived_at: datetime
    batch_size: int | None = None
    score: float | None = None  # as in TrainingMetrics


@dataclass(frozen=True)
class Candidate(Scored):
    """One row of the ledger: what was proposed, and what became of it."""

    id: int
    study_id: int
    number: int
    state: State
    reason: str | None
    architecture: dict[str, Any]
    fingerprint: str
    parameters: int
    macs: int
    depth: int
    accuracy: float | None
    best_accuracy: float | None
    loss: float | None
    epochs: int | None
    seconds: float | None
    images_per_second: float | None
    device: str | None
    worker: str | None
    seed: int
    attempt: int
    repeat_of: int | None
    versions: dict[str, Any] | None
    proposed_at: datetime
    finished_at: datetime | None
    batch_size: int | None = None
    baseline: str | None = None  # the first guess that it is, as in Proposal
    score: float | None = None  # after the last epoch, as in Scored


@dataclass(frozen=True)
class RungTraining(Scored):
    """One training of the second stage, and what became of it."""

    id: int
    study_id: int
    candidate_id: int
    number: int  # of the candidate, as in Candidate
    stage: Stage
    epochs: int
    seed: int
    attempt: int
    state: State | None  # None while it waits for a worker
    reason: str | None
    epoch: int | None  # the last one stored
    accuracy: float | None  # validation, after that epoch
    best_accuracy: float | None
    loss: float | None
    seconds: float | None
    images_per_second: float | None
    batch_size: int | None
    device: str | None
    worker: str | None
    entered_at: datetime
    finished_at: datetime | None
    score: float | None = None  # after that epoch, as in Scored

    @property
    def has_ended(self) -> bool:
        """Whether nobody will train it any more."""
        return self.state not in (None, State.RUNNING)

    @property
    def key(self) -> str:
        """Its name among all trainings of the study, for files: 12-finals-200-1."""
        return f"{self.number}-{self.stage.value}-{self.epochs}-{self.seed}"

    @property
    def entry(self) -> RungEntry:
        """What was asked for."""
        return RungEntry(self.candidate_id, self.stage, self.epochs, self.seed)
