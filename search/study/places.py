"""Where the store of a study was when this machine began to keep files of it: one line of JSON a study, in
DATA_DIR/places/STUDY_ID.

The files of a study lie in folders named by where its store is (files.py). A SQLite store that was moved, as
with the folder of a project, has another name for them, and by these notes they are found again. A copy is no
move: the folders stay those of the store that is still where it was. Written by launches and workers, read by
files.py for whatever looks for such a folder in vain.
"""

import json
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
    """Notes that the study of this identity is in the store at `place`, as storage/url.py's location() says
    it. A disk that cannot take the note is no error: it is missed where the store is moved."""
    path = _folder(data_dir) / identity
    found = {"place": place, "study": record.name, "created": record.created_at.isoformat()}
    if _read(path) != found:
        with suppress(EnvironmentProblem):
            files.replace(path, (json.dumps(found) + "\n").encode())


def forget(data_dir: Path, identities: list[str]) -> None:
    """Takes back what note() says of studies, those of which nothing is noted among them."""
    for identity in identities:
        files.discard(_folder(data_dir) / identity)


def moved(data_dir: Path, record: Study) -> list[str]:
    """The identities that this study had in SQLite files in which it is no longer, the last noted first."""
    wanted = {"study": record.name, "created": record.created_at.isoformat()}
    try:
        paths = sorted(_folder(data_dir).iterdir(), key=lambda path: -path.stat().st_mtime)
    except OSError:  # there are no notes, or one has just gone
        return []
    return [
        path.name
        for path in paths
        if (found := _read(path))
        and wanted.items() <= found.items()
        and _has_left(found.get("place", ""), record)
    ]


def _has_left(place: str, record: Study) -> bool:
    """Whether the store was a file and that file, if there is any, has another study of this name or none.
    Nothing says so of a server, which has many names."""
    if not place.startswith(SQLITE_PLACE):
        return False
    return not studies.is_in_file(Path(place.removeprefix(SQLITE_PLACE)), record)


def _read(path: Path) -> dict[str, str] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and all(isinstance(one, str) for one in found.values()) else None
