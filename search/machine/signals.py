"""How a process of this program hears SIGINT, SIGTERM and SIGUSR1: the only module that sets signal handlers.

Three ways: a launcher counts (Interrupts), a worker drains and then cancels, or leaves by an exception while
it holds nothing yet (ShutdownRequest), a full training leaves by an exception (sigterm_raises). Handlers are
set in the main thread, by listen() or the context alone.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGTERM_CODE = 128 + signal.SIGTERM  # as a shell reports it
HEARD_AGAIN_SECONDS = 0.01  # after a signal whose exception was lost


class Interrupts:
    """Ctrl-C and SIGTERM as they were heard: how many, and which came first (0 for none)."""

    def __init__(self) -> None:
        self.count, self.first = 0, 0

    def listen(self) -> None:
        """From now on these signals are counted and end nothing.

        Raises ValueError outside the main thread.
        """
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._heard)

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        self.count += 1
        self.first = self.first or number

    @property
    def code(self) -> int:
        """130 after Ctrl-C, 143 after SIGTERM, else 0."""
        return 128 + self.first if self.first else 0


class ToldToEnd(BaseException):
    """A signal, while this process holds nothing that it would have to finish."""


class ShutdownRequest(Interrupts):
    """How a worker is told to end: the first signal drains, the second, or the end of the grace period,
    cancels. Within ends_at_once() the first one raises.

    Under a launcher that lives its word counts alone: a batch system tells every process, and the launcher
    passes that on, so that a worker hears one and the same request twice. Its second word is SIGUSR1.
    """

    def __init__(self, grace_seconds: float, parent: int | None = None) -> None:
        super().__init__()
        self.grace_seconds, self.parent = grace_seconds, parent
        self.deadline = float("inf")  # of the trial under way, by time.monotonic()
        self._raises = False

    def listen(self) -> None:
        """A launcher's children never hear Ctrl-C themselves; a worker started by hand does."""
        super().listen()
        signal.signal(signal.SIGUSR1, self._at_once)

    def _at_once(self, _number: int, _frame: FrameType | None) -> None:
        self.count = max(2, self.count)
        self.first = self.first or signal.SIGTERM
        self._raise_where_wanted()

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if self.count and self.parent is not None and os.getppid() == self.parent:
            return
        super()._heard(number, frame)
        self.deadline = min(self.deadline, time.monotonic() + self.grace_seconds)
        self._raise_where_wanted()

    def _raise_where_wanted(self) -> None:
        if self._raises:
            raise ToldToEnd

    @contextmanager
    def ends_at_once(self) -> Iterator[None]:
        """Within, a signal raises ToldToEnd in the main thread, one that was heard before too: what waits for
        a lock, or reads for minutes, asks nobody whether it is to end."""
        self._raises = True
        try:
            if self.draining:
                raise ToldToEnd
            yield
        finally:
            self._raises = False

    @property
    def draining(self) -> bool:
        """Whether no other trial is to be started."""
        return self.count > 0

    def cancelled(self) -> bool:
        """Whether the trial under way is to end at its next batch."""
        return self.count > 1 or time.monotonic() > self.deadline


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Within, SIGTERM raises SystemExit(143) in the main thread, and neither that nor Ctrl-C is lost.

    A signal that is heard while Python lets go of an object (in __del__, or the callback of a weak reference)
    raises where nobody can catch it, and would be printed and forgotten: it is sent again.
    """

    def end(_signal: int, _frame: object) -> None:
        raise SystemExit(SIGTERM_CODE)

    def hear_again(lost: "sys.UnraisableHookArgs") -> None:
        number = {SystemExit: signal.SIGTERM, KeyboardInterrupt: signal.SIGINT}.get(lost.exc_type)
        if number is None:
            hook_before(lost)
        else:
            again = threading.Timer(HEARD_AGAIN_SECONDS, os.kill, (os.getpid(), number))
            again.daemon = True
            again.start()

    before, hook_before = signal.signal(signal.SIGTERM, end), sys.unraisablehook
    sys.unraisablehook = hear_again
    try:
        yield
    finally:
        sys.unraisablehook = hook_before
        signal.signal(signal.SIGTERM, before)
