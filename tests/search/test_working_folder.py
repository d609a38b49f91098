"""Whatever files lie in the folder that a command is typed in, its children run the installed program."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command import ROOT, Result, finish
from worker_samples import make_config

from search import settings
from search.launcher import workers_per_gpu
from search.machine.devices import Slot
from search.machine.processes import python_module
from search.training import parallel
from search.training.parallel import FinishedProcess, TrainingProcess
from space import sampling

NAMES = ("trainer", "search", "storage", "space")
FAKE = ROOT / "tests" / "support" / "fake_training"
SMALL = ("--data", "digits", "--train-images", "100", "--max-macs", "200k", "--gpus", "none", "--seed", "7")
# As the installed command begins: without the working folder. What its environment says is set afterwards.
COMMAND = "import os, sys; os.environ['PYTHONPATH'] = {paths!r}; from search.cli import main; main()"


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / f"{name}.py").write_text("print('not ours')\nx = 1\n")


def launch(folder: Path, paths: str) -> Result:
    """A search of one trial whose training costs nothing, typed in `folder` with this PYTHONPATH."""
    (folder / "orders.json").write_text(json.dumps({"batches": 1, "seconds": 0.0}))
    process = subprocess.Popen(
        [
            *(sys.executable, "-P", "-c", COMMAND.format(paths=paths)),
            *("launch", "--trials", "1", "--workers", "1", "--study", "s", *SMALL),
            *("--storage", "sqlite:///s.db", "--data-dir", "data"),
        ],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "FAKE_TRAINING": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return finish(process)


def test_a_worker_runs_the_program_beside_files_of_its_names(tmp_path: Path) -> None:
    put(tmp_path, *NAMES)
    done = launch(tmp_path, f"{FAKE}{os.pathsep}{ROOT}")
    assert done.code == 0, done.err
    assert "s: 1 of 1 trained" in done.err


@pytest.mark.thorough  # settings are tested below
def test_a_worker_does_so_where_pythonpath_names_the_working_folder(tmp_path: Path) -> None:
    put(tmp_path, *NAMES)
    done = launch(tmp_path, os.pathsep.join(("", ".", str(FAKE), str(ROOT))))
    assert done.code == 0, done.err
    assert "s: 1 of 1 trained" in done.err


def test_a_probe_and_a_full_training_run_the_program_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, *NAMES)
    monkeypatch.chdir(tmp_path)
    config = make_config()
    task = {
        "networks": [sampling.smallest(config.space, config.task).document()],
        "recipe": config.recipe.model_dump(mode="json"),
        "seconds": 0.1,
    }
    assert workers_per_gpu.side_by_side(task, {"CUDA_VISIBLE_DEVICES": ""}, 1)
    ended: list[FinishedProcess] = []
    work = TrainingProcess("one", ("--help",), tmp_path / "one.log")
    parallel.run([work], [Slot("cpu0", {})], "sqlite:///s.db", ended.append)
    assert [done.code for done in ended] == [0]
    assert work.log.read_text().startswith("Usage: ")
    assert "not ours" not in work.log.read_text()


def test_pythonpath_goes_on_working_in_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "sitecustomize.py").write_text("print('customised')\n")
    monkeypatch.chdir(tmp_path)
    environment = settings.child_environment("", {}, os.environ | {"PYTHONPATH": f"theirs{os.pathsep}"})
    done = subprocess.run(
        python_module("search", "--version"), env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("customised\nsearch, version")


def test_a_checkout_that_one_works_in_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for paths in ("", ".", str(ROOT)):
        assert settings.child_environment("", {}, {"PYTHONPATH": paths})["PYTHONPATH"] == str(ROOT)


def test_workers_allocate_in_segments_that_grow_unless_somebody_says_otherwise() -> None:
    grown = {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}
    assert settings.child_environment("", {}, {}).items() >= grown.items()
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        said = {name: "backend:cudaMallocAsync"}
        assert settings.child_environment("", {}, said).items() >= said.items()
        assert settings.says_how_to_allocate(settings.child_environment("", {}, said))
        by_hand = dict(said)
        settings.grow_segments(by_hand)
        assert by_hand == said
    by_hand = {}
    settings.grow_segments(by_hand)
    assert by_hand == grown
