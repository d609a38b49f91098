"""How a worker's lines reach its log: stderr, which a launcher has opened on a file of the worker's slot.

Called once, by the worker's main. Modules log by logging.getLogger(__name__) and know nothing of this.
"""

import logging
import os
import sys
from contextlib import suppress

OURS = ("search", "storage", "trainer", "space")  # others, as Alembic, say too much at level INFO


class UnbufferedHandler(logging.Handler):
    """Each line to stderr at once. A disk without space for it is no reason to stop training."""

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record) + "\n"
        with suppress(OSError):  # unbuffered: nothing is owed to the disk, and nothing is tried again
            os.write(sys.stderr.fileno(), line.encode(errors="replace"))


def configure() -> None:
    """From now on what this program logs at INFO and above goes to stderr, as `2026-03-01 12:00:00 line`."""
    handler = UnbufferedHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    for name in OURS:
        ours = logging.getLogger(name)
        ours.setLevel(logging.INFO)
        ours.handlers, ours.propagate = [handler], False
