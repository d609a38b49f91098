"""A SQLite store that this user may not write: it can be looked at, and what would write is one line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import exported_samples
import pytest
from command import ROOT
from sqlalchemy import Engine
from worker_samples import FakeTraining, make_config, make_context, make_study

from search.optuna_adapter import study as optuna_study
from search.study import files
from search.worker import trial as worker_trial
from storage import database, leases, studies, trainings
from storage.leases import Claim
from storage.trainings import Training

READS = (
    ("status",),
    ("list",),
    ("trials",),
    ("best",),
    ("ps",),
    ("db", "check"),
    ("export", "bench", "--out", "best.json"),
    ("report", "bench", "--out", "report.html"),
)
WRITES = (
    ("stop",),
    ("resume",),
    ("rename", "bench", "other"),
    ("delete", "bench", "--yes"),
    ("worker", "--study", "bench"),
    ("launch", "new", "--trials", "5", "--workers", "1", "--data", "digits", "--epochs", "1"),
)
# The commands of argv, in one process.
RUN = """
import contextlib, io, json, sys
from search import cli
for line in json.loads(sys.argv[1]):
    sys.argv = ["search", *line]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code
    print(json.dumps([line, code, out.getvalue(), err.getvalue()]))
"""


def without_rights() -> list[str]:
    """What a command begins with that is to obey the mode of files: root, with all it may, does not."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root needs setpriv to give up its rights")
    closed = "-dac_override,-dac_read_search"
    return ["setpriv", f"--bounding-set={closed}", f"--inh-caps={closed}"]


def answers(store: Path, data: Path, place: Path, *lines: tuple[str, ...]) -> list[tuple[Any, int, str, str]]:
    """What each command answers: its line, exit code, output and errors."""
    variables = {
        "SEARCH_STORAGE": f"sqlite:///{store}",
        "SEARCH_DATA_DIR": str(data),
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [*without_rights(), sys.executable, "-c", RUN, json.dumps(lines)],
        env={**os.environ, **variables, "OMP_NUM_THREADS": "1"},
        cwd=place,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def full_training(sample: exported_samples.Sample, folder: Path) -> Training:
    """A training of the sample's network to the end, whose weights lie in `folder`."""
    network, data = sample.document.architecture, sample.document.data.model_dump(mode="json")
    return Training(
        run="full", seed=0, subject="bench:0", study="bench", trial=0, fingerprint=network.fingerprint,
        parameters=sample.document.parameters, macs=sample.document.macs, architecture={}, recipe={},
        data=data, epochs=9, accuracy=0.9, best_accuracy=0.9, best_epoch=9, loss=0.1, test_accuracy=None,
        test_loss=None, test_images=None, seconds=1.0, device="cpu", versions={}, folder=str(folder),
    )  # fmt: skip


def train_one(url: str, place: Path) -> Engine:
    """A study with one trained trial, and a claim whose time is over."""
    config = make_config()
    engine, record = make_study(url, config, 3)
    with optuna_study.open_study(url, record.name, config) as opened:
        context = make_context(opened, engine, record, FakeTraining(), config, place / "spool")
        claim = leases.claim(engine, record.id, "one", 60.0)
        assert isinstance(claim, Claim)
        worker_trial.run(context, claim)
    assert isinstance(leases.claim(engine, record.id, "dead", -1.0), Claim)
    return engine


@pytest.mark.parametrize(
    ("folder_mode", "someone_writes"),
    [
        (0o555, False),
        pytest.param(0o555, True, marks=pytest.mark.thorough),
        pytest.param(0o755, False, marks=pytest.mark.thorough),
        pytest.param(0o755, True, marks=pytest.mark.thorough),
    ],
)
def test_a_store_that_may_not_be_written_can_be_looked_at(
    tmp_path: Path, digits: Path, folder_mode: int, someone_writes: bool
) -> None:
    folder, place, data = tmp_path / "store", tmp_path / "place", tmp_path / "data"
    for made in (folder, place):
        made.mkdir()
    shutil.copytree(digits, data)
    store = folder / "search.db"
    engine = train_one(f"sqlite:///{store}", tmp_path)
    if not someone_writes:
        engine.dispose()
    assert Path(f"{store}-wal").exists() == someone_writes
    store.chmod(0o444)
    folder.chmod(folder_mode)
    try:
        found = answers(store, data, place, *READS, *WRITES)
    finally:
        folder.chmod(0o755)
        engine.dispose()
    for line, code, _, err in found[: len(READS)]:
        assert code == 0, (line, err)
    for line, code, _, err in found[len(READS) :]:
        said = [one for one in err.splitlines() if "measures how many" not in one]
        assert code == 5, (line, code, err)
        assert len(said) == 1, (line, err)
        assert f"{store} can be looked at, and not be written" in said[0], (line, err)
    assert (place / "best.json").exists()
    assert "1 of 3" in found[0][2]


@pytest.mark.parametrize("launched_since", [False, True])
def test_a_store_that_was_moved_out_of_a_closed_folder_is_used(tmp_path: Path, launched_since: bool) -> None:
    """Begun by root in /root, and gone on with by somebody who may not look there."""
    closed, place, data = (tmp_path / name for name in ("closed", "place", "data"))
    for made in (closed, place):
        made.mkdir()
    url = f"sqlite:///{closed / 'search.db'}"
    sample = exported_samples.make_sample(url, data)
    engine = database.connect(url)
    record = studies.find(engine, "bench")
    trainings.save(engine, [full_training(sample, closed / "training")])
    engine.dispose()
    files.note_here(data, url, record)
    (closed / "training").mkdir()
    shutil.copy(sample.weights, closed / "training" / "seed-0.safetensors")
    store = tmp_path / "search.db"
    (closed / "search.db").rename(store)
    moved = files.study_folders(data, f"sqlite:///{store}", record).kept
    assert moved == sample.weights.parent
    if launched_since:
        files.note_here(data, f"sqlite:///{store}", record)
    else:
        moved.rename(files.kept_folder(data) / files.study_identities(data, f"sqlite:///{store}", record)[0])
    closed.chmod(0o000)
    lines = [
        ("status",),
        ("gc",),
        ("export", "bench", "--format", "safetensors", "--out", "best.safetensors"),
        ("worker", "--study", "bench"),
        ("delete", "bench", "--yes"),
    ]
    try:
        found = answers(store, data, place, *lines)
    finally:
        closed.chmod(0o755)
    assert [(line[0], code) for line, code, _, _ in found] == [(line[0], 0) for line in lines], found
    assert "of the brief training of the search" in found[2][3], "the full training's weights are closed too"


def test_a_store_in_a_closed_folder_is_said_in_one_line(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    store = closed / "search.db"
    lines = [("status",), ("launch", "new", "--trials", "5", "--data", "digits", "--dry-run")]
    for there in (False, True):
        if there:
            train_one(f"sqlite:///{store}", tmp_path).dispose()
        closed.chmod(0o000)
        try:
            found = answers(store, tmp_path / "data", tmp_path, *lines)
        finally:
            closed.chmod(0o755)
        for line, code, _, err in found:
            assert (code, err) == (5, f"search: {store} cannot be looked at: Permission denied\n"), line
