"""The studies that a worker which follows leaves out: those that are over, and for a while those that it
cannot do, because their images are not here, they were deleted meanwhile, or a newer version has made them.

Kept in memory by search/worker/worker.py, for as long as the worker lives; says in the log why, once.
"""

import logging
from datetime import datetime
from time import monotonic

from storage.studies import Study

logger = logging.getLogger(__name__)

LEFT_OUT_SECONDS = 300.0  # then it is tried again: its images may have come


Made = tuple[int, datetime]


def _made(record: Study) -> Made:
    return record.id, record.created_at


class StudiesLeftOut:
    """Studies by their id and when they were made, as older versions give the id of a deleted one again in
    SQLite; with when each is tried again, and why it is left out."""

    def __init__(self) -> None:
        self._until = dict[Made, float]()
        self._reasons = dict[Made, str]()
        self._over = dict[int, Study]()  # as they were when nothing was left of them to train

    def add(self, record: Study, error: Exception) -> None:
        """Leaves a study out, with a line where that is new."""
        self._until[_made(record)] = monotonic() + LEFT_OUT_SECONDS
        if self._reasons.get(_made(record)) != str(error):
            self._reasons[_made(record)] = str(error)
            logger.info("leaves %s out for now: %s", record.name, error)

    def has(self, record: Study) -> bool:
        """Whether a study is left out now."""
        return monotonic() < self._until.get(_made(record), float("-inf"))

    def knows(self, record: Study) -> bool:
        """Whether a study was left out before, and not done since."""
        return _made(record) in self._reasons

    def forget(self, record: Study) -> None:
        """Notes that a study can be done."""
        self._reasons.pop(_made(record), None)

    def note_over(self, record: Study) -> None:
        """Notes that nothing is left of a study to train, for as long as its row stays as it is."""
        self._over[record.id] = record

    def is_over(self, record: Study) -> bool:
        """Whether that was noted of the study as it is: nobody has asked for more of it since."""
        return self._over.get(record.id) == record
