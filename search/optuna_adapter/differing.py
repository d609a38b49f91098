"""Counts the trials of which Optuna's tables say something else than the network is that was trained.

Reads the user attribute that ask.py gives them, by one statement and without loading Optuna. Called by the
commands that write a report.
"""

from sqlalchemy import Engine, inspect, text

from search.optuna_adapter import stored
from storage import database

DIFFERS = "differs"  # user attribute: names of stored parameters that say something else than the network is
COUNT = text(
    "SELECT count(*) FROM trial_user_attributes a JOIN trials t ON t.trial_id = a.trial_id"
    " JOIN studies s ON s.study_id = t.study_id WHERE s.study_name = :name AND a.key = :key"
)


def count(engine: Engine, name: str) -> int:
    """Trials of the study of this name; none where Optuna has no tables. Raises SQLAlchemy's errors for a
    database out of reach."""
    if not inspect(engine).has_table("trial_user_attributes"):
        return 0
    with database.reading(engine) as connection:
        theirs = stored.names_in(connection).get(name)
        return int(connection.execute(COUNT, {"name": theirs, "key": DIFFERS}).scalar_one())
