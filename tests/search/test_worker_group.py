"""`search worker --workers N`: several workers by one command, and how it ends."""

from pathlib import Path
from typing import Any

import pytest
from command import fake_training, finish, run, start
from faults import wait_until
from ledger_samples import outcome, proposal, train
from optuna.trial import TrialState
from worker_samples import make_config, make_study

from search.launcher.worker_group import WorkerGroup
from search.launcher.worker_pool import EXHAUSTED
from search.machine.devices import Slot
from search.machine.processes import WORK_DONE
from search.machine.signals import Interrupts
from search.optuna_adapter import study as optuna_study
from search.study.worker_options import WorkerOptions
from space.errors import ExhaustedError, GaveUpError
from storage import candidates, database, leases, rungs, studies, workers
from storage.leases import Claim
from storage.row_types import RungEntry, Stage, State
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


@pytest.mark.parametrize("claims", [True, False])
@pytest.mark.parametrize("named", [True, False])
def test_what_a_dead_worker_held_is_given_back_wherever_it_was(
    named: bool, claims: bool, sqlite_url: str, tmp_path: Path
) -> None:
    """One that follows may be at another study than the newest."""
    config = make_config()
    engine, older = make_study(sqlite_url, config, 3, "older")
    make_study(sqlite_url, config, 3, "newer")[0].dispose()
    workers.announce(
        engine, older.id, "dead", host="here", pid=1, state=workers.Doing.WORKING, lease_seconds=60.0
    )
    options = WorkerOptions(
        storage=sqlite_url, data_dir=tmp_path, study="older" if named else None, follow=True
    )
    group = WorkerGroup(options, [], lambda _: None)
    with optuna_study.open_study(sqlite_url, "older", config) as opened:
        if claims:
            claim = leases.claim(engine, older.id, "dead", 60.0)
            assert isinstance(claim, Claim)
            candidates.propose(engine, claim, proposal(opened.ask().number))
        assert not group._on_death("dead"), "it had finished nothing"
        assert leases.running(engine, older.id) == [] and workers.of_study(engine, older.id) == []
        if claims:
            (row,) = candidates.candidates(engine, older.id)
            assert (row.state, row.reason) == (State.LOST, "worker dead died")
            assert [trial.state for trial in opened.trials] == [TrialState.FAIL], "Optuna is told"
    engine.dispose()


def test_a_worker_that_has_done_a_training_of_the_second_stage_did_not_die_in_vain(
    sqlite_url: str, tmp_path: Path
) -> None:
    """The third death in a row without one closes a slot."""
    engine, record = make_study(sqlite_url, make_config(), 1, "night")
    make_study(sqlite_url, make_config(), 3, "newer")[0].dispose()
    row = train(engine, record, 0, 0.5)
    entries = [RungEntry(row.id, Stage.FINALS, 9, seed) for seed in range(2)]
    assert rungs.enter(engine, record.id, entries) == 2
    group = WorkerGroup(WorkerOptions(storage=sqlite_url, data_dir=tmp_path, follow=True), [], lambda _: None)
    for name, finished in (("fails", False), ("works", True), ("one", True), ("other", False)):
        if name != "one":  # who has done the trial
            claimed = rungs.claim(engine, record.id, name, 60.0)
            assert name == "other" or isinstance(claimed, tuple)
            if isinstance(claimed, tuple) and finished:
                metrics = outcome(0.5, epochs=9)
                rungs.finish(engine, claimed[0], claimed[1].id, State.COMPLETED, outcome=metrics)
        assert group._on_death(name) is finished, name
    engine.dispose()


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
