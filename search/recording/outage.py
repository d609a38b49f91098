"""Waiting for a database that is away, and when that is too long.

Sleeps and logs; it does not touch the database itself. Called wherever rows are written or read for a study
that runs: the recorder, the worker's loop, the launcher.
"""

import logging
import sqlite3
from collections.abc import Callable
from time import monotonic, sleep
from typing import TypeVar

import optuna
from sqlalchemy.exc import (
    InterfaceError,
    InternalError,
    OperationalError,
    TimeoutError as PoolTimeout,
)

from space.errors import AccessError, StorageError, StoreGoneError, UnreachableError
from storage.database import reason

# The database, not the trial: wait and try again.
OUT_OF_REACH = (
    StorageError,
    OperationalError,
    InterfaceError,
    InternalError,
    PoolTimeout,
    optuna.exceptions.StorageInternalError,
)


RETRY_SECONDS = 1.0  # between two attempts

Answer = TypeVar("Answer")

logger = logging.getLogger(__name__)


class OutageTooLongError(StorageError):
    """The database was away for too long, or the user does not want to wait for it."""


class Outage:
    """How long the database has been away, and whether that is too long, or nobody wants to wait."""

    def __init__(self, seconds: float, cancelled: Callable[[], bool] = lambda: False) -> None:
        self.seconds, self.cancelled = seconds, cancelled
        self.notice = ""  # the line that was logged last, for a display
        self.since: float | None = None  # when a wait began
        self.missed = False  # an answer, without waiting for it
        self.returned = float("-inf")

    def wait(self, error: BaseException) -> None:
        """Waits a moment. Raises OutageTooLongError when the database was away for longer than it may, and
        StoreGoneError and AccessError, which no waiting heals, as they are."""
        if isinstance(error, OutageTooLongError | StoreGoneError | AccessError):
            raise error
        line = one_line(error)
        if self.since is None:
            self.since = monotonic()
            self._log(f"the database is away: {line}")
        if self.cancelled():
            raise OutageTooLongError(f"told to end while the database is away: {line}") from None
        if monotonic() - self.since > self.seconds:
            raise OutageTooLongError(f"the database was away for {self.seconds:.0f} s: {line}") from None
        sleep(RETRY_SECONDS)

    def insist(
        self, act: Callable[[], Answer], waits_for: Callable[[BaseException], bool] = lambda _: True
    ) -> Answer:
        """What `act`, which may be repeated, returns once the database lets it; only errors that it
        `waits_for` are waited for. Raises OutageTooLongError."""
        while True:
            try:
                answer = act()
            except OUT_OF_REACH as error:
                if not waits_for(error):
                    raise
                self.wait(error)
            else:
                self.back()
                return answer

    def miss(self) -> None:
        """It did not answer, and nobody waits for it."""
        self.missed = True

    def back(self) -> None:
        """It answered."""
        if self.since is not None:
            self._log(f"the database is back after {monotonic() - self.since:.0f} s")
        if self.since is not None or self.missed:
            self.returned = monotonic()
        self.since, self.missed = None, False

    def _log(self, line: str) -> None:
        self.notice = line
        logger.info(line)

    def calm(self, seconds: float) -> bool:
        """Whether it has answered for so long that a living worker would have been heard by now."""
        return self.since is None and not self.missed and monotonic() - self.returned > seconds


def one_line(error: BaseException) -> str:
    """What an error of the database says, without the statement."""
    return "it does not answer" if isinstance(error, TimeoutError) else reason(error)


def passes(error: BaseException) -> bool:
    """Whether a connection to a server broke, or could not be made, and nothing else is wrong."""
    if isinstance(error, optuna.exceptions.StorageInternalError) and error.__cause__:
        return passes(error.__cause__)
    of_file = isinstance(getattr(error, "orig", None), sqlite3.Error)
    return (
        isinstance(error, (UnreachableError, OperationalError, InterfaceError, PoolTimeout)) and not of_file
    )
