"""Optuna's storage in a database, read and written in few statements.

Optuna reads a trial through five relations of its object mapper, and asks, before it stores each of some
thirty parameters, whether the trial is there and the study had the parameter with another range. Tables,
values and checks here are Optuna's own; the tests compare what both read and write.
"""

import json
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from datetime import UTC, datetime
from functools import cache, lru_cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    distribution_to_json,
    json_to_distribution,
)
from optuna.storages._rdb import models
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    bindparam,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, IntegrityError

from storage import database

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

MANY = 500  # trials: fewer are named one by one


OPEN = [TrialState.RUNNING, TrialState.WAITING]  # what may still be changed


# What a trial has several of, by the names of the object mapper's relations; params are told apart below.
PARTS: dict[str, Any] = {
    "params": models.TrialParamModel,
    "values": models.TrialValueModel,
    "user_attributes": models.TrialUserAttributeModel,
    "system_attributes": models.TrialSystemAttributeModel,
    "intermediate_values": models.TrialIntermediateValueModel,
}


class Storage(optuna.storages.RDBStorage):
    """Optuna's, with these shortcuts; it lets go of its connections where it cannot be opened."""

    def __init__(self, url: str) -> None:
        try:
            super().__init__(database.normalise(url), engine_kwargs=database.engine_options(url))
        except Exception:
            if hasattr(self, "scoped_session"):
                self.remove_session()
                self.engine.dispose()
            raise
        self._known: dict[tuple[int, str], BaseDistribution] = {}
        self._made: FrozenTrial | None = None

    def _create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> FrozenTrial:
        """Whoever makes a trial reads it next."""
        if template_trial is not None and self._is_usual(study_id, template_trial):
            found = self._create_usual(study_id, template_trial)
        else:
            found = super()._create_new_trial(study_id, template_trial)
        if template_trial is not None:
            self._known |= {(study_id, name): kind for name, kind in template_trial.distributions.items()}
        self._made = _copied(found) if found.state == TrialState.RUNNING else None
        return found

    def _is_usual(self, study_id: int, template: FrozenTrial) -> bool:
        """Whether the study is known to have its parameters with these ranges, and the trial is to run."""
        known = all(
            self._known.get((study_id, name)) == kind for name, kind in template.distributions.items()
        )
        return known and template.state == TrialState.RUNNING and not template.system_attrs

    def _create_usual(self, study_id: int, template: FrozenTrial) -> FrozenTrial:
        """All of it in one transaction, which writes from its start. Numbers are given under a lock."""
        study = {"study": study_id, "start": as_utc(template.datetime_start)}
        with _create_scoped_session(self.scoped_session) as session:
            connection = session.connection()
            if self.engine.name == "postgresql":
                connection.execute(_lock_study(), study)  # a file has one writer
            row = connection.execute(_insert_trial(), study).first()
            if row is None:
                models.StudyModel.find_or_raise_by_id(study_id, session)
                raise KeyError(f"study {study_id}")
            for part, entries in parts_of(template).items():
                if entries:
                    trial = {"trial_id": row.trial_id}
                    connection.execute(insert(PARTS[part].__table__), [entry | trial for entry in entries])
        found = _copied(template)
        found.number, found._trial_id = row.number, row.trial_id
        return found

    def get_trial(self, trial_id: int) -> FrozenTrial:
        made, self._made = self._made, None
        if made is not None and made._trial_id == trial_id:
            return made
        with _create_scoped_session(self.scoped_session) as session:
            found = self._read(session, models.TrialModel.trial_id == trial_id)
            if not found:
                models.TrialModel.find_or_raise_by_id(trial_id, session)
        return found[0]

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        trial = models.TrialModel
        wanted = trial.study_id == study_id
        if states is not None:
            assert isinstance(states, Iterable)
            wanted &= trial.state.in_(states)
        if trial_id_greater_than > -1:
            older = sorted(one for one in included_trial_ids if one <= trial_id_greater_than)
            wanted &= or_(trial.trial_id > trial_id_greater_than, trial.trial_id.in_(older))
        with _create_scoped_session(self.scoped_session) as session:
            found = self._read(session, wanted)
            if not found:
                models.StudyModel.find_or_raise_by_id(study_id, session)
        return found

    def has_news(self, study_id: int, unfinished: Iterable[int], last: int) -> bool:
        """Whether one of these trials has finished since, or one that is newer than the last."""
        trial = models.TrialModel
        newer = or_(trial.trial_id > last, trial.trial_id.in_(list(unfinished)))
        finished = trial.state.in_([TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL])
        wanted = select(trial.trial_id).where(trial.study_id == study_id, newer, finished).limit(1)
        with _create_scoped_session(self.scoped_session) as session:
            return session.execute(wanted).first() is not None

    def _read(self, session: "Session", wanted: ColumnElement[bool]) -> list[FrozenTrial]:
        """The trials, in the order of their ids: one statement for them, and one for each of their parts."""
        table = models.TrialModel.__table__
        rows = session.connection().execute(select(table).where(wanted).order_by(table.c.trial_id)).all()
        if not rows:
            return []
        ids = select(table.c.trial_id).where(wanted) if len(rows) > MANY else [row.trial_id for row in rows]
        parts = {name: _by_trial(session, model, ids) for name, model in PARTS.items()}
        return [
            self._frozen(row, {name: found[row.trial_id] for name, found in parts.items()}) for row in rows
        ]

    def _frozen(self, row: Row[Any], parts: dict[str, list[Row[Any]]]) -> FrozenTrial:
        """Optuna's own reading of a trial, but for its parameters' ranges: there are few, read very often."""
        params = parts["params"]
        times = {key: _as_local(row._mapping[key]) for key in ("datetime_start", "datetime_complete")}
        model: Any = SimpleNamespace(**{**row._mapping, **times, **parts, "params": ()})
        frozen = self._build_frozen_trial_from_trial_model(model)
        ranges = {param.param_name: _range(param.distribution_json) for param in params}
        frozen.params = {
            param.param_name: ranges[param.param_name].to_external_repr(param.param_value) for param in params
        }
        frozen.distributions = ranges
        return frozen

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        if not state.is_finished() or (values is not None and len(values) != 1):
            return super().set_trial_state_values(trial_id, state, values)
        with _create_scoped_session(self.scoped_session) as session:
            if not end(session.connection(), trial_id, state, values[0] if values else None):
                found: Any = models.TrialModel.find_or_raise_by_id(trial_id, session)
                self.check_trial_is_updatable(trial_id, found.state)
        return True

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        with _create_scoped_session(self.scoped_session, True) as session:
            if not report(session.connection(), trial_id, step, intermediate_value):
                found: Any = models.TrialModel.find_or_raise_by_id(trial_id, session)
                self.check_trial_is_updatable(trial_id, found.state)


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


@cache
def _lock_study() -> Any:
    table = models.StudyModel.__table__
    return select(table.c.study_id).where(table.c.study_id == bindparam("study")).with_for_update()


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


def _by_trial(session: "Session", model: Any, trial_ids: Any) -> dict[int, list[Row[Any]]]:
    """Rows of a part by their trial, in the order in which they were stored."""
    table = model.__table__
    if isinstance(trial_ids, list):
        rows = session.connection().execute(_of_trials(model), {"trials": trial_ids})
    else:
        (key,) = table.primary_key.columns
        rows = session.connection().execute(
            select(table).where(table.c.trial_id.in_(trial_ids)).order_by(key)
        )
    found: dict[int, list[Row[Any]]] = defaultdict(list)
    for row in rows:
        found[row.trial_id].append(row)
    return found


@cache
def _of_trials(model: Any) -> Any:
    table = model.__table__
    (key,) = table.primary_key.columns
    wanted = table.c.trial_id.in_(bindparam("trials", expanding=True))
    return select(table).where(wanted).order_by(key)


def _copied(trial: FrozenTrial) -> FrozenTrial:
    """Another, which may be changed; values and ranges never are."""
    other = copy(trial)
    other.params, other.distributions = dict(trial.params), dict(trial.distributions)
    other.user_attrs, other.system_attrs = dict(trial.user_attrs), dict(trial.system_attrs)
    other.intermediate_values = dict(trial.intermediate_values)
    return other


def as_utc(moment: datetime | None) -> datetime | None:
    """Optuna keeps times in UTC and shows them in local time, both without saying so."""
    return moment and moment.astimezone(UTC).replace(tzinfo=None)


def _as_local(moment: datetime | None) -> datetime | None:
    return moment and moment.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)


def _document(kind: BaseDistribution) -> str:
    choices = kind.choices if isinstance(kind, CategoricalDistribution) else ()
    return _json_of(kind, tuple(map(type, choices)))


@lru_cache(maxsize=4_096)
def _json_of(kind: BaseDistribution, _types: tuple[type, ...]) -> str:
    """By the types of its choices too: 1, True and 1.0 are equal."""
    return distribution_to_json(kind)


@lru_cache(maxsize=4_096)
def _range(document: str) -> BaseDistribution:
    return json_to_distribution(document)


def _step(step: int, value: float) -> dict[str, Any]:
    stored, kind = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(value)
    return {"step": step, "intermediate_value": stored, "intermediate_value_type": kind}


CREATE_ATTEMPTS = 8  # at a table of Optuna's; each is met once by whoever is second


def _created(url: str) -> Storage:
    """Launchers that meet at an empty database all make Optuna's tables; whoever is second tries again."""
    for attempt in range(1, CREATE_ATTEMPTS + 1):
        try:
            return Storage(url)
        except DBAPIError as error:
            made_meanwhile = isinstance(error, IntegrityError) or "already exists" in str(error)
            if not made_meanwhile or attempt == CREATE_ATTEMPTS:
                raise
    raise AssertionError("the last attempt returns or raises")


@contextmanager
def open_storage(url: str) -> Iterator[Storage]:
    """Optuna's tables in the same database, under the same time limits; made where they are not there."""
    storage = _created(url)
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()
