"""The exported JSON document of one network.

Reads a study's row and a candidate; whoever asks writes the document. Called by the command export and at the
end of a launch; search/study/verification.py checks what came of it.
"""

from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import model_validator

from search.study import full_training
from search.study.config import DataConfig, StudyConfig
from search.study.score import WORDS, ScoreName
from search.study.second_stage import SecondStage
from search.study.standing import Baselines
from search.study.statistics import LEAST_RUNS, Interval, Spread, difference, spread, wilson
from search.study.text import counted, over_seeds, percent
from space import cost
from space.architecture import Architecture, Document
from space.budget import Budget
from space.errors import StudyError
from storage.row_types import OF_FINALS, Candidate, State
from storage.studies import Study
from storage.trainings import Finished, by_length
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
    score: ScoreName = "accuracy"  # that the search maximises
    validation_score: float | None = None  # None where that is accuracy, and in documents of before
    best_epoch_accuracy: float | None
    validation_loss: float | None
    measured_on: str
    own_score: str | None = None  # FILE.py:FUNCTION where that is the user's
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
    """Full trainings of the network: means over the seeds, their 95% intervals where there are three or more
    that are not all equal, and the accuracy of each seed (empty in documents of before).

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
    validation_by_seed: tuple[float, ...] = ()
    test_by_seed: tuple[float, ...] = ()

    model_config = Document.model_config | {"strict": False}

    @property
    def tested_seeds(self) -> int:
        """How many the test accuracy is of: of a run that was tested on two sets those of one."""
        return len(self.test_by_seed) or self.seeds

    @property
    def validation(self) -> Spread:
        """Accuracy on validation images over the seeds."""
        return self._spread(self.validation_accuracy, self.validation_interval_95, self.validation_by_seed)

    @property
    def test(self) -> Spread | None:
        """The same on test images; None where there are none."""
        if self.test_accuracy is None:
            return None
        return self._spread(self.test_accuracy, self.test_interval_95, self.test_by_seed)

    def _spread(self, mean: float, interval: tuple[float, float] | None, values: tuple[float, ...]) -> Spread:
        known = Interval(*interval) if interval and (len(values) or self.seeds) >= LEAST_RUNS else None
        return Spread(mean, None, known, values)

    def __str__(self) -> str:
        found, images, seeds = self.validation, "validation images", self.seeds
        if self.test:
            found, images, seeds = self.test, f"{self.test_images:,} test images", self.tested_seeds
        known = over_seeds(found, "95% interval of the mean")
        return (
            f"confirmed: {percent(found.mean)} on {images} ({counted(seeds, 'seed')} of"
            f" {counted(self.epochs, 'epoch')}{known and f', {known}'})"
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
    recipe_written: tuple[str, ...] = ()  # its fields that somebody chose; none in documents of before
    data: DataConfig
    origin: Origin

    model_config = Document.model_config | {"strict": False}

    @model_validator(mode="after")
    def _has_layers(self) -> Self:
        if not self.layers:
            raise ValueError("layers: the table is empty")
        return self


def confirmation(
    trainings: Sequence[Finished],
    candidate: Candidate,
    record: Study,
    config: StudyConfig,
    second: SecondStage | None,
) -> Confirmation | None:
    """What full trainings of this network came to: of the run that saw most images, of equals the newest,
    among those that were tested, or were of the finals of its search where there are no test images.

    Of the trainings those of full_training.of_network() count that were validated on the study's validation
    images, those of finals once all seeds of the network have ended. Of seeds that were tested on other test
    images than most the test accuracy does not count.
    """

    def counts(one: Finished) -> bool:
        if not full_training.validated_alike(one.data, config.data):
            return False
        if one.run.startswith(OF_FINALS):
            return second is not None and second.has_all_seeds(candidate, one.epochs)
        return one.test_accuracy is not None

    mine = full_training.of_network(trainings, candidate, record, config)
    runs = by_length(filter(counts, mine))
    if not runs:
        return None
    run = runs[0]
    full = spread([training.accuracy for training in run])
    tested = full_training.tested_alike(run)
    test = spread([training.test_accuracy or 0.0 for training in tested]) if tested else None
    return Confirmation(
        epochs=run[0].epochs,
        seeds=len(run),
        validation_accuracy=full.mean,
        validation_interval_95=full.interval,
        test_accuracy=test.mean if test else None,
        test_interval_95=test.interval if test else None,
        test_images=(tested[0].test_images or 0) if tested else 0,
        folder=run[0].folder,
        validation_by_seed=full.values,
        test_by_seed=test.values if test else (),
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
    chosen_by = "this score" if config.score == "accuracy" else f"its {WORDS[config.score]}"
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
            score=config.score,
            validation_score=candidate.score,
            best_epoch_accuracy=candidate.best_accuracy,
            validation_loss=candidate.loss,
            own_score=str(config.own_score) if config.own_score else None,
            measured_on=f"{images:,} validation images of {config.data.name},"
            f" {config.data.own_part or 'split from its training images'};"
            + (
                f" one of {trained} networks that were trained briefly"
                if confirmed
                else f" chosen among {trained} trained networks by {chosen_by}; test images not read"
            ),
            standing="confirmed" if confirmed else "brief score only",
        ),
        against=against(candidate, baselines, images),
        confirmation=confirmed,
        recipe=config.recipe,
        recipe_written=config.recipe_written,
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
