"""Where a worker works: the study, the ledger, its limits, and a function that trains."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from sqlalchemy import Engine

from search import settings
from search.machine import gpu_pinning
from search.machine.device_lock import DeviceLock
from search.machine.processes import abandon
from search.machine.signals import ShutdownRequest
from search.optuna_adapter import study as optuna_study
from search.recording.outage import Outage
from search.study.config import StudyConfig, open_images
from search.study.files import StudyFiles, kept_folder, study_identity
from search.study.versions import installed_versions
from search.worker.training_function import TrainingFunction, make_training_function
from storage.studies import Study


@dataclass(frozen=True)
class Assignment:
    """What a worker is told; `data` is where the images lie on this machine, if elsewhere.

    With make_room it leaves a device whose memory does not do for all the workers that were put there.
    """

    storage: str
    name: str
    data_dir: Path
    data: str | None = None
    grace_seconds: float = 3600.0
    lease_seconds: float = 60.0
    stall_seconds: float = 300.0
    trial_seconds: float | None = None
    trial_memory: int | None = None
    patience_seconds: float = 600.0
    keep_weights: int = settings.KEEP_WEIGHTS
    make_room: bool = False

    @property
    def spool(self) -> Path:
        return self.data_dir / "spool"


@dataclass(frozen=True)
class Limits:
    """Seconds: of silence until a worker is taken for dead, without a batch, for a whole trial."""

    lease_seconds: float = 60.0
    stall_seconds: float = 300.0
    trial_seconds: float = float("inf")


@dataclass
class WorkerContext:
    study: optuna.Study
    engine: Engine
    study_id: int
    plan: StudyConfig
    train: TrainingFunction
    limits: Limits
    spool: Path
    shelf: StudyFiles
    room: DeviceLock
    patience: Outage
    device: str
    versions: dict[str, Any]
    cancelled: Callable[[], bool]
    abandon: Callable[[], None]  # ends this process, whose training hangs
    say: Callable[[str], None]
    shortages: int = 0  # of memory, beside other trainings of the device


@contextmanager
def open_context(
    assignment: Assignment,
    engine: Engine,
    record: Study,
    ending: ShutdownRequest,
    say: Callable[[str], None],
) -> Iterator[WorkerContext]:
    """Opens what the study's plan names. Raises DataError, DeviceError."""
    optuna_study.quiet()
    plan = StudyConfig.from_record(record.settings)
    images = open_images(plan.data, assignment.data_dir, assignment.data)
    device, train = make_training_function(plan, images, memory=assignment.trial_memory)
    trial_seconds = assignment.trial_seconds
    this = study_identity(assignment.storage, record)
    with optuna_study.open_study(assignment.storage, record.name, plan) as study:
        yield WorkerContext(
            study=study,
            engine=engine,
            study_id=record.id,
            plan=plan,
            train=train,
            limits=Limits(
                assignment.lease_seconds,
                assignment.stall_seconds,
                float("inf") if trial_seconds is None else trial_seconds,
            ),
            spool=assignment.spool / this,
            shelf=StudyFiles(kept_folder(assignment.data_dir) / this, assignment.keep_weights, say),
            room=DeviceLock(assignment.data_dir / "slots", gpu_pinning.place()),
            patience=Outage(assignment.patience_seconds, say, ending.cancelled),
            device=device,
            versions=installed_versions(),
            cancelled=ending.cancelled,
            abandon=abandon,
            say=say,
        )
