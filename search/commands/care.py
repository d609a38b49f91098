"""The commands that look after the studies of a store: rename, delete.

They write the ledger and Optuna's tables in one transaction, and move or remove what this machine keeps of
the study under DATA_DIR. search/cli.py adds them.
"""

import math
import shlex
import sys
from pathlib import Path

import click

from search.commands import options
from search.commands.help import study_names
from search.study import reader

STUDY = click.argument("study", metavar="STUDY", type=options.StudyName(), shell_complete=study_names)


@click.command()
@STUDY
@options.storage
@options.data_dir
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(study: str, storage: str, data_dir: Path, yes: bool) -> None:
    """Delete a study with all of its trials, and what this machine keeps of it. Full trainings stay."""
    from search.optuna_adapter import care as optuna_care
    from search.study import cleanup, files
    from search.study.text import counted
    from space.errors import UsageError
    from storage import studies

    with reader.open_study(storage, study, whole=True) as view:
        record = view.record
        require_idle(view)
        folders = files.own_folders(data_dir, storage, record)
        held = f"{counted(len(view.rows()), 'trial')}, {cleanup.size_of(folders) / 1e6:.1f} MB of files here"
        if not yes and not sys.stdin.isatty():
            raise UsageError(f"{record.name} has {held}; add --yes to delete it")
        if not yes:
            click.confirm(f"delete {record.name} with {held}?", abort=True, err=True)
            require_idle(view)  # somebody may have launched it meanwhile
        studies.delete(view.engine, record.id, lambda at: optuna_care.delete(at, record.name))
        cleanup.remove_folders(files.own_folders(data_dir, storage, record))
        files.forget_here(data_dir, storage, record)
    click.echo(f"deleted {record.name}: {held}")
    _say_logs_that_stay(data_dir, record.name)


@click.command()
@STUDY
@click.argument("name", metavar="NEW", type=options.StudyName())
@options.storage
@options.data_dir
def rename(study: str, name: str, storage: str, data_dir: Path) -> None:
    """Give a study another name, and its files on this machine too."""
    from search.optuna_adapter import care as optuna_care, stored
    from search.recording import recovery
    from search.study import files
    from storage import studies

    with reader.open_study(storage, study, whole=True) as view:
        record = view.record
        if record.name in stored.names(view.engine):  # else there is nobody to tell of what was lost
            recovery.recover(view.engine, storage, record, data_dir)
        else:
            recovery.take_in(view.engine, storage, record, data_dir)
        require_idle(view)
        studies.rename(view.engine, record.id, name, lambda at: optuna_care.rename(at, record.name, name))
        renamed = studies.find(view.engine, name)
        files.move(data_dir, storage, record, renamed)
    click.echo(f"{record.name} is {name} now")
    _say_logs_that_stay(data_dir, record.name)


def _say_logs_that_stay(data_dir: Path, study: str) -> None:
    from search.study import worker_logs

    place = worker_logs.folder(data_dir, study)
    if place.is_dir():
        click.echo(f"{place} stays: a study {study!r} of another store may have its logs there", err=True)


def require_idle(view: reader.StudyView) -> None:
    """Raises StudyError where a worker is at the study, be it paused or waiting; those that are silent, and
    claims that nobody is heard of for any more, hold nothing. Where only claims of silent ones are left, it
    says in how many seconds these are taken back, and notices them."""
    from search.study import worker_rows
    from search.study.text import counted
    from space.errors import StudyError
    from storage import leases, workers

    leases.reap(view.engine, view.record.id)
    running = leases.running(view.engine, view.record.id)
    rows = worker_rows.joined(workers.of_study(view.engine, view.record.id), running)
    there = [row.state for row in rows if row.running or row.state != "silent"]
    silent = [row.name for row in rows if row.running and row.state == "silent"]
    if there and len(silent) == len(there):
        left = math.ceil(round(leases.notice(view.engine, view.record.id, silent), 3))
        who = f"{counted(len(silent), 'worker')} of study {view.record.name!r}"
        raise StudyError(
            f"{who} silent, dead or out of reach: ask again in {left} s, for so long one is waited for"
        )
    if there:
        states = ", ".join(f"{there.count(state)} {state}" for state in dict.fromkeys(there))
        raise StudyError(
            f"{counted(len(there), 'worker')} of study {view.record.name!r} at work ({states});"
            f" `search stop {shlex.quote(view.record.name)}` ends them after their trials, with --now at once"
        )
