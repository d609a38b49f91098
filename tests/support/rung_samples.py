"""Rows of the second stage that are made up: trials, and trainings that were asked for."""

from datetime import UTC, datetime

from storage.row_types import Candidate, RungEntry, RungTraining, State

MOMENT = datetime(2026, 11, 26, tzinfo=UTC)


def candidate(
    number: int, accuracy: float | None, state: State = State.COMPLETED, parameters: int = 0, **more: object
) -> Candidate:
    """A trial of 3 epochs that took 30 s."""
    return Candidate(
        id=100 + number, study_id=1, number=number, state=state, reason=None, architecture={},
        fingerprint=f"network-{number}", parameters=parameters or 1_000 + number, macs=1, depth=3,
        accuracy=accuracy, best_accuracy=accuracy, loss=1.0, epochs=3, seconds=30.0, images_per_second=1.0,
        device="cpu", worker="one", seed=0, attempt=1, repeat_of=None, versions=None, proposed_at=MOMENT,
        finished_at=MOMENT, **more,  # type: ignore[arg-type]
    )  # fmt: skip


def trained(entry: RungEntry, accuracy: float | None, state: State | None = State.COMPLETED) -> RungTraining:
    """One that took 10 s an epoch."""
    return RungTraining(
        id=0, study_id=1, candidate_id=entry.candidate_id, number=entry.candidate_id - 100, stage=entry.stage,
        epochs=entry.epochs, seed=entry.seed, attempt=1, state=state, reason=None, epoch=entry.epochs,
        accuracy=accuracy, best_accuracy=accuracy, loss=1.0, seconds=10.0 * entry.epochs,
        images_per_second=1.0, batch_size=None, device="cpu", worker="one", entered_at=MOMENT,
        finished_at=MOMENT,
    )  # fmt: skip
