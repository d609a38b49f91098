"""Every worker of a study and what it does, out of its own row and of the claim that it holds.

Pure functions of rows of storage/workers.py and storage/leases.py. Called by the commands ps, resume and
those that ask for a study at rest (search/commands/care.py), by the launcher, by
search/study/run_state.py for status and the live page, and for a host by search/study/halving.py.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from search.study.text import percent, span
from storage.leases import Running
from storage.workers import Doing, Presence

SILENT_SHARE = 0.5  # of a lease, in which it is heard four times
STARTING_LEASES = 10.0  # that a worker may load libraries and images for, unheard

# HOST-SLOT-PID-TOKEN.START, of a worker in a slot (search/launcher/worker_pool.py, cluster_task.py). `hand-`
# stands before the token where `search worker --workers` has started it and no launch.
IN_SLOT = re.compile(r"(?P<host>.+)-(?P<slot>[^-]+)-\d+-(?P<by_hand>hand-)?[0-9a-f]{6}\.\d+")

# NAME-HOST-PID-TOKEN, of a single one that was started by hand (search/worker/worker.py).
BY_HAND = re.compile(r"(?P<host>.+)-\d+-[0-9a-f]{6}")


@dataclass(frozen=True)
class WorkerRow:
    """One worker. One that holds a claim may have no row of its own, and the other way round."""

    name: str
    presence: Presence | None
    running: Running | None

    @property
    def is_of_launch(self) -> bool:
        """Whether a launch has started it, and nobody by hand."""
        found = IN_SLOT.fullmatch(self.name)
        return found is not None and not found["by_hand"]

    @property
    def heard(self) -> float:
        """Seconds since it was last heard of."""
        heard = [self.running.silence] if self.running else []
        return min([*heard, *([self.presence.silence] if self.presence else [])])

    @property
    def state(self) -> str:
        """What it does, in a word of fields.PS."""
        if self.heard > self._patience:
            return "silent"
        if self.running:
            return "choosing" if self.running.number is None else "training"
        state = self.presence.state if self.presence else Doing.WAITING
        return "waiting" if state == Doing.WORKING else state.value

    @property
    def _patience(self) -> float:
        lease = self.running.lease_seconds if self.running else 0.0
        if self.presence:
            lease = max(lease, self.presence.lease_seconds)
        starts = self.running is None and self.presence is not None and self.presence.state == Doing.STARTING
        return lease * (STARTING_LEASES if starts else SILENT_SHARE)


def joined(present: Sequence[Presence], running: Sequence[Running]) -> list[WorkerRow]:
    """One row a worker: those that were started first come first."""
    claims = {one.worker: one for one in running}
    rows = [WorkerRow(one.name, one, claims.pop(one.name, None)) for one in present]
    return rows + [WorkerRow(name, None, one) for name, one in claims.items()]


@cache
def host_of(worker: str | None) -> str | None:
    """The host in the name of a worker, after what it was named by hand; None where there is none."""
    found = IN_SLOT.fullmatch(worker or "") or BY_HAND.fullmatch(worker or "")
    return found["host"] if found else None


def of_launches(present: Sequence[Presence], running: Sequence[Running]) -> list[WorkerRow]:
    """The rows of workers that launches have started and that are heard of."""
    return [row for row in joined(present, running) if row.is_of_launch and row.state != "silent"]


def for_programs(row: WorkerRow) -> dict[str, Any]:
    """Under the keys of fields.PS."""
    here, held = row.presence, row.running
    return {
        "worker": row.name,
        "state": row.state,
        "host": here.host if here else None,
        "pid": here.pid if here else None,
        "heard": row.heard,
        "device": (held.device if held else None) or (here.device if here else None),
        "trial": held.number if held else None,
        "epoch": held.epoch if held else None,
        "accuracy": held.accuracy if held else None,
        "parameters": held.parameters if held else None,
        "macs": held.macs if held else None,
        "seconds": held.since if held else None,
    }


def for_people(row: WorkerRow) -> dict[str, Any]:
    """A line of a table."""
    found = for_programs(row)
    held = row.running
    since = held.since if held else row.presence.age if row.presence else None
    return {
        "worker": row.name,
        "state": described(row),
        "accuracy": percent(found["accuracy"]),
        "for": "-" if since is None else span(since),
        "heard": f"{row.heard:.0f} s ago",
        "device": found["device"],
        "host": found["host"],
        "pid": found["pid"],
    }


def described(row: WorkerRow) -> str:
    """What it does, in words: training trial 12, epoch 3."""
    state, held = row.state, row.running
    if state == "silent":
        state = f"silent for {row.heard:.0f} s"
    elif state == "choosing":
        return "chooses a network"
    if held is None or held.number is None:
        return state
    trial = f"trial {held.number}"
    return f"{state} {trial}, epoch {held.epoch or 0}" if state == "training" else f"{state}, {trial}"
