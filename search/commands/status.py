"""The commands that show a study as stored: status, list, trials, best.

They read the ledger and print rows; status first takes in what a dead worker left
(search/recording/recovery.py). search/cli.py adds them. None loads Optuna or torch.
"""

import shlex
from typing import TYPE_CHECKING, Any

import click

from search.commands import options
from search.commands.output import emit
from search.study.reader import open_store, open_study

if TYPE_CHECKING:
    from search.study.second_stage import SecondStage
    from search.study.standing import Baselines
    from storage.row_types import Candidate

NETWORK_FIELDS = ("trial", "parameters", "macs", "epochs", "network", "fingerprint", "baseline")
HALTED = {  # by the order that was given to a study's workers
    "pause": "paused by `search pause`",
    "stop": "stopped by `search stop`",
    "stop_now": "stopped by `search stop --now`",
}


def brief(row: "Candidate") -> dict[str, Any]:
    """What a list shows of a candidate."""
    from search.study.short_form import summary
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
        "baseline": row.baseline,
        "worker": row.worker,
        "reason": reason,
    }


def emit_networks(rows: list[dict[str, Any]], form: str) -> None:
    """Rows with a short form of their network; a table has its legend below, and baselines if it has any."""
    from search.study.short_form import LEGEND

    if form == "table" and not any(row["baseline"] for row in rows):
        rows = [{name: value for name, value in row.items() if name != "baseline"} for row in rows]
    emit(rows, form)
    if form == "table" and rows:
        click.echo(LEGEND)


@click.command()
@options.study
@options.storage
@options.format_
def status(study: str | None, storage: str, form: str) -> None:
    """What a study has done, what runs, and what leads."""
    from search.recording import recovery
    from search.study import second_stage
    from search.study.short_form import LEGEND
    from search.study.standing import describe
    from search.study.text import best_line, counts
    from storage import candidates, leases

    with open_study(storage, study, whole=True) as view:
        recovery.recover(view.engine, storage, view.record)
        tally = candidates.tally(view.engine, view.record.id)
        running = leases.running(view.engine, view.record.id)
        best_ = candidates.best(view.engine, view.record.id)
        config, baselines, second = view.config, view.baselines(), view.second_stage()
    trained = sum(tally[state] for state in candidates.TRAINED)
    if form != "table":
        row: dict[str, Any] = {"study": view.record.name, "trials": view.record.trials, "trained": trained}
        row |= {state.value: count for state, count in tally.items()}
        row |= {"best": best_[0].number if best_ else None, "accuracy": best_[0].accuracy if best_ else None}
        emit([row | _against(baselines) | _finished(second)], form)
        return
    click.echo(
        f"{view.record.name}: {trained} of {view.record.trials} trained on {config.data.name},"
        f" {config.budget}"
    )
    click.echo(counts(tally))
    click.echo(best_line(best_[0] if best_ else None, config.data.validation_images))
    if line := describe(baselines, confirmed=bool(second and second.winner)):
        click.echo(line)
    for line in second_stage.lines(second) if second else []:
        click.echo(line)
    if best_:
        click.echo(LEGEND)
    if view.record.order in HALTED:
        resume = f"search resume {shlex.quote(view.record.name)}"
        click.echo(f"{HALTED[view.record.order]}: `{resume}` goes on")
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


def _against(baselines: "Baselines") -> dict[str, Any]:
    """The best baseline and how far the best other network is ahead, for programs."""
    here = baselines.standing
    ahead = here.ahead if here else None
    return {
        "baselines": baselines.number,
        "best_baseline": here.baseline.baseline if here else None,
        "baseline_accuracy": here.baseline.accuracy if here else None,
        "ahead": ahead.points if ahead else None,
        "ahead_low": ahead.low if ahead else None,
        "ahead_high": ahead.high if ahead else None,
    }


def _finished(second: "SecondStage | None") -> dict[str, Any]:
    """The second stage and the winner of its finals, for programs."""
    winner = second.finalists[0] if second and second.is_over and second.finalists else None
    interval = winner.validation.interval if winner else None
    test = winner.test if winner else None
    return {
        "second_stage": None if second is None else "over" if second.is_over else "under way",
        "winner": winner.candidate.number if winner else None,
        "confirmed_accuracy": winner.validation.mean if winner else None,
        "confirmed_low": interval.low if interval else None,
        "confirmed_high": interval.high if interval else None,
        "test_accuracy": test.mean if test else None,
        "test_low": test.interval.low if test and test.interval else None,
        "test_high": test.interval.high if test and test.interval else None,
    }


@click.command("list")
@options.storage
@options.format_
def list_(storage: str, form: str) -> None:
    """The studies of the store."""
    from search.study.config import StudyConfig
    from storage import candidates, studies

    rows = []
    with open_store(storage) as engine:
        for record in studies.all_studies(engine):
            tally, best_ = candidates.tally(engine, record.id), candidates.best(engine, record.id)
            config = StudyConfig.from_record(record.settings)
            rows.append(
                {
                    "study": record.name,
                    "created": f"{record.created_at:%Y-%m-%d %H:%M}",
                    "data": config.data.name,
                    "budget": str(config.budget),
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
    with open_study(storage, study, whole=True) as view:
        rows = candidates.candidates(
            view.engine, view.record.id, sort=field, descending=descending, limit=limit
        )
    emit_networks([brief(row) for row in rows], form)


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

    with open_study(storage, study, whole=True) as view:
        images = view.config.data.validation_images
        found = candidates.best(view.engine, view.record.id, top)
        view.candidate()
    rows = []
    for row in found:
        low, high = wilson(row.accuracy or 0.0, images)
        shown = brief(row)
        picked = {key: shown[key] for key in NETWORK_FIELDS}
        rows.append(
            {"trial": row.number, "accuracy": row.accuracy, "low_accuracy": low, "high_accuracy": high}
            | picked
        )
    emit_networks(rows, form)
