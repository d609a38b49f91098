"""Child processes of this program: how they are started, how their ends are told apart, how they are killed.

Starts nothing by itself. Called by search/launcher (workers and probes), search/training (full trainings
beside each other) and by the children: die_with_parent, abandon, leave_lost_device.
"""

import ctypes
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Protocol

# Exit codes by which a worker tells its launcher how it ended, where 0 to 5 do not say it.
DEVICE_LOST = 74  # its GPU answers nothing but errors, as long as the process lives
STALLED = 75  # its training hung
MADE_ROOM = 76  # it leaves a device to the other workers
WORK_DONE = 77  # nothing is left to do, or it was told to end. Not 0: any other program ends with that too

PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def python_module(module: str, *arguments: str) -> list[str]:
    """The command line of a child that runs a module of this program, whatever lies in the working folder.

    `python -m` alone searches the working folder first, where a trainer.py would hide ours: -P leaves it out.
    What PYTHONPATH may say of that folder is cleaned in search.settings.child_environment.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


class HasPid(Protocol):
    """A process that leads a group of its own, as subprocess.Popen(start_new_session=True) starts it."""

    @property
    def pid(self) -> int: ...


def kill_process_group(process: HasPid) -> None:
    """Ends what a dead worker may have left in its process group. One that is gone is no error."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def last_line(log: Path) -> str:
    """The last line of a child's log, empty where it said nothing. Raises OSError where there is no log."""
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def die_with_parent(parent: int) -> None:
    """Asks Linux for a SIGTERM when the process that started this one is gone (prctl PR_SET_PDEATHSIG).

    A parent that was gone before is noticed too, by its number.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def abandon() -> None:
    """Ends this process with STALLED though a thread of it hangs: nothing is left to save. Never returns."""
    sys.stderr.write("the training hangs: this worker ends\n")
    sys.stderr.flush()
    os._exit(STALLED)


def leave_lost_device(reason: str) -> None:
    """Ends this process with DEVICE_LOST at once: CUDA may hang where it is taken down. Never returns.

    The trial is nobody's then, and tried again by another process.
    """
    sys.stderr.write(f"the GPU is lost to this worker, which ends: {reason}\n")
    sys.stderr.flush()
    os._exit(DEVICE_LOST)
