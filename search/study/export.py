"""The exported JSON document of one network, and its verification.

Reads a study's row and a candidate; writes a file whole or not at all. Called by the commands export and
verify and at the end of a launch. `verify` believes nothing: it parses, counts, rebuilds and runs the
network from the file alone, and loads torch for it.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import ValidationError, model_validator

from search.study.config import DataConfig, StudyConfig
from search.study.files import StudyFiles
from search.study.standing import Baselines
from search.study.statistics import Interval, difference, spread, wilson
from search.study.text import counted
from space import cost, files
from space.architecture import Architecture, Document, first_problem
from space.budget import Budget, judge
from space.errors import ArchitectureError, StudyError, UsageError, VerificationError
from storage.row_types import Candidate, State
from storage.studies import Study
from storage.trainings import OF_FINALS, Finished
from trainer.recipe.document import Recipe

FORMAT: Literal["parsimony.export/1"] = "parsimony.export/1"


class LayerRow(Document):
    """One layer: output channels and side in pixels, parameters, multiply-accumulates of one image."""

    name: str
    kind: str
    channels: int
    size: int
    parameters: int
    macs: int


class Metrics(Document):
    """Validation accuracy after the last epoch, 0..1, with the 95% Wilson interval of its images."""

    validation_accuracy: float
    interval_95: tuple[float, float]
    best_epoch_accuracy: float | None
    validation_loss: float | None
    measured_on: str
    standing: Literal["brief score only", "confirmed"]

    model_config = Document.model_config | {"strict": False}


class Against(Document):
    """The best baseline of the study, a plain network of the same budget, and how far this network is ahead.

    Brief scores on the same validation images; the interval is Newcombe's of two independent proportions.
    """

    baseline: str
    trial: int
    validation_accuracy: float
    ahead: float
    ahead_interval_95: tuple[float, float]

    model_config = Document.model_config | {"strict": False}


class Confirmation(Document):
    """Full trainings of the network: means over the seeds, and their 95% intervals where there are several.

    Test images were opened once for each seed, and chose nothing.
    """

    epochs: int
    seeds: int
    validation_accuracy: float
    validation_interval_95: tuple[float, float] | None
    test_accuracy: float | None  # None where the data set has no test images
    test_interval_95: tuple[float, float] | None
    test_images: int
    folder: str

    model_config = Document.model_config | {"strict": False}

    def __str__(self) -> str:
        accuracy, spread = self.test_accuracy, self.test_interval_95
        images = f"{self.test_images:,} test images"
        if accuracy is None:
            accuracy, spread, images = (
                self.validation_accuracy,
                self.validation_interval_95,
                "validation images",
            )
        within = f", 95% interval of the mean {Interval(*spread)}" if spread else ""
        return (
            f"confirmed: {100 * accuracy:.2f}% on {images} ({counted(self.seeds, 'seed')} of"
            f" {counted(self.epochs, 'epoch')}{within})"
        )


class Origin(Document):
    """Which trial of which study it was, among how many trained; seed, epochs, seconds and device."""

    study: str
    trial: int
    trained: int
    seed: int
    epochs: int | None
    seconds: float | None
    device: str | None
    versions: dict[str, Any]


class Export(Document):
    """The whole document, format parsimony.export/1."""

    format: Literal["parsimony.export/1"]
    fingerprint: str
    parameters: int
    macs: int
    budget: Budget
    architecture: Architecture
    layers: tuple[LayerRow, ...]
    metrics: Metrics
    against: Against | None = None  # None without baselines, and in documents of before
    confirmation: Confirmation | None = None
    recipe: Recipe
    data: DataConfig
    origin: Origin

    model_config = Document.model_config | {"strict": False}

    @model_validator(mode="after")
    def _has_layers(self) -> Self:
        if not self.layers:
            raise ValueError("layers: the table is empty")
        return self


def confirmation(trainings: Sequence[Finished], candidate: Candidate) -> Confirmation | None:
    """What the newest run of full trainings of this network came to, if one was tested, or was of the finals
    of its search, where there are no test images."""
    mine = [one for one in trainings if one.fingerprint == candidate.fingerprint]
    counting = [one for one in mine if one.test_accuracy is not None or one.run.startswith(OF_FINALS)]
    if not counting:
        return None
    run = [training for training in counting if training.run == counting[-1].run]
    full = spread([training.accuracy for training in run])
    tests = [training.test_accuracy for training in run if training.test_accuracy is not None]
    test = spread(tests) if tests else None
    return Confirmation(
        epochs=run[0].epochs,
        seeds=len(run),
        validation_accuracy=full.mean,
        validation_interval_95=full.interval,
        test_accuracy=test.mean if test else None,
        test_interval_95=test.interval if test else None,
        test_images=run[0].test_images or 0,
        folder=run[0].folder,
    )


def export(
    record: Study,
    config: StudyConfig,
    candidate: Candidate,
    trained: int,
    confirmed: Confirmation | None = None,
    baselines: Baselines | None = None,
) -> Export:
    """The document of a candidate that was trained to the end. Raises StudyError for any other."""
    if candidate.state != State.COMPLETED or candidate.accuracy is None:
        raise StudyError(
            f"trial {record.name}:{candidate.number} is {candidate.state};"
            " only one that was trained to the end is exported"
        )
    architecture = Architecture.parse(candidate.architecture)
    images = config.data.validation_images
    return Export(
        format=FORMAT,
        fingerprint=architecture.fingerprint,
        parameters=candidate.parameters,
        macs=candidate.macs,
        budget=config.budget,
        architecture=architecture,
        layers=tuple(LayerRow(**row._asdict()) for row in cost.layers(architecture)),
        metrics=Metrics(
            validation_accuracy=candidate.accuracy,
            interval_95=wilson(candidate.accuracy, images),
            best_epoch_accuracy=candidate.best_accuracy,
            validation_loss=candidate.loss,
            measured_on=f"{images:,} validation images of {config.data.name}, split from its training images;"
            f" chosen among {trained} trained networks by this score; test images not read",
            standing="confirmed" if confirmed else "brief score only",
        ),
        against=against(candidate, baselines, images),
        confirmation=confirmed,
        recipe=config.recipe,
        data=config.data,
        origin=Origin(
            study=record.name,
            trial=candidate.number,
            trained=trained,
            seed=candidate.seed,
            epochs=candidate.epochs,
            seconds=candidate.seconds,
            device=candidate.device,
            versions=candidate.versions or {},
        ),
    )


def against(candidate: Candidate, baselines: Baselines | None, images: int) -> Against | None:
    """The network beside the study's best baseline, be it that one itself; None where there is none."""
    if baselines is None or baselines.standing is None:
        return None
    best = baselines.standing.baseline
    ahead = difference(candidate.accuracy or 0.0, best.accuracy or 0.0, images)
    return Against(
        baseline=best.baseline or "",
        trial=best.number,
        validation_accuracy=best.accuracy or 0.0,
        ahead=ahead.points,
        ahead_interval_95=(ahead.low, ahead.high),
    )


def copy_weights(folder: Path, number: int, out: Path) -> None:
    """Copies what a study's folder keeps of a trial: weights of the finals, of the first seed that is here,
    else those of the brief training.

    Raises UsageError where it keeps nothing.
    """
    shelf = StudyFiles(folder, 0)
    kept = next(iter(shelf.finals(number)), shelf.weights(number))
    try:
        contents = kept.read_bytes()
    except OSError:
        raise UsageError(
            f"no weights of trial {number} in {folder}: not one of the best, or trained on another machine"
        ) from None
    files.require_writable(out)
    files.replace(out, contents)


def read(path: Path) -> Any:
    """The JSON of a file. Raises UsageError where there is none, VerificationError for other text."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise VerificationError(f"schema: {path} is not JSON: {error}") from None


def verify(path: Path) -> tuple[Export, list[str]]:
    """Checks schema, count, budget, fingerprint and a forward pass, in this order.

    Returns the document and one line for each check. Raises VerificationError that names the one that fails,
    UsageError where there is no file.
    """
    document = read(path)
    try:
        found = Export.model_validate_json(json.dumps(document))
    except ValidationError as error:
        raise VerificationError(f"schema: {first_problem(error)}") from None
    checks = [_count, _budget, _fingerprint, _forward]
    return found, [f"schema: {FORMAT}", *(check(found) for check in checks)]


def _count(found: Export) -> str:
    spent = cost.total(found.architecture)
    rows = tuple(LayerRow(**row._asdict()) for row in cost.layers(found.architecture))
    stated = (found.parameters, found.macs)
    if stated != spent:
        raise VerificationError(
            f"count: the file says {stated[0]:,} parameters and {stated[1]:,} multiply-accumulates,"
            f" its architecture has {spent.parameters:,} and {spent.macs:,}"
        )
    if rows != found.layers:
        raise VerificationError("count: the layer table is not that of the architecture")
    return f"count: {spent.parameters:,} parameters, {spent.macs:,} multiply-accumulates"


def _budget(found: Export) -> str:
    verdict = judge(found.architecture, found.budget)
    if verdict.excess:
        raise VerificationError(f"budget: {verdict.excess}")
    return f"budget: within {found.budget}"


def _fingerprint(found: Export) -> str:
    if found.architecture.fingerprint != found.fingerprint:
        raise VerificationError(
            f"fingerprint: the file says {found.fingerprint},"
            f" its architecture has {found.architecture.fingerprint}"
        )
    return f"fingerprint: {found.fingerprint}"


def _forward(found: Export) -> str:
    architecture = found.architecture
    try:
        built, shape = forward(architecture)
    except (RuntimeError, ArchitectureError, MemoryError) as error:
        raise VerificationError(f"forward pass: {str(error).splitlines()[0]}") from None
    if built != found.parameters:
        raise VerificationError(f"forward pass: the built network has {built:,} parameters")
    if shape != (2, architecture.classes):
        raise VerificationError(f"forward pass: the output has shape {shape}")
    return (
        f"forward pass: 2 images in, scores of {architecture.classes} classes out, {built:,} parameters built"
    )


def forward(architecture: Architecture) -> tuple[int, tuple[int, ...]]:
    """Builds the network and runs two images of noise through it: parameters, shape of the output.

    Raises VerificationError for an output that is not finite, and what torch raises where it cannot be built.
    """
    import torch

    from trainer import model

    network = model.build(architecture).eval()
    side = architecture.image_size
    with torch.inference_mode():
        scores = network(torch.randn(2, architecture.channels, side, side))
    if not bool(torch.isfinite(scores).all()):
        raise VerificationError("forward pass: the output is not finite")
    return model.count(network), tuple(scores.shape)
