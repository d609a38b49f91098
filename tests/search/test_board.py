"""The board of a launch: it fits the terminal, breaks lines at words, and leaves nothing behind a resize."""

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console
from rich.text import Text
from rung_samples import candidate

from search.launcher.display import LiveDisplay, Pace, Snapshot, short_names
from search.study.board import LiveRegion, rows_of
from search.study.console import broken
from search.study.finish_plan import Finals, FinishPlan
from search.study.second_stage import SecondStage
from search.study.standing import NO_BASELINES
from storage.leases import Running
from storage.row_types import State
from storage.studies import Control
from trainer.recipe.document import Recipe

TALLY = dict.fromkeys(State, 0) | {State.RUNNING: 2, State.COMPLETED: 4}
WORKERS = ("a-machine-cpu0-18595-870ab9.1", "a-machine-cpu1-18595-870ab9.1")
SNAPSHOT = Snapshot(
    name="a-study-with-a-name-of-more-than-forty-letters", target=12, tally=TALLY, best=None, finished=(),
    running=[Running(worker, "cpu", 10 + i, 98_782, 10**6, 3, 0.8368, 57.0)
             for i, worker in enumerate(WORKERS)],
    epochs=20, validation_images=288, baselines=NO_BASELINES,
    note="cpu1 closed: it ended three times without a finished trial; tried again in a minute",
)  # fmt: skip


def drawn(snapshot: Snapshot, width: int) -> list[str]:
    # As commands have it: lines are left as they are, unless the board breaks them.
    console = Console(
        file=io.StringIO(), force_terminal=True, width=width, height=40, color_system=None, soft_wrap=True
    )
    display = LiveDisplay(console)
    display.show(snapshot)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    display.close()
    return [re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", line).rstrip() for line in shown.splitlines()]


@pytest.mark.parametrize("width", [120, 80, 40])
def test_the_board_fits_a_terminal_of_any_width_and_breaks_at_words(width: int) -> None:
    lines = drawn(SNAPSHOT, width)
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    for part in ("running 2 · completed 4", "tried again in a minute", "4/12", "ETA ?"):
        assert part in text, lines
    for slot in ("cpu0", "cpu1"):
        row = next(line for line in lines if line.startswith(f"{slot} "))
        assert "83.68%" in row and "3/20" in row
    assert ("98,782 parameters" in text) == (width >= 80), "the first to go"


def test_a_limit_that_comes_before_the_trials_are_done_is_said_in_the_place_of_their_end() -> None:
    def said(pace: Pace, trained: int, left: float | None) -> str:
        tally = {**SNAPSHOT.tally, State.COMPLETED: trained}
        return pace.eta(replace(SNAPSHOT, tally=tally, target=1_000, left=left))

    pace = Pace()
    assert [said(pace, 4, left) for left in (None, 125.0)] == ["ETA ?", "limit in 2:05"]
    pace.started -= 100.0
    assert said(pace, 104, None).startswith("ETA 14:5")  # 896 more at one a second
    assert said(pace, 104, 125.0) == "limit in 2:05"
    assert said(pace, 104, 9_000.0).startswith("ETA 14:5")
    assert said(pace, 1_000, 60.0) == "ETA 0:00", "a limit of trials that are done is the second stage's"


def test_a_pause_is_no_time_that_trials_took() -> None:
    """A hundred in 100 s, `search pause` for a night, and 896 more at one a second."""
    pace, tally = Pace(), {**SNAPSHOT.tally, State.COMPLETED: 104}
    pace.eta(replace(SNAPSHOT, target=1_000))
    pace.started, pace.looked = pace.started - 100.0, pace.looked - 100.0
    trained = replace(SNAPSHOT, tally=tally, target=1_000)
    pace.eta(trained)
    pace.started, pace.looked = pace.started - 43_200.0, pace.looked - 43_200.0
    pace.eta(replace(trained, order=Control.PAUSE, running=()))
    assert pace.eta(trained).startswith("ETA 14:5")


def test_while_the_second_stage_runs_there_is_no_time_left_of_trials() -> None:
    """Finals of hours were under way beside `ETA 0:00`."""
    plan = FinishPlan(rungs=(), finals=Finals(networks=1, seeds=1, recipe=Recipe(epochs=30)))
    second = SecondStage(plan, [candidate(0, 0.9)], [], [], 1)
    done = replace(SNAPSHOT, tally={**SNAPSHOT.tally, State.COMPLETED: 1}, target=1, second=second)
    pace = Pace()
    assert [pace.eta(replace(done, left=left)) for left in (None, 125.0)] == ["trials done", "limit in 2:05"]
    assert "trials done" in drawn(done, 80)[0]


def test_opening_lines_are_broken_at_words_below_their_label_and_commands_are_left_whole() -> None:
    said = "augment  shifted by up to 1 pixels (off: crop_padding = 0); not mirrored (on: flip = true)"
    assert broken(said, 60).splitlines() == [
        "augment  shifted by up to 1 pixels (off: crop_padding = 0);",
        "         not mirrored (on: flip = true)",
    ]
    for line in ("resume   search launch night --trials 8 --workers 2", "go on with `search launch night`"):
        assert broken(line, 20) == line
    assert broken("short", 20) == "short"


def test_the_board_says_that_workers_start(
) -> None:  # fmt: skip
    begins = replace(SNAPSHOT, running=[], note="")
    assert drawn(begins, 80)[-1] == "starting workers"
    assert drawn(replace(begins, has_slots=False), 80)[-1] == "no worker is at it"
    assert "starting" not in drawn(replace(begins, order=Control.PAUSE), 80)[-1]


def test_workers_have_short_names_as_long_as_these_tell_them_apart() -> None:
    assert short_names(WORKERS) == {WORKERS[0]: "cpu0", WORKERS[1]: "cpu1"}
    other = "b-2-cpu0-7-000fff.2"
    assert short_names([*WORKERS, other])[other] == "b-2:cpu0"
    assert short_names(["mine-a-machine-77-1a2b3c"]) == {"mine-a-machine-77-1a2b3c": "mine-a-machine-77"}
    of_several = "mine-a-machine-worker-cpu0-77-hand-1a2b3c.1"
    assert short_names([of_several]) == {of_several: "cpu0"}
    twins = ("a-cpu0-1-aaaaaa.1", "a-cpu0-2-bbbbbb.1")
    assert short_names(twins) == {name: name for name in twins}


def test_a_terminal_that_becomes_narrower_keeps_nothing_of_the_old_lines() -> None:
    """As many rows are taken back as the lines take once the terminal has broken them."""
    console = Console(file=io.StringIO(), force_terminal=True, width=80, height=40, color_system=None)
    region = LiveRegion(console)
    region.start()
    region.show(Text("x" * 70 + "\n" + "y" * 20))
    console.width = 30
    console.file = io.StringIO()
    region.show(Text("z"))
    assert console.file.getvalue().count("\x1b[1A") == rows_of(70, 30) + rows_of(20, 30) - 1 == 3
    region.stop()
