"""Files that are there whole or not at all. Knows nothing of what is in them."""

import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

from space.errors import EnvironmentProblem, UsageError


def replace(path: Path, *contents: bytes | memoryview) -> None:
    """Replaces what is at path, in one step, once the new file is on the disk; makes its folder.

    EnvironmentProblem: it cannot be written, and what was at path is still there. A process that is killed
    meanwhile leaves a hidden file beside it, which `discard` removes.
    """
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")  # another process may be saving there too
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with new.open("xb") as file:
            for part in contents:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        raise EnvironmentProblem(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            new.unlink(missing_ok=True)


def require_writable(path: Path) -> None:
    """Raises UsageError or EnvironmentProblem where `write_whole` would fail, before hours of work."""
    try:
        is_folder = not path.name or path.is_dir()
    except OSError as error:  # the name is too long, or a folder closed
        raise UsageError(f"{path}: {error.strerror or error}") from None
    if is_folder:
        raise UsageError(f"{path}: give the name of a file, not of a folder")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise EnvironmentProblem(f"cannot write {path}: {error.strerror or error}") from None


def write_whole(text: str, path: Path) -> None:
    """Writes the whole file or none: beside its place, then moved.

    Raises UsageError for what is no name of a file, EnvironmentProblem where it cannot be written.
    """
    require_writable(path)
    replace(path, text.encode())


def discard(path: Path) -> None:
    """Removes a file, and what killed processes left half written beside it; what cannot be, stays."""
    with suppress(OSError):
        path.unlink()
    with suppress(OSError):
        for left in [other for other in path.parent.iterdir() if other.name.startswith(f".{path.name}.")]:
            left.unlink()
