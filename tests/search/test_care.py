"""A store that is looked after: studies are renamed and deleted in both sets of tables, with their files."""

import os
from pathlib import Path

import optuna
import pytest
from command import Result, run
from sqlalchemy import Engine, text
from worker_samples import FakeTraining, make_config, make_context, make_study

from search.optuna_adapter import study as optuna_study
from search.study import files
from search.worker import trial as worker_trial
from storage import database, invariants, leases, studies
from storage.leases import Claim


class Store:
    """Two studies of one network each, `night` with files."""

    def __init__(self, url: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.url, self.data, self.capsys = url, place / "data", capsys
        for name in ("noon", "night"):
            config = make_config(max_parameters=100_000)
            engine, record = make_study(url, config, 1, name)
            with optuna_study.open_study(url, name, config) as opened:
                context = make_context(opened, engine, record, FakeTraining(), config, place / "spool")
                claim = leases.claim(engine, record.id, "one", 60.0)
                assert isinstance(claim, Claim)
                worker_trial.run(context, claim)
            engine.dispose()
        self.kept = files.kept_folder(self.data) / files.study_identity(url, record)
        self.logs = self.data / "logs" / "night"
        for folder in (self.kept, self.logs):
            folder.mkdir(parents=True)
            (folder / "0.safetensors").write_bytes(b"x" * 1_000_000)

    def ask(self, *arguments: object) -> Result:
        return run(self.capsys, *arguments, "--storage", self.url)

    def care(self, *arguments: object) -> Result:
        return self.ask(*arguments, "--data-dir", self.data)

    def engine(self) -> Engine:
        return database.connect(self.url)

    def optuna_names(self) -> list[str]:
        with optuna_study.open_storage(self.url) as storage:
            return sorted(optuna.get_all_study_names(storage))


@pytest.fixture
def store(database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Store:
    return Store(database_url, tmp_path, capsys)


def test_a_deleted_study_is_gone_from_both_sets_of_tables_and_from_this_machine(store: Store) -> None:
    asked = store.care("delete", "night")
    assert (asked.code, asked.one_line) == (
        2,
        "search: night has 1 trial, 2.0 MB of files here; add --yes to delete it",
    )
    result = store.care("delete", "night", "--yes")
    assert (result.code, result.out) == (0, "deleted night: 1 trial, 2.0 MB of files here\n"), result.err
    assert not store.kept.exists() and not store.logs.exists()
    assert store.optuna_names() == ["noon"]
    engine = store.engine()
    assert [record.name for record in studies.all_studies(engine)] == ["noon"]
    with engine.connect() as connection:
        counts = {
            table: connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
            for table in ("search_candidates", "trials", "studies")
        }
        left = connection.execute(
            text("SELECT count(*) FROM trial_params WHERE trial_id NOT IN (SELECT trial_id FROM trials)")
        ).scalar_one()
    engine.dispose()
    assert counts == {"search_candidates": 1, "trials": 1, "studies": 1}
    assert left == 0
    assert "the books agree" in store.ask("db", "check", "noon").out


def test_a_renamed_study_keeps_its_trials_and_its_files(store: Store) -> None:
    assert store.care("rename", "night", "noon").one_line == (
        "search: there is a study 'noon' already; choose another name"
    )
    assert store.optuna_names() == ["night", "noon"], "nothing by halves"
    result = store.care("rename", "night", "monday")
    assert (result.code, result.out) == (0, "night is monday now\n"), result.err
    assert store.optuna_names() == ["monday", "noon"]
    assert "the books agree" in store.ask("db", "check", "monday").out
    engine = store.engine()
    record = studies.find(engine, "monday")
    assert invariants.check(engine, record.id) == []
    engine.dispose()
    kept = files.kept_folder(store.data) / files.study_identity(store.url, record)
    assert (kept / "0.safetensors").exists() and not store.kept.exists()
    assert (store.data / "logs" / "monday" / "0.safetensors").exists()


@pytest.mark.parametrize("command", [("delete", "night", "--yes"), ("rename", "night", "monday")])
def test_a_study_at_which_somebody_works_is_left_alone(store: Store, command: tuple[str, ...]) -> None:
    engine = store.engine()
    record = studies.find(engine, "night")
    studies.set_trials(engine, record.id, 2)
    assert isinstance(leases.claim(engine, record.id, "busy", 600.0), Claim)
    engine.dispose()
    result = store.care(*command)
    assert result.code == 2
    assert "1 worker of study 'night' at work; `search stop night` ends them" in result.one_line
    assert store.optuna_names() == ["night", "noon"]


def test_a_study_whose_part_in_optuna_was_deleted_is_marked_and_can_be_deleted(store: Store) -> None:
    with optuna_study.open_storage(store.url) as storage:
        optuna.delete_study(study_name="night", storage=storage)
    assert "Optuna's part of this study was deleted" in store.ask("status", "night").out
    assert "warning: Optuna's part of this study was deleted" in store.ask("best", "night").err
    listed = store.ask("list", "--format", "csv", "--columns", "study,state,optuna").out.splitlines()
    assert listed == ["study,state,optuna", "noon,done,True", "night,broken,False"]
    assert store.care("delete", "night", "--yes").code == 0
    assert "night" not in store.ask("list").out


def test_orphans_go_once_nobody_has_written_to_them_for_a_day(store: Store) -> None:
    left = files.kept_folder(store.data) / ("0" * 16)
    left.mkdir()
    (left / "1.safetensors").write_bytes(b"x" * 500_000)
    fresh = store.care("gc", "--orphans")
    assert "1 folder of studies of other stores, or of deleted ones: 0.5 MB" in fresh.err
    assert fresh.err.strip().endswith("written to today") and left.exists()
    for path in (left / "1.safetensors", left):
        os.utime(path, (0, 0))
    assert "--orphans removes those" in store.care("gc").err and left.exists()
    assert "orphans: 1 folder would be removed, 0.5 MB" in store.care("gc", "--orphans", "--dry-run").out
    assert left.exists()
    assert "orphans: 1 folder removed, 0.5 MB" in store.care("gc", "--orphans").out
    assert not left.exists() and store.kept.exists()
