"""Runs the command `search` in the tests: in this process where that is enough, as a real one elsewhere."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest

from search import cli

ROOT = Path(__file__).parents[2]
STARTED: list[subprocess.Popen[Any]] = []  # by the test that runs


def leaves(group: click.Group, path: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command by what is typed for it."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, f"{path}{name} ")
        else:
            yield path + name, command


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def one_line(self) -> str:
        """The complaint, and that it is one line without a traceback."""
        lines = [line for line in self.err.strip().splitlines() if not line.startswith(("Usage:", "Try "))]
        lines = [line for line in lines if line.strip()]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err
        return lines[0]


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> Result:
    """The command in this process."""
    capsys.readouterr()
    old, sys.argv = sys.argv, ["search", *map(str, arguments)]
    try:
        with pytest.raises(SystemExit) as ended:
            cli.main()
    finally:
        sys.argv = old
    out, err = capsys.readouterr()
    return Result(int(ended.value.code or 0), out, err)


@contextmanager
def typed(*arguments: object) -> Iterator[click.Context]:
    """As within the command that was typed so, of which nothing but its options is read."""
    words = [str(one) for one in arguments]
    with cli.cli.make_context("search", words) as group:
        first = next(index for index, word in enumerate(words) if word in cli.cli.commands)
        name, command, rest = cli.cli.resolve_command(group, words[first:])
        assert command
        with command.make_context(name, rest, parent=group) as context:
            yield context


def python(*arguments: object, cwd: Path, **environment: str) -> subprocess.Popen[str]:
    """Python as a process of its own, which finds our packages; it is ended after the test at the latest."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("SEARCH_")}
    return remember(
        subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            cwd=cwd,
            env=clean | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    )


def start(*arguments: object, cwd: Path, **environment: str) -> subprocess.Popen[str]:
    """The command as a process of its own, as from a shell."""
    return python("-m", "search", *arguments, cwd=cwd, **environment)


def fake_training(folder: Path, seconds: float, batches: int = 4) -> dict[str, str]:
    """Environment of a search that trains without torch (tests/support/fake_training), so long a batch."""
    folder.mkdir(exist_ok=True)
    (folder / "orders.json").write_text(json.dumps({"batches": batches, "seconds": seconds}))
    paths = (ROOT / "tests" / "support" / "fake_training", ROOT)
    return {"PYTHONPATH": ":".join(map(str, paths)), "FAKE_TRAINING": str(folder)}


def remember(process: subprocess.Popen[Any]) -> subprocess.Popen[Any]:
    """Has it ended after the test, if it has not ended by then."""
    STARTED.append(process)
    return process


def end_all() -> None:
    """Kills what is left of what was started, waits for it, and closes its pipes."""
    while STARTED:
        end(STARTED.pop())


def end(process: subprocess.Popen[Any]) -> None:
    """Returns when it is no more. A Popen that is collected alive warns, in whichever test runs then."""
    if process.poll() is None:
        process.kill()
    process.wait(60)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def finish(process: subprocess.Popen[str], timeout: float = 600) -> Result:
    """Waits for its end; the limit only keeps a broken test from hanging."""
    out, err = process.communicate(timeout=timeout)
    return Result(process.returncode, out, err)
