"""What people see while a search runs: a live board on a terminal, plain log lines elsewhere.

Shows Snapshots, which the launcher reads; writes to the console that it is given. Made by
search/commands/launch_session.py (stderr) and search/commands/board.py (`status --watch`), called by them and
by the launcher.
"""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from search.study.board import LiveRegion, headline
from search.study.console import LineLog, SteadyConsole
from search.study.score import ScoreName, both
from search.study.second_stage import SecondStage, describe_training, progress
from search.study.standing import NO_BASELINES, Baselines, describe
from search.study.text import best_line, counted, counts, percent, span
from search.study.worker_rows import IN_SLOT
from storage.leases import Running
from storage.row_types import TRAINED, Candidate, RungTraining, State
from storage.studies import Control

WORKERS_SHOWN = 16  # more lines would not fit a terminal
TOKEN = re.compile(r"-[0-9a-f]{6}$")  # of one by itself, started by hand (search/worker/worker.py)


@dataclass(frozen=True)
class Snapshot:
    """A study at one moment."""

    name: str
    target: int
    tally: dict[State, int]
    running: Sequence[Running]
    best: Candidate | None
    finished: Sequence[Candidate]  # since the snapshot before
    epochs: int
    validation_images: int
    order: Control = Control.RUN
    baselines: Baselines = NO_BASELINES
    note: str = ""  # what is out of the ordinary: closed slots, a database that is away
    second: SecondStage | None = None  # None while trials are owed, and where the search ends with them
    ended: Sequence[RungTraining] = ()  # of the second stage, since the snapshot before
    score: ScoreName = "accuracy"  # that is maximised
    has_slots: bool = True  # whether the launcher starts workers itself
    left: float | None = None  # seconds until a limit ends the launch

    @property
    def trained(self) -> int:
        return sum(self.tally[state] for state in TRAINED)

    @property
    def is_done(self) -> bool:
        """Whether the trials are done, and the second stage where there is one."""
        return self.trained >= self.target and (self.second is None or self.second.is_over)


class Display(Protocol):
    """Where snapshots are shown, one after another."""

    def show(self, snapshot: Snapshot) -> None: ...

    def close(self) -> None: ...


class Pace:
    """How long it will still take, from what was trained since the start, without pauses in which nothing
    ran."""

    def __init__(self) -> None:
        self.started, self.first = time.monotonic(), -1
        self.looked, self.paused = self.started, 0.0

    def eta(self, snapshot: Snapshot) -> str:
        """When the trials will be done, or the limit that comes first; of a second stage the limit alone."""
        if self.first < 0:
            self.first = snapshot.trained
        now = time.monotonic()
        if snapshot.order == Control.PAUSE and not snapshot.running:
            self.paused += now - self.looked
        self.looked = now
        done, elapsed = snapshot.trained - self.first, now - self.started - self.paused
        left = max(0, snapshot.target - snapshot.trained)
        if snapshot.second and not left:
            limit = snapshot.left
            return "trials done" if limit is None else f"limit in {span(max(0.0, limit))}"
        needs = elapsed / done * left if done else None
        if snapshot.left is not None and left and (needs is None or needs > snapshot.left):
            return f"limit in {span(max(0.0, snapshot.left))}"
        return f"ETA {'?' if needs is None else span(needs)}"

    @property
    def elapsed(self) -> str:
        return span(time.monotonic() - self.started)


class LiveDisplay:
    """The board on a terminal, redrawn in place."""

    def __init__(self, console: Console) -> None:
        self.console, self.pace = console, Pace()
        self.region = LiveRegion(console)
        self.region.start()

    def show(self, snapshot: Snapshot) -> None:
        self.region.show(self.board(snapshot))

    def close(self) -> None:
        self.region.stop()

    def board(self, snapshot: Snapshot) -> RenderableType:
        """All that is shown of a moment, as wide as the terminal is."""
        times = f"{self.pace.elapsed} {self.pace.eta(snapshot)}"
        head = headline(self.console.width, snapshot.name, snapshot.trained, snapshot.target, times)
        lines: list[RenderableType] = [head, Text(counts(snapshot.tally), style="dim")]
        lines.append(
            Text(best_line(snapshot.best, snapshot.validation_images, snapshot.score), style="green")
        )
        if against := describe(snapshot.baselines, score=snapshot.score):
            lines.append(Text(against, style="green" if _is_ahead(snapshot) else "yellow"))
        if snapshot.second:
            lines.append(Text(progress(snapshot.second), style="bold"))
        lines.append(_workers(snapshot, self.console.width))
        if snapshot.note:
            lines.append(Text(snapshot.note, style="yellow"))
        return Group(*lines)


def _is_ahead(snapshot: Snapshot) -> bool:
    here = snapshot.baselines.standing
    return here is not None and here.is_ahead


def _workers(snapshot: Snapshot, width: int) -> RenderableType:
    """A row for each worker that holds a trial; columns that have no room are left out."""
    if not snapshot.running and not snapshot.is_done and snapshot.order == Control.RUN:
        return Text("starting workers" if snapshot.has_slots else "no worker is at it", style="dim")
    names = short_names([running.worker for running in snapshot.running])
    shown = snapshot.running[:WORKERS_SHOWN]
    rows = [_worker_row(running, names[running.worker], snapshot.epochs) for running in shown]
    columns = list(COLUMNS)
    for column, spare in DROPPED:
        if _wide(rows, columns) <= width:
            break
        if spare:
            rows = [{**row, column: row[column].removeprefix(spare)} for row in rows]
        else:
            columns.remove(column)
    table = Table.grid(padding=(0, 2))
    for _ in columns:
        table.add_column(overflow="ellipsis", no_wrap=True)
    for row in rows:
        table.add_row(*(row[column] for column in columns))
    more = len(snapshot.running) - WORKERS_SHOWN
    return Group(table, Text(f"and {counted(more, 'worker')} more")) if more > 0 else table


COLUMNS = ("worker", "trial", "epoch", "accuracy", "parameters", "time")
# In this order, where a row is too long: a word before the figure, or with "" the column.
DROPPED = (("parameters", ""), ("epoch", "epoch "), ("time", ""), ("trial", "trial "))


def _worker_row(running: Running, name: str, epochs: int) -> dict[str, str]:
    if running.number is None:
        return dict.fromkeys(COLUMNS, "") | {"worker": name, "trial": "chooses a network"}
    return {
        "worker": name,
        "trial": f"trial {running.number}",
        "epoch": f"epoch {running.epoch or 0}/{running.epochs or epochs}",
        "accuracy": percent(running.accuracy),
        "parameters": f"{running.parameters:,} parameters",
        "time": span(running.since),
    }


def _wide(rows: Sequence[dict[str, str]], columns: Sequence[str]) -> int:
    """Columns of a terminal that the rows take; two between two."""
    return sum(max(len(row[column]) for row in rows) + 2 for column in columns) - 2 if rows else 0


def short_names(workers: Sequence[str]) -> dict[str, str]:
    """Workers as people tell them apart: the slot of a launcher, with its host where there are several hosts;
    of others the name without its token. Whole where two would be the same."""
    parts = {name: IN_SLOT.fullmatch(name) for name in workers}
    hosts = {found["host"] for found in parts.values() if found}
    short = {
        name: (f"{found['host']}:{found['slot']}" if len(hosts) > 1 else found["slot"])
        if found
        else TOKEN.sub("", name)
        for name, found in parts.items()
    }
    said = list(short.values())
    return {name: name if said.count(one) > 1 else one for name, one in short.items()}


class LogDisplay:
    """One line a finished trial, for files and pipes."""

    def __init__(self, console: Console | LineLog) -> None:
        self.console, self.pace, self.note, self.rung = console, Pace(), "", ""

    def show(self, snapshot: Snapshot) -> None:
        eta = self.pace.eta(snapshot)
        for candidate in snapshot.finished:
            self._print(self._line(candidate, snapshot, eta))
        if snapshot.second:
            self._show_second(snapshot.second, snapshot.ended)
        if snapshot.note and snapshot.note != self.note:
            self._print(snapshot.note)
        self.note = snapshot.note

    def _show_second(self, second: SecondStage, ended: Sequence[RungTraining]) -> None:
        """A line a training, and one where a rung begins."""
        for training in ended:
            self._print(describe_training(training))
        rung = second.rungs[-1].name if second.rungs else ""
        if rung != self.rung:
            self._print(progress(second))
        self.rung = rung

    def close(self) -> None:
        """Nothing to take back."""

    def _print(self, line: str) -> None:
        moment = f"{datetime.now():%H:%M:%S}"
        self.console.print(f"{moment} {line}", highlight=False, markup=False, soft_wrap=True)

    def _line(self, candidate: Candidate, snapshot: Snapshot, eta: str) -> str:
        said = f"{snapshot.trained}/{snapshot.target} trial {candidate.number} {candidate.state.value}"
        if candidate.accuracy is not None:
            after = counted(candidate.epochs or 0, "epoch")
            said += f" {both(snapshot.score, candidate)} after {after}, {candidate.seconds:.1f} s"
        said += f", {candidate.parameters:,} parameters"
        if candidate.baseline:
            said += f", baseline {candidate.baseline}"
        if candidate.reason and candidate.state not in TRAINED:
            said += f": {candidate.reason.splitlines()[-1]}"
        best = f"; best {both(snapshot.score, snapshot.best)}" if snapshot.best else ""
        return f"{said}{best}; {eta}"


class Displays:
    """Several at once."""

    def __init__(self, *displays: Display) -> None:
        self.displays = displays

    def show(self, snapshot: Snapshot) -> None:
        for display in self.displays:
            display.show(snapshot)

    def close(self) -> None:
        for display in self.displays:
            display.close()


def make_display(console: SteadyConsole) -> Display:
    """The board where someone looks at a terminal, and lines in the console's log; lines elsewhere."""
    return (
        Displays(LiveDisplay(console), LogDisplay(console.kept))
        if console.is_terminal
        else LogDisplay(console)
    )
