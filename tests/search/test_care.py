"""A store that is looked after: studies are renamed and deleted in both sets of tables, with their files."""

import hashlib
import json
import os
import re
import shlex
import socket
import sqlite3
import time
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any, NoReturn

import in_the_dashboard
import optuna
import pytest
from command import Result, run
from sqlalchemy import Engine, make_url, text
from worker_samples import FakeTraining, make_config, make_context, make_study

from search.machine.signals import ShutdownRequest
from search.optuna_adapter import study as optuna_study
from search.optuna_adapter.ask import GivenSuggestions
from search.study import files
from search.worker import trial as worker_trial, worker
from space.architecture import Architecture
from space.errors import DivergedError, StudyError
from storage import database, invariants, leases, studies, trainings, workers
from storage.database import normalise, redacted
from storage.leases import Claim
from storage.trainings import Training
from storage.url import without_password
from storage.workers import Doing
from trainer.callbacks import TrainingCallbacks
from trainer.outcome import EpochReport


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
        self.kept = files.study_folders(self.data, url, record).kept
        self.logs, self.record = self.data / "logs" / "night", record
        for folder in (self.kept, self.logs):
            folder.mkdir(parents=True)
            (folder / "0.safetensors").write_bytes(b"x" * 1_000_000)
        files.note_here(self.data, url, record)  # as its launch and its workers do

    def another_store_logs(self) -> str:
        """A study of the same name in another store, whose workers are at work on this machine."""
        url = f"sqlite:///{self.data / 'other.db'}"
        engine, record = make_study(url, make_config(), 1, "night")
        engine.dispose()
        files.note_here(self.data, url, record)
        (self.logs / "cpu0.log").write_text("trial 1 begins\n")
        return url

    def ask(self, *arguments: object) -> Result:
        return run(self.capsys, *arguments, "--storage", self.url)

    def care(self, *arguments: object) -> Result:
        return self.ask(*arguments, "--data-dir", self.data)

    def named(self, command: str) -> str:
        """As it is printed to be copied."""
        return f"`{command} --storage {shlex.quote(without_password(self.url))}`"

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


def training(run: str, study: str, trial: int) -> Training:
    """A full training of this trial's network, as `search train` stores it."""
    return Training(
        run=run,
        seed=0,
        subject=f"{study}:{trial}",
        study=study,
        trial=trial,
        fingerprint="f",
        parameters=10,
        macs=50,
        architecture={},
        recipe={},
        data={"name": "digits"},
        epochs=2,
        accuracy=0.5,
        best_accuracy=0.6,
        best_epoch=1,
        loss=1.5,
        test_accuracy=None,
        test_loss=None,
        test_images=None,
        seconds=3.0,
        device="cpu",
        versions={},
        folder="there",
    )


def test_full_trainings_are_asked_for_by_study_or_trial_and_no_name_is_guessed(store: Store) -> None:
    engine = store.engine()
    trainings.save(engine, [training("a", "night", 0), training("b", "night", 1), training("c", "old", 5)])
    engine.dispose()

    def subjects(*named: str) -> list[str]:
        found = store.ask("trainings", *named, "--format", "json")
        assert found.code == 0, found.err
        return [row["network"] for row in json.loads(found.out)]

    assert subjects() == ["night:0", "night:1", "old:5"]
    assert subjects("night") == ["night:0", "night:1"]
    assert subjects("night:1") == ["night:1"]
    assert subjects(":0") == subjects("--study", "night:0") == ["night:0"], "of the newest study"
    assert subjects("noon") == subjects("noon:0") == [], "which is there, and has none"
    assert subjects("old") == subjects("old:5") == ["old:5"], "a study that was deleted"
    for typed, words in (
        ("nigt", "no study 'nigt'; did you mean 'night'?"),
        ("noon:7", "the study has no trial 7; `search trials noon --storage "),
        ("old:6", "no study 'old'"),
    ):
        refused = store.ask("trainings", typed)
        assert (refused.code, refused.out) == (2, "")
        assert refused.one_line.startswith(f"search: {words}")


@pytest.mark.parametrize("command", ["trainings", "dashboard"])
def test_the_help_of_what_shows_a_whole_store_says_so(
    capsys: pytest.CaptureFixture[str], command: str
) -> None:
    said = " ".join(run(capsys, command, "--help").out.split())
    assert "--study NAME The study. [default: all of the store]" in said


def test_who_begins_while_the_question_stands_keeps_the_study(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begins(question: str, **_: object) -> bool:
        engine = store.engine()
        record = studies.find(engine, "night")
        workers.announce(
            engine, record.id, "one", host="here", pid=1, state=Doing.STARTING, lease_seconds=600.0
        )
        engine.dispose()
        asked.append(question)
        return True

    asked = list[str]()
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("click.confirm", begins)
    result = store.care("delete", "night")
    assert asked == ["delete night with 1 trial, 2.0 MB of files here?"]
    assert result.code == 2 and "1 worker of study 'night' at work" in result.one_line
    assert store.kept.exists() and store.optuna_names() == ["night", "noon"]


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
    kept = files.study_folders(store.data, store.url, record).kept
    assert (kept / "0.safetensors").exists() and not store.kept.exists()
    assert (store.data / "logs" / "monday" / "0.safetensors").exists()


@pytest.mark.parametrize("act", [("delete", "night", "--yes"), ("rename", "night", "monday")])
def test_logs_that_are_of_a_study_of_another_store_too_stay(store: Store, act: tuple[str, ...]) -> None:
    other = store.another_store_logs()
    result = store.care(*act)
    assert result.code == 0
    assert result.err == f"{store.logs} stays: a study 'night' of another store may have its logs there\n"
    assert (store.logs / "cpu0.log").is_file() and not store.kept.exists()
    assert not (store.data / "logs" / "monday").exists()
    last = run(store.capsys, "delete", "night", "--yes", "--storage", other, "--data-dir", store.data)
    assert (last.code, last.err) == (0, "") and not store.logs.exists(), "nobody else logs there any more"


def test_logs_without_a_mark_may_be_anybodys(store: Store) -> None:
    files.forget_here(store.data, store.url, store.record)
    assert store.care("delete", "night", "--yes").out == "deleted night: 1 trial, 1.0 MB of files here\n"
    assert (store.logs / "0.safetensors").exists() and not store.kept.exists()


def test_renamed_logs_are_deleted_by_their_new_name(store: Store) -> None:
    assert store.care("rename", "night", "monday").err == ""
    assert store.care("delete", "monday", "--yes").out == "deleted monday: 1 trial, 2.0 MB of files here\n"
    assert list((store.data / "logs").iterdir()) == []


def test_what_a_study_has_here_is_found_by_each_spelling_of_its_url(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    parsed = make_url(store.url)
    if parsed.get_backend_name() == "sqlite":
        other = f"sqlite:///{os.path.relpath(str(parsed.database))}"
    else:
        other = parsed.update_query_dict({"application_name": "reader"}).render_as_string(hide_password=False)
    assert other != store.url
    os.utime(store.kept, (0, 0))
    given = ("--storage", other, "--data-dir", store.data)
    cleaned = run(store.capsys, "gc", "--orphans", *given)
    assert (cleaned.code, cleaned.out) == (0, "nothing to remove\n"), cleaned.err
    written = run(store.capsys, "export", "night:0", "--weights", "w.safetensors", "--out", "n.json", *given)
    assert (written.code, Path("w.safetensors").stat().st_size) == (0, 1_000_000), written.err


def test_files_that_an_older_version_named_by_the_url_as_it_was_typed_are_found_and_renamed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = store.engine()
    record = studies.find(engine, "night")
    engine.dispose()
    typed = f"{redacted(normalise(store.url))} night {record.created_at.isoformat()}"
    older = store.kept.with_name(hashlib.sha256(typed.encode()).hexdigest()[:16])
    store.kept.rename(older)
    os.utime(older, (0, 0))
    assert files.study_folders(store.data, store.url, record).kept == older
    assert store.care("gc", "--orphans").out == "nothing to remove\n"
    assert store.care("rename", "night", "monday").code == 0
    engine = store.engine()
    renamed = studies.find(engine, "monday")
    engine.dispose()
    kept = files.study_folders(store.data, store.url, renamed).kept
    assert kept.name == files.study_identities(store.data, store.url, renamed)[0]
    assert (kept / "0.safetensors").exists() and not older.exists()


def test_what_a_study_has_here_is_found_after_its_sqlite_file_was_moved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "project").mkdir()
    store = Store(f"sqlite:///{tmp_path / 'project' / 'parsimony.db'}", tmp_path, capsys)
    (tmp_path / "project").rename(tmp_path / "archive")
    (tmp_path / "project").mkdir()
    store.url = f"sqlite:///{tmp_path / 'archive' / 'parsimony.db'}"
    assert files.study_folders(store.data, store.url, store.record).kept == store.kept
    again = f"sqlite:///{tmp_path / 'project' / 'parsimony.db'}"
    engine, _ = make_study(again, make_config(), 1, "night")  # the next search in the old place
    engine.dispose()
    os.utime(store.kept, (0, 0))
    assert store.care("gc", "--orphans", "--keep-weights", 1).out == "nothing to remove\n"
    written = store.care("export", "night:0", "--weights", "w.safetensors", "--out", "n.json")
    assert (written.code, Path("w.safetensors").stat().st_size) == (0, 1_000_000), written.err
    files.note_here(store.data, store.url, store.record)  # as its next launch does
    assert store.care("delete", "night", "--yes").err == ""
    assert not store.kept.exists() and not store.logs.exists()
    assert list((store.data / "places").iterdir()) == []


def copied(store: Path, copy: Path) -> str:
    """The URL of a copy of a SQLite store."""
    with closing(sqlite3.connect(store)) as here, closing(sqlite3.connect(copy)) as there:
        here.backup(there)
    return f"sqlite:///{copy}"


def test_a_copy_of_a_sqlite_file_has_none_of_the_files_of_the_store_that_is_still_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(f"sqlite:///{tmp_path / 'parsimony.db'}", tmp_path, capsys)
    copy = copied(tmp_path / "parsimony.db", tmp_path / "copy.db")
    assert files.study_folders(store.data, copy, store.record).kept != store.kept
    (tmp_path / "parsimony.db").unlink()
    assert files.study_folders(store.data, copy, store.record).kept == store.kept
    (tmp_path / "parsimony.db").write_text("of another program")
    assert files.study_folders(store.data, copy, store.record).kept != store.kept


NAME, ROOT = socket.gethostname(), Path("/").stat().st_ino  # of this machine, as notes have them


NOT_FROM_HERE = pytest.mark.parametrize(
    "host",
    [
        pytest.param(f"{NAME}-2 {ROOT}", id="another machine"),
        pytest.param(f"{NAME} {ROOT + 1}", id="a container of this name"),
        pytest.param(None, id="an older version's note"),
    ],
)


def noted_by(store: Store, host: str | None) -> Path:
    """The note of `night`, as if it had been written there."""
    (noted,) = (store.data / "places").iterdir()
    said = json.loads(noted.read_text())
    assert said["host"] == f"{NAME} {ROOT}"
    said["host"] = host
    noted.write_text(json.dumps({name: value for name, value in said.items() if value}))
    return noted


@NOT_FROM_HERE
def test_a_copy_of_a_sqlite_file_that_others_see_has_none_of_its_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], host: str | None
) -> None:
    """DATA_DIR is shared by two machines, and each has folders that the other does not see."""
    store = Store(f"sqlite:///{tmp_path / 'parsimony.db'}", tmp_path, capsys)
    (tmp_path / "parsimony.db").rename(tmp_path / "copy.db")  # the file that is at work is not seen from here
    noted = noted_by(store, host)
    url, said = f"sqlite:///{tmp_path / 'copy.db'}", json.loads(noted.read_text())
    identity, _, *others = files.study_identities(store.data, url, store.record)
    assert others == []
    assert files.study_folders(store.data, url, store.record).kept == store.kept.with_name(identity)
    store.url = url
    assert store.care("gc", "--keep-weights", 0).out == "nothing to remove\n"
    assert store.care("delete", "night", "--yes").code == 0
    assert (store.kept / "0.safetensors").exists() and (store.logs / "0.safetensors").exists()
    assert noted.exists()
    noted.write_text(json.dumps(said | {"host": f"{NAME} {ROOT}"}))
    assert files.study_folders(store.data, url, store.record).kept == store.kept


def test_a_note_that_goes_while_all_are_read_hides_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where another study is deleted meanwhile: listed, and not there any more."""
    store = Store(f"sqlite:///{tmp_path / 'parsimony.db'}", tmp_path, capsys)
    (store.data / "places" / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "parsimony.db").rename(tmp_path / "moved.db")
    url = f"sqlite:///{tmp_path / 'moved.db'}"
    assert files.study_folders(store.data, url, store.record).kept == store.kept


@NOT_FROM_HERE
@pytest.mark.parametrize("name", ["night", "monday"])
def test_what_may_be_of_a_store_that_was_moved_is_no_orphan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], host: str | None, name: str
) -> None:
    """Launched on a node, moved, and cleaned up on the login node; under another name too."""
    store = Store(f"sqlite:///{tmp_path / 'parsimony.db'}", tmp_path, capsys)
    (tmp_path / "parsimony.db").rename(tmp_path / "moved.db")
    store.url = f"sqlite:///{tmp_path / 'moved.db'}"
    noted, three_days_ago = noted_by(store, host), time.time() - 3 * 24 * 3600
    if name != "night":
        assert store.care("rename", "night", name).code == 0
    for path in (store.kept / "0.safetensors", store.kept):
        os.utime(path, (three_days_ago, three_days_ago))
    for flags in ((), ("--orphans",)):
        cleaned = store.care("gc", *flags)
        assert (cleaned.code, cleaned.out) == (0, "nothing to remove\n")
        assert cleaned.err == (
            f"1 folder of a store that was moved, or of a copy: 1.0 MB in {store.data / 'kept'};"
            " gc leaves such alone\n"
        )
        assert (store.kept / "0.safetensors").exists() and noted.exists()


def test_a_copy_that_was_used_while_the_store_was_away_has_none_of_its_files_once_it_is_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (disk := tmp_path / "disk").mkdir()
    original = f"sqlite:///{disk / 'parsimony.db'}"
    store = Store(original, tmp_path, capsys)
    copy = copied(disk / "parsimony.db", tmp_path / "copy.db")

    def kept(url: str) -> Path:
        return files.study_folders(store.data, url, store.record).kept

    for _ in range(2):
        disk.rename(tmp_path / "unmounted")
        assert kept(copy) == store.kept
        files.note_here(store.data, copy, store.record)  # as its launch and its workers do
        assert kept(copy) == store.kept
        (tmp_path / "unmounted").rename(disk)
        assert kept(copy) != store.kept and kept(original) == store.kept
    store.url = copy
    for path in (store.kept / "0.safetensors", store.kept):
        os.utime(path, (0, 0))
    assert store.care("gc", "--orphans", "--keep-weights", 0).out == "nothing to remove\n"
    assert store.care("delete", "night", "--yes").code == 0
    assert (store.kept / "0.safetensors").exists() and (store.logs / "0.safetensors").exists()
    store.url = original
    assert store.care("delete", "night", "--yes").err == ""
    assert not store.kept.exists() and not store.logs.exists()
    assert list((store.data / "places").iterdir()) == []


@pytest.mark.parametrize("is_launched", [True, False])
def test_a_link_where_a_store_was_takes_nothing_from_it(
    is_launched: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (old := tmp_path / "old").mkdir()
    store = Store(f"sqlite:///{old / 'parsimony.db'}", tmp_path, capsys)
    new = tmp_path / "new"

    def has_the_files(folder: Path) -> bool:
        url = f"sqlite:///{folder / 'parsimony.db'}"
        return files.study_folders(store.data, url, store.record).kept == store.kept

    old.rename(new)
    if is_launched:
        files.note_here(store.data, f"sqlite:///{new / 'parsimony.db'}", store.record)
    old.symlink_to(new)
    assert has_the_files(new) and has_the_files(old)
    old.unlink()
    old.mkdir()
    (old / "parsimony.db").symlink_to(new / "parsimony.db")
    assert has_the_files(new) and has_the_files(old)
    (old / "parsimony.db").unlink()
    copied(new / "parsimony.db", old / "parsimony.db")
    assert has_the_files(old) and not has_the_files(new), "that is the place it is known by"


def test_a_store_that_was_moved_twice_has_its_files_unless_one_of_before_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, third, fourth = (
        tmp_path / f"{name}.db" for name in ("first", "second", "third", "fourth")
    )
    away = tmp_path / "away.db"
    store = Store(f"sqlite:///{first}", tmp_path, capsys)

    def has_the_files(path: Path) -> bool:
        return files.study_folders(store.data, f"sqlite:///{path}", store.record).kept == store.kept

    def launched(path: Path) -> None:
        files.note_here(store.data, f"sqlite:///{path}", store.record)

    first.rename(second)
    launched(second)
    copied(second, third)
    second.rename(away)
    launched(third)  # a copy, while the second is away
    assert has_the_files(third)
    away.rename(second)
    assert has_the_files(second) and not has_the_files(third)
    launched(second)
    launched(third)
    assert has_the_files(second) and not has_the_files(third)
    second.rename(away)
    launched(third)
    third.rename(fourth)
    launched(fourth)
    assert has_the_files(fourth)
    away.rename(second)
    assert has_the_files(second) and not has_the_files(fourth)
    second.rename(first)
    assert has_the_files(first) and not has_the_files(fourth)
    first.unlink()
    assert has_the_files(fourth)


def test_a_machine_of_another_name_has_the_files_of_a_store_that_stays_where_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container has another name each time, a notebook in another network."""
    store = Store(f"sqlite:///{tmp_path / 'parsimony.db'}", tmp_path, capsys)

    def named(name: str) -> None:
        monkeypatch.setattr(socket, "gethostname", lambda: name)

    named("4f1c")
    assert files.study_folders(store.data, store.url, store.record).kept == store.kept
    files.note_here(store.data, store.url, store.record)
    url = f"sqlite:///{tmp_path / 'moved.db'}"
    (tmp_path / "parsimony.db").rename(tmp_path / "moved.db")
    assert files.study_folders(store.data, url, store.record).kept == store.kept
    files.note_here(store.data, url, store.record)  # by the next launch
    named("9a02")
    assert files.study_folders(store.data, url, store.record).kept == store.kept
    named("4f1c")
    (tmp_path / "moved.db").rename(tmp_path / "again.db")
    url = f"sqlite:///{tmp_path / 'again.db'}"
    assert files.study_folders(store.data, url, store.record).kept == store.kept
    store.url = url
    assert store.care("delete", "night", "--yes").code == 0
    assert not store.kept.exists() and list((store.data / "places").iterdir()) == []


def test_optuna_hears_of_a_trial_that_a_rename_takes_from_a_dead_worker(store: Store, tmp_path: Path) -> None:
    config = make_config(max_parameters=100_000)
    engine = store.engine()
    record = studies.find(engine, "night")
    studies.set_trials(engine, record.id, 2)
    with optuna_study.open_study(store.url, "night", config) as opened:
        context = make_context(opened, engine, record, FakeTraining(), config, tmp_path / "spool")
        claim = leases.claim(engine, record.id, "one", 60.0)
        assert isinstance(claim, Claim)
        worker_trial.propose_new(context, claim)
    with engine.begin() as connection:
        connection.execute(text("UPDATE search_claims SET expires_at = 0, renewed_at = 0, lease_seconds = 0"))
    engine.dispose()
    assert store.care("rename", "night", "monday").code == 0
    assert "the books agree" in store.ask("db", "check", "monday").out


@pytest.mark.parametrize("command", [("delete", "night", "--yes"), ("rename", "night", "monday")])
def test_a_study_at_which_somebody_works_is_left_alone(store: Store, command: tuple[str, ...]) -> None:
    engine = store.engine()
    record = studies.find(engine, "night")
    studies.set_trials(engine, record.id, 2)
    assert isinstance(leases.claim(engine, record.id, "busy", 600.0), Claim)
    engine.dispose()
    result = store.care(*command)
    assert result.code == 2
    ends = f"{store.named('search stop night')} ends them"
    assert f"1 worker of study 'night' at work (1 choosing); {ends}" in result.one_line
    assert store.optuna_names() == ["night", "noon"]


def require_asked_again_in(seconds: int, asked: Result, since: float) -> None:
    """That a silent worker is said to be waited for so long, but for the time that has passed meanwhile."""
    said = r"1 worker of study 'night' silent, dead or out of reach: ask again in (\d+) s, for so long"
    found = re.search(said, asked.one_line)
    assert asked.code == 2 and found, asked.err
    assert seconds - (time.monotonic() - since) <= int(found[1]) <= seconds


@pytest.mark.parametrize("command", [("delete", "night", "--yes"), ("rename", "night", "monday")])
def test_a_worker_that_is_silent_is_waited_for_before_it_is_taken_for_dead(
    store: Store, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "START_OF_POSTGRES", "0.0")  # it ran through all of that
    engine = store.engine()
    record = studies.find(engine, "night")
    studies.set_trials(engine, record.id, 2)
    assert isinstance(leases.claim(engine, record.id, "busy", 60.0), Claim)
    for seconds in (180, 30):  # it was silent for so long, and then for the notice that it was given
        with engine.begin() as connection:
            ago = f"expires_at = expires_at - {seconds}, renewed_at = renewed_at - {seconds}"
            connection.execute(text(f"UPDATE search_claims SET {ago}"))
        if seconds == 180:
            began = time.monotonic()
            require_asked_again_in(30, store.care(*command), began)
            assert store.optuna_names() == ["night", "noon"]
    engine.dispose()
    assert store.care(*command).code == 0


@pytest.mark.parametrize("command", ["delete night --yes", "rename night monday", "db repair night"])
@pytest.mark.parametrize(("leases_ago", "seconds"), [(0.6, 54), (1.1, 30)])
def test_who_asks_again_after_as_long_as_is_said_need_not_ask_a_third_time(
    store: Store, command: str, leases_ago: float, seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker of a lease of 60 s was killed 36 s ago: nobody has noticed, and its lease is not over."""
    monkeypatch.setattr(leases, "START_OF_POSTGRES", "0.0")
    place = [] if command.startswith("db") else ["--data-dir", store.data]
    engine = store.engine()
    record = studies.find(engine, "night")
    studies.set_trials(engine, record.id, 2)
    if not place:
        delete_in_the_dashboard(store, "night")
    began = time.monotonic()
    assert isinstance(leases.claim(engine, record.id, "killed", 60.0), Claim)
    names = ("search_claims", "renewed_at = renewed_at"), ("search_workers", "heard_at = heard_at")
    workers.announce(engine, record.id, "killed", host="here", pid=1, state=Doing.WORKING, lease_seconds=60.0)

    def later(by: float) -> None:
        with engine.begin() as connection:
            for table, heard in names:
                connection.execute(text(f"UPDATE {table} SET {heard} - {by}"))
            connection.execute(text(f"UPDATE search_claims SET expires_at = expires_at - {by}"))

    later(60.0 * leases_ago)
    for passed, left in ((0, seconds), (10, seconds - 10)):
        later(passed)
        require_asked_again_in(left, store.ask(*command.split(), *place), began)
    later(seconds - 10)
    engine.dispose()
    assert store.ask(*command.split(), *place).code == 0


@pytest.mark.parametrize("command", [("delete", "night", "--yes"), ("rename", "night", "monday")])
def test_workers_that_are_paused_or_wait_are_at_work_too(store: Store, command: tuple[str, ...]) -> None:
    engine = store.engine()
    record = studies.find(engine, "night")
    for name, state in (("one", Doing.PAUSED), ("two", Doing.WAITING), ("three", Doing.STARTING)):
        workers.announce(engine, record.id, name, host="here", pid=1, state=state, lease_seconds=600.0)
    result = store.care(*command)
    assert result.code == 2
    assert "3 workers of study 'night' at work (1 paused, 1 waiting, 1 starting)" in result.one_line
    for name in ("one", "two", "three"):
        workers.leave(engine, record.id, name)
    workers.announce(engine, record.id, "four", host="here", pid=1, state=Doing.PAUSED, lease_seconds=0.0)
    engine.dispose()
    assert store.care(*command).code == 0, "one that is silent is not there"


def test_a_study_whose_part_in_optuna_was_deleted_is_marked_and_can_be_deleted(store: Store) -> None:
    with optuna_study.open_storage(store.url) as storage:
        optuna.delete_study(study_name="night", storage=storage)
    assert "Optuna's part of this study was deleted" in store.ask("status", "night").out
    assert "warning: Optuna's part of this study was deleted" in store.ask("best", "night").err
    listed = store.ask("list", "--format", "csv", "--columns", "study,state,optuna").out.splitlines()
    assert listed == ["study,state,optuna", "noon,done,True", "night,broken,False"]
    assert store.care("delete", "night", "--yes").code == 0
    assert "night" not in store.ask("list").out


def delete_in_the_dashboard(store: Store, name: str) -> None:
    in_the_dashboard.delete(store.url, name)


def rename_in_the_dashboard(store: Store, old: str, new: str) -> None:
    in_the_dashboard.rename(store.url, old, new)


def trials_of(store: Store, name: str) -> list[tuple[Any, ...]]:
    with optuna_study.open_storage(store.url) as storage:
        study = optuna.load_study(study_name=name, storage=storage)
        return [
            (one.number, one.state, one.value, one.intermediate_values, one.user_attrs["fingerprint"],
             one.params)
            for one in study.get_trials(deepcopy=False)
        ]  # fmt: skip


def test_a_study_that_was_deleted_in_the_dashboard_is_made_again_from_the_ledger(store: Store) -> None:
    before = trials_of(store, "night")
    delete_in_the_dashboard(store, "night")
    assert f"{store.named('search db repair night')} makes it again" in store.ask("status", "night").out
    assert store.ask("db", "repair", "night").out == "night: Optuna has 1 trial again\n"
    ((*found, params),), ((*wanted, were),) = trials_of(store, "night"), before
    assert found == wanted
    given = GivenSuggestions(params)
    assert make_config(max_parameters=100_000).propose(given).fingerprint == found[-1]
    del params["budget_share"], were["budget_share"]  # several mean the same width
    assert params == were
    assert "the books agree" in store.ask("db", "check", "night").out
    assert "was deleted" not in store.ask("status", "night").out
    again = store.ask("db", "repair", "night")
    assert (again.code, again.out.startswith("night: Optuna has its part; ")) == (0, True)


def diverge(_: Architecture, __: int, *, callbacks: TrainingCallbacks, **___: Any) -> NoReturn:
    assert callbacks.on_epoch
    callbacks.on_epoch(EpochReport(1, 3, 1.0, 1.0, 0.9, 0.1, 0.5, 100.0, balanced_accuracy=0.3, macro_f1=0.2))
    raise DivergedError("training loss is nan")


def test_a_repaired_study_has_the_score_that_it_maximises_not_accuracy(
    database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config(max_parameters=100_000, score="macro-f1")
    engine, record = make_study(database_url, config, 2, "scored")
    with optuna_study.open_study(database_url, "scored", config) as opened:
        for train in (FakeTraining(), diverge):
            context = make_context(opened, engine, record, train, config, tmp_path / "spool")
            claim = leases.claim(engine, record.id, "one", 60.0)
            assert isinstance(claim, Claim)
            worker_trial.run(context, claim)
        before = [(one.state, one.value, one.intermediate_values) for one in opened.trials]
    assert [value for _, value, _ in before] == [0.25, 0.2], "accuracy is higher"
    with optuna_study.open_storage(database_url) as storage:
        optuna.delete_study(study_name="scored", storage=storage)
    assert run(capsys, "db", "repair", "scored", "--storage", database_url).code == 0
    with optuna_study.open_study(database_url, "scored", config) as opened:
        assert [(one.state, one.value, one.intermediate_values) for one in opened.trials] == before
    assert "the books agree" in run(capsys, "db", "check", "scored", "--storage", database_url).out
    engine.dispose()


def test_a_repaired_study_has_every_number_and_goes_on(store: Store, tmp_path: Path) -> None:
    """Numbers that Optuna gave away and the ledger never saw stay taken."""
    config = make_config(max_parameters=100_000)
    engine = store.engine()
    record = studies.find(engine, "night")
    with optuna_study.open_study(store.url, "night", config) as opened:
        opened.tell(opened.ask(), state=optuna.trial.TrialState.FAIL)
        context = make_context(opened, engine, record, FakeTraining(), config, tmp_path / "spool")
        studies.set_trials(engine, record.id, 3)
        claim = leases.claim(engine, record.id, "one", 60.0)
        assert isinstance(claim, Claim)
        worker_trial.run(context, claim)
    delete_in_the_dashboard(store, "night")
    assert store.ask("db", "repair", "night").code == 0
    assert "the books agree" in store.ask("db", "check", "night").out
    with optuna_study.open_study(store.url, "night", config) as opened:
        assert [one.number for one in opened.trials] == [0, 1, 2]
        context = make_context(opened, engine, record, FakeTraining(), config, tmp_path / "spool")
        claim = leases.claim(engine, record.id, "one", 60.0)
        assert isinstance(claim, Claim)
        worker_trial.run(context, claim)
    engine.dispose()
    assert "the books agree, 3 of 3 trained" in store.ask("db", "check", "night").out


def test_a_repair_that_is_broken_off_leaves_nothing_and_the_next_one_makes_the_whole(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = trials_of(store, "night")
    delete_in_the_dashboard(store, "night")
    for _ in range(2):
        with monkeypatch.context() as patched:
            patched.setattr(optuna.Study, "add_trials", killed)
            store.ask("db", "repair", "night")
        assert f"{store.named('search db repair night')} makes it again" in store.ask("status", "night").out
    assert store.ask("db", "repair", "night").out == "night: Optuna has 1 trial again\n"
    assert store.optuna_names() == ["night", "noon"]
    assert [one[:5] for one in trials_of(store, "night")] == [one[:5] for one in before]
    assert "the books agree" in store.ask("db", "check", "night").out


def test_a_study_that_was_renamed_in_the_dashboard_is_found_by_its_id(store: Store) -> None:
    engine = store.engine()
    record = studies.find(engine, "night")
    engine.dispose()
    config = make_config(max_parameters=100_000)
    with optuna_study.open_study(store.url, "night", config) as opened:
        optuna_study.identify(opened, record.id)
    rename_in_the_dashboard(store, "night", "monday")
    assert "was deleted" not in store.ask("status", "night").out
    listed = store.ask("list", "--format", "csv", "--columns", "study,optuna").out.splitlines()
    assert listed == ["study,optuna", "noon,True", "night,True"]
    assert "the books agree" in store.ask("db", "check", "night").out
    (row,) = json.loads(store.ask("trials", "night", "--format", "json").out)
    assert row["knobs"]["depth"] > 0
    assert "under the name 'monday'" in store.ask("db", "repair", "night").out
    assert store.care("rename", "night", "monday").code == 0
    assert store.optuna_names() == ["monday", "noon"]
    rename_in_the_dashboard(store, "monday", "tuesday")
    assert store.care("delete", "monday", "--yes").code == 0
    assert store.optuna_names() == ["noon"]


def test_a_worker_ends_with_one_line_where_its_study_is_deleted_in_the_dashboard(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(max_parameters=100_000)
    engine = store.engine()
    record = studies.find(engine, "night")
    studies.set_trials(engine, record.id, 5)
    with optuna_study.open_study(store.url, "night", config) as opened:
        context = make_context(opened, engine, record, FakeTraining(), config, tmp_path / "spool")
        monkeypatch.setattr(worker, "open_context", lambda *_: nullcontext(context))
        delete_in_the_dashboard(store, "night")
        with pytest.raises(StudyError, match="was deleted: `search db repair night` makes it again"):
            worker.work(context.options, engine, record, ShutdownRequest(1.0, None))
    assert leases.running(engine, record.id) == [], "what it had claimed is given back"
    engine.dispose()


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
