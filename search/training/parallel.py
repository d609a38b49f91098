"""Runs `search train` processes side by side, one a slot, until all are done.

Each child gets its arguments, a device by its environment and a log file; it does not know of the others.
Called by search/training/confirm.py and benchmarks/published.py.
"""

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from search import settings
from search.machine import signals
from search.machine.devices import Slot
from search.machine.processes import last_line, python_module

PAUSE_SECONDS = 0.2


@dataclass(frozen=True)
class TrainingProcess:
    """One training: its name, the arguments of `search train`, and the file for what it says."""

    name: str
    arguments: tuple[str, ...]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)  # more than every child has


@dataclass(frozen=True)
class FinishedProcess:
    """How a training ended; `last` is the last that it said."""

    work: TrainingProcess
    code: int
    last: str


def run(
    works: Sequence[TrainingProcess],
    slots: Sequence[Slot],
    storage: str,
    on_done: Callable[[FinishedProcess], None],
    on_look: Callable[[Sequence[str]], None] = lambda _: None,
) -> list[FinishedProcess]:
    """All of them, as many at a time as there are slots; on_look gets the names of those that run, a few
    times a second. An interruption ends those that run, and passes."""
    waiting, free = list(works), list(slots)
    running: list[tuple[TrainingProcess, Slot, subprocess.Popen[bytes]]] = []
    ended: list[FinishedProcess] = []
    with signals.sigterm_raises():
        try:
            while waiting or running:
                while waiting and free:
                    work, slot = waiting.pop(0), free.pop(0)
                    running.append((work, slot, _start(work, slot, storage)))
                on_look([work.name for work, _, _ in running])
                time.sleep(PAUSE_SECONDS)
                for one in [one for one in running if one[2].poll() is not None]:
                    work, slot, process = one
                    running.remove(one)
                    free.append(slot)
                    ended.append(FinishedProcess(work, process.returncode, last_line(work.log)))
                    on_done(ended[-1])
        finally:
            for _, _, process in running:
                process.terminate()
            for _, _, process in running:
                process.wait()
    return ended


def _start(work: TrainingProcess, slot: Slot, storage: str) -> subprocess.Popen[bytes]:
    work.log.parent.mkdir(parents=True, exist_ok=True)
    with work.log.open("wb") as log:
        return subprocess.Popen(
            python_module("search", "train", *work.arguments),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=settings.child_environment(storage, slot.environment) | dict(work.environment),
            start_new_session=True,  # the terminal's Ctrl-C is heard here
        )
