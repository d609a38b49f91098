"""Child processes: killing a whole group, dying with the parent, exit codes, the last line of a log."""

import ctypes
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path


def kill_process_group(process: subprocess.Popen[bytes]) -> None:
    """Ends what a dead worker may have left in its process group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def last_line(log: Path) -> str:
    """The last words of a worker."""
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


STALLED = 75  # exit code of a worker whose training hung


MADE_ROOM = 76  # and of one that leaves a device to the others


def die_with_parent(parent: int) -> None:
    """Asks Linux for a SIGTERM when the process that started this one is gone (prctl PR_SET_PDEATHSIG).

    A parent that was gone before is noticed too, by its number.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def abandon() -> None:
    """Ends this process though a thread of it hangs: nothing is left to save."""
    sys.stderr.write("the training hangs: this worker ends\n")
    sys.stderr.flush()
    os._exit(STALLED)
