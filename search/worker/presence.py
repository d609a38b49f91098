"""What a worker says of itself in the ledger while it holds no trial: starting, waiting, paused.

Made by search/worker/worker.py for one study; writes storage/workers.py, from the worker's own thread, where
something changed or a quarter of a lease went by. While a trial or the second stage is trained the heartbeat
of its claim speaks instead. A database that does not answer is no matter here: whoever needs it next will
notice.
"""

import logging
import os
import socket
from contextlib import suppress
from time import monotonic
from types import TracebackType
from typing import Self

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from search.recording.outage import OUT_OF_REACH
from search.worker.heartbeat import BEATS
from storage import workers
from storage.workers import Doing

logger = logging.getLogger(__name__)

UNSAID = (*OUT_OF_REACH, SQLAlchemyError)  # the study may have been deleted too: its next claim says so

LINES = {
    Doing.WAITING: "waits: others hold the trials that are left",
    Doing.PAUSED: "paused by `search pause`: waits for `search resume`",
}


class WorkerPresence:
    """One worker at one study, as a context: its row goes with it."""

    def __init__(self, engine: Engine, study_id: int, name: str, lease_seconds: float) -> None:
        self.engine, self.study_id, self.name, self.lease_seconds = engine, study_id, name, lease_seconds
        self.device: str | None = None  # once it is known
        self._said: tuple[Doing, str | None] | None = None
        self._again = float("-inf")  # when it is said again though nothing changed

    def __enter__(self) -> Self:
        self.say(Doing.STARTING)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(*UNSAID):
            workers.leave(self.engine, self.study_id, self.name)

    def say(self, state: Doing) -> None:
        """Says what the worker does, unless it was said a moment ago."""
        if self._said == (state, self.device) and monotonic() < self._again:
            return
        self._log(state)
        with suppress(*UNSAID):
            workers.announce(
                self.engine,
                self.study_id,
                self.name,
                host=socket.gethostname(),
                pid=os.getpid(),
                state=state,
                lease_seconds=self.lease_seconds,
                device=self.device,
            )
            self._said, self._again = (state, self.device), monotonic() + self.lease_seconds / BEATS

    def _log(self, state: Doing) -> None:
        """A line where something changed."""
        before = self._said[0] if self._said else None
        if state == before:
            return
        if state in LINES:
            logger.info(LINES[state])
        elif before == Doing.PAUSED:
            logger.info("goes on: `search resume` said so")
