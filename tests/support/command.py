"""Runs the command `search` in the tests: in this process where that is enough, as a real one elsewhere."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from search import cli

ROOT = Path(__file__).parents[2]


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


def start(*arguments: object, cwd: Path, **environment: str) -> subprocess.Popen[str]:
    """The command as a process of its own, as from a shell."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("SEARCH_")}
    return subprocess.Popen(
        [sys.executable, "-m", "search", *map(str, arguments)],
        cwd=cwd,
        env=clean | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], timeout: float = 240) -> Result:
    """Waits for its end; the limit only keeps a broken test from hanging."""
    out, err = process.communicate(timeout=timeout)
    return Result(process.returncode, out, err)
