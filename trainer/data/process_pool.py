"""Runs a function over parts of a long list, on all cores where there is much to do, and says how far it is.

Starts processes and ends them; writes progress to stderr. Called by trainer/data/survey.py and
trainer/data/picture_folder.py, which read pictures in parts.
"""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess
from typing import TypeVar

from space.errors import DataError

Item = TypeVar("Item")
Result = TypeVar("Result")

PART = 250  # items that a process is handed at a time
WORTH_PROCESSES = 2_000  # items; below, the start of processes takes longer than the work
TERMINAL_SECONDS = 2.0  # after which a terminal is told, and told again
LOG_SECONDS = 10.0  # the same where there is none; work that is shorter says nothing
GUARD = 'A script that loads data does so under `if __name__ == "__main__":`, as its processes import it'


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parts(items: Sequence[Item]) -> list[Sequence[Item]]:
    """The items in parts of PART, in their order."""
    return [items[i : i + PART] for i in range(0, len(items), PART)]


def over_parts(
    function: Callable[[Sequence[Item]], Result], items: Sequence[Item], doing: str
) -> Iterator[Result]:
    """What the function, which is sent to other processes, makes of each part, in order.

    Raises what the function raises, and DataError where a process was killed or could not start.
    """
    progress = _Progress(doing, len(items))
    in_parts = parts(items)
    if len(items) < WORTH_PROCESSES or cores() == 1 or multiprocessing.current_process().daemon:
        results: Iterator[Result] = map(function, in_parts)
        yield from progress.over(results)
        return
    # Fresh interpreters: a fork of a process that runs threads, as torch does, can hang.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(cores(), mp_context=context, initializer=_leave_interrupts_to_the_parent)
    started: list[BaseProcess] = []
    try:
        results = pool.map(function, in_parts)
        started += multiprocessing.active_children()
        yield from progress.over(results)
    except BrokenProcessPool as error:
        pool.shutdown()  # after which all have ended
        raise DataError(f"{doing}: {_why_broken(started)}") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _why_broken(started: Sequence[BaseProcess]) -> str:
    """A process that imports a script which starts processes itself ends with 1, one that is killed with a
    signal."""
    if any((process.exitcode or 0) > 0 for process in started):
        return f"a process could not start; why stands above. {GUARD}"
    return "a process was killed, perhaps for lack of memory; try again"


def is_starting() -> bool:
    """Whether this process was started by another one's pool and is importing that one's script."""
    return getattr(multiprocessing.current_process(), "_inheriting", False)


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class _Progress:
    """How much is done, on stderr: one line that changes on a terminal, else a line now and then."""

    def __init__(self, doing: str, total: int) -> None:
        self.doing, self.total = doing, total
        self.started = self.said = time.monotonic()
        self.terminal = sys.stderr.isatty()

    def over(self, results: Iterator[Result]) -> Iterator[Result]:
        done = 0
        for result in results:
            yield result
            done = min(done + PART, self.total)
            self._say(done)
        if self.said > self.started and self.terminal:
            sys.stderr.write("\n")

    def _say(self, done: int) -> None:
        now = time.monotonic()
        pause = TERMINAL_SECONDS if self.terminal else LOG_SECONDS
        if now - self.started < pause or (now - self.said < pause and done < self.total):
            return
        self.said = now
        line = f"{self.doing}: {done:,} of {self.total:,} ({now - self.started:.0f} s)"
        sys.stderr.write(f"\r{line}" if self.terminal else f"{line}\n")
        sys.stderr.flush()
