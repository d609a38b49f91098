"""A worker's context with a training that costs nothing: a real study and ledger, an invented accuracy."""

import atexit
import math
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import optuna
from sqlalchemy import Engine, make_url

from search.machine.device_lock import DeviceLock
from search.optuna_adapter import storage as optuna_storage, study as optuna_study
from search.recording.outage import Outage
from search.study.config import DataConfig, PrunerName, SamplerName, StudyConfig
from search.study.files import StudyFiles
from search.study.score import ScoreName
from search.study.worker_options import WorkerOptions
from search.worker.context import WorkerContext
from space import cost, space as spaces
from space.architecture import Architecture
from space.budget import Budget
from space.space import SearchSpace, Task
from storage import database, studies
from storage.studies import Study
from trainer.callbacks import TrainingCallbacks
from trainer.outcome import EpochReport, Outcome
from trainer.recipe.document import Recipe

DATA = DataConfig(
    spec="digits",
    name="digits",
    image_size=32,
    limit=None,
    validation_share=0.1,
    split_seed=0,
    train_images=900,
    validation_images=100,
    digest="0" * 64,
    split_digest="1" * 64,
)


def accuracy_of(architecture: Architecture) -> float:
    """More parameters are better, by a smooth made-up law."""
    return 0.5 + 0.4 * math.tanh(cost.total(architecture).parameters / 3e6)


@dataclass
class FakeTraining:
    """Trains nothing, remembers what it was asked to train, and calls back as a training does."""

    epochs: int = 3
    accuracy: Callable[[Architecture], float] = accuracy_of
    macro_f1: Callable[[Architecture], float] = lambda _: 0.25
    before: Callable[[Architecture], None] = lambda _: None
    asked: list[tuple[str, int]] = field(default_factory=list)

    def __call__(
        self,
        architecture: Architecture,
        seed: int,
        *,
        callbacks: TrainingCallbacks,
        **others: Any,
    ) -> Outcome:
        self.asked.append((architecture.fingerprint, seed))
        self.before(architecture)
        final, f1 = self.accuracy(architecture), self.macro_f1(architecture)
        for epoch in range(1, self.epochs + 1):
            if callbacks.on_batch:
                callbacks.on_batch(epoch, self.epochs)
            part = epoch / self.epochs
            classes = {"balanced_accuracy": part * f1, "macro_f1": part * f1}
            if callbacks.on_epoch:
                report = EpochReport(epoch, self.epochs, 1.0, 1.0, part * final, 0.1, 0.5, 100.0, **classes)
                callbacks.on_epoch(report)
        return Outcome(final, final, 1.0, self.epochs, 1.5, 100.0, 100, f1, f1)


def make_config(
    space: SearchSpace | None = None,
    max_parameters: int = 5_000_000,
    sampler: SamplerName = "random",
    pruner: PrunerName = "none",
    epochs: int = 3,
    score: ScoreName = "accuracy",
) -> StudyConfig:
    return StudyConfig(
        space=space or spaces.default(),
        budget=Budget(max_parameters),
        task=Task(),
        recipe=Recipe(epochs=epochs),
        data=DATA,
        sampler=sampler,
        pruner=pruner,
        seed=0,
        score=score,
    )


@cache
def empty_database() -> Path:
    """A SQLite file with our tables and Optuna's, which takes a quarter of a second to make; to be copied."""
    path = Path(tempfile.mkdtemp(prefix="empty-database-"), "empty.db")
    atexit.register(shutil.rmtree, path.parent, ignore_errors=True)
    url = f"sqlite:///{path}"
    engine = database.connect(url)
    database.prepare(engine)
    engine.dispose()
    with optuna_storage.open_storage(url):
        return path


def make_study(url: str, config: StudyConfig, trials: int, name: str = "bench") -> tuple[Engine, Study]:
    optuna_study.quiet()
    if database.absent(url):
        shutil.copyfile(empty_database(), make_url(url).database or "")
    engine = database.connect(url)
    database.prepare(engine)
    optuna_study.create(url, name, config)
    record = studies.create(
        engine,
        name,
        trials=trials,
        max_parameters=config.budget.max_parameters,
        max_macs=config.budget.max_macs,
        seed=config.seed,
        settings=config.document(),
        versions={},
    )
    return engine, record


def make_context(
    study: optuna.Study, engine: Engine, record: Study, train: FakeTraining, config: StudyConfig, spool: Path
) -> WorkerContext:
    return WorkerContext(
        study=study,
        engine=engine,
        study_id=record.id,
        config=config,
        final_data=config.data,
        train_network=train,
        options=WorkerOptions(storage=str(engine.url), data_dir=spool, name="one"),
        spool=spool,
        files=StudyFiles(spool / "kept", 0),
        device_lock=DeviceLock(spool / "slots", "fake"),
        outage=Outage(60.0),
        device="fake",
        versions={"torch": "none"},
        cancelled=lambda: False,
        abandon=lambda: None,
    )
