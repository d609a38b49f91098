"""A worker: one process, one device, one trial after another until the study has its number.

It is told where the database is and the name of the study; all else it reads there. SIGTERM drains:
the trial at hand is finished, within the grace period. A second one ends at once. Both leave nothing running.
"""

import ctypes
import os
import platform
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any

from sqlalchemy import Engine

from search import objective, pinning, study
from search.plan import Images, Plan, open_images
from space.architecture import Architecture
from space.errors import DeviceError, ExhaustedError, LeaseLostError, ParsimonyError, StorageError
from storage import database, leases, results, studies
from storage.leases import Answer
from storage.records import State
from storage.studies import Study
from trainer.outcome import EpochReport, Outcome

STALLED = 75  # exit code of a worker whose training hung
POLL_SECONDS = 0.5  # while others hold the trials that are left
RETRY_SECONDS = 2.0  # while the database is away
FAILURES_IN_A_ROW = 3  # then the fault is the worker's


@dataclass(frozen=True)
class Order:
    """What a worker is told."""

    storage: str
    name: str
    data_dir: Path
    data: str | None
    grace_seconds: float
    lease_seconds: float
    stall_seconds: float
    trial_seconds: float | None

    @property
    def limits(self) -> objective.Limits:
        trial = float("inf") if self.trial_seconds is None else self.trial_seconds
        return objective.Limits(self.lease_seconds, self.stall_seconds, trial)


class Ending:
    """Counts the signals to end: the first drains, the second, or the end of the grace period, cancels."""

    def __init__(self, grace_seconds: float) -> None:
        self.grace_seconds = grace_seconds
        self.signals = 0
        self.first = 0
        self.deadline = float("inf")

    def listen(self) -> None:
        """SIGINT belongs to whoever holds the terminal; a worker that was started by hand holds it."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._heard)

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        self.signals += 1
        self.first = self.first or number
        self.deadline = min(self.deadline, time.monotonic() + self.grace_seconds)

    @property
    def code(self) -> int:
        """130 after Ctrl-C, 143 after SIGTERM, else 0."""
        return 128 + self.first if self.first else 0

    @property
    def draining(self) -> bool:
        return self.signals > 0

    def cancelled(self) -> bool:
        return self.signals > 1 or time.monotonic() > self.deadline


def die_with_parent() -> None:
    """Asks Linux for a SIGTERM when the process that started this one is gone (prctl PR_SET_PDEATHSIG)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGTERM)


def abandon() -> None:
    """Ends this process though a thread of it hangs: nothing is left to save."""
    say("the training hangs: this worker ends")
    os._exit(STALLED)


def unique_name() -> str:
    """Host and process."""
    return f"{socket.gethostname()}-{os.getpid()}"


def versions() -> dict[str, Any]:
    """What a result depends on besides the plan."""
    packages = ("parsimony", "torch", "torchvision", "optuna", "numpy")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def work(order: Order, engine: Engine, record: Study, ending: Ending, say: Callable[[str], None]) -> None:
    """Trains until the study has its number, a stop is asked for, or `ending` says so.

    Raises ExhaustedError, DataError, and ParsimonyError after three failed trials in a row.
    """
    study.quiet()
    plan = Plan.of(record.settings)
    images = open_images(plan.data, order.data_dir, order.data)
    device, train = _trainer(plan, images)
    with study.opened(order.storage, record.name, plan) as opened:
        bench = objective.Bench(
            study=opened,
            engine=engine,
            study_id=record.id,
            plan=plan,
            train=train,
            limits=order.limits,
            device=device,
            versions=versions(),
            cancelled=ending.cancelled,
            abandon=abandon,
            say=say,
        )
        _use_claims(order, bench, ending)


def _use_claims(order: Order, bench: objective.Bench, ending: Ending) -> None:
    failures = 0
    while not ending.draining:
        study.recover(bench.study, leases.reap(bench.engine, bench.study_id))
        claim = leases.claim(bench.engine, bench.study_id, order.name, order.lease_seconds)
        if claim is Answer.WAIT:
            time.sleep(POLL_SECONDS)
            continue
        if isinstance(claim, Answer):
            return
        try:
            state = objective.run(bench, claim)
        except LeaseLostError as error:
            bench.say(str(error))
            continue
        except objective.Cancelled:
            return
        except ParsimonyError:
            leases.release(bench.engine, claim)
            raise
        failures = failures + 1 if state == State.FAILED else 0
        if failures >= FAILURES_IN_A_ROW:
            raise ParsimonyError(f"{failures} trials in a row failed here; `search trials` has the reasons")


def _trainer(plan: Plan, images: Images) -> tuple[str, objective.Train]:
    import torch

    from trainer import loop

    torch.set_num_threads(max(1, int(os.environ.get("OMP_NUM_THREADS", "1"))))
    device = loop.select_device(None)
    if device.type == "cpu" and os.environ.get("CUDA_VISIBLE_DEVICES"):
        raise DeviceError(f"GPU {os.environ['CUDA_VISIBLE_DEVICES']} was given, but torch finds none")

    def train(
        architecture: Architecture,
        seed: int,
        *,
        on_epoch: Callable[[EpochReport], None],
        on_batch: Callable[[int, int], None],
    ) -> Outcome:
        return loop.train(
            architecture,
            plan.recipe,
            images.dataset,
            images.split,
            seed=seed,
            device=device,
            on_epoch=on_epoch,
            on_batch=on_batch,
        )

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine() + " CPU"
    return name, train


def main(order: Order, name: str | None, follow: bool, child: bool) -> int:
    """The command `search worker`: one study, or with `follow` whatever is launched until told to end."""
    if child:
        die_with_parent()
    ending = Ending(order.grace_seconds)
    ending.listen()
    with pinning.pinned(order.data_dir / "slots"):
        if follow:
            _follow(order, name, ending)
        else:
            _work_once(order, name, ending)
    return 0 if child else ending.code


def _work_once(order: Order, name: str | None, ending: Ending) -> None:
    engine = _ready(order.storage)
    try:
        record = studies.find(engine, name)
        say(f"works on {record.name}")
        work(order, engine, record, ending, say)
    finally:
        engine.dispose()


def _follow(order: Order, name: str | None, ending: Ending) -> None:
    """Works until told to end. A database that is not up yet, or goes away, is waited for."""
    database.normalise(order.storage)  # what is no URL will not become one
    while engine := _reach(order, ending):
        try:
            _work_through(order, engine, name, ending)
        except objective.OUT_OF_REACH as error:
            say(f"lost the database: {str(error).splitlines()[0]}")
            time.sleep(RETRY_SECONDS)
        finally:
            engine.dispose()


def _reach(order: Order, ending: Ending) -> Engine | None:
    """The database, once it answers and has our tables. None when told to end meanwhile."""
    told = ""
    while not ending.draining:
        try:
            return _ready(order.storage)
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


def _work_through(order: Order, engine: Engine, name: str | None, ending: Ending) -> None:
    """Works on the newest study that is not done, one after another."""
    while not ending.draining:
        record = _unfinished(engine, name)
        if record is None:
            time.sleep(POLL_SECONDS)
            continue
        say(f"works on {record.name}")
        try:
            work(order, engine, record, ending, say)
        except ExhaustedError as error:
            say(str(error))
            studies.give_order(engine, record.id, studies.Order.STOP)


def _unfinished(engine: Engine, name: str | None) -> Study | None:
    for record in reversed(studies.all_studies(engine)):
        tally = results.tally(engine, record.id)
        trained = sum(tally[state] for state in results.TRAINED)
        if name in (None, record.name) and trained < record.trials and record.order == studies.Order.RUN:
            return record
    return None


def say(line: str) -> None:
    """One line of the worker's log."""
    sys.stderr.write(f"{datetime.now():%Y-%m-%d %H:%M:%S} {line}\n")
    sys.stderr.flush()
