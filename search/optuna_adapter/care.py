"""Renames and deletes Optuna's part of a study, in the transaction that does so in the ledger.

Writes Optuna's tables by plain statements, without loading Optuna, whose own way of deleting opens a
transaction of its own: a death between the two would leave half a study. Called by search/commands/care.py.
"""

from sqlalchemy import Connection, inspect, text

from search.optuna_adapter import stored

RENAME = text("UPDATE studies SET study_name = :new WHERE study_name = :old")
FIND = text("SELECT study_id FROM studies WHERE study_name = :name")
# Optuna's tables say ON DELETE nothing: what refers to a row goes first.
OF_TRIALS = (
    "trial_params",
    "trial_values",
    "trial_intermediate_values",
    "trial_heartbeats",
    "trial_constraints",
    "trial_user_attributes",
    "trial_system_attributes",
)
OF_STUDY = ("trials", "study_directions", "study_user_attributes", "study_system_attributes", "studies")


def rename(connection: Connection, old: str, new: str) -> None:
    """Gives Optuna's study another name, where there is one. Raises sqlalchemy.exc.IntegrityError for a
    name that Optuna has already."""
    theirs = stored.names_in(connection).get(old)
    if theirs not in (None, new):  # somebody may have given it this name in the dashboard
        connection.execute(RENAME, {"old": theirs, "new": new})


def delete(connection: Connection, name: str) -> None:
    """Deletes Optuna's study with its trials, where there is one."""
    there = set(inspect(connection).get_table_names())
    if "studies" not in there:
        return
    theirs = stored.names_in(connection).get(name)
    study = connection.execute(FIND, {"name": theirs}).scalar()
    trials = "trial_id IN (SELECT trial_id FROM trials WHERE study_id = :study)"
    for table in there.intersection(OF_TRIALS):
        connection.execute(text(f"DELETE FROM {table} WHERE {trials}"), {"study": study})
    for table in OF_STUDY:
        if table in there:
            connection.execute(text(f"DELETE FROM {table} WHERE study_id = :study"), {"study": study})
