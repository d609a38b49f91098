"""Trains one network with several seeds in a folder, from where each seed's checkpoint is.

Writes training.json (what is trained), architecture.json and recipe.json, and for each seed a checkpoint
while it runs, then weights and learning curve. Called by search/training/train.py. Knows no terminal and no
database, and never reads a test image.
"""

import json
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from time import sleep
from typing import Any
from uuid import uuid4

import torch
from pydantic import BaseModel

from search import settings
from search.study.config import DataConfig, Images
from search.study.files import BYTES_A_PARAMETER, free_bytes
from search.study.network_reference import ResolvedNetwork
from search.study.text import counted
from space import cost, parser
from space.architecture import Architecture
from space.errors import EnvironmentProblem, UsageError
from space.files import discard, replace
from trainer import checkpoint as checkpoints, loop, weights
from trainer.callbacks import OnBatch, OnEpoch, TrainingCallbacks
from trainer.checkpoint import CheckpointOptions, Identity
from trainer.messages import differences, shortened
from trainer.outcome import EpochReport, Outcome
from trainer.recipe.document import Recipe
from trainer.step_graph import cuda_recorder, plain_steps

logger = logging.getLogger(__name__)

FORMAT = "parsimony.training/1"
CHECKPOINT_SECONDS = 30.0  # at most so much is trained anew, and the epoch under way
BYTES_A_WEIGHT = 4  # float32
BYTES_OF_RESULTS = 1 << 20  # report, figures, and the heads of files
WRITE_SECONDS, WRITE_ATTEMPTS = 30.0, 120  # between two tries to write what is done; an hour of them
LISTED = ("subject", "architecture", "recipe", "data")  # what a folder must agree in to be gone on with


@dataclass(frozen=True)
class TrainingJob:
    """What to train and where; `run` is common to all seeds of the folder."""

    subject: ResolvedNetwork
    recipe: Recipe
    data: DataConfig
    images: Images
    seeds: tuple[int, ...]
    device: torch.device
    folder: Path
    run: str

    @property
    def architecture(self) -> Architecture:
        """The network that is trained."""
        return self.subject.architecture

    def path(self, seed: int, kind: str) -> Path:
        """Of the json, safetensors or checkpoint of a seed."""
        return self.folder / f"seed-{seed}.{kind}"

    def document(self) -> dict[str, Any]:
        """What is trained, as JSON."""
        subject = {"name": self.subject.name, "study": self.subject.study, "trial": self.subject.trial}
        return {
            "format": FORMAT,
            "run": self.run,
            "subject": subject,
            "architecture": self.architecture.document(),
            "recipe": self.recipe.model_dump(mode="json"),
            "data": self.data.model_dump(mode="json"),
        }


@dataclass(frozen=True)
class LearningCurve:
    """A seed that was trained to the end: every epoch, and what it came to on validation images."""

    seed: int
    epochs: tuple[EpochReport, ...]
    outcome: Outcome

    @property
    def best_epoch(self) -> int:
        """The epoch of the highest validation accuracy, the first of several."""
        return max(self.epochs, key=lambda epoch: (epoch.validation_accuracy, -epoch.epoch)).epoch


@dataclass(frozen=True)
class JobCallbacks:
    """What a training calls back; `on_seed` gets the seed and the epochs that were done before."""

    on_seed: Callable[[int, Sequence[EpochReport]], None]
    on_batch: OnBatch
    on_epoch: OnEpoch


def as_begun(folder: Path, data: DataConfig) -> DataConfig:
    """The images as a training that the folder holds was told of them (DataConfig.seen_as). What is damaged
    there is left to open_folder(), which raises UsageError for it."""
    with suppress(UsageError, ValueError):
        return data.seen_as(DataConfig.model_validate(_read(folder / "training.json").get("data")))
    return data


def open_folder(job: TrainingJob, resume: bool) -> TrainingJob:
    """Makes the job's folder, or takes up the one that holds this very job; returns it with its run's id. The
    test images may have become others since: nothing is trained on them, and train.py tests again.

    Raises UsageError: another training is there, or this one and `resume` is not said.
    """
    path = job.folder / "training.json"
    if not path.exists():
        job = _with_run(job, uuid4().hex)
        for name, document in _documents(job).items():
            replace(job.folder / name, _json(document))
        return job
    if not resume:
        raise UsageError(f"{job.folder} holds a training; go on with it by --resume, or name another --out")
    there = _with_defaults(_read(path))
    was, now = (_trained(table) for table in (there, job.document()))
    for field, one, other in differences(was, now):
        raise UsageError(
            f"{path}: {field} is {shortened(one, 60)}, here {shortened(other, 60)}; name another --out"
        )
    return _with_run(job, str(there["run"]))


def _trained(document: dict[str, Any]) -> dict[str, Any]:
    """What LISTED names of a document, without the test images."""
    found, data = {key: document.get(key) for key in LISTED}, document.get("data")
    if isinstance(data, dict):
        found["data"] = {key: value for key, value in data.items() if key != "test_digest"}
    return found


def _with_defaults(document: dict[str, Any]) -> dict[str, Any]:
    """The document with the fields of recipe and data that there were not yet when it was written."""
    found = dict(document)
    models: dict[str, type[BaseModel]] = {"recipe": Recipe, "data": DataConfig}
    for name, model in models.items():
        with suppress(ValueError):  # what cannot be read is told as a difference
            found[name] = model.model_validate(found.get(name)).model_dump(mode="json")
    return found


def _documents(job: TrainingJob) -> dict[str, Any]:
    """training.json comes last: a folder without it holds nothing."""
    document = job.document()
    return {
        "architecture.json": document["architecture"],
        "recipe.json": document["recipe"],
        "training.json": document,
    }


def require_space(job: TrainingJob) -> None:
    """Raises EnvironmentProblem where the disk of the folder is too small for what the training leaves."""
    parameters = cost.total(job.architecture).parameters
    left = [seed for seed in job.seeds if not job.path(seed, "safetensors").exists()]
    needed = (BYTES_A_PARAMETER + BYTES_A_WEIGHT * len(left)) * parameters + BYTES_OF_RESULTS
    free = free_bytes(job.folder)
    if left and free < needed:
        raise EnvironmentProblem(
            f"{job.folder}: {free / 1e6:,.1f} MB free, and checkpoint and weights of"
            f" {counted(len(left), 'training')} take {needed / 1e6:,.1f} MB; free space or name another --out"
        )


def train(job: TrainingJob, seed: int, callbacks: JobCallbacks) -> LearningCurve:
    """One seed, from where its checkpoint is; at once where it is done.

    Raises CheckpointError: the checkpoint is damaged, or of another training, and is left as it is;
    UsageError for figures of a seed that cannot be read.
    """
    done = _done(job, seed)
    if done:
        return done
    path, epochs = job.path(seed, "checkpoint"), list[EpochReport]()
    if path.exists():
        identity = Identity.of(
            job.architecture, job.recipe, job.images.dataset, job.images.split, seed, job.device
        )
        epochs += checkpoints.load(path, identity).reports
    callbacks.on_seed(seed, epochs)

    def on_epoch(report: EpochReport) -> None:
        epochs.append(report)
        callbacks.on_epoch(report)

    fitted = loop.fit(
        job.architecture,
        job.recipe,
        job.images.dataset,
        job.images.split,
        seed=seed,
        device=job.device,
        callbacks=TrainingCallbacks(on_epoch, callbacks.on_batch),
        checkpoint=CheckpointOptions(path, CHECKPOINT_SECONDS, at_once=True),
        timed=True,
        make_recorder=plain_steps if settings.plain_steps() else cuda_recorder,
    )
    curve = LearningCurve(seed, tuple(epochs), fitted.outcome)
    _keep(job, curve, fitted)
    return curve


def _keep(job: TrainingJob, curve: LearningCurve, fitted: loop.Fitted) -> None:
    dataset, path = job.images.dataset, job.path(curve.seed, "safetensors")
    outcome = curve.outcome
    about = {
        "subject": job.subject.name,
        "data": job.data.name,
        "recipe": job.recipe.model_dump(mode="json"),
        **weights.trained_on(dataset.digest, curve.seed, outcome.epochs, outcome.accuracy),
    }
    written = (fitted.model, job.architecture, dataset.classes, fitted.normalisation)
    document = {
        "seed": curve.seed,
        "outcome": asdict(curve.outcome),
        "epochs": list(map(asdict, curve.epochs)),
    }

    def write() -> None:
        weights.save(path, *written, about, dataset.scaling)
        replace(job.path(curve.seed, "json"), _json(document))

    _insist(write)
    discard(job.path(curve.seed, "checkpoint"))


def _insist(write: Callable[[], None]) -> None:
    """Writes what a training came to; a disk that is full is waited for, since the training is done.

    Raises EnvironmentProblem after an hour.
    """
    for attempt in range(WRITE_ATTEMPTS):
        try:
            write()
        except EnvironmentProblem as error:
            if attempt + 1 == WRITE_ATTEMPTS:
                raise
            if not attempt:
                logger.warning(
                    "the training is done, but %s: free space; tries again every %.0f s for an hour; Ctrl-C"
                    " leaves the last checkpoint",
                    error,
                    WRITE_SECONDS,
                )
            sleep(WRITE_SECONDS)
        else:
            return


def _done(job: TrainingJob, seed: int) -> LearningCurve | None:
    path = job.path(seed, "json")
    if not path.exists() or not job.path(seed, "safetensors").exists():
        return None
    found = _read(path)
    try:
        epochs = tuple(EpochReport(**epoch) for epoch in found["epochs"])
        return LearningCurve(found["seed"], epochs, Outcome(**found["outcome"]))
    except (KeyError, TypeError) as error:
        raise UsageError(f"{path} is not of this version; delete it to train the seed again") from error


def _with_run(job: TrainingJob, run: str) -> TrainingJob:
    return TrainingJob(**{**{name: getattr(job, name) for name in job.__dataclass_fields__}, "run": run})


def _read(path: Path) -> dict[str, Any]:
    found = parser.read_own(path, UsageError)
    if not isinstance(found, dict):
        raise UsageError(f"{path}: no table")
    return found


def _json(document: Any) -> bytes:
    return (json.dumps(document, indent=1) + "\n").encode()
