"""The workers of a launch on the machines of a Dask cluster: a task a slot, of one GPU or CPU each.

A WorkerPool whose processes are tasks (cluster_task.py): Dask places them, and places them again where their
machine is gone; what they held meanwhile runs out by its lease. Called by search/launcher/launcher.py.
"""

import signal
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from subprocess import TimeoutExpired
from threading import Thread
from typing import Any, ClassVar

from search import settings
from search.launcher.cluster import PREFIX, Cluster
from search.launcher.cluster_task import ClusterTask, Ended, Order, run_worker
from search.launcher.worker_pool import EXHAUSTED, SECONDS_TO_END, PoolSlot, WorkerPool, WorkerProcess
from search.machine.devices import Slot
from search.machine.processes import WORK_DONE
from search.study.text import counted
from search.study.versions import installed_versions
from search.study.worker_options import WorkerLimits, WorkerOptions

KILLED = 137  # exit code of a worker whose Dask workers died with it, one after another

NO_IMAGES = 5  # exit code of a worker whose machine lacks images, GPU or database

SECONDS_TO_KILL = 5.0  # for the tasks to hear the last order

# How many workers more the database has connections for beside those that are placed, by slot and start.
Room = Callable[[Collection[tuple[str, str]]], int | None]

ANSWER_SECONDS = 30.0  # that a machine may take to hand over how its task ended; then it is asked again


@dataclass
class RemoteWorker:
    """One task. Its end is that of the worker on some machine.

    How it ended lies on that machine, which may be cut off: a thread of its own fetches that, and nobody here
    waits for it.
    """

    future: Any  # distributed.Future
    cluster: Cluster
    heard: Callable[[Ended], None]  # told before anybody acts on how it ended
    given_up: bool = False
    pid: int = 0
    _answer: Ended | None = field(default=None, init=False)
    _asking: Thread | None = field(default=None, init=False)

    @property
    def is_lost(self) -> bool:
        """Whether the scheduler knows the task no more, though nobody here took it back."""
        done = self.given_up or self._answer is not None
        return not done and self.future.status in ("cancelled", "lost")

    def ended(self) -> Ended | None:
        """How it ended; None while it has not, or nobody here knows yet, or it must be placed again."""
        if self.given_up:
            return Ended("", WORK_DONE, "")
        has_ended = self.future.status in ("finished", "error")
        if has_ended and self._answer is None and not (self._asking and self._asking.is_alive()):
            self._asking = Thread(target=self._ask, name="answer of a worker", daemon=True)
            self._asking.start()
        return self._answer

    def _ask(self) -> None:
        """Fetches how it ended; where nothing comes, the next look asks again."""
        with suppress(Exception):  # a machine or a scheduler out of reach raises in many ways
            if self.future.status == "error":
                self._answer = _failed(self.future.exception(timeout=ANSWER_SECONDS))
            else:
                self._answer = self.future.result(timeout=ANSWER_SECONDS)

    def poll(self) -> int | None:
        ended = self.ended()
        if ended is None:
            return None
        self.heard(ended)
        return ended.code

    def wait(self, timeout: float | None = None) -> int:
        """The exit code. Raises subprocess.TimeoutExpired as a process does."""
        end = time.monotonic() + (timeout if timeout is not None else float("inf"))
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                raise TimeoutExpired("worker", timeout or 0.0)
            time.sleep(0.05)
        return code

    def send_signal(self, sig: int) -> None:
        """SIGTERM drains, anything else ends at once: all workers of the launch, which hear one word."""
        self.cluster.say(Order.DRAIN if sig == signal.SIGTERM else Order.NOW)

    def give_up(self) -> None:
        """Takes back a task that has no place, or is not heard of any more."""
        self.given_up = True
        self.future.release()


def _failed(error: BaseException) -> Ended:
    """What Dask says of a task that did not come to its end."""
    if type(error).__name__ == "KilledWorker":
        return Ended("", KILLED, "the Dask workers that ran it died, one after another")
    if isinstance(error, ImportError):
        return Ended("", 2, f"a machine of the cluster cannot load Parsimony: {error}")
    return Ended("", 1, str(error).splitlines()[0] if str(error) else type(error).__name__)


class ClusterPool(WorkerPool):
    """The workers of one launch, wherever the cluster has a place for them."""

    # One machine without images may be followed by one that has them.
    hopeless: ClassVar[tuple[int, ...]] = (0, 2)

    def __init__(
        self,
        cluster: Cluster,
        slots: list[Slot],
        options: WorkerOptions,
        logs: Path,
        on_death: Callable[[str], bool],
        *,
        resource: str,
        grows: bool = False,
        room: Room = lambda _: None,
        away_seconds: float = settings.DATABASE_TIMEOUT_SECONDS,
    ) -> None:
        """`grows`: a slot more for each that the cluster comes to offer and the database has `room` for; the
        cluster may be away `away_seconds`."""
        super().__init__(slots, logs, lambda *_: [], lambda _: {}, on_death, PREFIX.strip("-"))
        self.cluster, self.options, self.resource = cluster, options, resource
        self.grows, self.room, self.away_seconds = grows, room, away_seconds
        self.without_room = 0  # places of the cluster for whose workers the database has no connection
        self.last_words: dict[str, str] = {}  # by slot

    def start(self) -> None:
        self.cluster.start()
        super().start()

    def _open(self, slot: PoolSlot) -> None:
        start = self._start_of(slot)
        task = ClusterTask(
            study=self.options.study or "",
            slot=slot.device.name,
            start=start,
            orders=self.cluster.orders,
            version=installed_versions(("parsimony",))["parsimony"],
            limits=WorkerLimits(**self.options.limits()),  # of the record with the URL nothing else
            data_from=self.options.data_from,
            device=slot.device.environment,
            storage=self.options.storage,
            secrets=settings.database_secrets(),
        )
        try:
            future = self.cluster.client.submit(
                run_worker,
                task,
                key=self.cluster.key(slot.device.name, start),
                resources={self.resource: 1},
                pure=False,
                retries=0,
            )
        except Exception as error:  # a client that has just lost its scheduler
            raise OSError(0, f"{type(error).__name__}: {error}") from error
        slot.process = RemoteWorker(future, self.cluster, partial(self._hear, slot))

    def _clear(self, process: WorkerProcess) -> None:
        if isinstance(process, RemoteWorker):
            process.future.release()

    def _said(self, slot: PoolSlot) -> str:
        return self.last_words.get(slot.device.name, "")

    def watch(self, owed: bool = True) -> None:
        """As that of a pool here; places again what a broken connection lost, and grows. Once nothing is owed
        the workers drain, and what has no place is taken back."""
        if not owed and not self.ending:
            self.signal()
        if self.cluster.is_up:
            self._place_again()
            self._grow(owed)
        elif time.monotonic() - self.cluster.lost_since > self.away_seconds:
            self._give_up(f"the scheduler at {self.cluster.address} is out of reach")
        super().watch(owed)

    def _hear(self, slot: PoolSlot, ended: Ended) -> None:
        """Keeps the last words of a worker that has ended, and the name by which it held its trial."""
        slot.worker = ended.worker
        where = f"{ended.host}: " if ended.host and ended.code != EXHAUSTED else ""
        self.last_words[slot.device.name] = where + ended.said

    def _place_again(self) -> None:
        for slot in self.alive:
            process = slot.process
            if not isinstance(process, RemoteWorker):
                continue
            if self.ending and (process.is_lost or self._has_no_place(slot)):
                process.give_up()
            elif process.is_lost:
                slot.process = None  # where no other can be started the slot is closed, and nothing is in it
                self._start(slot)

    def _has_no_place(self, slot: PoolSlot) -> bool:
        """Whether no machine has its task, as of a look after the last word to all."""
        process = slot.process
        return (
            isinstance(process, RemoteWorker)
            and self.cluster.told >= Order.DRAIN
            and process.future.status == "pending"
            and process.future.key not in self.cluster.keys
        )

    def _grow(self, owed: bool) -> None:
        """A slot more for each place that is new. Raises what `room` does."""
        offered = self.cluster.offer.slots(self.resource) - len(self.slots)
        self.without_room = 0
        if not self.grows or not owed or self.ending or offered <= 0:
            return
        room = self.room([(slot.device.name, self._start_of(slot)) for slot in self.alive])
        more = offered if room is None else min(offered, room)
        self.without_room = offered - more
        for _ in range(more):
            self.slots.append(PoolSlot(_slot(len(self.slots), self.resource), self.slots[0].log))
            self._start(self.slots[-1])

    def _start_of(self, slot: PoolSlot) -> str:
        """Of the worker in it: with the slot's name what tells it from all others."""
        return f"{self.token}.{slot.starts}"

    def _give_up(self, why: str) -> None:
        for slot in [*self.alive, *self.waiting]:
            if isinstance(slot.process, RemoteWorker):
                slot.process.give_up()
            slot.process = None
            self._close(slot, why, heals=False)

    @property
    def waiting(self) -> list[PoolSlot]:
        """As of a pool here; nobody is tried again where every machine lacked what a worker needs."""
        codes = {code for slot in self.slots for code in slot.codes}
        if not self.alive and codes == {NO_IMAGES}:
            return []
        return super().waiting

    @property
    def at_work(self) -> int:
        return min(len(self.alive), self.cluster.at_work)

    @property
    def devices_in_use(self) -> int:
        return self.at_work  # a worker takes a resource of its own

    @property
    def troubles(self) -> list[str]:
        notes = super().troubles
        if self.cluster.lost_since < time.monotonic():
            return [*notes, f"the scheduler at {self.cluster.address} does not answer: workers there go on"]
        without = len(self.alive) - self.at_work
        if without > 0 and not self.ending:
            notes.append(f"{without} of {len(self.alive)} workers wait for a machine of the cluster")
        if self.without_room:
            places = counted(self.without_room, "place")
            notes.append(f"{places} of the cluster not used: the database server has no connections left")
        return notes

    def signal(self, now: bool = False) -> None:
        self.ending = True
        self.cluster.say(Order.NOW if now else Order.DRAIN)

    def kill(self) -> None:
        """Ends what does not end by itself; lets go of what is not heard of any more."""
        self.ending = True
        for order, seconds in ((Order.NOW, SECONDS_TO_END), (Order.KILL, SECONDS_TO_KILL)):
            self.cluster.say(order)
            end = time.monotonic() + seconds
            while time.monotonic() < end and any(
                one.process and one.process.poll() is None for one in self.alive
            ):
                time.sleep(0.1)
        for slot in self.alive:
            if isinstance(slot.process, RemoteWorker) and slot.process.poll() is None:
                slot.process.give_up()
        self.watch()


def slots(count: int, resource: str) -> list[Slot]:
    """So many slots of a cluster."""
    return [_slot(number, resource) for number in range(count)]


def _slot(number: int, resource: str) -> Slot:
    # The GPU of a worker is its machine's to choose: dask-cuda's, or the one that the fewest others hold.
    environment: Mapping[str, str] = {"CUDA_VISIBLE_DEVICES": ""} if resource == "CPU" else {}
    return Slot(f"dask{number}", dict(environment))
