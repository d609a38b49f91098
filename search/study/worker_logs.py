"""The log files of a study's workers on this machine, in DATA_DIR/logs/STUDY: their lines, in order of time.

Written by workers (search/worker/log.py) and by the launcher that starts them, a file a slot or worker, with
lines like `2026-03-01 12:00:00 trial 12 completed: 93.20% ...`. Reads them for `search logs`. Studies of two
stores that have one name have one folder: a mark, an empty file, says of each study that it logs there. Made
by launches and workers, read by `search delete` and `search rename`.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from storage.row_types import State

MARK = ".study-"  # and the identity of a study that logs in this folder

TIMED = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ")
TRIAL = re.compile(r"\btrial (\d+)\b")
ENDS = "|".join(state.value.replace("_", "[ _]") for state in State if state != State.RUNNING)
END = re.compile(rf"trial \d+(?: in the [^:]*)? (?:{ENDS})(?::|$)")


@dataclass(frozen=True)
class LogLine:
    """One line, and where it belongs."""

    source: str  # name of the file without its ending: cpu0, launcher
    time: str  # as it is written; of a line without one, as of a traceback, that of the line before it
    text: str  # whole
    trial: int | None  # that it is about, or that was under way there

    def __str__(self) -> str:
        return f"{self.source}  {self.text}"


def folder(data_dir: Path, study: str) -> Path:
    """Where the logs of a study lie on this machine."""
    return data_dir / "logs" / study


def mark(place: Path, identity: str) -> None:
    """Says that the study of this identity logs in a folder, which is made. A disk without space is no
    error."""
    with suppress(OSError):
        place.mkdir(parents=True, exist_ok=True)
        (place / (MARK + identity)).touch()


def unmark(place: Path, identities: Iterable[str]) -> None:
    """Takes back what mark() says of these, which are one study's."""
    for identity in identities:
        with suppress(OSError):
            (place / (MARK + identity)).unlink()


def is_of_one(place: Path, identities: Iterable[str]) -> bool:
    """Whether the logs in a folder are those of the study of these identities and nobody else's; those
    without a mark, which an older version left, may be anybody's."""
    marks = {path.name.removeprefix(MARK) for path in place.glob(f"{MARK}*")}
    return bool(marks) and marks <= set(identities)


class LogFile:
    """One log, read from its start on."""

    def __init__(self, path: Path) -> None:
        self.path, self.read_to = path, 0
        self.time = ""  # of the line before
        self.trial: int | None = None  # that was under way there

    def fresh(self) -> list[LogLine]:
        """The whole lines that came since the last call."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.read_to)
                found = file.read()
        except OSError:  # deleted or renamed meanwhile
            return []
        whole = found[: found.rfind(b"\n") + 1]
        self.read_to += len(whole)
        return [self._line(text) for text in whole.decode(errors="replace").splitlines()]

    def _line(self, text: str) -> LogLine:
        timed = TIMED.match(text)
        if timed:
            self.time = timed[0].strip()
        said = text[timed.end() :] if timed else text
        named = TRIAL.search(said)
        if named and named.start() == 0:  # else a line in passing, as those of a launcher are
            self.trial = int(named[1])
        line = LogLine(self.path.stem, self.time, text, int(named[1]) if named else self.trial)
        if END.match(said):
            self.trial = None
        return line


class StudyLogs:
    """All logs of a study, also those that come to be later. With `trial`, the lines of that trial alone."""

    def __init__(self, place: Path, trial: int | None = None) -> None:
        self.place, self.trial = place, trial
        self.files: dict[Path, LogFile] = {}

    def fresh(self) -> list[LogLine]:
        """What came since the last call, in order of time."""
        for path in sorted(self.place.glob("*.log")):
            self.files.setdefault(path, LogFile(path))
        lines = [line for file in self.files.values() for line in file.fresh()]
        lines.sort(key=lambda line: line.time)
        return [line for line in lines if self.trial in (None, line.trial)]

    def follow(self, pause: Callable[[], object]) -> Iterator[Sequence[LogLine]]:
        """What is there, then what comes, for ever; pauses before each further look."""
        while True:
            yield self.fresh()
            pause()
