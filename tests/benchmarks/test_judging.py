"""The benchmark of judging runs and says what it measured; how fast is its business, not a test's."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "benchmarks.speed.judging", "--networks", "5", "--rounds", "2"]


@pytest.mark.thorough  # a benchmark as a whole
def test_the_benchmark_of_judging_prints_a_table_and_json() -> None:
    def run(*flags: str) -> str:
        done = subprocess.run(
            [*COMMAND, *flags], cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    result = json.loads(run("--json"))
    assert result["per_second"]["judged"]["median"] > 0
    assert result["counting"]["closed form"]["ratio"] == 1
    assert "target: 10,000 judged per second" in run()
