"""The commands that show a study as stored: status, list, trials, best.

They read the ledger and print rows; status first takes in what a dead worker left
(search/recording/recovery.py). search/cli.py adds them. None loads Optuna or torch.
"""

import shlex
from typing import TYPE_CHECKING, Any

import click

from search import settings
from search.commands import fields, options
from search.commands.output import emit
from search.study.reader import open_store, open_study
from storage.row_types import State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from search.commands.fields import Fields
    from search.study.second_stage import SecondStage
    from search.study.standing import Baselines
    from storage.leases import Running
    from storage.row_types import Candidate
    from storage.studies import Study

NETWORK = ("parameters", "macs", "epochs", "network", "fingerprint", "baseline")
TRIALS_TABLE = ("trial", "state", "score", "accuracy", "parameters", "macs", "epochs", "seconds", "network",
                "fingerprint", "baseline", "worker", "reason")  # fmt: skip
SORTED_AS = {"trial": "number", "proposed": "proposed_at", "finished": "finished_at"}
LIST_TABLE = (
    "study",
    "state",
    "created",
    "data",
    "budget",
    "trained",
    "trials",
    "best_accuracy",
    "parameters",
)
DROPPED = ("worker", "fingerprint", "seconds", "epochs", "macs", "reason", "baseline")  # the first first


def whole(row: "Candidate", knobs: dict[str, Any]) -> dict[str, Any]:
    """All that is stored of a candidate, under the keys of fields.TRIALS."""
    from search.study.short_form import summary
    from space.architecture import Architecture

    return {
        "trial": row.number,
        "state": row.state.value,
        "score": row.score,
        "accuracy": row.accuracy,
        "best_accuracy": row.best_accuracy,
        "loss": row.loss,
        "parameters": row.parameters,
        "macs": row.macs,
        "network": summary(Architecture.parse(row.architecture)),
        "fingerprint": row.fingerprint,
        "depth": row.depth,
        "epochs": row.epochs,
        "seconds": row.seconds,
        "images_per_second": row.images_per_second,
        "batch_size": row.batch_size,
        "seed": row.seed,
        "attempt": row.attempt,
        "repeat_of": row.repeat_of,
        "baseline": row.baseline,
        "device": row.device,
        "worker": row.worker,
        "proposed": row.proposed_at,
        "finished": row.finished_at,
        "reason": row.reason.splitlines()[-1] if row.reason else None,
        "knobs": knobs,
        "architecture": row.architecture,
    }


def leader(row: "Candidate", images: int) -> dict[str, Any]:
    """One of the best under the keys of fields.BEST, its interval by so many validation images."""
    from search.study.statistics import wilson

    low, high = wilson(row.accuracy or 0.0, images)
    shown = whole(row, {})
    picked = {key: shown[key] for key in NETWORK}
    return {
        "trial": row.number,
        "score": row.score,
        "accuracy": row.accuracy,
        "low_accuracy": low,
        "high_accuracy": high,
    } | picked


BROKEN = "Optuna's part of this study was deleted: its networks are here, but nothing can be trained; "


def broken_line(name: str) -> str:
    """What to say of a study whose part in Optuna's tables was deleted."""
    named = shlex.quote(name)
    return f"{BROKEN}`search db repair {named}` makes it again, `search delete {named}` deletes the rest"


def state_of(record: "Study", trained: int, running: int, has_optuna: bool) -> str:
    """What a study is at, in a word of fields.STATUS."""
    if not has_optuna:
        return "broken"
    if record.order == "pause":
        return "paused"
    if record.order != "run":
        return "stopping" if running else "stopped"
    if running:
        return "running"
    return "done" if trained >= record.trials else "waiting"


def emit_networks(
    rows: list[dict[str, Any]], form: str, keys: "Fields", table: "Sequence[str]", columns: Any
) -> None:
    """Rows with a short form of their network; a table has its legend below, and baselines if it has any."""
    from search.study.short_form import LEGEND

    optional = ("score", "baseline", "reason")
    empty = [name for name in optional if all(row.get(name) in (None, "") for row in rows)]
    table = [name for name in table if name not in empty]
    emit(rows, form, keys, columns=columns, table=table, drop=DROPPED, cut=("network", "reason"))
    if form == "table" and rows and "network" in (columns or table):
        click.echo(LEGEND)


@click.command()
@options.study
@options.storage
@options.format_
def status(study: str | None, storage: str, form: str) -> None:
    """What a study has done, what runs, and what leads."""
    from search.optuna_adapter import stored
    from search.recording import recovery
    from search.study import second_stage, worker_rows
    from search.study.halted import halted
    from search.study.score import WORDS
    from search.study.short_form import LEGEND
    from search.study.standing import describe
    from search.study.text import best_line, counts
    from storage import candidates, leases, workers

    with open_study(storage, study, whole=True) as view:
        has_optuna = view.record.name in stored.names(view.engine)
        if has_optuna:
            recovery.recover(view.engine, storage, view.record)
        tally = candidates.tally(view.engine, view.record.id)
        running = leases.running(view.engine, view.record.id)
        busy = worker_rows.joined(workers.of_study(view.engine, view.record.id), running)
        busy = [one for one in busy if one.running]
        best_ = candidates.best(view.engine, view.record.id)
        config, baselines, second = view.config, view.baselines(), view.second_stage()
        reason = view.gave_up()
    record, trained = view.record, sum(tally[state] for state in candidates.TRAINED)
    images = config.data.validation_images
    if form != "table":
        row = {
            "study": record.name,
            "state": state_of(record, trained, len(running), has_optuna),
            "order": record.order,
            "gave_up": reason or None,
            "trained": trained,
            "trials": record.trials,
            "data": config.data.name,
            "score": config.score,
            "max_params": config.budget.max_parameters,
            "max_macs": config.budget.max_macs,
            "created": record.created_at,
            "optuna": has_optuna,
            "ledger": tally,
            "running": [worker_rows.for_programs(one) for one in busy],
            "best": leader(best_[0], images) if best_ else None,
        }
        emit([row | _against(baselines) | _finished(second)], form, fields.STATUS)
        return
    sought = "" if config.score == settings.SCORE else f", maximises {WORDS[config.score]}"
    click.echo(
        f"{record.name}: {trained} of {record.trials} trained on {config.data.name}, {config.budget}{sought}"
    )
    lines = [
        "" if has_optuna else broken_line(record.name),
        counts(tally),
        best_line(best_[0] if best_ else None, images, config.score),
        describe(baselines, confirmed=bool(second and second.winner), score=config.score),
        *(second_stage.lines(second) if second else ()),
        LEGEND if best_ else "",
        halted(record.name, record.order, reason),
    ]
    click.echo("\n".join(filter(None, lines)))
    if running:
        emit([_at_work(one) for one in running], form, cut=("worker",))


def _at_work(one: "Running") -> dict[str, Any]:
    """A running trial as a row for people."""
    return {
        "worker": one.worker,
        "trial": one.number,
        "epoch": one.epoch,
        "accuracy": one.accuracy,
        "for s": one.since,
    }


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
@options.columns
def list_(storage: str, form: str, columns: tuple[str, ...] | None) -> None:
    """The studies of the store."""
    from search.optuna_adapter import stored
    from search.study.config import StudyConfig
    from storage import candidates, leases, studies

    rows = []
    with open_store(storage) as engine:
        known = stored.names(engine)
        for record in studies.all_studies(engine):
            tally, best_ = candidates.tally(engine, record.id), candidates.best(engine, record.id)
            trained = sum(tally[state] for state in candidates.TRAINED)
            config = StudyConfig.from_record(record.settings)
            row: dict[str, Any] = {
                "study": record.name,
                "state": state_of(
                    record, trained, len(leases.running(engine, record.id)), record.name in known
                ),
                "created": record.created_at,
                "data": config.data.name,
                "max_params": config.budget.max_parameters,
                "max_macs": config.budget.max_macs,
                "trained": trained,
                "trials": record.trials,
                "best_accuracy": best_[0].accuracy if best_ else None,
                "parameters": best_[0].parameters if best_ else None,
                "macs": best_[0].macs if best_ else None,
                "optuna": record.name in known,
            }
            if form == "table" and not columns:
                row |= {"created": f"{record.created_at:%Y-%m-%d %H:%M}", "budget": str(config.budget)}
            rows.append(row)
    drop = ("data", "created", "budget", "parameters")
    emit(rows, form, fields.LIST, columns=columns, table=LIST_TABLE, drop=drop, cut=("study", "budget"))


@click.command()
@options.study
@options.storage
@options.format_
@options.columns
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([state.value for state in State]),
    help="Show trials in this state alone; may be given again.",
)
@click.option(
    "--sort",
    default="number",
    show_default=True,
    metavar="FIELD",
    help="number, accuracy, score, parameters, macs, state, seconds...",
)
@click.option("--reverse", is_flag=True, help="The other way round; rows without a value stay last.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Show so many.")
def trials(
    study: str | None,
    storage: str,
    form: str,
    columns: tuple[str, ...] | None,
    states: tuple[str, ...],
    sort: str,
    reverse: bool,
    limit: int | None,
) -> None:
    """Every proposal of a study and what became of it."""
    from search.optuna_adapter import stored
    from storage import candidates

    descending = sort in ("accuracy", "score", "best_accuracy", "images_per_second")
    field = SORTED_AS.get(sort, sort)
    with open_study(storage, study, whole=True) as view:
        rows = candidates.candidates(
            view.engine,
            view.record.id,
            states=[State(state) for state in states] or None,
            sort=field,
            descending=descending != reverse,
            limit=limit,
        )
        wanted = form != "table" or (columns and "knobs" in columns)
        knobs = stored.knobs(view.engine, view.record.name) if wanted else {}
    shown = [whole(row, knobs.get(row.number, {})) for row in rows]
    emit_networks(shown, form, fields.TRIALS, TRIALS_TABLE, columns)


@click.command()
@options.study
@options.storage
@options.format_
@options.columns
@click.option(
    "--top", type=click.IntRange(1), default=1, show_default=True, metavar="K", help="Show so many."
)
def best(study: str | None, storage: str, form: str, columns: tuple[str, ...] | None, top: int) -> None:
    """The best networks that were trained to the end, with 95% intervals of their accuracy."""
    from search.optuna_adapter import stored
    from storage import candidates

    with open_study(storage, study, whole=True) as view:
        images = view.config.data.validation_images
        found = candidates.best(view.engine, view.record.id, top)
        if view.record.name not in stored.names(view.engine):
            click.echo(f"warning: {broken_line(view.record.name)}", err=True)
    rows = [leader(row, images) for row in found]
    emit_networks(rows, form, fields.BEST, tuple(fields.BEST), columns)
