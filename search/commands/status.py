"""The commands that show a study as stored: status, list, trials, best.

They read the ledger and print rows; status first takes in what a dead worker left, also in DATA_DIR/spool
(search/recording/recovery.py). search/cli.py adds them. None loads Optuna or torch.
"""

import shlex
from typing import TYPE_CHECKING, Any

import click

from search.commands import fields, options
from search.commands.output import emit, tell
from search.commands.printed import complete
from search.study.reader import open_store, open_study
from storage.row_types import State

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from search.commands.fields import Fields
    from search.study.second_stage import SecondStage
    from search.study.standing import Baselines
    from storage.row_types import Candidate

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
    "minutes",
    "host",
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
@options.data_dir
@options.format_
@click.option("--watch", is_flag=True,
              help="Show it until its search ends: in place on a terminal, else a line a trial.")  # fmt: skip
@click.option("--every", type=options.Duration(), default=2.0, metavar="TIME",
              help="Between two looks of --watch.  [default: 2s]")  # fmt: skip
def status(study: str | None, storage: str, data_dir: "Path", form: str, watch: bool, every: float) -> None:
    """What a study has done, what runs, and what leads."""
    from search.optuna_adapter import stored
    from search.recording import recovery
    from search.study import run_state, state_text, worker_rows
    from storage import candidates

    if watch:
        from search.commands import board

        if form != "table":
            named = complete(f"search wait {shlex.quote(study)}" if study else "search wait")
            raise click.UsageError(f"--watch and --format {form}: programs call `{named}`, or ask again")
        board.watch(storage, study, every)
        return
    with open_study(storage, study, whole=True) as view:
        has_optuna = view.record.name in stored.names(view.engine)
        if has_optuna:
            recovery.recover(view.engine, storage, view.record, data_dir)
        state = run_state.load(view.engine, view.record, has_optuna, whole=True)
        best_ = candidates.best(view.engine, view.record.id)
        config, baselines = view.config, view.baselines()
        lines = state_text.lines(view.engine, state, config) if form == "table" else []
    record = state.record
    if form != "table":
        row = {
            "study": record.name,
            "state": state.word,
            "order": record.order,
            "gave_up": state.gave_up or None,
            "trained": state.trained,
            "trials": record.trials,
            "data": config.data.name,
            "score": config.score,
            "max_params": config.budget.max_parameters,
            "max_macs": config.budget.max_macs,
            "created": record.created_at,
            "optuna": has_optuna,
            "ledger": state.tally,
            "running": [worker_rows.for_programs(one) for one in state.busy],
            "best": leader(best_[0], config.data.validation_images) if best_ else None,
        }
        emit([row | _against(baselines) | _finished(state.second)], form, fields.STATUS)
        return
    tell("\n".join(lines))
    if state.busy:
        emit([state_text.at_work(one.running) for one in state.busy if one.running], form, cut=("worker",))


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
        "confirmed_score": winner.score.mean if winner and winner.score else None,
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
    from search.study import run_state
    from search.study.config import StudyConfig
    from search.study.versions import HOST
    from storage import candidates, studies

    rows = []
    with open_store(storage) as engine:
        known = stored.names(engine)
        for record in studies.all_studies(engine):
            state = run_state.load(engine, record, record.name in known)
            best_ = candidates.best(engine, record.id)
            config = StudyConfig.from_record(record.settings)
            row: dict[str, Any] = {
                "study": record.name,
                "state": state.word,
                "created": record.created_at,
                "data": config.data.name,
                "max_params": config.budget.max_parameters,
                "max_macs": config.budget.max_macs,
                "trained": state.trained,
                "trials": record.trials,
                "best_accuracy": best_[0].accuracy if best_ else None,
                "parameters": best_[0].parameters if best_ else None,
                "macs": best_[0].macs if best_ else None,
                "optuna": record.name in known,
                "minutes": _minutes(candidates.times(engine, record.id)),
                "host": record.versions.get(HOST),
            }
            if form == "table" and not columns:
                row |= {"created": f"{record.created_at:%Y-%m-%d %H:%M}", "budget": str(config.budget)}
            rows.append(row)
    drop = ("data", "budget", "created", "parameters", "host")
    emit(rows, form, fields.LIST, columns=columns, table=LIST_TABLE, drop=drop, cut=("study", "budget"))


def _minutes(times: "tuple[datetime, datetime] | None") -> float | None:
    """From the first proposal to the last end."""
    return None if times is None else round((times[1] - times[0]).total_seconds() / 60, 1)


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
    "--top",
    type=click.IntRange(1, options.MOST_TRIALS),
    default=1,
    show_default=True,
    metavar="K",
    help="Show so many.",
)
def best(study: str | None, storage: str, form: str, columns: tuple[str, ...] | None, top: int) -> None:
    """The best networks that were trained to the end, with 95% intervals of their accuracy."""
    from search.optuna_adapter import stored
    from search.study import run_state
    from storage import candidates

    with open_study(storage, study, whole=True) as view:
        images = view.config.data.validation_images
        found = candidates.best(view.engine, view.record.id, top)
        if view.record.name not in stored.names(view.engine):
            tell(f"warning: {run_state.broken_line(view.record.name)}", err=True)
    rows = [leader(row, images) for row in found]
    emit_networks(rows, form, fields.BEST, tuple(fields.BEST), columns)
