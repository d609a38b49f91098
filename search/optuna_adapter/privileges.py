"""What a role of PostgreSQL must be allowed in Optuna's tables, beside the ledger's.

A list alone; asked for by storage/privileges.py, before a worker's first claim and before a study is made.
"""

from sqlalchemy import Engine

from storage import database, privileges
from storage.privileges import ALL, READ, ROWS, Needs

WORKER: Needs = {
    "version_info": READ,
    "alembic_version": READ,
    "studies": ("SELECT", "UPDATE"),  # locked while a trial is numbered
    "study_directions": READ,
    "study_system_attributes": READ,
    "study_user_attributes": ROWS,
    "trials": ROWS,
    "trial_params": ROWS,
    "trial_values": ROWS,
    "trial_user_attributes": ROWS,
    "trial_system_attributes": ROWS,
    "trial_intermediate_values": ALL,  # those of a training that started over are replaced
}
LAUNCHER: Needs = {
    **WORKER,
    "studies": ROWS,
    "study_directions": ROWS,
    "study_system_attributes": ROWS,
}


def require_to_work(engine: Engine) -> None:
    """Raises AccessError where this user may not write what a worker writes, into both sets of tables."""
    database.require_rights(engine, {**privileges.WORKER, **WORKER})


def require_to_launch(engine: Engine) -> None:
    """Raises AccessError where this user may not make a study and see to it."""
    database.require_rights(engine, {**privileges.LAUNCHER, **LAUNCHER})
