"""Optuna's storage in a database, read and written in few statements.

Optuna reads a trial through five relations of its object mapper, and asks, before it stores each of some
thirty parameters, whether the trial is there and the study had the parameter with another range. Tables,
values and checks here are Optuna's own; the tests compare what both read and write.
"""

import json
from collections import defaultdict
from collections.abc import Container, Iterable
from copy import copy, deepcopy
from functools import cache, lru_cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import optuna
from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.storages._rdb import models
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import ColumnElement, Row, bindparam, insert, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from storage import database

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

MANY = 500  # trials: fewer are named one by one

# What a trial has several of, by the names of the object mapper's relations; params are told apart below.
PARTS: dict[str, Any] = {
    "params": models.TrialParamModel,
    "values": models.TrialValueModel,
    "user_attributes": models.TrialUserAttributeModel,
    "system_attributes": models.TrialSystemAttributeModel,
    "intermediate_values": models.TrialIntermediateValueModel,
}


class Storage(optuna.storages.RDBStorage):
    """Optuna's, which lets go of its connections where it cannot be opened."""

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
        found = super()._create_new_trial(study_id, template_trial)
        self._made = deepcopy(found)
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
        model: Any = SimpleNamespace(**{**row._mapping, **parts, "params": ()})
        frozen = self._build_frozen_trial_from_trial_model(model)
        ranges = {param.param_name: _range(param.distribution_json) for param in params}
        frozen.params = {
            param.param_name: ranges[param.param_name].to_external_repr(param.param_value) for param in params
        }
        frozen.distributions = ranges
        return frozen

    def _get_prepared_new_trial(
        self, study_id: int, template_trial: FrozenTrial | None, session: "Session"
    ) -> models.TrialModel:
        """A new trial with what the template has; what is the same in every trial is stored at once."""
        if template_trial is None:
            return super()._get_prepared_new_trial(study_id, template_trial, session)
        ranges, rest = template_trial.distributions, copy(template_trial)
        known = {name for name in ranges if self._known.get((study_id, name)) == ranges[name]}
        rest.params = {name: value for name, value in template_trial.params.items() if name not in known}
        rest.user_attrs, rest.intermediate_values = {}, {}
        trial = super()._get_prepared_new_trial(study_id, rest, session)
        params = [
            {
                "param_name": name,
                "param_value": ranges[name].to_internal_repr(value),
                "distribution_json": distribution_to_json(ranges[name]),
            }
            for name, value in template_trial.params.items()
            if name in known
        ]
        attributes = [
            {"key": key, "value_json": json.dumps(value)} for key, value in template_trial.user_attrs.items()
        ]
        steps = [_step(step, value) for step, value in template_trial.intermediate_values.items()]
        for part, entries in (
            ("params", params),
            ("user_attributes", attributes),
            ("intermediate_values", steps),
        ):
            if entries:
                entries = [{**entry, "trial_id": trial.trial_id} for entry in entries]
                session.execute(insert(PARTS[part].__table__), entries)
        self._known |= {(study_id, name): found for name, found in ranges.items()}
        return trial

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        upsert = _upsert_of_step(self.engine.name)
        values = {"trial": trial_id, **_step(step, intermediate_value)}
        with _create_scoped_session(self.scoped_session, True) as session:
            if session.connection().execute(upsert, values).first() is None:
                found: Any = models.TrialModel.find_or_raise_by_id(trial_id, session)
                self.check_trial_is_updatable(trial_id, found.state)


@cache
def _upsert_of_step(dialect: str) -> Any:
    """Stores a value of a running trial; no row where the trial does not run."""
    trials, table = models.TrialModel.__table__, PARTS["intermediate_values"].__table__
    stored = ("intermediate_value", "intermediate_value_type")
    values = [bindparam(name, type_=table.c[name].type) for name in ("step", *stored)]
    running = select(trials.c.trial_id, *values).where(
        trials.c.trial_id == bindparam("trial"), trials.c.state == TrialState.RUNNING
    )
    insert_into = postgresql.insert if dialect == "postgresql" else sqlite.insert
    upsert: Any = insert_into(table).from_select(["trial_id", "step", *stored], running)
    there = [table.c.trial_id, table.c.step]
    new = {name: upsert.excluded[name] for name in stored}
    return upsert.on_conflict_do_update(index_elements=there, set_=new).returning(table.c.trial_id)


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


@lru_cache(maxsize=4_096)
def _range(document: str) -> BaseDistribution:
    return json_to_distribution(document)


def _step(step: int, value: float) -> dict[str, Any]:
    stored, kind = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(value)
    return {"step": step, "intermediate_value": stored, "intermediate_value_type": kind}
