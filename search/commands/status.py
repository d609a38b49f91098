"""The commands that only look: status, list, trials, best. Data on stdout, in the form asked for."""

import csv
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from search.commands import options

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from search.study.config import Plan
    from storage.records import Candidate, Epoch
    from storage.studies import Study


@dataclass(frozen=True)
class View:
    """One study, opened to be read; `number` is the trial after the colon, if one was named."""

    engine: "Engine"
    record: "Study"
    number: int | None

    @property
    def plan(self) -> "Plan":
        from search.study.config import Plan

        return Plan.of(self.record.settings)

    @property
    def trained(self) -> int:
        from storage import candidates

        tally = candidates.tally(self.engine, self.record.id)
        return sum(tally[state] for state in candidates.TRAINED)

    def rows(self) -> "list[Candidate]":
        from storage import candidates

        return candidates.candidates(self.engine, self.record.id)

    def epochs(self) -> "dict[int, list[Epoch]]":
        from storage import candidates

        return candidates.epochs(self.engine, self.record.id)

    def candidate(self) -> "Candidate":
        """The trial that was named, else the best. Raises StudyError where there is none."""
        from space.errors import StudyError
        from storage import candidates

        if self.number is not None:
            return candidates.find(self.engine, self.record.id, self.number)
        found = candidates.best(self.engine, self.record.id)
        if not found:
            raise StudyError(f"study {self.record.name!r} has no network that was trained to the end yet")
        return found[0]


@contextmanager
def engine(url: str) -> "Iterator[Engine]":
    """The store, opened to be read: nothing is made that is not there."""
    from storage import database

    opened_ = database.connect(url, create=False)
    try:
        database.check(opened_)
        yield opened_
    finally:
        opened_.dispose()


@contextmanager
def opened(url: str, reference: str | None, *, whole: bool = False) -> Iterator[View]:
    """The study NAME or the trial NAME:137; the newest study without a reference.

    Raises StudyError for a trial where only a `whole` study makes sense.
    """
    from space.errors import StudyError
    from storage import studies

    name, number = split_reference(reference)
    if whole and number is not None:
        raise StudyError(f"{reference!r} is a trial; name the study alone")
    with engine(url) as opened_:
        yield View(opened_, studies.find(opened_, name), number)


def split_reference(reference: str | None) -> tuple[str | None, int | None]:
    """STUDY:137 into its study and trial; `:137` is of the newest study."""
    if reference is None:
        return None, None
    name, colon, number = reference.rpartition(":")
    if colon and number.isdigit():
        return name or None, int(number)
    return reference, None


def emit(rows: list[dict[str, Any]], form: str, title: str = "") -> None:
    """Rows as a table for people, JSON or CSV for programs."""
    if form == "json":
        click.echo(json.dumps(rows, indent=1, default=str))
    elif form == "csv":
        if not rows:
            return
        writer = csv.DictWriter(sys.stdout, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    else:
        from search.commands import table

        table.show(rows, title)


def brief(row: "Candidate") -> dict[str, Any]:
    """What a list shows of a candidate."""
    from search.launcher.display import summary
    from space.architecture import Architecture

    reason = row.reason.splitlines()[-1] if row.reason else None
    return {
        "trial": row.number,
        "state": row.state.value,
        "accuracy": row.accuracy,
        "parameters": row.parameters,
        "macs": row.macs,
        "epochs": row.epochs,
        "seconds": row.seconds,
        "network": summary(Architecture.parse(row.architecture)),
        "fingerprint": row.fingerprint,
        "worker": row.worker,
        "reason": reason,
    }


@click.command()
@options.study
@options.storage
@options.format_
def status(study: str | None, storage: str, form: str) -> None:
    """What a study has done, what runs, and what leads."""
    from search.launcher.display import best_line, counts
    from search.recording import recovery
    from storage import candidates, leases

    with opened(storage, study, whole=True) as view:
        recovery.recover(view.engine, storage, view.record)
        tally = candidates.tally(view.engine, view.record.id)
        running = leases.running(view.engine, view.record.id)
        best_ = candidates.best(view.engine, view.record.id)
        plan = view.plan
    trained = sum(tally[state] for state in candidates.TRAINED)
    if form != "table":
        row: dict[str, Any] = {"study": view.record.name, "trials": view.record.trials, "trained": trained}
        row |= {state.value: count for state, count in tally.items()}
        row |= {"best": best_[0].number if best_ else None, "accuracy": best_[0].accuracy if best_ else None}
        emit([row], form)
        return
    click.echo(
        f"{view.record.name}: {trained} of {view.record.trials} trained on {plan.data.name}, {plan.budget}"
    )
    click.echo(counts(tally))
    click.echo(best_line(best_[0] if best_ else None, plan.data.validation_images))
    if view.record.order != "run":
        click.echo(f"the order is {view.record.order}: `search resume {view.record.name}` goes on")
    if running:
        rows = [
            {
                "worker": r.worker,
                "trial": r.number,
                "epoch": r.epoch,
                "accuracy": r.accuracy,
                "for s": r.since,
            }
            for r in running
        ]
        emit(rows, form)


@click.command("list")
@options.storage
@options.format_
def list_(storage: str, form: str) -> None:
    """The studies of the store."""
    from search.study.config import Plan
    from storage import candidates, studies

    rows = []
    with engine(storage) as opened_:
        for record in studies.all_studies(opened_):
            tally, best_ = candidates.tally(opened_, record.id), candidates.best(opened_, record.id)
            plan = Plan.of(record.settings)
            rows.append(
                {
                    "study": record.name,
                    "created": f"{record.created_at:%Y-%m-%d %H:%M}",
                    "data": plan.data.name,
                    "budget": str(plan.budget),
                    "trained": sum(tally[state] for state in candidates.TRAINED),
                    "trials": record.trials,
                    "best_accuracy": best_[0].accuracy if best_ else None,
                    "parameters": best_[0].parameters if best_ else None,
                }
            )
    emit(rows, form)


@click.command()
@options.study
@options.storage
@options.format_
@click.option(
    "--sort",
    default="number",
    show_default=True,
    metavar="FIELD",
    help="number, accuracy, parameters, macs, state, seconds...",
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Show so many.")
def trials(study: str | None, storage: str, form: str, sort: str, limit: int | None) -> None:
    """Every proposal of a study and what became of it."""
    from storage import candidates

    descending = sort in ("accuracy", "best_accuracy", "images_per_second")
    field = "number" if sort == "trial" else sort
    with opened(storage, study, whole=True) as view:
        rows = candidates.candidates(
            view.engine, view.record.id, sort=field, descending=descending, limit=limit
        )
    emit([brief(row) for row in rows], form)


@click.command()
@options.study
@options.storage
@options.format_
@click.option(
    "--top", type=click.IntRange(1), default=1, show_default=True, metavar="K", help="Show so many."
)
def best(study: str | None, storage: str, form: str, top: int) -> None:
    """The most accurate networks that were trained to the end, with 95% intervals."""
    from search.study.statistics import wilson
    from storage import candidates

    with opened(storage, study, whole=True) as view:
        images = view.plan.data.validation_images
        found = candidates.best(view.engine, view.record.id, top)
        view.candidate()
    rows = []
    for row in found:
        low, high = wilson(row.accuracy or 0.0, images)
        shown = brief(row)
        picked = {
            key: shown[key] for key in ("trial", "parameters", "macs", "epochs", "network", "fingerprint")
        }
        rows.append(
            {"trial": row.number, "accuracy": row.accuracy, "low_accuracy": low, "high_accuracy": high}
            | picked
        )
    emit(rows, form)
