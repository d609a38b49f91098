"""What `search status --watch` shows: a study as its launcher does, for whoever did not launch it.

Reads the store every few seconds; draws the launcher's board on a terminal, prints its lines elsewhere, and
at the end how the study stands. Called by the command status.
"""

from dataclasses import replace
from typing import Any

import click
from rich.console import Console
from sqlalchemy import Engine

from search import settings
from search.commands.output import tell
from search.commands.printed import completed
from search.commands.watch import held_up, until_the_end
from search.launcher.display import Display, LiveDisplay, LogDisplay, Snapshot
from search.launcher.snapshots import Snapshots
from search.study import state_text
from search.study.config import StudyConfig
from search.study.console import LineLog
from search.study.follower import StudyFollower
from search.study.run_state import RunState


def watch(storage: str, study: str | None, every: float) -> None:
    """Shows a study until its search has ended, and then how it stands, on stdout.

    Raises StudyError and StorageError as until_the_end() does.
    """
    follower = StudyFollower(storage, study)
    board = Board()
    try:
        state = until_the_end(follower, every, settings.IDLE_SECONDS, board.show, board.away)
        with follower.look() as (engine, _):
            lines = state_text.lines(engine, state, StudyConfig.from_record(state.record.settings))
    finally:
        board.close()
        follower.close()
    tell("\n".join(lines))


class Board:
    """The launcher's own display of a study that somebody else launched."""

    def __init__(self) -> None:
        console = Console()
        self.display: Display = LiveDisplay(console) if console.is_terminal else LogDisplay(Lines())
        self.last: Snapshot | None = None
        self.snapshots: Snapshots | None = None

    def show(self, engine: Engine, state: RunState) -> None:
        """Shows this look. Raises SQLAlchemy's errors for a database out of reach."""
        if self.snapshots is None:
            config = StudyConfig.from_record(state.record.settings)
            self.snapshots = Snapshots(engine, state.record, config)
            if isinstance(self.display, LogDisplay):
                best = state_text.leader(engine, state)
                tell(f"{state.record.name}: {state_text.one_line(state, best)}")
        self.snapshots.engine, self.snapshots.record = engine, state.record
        self.last = replace(self.snapshots.take(), note="" if state.has_ended else completed(held_up(state)))
        self.display.show(self.last)

    def away(self, line: str) -> None:
        """Says it below the last look."""
        if self.last:
            self.display.show(replace(self.last, finished=(), ended=(), note=line))

    def close(self) -> None:
        """Takes the board from the terminal."""
        self.display.close()


class Lines(LineLog):
    """Where a LogDisplay prints: stdout, as every command writes it."""

    def print(self, *said: object, **_how: Any) -> None:
        """Writes one line."""
        click.echo(" ".join(map(str, said)))
