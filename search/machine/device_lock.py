"""A readers-writer lock for each device, between the processes of one machine (flock).

Trainings of workers take it shared; a trial retried after running out of memory takes it exclusively.
`search train` takes none: it may last for hours, and a retry that waited for it would keep all workers out.
Two files for a device, DATA_DIR/slots/DEVICE.door and .inside, which the kernel unlocks however a process
ends: whoever wants the device exclusively locks the door, so that nobody comes in any more, and waits until
the others have left.
Made in search/worker/context.py, taken in search/worker/attempt.py; gpu_choice.py beside it uses try_lock.
"""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from time import sleep
from typing import IO

POLL_SECONDS = 0.2  # between two looks whether a lock is free

Waiting = Callable[[], None]  # called at each look while one waits; what it raises ends the wait


class DeviceLock:
    """The lock of one device. Where no file can be written or locked, nobody is kept out."""

    def __init__(self, folder: Path, device: str) -> None:
        """`device` is part of a file's name: see gpu_choice.device_name."""
        self.folder, self.device = folder, device

    @contextmanager
    def shared(self, waiting: Waiting) -> Iterator[None]:
        """Beside any number of others. Raises what `waiting` does."""
        with self._files() as held:
            for file in held:
                _take(file, fcntl.LOCK_SH, waiting)
            for door in held[:1]:
                with suppress(OSError):
                    fcntl.flock(door, fcntl.LOCK_UN)
            yield

    @contextmanager
    def exclusive(self, waiting: Waiting) -> Iterator[None]:
        """With nobody else inside. Raises what `waiting` does."""
        with self._files() as held:
            for file in held:
                _take(file, fcntl.LOCK_EX, waiting)
            yield

    def is_occupied(self) -> bool:
        """Whether anybody is inside, asked from outside."""
        with self._files() as held:
            return not all(_lock_if_free(file, fcntl.LOCK_EX) for file in held[1:])

    @contextmanager
    def _files(self) -> Iterator[list[IO[str]]]:
        """The door and the inside; neither where the folder cannot be written to."""
        with ExitStack() as stack:
            held: list[IO[str]] = []
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                for part in ("door", "inside"):  # NFS locks shared only what is open for reading too
                    path = self.folder / f"{self.device}.{part}"
                    held.append(stack.enter_context(path.open("a+", encoding="utf-8")))
            except OSError:
                held = []
            yield held


def try_lock(file: IO[str], kind: int = fcntl.LOCK_EX) -> bool:
    """Locks an open file until it is closed; False where another process holds it. Raises OSError."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _take(file: IO[str], kind: int, waiting: Waiting) -> None:
    while not _lock_if_free(file, kind):
        waiting()
        sleep(POLL_SECONDS)


def _lock_if_free(file: IO[str], kind: int) -> bool:
    """As try_lock(), and True where files of this folder cannot be locked at all."""
    try:
        return try_lock(file, kind)
    except OSError:
        return True
