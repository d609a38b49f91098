"""The commands `search space show`, `check` and `sample`: what a search space holds, costs and proposes.

They read a space file (else the default space), print, and `sample --out` writes networks as JSON files.
search/cli.py adds them; the forecast comes from space/forecast.py, the minutes from search/study/duration.py.
"""

import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from search import settings
from search.commands import options, output, space_work

if TYPE_CHECKING:
    from search.commands.space_work import SpaceWork
    from search.study.duration import Estimate
    from space.budget import Budget
    from space.domains import Domain
    from space.space import SearchSpace, Task, Variant

FILE = click.argument("file", type=click.Path(path_type=Path), required=False)


@click.group()
def space() -> None:
    """Search spaces: what a file says, how a search of it would go, what it proposes."""


@space.command()
@FILE
@options.format_
def show(file: Path | None, form: str) -> None:
    """Every knob of a space FILE (TOML or JSON; else the default space), one a line."""
    output.emit(list(rows(open_space(file))), form)


@space.command()
def schema() -> None:
    """The JSON Schema of a space file, TOML or JSON."""
    from space.space import schema as document

    click.echo(json.dumps(document(), indent=1))


@space.command()
@FILE
@space_work.task_options
@click.option("--trials", type=click.IntRange(1, options.MOST_TRIALS), default=200, show_default=True,
              help="Networks that the search would train.")  # fmt: skip
@click.option("--sampling", type=click.Choice(["fit", "reject"]), default=settings.SAMPLING,
              show_default=True, help="reject: refuse a space where hardly a draw fits.")  # fmt: skip
@click.option("--minutes/--no-minutes", default=True, show_default=True,
              help="Time a few networks here, and say how long the search might take.")  # fmt: skip
@click.option("--workers", type=click.IntRange(1), metavar="N",
              help="That would train.  [default: one a GPU, else one a CPU core]")  # fmt: skip
@click.option("--train-images", type=options.Count(), metavar="N",
              help="That a trial would train on.  [default: by data set]")  # fmt: skip
@click.option("--epochs", type=click.IntRange(1, 10_000),
              help="Of a trial.  [default: by data set]")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the draws.")
@options.table_or_json
def check(
    file: Path | None,
    trials: int,
    sampling: str,
    minutes: bool,
    seed: int,
    form: str,
    workers: int | None,
    train_images: int | None,
    epochs: int | None,
    **facts: Any,
) -> None:
    """Forecast a search of a space FILE (else of the default space) before anything is trained."""
    from search.commands import forecast_text
    from space import forecast as forecasts, traits

    work = space_work.work_of(facts, train_images, epochs)
    task = work.task
    found = open_space(file).for_images(task.image_size)
    require_geometry(found, task, file)
    budget, limit = space_work.budget_of(facts, found, work)
    expected = forecasts.forecast(found, budget, task, seed=seed)
    if sampling == "reject":
        forecasts.require_luck(expected)
    seen = traits.traits(found, budget, task, traits.DRAWS, seed)
    time = _time(found, budget, task, trials, work, workers) if minutes else None
    if form == "json":
        document = forecast_text.document(expected, trials, limit) | {
            "proposals": asdict(seen),
            "time": asdict(time) if time else None,
        }
        output.emit_document(document)
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in [
        *forecast_text.lines(expected, trials, limit),
        *forecast_text.proposal_lines(seen),
        *(forecast_text.time_lines(time, trials) if time else ()),
    ]:
        click.echo(forecast_text.wrapped(line, width))
    if expected.scarce:
        click.echo(f"warning: {forecast_text.SCARCE_LINE}", err=True)


@space.command()
@FILE
@space_work.task_options
@click.option("-n", "--number", type=click.IntRange(1, 100_000), default=5, show_default=True,
              help="How many networks.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the draws.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
              help="Write each network as a JSON file here, whole or not at all.")  # fmt: skip
@options.table_or_json
def sample(file: Path | None, number: int, seed: int, out: Path | None, form: str, **facts: Any) -> None:
    """Draw networks of a space FILE (else of the default space), as a search proposes them at first."""
    from search.study.short_form import summary
    from search.study.text import counted
    from space import cost, files
    from space.random_suggest import RandomSuggest
    from space.sampling import propose, require_smallest

    work = space_work.work_of(facts)
    task = work.task
    found = open_space(file).for_images(task.image_size)
    require_geometry(found, task, file)
    budget, limit = space_work.budget_of(facts, found, work)
    require_smallest(found, budget, task)
    suggest, drawn = RandomSuggest(seed), list[dict[str, Any]]()
    for i in range(1, number + 1):
        suggest.clear()
        network = propose(found, budget, task, suggest)
        spent = cost.total(network)
        row = {"sample": i, "parameters": spent.parameters, "macs": spent.macs}
        if out:
            text = json.dumps(network.document(), indent=1) + "\n"
            files.replace(out / f"{i}.json", text.encode())
        if form == "json":
            drawn.append(row | {"fingerprint": network.fingerprint, "architecture": network.document()})
        else:
            drawn.append(row | {"network": summary(network), "fingerprint": network.fingerprint})
    output.emit(drawn, form)
    if limit:
        click.echo(f"note: {limit.note}", err=True)
    if out:
        click.echo(f"wrote {counted(number, 'network')} to {out}", err=True)


def open_space(file: Path | None) -> "SearchSpace":
    """The space of a file, else the default one. Raises SpaceError with the place of what is wrong."""
    from space import space as spaces

    return spaces.load(file) if file else spaces.default()


def require_geometry(space: "SearchSpace", task: "Task", file: Path | None) -> None:
    """Raises SpaceError, with the file, where a kernel or pool exceeds its map."""
    from space.errors import SpaceError

    try:
        space.require_geometry(task.image_size)
    except SpaceError as error:
        raise SpaceError(f"{file or 'default.toml'}: {error}") from None


def _time(space: "SearchSpace", budget: "Budget", task: "Task", trials: int, work: "SpaceWork",
          workers: int | None) -> "Estimate":  # fmt: skip
    from search.machine import devices
    from search.study import duration

    work.recipe.require_fit(task.image_size)
    load = duration.Workload(work.recipe, work.images, work.validated)
    count = workers or max(1, len(devices.slots("all", None)))
    return duration.estimate(space, budget, task, load, trials, count)


def rows(space: "SearchSpace") -> Iterator[dict[str, Any]]:
    """Each knob by its place in a file, its values and how they are drawn."""
    yield _row("depth", space.depth)
    yield _row("budget_share", space.budget_share)
    width = space.width
    grid = f"{width.low} to {width.high}"
    yield {"knob": "width", "values": grid, "drawn": "solved by the budget; on a log scale by reject"}
    yield _row("width.round_to", width.round_to)
    for name in ("stem", "stage"):
        for field, knob in getattr(space, name):
            yield _row(f"{name}.{field}", knob)
    if "1" not in space.stages or space.stages["1"].stride is None:
        yield _row("stages.1.stride", space.knobs(1).stride)
    for stage, override in sorted(space.stages.items(), key=lambda item: int(item[0])):
        for field, knob in override:
            if knob is not None:
                yield _row(f"stages.{stage}.{field}", knob)
    for name in ("same", "pool", "head", "block"):
        for field, knob in getattr(space, name):
            yield _row(f"{name}.{field}", knob)
    for field, values in space.baselines or ():
        text = ", ".join(map(_guess_text, values)) or "none"
        yield {"knob": f"baselines.{field}", "values": text, "drawn": "all, before anything is drawn"}
    if space.large_images:
        above = f"over {space.large_images.above} pixels: "
        for field, knob in space.large_images.stem:
            if knob is not None:
                yield _row(f"{above}stem.{field}", knob)


def _guess_text(value: "tuple[int, ...] | float | Variant") -> str:
    """Blocks, a share or a variant of the first guesses, in words."""
    from space.baselines import described
    from space.space import Variant

    if isinstance(value, Variant):
        return described(value)
    return str(list(value)) if isinstance(value, tuple) else f"{value:g}"


def _row(name: str, knob: "Domain") -> dict[str, Any]:
    from space.weights import Weighted

    if isinstance(knob, Weighted):
        values = ", ".join(
            f"{_written(value)} ({weight:g})" for value, weight in zip(knob, knob.weights, strict=True)
        )
        drawn = "fixed" if len(knob) == 1 else "one of these, by weight"
        return {"knob": name, "values": _written(knob[0]) if len(knob) == 1 else values, "drawn": drawn}
    if isinstance(knob, tuple):
        times = Counter(_written(value) for value in knob)
        values = ", ".join(text if n == 1 else f"{text} ({n}x)" for text, n in times.items())
        return {"knob": name, "values": values, "drawn": "fixed" if len(times) == 1 else "one of these"}
    step = f" in steps of {knob.step:g}" if knob.step and knob.step != 1 else ""
    scale = "on a log scale" if knob.log else "evenly"
    fixed = knob.low == knob.top
    values = f"{knob.low:g}" if fixed else f"{knob.low:g} to {knob.high:g}{step}"
    return {"knob": name, "values": values, "drawn": "fixed" if fixed else scale}


def _written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
