"""Where the store of a study was when this machine began to keep files of it: one line of JSON a study, in
DATA_DIR/places/STUDY_ID.

The files of a study lie in folders named by where its store is (files.py). A SQLite store that was moved, as
with the folder of a project, has another name for them, and by these notes they are found again. A copy is no
move: the folders stay those of the store that is still where it was. That can be seen only from where the
note was written: DATA_DIR may be shared by machines, or by a container and its host, and each has files that
the others do not see. Nor is a file seen whose disk is not mounted: whoever takes over the folders also notes
where the study was before, and once it is seen there they are that store's again. Written by launches and
workers, read by files.py for whatever looks for such a folder in vain, and by `search gc`.
"""

import json
import socket
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from space import files
from space.errors import EnvironmentProblem
from storage import studies
from storage.studies import Study
from storage.url import SQLITE_PLACE


@dataclass(frozen=True)
class _Note:
    """What is noted of one identity."""

    study: str  # its name
    created: str  # when it was made, in ISO 8601
    host: str  # as _here() says it, of whoever noted it; "" in a note of an older version
    stores: tuple[
        str, ...
    ]  # where it was, as location() says it, from the store of this identity to the last

    def line(self) -> str:
        """What _read() reads."""
        *was, place = self.stores
        noted = {"place": place, "host": self.host, "study": self.study, "created": self.created}
        return json.dumps(noted | ({"was": was} if was else {})) + "\n"

    def before(self, place: str) -> tuple[str, ...]:
        """The stores in which it was before it came to be at `place`, or all."""
        return self.stores[: self.stores.index(place)] if place in self.stores else self.stores


def _folder(data_dir: Path) -> Path:
    return data_dir / "places"


def note(data_dir: Path, identity: str, place: str, record: Study) -> None:
    """Notes that the study is in the store at `place`, as storage/url.py's location() says it, which gave it
    this identity. A disk that cannot take the note is no error: it is missed where the store is moved."""
    _write(data_dir, identity, _Note(record.name, record.created_at.isoformat(), _here(), (place,)))


def note_moved(data_dir: Path, identity: str, place: str) -> None:
    """Notes the same of an identity that moved() found, in the same way; where the study was stays noted."""
    if found := _read(_folder(data_dir) / identity):  # else it has just been deleted
        _write(data_dir, identity, replace(found, host=_here(), stores=(*found.before(place), place)))


def _write(data_dir: Path, identity: str, found: _Note) -> None:
    path = _folder(data_dir) / identity
    if _read(path) != found:
        with suppress(EnvironmentProblem):
            files.replace(path, found.line().encode())


def forget(data_dir: Path, identities: list[str]) -> None:
    """Takes back what note() says of studies, those of which nothing is noted among them."""
    for identity in identities:
        files.discard(_folder(data_dir) / identity)


def moved(data_dir: Path, identity: str, place: str, record: Study) -> list[str]:
    """The other identities of this study, which has this one and is at `place`: those that it had in SQLite
    files in which it is no longer, the last noted first.

    Once note_moved() has said of one of them that it is here, it stays so on every machine, unless an earlier
    file is seen to have the study: that was out of sight then, and this is a copy.
    """
    created = record.created_at.isoformat()
    return [
        other
        for other, found in _notes(data_dir)
        if other != identity
        and (found.study, found.created) == (record.name, created)
        and (place in found.stores or _is_same(found.stores[-1], place) or _has_left(found, record))
        and not any(_is_seen(one, record) and not _is_same(one, place) for one in found.before(place))
    ]


def noted(data_dir: Path, records: Iterable[Study]) -> set[str]:
    """Every identity that these studies are noted to have had in some store, which may be a copy or out of
    sight. They are told by when they were made: one may have been renamed since."""
    created = {record.created_at.isoformat() for record in records}
    return {identity for identity, found in _notes(data_dir) if found.created in created}


def _has_left(found: _Note, record: Study) -> bool:
    """Whether the last store of a note was a file of this machine and that file, if there is any, has another
    study of this name or none.

    Nothing says so of a server, which has many names, nor of a note of another machine or an older version,
    which does not say of which it is: a search may be at work in that file, and whoever takes its folder
    removes checkpoints and weights in it, and is paid what is owed to it.
    """
    place = found.stores[-1]
    if not place.startswith(SQLITE_PLACE) or found.host != _here():
        return False
    return not studies.is_in_file(_file(place), record)


def _is_seen(place: str, record: Study) -> bool:
    """Whether there is a file at `place` that has the study or cannot be read. In a folder of another user
    none is seen."""
    try:
        there = place.startswith(SQLITE_PLACE) and _file(place).is_file()
    except OSError:
        return False
    return there and studies.is_in_file(_file(place), record)


def _is_same(one: str, other: str) -> bool:
    """Whether two places are one SQLite file, as where a link stands at the place that a store has left."""
    try:
        both = one.startswith(SQLITE_PLACE) and other.startswith(SQLITE_PLACE)
        return both and _file(one).samefile(_file(other))
    except OSError:
        return False


def _file(place: str) -> Path:
    return Path(place.removeprefix(SQLITE_PLACE))


def _here() -> str:
    """Which files are seen from here: the machine's name, and the inode of its root, which is another one in
    a container that has the name of its host. Both outlast a restart, unlike the boot's id."""
    return f"{socket.gethostname()} {Path('/').stat().st_ino}"


def _notes(data_dir: Path) -> list[tuple[str, _Note]]:
    """What is noted of which identity, the last noted first."""
    notes = list[tuple[float, str, _Note]]()
    with suppress(OSError):  # there are none
        for path in _folder(data_dir).iterdir():
            with suppress(FileNotFoundError):  # it has just gone
                if found := _read(path):
                    notes.append((path.stat().st_mtime, path.name, found))
    return [(identity, found) for _, identity, found in sorted(notes, key=lambda one: -one[0])]


def _read(path: Path) -> _Note | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        stores = (*found.get("was", ()), found["place"])
        words = (found["study"], found["created"], found.get("host", ""))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):  # it has gone, or is no note
        return None
    return _Note(*words, stores) if all(isinstance(one, str) for one in (*words, *stores)) else None
