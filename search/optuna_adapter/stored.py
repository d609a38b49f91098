"""Looks into Optuna's tables, by a statement each and without loading Optuna.

Reads alone. Called by the commands that show a study: whether its part there is left (a person may delete it
in the dashboard), and what Optuna has for the knobs of each trial.
"""

import json
from collections import defaultdict
from typing import Any

from sqlalchemy import Engine, inspect, text

from storage import database

NAMES = text("SELECT study_name FROM studies")
KNOBS = text(
    "SELECT t.number, p.param_name, p.param_value, p.distribution_json FROM trial_params p"
    " JOIN trials t ON t.trial_id = p.trial_id JOIN studies s ON s.study_id = t.study_id"
    " WHERE s.study_name = :name ORDER BY p.param_id"
)


def names(engine: Engine) -> set[str]:
    """The studies that Optuna has; none where it has no tables. Raises SQLAlchemy's errors for a database out
    of reach."""
    if not inspect(engine).has_table("studies"):
        return set()
    with database.reading(engine) as connection:
        return {str(name) for name in connection.execute(NAMES).scalars()}


def knobs(engine: Engine, name: str) -> dict[int, dict[str, Any]]:
    """The parameters of the study's trials by their numbers. Raises as `names` does."""
    found = defaultdict[int, dict[str, Any]](dict)
    if name in names(engine):
        with database.reading(engine) as connection:
            for number, knob, value, distribution in connection.execute(KNOBS, {"name": name}):
                found[number][knob] = _value(value, json.loads(distribution))
    return dict(found)


def _value(stored: float, distribution: dict[str, Any]) -> Any:
    """A choice is stored by its place, a whole number as a float."""
    if "choices" in distribution["attributes"]:
        return distribution["attributes"]["choices"][int(stored)]
    return int(stored) if distribution["name"].startswith("Int") else stored
