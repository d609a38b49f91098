"""Without our shortcuts, on an Optuna that was not tested or by a switch, a search is the same search."""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from worker_samples import FakeTraining, make_config, make_context, make_study

from search import settings
from search.optuna_adapter import (
    ask as optuna_ask,
    sampler as samplers,
    shortcuts,
    storage as optuna_storage,
    study as optuna_study,
)
from search.optuna_adapter.entries import EndEntry, EpochEntry, write_both
from search.optuna_adapter.plain_storage import PlainStorage
from search.recording import reconcile
from search.study.config import PrunerName
from search.worker import trial as worker_trial
from space.architecture import Architecture
from space.errors import DivergedError
from storage import candidates, leases
from storage.leases import Claim

TRIALS = 14  # beyond the ten random ones of TPE and the ten that the median waits for

COMPARED = (
    "number", "state", "params", "distributions", "values", "intermediate_values", "user_attrs",
    "constraints",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _unsaid() -> Iterator[None]:
    shortcuts._say.cache_clear()
    yield
    shortcuts._say.cache_clear()


def some_fail(architecture: Architecture) -> None:
    if int(architecture.fingerprint, 16) % 5 == 0:
        raise MemoryError("no room")  # trained once more at half the batch, and short of memory again
    if int(architecture.fingerprint, 16) % 5 == 1:
        raise DivergedError("loss is nan")


def searched(url: str, folder: Path, pruner: PrunerName) -> tuple[list[Any], list[Any], list[str]]:
    """What Optuna and the ledger hold of a search, and where they disagree."""
    config = make_config(sampler="tpe", pruner=pruner, epochs=6)
    engine, record = make_study(url, config, TRIALS)
    with optuna_study.open_study(url, record.name, config) as opened:
        context = make_context(
            opened, engine, record, FakeTraining(epochs=6, before=some_fail), config, folder
        )
        while isinstance(claim := leases.claim(engine, record.id, "one", 60.0), Claim):
            worker_trial.run(context, claim)
        told = [[getattr(one, name) for name in COMPARED] for one in opened.get_trials()]
        rows = candidates.candidates(engine, record.id)
        kept = [(row.number, row.state, row.fingerprint, row.accuracy, row.reason) for row in rows]
        wrong = reconcile.disagreements(opened, rows)
    engine.dispose()
    return told, kept, wrong


@pytest.mark.parametrize("pruner", ["median", pytest.param("asha", marks=pytest.mark.thorough)])
def test_a_search_without_shortcuts_is_the_same_search(
    pruner: PrunerName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = searched(f"sqlite:///{tmp_path / 'quick.db'}", tmp_path / "quick", pruner)
    monkeypatch.setenv("SEARCH_PLAIN_OPTUNA", "1")
    plain = searched(f"sqlite:///{tmp_path / 'plain.db'}", tmp_path / "plain", pruner)
    assert plain == quick
    told, _, wrong = plain
    assert wrong == []
    assert {TrialState.COMPLETE, TrialState.PRUNED} <= {state for _, state, *_ in told}


def test_an_optuna_that_was_not_tested_is_used_plainly_and_one_line_says_so(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(optuna, "__version__", "5.1.0")
    optuna_study.quiet()
    with (
        caplog.at_level(logging.WARNING, "search"),
        optuna_storage.open_storage(sqlite_url) as storage,
    ):
        sampler = samplers.make_sampler("tpe", 1, 2)
        study = optuna.create_study(storage=storage, sampler=sampler)
        assert type(storage) is PlainStorage
        assert type(sampler) is optuna.samplers.TPESampler
        assert not optuna_ask.can_draft(study)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("Optuna 5.1.0 was not tested: ")


@pytest.mark.parametrize("version", ["5.0.0", "5.0.3", "5.0.1.dev"])
def test_releases_of_a_tested_version_are_taken_for_tested(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optuna, "__version__", version)
    assert shortcuts.enabled()


def test_workers_are_told_of_the_switch() -> None:
    given = {"SEARCH_PLAIN_OPTUNA": "1", "SEARCH_TRIALS": "7"}
    assert settings.child_environment("sqlite:///a.db", {}, given)["SEARCH_PLAIN_OPTUNA"] == "1"
    assert "SEARCH_PLAIN_OPTUNA" not in settings.child_environment("sqlite:///a.db", {}, {})
    assert not settings.plain_optuna({"SEARCH_PLAIN_OPTUNA": "0"})


def test_without_shortcuts_no_private_module_of_optuna_is_imported_by_us(tmp_path: Path) -> None:
    """An Optuna that has moved or dropped them must not stop a worker."""
    code = (
        "import sys\n"
        "from search.optuna_adapter import ask, entries, pruner, sampler, storage, study\n"
        f"with storage.open_storage('sqlite:///{tmp_path / 'a.db'}') as opened: pass\n"
        "sampler.make_sampler('tpe', 0)\n"
        "print(sorted(name for name in sys.modules if name.startswith('search.optuna_adapter.')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "SEARCH_PLAIN_OPTUNA": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "plain_storage" in done.stdout
    for name in ("fast_storage", "statements", "cached_tpe"):
        assert f"{name}'" not in done.stdout


@pytest.fixture
def study(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[optuna.Study]:
    """A study of one running trial, without shortcuts."""
    monkeypatch.setenv("SEARCH_PLAIN_OPTUNA", "1")
    optuna_study.quiet()
    with optuna_storage.open_storage(sqlite_url) as storage:
        made = optuna.create_study(storage=storage, direction="maximize")
        made.ask()
        yield made


def test_without_shortcuts_optuna_is_told_after_the_ledger_has_committed(study: optuna.Study) -> None:
    seen: list[list[Any]] = []

    def write(in_transaction: Any = None) -> None:
        assert in_transaction is None
        (trial,) = study.get_trials()
        seen.append([trial.state, trial.intermediate_values])

    assert write_both(study, write, EpochEntry(0, 1, 0.25)) is None
    assert write_both(study, write, EpochEntry(0, 1, 0.5)) is None  # of a training that starts over
    end = EndEntry(0, TrialState.PRUNED, 0.75, {1: 0.5, 2: 0.75}, False)
    assert write_both(study, write, end) is None
    assert write_both(study, write, end) is None  # only its answer was lost
    assert seen[:3] == [
        [TrialState.RUNNING, {}],
        [TrialState.RUNNING, {1: 0.25}],
        [TrialState.RUNNING, {1: 0.5}],
    ]
    (trial,) = study.get_trials()
    assert (trial.state, trial.value) == (TrialState.PRUNED, 0.75)
    assert trial.intermediate_values == {1: 0.5, 2: 0.75}


def test_where_the_ledger_refuses_optuna_hears_nothing(study: optuna.Study) -> None:
    def write(in_transaction: Any = None) -> None:
        raise RuntimeError("lost the lease")

    with pytest.raises(RuntimeError):
        write_both(study, write, EndEntry(0, TrialState.COMPLETE, 0.5, {}, False))
    assert study.get_trials()[0].state == TrialState.RUNNING


@pytest.mark.parametrize("plain", [False, True])
def test_a_study_that_was_deleted_in_the_dashboard_stops_no_training(
    plain: bool, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if plain:
        monkeypatch.setenv("SEARCH_PLAIN_OPTUNA", "1")
    optuna_study.quiet()
    written: list[bool] = []

    def write(in_transaction: Any = None) -> None:
        with storage.engine.begin() as connection:
            if in_transaction:
                in_transaction(connection)
            written.append(True)

    with optuna_storage.open_storage(sqlite_url) as storage:
        study = optuna.create_study(storage=storage, study_name="gone")
        study.ask()
        with optuna_storage.open_storage(sqlite_url) as other:
            optuna.delete_study(study_name="gone", storage=other)
        refusal = write_both(study, write, EndEntry(0, TrialState.COMPLETE, 0.5, {1: 0.5}, False))
    assert written == [True]
    assert (refusal is not None) == plain  # an UPDATE of no row is no refusal


def test_an_entry_is_written_in_the_transaction_of_the_ledger(database_url: str) -> None:
    """With shortcuts: what the ledger takes back, Optuna never had."""
    optuna_study.quiet()
    with optuna_storage.open_storage(database_url) as storage:
        study = optuna.create_study(storage=storage, direction="maximize")
        study.ask()

        def write(in_transaction: Any = None) -> None:
            with storage.engine.begin() as connection:
                in_transaction(connection)
                raise RuntimeError("the ledger's part fails after it")

        with pytest.raises(RuntimeError):
            write_both(study, write, EndEntry(0, TrialState.COMPLETE, 0.5, {1: 0.5}, False))
        (trial,) = study.get_trials()
        assert (trial.state, trial.intermediate_values) == (TrialState.RUNNING, {})
