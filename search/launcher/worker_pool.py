"""Worker processes: one fresh interpreter a slot, pinned by environment before it exists, each with a log.

A child that dies is noticed at once; whether its slot gets another one is decided here, what its death means
for the trial it held is not: `on_death` is told.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex

from search.machine.devices import Slot
from search.machine.processes import (
    MADE_ROOM,
    WORK_DONE,
    kill_process_group,
    last_line,
    python_module,
)

DEATHS_IN_A_ROW = 3  # without a finished trial: then the slot is closed


MEMORY_SHORT = "the memory of its device was short beside the other workers"


SECONDS_TO_END = 15.0  # for a worker that was told to end at once


CLEAN_ENDS = (WORK_DONE, 4)  # done or stopped; the space is exhausted


HOPELESS_ENDS = (0, 2, 5)  # not our worker at all, usage, environment: another one would end the same way


@dataclass
class PoolSlot:
    """One slot and the worker in it."""

    slot: Slot
    log: Path
    process: subprocess.Popen[bytes] | None = None
    worker: str = ""
    starts: int = 0
    deaths: int = 0
    closed: str | None = None
    may_leave: bool = True
    codes: list[int] = field(default_factory=list)


class WorkerPool:
    """`command(worker, may_leave)` is what to run, with whether it may end to make room for the others of its
    device; `on_death(worker)` says whether it had finished a trial."""

    def __init__(
        self,
        slots: Sequence[Slot],
        logs: Path,
        command: Callable[[str, bool], list[str]],
        environment: Callable[[Mapping[str, str]], dict[str, str]],
        on_death: Callable[[str], bool],
        prefix: str,
    ) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self.places = [PoolSlot(slot, logs / f"{slot.name}.log") for slot in slots]
        self.command, self.environment, self.on_death, self.prefix = command, environment, on_death, prefix
        self.ending = False
        self.token = token_hex(3)

    def start(self) -> None:
        for place in self.places:
            self._start(place)

    def _start(self, place: PoolSlot) -> None:
        place.starts += 1
        place.worker = f"{self.prefix}-{place.slot.name}-{os.getpid()}-{self.token}.{place.starts}"
        try:
            self._open(place)
        except OSError as error:  # no memory for a process, no space for its log
            place.closed = f"cannot start a worker: {error.strerror}"

    def _open(self, place: PoolSlot) -> None:
        with place.log.open("ab") as log:
            place.process = subprocess.Popen(
                python_module("search", *self.command(place.worker, place.may_leave)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment(place.slot.environment),
                start_new_session=True,  # the terminal's Ctrl-C is the launcher's to hear
            )

    @property
    def alive(self) -> list[PoolSlot]:
        return [place for place in self.places if place.process is not None]

    def watch(self) -> None:
        """Notices who ended, and starts another where that makes sense."""
        for place in self.alive:
            assert place.process is not None
            code = place.process.poll()
            if code is None:
                continue
            # First what may fail with the database: then this death is met again at the next look.
            finished = code in CLEAN_ENDS or self.on_death(place.worker)
            kill_process_group(place.process)
            place.process = None
            place.codes.append(code)
            if code in CLEAN_ENDS or self.ending:
                continue
            if code == MADE_ROOM:
                self._leave(place)
                continue
            place.deaths = 1 if finished else place.deaths + 1
            if code in HOPELESS_ENDS or place.deaths >= DEATHS_IN_A_ROW:
                foreign = "it ended without having worked: " if code == 0 else ""
                place.closed = f"{foreign}{last_line(place.log)} (exit code {code})".strip()
                self._replace(place)
            else:
                self._start(place)

    def _leave(self, place: PoolSlot) -> None:
        """Closes the place of a worker that made room; the last one of a device stays."""
        if self._has_others(place):
            place.closed = MEMORY_SHORT
        else:
            place.may_leave = False
            self._start(place)

    def _replace(self, broken: PoolSlot) -> None:
        """Opens a place again that was closed to make room, where nobody is left on the device."""
        same = [place for place in self.places if place.slot.environment == broken.slot.environment]
        left = [place for place in same if place.closed == MEMORY_SHORT]
        if left and not self._has_others(broken):
            left[0].closed, left[0].may_leave = None, False
            self._start(left[0])

    def _has_others(self, place: PoolSlot) -> bool:
        """Whether another worker of its device lives."""
        return any(
            other.slot.environment == place.slot.environment
            for other in self.alive
            if other.process and other.process.poll() is None
        )

    def signal(self, now: bool = False) -> None:
        """Drains every worker (SIGTERM), or ends it at its next batch (SIGUSR1: equal signals may merge)."""
        self.ending = True
        for place in self.alive:
            assert place.process is not None
            place.process.send_signal(signal.SIGUSR1 if now else signal.SIGTERM)

    def kill(self) -> None:
        """Ends what does not end by itself, with all it has started."""
        end = time.monotonic() + SECONDS_TO_END
        for place in self.alive:
            assert place.process is not None
            try:
                place.process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(place.process.pid, signal.SIGKILL)
                place.process.wait()
        self.watch()
