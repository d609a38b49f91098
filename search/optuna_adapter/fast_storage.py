"""Optuna's storage in a database, read and written in few statements.

It reads and writes Optuna's own tables, through statements.py where they change. Optuna reads a trial through
five relations of its object mapper, and asks, before it stores each of some thirty parameters, whether the
trial is there and the study had the parameter with another range; here a trial is read in six statements and
stored in four. Values and checks are Optuna's own. Opened by storage.py, where shortcuts are on; held equal
to RDBStorage by Optuna's contract tests and ours.
"""

from collections import defaultdict
from collections.abc import Container, Iterable, Sequence
from copy import copy
from datetime import UTC, datetime
from functools import cache, lru_cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from optuna.distributions import (
    BaseDistribution,
    check_distribution_compatibility,
    json_to_distribution,
)
from optuna.storages._rdb import models
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import ColumnElement, Engine, Row, bindparam, or_, select

from search.optuna_adapter import statements
from search.optuna_adapter.plain_storage import PlainStorage
from search.optuna_adapter.statements import PARTS

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

MANY = (
    500  # trials: fewer are named one by one, since SQLite takes 999 parameters a statement in old versions
)
# The user attribute that worker/trial.py stores with the last of a trial's parameters, or after it.
LAST_ATTRIBUTE = "fingerprint"

Params = tuple[dict[str, Any], dict[str, BaseDistribution]]  # and their ranges, by name


class FastStorage(PlainStorage):
    """PlainStorage with these shortcuts. Raises what it raises."""

    def __init__(self, url: str, ledger: Engine | None = None) -> None:
        super().__init__(url, ledger)
        # Ranges that a study is known to have, by its id and the parameter's name.
        self._known: dict[tuple[int, str], BaseDistribution] = {}
        # Of trials that run and get no more of them, by their ids: each proposal reads all trials that run.
        self._whole: dict[int, Params] = {}

    def delete_study(self, study_id: int) -> None:
        super().delete_study(study_id)
        self._known = {key: kind for key, kind in self._known.items() if key[0] != study_id}
        self._whole = {}

    def _create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> FrozenTrial:
        if template_trial is not None and self._is_usual(study_id, template_trial):
            found = self._create_usual(study_id, template_trial)
        else:
            found = super()._create_new_trial(study_id, template_trial)
        if template_trial is not None:
            self._known |= {(study_id, name): kind for name, kind in template_trial.distributions.items()}
        return found

    def _is_usual(self, study_id: int, template: FrozenTrial) -> bool:
        """Whether the trial is to run, and the study has its parameters with these ranges or none of them.

        Raises ValueError, as Optuna does, for a parameter that the study has with an incompatible range.
        """
        if template.state != TrialState.RUNNING or template.system_attrs:
            return False
        unknown = {
            name: kind
            for name, kind in template.distributions.items()
            if self._known.get((study_id, name)) != kind
        }
        if unknown:
            with _create_scoped_session(self.scoped_session) as session:
                asked = {"study": study_id, "names": list(unknown)}
                for row in session.connection().execute(statements.ranges(), asked):
                    check_distribution_compatibility(_range(row.distribution_json), unknown[row.param_name])
        return True

    def _create_usual(self, study_id: int, template: FrozenTrial) -> FrozenTrial:
        """All of it in one transaction, in PostgreSQL in one message. Numbers are given under a lock."""
        start, parts = statements.as_utc(template.datetime_start), statements.parts_of(template)
        with _create_scoped_session(self.scoped_session) as session:
            if self.engine.name == "postgresql" and not parts["intermediate_values"]:
                from storage.postgres import ONE_MESSAGE  # loads psycopg

                connection = session.connection(execution_options=ONE_MESSAGE)
                row = statements.insert_at_once(connection, study_id, start, parts)
            else:
                row = statements.insert_one_by_one(session.connection(), study_id, start, parts)
            if row is None:
                models.StudyModel.find_or_raise_by_id(study_id, session)
                raise KeyError(f"study {study_id}")
        found = _copied(template)
        found._trial_id, found.number = row
        return found

    def get_trial(self, trial_id: int) -> FrozenTrial:
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

    def completed_at(self, study_id: int, step: int) -> list[float | None]:
        """What the pruner asks of a study: the value of each completed trial after this step, None of one
        that has none. One statement, where get_all_trials() reads all parts of every trial that runs."""
        with _create_scoped_session(self.scoped_session) as session:
            return statements.completed_at(session.connection(), study_id, step)

    def _read(self, session: "Session", wanted: ColumnElement[bool]) -> list[FrozenTrial]:
        """The trials, in the order of their ids: one statement for them, and one for each of their parts."""
        table = models.TrialModel.__table__
        rows = session.connection().execute(select(table).where(wanted).order_by(table.c.trial_id)).all()
        if not rows:
            return []
        whole = {row.trial_id: known for row in rows if (known := self._whole.get(row.trial_id))}
        parts = {}
        for name, model in PARTS.items():
            ids = [row.trial_id for row in rows if name != "params" or row.trial_id not in whole]
            named = ids if len(ids) <= MANY else select(table.c.trial_id).where(wanted)
            parts[name] = _by_trial(session, model, named)
        trials = []
        for row in rows:
            mine = {name: found[row.trial_id] for name, found in parts.items()}
            trials.append(self._frozen(row, mine, whole.get(row.trial_id) or _params(mine["params"])))
        for row, trial in zip(rows, trials, strict=True):
            self._known |= {(row.study_id, name): kind for name, kind in trial.distributions.items()}
        return trials

    def _frozen(self, row: Row[Any], parts: dict[str, list[Row[Any]]], params: Params) -> FrozenTrial:
        """Optuna's own reading of a trial, but for its parameters: their ranges are few, read very often, and
        those of a trial that runs are read once."""
        times = {key: _as_local(row._mapping[key]) for key in ("datetime_start", "datetime_complete")}
        model: Any = SimpleNamespace(**{**row._mapping, **times, **parts, "params": ()})
        frozen = self._build_frozen_trial_from_trial_model(model)
        frozen.params, frozen.distributions = map(dict, params)
        if row.state == TrialState.RUNNING and LAST_ATTRIBUTE in frozen.user_attrs:
            self._whole[row.trial_id] = params
        else:
            self._whole.pop(row.trial_id, None)
        return frozen

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        super().set_trial_param(trial_id, param_name, param_value_internal, distribution)
        self._whole.pop(trial_id, None)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        if not state.is_finished() or (values is not None and len(values) != 1):
            return super().set_trial_state_values(trial_id, state, values)
        with _create_scoped_session(self.scoped_session) as session:
            if not statements.end(session.connection(), trial_id, state, values[0] if values else None):
                found: Any = models.TrialModel.find_or_raise_by_id(trial_id, session)
                self.check_trial_is_updatable(trial_id, found.state)
        return True

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        with _create_scoped_session(self.scoped_session, True) as session:
            if not statements.report(session.connection(), trial_id, step, intermediate_value):
                found: Any = models.TrialModel.find_or_raise_by_id(trial_id, session)
                self.check_trial_is_updatable(trial_id, found.state)


def _params(rows: Iterable[Row[Any]]) -> Params:
    ranges = {row.param_name: _range(row.distribution_json) for row in rows}
    return {row.param_name: ranges[row.param_name].to_external_repr(row.param_value) for row in rows}, ranges


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


def _as_local(moment: datetime | None) -> datetime | None:
    return moment and moment.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)


@lru_cache(maxsize=4_096)
def _range(document: str) -> BaseDistribution:
    return json_to_distribution(document)
