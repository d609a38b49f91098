"""The command `search wait`, and how a study is looked at until its search has ended.

Reads the store every few seconds; prints to stdout what came of it, to stderr what is out of the ordinary.
search/cli.py adds the command; board.py shows the same looks for `search status --watch`.
"""

import shlex
from collections.abc import Callable
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import click

from search import settings
from search.commands import options
from search.commands.output import say, tell
from space.errors import StorageError

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from search.study.follower import StudyFollower
    from search.study.run_state import RunState

WAIT_SECONDS = 2.0  # between two looks of `search wait`

Show = Callable[["Engine", "RunState"], None]


@click.command()
@options.study
@options.storage
@click.option("--idle", type=options.Duration(), default=settings.IDLE_SECONDS, metavar="TIME",
              help="End too where no worker was there for so long; a launcher tries closed slots again every"
              " 5m." + options.default_of(settings.IDLE_SECONDS))  # fmt: skip
def wait(study: str | None, storage: str, idle: float) -> int:
    """Wait until the search of a study has ended, wherever it runs, and end with its exit code."""
    from search.study import state_text
    from search.study.follower import StudyFollower

    notes = Notes(lambda line: tell(line, err=True))
    follower = StudyFollower(storage, study)
    try:
        state = until_the_end(follower, WAIT_SECONDS, idle, lambda _, state: notes.of_state(state), notes.say)
        with follower.look() as (engine, _):
            best = state_text.leader(engine, state)
    finally:
        follower.close()
    say(f"{state.record.name}: {state_text.one_line(state, best)}")
    return state.code


def until_the_end(
    follower: "StudyFollower", every: float, idle: float, show: Show, away: Callable[[str], None]
) -> "RunState":
    """Looks every so many seconds; returns the state in which the search has ended, or in which no worker was
    there for `idle` seconds.

    Shows each look; `away` hears of a database out of reach. Raises StorageError at the first look, and where
    the database was away for longer than a launch waits by default; StudyError where the study has gone.
    """
    from search.optuna_adapter import stored
    from search.study import run_state

    attended = reached = monotonic()
    is_first = True
    while True:
        try:
            with follower.look() as (engine, record):
                state = run_state.load(engine, record, record.name in stored.names(engine))
                show(engine, state)
            is_first, reached = False, monotonic()
        except StorageError as error:
            if is_first or monotonic() - reached > settings.DATABASE_TIMEOUT_SECONDS:
                raise
            away(f"the database is away: {error}")
        else:
            if state.is_attended:
                attended = reached
            if state.has_ended or reached - attended >= idle:
                return state
        sleep(every)


class Notes:
    """Says what is out of the ordinary, each line once until another one is said."""

    def __init__(self, out: Callable[[str], Any]) -> None:
        self.out, self.last = out, ""

    def say(self, line: str) -> None:
        """Says it, unless it was the last; an empty line is silence."""
        if line and line != self.last:
            self.out(line)
        self.last = line

    def of_state(self, state: "RunState") -> None:
        """Says what holds a search up."""
        self.say("" if state.has_ended else held_up(state))


def held_up(state: "RunState") -> str:
    """Why a search does not go on, empty where it does: an order, or that nobody works."""
    if state.why or state.is_attended:
        return state.why
    name = shlex.quote(state.record.name)
    return f"nobody works on it: `search resume {name}` goes on here"
