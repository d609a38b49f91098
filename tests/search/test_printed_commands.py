"""Commands that are printed to be copied mean what they say where a name has a space in it."""

import re
import shlex
from functools import partial
from pathlib import Path
from typing import cast

import optuna
import pytest
from command import run
from comparison_samples import add_study, config

from search.commands import launch_session, plan
from search.formats import choice
from search.launcher.launcher import End, Launch
from search.launcher.prepare import Flags
from search.launcher.snapshots import Snapshots
from search.study.console import SteadyConsole
from search.study.files import StudyFiles
from space.errors import UsageError
from storage import candidates, database
from storage.studies import Control

Capture = pytest.CaptureFixture[str]


def commands(said: str) -> list[list[str]]:
    """The words of each command in a text."""
    return [shlex.split(one) for one in re.findall(r"`(search [^`]*)`", said)]


def test_the_end_of_a_launch_names_its_study_and_file_as_they_are_typed(
    sqlite_url: str, tmp_path: Path, capsys: Capture
) -> None:
    record = add_study(sqlite_url, "my night", [0.5, 0.7])
    engine, console, out = database.connect(sqlite_url), SteadyConsole(), tmp_path / "my best.json"
    flags = Flags(storage=sqlite_url, data_dir=tmp_path, trials=3, study="my night")
    snapshot = Snapshots(engine, record, config()).take()
    again = partial(plan.again, flags, record.name, workers="2", gpus="all")
    end = End(snapshot, Control.STOP, 0, None, "", None, {}, False)
    launch_session._say_end(console, flags, record, end, again)
    launch_session._leave(console, engine, record, config(), snapshot, None, None, {})
    launch_session._leave(console, engine, record, config(), snapshot, out, None, {})
    launch = Launch(flags, engine, record, config(), cast(optuna.Study, None), [])
    launch.worked = float("-inf")
    console.print(launch._note())
    engine.dispose()
    shown = capsys.readouterr()
    where = ["--storage", sqlite_url, "--data-dir", str(tmp_path)]
    assert commands(shown.err) == [
        ["search", "resume", "my night", *where],
        ["search", "worker", "--study", "my night"],
    ]
    assert commands(shown.out) == [
        ["search", "export", "my night"],
        ["search", "verify", str(out)],
    ]


def test_an_export_names_the_study_and_the_trial_as_they_are_typed(
    sqlite_url: str, tmp_path: Path, capsys: Capture
) -> None:
    add_study(sqlite_url, "my night", [0.5, 0.7])
    place = ("--storage", sqlite_url, "--data-dir", tmp_path)
    written = run(capsys, "export", "my night", *place, "--out", tmp_path / "best.json")
    assert written.code == 0, written.err
    assert commands(written.err) == [["search", "confirm", "my night"]]
    missing = run(capsys, "predict", "my night:1", tmp_path / "cat.png", *place)
    assert commands(missing.one_line) == [["search", "train", "my night:1"]]
    engine = database.connect(sqlite_url)
    (best,) = candidates.best(engine, 1, 1)
    engine.dispose()
    with pytest.raises(UsageError) as refused:
        choice.choose("my night", best, [], StudyFiles(tmp_path, 0))
    assert commands(str(refused.value)) == [["search", "train", "my night:1"]]
