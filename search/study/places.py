"""Where the store of a study was when this machine began to keep files of it: one line of JSON a study, in
DATA_DIR/places/STUDY_ID.

The files of a study lie in folders named by where its store is (files.py). A SQLite store that was moved, as
with the folder of a project, has another name for them, and by these notes they are found again. A copy is no
move: the folders stay those of the store that is still where it was. That can be seen only from where the
note was written: DATA_DIR may be shared by machines, or by a container and its host, and each has files that
the others do not see. Written by launches and workers, read by files.py for whatever looks for such a folder
in vain.
"""

import json
import socket
from contextlib import suppress
from pathlib import Path

from space import files
from space.errors import EnvironmentProblem
from storage import studies
from storage.studies import Study
from storage.url import SQLITE_PLACE


def _folder(data_dir: Path) -> Path:
    return data_dir / "places"


def note(data_dir: Path, identity: str, place: str, record: Study) -> None:
    """Notes that the study of this identity, its own or one from before a move, is in the store at `place`,
    as storage/url.py's location() says it. A disk that cannot take the note is no error: it is missed where
    the store is moved."""
    path = _folder(data_dir) / identity
    created = record.created_at.isoformat()
    found = {"place": place, "host": _here(), "study": record.name, "created": created}
    if _read(path) != found:
        with suppress(EnvironmentProblem):
            files.replace(path, (json.dumps(found) + "\n").encode())


def forget(data_dir: Path, identities: list[str]) -> None:
    """Takes back what note() says of studies, those of which nothing is noted among them."""
    for identity in identities:
        files.discard(_folder(data_dir) / identity)


def moved(data_dir: Path, identity: str, place: str, record: Study) -> list[str]:
    """The other identities of this study, which has this one and is at `place`: those that it had in SQLite
    files in which it is no longer, the last noted first. Once note() has said of one of them that it is here,
    it stays so on every machine."""
    wanted = {"study": record.name, "created": record.created_at.isoformat()}
    try:
        paths = sorted(_folder(data_dir).iterdir(), key=lambda path: -path.stat().st_mtime)
    except OSError:  # there are no notes, or one has just gone
        return []
    return [
        path.name
        for path in paths
        if path.name != identity
        and (found := _read(path))
        and wanted.items() <= found.items()
        and (found.get("place") == place or _has_left(found, record))
    ]


def _has_left(found: dict[str, str], record: Study) -> bool:
    """Whether the store of a note was a file of this machine and that file, if there is any, has another
    study of this name or none.

    Nothing says so of a server, which has many names, nor of a note of another machine or an older version,
    which does not say of which it is: a search may be at work in that file, and whoever takes its folder
    removes checkpoints and weights in it, and is paid what is owed to it.
    """
    place = found.get("place", "")
    if not place.startswith(SQLITE_PLACE) or found.get("host") != _here():
        return False
    return not studies.is_in_file(Path(place.removeprefix(SQLITE_PLACE)), record)


def _here() -> str:
    """Which files are seen from here: the machine's name, and the inode of its root, which is another one in
    a container that has the name of its host. Both outlast a restart, unlike the boot's id."""
    return f"{socket.gethostname()} {Path('/').stat().st_ino}"


def _read(path: Path) -> dict[str, str] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and all(isinstance(one, str) for one in found.values()) else None
