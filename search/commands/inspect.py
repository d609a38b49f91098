"""The commands that look things up: published (networks of other systems), show (layers), recipe.

They read files, the store and the packaged published systems, and print. search/cli.py adds them.
"""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from search import settings
from search.commands import fields, options, output
from search.study import network_reference

if TYPE_CHECKING:
    from search.study.config import DataConfig
    from space.architecture import Architecture
    from space.published import Published
    from trainer.recipe.document import Recipe


@click.command()
@options.format_
@click.option("--notes", is_flag=True, help="Say what is to know of each row, wrong prints first of all.")
def published(form: str, notes: bool) -> None:
    """The networks of five published systems, each as printed and as counted; published:NAME names one."""
    from space import published as systems

    entries = systems.everything()
    if form != "table":
        figures = [{"printed": entry.printed_parameters, "misprinted": entry.misprinted} for entry in entries]
        rows = [_row(entry) | own | {"note": entry.note} for entry, own in zip(entries, figures, strict=True)]
        output.emit(rows, form, fields.PUBLISHED)
        return
    output.emit([_row(entry) for entry in entries], form)
    for entry in entries:
        if entry.note and (notes or entry.misprinted):
            click.echo(f"{entry.name}: {entry.note}")
    if not notes:
        click.echo("* printed count is wrong; --notes says what else to know of the rows")


def _row(entry: "Published") -> dict[str, Any]:
    return {
        "name": entry.name,
        "source": entry.source,
        "printed": f"{entry.printed_parameters:,}{'*' * entry.misprinted}"
        if entry.printed_parameters
        else None,
        "parameters": entry.parameters,
        "macs": entry.macs,
        "reported_accuracy": entry.accuracy,
        "counted_by": entry.evidence,
    }


@click.command()
@click.argument("subject", metavar=network_reference.METAVAR, required=False)
@options.storage
@options.format_
def show(subject: str | None, storage: str, form: str) -> None:
    """A network layer by layer: output shape, parameters, multiply-accumulates."""
    from space import cost

    network = network_reference.resolve(subject, storage).architecture
    output.emit(layer_rows(network), form, fields.SHOW)
    if form == "table":
        spent = cost.total(network)
        click.echo(
            f"{spent.parameters:,} parameters, {spent.macs:,} multiply-accumulates,"
            f" fingerprint {network.fingerprint}"
        )


def layer_rows(network: "Architecture") -> list[dict[str, Any]]:
    """A row for each layer, as printed and as JSON."""
    from space import cost

    return [
        {
            "layer": row.name,
            "kind": row.kind,
            "output": f"{row.channels}x{row.size}x{row.size}",
            "parameters": row.parameters,
            "macs": row.macs,
        }
        for row in cost.layers(network)
    ]


@click.group()
def recipe() -> None:
    """How networks are trained: check a recipe file, print its JSON Schema."""


@recipe.command()
def schema() -> None:
    """The JSON Schema of a recipe file, TOML or JSON."""
    from trainer.recipe.document import schema as document

    click.echo(json.dumps(document(), indent=1))


@recipe.command()
@click.argument("source", metavar="FILE|published:NAME")
@click.option("--epochs", type=click.IntRange(1, 10_000),
              help="As for search launch and search train.  [default: the recipe's, else those of a trial and"
              " of a full training]")  # fmt: skip
@click.option("--data", envvar="SEARCH_DATA", show_envvar=True, metavar="SPEC",
              help="Fill in what it leaves out as for these images, which are opened."
              f"  [default: as for {settings.DATA}, which is not]")  # fmt: skip
@options.data_dir
@click.option("--image-size", type=click.IntRange(4, 512), metavar="PIXELS",
              help="Side that images of --data are scaled to.  [default: as launch has it]")  # fmt: skip
@click.option("--train-images", type=options.Count(), metavar="N",
              help="Train on so many images of --data only.")  # fmt: skip
def check(
    source: str,
    epochs: int | None,
    data: str | None,
    data_dir: Path,
    image_size: int | None,
    train_images: int | None,
) -> None:
    """Read a recipe, say what is wrong with it, and print it in full.

    What a file leaves out is filled in as search launch and search train do, by the images and by how long a
    training is. Where it says no epochs, that of trials is printed, and what is otherwise in a full training
    is said.
    """
    from search.study import recipe_file
    from trainer.recipe import checks, defaults

    if not data and (image_size or train_images):
        raise click.UsageError("--image-size and --train-images go with --data")
    images = _images(data, data_dir, image_size, train_images) if data else None
    spec = images.spec if images else settings.DATA
    default = _default(images)
    brief = recipe_file.recipe_of(source, default, defaults.brief_epochs(spec), epochs)
    full = recipe_file.of_full_training(source, default, epochs)
    if images:
        _require_images(source, brief, images)
    told = [mistake.reason for mistake in checks.of_recipe(brief)]
    for reason in told:
        click.echo(f"warning: {reason}", err=True)
    for mistake in checks.of_recipe(full):
        if mistake.reason not in told:
            click.echo(f"warning: in a full training: {mistake.reason}", err=True)
    for line in _notes(source, images.name if images else spec, brief, full):
        click.echo(f"note: {line}", err=True)
    click.echo(brief.model_dump_json(indent=1))


def _images(spec: str, data_dir: Path, image_size: int | None, train_images: int | None) -> "DataConfig":
    """What a launch would train on. Raises DataError for images that are not there."""
    from search.study import config as study_config
    from trainer.data import dataset as datasets

    found = datasets.load(spec, data_dir, image_size, settings.FIT, skip_damaged=True)
    return study_config.split_images(found, train_images, None, settings.SEED)[0]


def _default(images: "DataConfig | None") -> "Callable[[int], Recipe]":
    """The default recipe for so many epochs on these images, else on those that a launch takes by itself."""
    from search.study import full_training
    from trainer.recipe import defaults

    if images:
        return partial(full_training.default_recipe, images)
    return partial(defaults.default_recipe, settings.DATA)


def _require_images(source: str, recipe: "Recipe", images: "DataConfig") -> None:
    """Raises RecipeError for a recipe that does not fit the images."""
    recipe.require_fit(images.image_size)
    if "batch_size" in network_reference.written_fields(source):  # else it is cut to them
        recipe.require_batch(images.train_images)


def _notes(source: str, images: str, brief: "Recipe", full: "Recipe") -> "Iterator[str]":
    """With what the recipe was filled in, and what is otherwise in a full training. `images` names them."""
    from search.study import recipe_file

    if network_reference.is_published(source):
        return
    length = f", for {brief.epochs} epochs"
    if otherwise := recipe_file.differences(brief, full):
        length = f", for trials of {brief.epochs} epochs"
    yield f"what it leaves out is the default for {images}{length}"
    if otherwise:
        values = ", ".join(f"{name} {json.dumps(value)}" for name, value in otherwise.items())
        yield f"a full training has {values}"
