"""The command `search explain`: where a network's parameters are, what is over its budget, what would fit.

Reads a network from a file, a trial or the published systems; prints tables, or writes the nearest networks
that fit as JSON files. search/cli.py adds it. The changes themselves are found by space/repair.py; nothing
is trained.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from search import settings
from search.commands import inspect, options, output
from search.study import network_reference, reader

if TYPE_CHECKING:
    from search.study.network_reference import ResolvedNetwork
    from space.architecture import Architecture
    from space.budget import Budget
    from space.cost import Layer
    from space.repair import Repair

SHOWN = 8  # repairs in the table; all are written by --repair and --format json


@click.command()
@click.argument("network", metavar=network_reference.METAVAR)
@click.option("--max-params", "max_parameters", type=options.Count(), metavar="N",
              help="Limit of trainable parameters."
              f"  [default: the study's, else {settings.MAX_PARAMETERS:_}]")  # fmt: skip
@click.option("--max-macs", type=options.Count(), metavar="N",
              help="Limit of multiply-accumulates of an image.  [default: the study's or none]")  # fmt: skip
@click.option("--layers", is_flag=True, help="Show every layer as well.")
@click.option("--repair", "out", type=click.Path(path_type=Path), metavar="OUT",
              help="Write the nearest network that fits to OUT.json, or each into the folder OUT; files"
              " of the same name are replaced.")  # fmt: skip
@options.storage
@options.table_or_json
def explain(
    network: str,
    max_parameters: int | None,
    max_macs: int | None,
    layers: bool,
    out: Path | None,
    storage: str,
    form: str,
) -> None:
    """Where a network's parameters are, what is over the budget, and the nearest networks that fit.

    Exit code 0 whether it fits or not; 2 for a bad file; 3 if --repair is given and no change makes it fit.
    "base width 64 to 57" narrows all layers in proportion; the other changes leave the rest as it is.
    """
    from space.repair import repairs

    found = network_reference.resolve(network, storage)
    budget = _budget(found, storage, max_parameters, max_macs)
    nearest = repairs(found.architecture, budget)
    if form == "json":
        output.emit_document(_document(found, budget, nearest, layers))
    else:
        _print(found, budget, nearest, layers)
    if out:
        _write(found.architecture, budget, nearest, out)


def _budget(
    found: "ResolvedNetwork", storage: str, max_parameters: int | None, max_macs: int | None
) -> "Budget":
    """What was given, over the study's own where the network is a trial."""
    from space.budget import Budget

    own = Budget(settings.MAX_PARAMETERS)
    if found.study:
        with reader.open_study(storage, found.study, whole=True) as view:
            own = view.config.budget
    return Budget(max_parameters or own.max_parameters, max_macs or own.max_macs)


def _document(
    found: "ResolvedNetwork", budget: "Budget", nearest: "Sequence[Repair]", layers: bool
) -> dict[str, Any]:
    from space.budget import judge

    verdict = judge(found.architecture, budget)
    document: dict[str, Any] = {
        "network": found.name,
        "fingerprint": found.architecture.fingerprint,
        "parameters": verdict.parameters,
        "macs": verdict.macs,
        "max_params": budget.max_parameters,
        "max_macs": budget.max_macs,
        "fits": verdict.fits,
        "excess": verdict.excess,
        "parts": part_rows(found.architecture),
    }
    if layers:
        document["layers"] = inspect.layer_rows(found.architecture)
    return document | {
        "repairs": [
            _repair_row(repair)
            | {
                "file": f"{repair.name}.json",
                "fingerprint": repair.architecture.fingerprint,
                "architecture": repair.architecture.document(),
            }
            for repair in nearest
        ]
    }


def _print(found: "ResolvedNetwork", budget: "Budget", nearest: "Sequence[Repair]", layers: bool) -> None:
    from space.budget import judge

    if layers:
        output.emit(inspect.layer_rows(found.architecture), "table")
    output.emit(part_rows(found.architecture), "table")
    verdict = judge(found.architecture, budget)
    if verdict.excess is None:
        spent = f"{verdict.parameters:,} parameters, {verdict.macs:,} multiply-accumulates"
        click.echo(f"{found.name} fits: {spent}\nwithin {budget}")
        return
    click.echo(f"{found.name}: {verdict.excess}")
    if not nearest:
        click.echo("no change of widths, blocks, kernels or stages makes it fit")
        return
    output.emit([_repair_row(repair) for repair in nearest[:SHOWN]], "table", title="The nearest that fit")
    if len(nearest) > SHOWN:
        click.echo(f"and {len(nearest) - SHOWN} that keep less: --repair OUT writes all")


def _repair_row(repair: "Repair") -> dict[str, Any]:
    return {
        "change": repair.change,
        "parameters": repair.parameters,
        "macs": repair.macs,
        "kept_share": repair.kept,
    }


def part_rows(network: "Architecture") -> list[dict[str, Any]]:
    """What each part costs: stem, stages, the tail if there is one, head (with the pool), all."""
    from space import cost

    total = cost.total(network)
    by_part: dict[str, list[Layer]] = {}
    for layer in cost.layers(network):
        by_part.setdefault(_part(layer.name), []).append(layer)
    rows = [
        _row(part, _built(network, part), sum(x.parameters for x in rows), sum(x.macs for x in rows), total)
        for part, rows in by_part.items()
    ]
    return [*rows, _row("all", "", total.parameters, total.macs, total)]


def _row(part: str, built: str, parameters: int, macs: int, total: Sequence[int]) -> dict[str, Any]:
    return {
        "part": part,
        "built": built,
        "parameters": parameters,
        "parameter_share": parameters / total[0],
        "macs": macs,
        "mac_share": macs / total[1],
    }


def _part(layer: str) -> str:
    """Of the path of a layer; the norm and the pool that end the network are of the head."""
    first, *rest = layer.split(".")
    if first == "stages":
        return f"stage {int(rest[0]) + 1}"
    return first if first in ("stem", "tail") else "head"


def _built(network: "Architecture", part: str) -> str:
    """Blocks x width, kernel and kind of blocks, as far as the part has them."""
    if part == "stem":
        return f"{network.stem.width}/k{network.stem.kernel}"
    if part.startswith("stage"):
        return f"{network.stages[int(part.split()[1]) - 1]} {network.block}".rstrip()
    if part == "tail":
        return " ".join(f"{conv.width}/k{conv.kernel}" for conv in network.tail)
    return " ".join([*map(str, network.head.hidden), f"{network.classes} classes"])


def _write(network: "Architecture", budget: "Budget", nearest: "Sequence[Repair]", out: Path) -> None:
    """One file, or a folder of them. Raises NothingFitsError where there is nothing to write."""
    from space.budget import judge
    from space.errors import NothingFitsError

    if not nearest:
        if judge(network, budget).fits:
            click.echo(f"it fits already: {out} is not written", err=True)
            return
        raise NothingFitsError(f"no change makes it fit {budget}: {out} is not written; raise the limit")
    if out.suffix == ".json":
        _save(nearest[0], out)
        return
    _make_folder(out)
    for repair in nearest:
        _save(repair, out / f"{repair.name}.json")


def _make_folder(out: Path) -> None:
    from space.errors import EnvironmentProblem, UsageError

    if out.exists() and not out.is_dir():
        raise UsageError(
            f"{out}: is a file, not a folder; end the name in .json to write the nearest one there"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentProblem(f"cannot make the folder {out}: {error.strerror or error}") from error


def _save(repair: "Repair", path: Path) -> None:
    """Writes it whole, reads it again, and says which file it replaced."""
    from space import architecture
    from space.errors import EnvironmentProblem
    from space.files import write_whole

    said = "replaced" if path.exists() else "wrote"
    write_whole(json.dumps(repair.architecture.document(), indent=1) + "\n", path)
    if architecture.load(path) != repair.architecture:
        raise EnvironmentProblem(f"{path}: what was read again is not what was written")
    click.echo(f"{said} {path}: {repair.change}, {repair.parameters:,} parameters", err=True)
