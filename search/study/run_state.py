"""What a search is at, whether it has ended, and the exit code that it ended with.

Reads a study's rows; writes nothing. Called by `search status`, `list` and `wait`, by the live page, and by
the launcher for its exit code.
"""

import shlex
from dataclasses import dataclass

from sqlalchemy import Engine

from search.study import gave_up, second_stage, worker_rows
from search.study.halted import halted
from search.study.second_stage import SecondStage
from search.study.worker_rows import WorkerRow
from storage import candidates, leases, workers
from storage.row_types import TRAINED, State
from storage.studies import Control, Study

BROKEN = "Optuna's part of this study was deleted: its networks are here, but nothing can be trained; "
ENDED = (Control.STOP, Control.STOP_NOW, Control.GAVE_UP)  # orders after which workers leave


def broken_line(name: str) -> str:
    """What to say of a study whose part in Optuna's tables was deleted."""
    named = shlex.quote(name)
    return f"{BROKEN}`search db repair {named}` makes it again, `search delete {named}` deletes the rest"


def code_of_end(
    *, is_done: bool, has_no_winner: bool, trained: int, over_budget: int, gave_up: bool = False
) -> int:
    """The exit code of a search that nothing from outside has ended: 0 done, 3 no network fits, 4 short.

    `has_no_winner`: it has a second stage, of which no final came to its end. `over_budget` counts proposals.
    """
    if is_done:
        return 4 if has_no_winner else 0
    return 3 if not trained and over_budget and not gave_up else 4


@dataclass(frozen=True)
class RunState:
    """A study at one moment. `second` is None where the search ends with its trials, and where it was not
    read because trials are owed."""

    record: Study
    tally: dict[State, int]
    workers: list[WorkerRow]
    second: SecondStage | None
    has_optuna: bool
    gave_up: str  # why the search ended by itself; empty where it did not

    @property
    def trained(self) -> int:
        """Networks trained to the end, or pruned while training."""
        return sum(self.tally[state] for state in TRAINED)

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to train."""
        return self.trained >= self.record.trials and (self.second is None or self.second.is_over)

    @property
    def busy(self) -> list[WorkerRow]:
        """Workers that hold a trial, or a training of the second stage; silent ones too."""
        return [one for one in self.workers if one.running]

    @property
    def is_attended(self) -> bool:
        """Whether a worker is there that was heard of lately, be it that it waits."""
        return any(one.state != "silent" for one in self.workers)

    @property
    def has_ended(self) -> bool:
        """Whether workers have nothing to do, or were told to end and hold nothing."""
        if any(one.state != "silent" for one in self.busy):
            return False
        return self.is_done or not self.has_optuna or self.record.order in ENDED

    @property
    def word(self) -> str:
        """What it is at, in a word of fields.STATUS. An order holds nothing up where nothing is left."""
        if not self.has_optuna:
            return "broken"
        if self.is_done and not self.busy:
            return "done"
        if self.record.order == Control.PAUSE:
            return "paused"
        if self.record.order != Control.RUN:
            return "stopping" if self.busy else "stopped"
        return "running" if self.busy else "waiting"

    @property
    def why(self) -> str:
        """What holds it up, in one line; empty where nothing does."""
        if not self.has_optuna:
            return broken_line(self.record.name)
        if self.is_done and not self.busy:
            return ""
        return halted(self.record.name, self.record.order, self.gave_up)

    @property
    def code(self) -> int:
        """The exit code that its launch ended with, if it has ended and no signal or lost device was why."""
        return code_of_end(
            is_done=self.is_done,
            has_no_winner=self.second is not None and self.second.winner is None,
            trained=self.trained,
            over_budget=self.tally[State.OVER_BUDGET],
            gave_up=bool(self.gave_up),
        )


def load(engine: Engine, record: Study, has_optuna: bool, *, whole: bool = False) -> RunState:
    """A study as it is now; `record` is its row, `has_optuna` whether its part in Optuna's tables is there.

    A second stage is read, which takes all rows, once the trials are done, or for the `whole`. Raises
    SQLAlchemy's errors for a database out of reach.
    """
    tally = candidates.tally(engine, record.id)
    is_due = whole or sum(tally[state] for state in TRAINED) >= record.trials
    running = leases.running(engine, record.id)
    reason = ""
    if record.order == Control.GAVE_UP:
        reason = gave_up.reason(candidates.untrained_in_a_row(engine, record.id), record.name)
    return RunState(
        record=record,
        tally=tally,
        workers=worker_rows.joined(workers.of_study(engine, record.id), running),
        second=second_stage.load(engine, record) if is_due else None,
        has_optuna=has_optuna,
        gave_up=reason,
    )
