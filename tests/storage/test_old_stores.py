"""Stores of every revision of the tables, as programs of their time left them, open in this version."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from command import Result
from sqlalchemy import text

from search.commands import launch_session
from search.launcher import prepare
from search.launcher.prepare import Flags
from search.machine.signals import Interrupts
from search.optuna_adapter import storage as optuna_storage, study as optuna_study
from search.study.config import StudyConfig
from space.errors import ClusterError
from storage import candidates, database, migrations, rungs, studies, trainings
from storage.row_types import State

FOLDER = Path(__file__).parent / "old_stores"
REVISIONS = [f"{number:04}" for number in range(1, int(migrations.HEAD) + 1)]


def restored(revision: str, folder: Path) -> str:
    """The URL of a file with the store of a revision."""
    file = folder / "old.db"
    with sqlite3.connect(file) as connection:
        connection.executescript((FOLDER / f"{revision}.sql").read_text())
    connection.close()
    return f"sqlite:///{file}"


def test_there_is_a_store_of_each_revision() -> None:
    """A migration that is added has one too: python tests/storage/old_stores/make.py REVISION."""
    assert sorted(file.stem for file in FOLDER.glob("*.sql")) == REVISIONS


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_store_of_each_revision_is_brought_to_this_one_and_read(
    revision: str, tmp_path: Path, check: Callable[..., Result]
) -> None:
    url = restored(revision, tmp_path)
    if revision != migrations.HEAD:
        looked = check("list", "--storage", url)
        assert looked.code == 5
        assert "is not ready: `search launch` makes or updates its tables" in looked.one_line
    engine = database.connect(url, create=False)
    database.prepare(engine)
    database.check(engine)
    record = studies.find(engine, "old")
    rows = candidates.candidates(engine, record.id)
    assert [row.state for row in rows] == [State.COMPLETED, State.PRUNED, State.LOST]
    assert [row.accuracy for row in candidates.best(engine, record.id)] == [0.75]
    assert [one.validation_accuracy for one in candidates.epochs(engine, record.id)[1]] == [0.375, 0.75]
    assert [one.test_accuracy for one in trainings.of_study(engine, "old")] == [0.875] * (revision >= "0003")
    assert len(rungs.of_study(engine, record.id)) == (revision >= "0005")
    with database.reading(engine) as connection:
        assert connection.execute(text("SELECT study, trial, accuracy FROM search_best")).all() == [
            ("old", 0, 0.75)
        ]
        assert connection.execute(text("SELECT count(*) FROM search_curves")).scalar() == 2
    engine.dispose()
    for command in ("list", "status", "trials", "best"):
        assert check(command, "--storage", url).code == 0, command


def test_an_older_program_meets_a_newer_store_with_one_line(
    tmp_path: Path, check: Callable[..., Result]
) -> None:
    url = restored(migrations.HEAD, tmp_path)
    engine = database.connect(url)
    with database.writing(engine) as connection:
        connection.execute(text("UPDATE search_version SET version_num = '9999'"))
    engine.dispose()
    for line in (("status",), ("best",), ("stop",), ("worker", "--study", "old")):
        refused = check(*line, "--storage", url)
        assert refused.code == 5
        assert "has tables of a newer version (9999): upgrade this installation" in refused.one_line


def of_digits(url: str, data_dir: Path) -> StudyConfig:
    """The study of an old store as one of digits, with its part in Optuna's tables; its configuration."""
    optuna_study.quiet()
    flags = Flags(url, data_dir, 3, data="digits", epochs=2, max_macs=4_000_000)
    config = prepare.make_config(flags, None)
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        connection.execute("UPDATE search_studies SET settings = ?", (json.dumps(config.document()),))
    connection.close()
    with optuna_storage.open_storage(url) as storage:
        study = optuna.create_study(storage=storage, study_name="old", direction="maximize")
        study.set_user_attr("data", "as a program of its time wrote it")
    return config


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_launch_updates_an_older_store_and_goes_on_with_its_study(
    tmp_path: Path, digits: Path, check: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was taken for a new one: its data were the default ones, and its baselines queued once more."""
    url = restored("0007", tmp_path)
    config = of_digits(url, digits)
    found: list[Any] = []

    def search(*given: Any) -> None:
        found.extend(given)
        raise ClusterError("that is all")

    monkeypatch.setattr(launch_session, "_search", search)
    monkeypatch.setattr(Interrupts, "listen", lambda _: None)
    launch = ("launch", "old", "--trials", "9", "--workers", "0", "--storage", url, "--data-dir", digits)
    refused = check(*launch, "--dry-run")
    assert refused.code == 5
    assert "is not ready: `search launch` makes or updates its tables" in refused.one_line
    launched = check(*launch)
    assert (launched.code, launched.one_line) == (5, "search: that is all")
    assert (found[3].name, found[3].trials, found[4]) == ("old", 9, config)
    with optuna_storage.open_storage(url) as storage:
        study = optuna.load_study(study_name="old", storage=storage)
        assert study.user_attrs == {"data": "as a program of its time wrote it"}
        assert study.get_trials() == [], "no baseline is queued"
