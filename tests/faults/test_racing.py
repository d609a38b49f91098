"""Sixteen workers reach for the last trial at the same moment, each over connections of its own."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Barrier

import pytest
from faults import Figures
from ledger_samples import LEASE_SECONDS, epoch, make_study, outcome, proposal
from sqlalchemy import Engine

from storage import candidates, database, invariants, leases
from storage.leases import Claim, NoClaim
from storage.row_types import State
from storage.studies import Study

pytestmark = pytest.mark.faults

WORKERS = 16


@pytest.fixture
def engines(database_url: str) -> Iterator[list[Engine]]:
    with ExitStack() as stack:
        made = [database.connect(database_url) for _ in range(WORKERS)]
        for engine in made:
            stack.callback(engine.dispose)
        database.prepare(made[0])
        yield made


def race(engines: list[Engine], study: Study, gate: Barrier, index: int) -> int:
    """One worker, until the study has its number: waits at the gate, claims, trains. Returns how many."""
    engine, trained = engines[index], 0
    gate.wait(60)
    while (claim := leases.claim(engine, study.id, f"worker {index}", LEASE_SECONDS)) is not NoClaim.DONE:
        if not isinstance(claim, Claim):
            continue
        candidate = candidates.propose(
            engine, claim, proposal(claim.token, fingerprint=f"network-{claim.token}")
        )
        candidates.save_epoch(engine, claim, candidate.id, epoch(1))
        candidates.finish(engine, claim, candidate.id, State.COMPLETED, outcome=outcome(0.5, epochs=1))
        trained += 1
    return trained


@pytest.mark.thorough  # storage/test_racing.py races them
def test_sixteen_workers_and_one_trial_left(
    engines: list[Engine], keep: Callable[[Figures], None], full: bool
) -> None:
    times = 100 if full else 10
    gate, longest, total = Barrier(WORKERS), 0.0, 0
    with ThreadPoolExecutor(WORKERS) as threads:
        for turn in range(times):
            study = make_study(engines[0], trials=1, name=f"race {turn}")
            started = time.monotonic()
            trained = list(threads.map(lambda i, study=study: race(engines, study, gate, i), range(WORKERS)))
            longest = max(longest, time.monotonic() - started)
            assert sorted(trained) == [0] * (WORKERS - 1) + [1]
            assert invariants.check(engines[0], study.id) == []
            assert leases.running(engines[0], study.id) == []
            total += candidates.tally(engines[0], study.id)[State.COMPLETED]
    assert total == times
    kind = "PostgreSQL" if engines[0].dialect.name == "postgresql" else "SQLite"
    keep(Figures("16 workers race for the last trial", kind, times, times, total, 0, 0, 0, round(longest, 2)))
