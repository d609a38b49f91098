"""The commands that tell a study's workers what to do: stop, pause, resume; and ps, who is at what."""

import shlex
import time
from pathlib import Path
from typing import Any

import click

from search.commands import options, status

WAITING_LOOKS = 10  # after waiting workers were told to go on
LOOK_SECONDS = 0.5


def _give(storage: str, study: str | None, order: str, meaning: str) -> None:
    from storage import studies
    from storage.studies import Order

    with status.opened(storage, study, whole=True) as view:
        name, trained, trials = view.record.name, view.trained, view.record.trials
        if trained >= trials:
            click.echo(f"{name} is done, {trained} of {trials} trained: nobody works on it")
            return
        studies.give_order(view.engine, view.record.id, Order(order))
    click.echo(f"{name}: workers {meaning}; `search resume {shlex.quote(name)}` goes on")


@click.command()
@options.study
@options.storage
@click.option("--now", is_flag=True, help="End running trials at their next batch; they do not count.")
def stop(study: str | None, storage: str, now: bool) -> None:
    """Let every worker of a study, wherever it is, finish its trial and end."""
    if now:
        _give(storage, study, "stop_now", "end now")
    else:
        _give(storage, study, "stop", "end after their trial")


@click.command()
@options.study
@options.storage
def pause(study: str | None, storage: str) -> None:
    """Let every worker of a study finish its trial and wait."""
    _give(storage, study, "pause", "wait after their trial")


@click.command()
@options.study
@options.storage
@options.data_dir
@click.option("--workers", default="auto", show_default=True, envvar="SEARCH_WORKERS", help="As for launch.")
@click.option("--gpus", default="all", show_default=True, envvar="SEARCH_GPUS", help="As for launch.")
def resume(study: str | None, storage: str, data_dir: Path, workers: str, gpus: str) -> int:
    """Go on with a study to the number of trials it was launched for.

    Where workers still wait, paused, they just go on; otherwise workers are started here.
    """
    from search.commands import launch_session
    from search.launcher.prepare import Flags
    from storage import studies
    from storage.studies import Order

    with status.opened(storage, study, whole=True) as view:
        record = view.record
        studies.give_order(view.engine, record.id, Order.RUN)
        if record.order == Order.PAUSE and someone_works(view):
            click.echo(f"{record.name}: the workers that waited go on")
            return 0
    flags = Flags(storage=storage, data_dir=data_dir, trials=record.trials, study=record.name)
    return launch_session.launch(flags, workers, gpus, None, None, False)


def someone_works(view: status.View) -> bool:
    """Whether a worker takes a trial within a few seconds, as one that waits does."""
    from storage import leases

    for _ in range(WAITING_LOOKS):
        if leases.running(view.engine, view.record.id):
            return True
        time.sleep(LOOK_SECONDS)
    return False


@click.command()
@options.study
@options.storage
@options.format_
def ps(study: str | None, storage: str, form: str) -> None:
    """What runs where: worker, device, trial, epoch."""
    from storage import leases

    with status.opened(storage, study, whole=True) as view:
        rows: list[dict[str, Any]] = [
            {
                "worker": running.worker,
                "device": running.device,
                "trial": running.number,
                "epoch": running.epoch,
                "accuracy": running.accuracy,
                "parameters": running.parameters,
                "seconds": running.since,
            }
            for running in leases.running(view.engine, view.record.id)
        ]
    status.emit(rows, form)
