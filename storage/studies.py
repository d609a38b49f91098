"""Studies, one row each: what was asked for, and the order that its workers follow.

Reads and writes the studies of a database. Called by the launcher, which makes them, by the commands that
show or steer them, and by the rest of storage/, which locks them. Does not know what the settings mean.
"""

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from difflib import get_close_matches
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Row,
    Select,
    and_,
    bindparam,
    create_engine,
    delete as delete_rows,
    func,
    insert,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.pool import NullPool

from space.errors import StudyError
from storage import tables
from storage.database import moment, now, reading, reason, writing
from storage.row_types import GIVE_UP_AFTER, MAX_ATTEMPTS, OF_FINALS, TRAINED, UNTRAINED, State

# Of the plan of a second stage: how many trials were asked for before they were ended, in time for it or,
# where EXHAUSTED is true, as no network was left to propose.
CLOSED_FROM, EXHAUSTED = "closed_from", "exhausted"


class Control(StrEnum):
    """What the workers of a study are told."""

    RUN = "run"
    PAUSE = "pause"  # finish what runs, and wait for another order
    STOP = "stop"  # finish what runs, and end
    STOP_NOW = "stop_now"  # end
    GAVE_UP = "gave_up"  # as STOP, which nobody gave: too many networks in a row came to nothing


@dataclass(frozen=True)
class Study:
    """A study as it was created; only `name`, `trials`, `order` and `finish` change later."""

    id: int
    name: str
    created_at: datetime
    trials: int  # the target: this many trained to the end or pruned
    max_parameters: int
    max_macs: int | None
    settings: dict[str, Any]
    versions: dict[str, Any]
    seed: int
    order: Control
    finish: dict[str, Any] | None = (
        None  # the plan of the second stage; None: the search ends with its trials
    )


COLUMNS = [tables.studies.c[field.name] for field in fields(Study)]


def _study(row: Row[Any]) -> Study:
    values = dict(zip((field.name for field in fields(Study)), row, strict=True))
    return Study(**{**values, "order": Control(values["order"])})


def create(
    engine: Engine,
    name: str,
    *,
    trials: int,
    max_parameters: int,
    max_macs: int | None,
    seed: int,
    settings: Mapping[str, Any],
    versions: Mapping[str, Any],
) -> Study:
    """Add a study. Raises StudyError where the name is taken."""
    row = {
        "name": name,
        "trials": trials,
        "max_parameters": max_parameters,
        "max_macs": max_macs,
        "seed": seed,
        "settings": dict(settings),
        "versions": dict(versions),
        "order": Control.RUN,
        "claims_made": 0,
    }
    try:
        with writing(engine) as connection:
            row |= {"created_at": moment(connection), **_next_id(connection)}
            return _study(connection.execute(insert(tables.studies).values(row).returning(*COLUMNS)).one())
    except IntegrityError:
        raise StudyError(f"there is a study {name!r} already; choose another name with --study") from None


# In a file: the id after all that its studies have had. PostgreSQL gives none twice by itself.
NEXT_ID = text(
    "SELECT max(coalesce((SELECT max(id) FROM search_studies), 0),"
    " coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'search_studies'), 0)) + 1"
)
# In the table of SQLite's own where AUTOINCREMENT, which this table was made without, counts.
FORGET_LOWER = text("DELETE FROM sqlite_sequence WHERE name = 'search_studies' AND seq < :id")
KEEP_ID = text(
    "INSERT INTO sqlite_sequence (name, seq) SELECT 'search_studies', :id"
    " WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'search_studies')"
)


def _next_id(connection: Connection) -> dict[str, int]:
    """The column `id` of a new study where the database does not see to it. Whoever was at a study that was
    deleted knows it by its id, and must not take another one for it."""
    if connection.dialect.name != "sqlite":
        return {}
    return {"id": int(connection.execute(NEXT_ID).scalar_one())}


def _keep_id(connection: Connection, study_id: int) -> None:
    """Notes the id of a study that is deleted, so that no other gets it."""
    if connection.dialect.name == "sqlite":
        for note in (FORGET_LOWER, KEEP_ID):
            connection.execute(note, {"id": study_id})


def find(engine: Engine, name: str | None = None) -> Study:
    """Return the study of this name, the newest without one. Raises StudyError that names close ones."""
    newest = select(*COLUMNS).order_by(tables.studies.c.id.desc()).limit(1)
    with reading(engine) as connection:
        row = connection.execute(
            newest if name is None else newest.where(tables.studies.c.name == name)
        ).first()
        if row is not None:
            return _study(row)
        names = list(
            connection.execute(select(tables.studies.c.name).order_by(tables.studies.c.id.desc())).scalars()
        )
    raise StudyError(_absence(name, names))


def get(engine: Engine, study_id: int) -> Study:
    """Return the study of this id. Raises StudyError where it has gone."""
    query = select(*COLUMNS).where(tables.studies.c.id == study_id)
    with reading(engine) as connection:
        row = connection.execute(query).first()
    if row is None:
        raise gone(study_id)
    return _study(row)


def _absence(name: str | None, names: list[str]) -> str:
    subject = "no study" if name is None else f"no study {name!r}"
    if not names:
        return f"{subject}: the store is empty; start one with `search launch --trials 200`"
    close = get_close_matches(str(name), names, n=3, cutoff=0.5)
    if close:
        return f"{subject}; did you mean {' or '.join(map(repr, close))}?"
    if len(names) == 1:
        return f"{subject}; the only one is {names[0]!r}"
    return f"{subject}; `search list` names the {len(names)} there are, the newest is {names[0]!r}"


def all_studies(engine: Engine) -> list[Study]:
    """Return every study, the oldest first."""
    with reading(engine) as connection:
        return [_study(row) for row in connection.execute(select(*COLUMNS).order_by(tables.studies.c.id))]


def is_in_file(path: Path, record: Study) -> bool:
    """Whether a SQLite file, of whatever version, has this very study, or cannot be read; it is opened for
    reading alone."""
    try:
        if not path.is_file():
            return False
    except OSError:  # as in a folder of another user
        return True
    query = select(tables.studies.c.created_at).where(tables.studies.c.name == record.name)
    engine = create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True),
        poolclass=NullPool,
    )
    try:
        with engine.connect() as connection:
            return connection.execute(query).scalar() == record.created_at
    except DBAPIError as error:
        return "no such table" not in reason(error)


TransactionStep = Callable[[Connection], object]


def delete(engine: Engine, study_id: int, in_transaction: TransactionStep) -> None:
    """Delete a study with its candidates, epochs and claims; full trainings stay.

    `in_transaction` is called with the connection before the commit. Raises StudyError where it has gone.
    """
    with writing(engine) as connection:
        lock(connection, study_id)
        in_transaction(connection)
        _set_finals_apart(connection, study_id)
        _keep_id(connection, study_id)
        connection.execute(delete_rows(tables.studies).where(tables.studies.c.id == study_id))


def _set_finals_apart(connection: Connection, study_id: int) -> None:
    """Renames the runs of a study's finals: an older version may give its number to another study, which must
    not replace them."""
    run, end = tables.trainings.c.run, uuid4().hex[:12]
    runs = connection.execute(select(run).where(run.like(f"{OF_FINALS}{study_id}-%")).distinct()).scalars()
    for one in runs.all():
        values = {"run": f"deleted-{end}-{one}"}
        connection.execute(update(tables.trainings).where(run == one).values(values))


def rename(engine: Engine, study_id: int, name: str, in_transaction: TransactionStep) -> None:
    """Give a study another name, by which its full trainings know it too.

    `in_transaction` as for `delete`. Raises StudyError where the study has gone or the name is taken.
    """
    trainings = tables.trainings
    try:
        with writing(engine) as connection:
            old = lock(connection, study_id).name
            in_transaction(connection)
            _change(connection, study_id, name=name)
            connection.execute(update(trainings).where(trainings.c.study == old).values(study=name))
    except IntegrityError:
        raise StudyError(f"there is a study {name!r} already; choose another name") from None


def set_trials(engine: Engine, study_id: int, n: int, *, anew: bool = False) -> None:
    """Change the target; never below what is trained and what is held, which cannot be taken back. `anew`,
    where trials are owed then, as for set_finish(): they may choose other networks.

    Raises StudyError where the study has gone.
    """
    with writing(engine) as connection:
        lock(connection, study_id)
        trials = max(n, engaged(connection, study_id))
        _change(connection, study_id, trials=trials)
        if anew and trained(connection, study_id) < trials:
            _ask_no_longer(connection, study_id)


def set_finish(engine: Engine, study_id: int, plan: Mapping[str, Any], *, anew: bool = False) -> None:
    """Give the study its second stage, or another plan of it; `anew`, trainings that wait for a worker are no
    longer asked for, and those of the plan will be entered again. Raises StudyError where the study has gone.
    """
    with writing(engine) as connection:
        lock(connection, study_id)
        set_finish_in(connection, study_id, plan)
        if anew:
            _ask_no_longer(connection, study_id)


def replace_finish(
    engine: Engine,
    study_id: int,
    plan: Mapping[str, Any],
    *,
    by: Mapping[str, Any] | None,
    entered: int | None = None,
) -> bool:
    """Give the study another plan of its second stage, if it has the one still that this was made `by`, and
    as many trainings were `entered` as then, where that matters: else False, and nothing changes. Raises
    StudyError where the study has gone.
    """
    table = tables.rung_trainings
    count = select(func.count()).select_from(table).where(table.c.study_id == study_id)
    with writing(engine) as connection:
        if lock(connection, study_id).finish != by:
            return False
        if entered is not None and connection.execute(count).scalar_one() != entered:
            return False
        set_finish_in(connection, study_id, plan)
        return True


def _ask_no_longer(connection: Connection, study_id: int) -> None:
    """Takes back the trainings of the second stage that wait for a worker."""
    table = tables.rung_trainings
    mine = (table.c.study_id == study_id, table.c.state.is_(None))
    connection.execute(delete_rows(table).where(*mine))


def set_finish_in(connection: Connection, study_id: int, plan: Mapping[str, Any]) -> None:
    """set_finish() as a part of a transaction."""
    _change(connection, study_id, finish=dict(plan))


def clock(engine: Engine) -> float:
    """Return the seconds since 1970 by the clock of the database."""
    with reading(engine) as connection:
        return now(connection)


def shorten(engine: Engine, study_id: int, plan: Mapping[str, Any], *, close: bool) -> bool:
    """Give the study another plan of its second stage while trials are owed; with `close` no more of these
    are begun, so that the target becomes what is trained and held, and one less with each that comes to
    nothing.

    Returns False where all trials are trained: their second stage may have begun by the plan that stands.
    Raises StudyError where the study has gone.
    """
    with writing(engine) as connection:
        study = lock(connection, study_id)
        if trained(connection, study_id) >= study.trials:
            return False
        _change(connection, study_id, finish=dict(plan))
        if close:
            ask_for_no_more(connection, study_id)
        return True


def ask_for_no_more(connection: Connection, study_id: int) -> None:
    """Make the target what is trained and held, with the study's lock held."""
    _change(connection, study_id, trials=engaged(connection, study_id))


def is_open() -> ColumnElement[bool]:
    """Of the study :study, whether its trials were not ended for its second stage."""
    table = tables.studies
    closed_from = select(table.c.finish[CLOSED_FROM].as_integer()).where(table.c.id == bindparam("study"))
    return closed_from.scalar_subquery().is_(None)


def replace_none_where_closed(connection: Connection, study_id: int, trials: int = 1) -> None:
    """Where trials were closed, ask for so many fewer, which came to nothing: else others would be begun in
    their place, in the time of the second stage. With the study's lock held.

    Raises StudyError where the study has gone.
    """
    if not trials:
        return
    study = lock(connection, study_id)
    if study.finish and study.finish.get(CLOSED_FROM) is not None:
        _change(connection, study_id, trials=study.trials - trials)


def trained(connection: Connection, study_id: int) -> int:
    """Return how many trials count towards the target."""
    return int(connection.execute(_count_trained(), {"study": study_id}).scalar_one())


def engaged(connection: Connection, study_id: int) -> int:
    """Return how many trials are trained or claimed: under the study's lock never more than the target.

    The claims of the second stage are of trials that are trained already.
    """
    return int(connection.execute(_count_engaged(), {"study": study_id}).scalar_one())


@cache
def _count_engaged() -> Select[Any]:
    """In one statement: a trial that ends meanwhile is counted once."""
    return select(_count_trained().scalar_subquery() + _count_held().scalar_subquery())


@cache
def _count_trained() -> Select[Any]:
    table = tables.candidates
    mine = table.c.study_id == bindparam("study")
    return select(func.count()).select_from(table).where(mine, table.c.state.in_(TRAINED))


@cache
def _count_held() -> Select[Any]:
    table = tables.claims
    of_trials = (table.c.study_id == bindparam("study"), table.c.rung_training_id.is_(None))
    return select(func.count()).select_from(table).where(*of_trials)


def give_up_where_due(connection: Connection, study_id: int) -> None:
    """End the search at every 20th network in a row that came to nothing, with nothing trained between.

    Called under the study's lock, in the transaction that writes such an end: each one is counted once, so
    that a search which is launched again has another 20. Who claims reads the order alone.
    """
    in_a_row = int(connection.execute(_count_in_a_row(), {"study": study_id}).scalar_one())
    if in_a_row and in_a_row % GIVE_UP_AFTER == 0:
        table = tables.studies
        running = (table.c.id == study_id, table.c.order == Control.RUN)
        connection.execute(update(table).where(*running).values(order=Control.GAVE_UP))


@cache
def _count_in_a_row() -> Select[Any]:
    return select(func.count()).select_from(tables.candidates).where(untrained_in_a_row())


def untrained_in_a_row() -> ColumnElement[bool]:
    """Of the study :study, what ended after the last network that was trained, and came to nothing for good.

    Over-budget and repeated proposals are neither: no training was begun, and they are bounded by the claim.
    """
    table, other = tables.candidates, tables.candidates.alias()
    last = select(func.max(other.c.finished_at)).where(
        other.c.study_id == bindparam("study"), other.c.state.in_(TRAINED)
    )
    return and_(
        table.c.study_id == bindparam("study"),
        table.c.state.in_(UNTRAINED),
        or_(table.c.state != State.LOST, table.c.attempt >= MAX_ATTEMPTS),
        or_(last.scalar_subquery().is_(None), table.c.finished_at > last.scalar_subquery()),
    )


def set_control(engine: Engine, study_id: int, order: Control) -> None:
    """Tell every worker, at its next claim or renewal. Raises StudyError where the study has gone."""
    with writing(engine) as connection:
        _change(connection, study_id, order=order)


def _change(connection: Connection, study_id: int, **values: object) -> None:
    table = tables.studies
    if connection.execute(update(table).where(table.c.id == study_id).values(values)).rowcount == 0:
        raise gone(study_id)


def lock(connection: Connection, study_id: int) -> Study:
    """Return the study, and keep its other claims, proposals and results waiting until the transaction ends.

    Raises StudyError where the study has gone.
    """
    row = connection.execute(_lock(), {"study": study_id}).first()
    if row is None:
        raise gone(study_id)
    return _study(row)


@cache
def _lock() -> Select[Any]:
    # FOR NO KEY UPDATE: rows that merely refer to the study may be written meanwhile. SQLite has one writer.
    return select(*COLUMNS).where(tables.studies.c.id == bindparam("study")).with_for_update(key_share=True)


def gone(study_id: int) -> StudyError:
    """Return the error of a study that is no longer there."""
    return StudyError(f"the study with the id {study_id} was deleted; `search list` names those there are")


def require_there(connection: Connection, study_id: int) -> None:
    """Raise StudyError where the study has gone; nobody waits for it."""
    if connection.execute(_is_there(), {"study": study_id}).first() is None:
        raise gone(study_id)


@cache
def _is_there() -> Select[Any]:
    return select(tables.studies.c.id).where(tables.studies.c.id == bindparam("study"))
