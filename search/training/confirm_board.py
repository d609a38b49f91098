"""What people see while `search confirm` trains: a board of the networks on a terminal, lines elsewhere.

Told by search/training/parallel.py, through confirm.py, which trainings run and how they ended; reads how far
they are from the small file in the folder of each (progress_file.py). Writes to the console that it is given.
"""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from search.study.board import LiveRegion, headline
from search.study.text import counted, percent, span
from search.training import contenders, progress_file
from search.training.contenders import Contender
from search.training.parallel import FinishedProcess
from search.training.progress_file import TrainingMoment

READ_SECONDS = 0.5  # between two looks at the files
QUARTERS = 4  # lines that a seed has in a log: at its start, and after each quarter of its epochs


@dataclass
class Track:
    """One network on the board. Positions are in seeds, the part of the one under way included."""

    contender: Contender
    moment: TrainingMoment | None = None
    began: float | None = None  # when its process started, seconds of the clock
    first: tuple[float, float] | None = None  # time and position of the first look: a resumed one is not at 0
    ended: FinishedProcess | None = None
    seconds: float = 0.0  # from its start to its end

    @property
    def position(self) -> float:
        if self.ended:
            return float(self.contender.seeds)
        return self.moment.position if self.moment else 0.0

    @property
    def trained(self) -> float:
        """Seeds that were trained since the start of this command, as far as was seen; of one that failed, up
        to its failure."""
        if not self.first:
            return 0.0
        has_failed = self.ended is not None and self.ended.code != 0
        reached = self.moment.position if has_failed and self.moment else self.position
        return reached - self.first[1]

    def eta(self, now: float) -> float | None:
        """Seconds until the last of its seeds is done; None while nothing says so."""
        if not self.first or self.trained <= 0:
            return None
        return (self.contender.seeds - self.position) * (now - self.first[0]) / self.trained


class Board:
    """Shows the contenders of one command from its start to its end; a context manager."""

    def __init__(
        self,
        console: Console,
        name: str,
        chosen: Sequence[Contender],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.console, self.name, self.clock = console, name, clock
        self.tracks = {contender.name: Track(contender) for contender in chosen}
        self.started = self.read_at = clock()
        self.said = dict[str, tuple[int, int]]()  # seed and quarter of the last line of each, in a log
        self.live = LiveRegion(console) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self.live:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.live.stop()

    def look(self, running: Collection[str]) -> None:
        """Reads how far those that run are, and shows it. Called a few times a second."""
        now = self.clock()
        for name in running:
            if self.tracks[name].began is None:
                self.tracks[name].began = now
        if now - self.read_at < READ_SECONDS:
            return
        self.read_at = now
        for name in running:
            self._read(self.tracks[name], now)
        if self.live:
            self.live.show(self.board())

    def end(self, done: FinishedProcess) -> None:
        """A training has ended: a line, on a terminal above the board."""
        track, now = self.tracks[done.work.name], self.clock()
        track.ended = done
        track.seconds = now - (self.started if track.began is None else track.began)
        ended = sum(other.ended is not None for other in self.tracks.values())
        said = f"{ended}/{len(self.tracks)} {named(track.contender)} {outcome(track)}, {span(track.seconds)}"
        self._say(f"{said}; ETA {self.eta()}" if ended < len(self.tracks) else said)

    def eta(self) -> str:
        """Until all are done, at the pace since the start; networks count by their multiply-accumulates."""
        known = [track.contender.macs for track in self.tracks.values() if track.contender.macs]
        usual = sum(known) / len(known) if known else 1.0
        done = left = 0.0
        for track in self.tracks.values():
            cost = track.contender.macs or usual
            done += cost * track.trained
            left += cost * (track.contender.seeds - track.position)
        return span((self.clock() - self.started) * left / done) if done > 0 else "?"

    def board(self) -> RenderableType:
        """Everything at this moment."""
        tracks = list(self.tracks.values())
        ended = [track for track in tracks if track.ended]
        running = [track for track in tracks if track.began is not None and not track.ended]
        waiting = len(tracks) - len(ended) - len(running)
        elapsed = span(self.clock() - self.started)
        times = f"{elapsed} ETA {self.eta()}"
        head = headline(self.console.width, self.name, len(ended), len(tracks), times)
        lines: list[RenderableType] = [head, self._table(running)]
        if waiting:
            verb = "waits" if waiting == 1 else "wait"
            lines.append(Text(f"{counted(waiting, 'network')} {verb}", style="dim"))
        return Group(*lines)

    def _table(self, running: Sequence[Track]) -> Table:
        """A row for each that runs; narrow terminals have no words before the figures."""
        table, now = Table.grid(padding=(0, 2)), self.clock()
        epoch, eta = ("epoch ", "ETA ") if self.console.width >= 70 else ("", "")
        table.add_column(overflow="ellipsis", no_wrap=True)
        for track in running:
            moment, left = track.moment, track.eta(now)
            name = named(track.contender) if epoch else named(track.contender).removeprefix("trial ")
            if moment is None:
                table.add_row(name, "starts")
                continue
            seed = f"seed {moment.seed}" + (f", {moment.number}/{moment.seeds}" if moment.seeds > 1 else "")
            tests = moment.position >= track.contender.seeds and not track.contender.sealed
            table.add_row(
                name,
                seed,
                "test images" if tests else f"{epoch}{moment.epoch}/{moment.epochs}",
                percent(moment.accuracy),
                "" if tests else f"{eta}{'?' if left is None else span(left)}",
            )
        return table

    def _read(self, track: Track, now: float) -> None:
        moment = progress_file.read(track.contender.folder)
        if moment is None:
            return
        track.moment = moment
        track.first = track.first or (now, moment.position)
        quarter = (moment.seed, QUARTERS * moment.epoch // max(1, moment.epochs))
        if self.live is None and self.said.get(track.contender.name) != quarter:
            self.said[track.contender.name] = quarter
            accuracy = f" {percent(moment.accuracy)}" if moment.accuracy is not None else ""
            left = track.eta(now)
            self._say(
                f"{named(track.contender)} seed {moment.seed} ({moment.number} of {moment.seeds})"
                f" epoch {moment.epoch}/{moment.epochs}{accuracy}"
                f"{'' if left is None else f', ETA {span(left)}'}"
            )

    def _say(self, line: str) -> None:
        moment = f"{datetime.now():%H:%M:%S}"
        self.console.print(f"{moment} {line}", highlight=False, markup=False, soft_wrap=True)


def named(contender: Contender) -> str:
    """A network in a line: its trial's number alone, since the study is that of the command."""
    name = contender.name if contender.number is None else f"trial {contender.number}"
    return f"{name} (baseline)" if contender.baseline else name


def outcome(track: Track) -> str:
    """How it ended, in words."""
    if track.ended is None:
        return "runs"
    if track.ended.code:
        return f"failed (exit code {track.ended.code}): {track.ended.last}"
    try:
        found = contenders.read(track.contender).validation
    except (OSError, ValueError, KeyError):
        return "done"
    mean = percent(found.mean)
    return f"done: {mean}" if len(found.values) == 1 else f"done: {mean}, mean of {len(found.values)} seeds"
