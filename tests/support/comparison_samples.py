"""Studies to compare, written into a store as rows: what they scored is made up, nothing is trained."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import Engine, insert, make_url
from worker_samples import DATA, empty_database, make_config

from search.study.config import StudyConfig
from search.study.finish_plan import Finals, FinishPlan
from space import cost, sampling, space as spaces
from space.architecture import Architecture
from space.budget import Budget
from space.random_suggest import RandomSuggest
from space.space import Task
from storage import candidates, database, studies, tables, trainings
from storage.row_types import TRAINED, Stage, State
from storage.studies import Study
from storage.trainings import Training, run_of_finals
from trainer.recipe.document import Recipe

BEGIN = datetime(2026, 11, 26, tzinfo=UTC)
EPOCHS = 3  # of a trial
FINAL_EPOCHS = 20


@dataclass(frozen=True)
class Trial:
    """A trial that is made up; `end` is when it ended, in seconds, by default after all before it."""

    accuracy: float | None
    state: State = State.COMPLETED
    network: str | None = None  # its fingerprint
    epochs: int = EPOCHS
    seconds: float | None = 10.0
    end: float | None = None
    device: str = "x86_64 CPU"
    architecture: dict[str, Any] | None = None
    parameters: int | None = None
    macs: int | None = None
    score: float | None = None


@cache
def architecture() -> Architecture:
    """Some network; all trials that name none have it, under fingerprints of their own."""
    return sampling.proposal(spaces.default(), Budget(), Task(), RandomSuggest(0)).architecture


def config(**changed: Any) -> StudyConfig:
    """A configuration: `data` by its fields, `recipe` by its fields, else the fields of a StudyConfig."""
    data, recipe = changed.pop("data", {}), changed.pop("recipe", {})
    made = make_config().model_copy(update=changed)
    validation = {"validation_images": 5_000, "train_images": 1_000}
    return made.model_copy(
        update={
            "data": DATA.model_copy(update=validation | data),
            "recipe": Recipe(**{"epochs": EPOCHS} | recipe),
        }
    )


def add_study(
    url: str, name: str, trials: Sequence[Trial | float], with_config: StudyConfig | None = None
) -> Study:
    """A study of these trials; a number is the accuracy of one that was trained to the end."""
    made = [one if isinstance(one, Trial) else Trial(one) for one in trials]
    asked = sum(one.state in TRAINED for one in made)
    settings = with_config or config()
    engine = _open(url)
    record = studies.create(
        engine, name, trials=max(1, asked), max_parameters=settings.budget.max_parameters,
        max_macs=settings.budget.max_macs, seed=settings.seed, settings=settings.document(), versions={},
    )  # fmt: skip
    engine.dispose()
    if made:
        add_trials(url, record, made)
    return record


def add_trials(url: str, record: Study, made: Sequence[Trial]) -> None:
    """The first trials of a study that has none."""
    spent = cost.total(architecture())
    at, rows = 0.0, []
    for number, one in enumerate(made):
        at = at + (one.seconds or 0.0) if one.end is None else one.end
        rows.append(
            {
                "study_id": record.id, "number": number, "state": one.state, "token": number,
                "architecture": one.architecture or architecture().document(),
                "fingerprint": one.network or f"{record.name}-{number}",
                "parameters": one.parameters or spent.parameters, "macs": one.macs or spent.macs, "depth": 3,
                "accuracy": one.accuracy, "score": one.score, "best_accuracy": one.accuracy, "loss": 1.0,
                "epochs": one.epochs,
                "seconds": one.seconds, "images_per_second": 100.0, "device": one.device, "worker": "one",
                "seed": number, "attempt": 1, "versions": {"torch": "2.15"}, "proposed_at": BEGIN,
                "finished_at": BEGIN + timedelta(seconds=at),
            }
        )  # fmt: skip
    engine = _open(url)
    with database.writing(engine) as connection:
        connection.execute(insert(tables.candidates), rows)
    engine.dispose()


def _open(url: str) -> Engine:
    """The store, made if it is not there; Optuna has no study in it, which nobody who compares asks for."""
    if database.absent(url):
        shutil.copyfile(empty_database(), make_url(url).database or "")
    engine = database.connect(url)
    database.prepare(engine)
    return engine


def add_finals(
    url: str,
    record: Study,
    number: int,
    validation: Sequence[float],
    test: Sequence[float] = (),
    test_images: int = 10_000,
    test_digest: str | tuple[str, ...] | None = None,
) -> None:
    """Finals of one network, that of trial `number`, with these accuracies by seed; they are over.
    `test_digest`: of all test images, or of those of each seed."""
    engine = database.connect(url)
    recipe = Recipe(epochs=FINAL_EPOCHS)
    plan = FinishPlan(rungs=(), finals=Finals(networks=1, seeds=len(validation), recipe=recipe))
    studies.set_finish(engine, record.id, plan.document())
    row = candidates.find(engine, record.id, number)
    with database.writing(engine) as connection:
        connection.execute(
            insert(tables.rung_trainings),
            [
                {
                    "study_id": record.id, "candidate_id": row.id, "stage": Stage.FINALS, "attempt": 1,
                    "epochs": FINAL_EPOCHS, "seed": seed, "state": State.COMPLETED, "epoch": FINAL_EPOCHS,
                    "accuracy": accuracy, "best_accuracy": accuracy, "loss": 0.5, "seconds": 100.0,
                    "entered_at": BEGIN, "finished_at": BEGIN,
                }
                for seed, accuracy in enumerate(validation)
            ],
        )  # fmt: skip
    digests = test_digest if isinstance(test_digest, tuple) else (test_digest,) * len(test)
    tested = [
        Training(
            run=run_of_finals(record.id, number, FINAL_EPOCHS), seed=seed, subject=f"{record.name}:{number}",
            study=record.name, trial=number, fingerprint=row.fingerprint, parameters=row.parameters,
            macs=row.macs, architecture=row.architecture, recipe=recipe.model_dump(mode="json"),
            data=record.settings["data"] | {"test_digest": digests[seed]},
            epochs=FINAL_EPOCHS, accuracy=validation[seed], best_accuracy=validation[seed], best_epoch=1,
            loss=0.5, test_accuracy=accuracy, test_loss=0.5, test_images=test_images, seconds=100.0,
            device="x86_64 CPU", versions={}, folder="",
        )
        for seed, accuracy in enumerate(test)
    ]  # fmt: skip
    if tested:
        trainings.save(engine, tested)
    engine.dispose()
