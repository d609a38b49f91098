"""Who works on a study: one row a worker, from its start to its end, whether it holds a trial or not.

Reads and writes search_workers. Written by search/worker/presence.py between trials; while one is trained its
claim is renewed in place of it, and storage/leases.py removes the row of a worker that was taken for dead.
Read by `search ps`, and where a worker died. Nothing that counts depends on it: a row that is missing costs a
line of a table.
"""

from dataclasses import dataclass, fields
from enum import StrEnum
from functools import cache
from typing import Any

from sqlalchemy import Engine, bindparam, delete, or_, select, union
from sqlalchemy.dialects import postgresql, sqlite

from storage import studies, tables
from storage.database import clock, now, reading, writing
from storage.row_types import TRAINED, State
from storage.studies import Study

TABLE = tables.workers

FORGOTTEN_SECONDS = 3600.0  # of silence: a worker that was killed where nobody watched


class Doing(StrEnum):
    """What a worker said last. What it trains is said by its claim."""

    STARTING = "starting"  # loads its libraries and the images
    WAITING = "waiting"  # others hold what is left
    PAUSED = "paused"
    WORKING = "working"


@dataclass(frozen=True)
class Presence:
    """One worker of a study, as it said last."""

    name: str
    host: str
    pid: int
    device: str | None  # None while it starts
    state: Doing
    lease_seconds: float  # of silence: then it is taken for dead
    age: float  # seconds since its start
    silence: float  # seconds since it was last heard between trials


def announce(
    engine: Engine,
    study_id: int,
    name: str,
    *,
    host: str,
    pid: int,
    state: Doing,
    lease_seconds: float,
    device: str | None = None,
) -> None:
    """Enter a worker, or what it does now. Forgets those that were silent for an hour and hold no claim."""
    row = {"study_id": study_id, "name": name, "host": host, "pid": pid, "device": device, "state": state}
    with writing(engine, durable=False) as connection:
        moment = now(connection)
        silent = (TABLE.c.study_id == study_id, TABLE.c.heard_at < moment - FORGOTTEN_SECONDS)
        holds = select(tables.claims.c.worker).where(tables.claims.c.study_id == study_id)
        connection.execute(delete(TABLE).where(*silent, TABLE.c.name.not_in(holds)))
        times = {"lease_seconds": lease_seconds, "started_at": moment, "heard_at": moment}
        connection.execute(_upsert(connection.dialect.name), row | times)


@cache
def _upsert(dialect: str) -> Any:
    new = (postgresql.insert if dialect == "postgresql" else sqlite.insert)(TABLE)
    changed = {name: new.excluded[name] for name in ("device", "state", "heard_at")}
    return new.on_conflict_do_update(index_elements=["study_id", "name"], set_=changed)


def leave(engine: Engine, study_id: int, name: str) -> None:
    """Remove a worker that ends. No error where it is not there."""
    mine = (TABLE.c.study_id == bindparam("study"), TABLE.c.name == bindparam("worker"))
    with writing(engine, durable=False) as connection:
        connection.execute(delete(TABLE).where(*mine), {"study": study_id, "worker": name})


def of_study(engine: Engine, study_id: int) -> list[Presence]:
    """Return the workers of a study, in the order in which they were started."""
    moment = clock(engine.dialect.name)
    measured = {"age": moment - TABLE.c.started_at, "silence": moment - TABLE.c.heard_at}
    names = [field.name for field in fields(Presence)]
    query = select(*(measured[name].label(name) if name in measured else TABLE.c[name] for name in names))
    with reading(engine) as connection:
        rows = connection.execute(query.where(TABLE.c.study_id == study_id).order_by(TABLE.c.id)).all()
    return [Presence(**{**row._mapping, "state": Doing(row.state)}) for row in rows]


def studies_of(engine: Engine, name: str) -> list[Study]:
    """Return the studies at which a worker is, by its row or by a claim of its."""
    claims = tables.claims
    here = select(TABLE.c.study_id).where(TABLE.c.name == name)
    held = select(claims.c.study_id).where(claims.c.worker == name)
    with reading(engine) as connection:
        found = set(connection.execute(union(here, held)).scalars())
    return [record for record in studies.all_studies(engine) if record.id in found]


def has_finished(engine: Engine, name: str) -> bool:
    """Return whether a worker has done a trial, or a training of the second stage, in whatever study."""
    trials, rungs = tables.candidates, tables.rung_trainings
    trial = select(trials.c.id).where(trials.c.worker == name, trials.c.state.in_(TRAINED))
    training = select(rungs.c.id).where(rungs.c.worker == name, rungs.c.state == State.COMPLETED)
    with reading(engine) as connection:
        return bool(connection.execute(select(or_(trial.exists(), training.exists()))).scalar_one())
