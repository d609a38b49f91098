"""Locks of files as a network file system has them: NFS makes a flock of the whole file a lock of its bytes.

Such a lock is taken shared only of a file that is open for reading, exclusively of one that is open to write.
"""

import errno
import fcntl
import os

import pytest

_flock = fcntl.flock


def _flock_on_nfs(file: object, kind: int) -> None:
    mode = fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE  # type: ignore[call-overload]
    lacking = {fcntl.LOCK_SH: os.O_WRONLY, fcntl.LOCK_EX: os.O_RDONLY}.get(kind & ~fcntl.LOCK_NB)
    if mode == lacking:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    _flock(file, kind)  # type: ignore[arg-type]


def lie_on_nfs(patch: pytest.MonkeyPatch) -> None:
    """From now on files are locked as there."""
    patch.setattr(fcntl, "flock", _flock_on_nfs)


def cannot_be_locked(patch: pytest.MonkeyPatch) -> None:
    """From now on no file is, as where the server has no lock daemon."""

    def refuse(_file: object, _kind: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    patch.setattr(fcntl, "flock", refuse)
