"""Who trains on a device at a time: everyone together, or one alone, which needs all of its memory.

Two locked files for a device of a machine, which the kernel unlocks however a process ends. Whoever wants to
be alone closes the door, so that nobody comes in any more, and waits until the others have left.
"""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import sleep
from typing import IO

POLL_SECONDS = 0.2

Waiting = Callable[[], None]  # called while one waits; what it raises ends the wait


class DeviceLock:
    """The room of one device of this machine. Where files cannot be locked everyone has one to himself."""

    def __init__(self, folder: Path, device: str) -> None:
        self.folder, self.device = folder, device

    @contextmanager
    def together(self, waiting: Waiting) -> Iterator[None]:
        """Beside any number of others."""
        with self._files() as held:
            for file in held:
                _take(file, fcntl.LOCK_SH, waiting)
            for door in held[:1]:
                fcntl.flock(door, fcntl.LOCK_UN)
            yield

    @contextmanager
    def alone(self, waiting: Waiting) -> Iterator[None]:
        """With nobody else inside."""
        with self._files() as held:
            for file in held:
                _take(file, fcntl.LOCK_EX, waiting)
            yield

    def is_occupied(self) -> bool:
        """Whether anybody is inside, asked from outside."""
        with self._files() as held:
            try:
                for file in held[1:]:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    @contextmanager
    def _files(self) -> Iterator[list[IO[str]]]:
        """The door and the inside; neither where the folder cannot be written to."""
        with ExitStack() as stack:
            held: list[IO[str]] = []
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                for part in ("door", "inside"):
                    path = self.folder / f"{self.device}.{part}"
                    held.append(stack.enter_context(path.open("a", encoding="utf-8")))
            except OSError:
                held = []
            yield held


def _take(file: IO[str], kind: int, waiting: Waiting) -> None:
    while True:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            waiting()
            sleep(POLL_SECONDS)
