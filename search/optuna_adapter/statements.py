"""The statements that write Optuna's tables, each made once and run on a connection that is handed in.

They write rows of `trials` and of its five parts; values are encoded by Optuna's own models. Called by
fast_storage.py and, inside the ledger's transaction, by entries.py; loaded only where shortcuts are on.
Knows no session, no study object and no ledger.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, distribution_to_json
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, bindparam, delete, func, insert, literal, select, update
from sqlalchemy.dialects import postgresql, sqlite

OPEN = [TrialState.RUNNING, TrialState.WAITING]  # what may still be changed


# What a trial has several of, by the names of the object mapper's relations. Attributes are read first: they
# are stored with the parameters or after them, so that who has seen the last attribute sees all parameters.
PARTS: dict[str, Any] = {
    "user_attributes": models.TrialUserAttributeModel,
    "params": models.TrialParamModel,
    "values": models.TrialValueModel,
    "system_attributes": models.TrialSystemAttributeModel,
    "intermediate_values": models.TrialIntermediateValueModel,
}


def report(connection: Connection, trial_id: int, step: int, value: float) -> bool:
    """Store a value of a running trial, in place of one that is there. Returns whether it still runs."""
    row = {"trial": trial_id, **_step(step, value)}
    return connection.execute(_upsert_of_step(connection.dialect.name), row).first() is not None


def end(
    connection: Connection,
    trial_id: int,
    state: TrialState,
    value: float | None,
    steps: Mapping[int, float] | None = None,
    anew: bool = False,
) -> bool:
    """End a running trial. Returns whether it still ran; else nothing is changed.

    `steps` are all values that were reported: where some are not there, or with `anew`, they replace what is.
    """
    trial = {"trial": trial_id}
    ended = trial | {"new_state": state, "end": as_utc(datetime.now())}
    if connection.execute(_end_trial(), ended).first() is None:
        return False
    if anew or (steps and connection.execute(_count_steps(), trial).scalar_one() != len(steps)):
        table = PARTS["intermediate_values"].__table__
        connection.execute(delete(table).where(table.c.trial_id == trial_id))
        rows = [_step(step, reported) | {"trial_id": trial_id} for step, reported in (steps or {}).items()]
        if rows:
            connection.execute(insert(table), rows)
    if value is not None:
        stored, kind = models.TrialValueModel.value_to_stored_repr(value)
        row = {"trial_id": trial_id, "objective": 0, "value": stored, "value_type": kind}
        connection.execute(_upsert_value(connection.dialect.name), row)
    return True


@cache
def _lock_study() -> Any:
    """Lets one process at a time give numbers to trials."""
    table = models.StudyModel.__table__
    return select(table.c.study_id).where(table.c.study_id == bindparam("study")).with_for_update()


@cache
def ranges() -> Any:
    """The ranges that a study has for parameters of these names."""
    trials, table = models.TrialModel.__table__, PARTS["params"].__table__
    return (
        select(table.c.param_name, table.c.distribution_json)
        .join(trials, trials.c.trial_id == table.c.trial_id)
        .where(trials.c.study_id == bindparam("study"))
        .where(table.c.param_name.in_(bindparam("names", expanding=True)))
        .distinct()
    )


@cache
def _insert_trial() -> Any:
    """A running trial, whose number is how many there are; no row where there is no study."""
    studies, trials = models.StudyModel.__table__, models.TrialModel.__table__
    before = select(func.count()).select_from(trials).where(trials.c.study_id == bindparam("study"))
    new = select(
        before.scalar_subquery(),
        studies.c.study_id,
        literal(TrialState.RUNNING, trials.c.state.type),
        bindparam("start", type_=trials.c.datetime_start.type),
    ).where(studies.c.study_id == bindparam("study"))
    columns = ["number", "study_id", "state", "datetime_start"]
    return insert(trials).from_select(columns, new).returning(trials.c.trial_id, trials.c.number)


# One message to PostgreSQL, which the server runs as one transaction: nobody's Python stands between lock
# and commit. The lock is a statement of its own, since each looks at the table as it is when it begins: the
# second counts what was stored while the first waited. Foreign keys of others go by this lock.
NUMBERED = """
SELECT study_id FROM studies WHERE study_id = %(study)s FOR NO KEY UPDATE;
WITH new AS (
    INSERT INTO trials (number, study_id, state, datetime_start)
    SELECT (SELECT count(*) FROM trials WHERE study_id = %(study)s), study_id,
        CAST('RUNNING' AS trialstate), CAST(%(start)s AS timestamp)
    FROM studies WHERE study_id = %(study)s RETURNING trial_id, number
){parts}
SELECT trial_id, number FROM new
"""
PART = """, {table} AS (
    INSERT INTO {table} (trial_id, {columns})
    SELECT new.trial_id, part.* FROM new, (VALUES {rows}) AS part RETURNING 1
)"""
AT_ONCE = ("params", "user_attributes")  # the parts of a trial that has only begun


def insert_one_by_one(
    connection: Connection,
    study_id: int,
    start: datetime | None,
    parts: Mapping[str, list[dict[str, Any]]],
) -> tuple[int, int] | None:
    """Store a running trial with its parts, a statement each: its id and its number, None where there is no
    study."""
    study = {"study": study_id, "start": start}
    if connection.dialect.name == "postgresql":
        connection.execute(_lock_study(), study)  # a file has one writer
    row = connection.execute(_insert_trial(), study).first()
    if row is None:
        return None
    for part, entries in parts.items():
        if entries:
            mine = [entry | {"trial_id": row.trial_id} for entry in entries]
            connection.execute(insert(PARTS[part].__table__), mine)
    return row.trial_id, row.number


def insert_at_once(
    connection: Connection,
    study_id: int,
    start: datetime | None,
    parts: Mapping[str, list[dict[str, Any]]],
) -> tuple[int, int] | None:
    """Store a running trial with its parts in one round trip to PostgreSQL: its id and its number, None where
    there is no study. The connection has the options of storage/postgres.py, ONE_MESSAGE.
    """
    from storage import postgres  # loads psycopg, which a SQLite file does without

    values: dict[str, Any] = {"study": study_id, "start": start}
    message = NUMBERED.format(parts="".join(_part(part, parts[part], values) for part in AT_ONCE))
    rows = postgres.at_once(connection, message, values)
    return (rows[0][0], rows[0][1]) if rows else None


def _part(part: str, entries: list[dict[str, Any]], values: dict[str, Any]) -> str:
    """The clause that stores one part of a trial, whose values are added to those of the statement."""
    if not entries:
        return ""
    columns = list(entries[0])
    rows = []
    for at, entry in enumerate(entries):
        names = {f"{part}_{at}_{column}": entry[column] for column in columns}
        values |= names
        rows.append("(" + ", ".join(f"%({name})s" for name in names) + ")")
    table = PARTS[part].__tablename__
    return PART.format(table=table, columns=", ".join(columns), rows=", ".join(rows))


def parts_of(template: FrozenTrial) -> dict[str, list[dict[str, Any]]]:
    """What a template has several of, as rows."""
    ranges = template.distributions
    params = [
        {
            "param_name": name,
            "param_value": ranges[name].to_internal_repr(value),
            "distribution_json": _document(ranges[name]),
        }
        for name, value in template.params.items()
    ]
    attributes = [{"key": key, "value_json": json.dumps(value)} for key, value in template.user_attrs.items()]
    steps = [_step(step, value) for step, value in template.intermediate_values.items()]
    return {"params": params, "user_attributes": attributes, "intermediate_values": steps}


def completed_at(connection: Connection, study_id: int, step: int) -> list[float | None]:
    """The value of each completed trial after this step, None of one that has none."""
    kind = models.TrialIntermediateValueModel
    rows = connection.execute(_completed_at(), {"study": study_id, "at": step})
    return [
        None if row.type is None else kind.stored_repr_to_intermediate_value(row.value, row.type)
        for row in rows
    ]


@cache
def _completed_at() -> Any:
    trials, steps = models.TrialModel.__table__, PARTS["intermediate_values"].__table__
    there = (steps.c.trial_id == trials.c.trial_id) & (steps.c.step == bindparam("at"))
    return (
        select(steps.c.intermediate_value.label("value"), steps.c.intermediate_value_type.label("type"))
        .select_from(trials.outerjoin(steps, there))
        .where(trials.c.study_id == bindparam("study"), trials.c.state == TrialState.COMPLETE)
    )


@cache
def _end_trial() -> Any:
    """Ends a trial that has not ended."""
    table = models.TrialModel.__table__
    open_ = table.c.state.in_(OPEN)
    new = {
        "state": bindparam("new_state", type_=table.c.state.type),
        "datetime_complete": bindparam("end", type_=table.c.datetime_complete.type),
    }
    return (
        update(table)
        .where(table.c.trial_id == bindparam("trial"), open_)
        .values(new)
        .returning(table.c.trial_id)
    )


@cache
def _count_steps() -> Any:
    table = PARTS["intermediate_values"].__table__
    return select(func.count()).select_from(table).where(table.c.trial_id == bindparam("trial"))


@cache
def _upsert_of_step(dialect: str) -> Any:
    """Stores a value of a trial; no row where the trial has ended."""
    trials, table = models.TrialModel.__table__, PARTS["intermediate_values"].__table__
    stored = ("intermediate_value", "intermediate_value_type")
    values = [bindparam(name, type_=table.c[name].type) for name in ("step", *stored)]
    running = select(trials.c.trial_id, *values).where(
        trials.c.trial_id == bindparam("trial"), trials.c.state.in_(OPEN)
    )
    upsert = _insert_into(dialect, table).from_select(["trial_id", "step", *stored], running)
    new = {name: upsert.excluded[name] for name in stored}
    there = [table.c.trial_id, table.c.step]
    return upsert.on_conflict_do_update(index_elements=there, set_=new).returning(table.c.trial_id)


@cache
def _upsert_value(dialect: str) -> Any:
    """Stores a trial's value, in place of one that is there."""
    table = PARTS["values"].__table__
    upsert = _insert_into(dialect, table)
    new = {name: upsert.excluded[name] for name in ("value", "value_type")}
    return upsert.on_conflict_do_update(index_elements=[table.c.trial_id, table.c.objective], set_=new)


def _insert_into(dialect: str, table: Any) -> Any:
    return (postgresql.insert if dialect == "postgresql" else sqlite.insert)(table)


def as_utc(moment: datetime | None) -> datetime | None:
    """Optuna keeps times in UTC and shows them in local time, both without saying so."""
    return moment and moment.astimezone(UTC).replace(tzinfo=None)


def _document(kind: BaseDistribution) -> str:
    choices = kind.choices if isinstance(kind, CategoricalDistribution) else ()
    return _json_of(kind, tuple(map(type, choices)))


@lru_cache(maxsize=4_096)
def _json_of(kind: BaseDistribution, _types: tuple[type, ...]) -> str:
    """By the types of its choices too: 1, True and 1.0 are equal."""
    return distribution_to_json(kind)


def _step(step: int, value: float) -> dict[str, Any]:
    stored, kind = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(value)
    return {"step": step, "intermediate_value": stored, "intermediate_value_type": kind}
