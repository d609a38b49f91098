"""The console on which commands say how their work goes: stderr, so that stdout holds data alone.

Made by the commands launch, train and confirm; search/launcher/display.py and search/training/progress.py
draw on it. Nobody need read it: a reader that goes, as `| head -1` does, ends no work. What a launch says is
kept in a file of its study's logs too.
"""

import re
import sys
import textwrap
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from search.study.streams import forget

CLOCK = re.compile(r"\d\d:\d\d:\d\d ")  # that a line for people begins with


class LineLog:
    """A file of the lines that were said, each with its time; nowhere until `path` is set. A disk that is
    full or a folder that has gone is no matter."""

    path: Path | None = None

    def print(self, *said: object, **_how: Any) -> None:
        """Adds the lines of these texts; what else a console prints is left out."""
        texts = [text for text in said if isinstance(text, str)]
        if self.path is None or not texts:
            return
        lines = " ".join(texts).strip("\n").splitlines()
        moment = f"{datetime.now():%Y-%m-%d %H:%M:%S}"
        with suppress(OSError), self.path.open("a", encoding="utf-8", errors="replace") as file:
            file.writelines(f"{moment} {CLOCK.sub('', line, count=1)}\n" for line in lines)


class SteadyConsole(Console):
    """A console that goes on in silence once nobody reads it; its lines go to `kept` too. `reworded` is done
    to each line first."""

    def __init__(self, reworded: Callable[[str], str] = str) -> None:
        super().__init__(stderr=True, highlight=False, soft_wrap=True, markup=False)
        self.kept, self.reworded = LineLog(), reworded

    def print(self, *said: Any, **how: Any) -> None:
        """Prints as rich does."""
        said = tuple(self.reworded(one) if isinstance(one, str) else one for one in said)
        self.kept.print(*said)
        if self.is_terminal:
            said = tuple(broken(one, self.width) if isinstance(one, str) else one for one in said)
        with suppress(OSError):  # stderr may be a file on a disk that is full
            super().print(*said, **how)

    def on_broken_pipe(self) -> None:
        """The reader has gone. In place of rich's own, which ends the process with code 1."""
        self.quiet = True
        forget(sys.stderr)


# Lines to copy from, a command or a path: a terminal breaks them itself, and what is marked there is whole.
COPIED = re.compile(r"(stored|logs|follow|stop|resume) {3,}|.*`")
LABEL = re.compile(r"[a-z]+ {2,}")


def broken(line: str, width: int) -> str:
    """A line for people, broken at words where the terminal is narrower; below its label where it has one."""
    if len(line) <= width or "\n" in line or COPIED.match(line):
        return line
    label = LABEL.match(line)
    indent = " " * (label.end() if label and label.end() < width // 2 else 0)
    return "\n".join(
        textwrap.wrap(
            line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False,
            drop_whitespace=True, replace_whitespace=False,
        )
    )  # fmt: skip


def stderr_console(reworded: Callable[[str], str] = str) -> SteadyConsole:
    """Prints lines as they are: without colours of numbers, without markup, never broken at the width."""
    return SteadyConsole(reworded)
