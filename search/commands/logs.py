"""The command `search logs`: what the workers of a study wrote on this machine.

Reads the store for the study's name and the files of search/study/worker_logs.py. search/cli.py adds it.
"""

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from search.commands import options
from search.study import reader

if TYPE_CHECKING:
    from collections.abc import Iterable

    from search.study.worker_logs import LogLine

LOOK_SECONDS = 0.5  # between two looks, with --follow


@click.command()
@options.study
@options.storage
@options.data_dir
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes, until Ctrl-C.")
def logs(study: str | None, storage: str, data_dir: Path, follow: bool) -> int:
    """What the workers of a study, or of STUDY:TRIAL, wrote on this machine."""
    from search.study import worker_logs
    from storage import candidates

    with reader.open_study(storage, study) as view:
        name, number = view.record.name, view.number
        if number is not None:
            candidates.find(view.engine, view.record.id, number)
    place = worker_logs.folder(data_dir, name)
    found = worker_logs.StudyLogs(place, number)
    if follow:
        for lines in found.follow(partial(time.sleep, LOOK_SECONDS)):
            _write(lines)
    lines = found.fresh()
    _write(lines)
    if lines:
        return 0
    of_trial = f" of trial {number}" if number is not None else ""
    click.echo(
        f"search: no line{of_trial} in {place}: the workers of {name} ran on other machines or with another"
        " --data-dir, or were started with --quiet",
        err=True,
    )
    return 3


def _write(lines: "Iterable[LogLine]") -> None:
    for line in lines:
        click.echo(str(line))
