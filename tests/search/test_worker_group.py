"""`search worker --workers N`: several workers by one command, and how it ends."""

from pathlib import Path
from typing import Any

import pytest
from command import fake_training, finish, run, start
from faults import wait_until
from worker_samples import make_config, make_study

from search.launcher.worker_group import WorkerGroup
from search.launcher.worker_pool import EXHAUSTED
from search.machine.devices import Slot
from search.machine.processes import WORK_DONE
from search.machine.signals import Interrupts
from search.study.worker_options import WorkerOptions
from space.errors import ExhaustedError, GaveUpError
from storage import database, studies
from storage.studies import Control

SLOTS = [Slot("cpu0", {}), Slot("cpu1", {})]


@pytest.fixture
def group(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WorkerGroup:
    """Whose workers are shells: they end as their test says."""
    engine, _ = make_study(sqlite_url, make_config(), 3)
    engine.dispose()
    options = WorkerOptions(storage=sqlite_url, data_dir=tmp_path, study="bench", name="mine")
    monkeypatch.setattr("search.launcher.worker_group.POLL_SECONDS", 0.0)
    return WorkerGroup(options, SLOTS, lambda _: None)


def workers_end(monkeypatch: pytest.MonkeyPatch, script: str) -> list[list[str]]:
    asked = []

    def shell(_: str, *arguments: str) -> list[str]:
        asked.append(list(arguments))
        return ["sh", "-c", script]

    monkeypatch.setattr("search.launcher.worker_pool.python_module", shell)
    return asked


def test_each_is_told_its_study_and_a_name_of_its_own(
    group: WorkerGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = workers_end(monkeypatch, f"exit {WORK_DONE}")
    assert group.run(Interrupts()) == 0
    names = [words[words.index("--name") + 1] for words in asked]
    assert len(set(names)) == 2 and all(name.startswith("mine-") for name in names)
    assert [words[words.index("--study") + 1] for words in asked] == ["bench", "bench"]


def test_where_none_can_work_the_code_is_5(group: WorkerGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    workers_end(monkeypatch, "echo no such images; exit 5")
    said: list[str] = []
    group.say = said.append
    assert group.run(Interrupts()) == 5
    assert "worker-cpu0 closed: no such images (exit code 5)" in said[-1]


def test_it_ends_as_one_worker_does_where_nothing_new_is_found(
    group: WorkerGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers_end(monkeypatch, f"echo search: nothing new; exit {EXHAUSTED}")
    with pytest.raises(ExhaustedError, match=r"^nothing new$"):
        group.run(Interrupts())


def test_it_says_why_the_search_ended_by_itself(
    group: WorkerGroup, monkeypatch: pytest.MonkeyPatch, sqlite_url: str
) -> None:
    engine = database.connect(sqlite_url)
    studies.set_control(engine, studies.find(engine).id, Control.GAVE_UP)
    engine.dispose()
    monkeypatch.setattr("search.study.gave_up.reason", lambda *_: "20 networks in a row diverged")
    workers_end(monkeypatch, f"exit {WORK_DONE}")
    with pytest.raises(GaveUpError, match="diverged"):
        group.run(Interrupts())


def test_a_study_that_is_not_there_is_one_line(sqlite_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    engine, _ = make_study(sqlite_url, make_config(), 3)
    engine.dispose()
    refused = run(capsys, "worker", "nihgt", "--workers", 2, "--gpus", "none", "--storage", sqlite_url)
    assert refused.code == 2
    assert "no study 'nihgt'" in refused.one_line
    assert run(capsys, "worker", "--workers", 0, "--gpus", "none", "--storage", sqlite_url).code == 2


@pytest.mark.thorough  # test_end_to_end.py has workers by hand
@pytest.mark.slow
def test_several_workers_by_hand_do_a_study_and_leave_their_logs(
    tmp_path: Path, digits: Path, sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fake: Any = fake_training(tmp_path / "training", seconds=0.0)
    place = ("--storage", sqlite_url, "--data-dir", digits)
    launcher = start("launch", "hand", "--trials", 4, "--workers", 0, "--data", "digits", "--epochs", 1,
                     "--max-macs", "300k", "--no-baselines", *place, cwd=tmp_path, **fake)  # fmt: skip
    wait_until(lambda: run(capsys, "status", *place[:2]).code == 0 or launcher.poll() is not None, "a study")
    done = finish(start("worker", "hand", "--workers", 2, "--gpus", "none", *place, cwd=tmp_path, **fake))
    assert done.code == 0, done.err
    assert finish(launcher).code == 0
    said = run(capsys, "logs", "hand", *place).out
    assert "worker-cpu0" in said and " completed: " in said
