"""How a worker's lines reach its log: stderr, which a launcher has opened on a file of the worker's slot, and
a file of its own for a worker that was started by hand.

Called by the worker's main. Modules log by logging.getLogger(__name__) and know nothing of this.
"""

import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

OURS = ("search", "storage", "trainer", "space")  # others, as Alembic, say too much at level INFO


class UnbufferedHandler(logging.Handler):
    """Each line to stderr at once, `reworded` first. A disk without space for it is no reason to stop
    training."""

    def __init__(self, reworded: Callable[[str], str] = str) -> None:
        super().__init__()
        self.reworded = reworded

    def emit(self, record: logging.LogRecord) -> None:
        line = self.reworded(self.format(record)) + "\n"
        with suppress(OSError):  # unbuffered: nothing is owed to the disk, and nothing is tried again
            os.write(sys.stderr.fileno(), line.encode(errors="replace"))


class FileHandler(UnbufferedHandler):
    """Each line to the end of a file, which is opened anew each time: it may be renamed or deleted."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record) + "\n"
        with suppress(OSError), self.path.open("a", encoding="utf-8", errors="replace") as file:
            file.write(line)


FORM = logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S")


def level(verbose: bool, quiet: bool) -> int:
    """Which lines are written: warnings alone, those of trials and orders, or those of epochs too."""
    return logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO


def configure(least: int = logging.INFO, reworded: Callable[[str], str] = str) -> None:
    """From now on what this program logs at this level and above goes to stderr, as
    `2026-03-01 12:00:00 line`, each line `reworded` first."""
    handler = UnbufferedHandler(reworded)
    handler.setFormatter(FORM)
    for name in OURS:
        ours = logging.getLogger(name)
        ours.setLevel(least)
        ours.handlers, ours.propagate = [handler], False


def add_file(path: Path) -> None:
    """The same lines go to a file too, in place of the one before. A disk without space is no error."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
    handler = FileHandler(path)
    handler.setFormatter(FORM)
    for name in OURS:
        ours = logging.getLogger(name)
        ours.handlers = [one for one in ours.handlers if not isinstance(one, FileHandler)] + [handler]
