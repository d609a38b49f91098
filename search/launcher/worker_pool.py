"""Worker processes: one fresh interpreter a slot, pinned by environment before it exists, each with a log.

Starts, watches, signals and kills them; reads the last line of their logs. A child that dies is noticed at
the next look; whether its slot gets another one is decided here, what its death means for the trial it held
is not: `on_death` is told. A slot that was closed is tried again after a minute, then every five minutes, for
an hour in vain at most. Called by search/launcher/launcher.py and worker_group.py; cluster_pool.py builds its
pool on this one.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from secrets import token_hex
from typing import ClassVar, Protocol

from search.machine import devices
from search.machine.devices import Slot
from search.machine.processes import (
    MADE_ROOM,
    WORK_DONE,
    kill_process_group,
    last_line,
    python_module,
)

DEATHS_IN_A_ROW = 3  # without a finished trial: then the slot is closed

RETRY_SECONDS = (60.0, 300.0)  # from the first closing of a slot, and from each later one, to the next try

RETRIES = 12  # in a row without a finished trial, about an hour: then the slot stays closed

MEMORY_SHORT = "the memory of its device was short beside the other workers"

SECONDS_TO_END = 15.0  # for a worker that was told to end at once

EXHAUSTED = 4  # exit code of every command whose search space holds nothing new

NOTHING_NEW = "the space holds no network that the study does not have yet"  # where no log says more

CLEAN_ENDS = (WORK_DONE, EXHAUSTED)  # another worker would have nothing to do

HOPELESS_ENDS = (0, 2, 5)  # not our worker at all, usage, environment: another one would end the same way


class WorkerProcess(Protocol):
    """A worker as its pool sees it: a subprocess.Popen here, a task where a cluster places it."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, sig: int) -> None: ...


@dataclass
class PoolSlot:
    """One slot of a device and the worker in it."""

    device: Slot  # its name, and the environment that pins a process to it
    log: Path
    process: WorkerProcess | None = None  # None while no worker lives
    worker: str = ""  # the name of the last one
    starts: int = 0
    deaths: int = 0  # in a row, without a finished trial
    closed: str | None = None  # why no other worker is started in it
    retry_at: float | None = None  # when it is tried again, by the pool's clock; None where it never is
    retry_time: str = ""  # the same on the wall, for people
    retries: int = 0  # in a row, without a finished trial
    trouble: str = ""  # why it was closed last: it stays to be read after it was opened again
    may_leave: bool = True  # to make room for the others of its device
    codes: list[int] = field(default_factory=list)  # exit codes of its workers so far

    @property
    def note(self) -> str:
        """What is out of the ordinary with it, for the board; empty for nothing."""
        if self.closed:
            again = f"; tried again at {self.retry_time}" if self.retry_at is not None else ""
            return f"{self.device.name} closed: {self.closed}{again}"
        return f"{self.device.name} was closed: {self.trouble}; tried again" if self.trouble else ""


class WorkerPool:
    """The workers of one launch. `command(worker, may_leave)` is what to run, with whether it may end to
    make room for the others of its device; `on_death(worker)` says whether it had finished a trial."""

    hopeless: ClassVar[tuple[int, ...]] = HOPELESS_ENDS  # exit codes that close a slot for good

    def __init__(
        self,
        devices: Sequence[Slot],
        logs: Path,
        command: Callable[[str, bool], list[str]],
        environment: Callable[[Mapping[str, str]], dict[str, str]],
        on_death: Callable[[str], bool],
        prefix: str,
        clock: Callable[[], float] = time.monotonic,
        by_hand: bool = False,
    ) -> None:
        """`by_hand`: they are no launch's, and their names say so (search/study/worker_rows.py)."""
        logs.mkdir(parents=True, exist_ok=True)
        self.slots = [PoolSlot(device, logs / f"{device.name}.log") for device in devices]
        self.command, self.environment, self.on_death, self.prefix = command, environment, on_death, prefix
        self.ending, self.clock = False, clock
        self.token = ("hand-" if by_hand else "") + token_hex(3)

    def start(self) -> None:
        """One worker in each slot; where none can be started the slot is closed, and says why."""
        for slot in self.slots:
            self._start(slot)

    def _start(self, slot: PoolSlot) -> None:
        slot.starts += 1
        slot.worker = f"{self.prefix}-{slot.device.name}-{os.getpid()}-{self.token}.{slot.starts}"
        try:
            slot.log.parent.mkdir(parents=True, exist_ok=True)  # it may have been deleted meanwhile
            self._open(slot)
        except OSError as error:  # no memory for a process, no space for its log
            self._close(slot, f"cannot start a worker: {error.strerror}")

    def _open(self, slot: PoolSlot) -> None:
        with slot.log.open("ab") as log:
            slot.process = subprocess.Popen(
                python_module("search", *self.command(slot.worker, slot.may_leave)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment(slot.device.environment),
                start_new_session=True,  # the terminal's Ctrl-C is the launcher's to hear
            )

    def _clear(self, process: WorkerProcess) -> None:
        """Ends what a worker that has ended may have left."""
        kill_process_group(process)

    def _said(self, slot: PoolSlot) -> str:
        """The last line of a slot's last worker. Raises OSError where there is no log."""
        return last_line(slot.log)

    @property
    def alive(self) -> list[PoolSlot]:
        """Slots whose worker has not been seen to end."""
        return [slot for slot in self.slots if slot.process is not None]

    def is_mine(self, worker: str) -> bool:
        """Whether a worker of this name is, or was, one of the pool."""
        return f"-{self.token}." in worker

    @property
    def at_work(self) -> int:
        """How many workers have a device."""
        return len(self.alive)

    @property
    def devices_in_use(self) -> int:
        """A GPU that workers share is one."""
        return devices.how_many(slot.device for slot in self.alive)

    @property
    def troubles(self) -> list[str]:
        """What is out of the ordinary, a line each, for the board."""
        return [slot.note for slot in self.slots if slot.note]

    @property
    def is_exhausted(self) -> bool:
        """Whether a worker found nothing new to train."""
        return any(EXHAUSTED in slot.codes for slot in self.slots)

    @property
    def exhausted(self) -> str | None:
        """What that worker said last; None where there is none."""
        for slot in self.slots:
            if EXHAUSTED in slot.codes:
                return self._last_words(slot).removeprefix("search: ") or NOTHING_NEW
        return None

    def _last_words(self, slot: PoolSlot) -> str:
        """What a slot's last worker said last; empty where nobody can say."""
        with suppress(OSError):  # the log may be gone, or the disk
            return self._said(slot)
        return ""

    @property
    def waiting(self) -> list[PoolSlot]:
        """Slots that were closed, and will be tried again."""
        return [slot for slot in self.slots if slot.retry_at is not None]

    def watch(self, owed: bool = True) -> None:
        """Notices who ended, and starts another where that makes sense; with `owed`, as long as something is
        left to train, in slots that were closed too. Raises what on_death does."""
        self._notice()
        for slot in self.waiting:
            if owed and not self.ending and self.clock() >= (slot.retry_at or 0.0):
                slot.closed, slot.retry_at = None, None
                slot.deaths = DEATHS_IN_A_ROW - 1  # one more closes it again
                self._start(slot)

    def _notice(self) -> None:
        for slot in self.alive:
            assert slot.process is not None
            code = slot.process.poll()
            if code is None:
                continue
            # First what may fail with the database: then this death is met again at the next look.
            finished = code in CLEAN_ENDS or self.on_death(slot.worker)
            self._clear(slot.process)
            slot.process = None
            slot.codes.append(code)
            if code in CLEAN_ENDS or self.ending:
                continue
            if code == MADE_ROOM:
                self._leave(slot)
                continue
            slot.deaths, slot.retries = (1, 0) if finished else (slot.deaths + 1, slot.retries)
            if code in self.hopeless or slot.deaths >= DEATHS_IN_A_ROW:
                foreign = "it ended without having worked: " if code == 0 else ""
                why = f"{foreign}{self._last_words(slot)} (exit code {code})".strip()
                self._close(slot, why, heals=code not in self.hopeless)
                self._replace(slot)
            else:
                self._start(slot)

    def _close(self, slot: PoolSlot, why: str, heals: bool = True) -> None:
        """Starts no other worker in a slot; where it heals, until it is tried again."""
        slot.closed = slot.trouble = why
        slot.retry_at = None
        if not heals or slot.retries >= RETRIES:
            return
        seconds = RETRY_SECONDS[min(slot.retries, len(RETRY_SECONDS) - 1)]
        slot.retries += 1
        slot.retry_at = self.clock() + seconds
        slot.retry_time = f"{datetime.now() + timedelta(seconds=seconds):%H:%M}"

    def _leave(self, slot: PoolSlot) -> None:
        """Closes the slot of a worker that made room; the last one of a device stays."""
        if self._has_others(slot):
            slot.closed = MEMORY_SHORT
        else:
            slot.may_leave = False
            self._start(slot)

    def _replace(self, broken: PoolSlot) -> None:
        """Opens a slot again that was closed to make room, where nobody is left on the device."""
        same = [slot for slot in self.slots if slot.device.environment == broken.device.environment]
        left = [slot for slot in same if slot.closed == MEMORY_SHORT]
        if left and not self._has_others(broken):
            left[0].closed, left[0].may_leave = None, False
            self._start(left[0])

    def _has_others(self, slot: PoolSlot) -> bool:
        """Whether another worker of its device lives."""
        return any(
            other.device.environment == slot.device.environment
            for other in self.alive
            if other.process and other.process.poll() is None
        )

    def signal(self, now: bool = False) -> None:
        """Drains every worker (SIGTERM), or ends it at its next batch (SIGUSR1: equal signals may merge)."""
        self.ending = True
        for slot in self.alive:
            assert slot.process is not None
            slot.process.send_signal(signal.SIGUSR1 if now else signal.SIGTERM)

    def kill(self) -> None:
        """Ends what does not end by itself, with all it has started."""
        end = time.monotonic() + SECONDS_TO_END
        for slot in self.alive:
            assert slot.process is not None
            try:
                slot.process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(slot.process.pid, signal.SIGKILL)
                slot.process.wait()
        self.watch()
