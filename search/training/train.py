"""Does what `search train` is for: from flags to a folder of weights, results and a page, and to rows.

Resolves network, recipe and images, calls run.py, test_set.py and report.py, and stores one row for each
seed. Called by search/commands/training.py. Everything that can be wrong is found before the first step;
files are written before rows, so that a store out of reach loses nothing.
"""

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace as replace_fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from search import settings
from search.machine import signals
from search.machine.usable_device import usable_device
from search.study import config as study_config, full_training, network_reference, text
from search.study.config import DataConfig, Images
from search.study.console import stderr_console
from search.study.network_reference import ResolvedNetwork
from search.study.statistics import Spread
from search.study.versions import OF_TRAINING, installed_versions
from search.training import progress_file, report as training_report, run as training_run, test_set
from search.training.progress import TrainingProgress
from search.training.run import JobCallbacks, LearningCurve, TrainingJob
from search.training.test_set import TestResult
from space import cost, parser
from space.errors import DataError, DeviceError, EnvironmentProblem, RecipeError, StorageError, UsageError
from space.files import replace
from storage import database, trainings
from storage.trainings import Finished, Training
from trainer.data import dataset as datasets, sources, survey_text
from trainer.data.dataset import Dataset
from trainer.data.images import Fit
from trainer.device import memory_errors
from trainer.outcome import Outcome
from trainer.recipe import augmentations, checks
from trainer.recipe.document import ClassWeights, Recipe


@dataclass(frozen=True)
class Flags:
    """What `search train` was given; None where nothing was said."""

    network: str
    storage: str
    data_dir: Path
    recipe: str | None = None
    epochs: int | None = None
    seeds: int = 3
    first_seed: int = 0
    out: Path | None = None
    data: str | None = None
    train_images: int | None = None
    fit: Fit | None = None
    skip_damaged: bool = False
    class_weights: ClassWeights | None = None
    device: str | None = None
    resume: bool = False
    like: str | None = None
    no_test: bool = False


def train_network(flags: Flags, show: Callable[[Sequence[Finished]], None]) -> int:
    """Trains every seed, then opens the test set; `show` is handed the rows. Returns the exit code.

    Raises what `make` raises, DataError and RecipeError among it; CheckpointError for a checkpoint of
    something else, DeviceError where the device has too little memory, and EnvironmentProblem where the files
    are written but the store does not take the rows.
    """
    console = stderr_console()
    job = make(flags)
    training_run.require_space(job)
    engine = database.connect(flags.storage)
    try:
        database.prepare(engine)
        job = training_run.open_folder(job, flags.resume)
        _say_job(console, job)
        with _lack_of_memory_told(job):
            curves = _train(console, job)
            tests, spreads = _finish(console, job, curves, flags.no_test)
        _store(engine, job, curves, tests)
        rows = [row for row in trainings.of_study(engine, job.subject.study) if row.run == job.run]
    finally:
        engine.dispose()
    show(rows)
    for name, found in spreads.items():
        console.print(f"{name}: {100 * found.mean:.2f}% ({training_report.describe_spread(found)})")
    console.print(f"wrote {job.folder}: result.json, report.html, architecture.json, recipe.json, weights")
    return 0


def make(flags: Flags) -> TrainingJob:
    """The job that the flags mean.

    Raises ArchitectureError, StudyError, RecipeError, DataError or DeviceError.
    """
    found = network_reference.resolve(flags.network, flags.storage)
    if flags.like:
        found = network_reference.like(found, flags.like, flags.storage)
    elif network_reference.is_file(flags.network):
        found = network_reference.with_export(found, Path(flags.network))
    name = found.name.removeprefix(network_reference.PUBLISHED).replace(":", "-")
    folder = flags.out or Path(f"training-{name}")
    found, data, images = _data(flags, found)
    if flags.resume:
        data = training_run.as_begun(folder, data)
    recipe = _recipe(flags, found, data)
    device = usable_device(recipe, flags.device)
    seeds = tuple(range(flags.first_seed, flags.first_seed + flags.seeds))
    return TrainingJob(found, recipe, data, images, seeds, device, folder, run="")


def _recipe(flags: Flags, found: ResolvedNetwork, data: DataConfig) -> Recipe:
    said = network_reference.said_epochs(network_reference.written(flags.recipe))
    epochs = flags.epochs or said
    if found.recipe and found.data:
        written = found.recipe_written
        base = full_training.adapted(found.recipe, found.data, data, epochs, written=written)
    else:
        base = full_training.default_recipe(data, epochs)
    recipe = base
    if flags.recipe:  # a schedule in it is one of its own epochs
        base = base.for_epochs(said or settings.FULL_EPOCHS)
        recipe = network_reference.load_recipe(flags.recipe, base)
    if flags.epochs:
        recipe = recipe.for_epochs(flags.epochs)
    recipe = recipe.weighing(flags.class_weights)
    recipe = Recipe.parse(recipe.model_dump(), flags.recipe or "recipe")  # another length may be a mistake
    recipe.require_fit(data.image_size)
    if "batch_size" in network_reference.written_fields(flags.recipe):  # else it is cut, as a search cuts it
        recipe.require_batch(data.train_images)
    for mistake in checks.of_training(recipe, found.architecture):
        if mistake.name and mistake.name not in recipe.accept:
            raise RecipeError(mistake.refusal)
    return recipe


def _data(flags: Flags, found: ResolvedNetwork) -> tuple[ResolvedNetwork, DataConfig, Images]:
    """The study's images and its validation part where the network is a study's, but all to train on.

    A file that is to be trained on other images than its own is a network alone.
    """
    was, of_file, note = found.data, found.study is None and not flags.like, ""
    own = was if was and not of_file and _means_images_of(flags, found, was) else None
    try:
        dataset = _open(flags, found)
        if was and not of_file and dataset.digest != was.digest:
            raise study_config.other_images(dataset, was)
        if own and (tested := study_config.tests_of_before(own, dataset, flags.data_dir)):
            dataset, note = tested, study_config.goes_on(flags.data or own.spec, study_config.TESTS)
    except DataError as error:
        before = study_config.as_before(own, flags.data_dir) if own else None
        if before:
            dataset, note = before, study_config.goes_on(flags.data or before.spec)
        elif was and of_file and flags.data is None:
            raise DataError(
                f"{flags.network} was trained on {was.spec} ({error}); say by --data where its images lie"
            ) from error
        else:
            raise
    if was and dataset.digest != was.digest:
        if flags.data is None:
            raise DataError(
                f"{was.spec} no longer holds the images that {flags.network} was trained on;"
                " say by --data where they lie, or what else to train on"
            )
        found, was = replace_fields(found, recipe=None, data=None), None
    share, seed = (was.validation_share, was.split_seed) if was else (None, 0)
    data, images = study_config.split_images(dataset, flags.train_images, share, seed)
    return found, data.seen_as(was), replace_fields(images, note=note)


def _means_images_of(flags: Flags, found: ResolvedNetwork, was: DataConfig) -> bool:
    """Whether the images of the study `was` are to be trained on, so that those of before stand for what its
    folder holds now: --data says no more than where they lie on this machine, by itself or by SEARCH_DATA.
    Another place that is typed means what it holds, and another --fit, or size, what becomes of it."""
    is_place = not flags.data or flags.data == settings.data_here() or sources.is_at(flags.data, was.spec)
    return is_place and flags.fit in (None, was.fit) and found.architecture.image_size == was.image_size


def _open(flags: Flags, found: ResolvedNetwork) -> Dataset:
    was = found.data
    return datasets.load(
        flags.data or (was.spec if was else settings.DATA),
        flags.data_dir,
        found.architecture.image_size,
        flags.fit or (was.fit if was else settings.FIT),
        flags.skip_damaged or bool(was and was.skip_damaged),
    )


def _say_job(console: Console, job: TrainingJob) -> None:
    spent, recipe = cost.total(job.architecture), job.recipe
    console.print(
        f"network  {job.subject.name}: {spent.parameters:,} parameters, {spent.macs:,} multiply-accumulates"
    )
    console.print(
        f"data     {job.data.name}: {job.data.train_images:,} training and"
        f" {job.data.validation_images:,} validation images"
    )
    if job.images.note:
        console.print(f"note     {job.images.note}", highlight=False, markup=False)
    for word, line in survey_text.lines(job.images.dataset, job.images.split, job.recipe):
        console.print(f"{word:8} {line}", highlight=False, markup=False)
    weighed = "" if recipe.class_weights == "none" else ", class weights balanced"
    console.print(
        f"training {text.counted(recipe.epochs, 'epoch')}, batch {recipe.batch_size}, {recipe.optimizer},"
        f" {recipe.planned.name.replace('_', '-')} to {recipe.learning_rate:g}{weighed}; seeds"
        f" {', '.join(map(str, job.seeds))}; on {job.device}"
    )
    for line in checks.of_images(recipe, job.data.train_images):
        console.print(f"note     {line}", highlight=False, markup=False)
    console.print(f"augment  {augmentations.described(recipe)}", highlight=False, markup=False)
    for mistake in checks.of_training(recipe, job.architecture):
        console.print(f"warning  {mistake.reason}")


def _train(console: Console, job: TrainingJob) -> list[LearningCurve]:
    batch = min(job.recipe.batch_size, job.data.train_images)
    progress = TrainingProgress(console, job.seeds, job.recipe.epochs, batch, job.folder)
    callbacks = JobCallbacks(progress.on_seed, progress.on_batch, progress.on_epoch)
    try:
        with signals.sigterm_raises(), progress.bar, progress.warnings():
            return [training_run.train(job, seed, callbacks) for seed in job.seeds]
    except (KeyboardInterrupt, SystemExit):
        kept = job.path(progress.seed, "checkpoint").exists()
        where = "its last checkpoint" if kept else "its start"
        folder = shlex.quote(str(job.folder))
        console.print(f"stopped: with --resume --out {folder} seed {progress.seed} goes on from {where}")
        raise
    finally:
        progress_file.remove(job.folder)


@contextmanager
def _lack_of_memory_told(job: TrainingJob) -> Iterator[None]:
    """Raises DeviceError where the device has too little memory for the training, or for the test images."""
    try:
        with memory_errors():
            yield
    except MemoryError as error:
        raise DeviceError(
            f"too little memory on {job.device} for {job.subject.name} in batches of {job.recipe.batch_size}"
            f" ({str(error) or 'no more'}): wait until others there have ended, choose another --device, or"
            " give a recipe with a smaller batch_size and another --out"
        ) from None


def _finish(
    console: Console, job: TrainingJob, curves: list[LearningCurve], no_test: bool
) -> tuple[list[TestResult], dict[str, Spread]]:
    """The tests of every seed, and what all came to; a seed that was tested on these test images is not
    tested again, one that was tested on others is, from its weights."""
    tested = _tested(job, curves)
    before = tested if _are_of_these_images(job, tested) else {}
    if len(before) < len(tested):
        again = "these results are left out" if no_test else "the network is tested again"
        console.print(f"the test images of {job.data.name} are others than those it was tested on: {again}")
    missing = [] if no_test else [seed for seed in job.seeds if seed not in before]
    opened = test_set.open_test_set(job) if missing else None
    if missing and opened is None:
        console.print(f"{job.data.name} has no test images: the figures are of validation images alone")
    now = {seed: test_set.evaluate(job, seed, *opened) for seed in missing} if opened else {}
    tests = [(before | now)[seed] for seed in job.seeds if seed in before | now]
    spreads = test_set.summarise(curves, tests)
    document = training_report.document(job, curves, tests, spreads)
    replace(job.folder / "result.json", (json.dumps(document, indent=1) + "\n").encode())
    page = training_report.page(job, curves, tests, spreads, _pictures(job) if tests else None)
    replace(job.folder / "report.html", page.encode())
    return tests, spreads


def _pictures(job: TrainingJob) -> NDArray[np.uint8] | None:
    """The test images, (N, H, W, C) uint8, of which the report shows some that were mistaken; mapped from a
    file, so that no others are read."""
    try:
        return job.images.dataset.open_test()[0]
    except DataError:
        return None


def _tested(job: TrainingJob, curves: Sequence[LearningCurve]) -> dict[int, TestResult]:
    """The tests that a result here holds, by seed: of weights that have not been trained anew since."""
    outcomes = {curve.seed: curve.outcome for curve in curves}
    try:
        seeds = parser.read_own(job.folder / "result.json", UsageError)["seeds"]
        return {
            row["seed"]: TestResult(**row["test"])
            for row in seeds
            if row["test"] and _is_of(row["validation"], outcomes.get(row["seed"]))
        }
    except (UsageError, KeyError, TypeError):
        return {}


def _are_of_these_images(job: TrainingJob, tested: Mapping[int, TestResult]) -> bool:
    """Whether the tests that a result here holds were on the test images that there are now."""
    if not tested:
        return True
    data = parser.read_own(job.folder / "result.json", UsageError).get("data")
    try:
        images = len(job.images.dataset.open_test()[1])
    except DataError:  # there are none any more, and what was measured stays
        return True
    digests = data.get("test_digest") if isinstance(data, dict) else None, job.data.test_digest
    return all(full_training.are_same_tests(digests, (test.images, images)) for test in tested.values())


def _is_of(validation: dict[str, Any], outcome: Outcome | None) -> bool:
    """Whether a stored validation is this outcome; compared as text, since a loss may be no number."""
    return outcome is not None and json.dumps(asdict(Outcome(**validation))) == json.dumps(asdict(outcome))


def _store(engine: Engine, job: TrainingJob, curves: list[LearningCurve], tests: list[TestResult]) -> None:
    by_seed = {test.seed: test for test in tests}
    rows = [_row(job, curve, by_seed.get(curve.seed)) for curve in curves]
    try:
        trainings.save(engine, rows)
    except (StorageError, SQLAlchemyError) as error:
        reason = str(error).splitlines()[0]
        raise EnvironmentProblem(
            f"the files are in {job.folder}, but the store did not take the rows ({reason});"
            " the same command with --resume hands them in"
        ) from error


def _row(job: TrainingJob, curve: LearningCurve, test: TestResult | None) -> Training:
    spent, outcome = cost.total(job.architecture), curve.outcome
    return Training(
        run=job.run,
        seed=curve.seed,
        subject=job.subject.name,
        study=job.subject.study,
        trial=job.subject.trial,
        fingerprint=job.architecture.fingerprint,
        parameters=spent.parameters,
        macs=spent.macs,
        architecture=job.architecture.document(),
        recipe=job.recipe.model_dump(mode="json"),
        data=job.data.model_dump(mode="json"),
        epochs=outcome.epochs,
        accuracy=outcome.accuracy,
        best_accuracy=outcome.best_accuracy,
        best_epoch=curve.best_epoch,
        loss=outcome.loss,
        test_accuracy=test.accuracy if test else None,
        test_loss=test.loss if test else None,
        test_images=test.images if test else None,
        seconds=outcome.seconds,
        device=str(job.device),
        versions=installed_versions(OF_TRAINING),
        folder=str(job.folder.resolve()),
    )
