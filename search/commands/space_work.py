"""Which images, which trainings and which budget `search space check` and `sample` speak of.

Flags, and what follows from them as it does for `search launch`: the classes and the size of the images, how
many of them a trial sees in how many epochs, and the default of `--max-macs`. Reads the images of a folder
or of stored tensors, which are converted into the cache as for a launch. Called by search/commands/space.py.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from search import settings
from search.commands import options
from trainer.data.catalogue import DATASETS, SPECS, KnownDataset, meant

if TYPE_CHECKING:
    from search.study.compute_limit import ComputeLimit
    from space.budget import Budget
    from space.space import SearchSpace, Task
    from trainer.recipe.document import Recipe

READ = ("folder:", "tensors:")  # of what is known by its images alone


@dataclass(frozen=True)
class SpaceWork:
    """A trial of the search that is spoken of: how many images it trains on and is scored by, its recipe."""

    task: "Task"
    images: int
    validated: int
    recipe: "Recipe"


def _known(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    """The value, where it names images."""
    if value not in DATASETS and not value.startswith(READ):
        raise click.BadParameter(f"unknown data set {value!r}; use {SPECS}{meant(value)}")
    return value


def task_options(command: Any) -> Any:
    """The flags that say for which images and under which budget."""
    for flag in (
        click.option("--classes", type=click.IntRange(2, 100_000),
                     help="Classes to tell apart.  [default: by data set]"),
        click.option("--channels", type=click.IntRange(1, 1_024),
                     help="Of an image.  [default: by data set]"),
        click.option("--image-size", type=click.IntRange(1, 1_024), metavar="PIXELS",
                     help="Side of an image.  [default: by data set]"),
        click.option("--data", default=settings.DATA, show_default=True, metavar="SPEC", callback=_known,
                     help=f"Whose images these are: {SPECS}."),
        options.data_dir,
        options.skip_damaged,
        click.option("--max-macs", type=options.CountOrNone(), metavar="N|none",
                     help="Hard limit of multiply-accumulates of one image.  [default: that of a launch here,"
                     " of as many images as --data has, at --image-size]"),
        click.option("--max-params", "max_parameters", type=options.Count(), default=settings.MAX_PARAMETERS,
                     show_default=True, metavar="N", help="Hard limit of trainable parameters."),
    ):  # fmt: skip
        command = flag(command)
    return command


def work_of(facts: dict[str, Any], train_images: int | None = None, epochs: int | None = None) -> SpaceWork:
    """The trial that the flags mean; what they leave open comes from the data set, as in a launch.

    Raises DataError for images that cannot be read, UsageError for fewer to train on than a folder has
    classes.
    """
    from space.space import Task
    from trainer.recipe.defaults import brief_recipe

    known, images, validated = _images(facts, train_images)
    task = Task(
        channels=facts["channels"] or known.channels,
        image_size=facts["image_size"] or known.image_size,
        classes=facts["classes"] or known.classes,
    )
    return SpaceWork(task, images, validated, brief_recipe(facts["data"], images, epochs, task.image_size))


def _images(facts: dict[str, Any], limit: int | None) -> tuple[KnownDataset, int, int]:
    """The facts of the data set, and how many of its images a trial trains on and is scored by, as a launch
    splits them; a folder or tensors are read for them, as a launch reads them."""
    spec = facts["data"]
    if spec not in DATASETS:
        return _opened(facts, limit)
    known = DATASETS[spec]
    whole = known.train_images
    share = settings.SMALL_VALIDATION_SHARE if whole < settings.SMALL else settings.VALIDATION_SHARE
    validated = round(share * whole)
    there = whole - validated
    return known, min(limit or there, there), validated


def _opened(facts: dict[str, Any], limit: int | None) -> tuple[KnownDataset, int, int]:
    from search.study.config import split_images
    from trainer.data import dataset as datasets

    found = datasets.load(
        facts["data"], facts["data_dir"], facts["image_size"], skip_damaged=facts["skip_damaged"]
    )
    data, _ = split_images(found, limit, None, settings.SEED)
    known = KnownDataset(
        found.spec, found.name, found.channels, found.image_size, len(found.classes), len(found.labels), 0
    )
    return known, data.train_images, data.validation_images


def budget_of(
    facts: dict[str, Any], space: "SearchSpace", work: SpaceWork
) -> "tuple[Budget, ComputeLimit | None]":
    """The budget of the flags, and the default limit of multiply-accumulates where it was taken: that of a
    launch on this machine. Raises DeviceError where GPUs that the environment names cannot be listed."""
    from search.machine import devices
    from search.study import compute_limit
    from space import cost, sampling
    from space.budget import Budget

    said: int | None = facts["max_macs"]
    if said is not None:
        return Budget(facts["max_parameters"], None if said == compute_limit.UNLIMITED else said), None
    least = cost.total(sampling.smallest(space, work.task)).macs
    seen = work.images * work.recipe.epochs
    limit = compute_limit.default(work.task.image_size, seen, not devices.gpus(), least)
    return Budget(facts["max_parameters"], limit.macs), limit
