"""The commands of processes that go on: worker, dashboard; stop, pause and resume for workers; ps, who is at
what.

Options in, one line out. worker runs search/worker/, resume a launch session; stop and pause write the
study's control into the ledger, where every worker reads it. search/cli.py adds them.
"""

import shlex
import time
import webbrowser
from pathlib import Path
from typing import Any

import click

from search.commands import fields, options, output, printed
from search.study import reader


@click.command()
@options.study_or_unfinished
@options.storage
@options.data_dir
@options.elsewhere
@options.data_from
@options.worker_limits
@click.option("--name", metavar="NAME", help="Of this worker.  [default: host and process]")
@click.option(
    "--follow", is_flag=True, help="Wait for studies and work on one after another, until told to end."
)
@click.option("--workers", metavar="N",
              help="Start several, as launch does; auto: one a GPU or core."
              "  [default: one, this process]")  # fmt: skip
@click.option("--gpus", metavar="LIST", help="For several: 0,1 or UUIDs, all or none.  [default: all]")
@click.option("--verbose", "-v", is_flag=True, help="A line for each epoch too.")
@click.option("--quiet", "-q", is_flag=True, help="Warnings alone.")
@click.option("--parent", type=int, hidden=True, help="The launcher that started it: end when it does.")
@click.option(
    "--make-room", is_flag=True, hidden=True, help="End where memory is short beside other workers."
)
def worker(workers: str | None, gpus: str | None, **given: Any) -> int:
    """Work on a study that was launched, here or on another machine."""
    from search.study.worker_options import WorkerOptions

    if workers is not None or gpus is not None:
        from search.launcher import worker_group
        from search.machine import devices

        slots = devices.slots(gpus or "all", options.worker_count(workers or "auto"))
        if not slots:
            raise click.UsageError("--workers 0: there is nothing to start")
        return worker_group.run(WorkerOptions(**given), slots, lambda line: output.tell(line, err=True))
    from search.worker import worker as single

    return single.main(WorkerOptions(**given), printed.completed)


@click.command()
@options.study_or_all
@options.storage
@options.data_dir
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=8080, show_default=True, help="0 takes a free one."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--allow-remote", is_flag=True, help="Let --host be an address that others reach: there is no login."
)
@click.option("--open", "opens", is_flag=True, help="Open it in a browser.")
def dashboard(
    study: str | None, storage: str, data_dir: Path, port: int, host: str, allow_remote: bool, opens: bool
) -> None:
    """Serve optuna-dashboard for the store, or at one study, on this machine alone."""
    from search.commands import files_of_study
    from search.optuna_adapter import dashboard as boards

    def ready(address: str) -> None:
        click.echo(f"dashboard at {address}", err=True)
        if opens and not webbrowser.open(address):
            click.echo("no browser was found here: open that address yourself", err=True)

    uploads = data_dir / "artifacts"
    boards.serve(storage, host, port, allow_remote, ready, files_of_study.make, uploads, study)


WAITING_LOOKS = 10  # after waiting workers were told to go on


LOOK_SECONDS = 0.5


def _give(storage: str, study: str | None, order: str, meaning: str) -> None:
    from storage import studies
    from storage.studies import Control

    with reader.open_study(storage, study, whole=True) as view:
        name, trained, trials = view.record.name, view.trained, view.record.trials
        second = view.second_stage()
        if trained >= trials and (second is None or second.is_over):
            click.echo(f"{name} is done, {trained} of {trials} trained: nobody works on it")
            return
        studies.set_control(view.engine, view.record.id, Control(order))
    output.tell(f"{name}: workers {meaning}; `search resume {shlex.quote(name)}` goes on")


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
@options.elsewhere
@click.option("--workers", default="auto", show_default=True, envvar="SEARCH_WORKERS", show_envvar=True,
              help="As for launch.")  # fmt: skip
@click.option("--gpus", default="all", show_default=True, envvar="SEARCH_GPUS", show_envvar=True,
              help="As for launch.")  # fmt: skip
@options.worker_limits
def resume(
    study: str | None, storage: str, data_dir: Path, data: str | None, workers: str, gpus: str, **limits: Any
) -> int:
    """Go on with a study to the number of trials it was launched for.

    Where workers still wait, paused, they just go on; otherwise workers are started here, within the limits
    that are given here.
    """
    from search.commands import launch_session
    from search.launcher.prepare import Flags
    from search.machine import devices

    count = options.worker_count(workers)
    if gpus != "all":
        devices.slots(gpus, count)  # as the number above: what is mistyped gives no order
    with reader.open_study(storage, study, whole=True) as view:
        record = view.record
        if wakes_someone(view):
            click.echo(f"{record.name}: the workers that waited go on")
            return 0
    flags = Flags(storage, data_dir, record.trials, record.name, data=data, data_is_place=True, **limits)
    return launch_session.launch(flags, workers, gpus, None, None, False)  # gives the order once all is there


def wakes_someone(view: reader.StudyView) -> bool:
    """Whether workers that wait, paused, take a trial once they are told to go on. Where none does, the order
    is what it was."""
    from search.study import worker_rows
    from storage import leases, studies, workers
    from storage.studies import Control

    engine, record = view.engine, view.record
    rows = worker_rows.joined(workers.of_study(engine, record.id), leases.running(engine, record.id))
    if record.order != Control.PAUSE or all(row.state == "silent" for row in rows):
        return False
    studies.set_control(engine, record.id, Control.RUN)
    if someone_works(view):
        return True
    studies.set_control(engine, record.id, Control.PAUSE)
    return False


def someone_works(view: reader.StudyView) -> bool:
    """Whether a worker that is heard of takes a trial within a few seconds, as one that waits does."""
    from search.study import worker_rows
    from storage import leases, workers

    for _ in range(WAITING_LOOKS):
        present = workers.of_study(view.engine, view.record.id)
        rows = worker_rows.joined(present, leases.running(view.engine, view.record.id))
        if any(row.running and row.state != "silent" for row in rows):
            return True
        time.sleep(LOOK_SECONDS)
    return False


@click.command()
@options.study
@options.storage
@options.format_
@options.columns
def ps(study: str | None, storage: str, form: str, columns: tuple[str, ...] | None) -> None:
    """Every worker and what it does: starts, waits, is paused, trains a trial, is silent."""
    from search.study import worker_rows
    from storage import leases, workers

    with reader.open_study(storage, study, whole=True) as view:
        present = workers.of_study(view.engine, view.record.id)
        rows = worker_rows.joined(present, leases.running(view.engine, view.record.id))
    shown = [
        worker_rows.for_programs(row) if form != "table" else worker_rows.for_people(row) for row in rows
    ]
    if form == "table" and columns:
        shown = [worker_rows.for_programs(row) for row in rows]
    drop = ("accuracy", "for", "heard", "device", "pid", "host")
    output.emit(shown, form, fields.PS, columns=columns, drop=drop, cut=("worker",))
