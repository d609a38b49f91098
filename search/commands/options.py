"""Flags that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from search import settings

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

storage: Decorator = click.option(
    "--storage",
    default=settings.STORAGE,
    show_default=True,
    envvar="SEARCH_STORAGE",
    show_envvar=True,
    metavar="URL",
    help="postgresql://user:password@host/name, or sqlite:///file.db.",
)
data_dir: Decorator = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=settings.data_dir,
    envvar="SEARCH_DATA_DIR",
    show_envvar=True,
    help="Data sets, their caches, logs, checkpoints and weights.  [default: ~/.cache/parsimony]",
)
lease: Decorator = click.option(
    "--lease",
    "lease_seconds",
    type=settings.Duration(),
    default=settings.LEASE_SECONDS,
    metavar="TIME",
    help="A worker silent for so long is taken for dead.  [default: 60s]",
)
stall: Decorator = click.option(
    "--stall-timeout",
    "stall_seconds",
    type=settings.Duration(),
    default=settings.STALL_SECONDS,
    metavar="TIME",
    help="A training without a batch for so long hangs, and is ended.  [default: 5m]",
)
trial_timeout: Decorator = click.option(
    "--trial-timeout",
    "trial_seconds",
    type=settings.Duration(),
    metavar="TIME",
    help="No trial may take longer.  [default: none]",
)
trial_memory: Decorator = click.option(
    "--trial-memory",
    type=settings.Memory(),
    metavar="SIZE",
    help="No trial may take more of its device's memory: 4G, 800M.  [default: none]",
)
patience: Decorator = click.option(
    "--database-patience",
    "patience_seconds",
    type=settings.Duration(),
    default=settings.PATIENCE_SECONDS,
    metavar="TIME",
    help="The database may be away for so long; work goes on meanwhile.  [default: 10m]",
)
grace: Decorator = click.option(
    "--grace",
    "grace_seconds",
    type=settings.Duration(),
    default="1h",
    envvar="SEARCH_GRACE",
    show_envvar=True,
    metavar="TIME",
    help="Once told to end, trials may still run for so long.  [default: 1h]",
)
keep_weights: Decorator = click.option(
    "--keep-weights",
    type=click.IntRange(0),
    default=settings.KEEP_WEIGHTS,
    show_default=True,
    metavar="K",
    help="Keep the weights of the best K networks, on the machine that trained them.",
)
format_: Decorator = click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
    help="How data are written to stdout.",
)


def study(command: Callable[..., Any]) -> Callable[..., Any]:
    """The study by its first argument or by --study; neither means the newest of the store."""

    def either(_context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
        named = _context.meta.get("study")
        if value is not None and named is not None and named != value:
            raise click.UsageError(f"two studies: {named!r} and {value!r}", _context)
        _context.meta["study"] = value if value is not None else named
        if parameter.name == "study":
            return named if value is None else value
        return value

    option = click.option(
        "--study",
        "study_flag",
        metavar="NAME",
        envvar="SEARCH_STUDY",
        callback=either,
        is_eager=True,
        expose_value=False,
        help="The study.  [default: the newest]",
    )
    argument = click.argument("study", required=False, metavar="[STUDY]", callback=either)
    return option(argument(command))
