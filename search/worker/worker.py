"""A worker: one process, one device, one trial after another until the study has its number.

It is told where the database is and the name of the study; all else it reads there. SIGTERM drains: the trial
at hand is finished, within the grace period. A second one ends at once. Both leave nothing running.
"""

import os
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import datetime
from secrets import token_hex

from sqlalchemy import Engine

from search.machine import gpu_pinning
from search.machine.processes import MADE_ROOM, WORK_DONE, die_with_parent
from search.machine.signals import ShutdownRequest
from search.recording import reconcile as reconciling, spool
from search.recording.outage import OUT_OF_REACH, Outage, one_line
from search.worker import trial as worker_trial
from search.worker.callbacks import Cancelled
from search.worker.context import Assignment, WorkerContext, open_context
from space.errors import ExhaustedError, LeaseLostError, ParsimonyError, StorageError
from storage import candidates, database, leases, studies
from storage.leases import NoClaim
from storage.records import State
from storage.studies import Control, Study

POLL_SECONDS = 0.5  # while others hold the trials that are left
RETRY_SECONDS = 2.0  # while the database is away
FAILURES_IN_A_ROW = 3  # then the fault is the worker's
# So many trials without enough memory beside others, of the last ten, are worse than a worker less: each
# holds all workers of the device up, because it is tried again alone.
SHORTAGES, OF_TRIALS = 2, 10


def unique_name() -> str:
    """Host and process, and a token: in containers both may be those of another worker."""
    return f"{socket.gethostname()}-{os.getpid()}-{token_hex(3)}"


def work(
    assignment: Assignment, engine: Engine, record: Study, ending: ShutdownRequest, say: Callable[[str], None]
) -> None:
    """Trains until the study has its number, a stop is asked for, or `ending` says so.

    Raises ExhaustedError, DataError, StorageError when the database stays away, and ParsimonyError after
    three failed trials in a row.
    """
    failures = 0
    shortages = deque([0], OF_TRIALS + 1)
    patience = Outage(assignment.patience_seconds, say, ending.cancelled)
    with ExitStack() as stack:
        bench = patience.insist(
            lambda: stack.enter_context(open_context(assignment, engine, record, ending, say))
        )
        while not ending.draining:
            try:
                ended = turn(assignment.name, bench)
            except OUT_OF_REACH as error:
                bench.patience.wait(error)
                continue
            bench.patience.back()
            if isinstance(ended, NoClaim):
                bench.patience.insist(
                    lambda: reconciling.reconcile(bench.study, bench.engine, bench.study_id)
                )
                return
            failures = failures + 1 if ended == State.FAILED else 0
            if failures >= FAILURES_IN_A_ROW:
                raise ParsimonyError(f"{failures} trials in a row failed here; see `search trials`")
            if ended is not None:
                shortages.append(bench.shortages)
            if assignment.make_room and shortages[-1] - shortages[0] >= SHORTAGES:
                say("leaves the device to the others: its memory was short beside them")
                raise SystemExit(MADE_ROOM)


def turn(worker: str, bench: WorkerContext) -> State | NoClaim | None:
    """One trial: how it ended, why there was none, or None where it is worth asking again."""
    spool.take_in(bench.spool, bench.study, bench.engine, bench.study_id, bench.say)
    if bench.patience.calm(bench.limits.lease_seconds):  # else living workers may not have been heard yet
        reconciling.tell_lost(bench.study, leases.reap(bench.engine, bench.study_id))
    claim = leases.claim(bench.engine, bench.study_id, worker, bench.limits.lease_seconds)
    if claim is NoClaim.WAIT or (claim is NoClaim.STOPPED and paused(bench)):
        time.sleep(POLL_SECONDS)
        return None
    if isinstance(claim, NoClaim):
        return claim
    try:
        return worker_trial.run(bench, claim)
    except LeaseLostError as error:
        bench.say(str(error))
        return None
    except Cancelled:
        return NoClaim.STOPPED
    except ExhaustedError:
        leases.release(bench.engine, claim)
        raise


def paused(bench: WorkerContext) -> bool:
    """Whether the study waits for another order, so that its workers do too."""
    return studies.find(bench.engine, bench.study.study_name).order == Control.PAUSE


def main(assignment: Assignment, name: str | None, follow: bool, parent: int | None) -> int:
    """The command `search worker`: one study, or with `follow` whatever is launched until told to end."""
    ending = ShutdownRequest(assignment.grace_seconds, parent)
    ending.listen()
    if parent is not None:
        die_with_parent(parent)
    with gpu_pinning.pinned(assignment.data_dir / "slots"):
        if follow:
            _follow(replace(assignment, patience_seconds=float("inf")), name, ending)
        else:
            _work_once(assignment, name, ending, patient=parent is not None)
    return WORK_DONE if parent is not None else ending.code


def _work_once(assignment: Assignment, name: str | None, ending: ShutdownRequest, patient: bool) -> None:
    """A launcher's worker waits for a database that its launcher has seen; one started by hand says at once
    that there is none."""
    patience = Outage(assignment.patience_seconds, say, lambda: ending.draining)
    engine = patience.insist(lambda: _ready(assignment.storage)) if patient else _ready(assignment.storage)
    try:
        record = patience.insist(lambda: studies.find(engine, name))
        say(f"works on {record.name}")
        work(assignment, engine, record, ending, say)
    finally:
        engine.dispose()


def _follow(assignment: Assignment, name: str | None, ending: ShutdownRequest) -> None:
    """Works until told to end. A database that is not up yet, or goes away, is waited for."""
    database.normalise(assignment.storage)  # what is no URL will not become one
    while engine := _reach(assignment, ending):
        try:
            _work_through(assignment, engine, name, ending)
        except OUT_OF_REACH as error:
            say(f"lost the database: {one_line(error)}")
            time.sleep(RETRY_SECONDS)
        finally:
            engine.dispose()


def _reach(assignment: Assignment, ending: ShutdownRequest) -> Engine | None:
    """The database, once it answers and has our tables. None when told to end meanwhile."""
    told = ""
    while not ending.draining:
        try:
            return _ready(assignment.storage)
        except StorageError as error:
            if str(error) != told:
                told = str(error)
                say(f"waits: {told}")
            time.sleep(RETRY_SECONDS)
    return None


def _ready(url: str) -> Engine:
    engine = database.connect(url, create=False)
    try:
        database.check(engine)
    except StorageError:
        engine.dispose()
        raise
    return engine


def _work_through(assignment: Assignment, engine: Engine, name: str | None, ending: ShutdownRequest) -> None:
    """Works on the newest study that is not done, one after another."""
    while not ending.draining:
        record = _unfinished(engine, name)
        if record is None:
            time.sleep(POLL_SECONDS)
            continue
        say(f"works on {record.name}")
        try:
            work(assignment, engine, record, ending, say)
        except ExhaustedError as error:
            say(str(error))
            studies.set_control(engine, record.id, studies.Control.STOP)


def _unfinished(engine: Engine, name: str | None) -> Study | None:
    for record in reversed(studies.all_studies(engine)):
        tally = candidates.tally(engine, record.id)
        trained = sum(tally[state] for state in candidates.TRAINED)
        if name in (None, record.name) and trained < record.trials and record.order == studies.Control.RUN:
            return record
    return None


def say(line: str) -> None:
    """One line of the worker's log. A disk without space for it is no reason to stop training."""
    text = f"{datetime.now():%Y-%m-%d %H:%M:%S} {line}\n"
    with suppress(OSError):
        os.write(
            sys.stderr.fileno(), text.encode(errors="replace")
        )  # unbuffered: nothing is owed to the disk
