"""Renews the lease of a training while batches go by, and notices when they no longer do.

Made by search/worker/callbacks.py; writes the lease in the ledger and reads the study's control there. A
thread beside the training. It lives as long as the trial, and renews only what makes progress: a training
that hangs loses its lease like one that is dead. It does not know what a trial is.
"""

import logging
import threading
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import Self

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from space.errors import LeaseLostError, StorageError
from storage import leases
from storage.leases import Claim
from storage.studies import Control

logger = logging.getLogger(__name__)

HEARD = {
    Control.RUN: "told to go on",
    Control.PAUSE: "told to pause: finishes its trial first",
    Control.STOP: "told to stop: finishes its trial first",
    Control.STOP_NOW: "told to end now",
    Control.GAVE_UP: "the search ended by itself: finishes its trial first",
}

BEATS = 4  # renewals in the time of a lease
STOPPED = 2.0  # times as long as a pause was to be: then this process was stopped, and nothing in it hangs
JOIN_SECONDS = 1.0  # a renewal may hang with the database; the result of a training does not wait for it


class Heartbeat:
    """The thread of one trial, as a context.

    `on_stall` is called, in the thread, when no progress was made for `stall_seconds`.
    """

    def __init__(
        self,
        engine: Engine,
        claim: Claim,
        lease_seconds: float,
        stall_seconds: float,
        on_stall: Callable[[], None],
    ) -> None:
        self.engine, self.claim, self.lease_seconds = engine, claim, lease_seconds
        self.stall_seconds, self.on_stall = stall_seconds, on_stall
        self.lost = False
        self.cancelled = False
        self.order = Control.RUN  # as it was heard last
        self._moved, self._over = monotonic(), threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(JOIN_SECONDS)

    def progress(self) -> None:
        """Says that something moved. Raises LeaseLostError where the claim has gone meanwhile."""
        self._moved = monotonic()
        if self.lost:
            raise leases.lost(self.claim)

    def _beat(self) -> None:
        pause = min(self.lease_seconds / BEATS, self.stall_seconds / 2)
        while not self._wait(pause):
            if monotonic() - self._moved > self.stall_seconds:
                self.on_stall()
                return
            try:
                self._hear(leases.renew(self.engine, self.claim, self.lease_seconds))
            except LeaseLostError:
                self.lost = True
                return
            except (StorageError, SQLAlchemyError):
                continue  # the database is away: the training goes on, and finds out when it has a result

    def _wait(self, seconds: float) -> bool:
        """Waits for the end of the training, and returns whether it came. A process that was stopped
        meanwhile (SIGSTOP, docker pause, a job that Slurm suspends) has the whole time to move again."""
        began = monotonic()
        over = self._over.wait(seconds)
        if monotonic() - began > STOPPED * seconds:
            self._moved = monotonic()
        return over

    def _hear(self, order: Control) -> None:
        """Notes what the study's workers are told, with a line where that changed."""
        if order != self.order:
            logger.info(HEARD[order])
        self.order, self.cancelled = order, order == Control.STOP_NOW
