"""A worker process of the storage tests: claims, proposes and finishes until nothing is left, or dies.

    python racing_worker.py URL STUDY_ID NAME dies|lives

It trains nothing. Every network is proposed twice on purpose, so that some proposals are repeats.
"""

import os
import signal
import sys
import time

from ledger_samples import LEASE_SECONDS, epoch, outcome, proposal
from sqlalchemy import Engine

from storage import candidates, database, leases
from storage.leases import Claim, NoClaim
from storage.row_types import State


def work(engine: Engine, study_id: int, name: str, dies: bool) -> None:
    while (claim := leases.claim(engine, study_id, name, LEASE_SECONDS)) not in (
        NoClaim.DONE,
        NoClaim.STOPPED,
    ):
        if isinstance(claim, Claim):
            train(engine, claim, dies)
        else:
            time.sleep(0.01)


def train(engine: Engine, claim: Claim, dies: bool) -> None:
    number = claim.token * 10
    candidates.propose(
        engine, claim, proposal(number, fingerprint="the network that all propose", over_budget="too big")
    )
    candidate = candidates.propose(
        engine, claim, proposal(number + 1, fingerprint=f"network-{claim.ordinal // 2}")
    )
    if candidate.state == State.REPEATED:
        candidate = candidates.propose(engine, claim, proposal(number + 2))
    candidates.save_epoch(engine, claim, candidate.id, epoch(1))
    if dies:
        os.kill(os.getpid(), signal.SIGKILL)
    candidates.finish(engine, claim, candidate.id, State.COMPLETED, outcome=outcome(0.5, epochs=1))


if __name__ == "__main__":
    url, study_id, name, fate = sys.argv[1:]
    store = database.connect(url)
    database.prepare(store)
    work(store, int(study_id), name, fate == "dies")
    store.dispose()
