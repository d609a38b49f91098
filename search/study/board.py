"""Parts of a board on a terminal: a region that is redrawn in place, and the line at its top.

Called by search/launcher/display.py and search/training/confirm_board.py; draws on the console that it is
given. Knows no study and no training.
"""

from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.control import Control
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.segment import ControlType
from rich.table import Table
from rich.text import Text

LEAST = 8  # columns that a name keeps
LEAST_BAR, WIDEST_BAR = 10, 40


class LiveRegion:
    """A part of a terminal that is redrawn in place, and gone at its end. A terminal that becomes narrower
    breaks the lines that are there: nothing of them is left."""

    def __init__(self, console: Console) -> None:
        self.console, self.lengths, self.width = console, list[int](), console.width
        # Without a thread of its own, which would redraw before the lines were counted anew.
        self.live = Live(console=console, auto_refresh=False, transient=True)

    def start(self) -> None:
        """From now on what the console prints stands above the region."""
        self.live.start()

    def stop(self) -> None:
        """Takes it away."""
        self.live.stop()

    def show(self, shown: RenderableType) -> None:
        """Draws this in place of what was there."""
        width = self.console.width
        if width != self.width:
            # rich takes back as many rows as it drew; the terminal has broken some of them into more.
            rows = sum(rows_of(length, width) for length in self.lengths)
            extra = min(rows, self.console.height) - len(self.lengths)
            erased = ((ControlType.CURSOR_UP, 1), (ControlType.ERASE_IN_LINE, 2))
            self.console.control(Control((ControlType.ERASE_IN_LINE, 2), *(erased * max(0, extra))))
        self.width, wrapped = width, Wrapped(shown)
        self.lengths = [
            sum(segment.cell_length for segment in line)
            for line in self.console.render_lines(wrapped, pad=False)
        ]
        self.live.update(wrapped, refresh=True)


@dataclass(frozen=True)
class Wrapped:
    """Broken at words where it is too wide, also on a console that leaves lines as they are."""

    shown: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from console.render(self.shown, options.update(no_wrap=False, overflow="fold"))


def rows_of(length: int, width: int) -> int:
    """Rows of a terminal that a line takes."""
    return max(1, -(-length // width))


def headline(width: int, name: str, done: int, total: int, times: str) -> RenderableType:
    """Name, bar, count and times in a line of so many columns; where that is too long the times come below,
    and there is no bar."""
    count = f"{done}/{total}"
    free = width - len(count) - len(times) - 3
    shown = Text(name, style="bold", no_wrap=True, overflow="ellipsis")
    if free < LEAST_BAR + min(shown.cell_len, LEAST):
        shown.truncate(max(LEAST, width - len(count) - 1), overflow="ellipsis")
        return Group(Text.assemble(shown, " ", count), Text(times))
    shown.truncate(max(LEAST, free - LEAST_BAR), overflow="ellipsis")
    head = Table.grid(padding=(0, 1))
    bar = ProgressBar(total=total, completed=done, width=min(WIDEST_BAR, free - shown.cell_len))
    head.add_row(shown, bar, count, times)
    return head
