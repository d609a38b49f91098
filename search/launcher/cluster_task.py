"""The task that a machine of a Dask cluster runs: one worker process, from its start to its end.

Runs in a thread of a Dask worker, placed by search/launcher/cluster_pool.py. Starts `python -P -m search
worker` as a child with this machine's own data folder, gives it a log in DATA_DIR/logs/STUDY, passes on what
the launcher orders through a Dask Variable, and says how the child ended. The child has the database in its
environment and nowhere else. Of Dask it uses get_client and Variable alone, both public.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum
from importlib import import_module
from pathlib import Path
from secrets import token_hex
from typing import Any

from search import settings
from search.machine.processes import WORK_DONE, kill_process_group, last_line, python_module
from search.study import worker_logs
from search.study.versions import installed_versions
from search.study.worker_options import WorkerLimits, WorkerOptions

LOOK_SECONDS = 1.0  # between two looks at the child and at the orders

SILENT_SECONDS = 120.0  # without a word of the launcher: then it is gone, and the worker drains

LONGEST_LINE = 500  # characters of a child's last line that are told

OTHER_VERSION = 2  # exit code, as of usage: no other worker would do better on this machine


class Order(IntEnum):
    """What the workers of a launch are told; one follows another, none is taken back."""

    WORK = 0
    DRAIN = 1  # finish the trial under way
    NOW = 2  # end at the next batch
    KILL = 3


SIGNALS = {Order.DRAIN: signal.SIGTERM, Order.NOW: signal.SIGUSR1}


@dataclass(frozen=True, kw_only=True)
class ClusterTask:
    """What a machine is told. Dask may print it where a task fails: what is secret is left out of that."""

    study: str
    slot: str  # its name, as the board has it: dask0
    start: str  # TOKEN.COUNT, of the launch and of this slot's starts
    orders: str  # name of the Variable in which (Order, beat) stands
    version: str  # of Parsimony, which must be the machine's too
    limits: WorkerLimits
    data_from: str | None  # the launcher's address, where it serves the images
    device: Mapping[str, str]  # environment that limits the worker to a device
    storage: str = field(repr=False)  # URL of the database, with its password
    secrets: Mapping[str, str] = field(repr=False)  # environment that the database's driver reads

    def options(self, worker: str) -> WorkerOptions:
        """What the child is told: the launcher's limits, and this machine's folders."""
        return WorkerOptions(
            storage=self.storage,
            data_dir=settings.data_folder(),
            data=settings.data_here(),
            data_from=settings.data_from_here() or self.data_from,
            study=self.study,
            name=worker,
            parent=os.getpid(),
            **self.limits.limits(),
        )


@dataclass(frozen=True)
class Ended:
    """How a worker ended."""

    worker: str  # its name in the ledger
    code: int
    said: str  # the last line of its log
    host: str = ""


class Orders:
    """What the launcher says, as far as it can be heard."""

    def __init__(self, name: str) -> None:
        distributed: Any = import_module("distributed")  # an extra: typed in part where it is installed
        self.variable = distributed.Variable(name, client=distributed.get_client())
        self.order, self.beat, self.heard = Order.WORK, None, time.monotonic()

    def latest(self) -> Order:
        """The order that holds; DRAIN where nobody has spoken for long."""
        with suppress(Exception):  # a scheduler out of reach raises in many ways; silence decides
            order, beat = self.variable.get(timeout=LOOK_SECONDS)
            self.order = max(self.order, Order(order))
            if beat != self.beat:
                self.beat, self.heard = beat, time.monotonic()
        silent = time.monotonic() - self.heard > SILENT_SECONDS
        return max(self.order, Order.DRAIN) if silent else self.order


def run_worker(task: ClusterTask) -> Ended:
    """The whole task: one worker, as long as it lives. Raises nothing that is to be expected."""
    host = socket.gethostname()
    worker = f"{host}-{task.slot}-{os.getpid()}-{task.start}"
    version = installed_versions(("parsimony",))["parsimony"]
    if version != task.version:
        said = f"has version {version} of Parsimony, the launcher {task.version}"
        return Ended(worker, OTHER_VERSION, said, host)
    orders = Orders(task.orders)
    if orders.latest() != Order.WORK:
        return Ended(worker, WORK_DONE, "", host)
    try:
        log = _log(task)
        child = _start(task, worker, log)
    except OSError as error:
        return Ended(worker, 1, f"cannot start a worker: {error.strerror or error}", host)
    try:
        _attend(child, orders)
    finally:
        kill_process_group(child)
        child.wait()
    with suppress(OSError):
        return Ended(worker, child.returncode, last_line(log)[:LONGEST_LINE], host)
    return Ended(worker, child.returncode, "", host)


def _log(task: ClusterTask) -> Path:
    folder = worker_logs.folder(settings.data_folder(), task.study)
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{task.slot}-{token_hex(2)}.log"  # another launch may have a slot of that name here


def _start(task: ClusterTask, worker: str, log: Path) -> "subprocess.Popen[Any]":
    environment = settings.child_environment(task.storage, task.device) | dict(task.secrets)
    with log.open("ab") as out:
        return subprocess.Popen(
            python_module("search", *task.options(worker).to_argv()),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=environment,
            start_new_session=True,
        )


def _attend(child: "subprocess.Popen[Any]", orders: Orders) -> None:
    """Passes orders on until the child has ended."""
    given = Order.WORK
    while child.poll() is None:
        wanted = orders.latest()
        while given < wanted:
            given = Order(given + 1)
            if given == Order.KILL:
                kill_process_group(child)
            else:
                child.send_signal(SIGNALS[given])
        with suppress(subprocess.TimeoutExpired):
            child.wait(LOOK_SECONDS)
