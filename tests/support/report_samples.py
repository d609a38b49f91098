"""Studies in memory, as a report reads them: networks of the default space, invented accuracies and times."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from worker_samples import make_config

from search.report.data import ReportData
from search.study.config import StudyConfig
from space import cost
from space.architecture import Architecture
from space.random_suggest import RandomSuggest
from storage.row_types import TRAINED, Candidate, Epoch, State
from storage.studies import Control, Study

BEGAN = datetime(2026, 11, 20, 18, 0, tzinfo=UTC)
EPOCHS = 8


@cache
def config() -> StudyConfig:
    return make_config(epochs=EPOCHS, pruner="median")


@cache
def network(number: int) -> Architecture:
    return config().propose(RandomSuggest(number))


def study(name: str = "night", trials: int = 200) -> Study:
    return Study(
        id=1,
        name=name,
        created_at=BEGAN,
        trials=trials,
        max_parameters=config().budget.max_parameters,
        max_macs=None,
        settings=config().document(),
        versions={"python": "3.12.1"},
        seed=0,
        order=Control.RUN,
    )


def trial(
    number: int, state: State = State.COMPLETED, accuracy: float = 0.5, epochs: int = EPOCHS, **others: Any
) -> Candidate:
    """Trial `number`, of half a minute, which two workers take in turn."""
    architecture = others.pop("architecture", None) or network(number % 40)
    spent, is_trained = cost.total(architecture), state in TRAINED
    start = BEGAN + timedelta(seconds=20 * number)
    values: dict[str, Any] = {
        "id": number + 1,
        "study_id": 1,
        "number": number,
        "state": state,
        "reason": None,
        "architecture": architecture.document(),
        "fingerprint": f"network-{number}",
        "parameters": spent.parameters,
        "macs": spent.macs,
        "depth": len(architecture.stages),
        "accuracy": accuracy if is_trained else None,
        "best_accuracy": accuracy if is_trained else None,
        "loss": 0.5 if is_trained else None,
        "epochs": epochs if is_trained else None,
        "seconds": 3.75 * epochs if is_trained else None,
        "images_per_second": 900.0,
        "device": "cpu",
        "worker": f"worker-{number % 2}",
        "seed": number,
        "attempt": 1,
        "repeat_of": None,
        "versions": None,
        "proposed_at": start,
        "finished_at": None if state == State.RUNNING else start + timedelta(seconds=30),
    }
    return Candidate(**(values | others))


def curve(row: Candidate) -> list[Epoch]:
    """Of a trial with a score: from nothing to it."""
    known = row.epochs or 0
    return [Epoch(i, 1.0, 1.0, (row.accuracy or 0.0) * i / known, 0.1, 3.75) for i in range(1, known + 1)]


def mixture(count: int) -> list[Candidate]:
    """Trials of every fate; the accuracy rises with the stages and with the parameters."""
    rare = (State.REPEATED, State.OVER_BUDGET, State.LOST, State.DIVERGED, State.FAILED, State.OUT_OF_MEMORY)
    rows = []
    for number in range(count):
        architecture = network(number % 40)
        size = cost.total(architecture).parameters / config().budget.max_parameters
        accuracy = 0.5 + 0.05 * len(architecture.stages) + 0.1 * size + 0.0001 * (number % 17)
        if number % 10 == 9:
            state = rare[number // 10 % len(rare)]
            rows.append(trial(number, state, reason=f"{state.value} <b>it</b>", architecture=architecture))
        elif number % 3 == 2:
            rows.append(trial(number, State.PRUNED, accuracy / 2, 4, architecture=architecture))
        else:
            named = "[3,3,3] at full budget" if number == 0 else None
            rows.append(trial(number, accuracy=accuracy, baseline=named, architecture=architecture))
    return rows


def report_data(rows: Sequence[Candidate], name: str = "night") -> ReportData:
    return ReportData(study(name), config(), rows, {row.id: curve(row) for row in rows if row.epochs})
