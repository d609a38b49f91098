"""Looks into Optuna's tables, by a statement each and without loading Optuna.

Reads alone. Called by the commands that show a study: whether its part there is left (a person may delete or
rename it in the dashboard), and what Optuna has for the knobs of each trial; and by whoever opens or changes
Optuna's study, for the name that it has there.
"""

import json
import math
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, inspect, text

from storage import database

LEDGER_ID = "ledger_id"  # user attribute of Optuna's study: the id of ours, which stays where it is renamed
NAMES = text("SELECT study_name FROM studies")
# The dashboard renames by a copy: a new study under the new name, with the user attributes of the old one.
RENAMED = text(
    "SELECT l.name, s.study_name FROM search_studies l JOIN study_user_attributes a"
    " ON a.value_json = CAST(l.id AS VARCHAR(20)) JOIN studies s ON s.study_id = a.study_id"
    " WHERE a.key = :key AND s.study_name <> l.name"
    " AND s.study_name NOT IN (SELECT name FROM search_studies)"
    " AND l.name NOT IN (SELECT study_name FROM studies)"
)
KNOBS = text(
    "SELECT t.number, p.param_name, p.param_value, p.distribution_json FROM trial_params p"
    " JOIN trials t ON t.trial_id = p.trial_id JOIN studies s ON s.study_id = t.study_id"
    " WHERE s.study_name = :name ORDER BY p.param_id"
)
# What became of each trial; a value that is no number has no place in `value`, and a type that says which.
ENDS = text(
    "SELECT t.number, t.state, v.value, v.value_type FROM trials t JOIN studies s ON s.study_id = t.study_id"
    " LEFT JOIN trial_values v ON v.trial_id = t.trial_id AND v.objective = 0"
    " WHERE s.study_name = :name ORDER BY t.number"
)
# Trials that were taken from the queue and are not in the ledger, unless somebody else chooses a network at
# the moment, who may be about to enter one. In one statement: all of it is of one state of the database.
TAKEN = text(
    "SELECT t.number FROM trials t JOIN studies s ON s.study_id = t.study_id"
    " JOIN trial_system_attributes a ON a.trial_id = t.trial_id AND a.key = :queued"
    " WHERE s.study_name = :name AND t.state = 'RUNNING'"
    " AND NOT EXISTS (SELECT 1 FROM search_candidates c WHERE c.study_id = :study AND c.number = t.number)"
    " AND NOT EXISTS (SELECT 1 FROM search_claims l WHERE l.study_id = :study AND l.candidate_id IS NULL"
    " AND l.rung_training_id IS NULL AND l.worker <> :worker)"
)
QUEUED = "fixed_params"  # system attribute of a trial that was queued: what it is to be
INFINITE = {"INF_POS": math.inf, "INF_NEG": -math.inf}


@dataclass(frozen=True)
class TrialEnd:
    """A trial as Optuna has it: the name of its state, and its value."""

    state: str
    value: float | None

    @property
    def is_finished(self) -> bool:
        """Whether nothing of it changes any more."""
        return self.state not in ("RUNNING", "WAITING")


def ends(engine: Engine, name: str) -> dict[int, TrialEnd] | None:
    """What became of the study's trials, by their numbers; None where Optuna has no such study.

    Raises as `names` does.
    """
    with database.reading(engine) as connection:
        theirs = names_in(connection).get(name)
        if theirs is None:
            return None
        rows = connection.execute(ENDS, {"name": theirs})
        return {number: TrialEnd(state, INFINITE.get(kind, value)) for number, state, value, kind in rows}


def taken_and_not_entered(engine: Engine, name: str, study_id: int, worker: str) -> set[int]:
    """Numbers of queued trials that nobody will enter into the ledger any more: whoever took them is dead, or
    never heard that it had. Nobody's but this worker's, and none while another one chooses a network.

    `name` is the study's in Optuna. Raises as `names` does.
    """
    asked = {"name": name, "study": study_id, "worker": worker, "queued": QUEUED}
    with database.reading(engine) as connection:
        return set(connection.execute(TAKEN, asked).scalars())


def names(engine: Engine) -> dict[str, str]:
    """The studies that Optuna has, each by the name of ours, and what Optuna calls it; none where it has no
    tables. Raises SQLAlchemy's errors for a database out of reach."""
    with database.reading(engine) as connection:
        return names_in(connection)


def names_in(connection: Connection) -> dict[str, str]:
    """The same in a transaction."""
    there = set(inspect(connection).get_table_names())
    if "studies" not in there:
        return {}
    found = {str(name): str(name) for name in connection.execute(NAMES).scalars()}
    if "search_studies" in there:  # else a store of Optuna's alone
        found |= {
            str(row.name): str(row.study_name) for row in connection.execute(RENAMED, {"key": LEDGER_ID})
        }
    return found


def knobs(engine: Engine, name: str) -> dict[int, dict[str, Any]]:
    """The parameters of the study's trials by their numbers. Raises as `names` does."""
    found = defaultdict[int, dict[str, Any]](dict)
    with database.reading(engine) as connection:
        theirs = names_in(connection).get(name)
        for number, knob, value, distribution in (
            connection.execute(KNOBS, {"name": theirs}) if theirs else ()
        ):
            found[number][knob] = _value(value, json.loads(distribution))
    return dict(found)


def _value(stored: float, distribution: dict[str, Any]) -> Any:
    """A choice is stored by its place, a whole number as a float."""
    if "choices" in distribution["attributes"]:
        return distribution["attributes"]["choices"][int(stored)]
    return int(stored) if distribution["name"].startswith("Int") else stored
