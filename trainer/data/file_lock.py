"""An exclusive lock between the processes of one machine, held through a file (flock).

Reads nothing; makes the file, empty, and leaves it. Called where one process prepares data for all others:
trainer/data/dataset.py (the cache) and trainer/data/torchvision_files.py (downloads).
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainer.data.process_pool import GUARD, is_starting


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Waits for the lock and holds it; the system frees it when its holder dies.

    Raises OSError, and RuntimeError in a process that its holder has just started and would wait for.
    """
    if is_starting():
        raise RuntimeError(GUARD)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
