"""One search under faults: real launchers and workers, what is done to them, and what must hold afterwards.

Processes are known by a mark in their environment, so that none can hide. Nothing here knows which fault.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from command import ROOT
from sqlalchemy import Engine

from storage import candidates, database, leases, studies
from storage.row_types import DEDUPLICATED, MAX_ATTEMPTS, TRAINED, Candidate, State

MARK = "FAULT_MARK"
SMALL = ("--data", "digits", "--train-images", 200, "--max-macs", 300_000, "--gpus", "none")
FAST = ("--epochs", 3, "--sampler", "random", "--pruner", "none", *SMALL)
POLL_SECONDS = 0.1
GIVE_UP_SECONDS = 600.0  # only keeps a broken test from hanging


def wait_until(condition: Callable[[], object], what: str, seconds: float = GIVE_UP_SECONDS) -> None:
    """Polls: what is awaited happens in other processes."""
    pause, end = threading.Event(), time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen in {seconds:.0f} s"
        pause.wait(POLL_SECONDS)


@dataclass
class Figures:
    """What a fault did, for docs/reliability.md."""

    fault: str
    database: str
    injected: int
    asked: int
    trained: int
    interrupted: int  # attempts that were lost, and made again
    lost: int  # networks whose trial was lost for good
    twice: int  # trials counted twice
    recovery: float | None  # seconds, the longest, from the end of a fault to the next finished trial


@dataclass
class Search:
    """A place, a database and a mark; launchers and workers started in it are found again by the mark."""

    place: Path
    url: str
    fake: bool = True
    name: str = "faults"
    mark: str = field(default_factory=lambda: uuid4().hex)
    moments: list[float] = field(default_factory=list)
    injected: int = 0
    engine: Engine | None = None
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.place / "training").mkdir()
        self.orders()

    def orders(self, seconds: float = 0.03, batches: int = 4, acts: Iterable[dict[str, Any]] = ()) -> None:
        """How long a batch takes, and which trainings misbehave (tests/fake_training)."""
        told = {"batches": batches, "seconds": seconds, "acts": list(acts)}
        (self.place / "orders.new").write_text(json.dumps(told))
        (self.place / "orders.new").rename(self.place / "training" / "orders.json")

    @property
    def environment(self) -> dict[str, str]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("SEARCH_")}
        folders = [str(ROOT / "tests" / "support" / "fake_training"), str(ROOT)] if self.fake else [str(ROOT)]
        return clean | {
            "PYTHONPATH": ":".join(folders),
            "OMP_NUM_THREADS": "1",
            "SEARCH_STORAGE": self.url,
            "SEARCH_DATA_DIR": str(self.place / "data"),
            MARK: self.mark,
            **({"FAKE_TRAINING": str(self.place / "training")} if self.fake else {}),
        }

    def start(self, *arguments: object, before: Iterable[object] = (), **environment: str) -> "Started":
        """`search ARGUMENTS`, under the command `before` if there is one."""
        log = self.place / f"{arguments[0]}-{uuid4().hex[:6]}.log"
        command = [*map(str, before), sys.executable, "-m", "search", *map(str, arguments)]
        with log.open("w") as out:
            process = subprocess.Popen(
                command, cwd=self.place, env=self.environment | environment, stdout=out, stderr=out
            )
        self.started.append(process)
        return Started(process, log)

    def launch(self, trials: int, *flags: object, workers: int = 2, **environment: str) -> "Started":
        fixed = ("launch", "--trials", trials, "--study", self.name, "--workers", workers)
        return self.start(*fixed, *FAST, *flags, **environment)

    def worker(self, *flags: object, before: Iterable[object] = (), **environment: str) -> "Started":
        fixed = ("worker", "--study", self.name)
        return self.start(*fixed, *flags, before=before, CUDA_VISIBLE_DEVICES="", **environment)

    def ask(self, question: Callable[[Engine, int], Any]) -> Any:
        """Asks the ledger, over a connection that is kept: the search needs the processor."""
        if self.engine is None:
            self.engine = database.connect(self.url, create=False)
        return question(self.engine, studies.find(self.engine, self.name).id)

    def study(self) -> bool:
        """Whether the launcher has made the study."""
        with suppress(Exception):
            return bool(self.ask(lambda _, study: study))
        return False

    def trained(self) -> int:
        """Trials that count; 0 while there is no study yet, or no database."""
        with suppress(Exception):
            tally = self.ask(candidates.tally)
            return sum(tally[state] for state in TRAINED)
        return 0

    def training(self) -> bool:
        """Whether a trial has stored an epoch and is still at it."""
        with suppress(Exception):
            return any(running.epoch for running in self.ask(leases.running))
        return False

    def fault(self, times: int = 1) -> None:
        """A fault is over, from now on recovery counts."""
        self.injected += times
        self.moments.append(time.time())

    def interrupted(self) -> int:
        """How many attempts were lost."""
        return int(self.ask(candidates.tally)[State.LOST])

    def processes(self) -> list[int]:
        """All that carry the mark and live."""
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if self._marked(pid)]  # noqa: PTH208

    def _marked(self, pid: int) -> bool:
        with suppress(OSError):
            return f"{MARK}={self.mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes()
        return False

    def signal_all(self, number: signal.Signals) -> None:
        """Sends it to every process that is still there."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def logs(self) -> list[Path]:
        """What each launcher and worker said."""
        return sorted(self.place.glob("*.log"))

    def end(self) -> None:
        """Whatever a broken test has left."""
        if self.engine is not None:
            self.engine.dispose()
        self.signal_all(signal.SIGKILL)
        for process in self.started:
            process.wait(30)

    def settle(self, check: Callable[..., Any], fault: str, asked: int, *, done: bool = True) -> Figures:
        """After the last launcher: the books agree, nothing runs, nothing is left. Returns the figures.

        `check` runs `search db check`; `done` says whether the launcher said that it is done.
        """
        assert self.processes() == [], "a process was left behind"
        checked = check("db", "check", self.name, "--storage", self.url)
        assert checked.code == 0, checked.out + checked.err
        rows: list[Candidate] = self.ask(candidates.candidates)
        trained = [row for row in rows if row.state in TRAINED]
        assert [row.number for row in rows if row.state == State.RUNNING] == []
        assert self.ask(leases.running) == []
        assert not list((self.place / "data").glob("spool/*/*.json")), "something is still owed"
        assert len(trained) == asked if done else len(trained) <= asked
        counted = Counter(row.fingerprint for row in trained)
        twice = sum(counted.values()) - len(counted)
        assert twice == 0
        lost = [row for row in rows if lost_for_good(row, rows)]
        assert not done or lost == []
        return Figures(
            fault=fault,
            database="PostgreSQL" if self.url.startswith("postgresql") else "SQLite",
            injected=self.injected,
            asked=asked,
            trained=len(trained),
            interrupted=sum(row.state == State.LOST for row in rows),
            lost=len(lost),
            twice=twice,
            recovery=self._recovery(trained),
        )

    def _recovery(self, trained: list[Candidate]) -> float | None:
        ends = sorted(row.finished_at.timestamp() for row in trained if row.finished_at)
        waits = [next((end - moment for end in ends if end > moment), None) for moment in self.moments]
        found = [wait for wait in waits if wait is not None]
        return round(max(found), 2) if found else None


def lost_for_good(row: Candidate, rows: list[Candidate]) -> bool:
    """Whether a trial was lost with attempts left, and its network was never tried again."""
    if row.state != State.LOST or row.attempt >= MAX_ATTEMPTS:
        return False
    return not any(
        other.fingerprint == row.fingerprint
        and other.id > row.id
        and other.state in DEDUPLICATED | {State.LOST}
        for other in rows
    )


@dataclass
class Started:
    """A launcher or worker; its output goes to a file, which cannot fill up like a pipe."""

    process: subprocess.Popen[bytes]
    log: Path

    def children(self) -> list[int]:
        pid = self.process.pid
        with suppress(OSError):
            return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return []

    def code(self, seconds: float = GIVE_UP_SECONDS) -> int:
        """Waits for its end."""
        return self.process.wait(seconds)

    def ended(self) -> bool:
        return self.process.poll() is not None

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def require(self, code: int) -> None:
        assert self.code() == code, self.said()
        assert "Traceback" not in self.said()


def record(path: Path | None, figures: Figures) -> None:
    """Adds a line to the file of figures; processes of pytest-xdist may do so at once."""
    if path is not None:
        with path.open("a") as file:
            file.write(json.dumps(asdict(figures)) + "\n")


def require_equal_results(search: Search) -> None:
    """Every completed trial has the accuracy that its network and seed give, whatever was done to it."""
    sys.path.insert(0, str(ROOT / "tests" / "support" / "fake_training"))
    from fake_trainer import accuracy_of

    for row in search.ask(candidates.candidates):
        if row.state == State.COMPLETED:
            assert row.accuracy == accuracy_of(row.fingerprint, row.seed)
