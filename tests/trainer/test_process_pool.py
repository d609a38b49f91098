"""Work shared out to processes: a script that starts them while it is imported is told what to do."""

import subprocess
import sys
from pathlib import Path

import pytest
from picture_samples import folder_of

SCRIPT = """
import sys
from pathlib import Path

from trainer.data import dataset, process_pool

process_pool.WORTH_PROCESSES = 1
process_pool.cores = lambda: 2

{guard}dataset.load("folder:" + sys.argv[1], Path(sys.argv[2]), 8)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "pets")


def run(folder: Path, guard: str) -> subprocess.CompletedProcess[str]:
    script = folder.parent / "script.py"
    script.write_text(SCRIPT.format(guard=guard), encoding="utf-8")
    command = [sys.executable, script, folder, folder.parent / "data"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_script_that_loads_a_folder_without_a_guard_is_told_of_one(folder: Path) -> None:
    ended = run(folder, "")
    assert ended.returncode == 1
    last = ended.stderr.strip().splitlines()[-1]
    assert "a process could not start; why stands above" in last
    assert 'under `if __name__ == "__main__":`' in last
    assert "memory" not in last


def test_one_with_a_guard_loads_it(folder: Path) -> None:
    ended = run(folder, 'if __name__ == "__main__":\n    ')
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_process_that_is_killed_is_still_said_to_be_killed(folder: Path) -> None:
    kill = (
        "import os, signal\nif __name__ != '__main__':\n    os.kill(os.getpid(), signal.SIGKILL)\nelse:\n    "
    )
    ended = run(folder, kill)
    assert "a process was killed, perhaps for lack of memory" in ended.stderr.splitlines()[-1]
