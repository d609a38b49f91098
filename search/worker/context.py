"""Where a worker works: the study, the ledger, its limits, and a function that trains."""

import os
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import optuna
from sqlalchemy import Engine

from search import settings
from search.machine import gpu_pinning
from search.machine.device_lock import Room
from search.machine.signals import Ending, abandon
from search.optuna_adapter import study as optuna_study
from search.recording.recorder import Patience
from search.study.config import Images, Plan, open_images
from search.study.files import Shelf
from space.architecture import Architecture
from space.errors import DeviceError
from storage.database import normalise, redacted
from storage.studies import Study
from trainer.outcome import EpochReport, Outcome
from trainer.recipe.document import Recipe

CHECKPOINT_SECONDS = 5.0  # at most so much of a training is lost with its worker, and the epoch under way


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


class Train(Protocol):
    """Trains a network by the plan's recipe or another, calling back after each epoch and each batch (step,
    steps).

    From a checkpoint on_continue hears of the epochs done before. on_trained is handed the outcome, and what
    saves the weights to a file. Raises MemoryError, of whichever device; after it nothing is held any more.
    """

    def __call__(
        self,
        architecture: Architecture,
        seed: int,
        *,
        recipe: Recipe | None = None,
        on_epoch: Callable[[EpochReport], None],
        on_batch: Callable[[int, int], None],
        on_continue: Callable[[Sequence[EpochReport]], None] | None = None,
        on_trained: Callable[[Outcome, Callable[[Path], None]], None] | None = None,
        checkpoint: Path | None = None,
    ) -> Outcome: ...


@dataclass
class Bench:
    study: optuna.Study
    engine: Engine
    study_id: int
    plan: Plan
    train: Train
    limits: Limits
    spool: Path
    shelf: Shelf
    room: Room
    patience: Patience
    device: str
    versions: dict[str, Any]
    cancelled: Callable[[], bool]
    abandon: Callable[[], None]  # ends this process, whose training hangs
    say: Callable[[str], None]
    shortages: int = 0  # of memory, beside other trainings of the device


@contextmanager
def set_up(
    assignment: Assignment,
    engine: Engine,
    record: Study,
    ending: Ending,
    say: Callable[[str], None],
) -> Iterator[Bench]:
    """Opens what the study's plan names. Raises DataError, DeviceError."""
    optuna_study.quiet()
    plan = Plan.of(record.settings)
    images = open_images(plan.data, assignment.data_dir, assignment.data)
    device, train = trainer(plan, images, say, memory=assignment.trial_memory)
    trial_seconds = assignment.trial_seconds
    this = identity(assignment.storage, record)
    with optuna_study.opened(assignment.storage, record.name, plan) as study:
        yield Bench(
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
            shelf=Shelf(shelves(assignment.data_dir) / this, assignment.keep_weights, say),
            room=Room(assignment.data_dir / "slots", gpu_pinning.place()),
            patience=Patience(assignment.patience_seconds, say, ending.cancelled),
            device=device,
            versions=versions(),
            cancelled=ending.cancelled,
            abandon=abandon,
            say=say,
        )


def identity(storage: str, record: Study) -> str:
    """A folder's name for this study of this store: what is owed to one is never paid to another."""
    text = f"{redacted(normalise(storage))} {record.name} {record.created_at.isoformat()}"
    return sha256(text.encode()).hexdigest()[:16]


def shelves(data_dir: Path) -> Path:
    """Where on this machine the studies keep checkpoints and weights, each in a folder of its identity."""
    return data_dir / "kept"


def trainer(
    plan: Plan,
    images: Images,
    say: Callable[[str], None] | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    memory: int | None = None,
) -> tuple[str, Train]:
    """The name of this process's device, and a function that trains on it. Loads torch.

    memory bounds what a training may take of the device, in bytes; it ends as one for which there is none.

    Raises DeviceError where a GPU was given and torch finds none.
    """
    import torch

    from trainer import loop, weights
    from trainer.device import bound_memory, in_memory

    torch.set_num_threads(max(1, int(os.environ.get("OMP_NUM_THREADS") or 1)))
    device = loop.select_device(None)
    if device.type == "cpu" and os.environ.get("CUDA_VISIBLE_DEVICES"):
        raise DeviceError(f"GPU {os.environ['CUDA_VISIBLE_DEVICES']} was given, but torch finds none")
    dataset = images.dataset
    if memory is not None:
        bound_memory(device, memory)

    def train(
        architecture: Architecture,
        seed: int,
        *,
        recipe: Recipe | None = None,
        on_epoch: Callable[[EpochReport], None],
        on_batch: Callable[[int, int], None],
        on_continue: Callable[[Sequence[EpochReport]], None] | None = None,
        on_trained: Callable[[Outcome, Callable[[Path], None]], None] | None = None,
        checkpoint: Path | None = None,
    ) -> Outcome:
        fitted = in_memory(
            lambda: loop.fit(
                architecture,
                recipe or plan.recipe,
                dataset,
                images.split,
                seed=seed,
                device=device,
                on_epoch=on_epoch,
                on_batch=on_batch,
                on_continue=on_continue,
                checkpoint=checkpoint,
                checkpoint_seconds=checkpoint_seconds,
                say=say,
                brief=True,
            )
        )
        if on_trained:

            def save(path: Path) -> None:
                weights.save(path, fitted.model, architecture, dataset.classes, fitted.normalisation)

            on_trained(fitted.outcome, save)
        return fitted.outcome

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine() + " CPU"
    return name, train


def versions() -> dict[str, Any]:
    """What a result depends on besides the plan."""
    packages = ("parsimony", "torch", "torchvision", "optuna", "numpy")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}
