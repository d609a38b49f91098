"""How many workers more the database server has connections for, asked before a launch on a cluster grows.

Reads what the server has left (storage/connections.py) and which workers have come (storage/workers.py, and
the claims): one that was placed and has not connected yet will need a connection too. Called by
cluster_pool.py, which launcher.py gives it.
"""

from collections.abc import Collection

from sqlalchemy import Engine

from storage import connections, leases, workers


def for_more(engine: Engine, study_id: int, placed: Collection[tuple[str, str]]) -> int | None:
    """How many workers fit beside those that are placed, by slot and start (`dask3`, `TOKEN.1`).

    None where nothing limits them: a file, or a pooler. Raises SQLAlchemy's errors.
    """
    found = connections.room(engine)
    if found is None:
        return None
    names = {one.name for one in workers.of_study(engine, study_id)}
    names |= {one.worker for one in leases.running(engine, study_id)}
    coming = set(placed) - {_slot_and_start(name) for name in names}
    return max(0, found.free - connections.SPARE - len(coming))


def _slot_and_start(worker: str) -> tuple[str, str]:
    """Out of the name of a worker of a cluster: HOST-SLOT-PID-START, cluster_task.run_worker()."""
    parts = worker.split("-")
    return (parts[-3], parts[-1]) if len(parts) > 3 else ("", worker)
