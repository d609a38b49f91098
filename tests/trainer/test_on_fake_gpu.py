"""Whole epochs on a GPU of fake tensors: everything is there, and nothing is waited for. No GPU is needed.

What a CPU's operators say of it stands in test_waiting.py, the backward pass included, which torch carries
out on real GPUs alone; here draws of the host (MixUp, CutMix) and copies between host and GPU can be told
apart.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.thorough  # fake tensors take half a minute to load
ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tests" / "support" / "fake_epochs.py"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the program said, of actions and then of recipes."""
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(tmp_path_factory.mktemp("data"))],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-4_000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_an_epoch_runs_on_the_gpu_and_waits_for_it_at_its_end_alone(found: list[dict[str, Any]]) -> None:
    recipes = {one["recipe"]: one for one in found if "recipe" in one}
    assert {"plain", "mixed", "everything drawn", "adamw", "autoaugment", "views"} <= recipes.keys()
    for name, one in recipes.items():
        first, second = one["waits"]
        assert second == ["_local_scalar_dense"], f"{name}: its loss, once and of all batches"
        assert set(first[:-1]) <= {"lift_fresh", "_to_copy"}, f"{name}: in the first, constants were made"
        assert one["mixed"] == [[], []], name
        assert one["devices"] == ["cuda:0"], name
        assert one["on_gpu"] > 100, name
        assert one["precision"] == ("torch.float32" if name == "float32" else "torch.bfloat16")


def test_what_waits_is_told(found: list[dict[str, Any]]) -> None:
    actions = {one["action"]: one["waits"] for one in found if "action" in one}
    assert len(actions) == 5
    assert all(waits == ([name] if name else []) for name, waits in actions.items())
