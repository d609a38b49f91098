"""How a worker is told to end: signals, and the death of whoever started it."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class ShutdownRequest:
    """Counts the signals to end: the first drains, the second, or the end of the grace period, cancels.

    Under a launcher that lives its word counts alone: a batch system tells every process, and the launcher
    passes that on, so that a worker hears one and the same request twice.
    """

    def __init__(self, grace_seconds: float, parent: int | None = None) -> None:
        self.grace_seconds, self.parent = grace_seconds, parent
        self.signals = 0
        self.first = 0
        self.deadline = float("inf")

    def listen(self) -> None:
        """A launcher's children never hear Ctrl-C themselves; a worker started by hand does."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._heard)
        signal.signal(signal.SIGUSR1, self._at_once)

    def _at_once(self, _number: int, _frame: FrameType | None) -> None:
        self.signals = max(2, self.signals)
        self.first = self.first or signal.SIGTERM

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        if self.signals and self.parent is not None and os.getppid() == self.parent:
            return
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


SIGTERM_CODE = 143


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Within, SIGTERM raises SystemExit(143) in the main thread."""

    def end(_signal: int, _frame: object) -> None:
        raise SystemExit(SIGTERM_CODE)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
