"""The commands that look things up: published (networks of other systems), show (layers), recipe.

They read files, the store and the packaged published systems, and print. search/cli.py adds them.
"""

import json
from typing import TYPE_CHECKING, Any

import click

from search.commands import fields, options, output
from search.study import network_reference
from search.study.network_reference import load_recipe

if TYPE_CHECKING:
    from space.architecture import Architecture
    from space.published import Published


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
def check(source: str) -> None:
    """Read a recipe, say what is wrong with it, and print it in full."""
    from trainer.recipe import checks

    found = load_recipe(source)
    for mistake in checks.of_recipe(found):
        click.echo(f"warning: {mistake.reason}", err=True)
    click.echo(found.model_dump_json(indent=1))
