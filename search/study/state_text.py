"""How a study stands, in lines for people: as a paragraph, and in one line.

Reads a RunState and the best rows of the store; writes nothing. Called by `search status`, also while it
watches, by `search wait`, and by the live page.
"""

from typing import Any

from sqlalchemy import Engine

from search.study import second_stage
from search.study.config import StudyConfig
from search.study.run_state import RunState
from search.study.score import WORDS, both
from search.study.short_form import LEGEND
from search.study.standing import describe, standing
from search.study.text import best_line, counted, counts, percent, span
from storage import candidates
from storage.leases import Running
from storage.row_types import Candidate, State


def headline(state: RunState, config: StudyConfig) -> str:
    """How far it is, on which data, within which budget."""
    record = state.record
    sought = "" if config.score == "accuracy" else f", maximises {WORDS[config.score]}"
    trained = f"{state.trained} of {record.trials} trained"
    return f"{record.name}: {trained} on {config.data.name}, {config.budget}{sought}"


def lines(engine: Engine, state: RunState, config: StudyConfig) -> list[str]:
    """All that there is to say of it but what its workers do. Raises SQLAlchemy's errors for a database out
    of reach."""
    best, images, second = leader(engine, state), config.data.validation_images, state.second
    rows = candidates.yardstick(engine, state.record.id)
    baselines = standing(rows, images, state.tally[State.COMPLETED])
    said = [
        headline(state, config),
        "" if state.has_optuna else state.why,
        counts(state.tally),
        best_line(best, images, config.score),
        describe(baselines, confirmed=bool(second and second.confirmed), score=config.score),
        *(second_stage.lines(second) if second else ()),
        LEGEND if best else "",
        state.why if state.has_optuna else "",
    ]
    return [line for line in said if line]


def leader(engine: Engine, state: RunState) -> Candidate | None:
    """The best by its brief score so far. Raises as lines() does."""
    found = candidates.best(engine, state.record.id)
    return found[0] if found else None


def one_line(state: RunState, best: Candidate | None) -> str:
    """How far it is, what leads, who works, and what holds it up."""
    said = f"{state.word}, {state.trained} of {state.record.trials} trained"
    if best:
        score = StudyConfig.from_record(state.record.settings).score
        said += f", best {both(score, best)} (trial {best.number})"
    if state.second and state.second.rungs:
        said += f", {second_stage.progress(state.second)}"
    if state.busy:
        said += f", {counted(len(state.busy), 'worker')} at work"
    return f"{said}; {state.why}" if state.why else said


def at_work(one: Running) -> dict[str, Any]:
    """A running trial as a row for people."""
    return {
        "worker": one.worker,
        "trial": one.number,
        "epoch": one.epoch,
        "accuracy": percent(one.accuracy),
        "for": span(one.since),
    }
