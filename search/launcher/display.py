"""What people see while a search runs: a live board on a terminal, plain log lines elsewhere.

Shows Snapshots, which the launcher reads; writes to the console that it is given, stderr. Called by the
launcher.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from search.study.console import LineLog, SteadyConsole
from search.study.score import ScoreName, both
from search.study.second_stage import SecondStage, describe_training, progress
from search.study.standing import NO_BASELINES, Baselines, describe
from search.study.text import best_line, counted, counts, percent, span
from storage.leases import Running
from storage.row_types import TRAINED, Candidate, RungTraining, State
from storage.studies import Control

WORKERS_SHOWN = 16  # more lines would not fit a terminal


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
    """How long it will still take, from what was trained since the start."""

    def __init__(self) -> None:
        self.started, self.first = time.monotonic(), -1

    def eta(self, snapshot: Snapshot) -> str:
        if self.first < 0:
            self.first = snapshot.trained
        done, elapsed = snapshot.trained - self.first, time.monotonic() - self.started
        left = max(0, snapshot.target - snapshot.trained)
        return span(elapsed / done * left) if done else "?"

    @property
    def elapsed(self) -> str:
        return span(time.monotonic() - self.started)


class LiveDisplay:
    """The board on a terminal, redrawn in place."""

    def __init__(self, console: Console) -> None:
        self.pace = Pace()
        self.live = Live(console=console, refresh_per_second=4, transient=True)
        self.live.start()

    def show(self, snapshot: Snapshot) -> None:
        self.live.update(self._board(snapshot))

    def close(self) -> None:
        self.live.stop()

    def _board(self, snapshot: Snapshot) -> RenderableType:
        head = Table.grid(padding=(0, 1))
        head.add_row(
            Text(snapshot.name, style="bold"),
            ProgressBar(total=snapshot.target, completed=snapshot.trained, width=40),
            f"{snapshot.trained}/{snapshot.target}",
            f"{self.pace.elapsed} ETA {self.pace.eta(snapshot)}",
        )
        lines: list[RenderableType] = [head, Text(counts(snapshot.tally), style="dim")]
        lines.append(
            Text(best_line(snapshot.best, snapshot.validation_images, snapshot.score), style="green")
        )
        if against := describe(snapshot.baselines, score=snapshot.score):
            lines.append(Text(against, style="green" if _is_ahead(snapshot) else "yellow"))
        if snapshot.second:
            lines.append(Text(progress(snapshot.second), style="bold"))
        lines.append(_workers(snapshot))
        if snapshot.note:
            lines.append(Text(snapshot.note, style="yellow"))
        return Group(*lines)


def _is_ahead(snapshot: Snapshot) -> bool:
    here = snapshot.baselines.standing
    return here is not None and here.is_ahead


def _workers(snapshot: Snapshot) -> Table:
    table = Table.grid(padding=(0, 2))
    for running in snapshot.running[:WORKERS_SHOWN]:
        if running.number is None:
            table.add_row(running.worker, "chooses a network")
            continue
        table.add_row(
            running.worker,
            f"trial {running.number}",
            f"epoch {running.epoch or 0}/{running.epochs or snapshot.epochs}",
            percent(running.accuracy),
            f"{running.parameters:,} parameters",
            span(running.since),
        )
    if len(snapshot.running) > WORKERS_SHOWN:
        table.add_row(f"and {len(snapshot.running) - WORKERS_SHOWN} workers more")
    return table


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
        return f"{said}{best}; ETA {eta}"


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
