"""Queues one training's epochs and its end for the thread that writes them (search/recording/writer.py), into
the ledger and, those of a trial, into Optuna's tables too.

The training waits at most ANSWER_SECONDS for the answer to a message, then goes on without one and without
pruning; where it waited in vain it waits that long again only after ten times as long. While the database is
unreachable all messages are kept in the spool file too; the end of the trial is insisted on, up to the
worker's --database-timeout. Called by search/worker/callbacks.py, in the training's thread and in that of the
heartbeat.
"""

import logging
import threading
from concurrent.futures import Future
from pathlib import Path
from time import monotonic

from search.recording.outage import OUT_OF_REACH, Outage, one_line
from search.recording.spool import Spool, TrialEnd
from search.recording.writer import Inbox, Message, Posted, Restart, Rows, write_messages
from space.errors import LeaseLostError
from storage import leases
from storage.row_types import Epoch, State, TrainingMetrics

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 5.0  # that a training waits for an entry
HANGING_SECONDS = 0.1  # the same where the one before was waited for in vain a moment ago
SHARE = 10  # a wait in vain is repeated after so many times its length


class TrialRecorder:
    """What a training tells of one trial. Methods raise LeaseLostError once the trial is somebody else's."""

    def __init__(self, rows: Rows, spool: Path, outage: Outage) -> None:
        """`spool` is the folder for the file of this training. Starts the thread that writes."""
        self.rows = rows
        self.outage = outage
        self.spool = Spool(spool, rows.claim)
        self._lock = threading.Lock()  # over the next four and the file: a stall is written by another thread
        self._epochs: dict[int, Epoch] = {}  # posted since the last restart, by their number
        self._end: TrialEnd | None = None
        self._spool_refused = False  # as was said
        self._waits_again = float("-inf")  # when an answer is waited for again, by monotonic()
        self._inbox: Inbox = Inbox()
        # A daemon: one that hangs with the database does not hold up the end of the process.
        threading.Thread(
            target=write_messages, args=(self.rows, self._inbox), name="recorder", daemon=True
        ).start()

    def post_epoch(self, epoch: Epoch) -> bool:
        """Queues an epoch for the writer, which asks the pruner. Returns whether that stops the trial; False
        while nobody can say."""
        answer = self._post(epoch)
        seconds = ANSWER_SECONDS if monotonic() > self._waits_again else HANGING_SECONDS
        try:
            pruned = answer.result(seconds)
        except (TimeoutError, *OUT_OF_REACH) as error:
            if isinstance(error, TimeoutError) and seconds == ANSWER_SECONDS:
                self._waits_again = monotonic() + SHARE * ANSWER_SECONDS
            self._keep()
            if not self.outage.missed:
                logger.info("%s goes on without the database: %s", self.rows.name, one_line(error))
            self.outage.miss()
            return False
        self.outage.back()
        self._waits_again = float("-inf")
        with self._lock:
            if self._end is None:  # else the spool holds that, and close() clears it
                self.spool.clear()
        return pruned

    def start_over(self) -> None:
        """The training starts again from its first epoch: those so far do not count."""
        if self._epochs:
            self._post(Restart())

    def close(self, state: State, reason: str | None, outcome: TrainingMetrics | None) -> None:
        """Enters how the trial ended. Raises OutageTooLongError; the spool stays then."""
        end = TrialEnd(state, reason, outcome)
        answer = self._post(end)
        try:
            self._insist(end, answer)
        except LeaseLostError:
            self.outage.insist(lambda: self.rows.keep_late(state, outcome))
            self.spool.clear()
            raise
        except BaseException:
            self.spool.close()
            raise
        finally:
            self._inbox.put(None)
        self.outage.back()
        self.spool.clear()

    def drop(self) -> None:
        """The trial is another's: nothing more is owed."""
        self._inbox.put(None)
        with self._lock:
            self.spool.clear()

    def _insist(self, end: TrialEnd, answer: Future[bool]) -> None:
        """Waits for the end to be written.

        One that hangs is waited for again; one that failed is said again.
        """
        while True:
            try:
                answer.result(ANSWER_SECONDS)
                return
            except (TimeoutError, *OUT_OF_REACH) as error:
                self._keep()
                self.outage.wait(error)
            if answer.done() and answer.exception():
                answer = self._repeat(end)

    def _post(self, message: Message) -> Future[bool]:
        """Hands a message to the thread. Once the end was posted the trial is over for every thread."""
        with self._lock:
            if self._end is not None:
                raise leases.lost(self.rows.claim)
            if isinstance(message, TrialEnd):
                self._end = message
            elif isinstance(message, Restart):
                self._epochs = {}
            else:
                self._epochs[message.epoch] = message
            return self._repeat(message)

    def _repeat(self, message: Message) -> Future[bool]:
        posted = Posted(message, Future())
        self._inbox.put(posted)
        return posted.answer

    def _keep(self) -> None:
        """All of it on the disk, if it is to be there and that takes it; it stays in memory too (see
        candidates.finish)."""
        with self._lock:
            owed = self.rows.owed(tuple(self._epochs.values()), self._end)
            if owed is None:
                return
            try:
                self.spool.keep(owed)
            except OSError as error:
                if not self._spool_refused:
                    why = error.strerror
                    logger.info("%s cannot be written, it is kept in memory: %s", self.spool.path, why)
                self._spool_refused = True
