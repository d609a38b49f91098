"""What a launcher tells a worker arrives as it was meant."""

from dataclasses import fields
from pathlib import Path

import click
import pytest

from search.cli import cli
from search.study.worker_options import WorkerLimits, WorkerOptions
from search.worker import worker as workers

URL = "postgresql://me:secret@db/search"
FULL = WorkerOptions(
    storage=URL,
    data_dir=Path("some where/data"),
    study="night 1",
    name="host-gpu0-1.1",
    parent=4711,
    data="folder:other/images",
    data_from="http://launcher:8765",
    follow=True,
    make_room=True,
    verbose=True,
    quiet=True,
    lease_seconds=1.25,
    stall_seconds=600.0,
    trial_seconds=90.5,
    trial_memory=3 << 30,
    database_timeout_seconds=0.1,
    grace_seconds=7200.0,
    keep_weights=0,
)


@pytest.mark.parametrize("told", [FULL, WorkerOptions(storage=URL, data_dir=Path("data"))])
def test_the_command_line_of_a_worker_means_the_record_it_was_made_of(
    told: WorkerOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[WorkerOptions] = []
    monkeypatch.setattr(workers, "main", lambda options, _reworded: heard.append(options) or 0)
    monkeypatch.setenv("SEARCH_STORAGE", URL)
    for name in ("SEARCH_GRACE", "SEARCH_STUDY", "SEARCH_DATA", "SEARCH_DATA_FROM", "SEARCH_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    cli.main(told.to_argv(), standalone_mode=False)
    assert heard == [told]


def test_the_record_that_is_tried_differs_from_the_defaults_in_every_field() -> None:
    plain = WorkerOptions(storage="", data_dir=Path("data"))
    assert [one.name for one in fields(plain) if getattr(plain, one.name) == getattr(FULL, one.name)] == []


def test_no_password_is_on_the_command_line() -> None:
    assert not any("secret" in word for word in FULL.to_argv())


@pytest.mark.parametrize("name", ["launch", "resume"])
def test_whoever_starts_workers_takes_every_limit_of_theirs(name: str) -> None:
    command = cli.commands[name]
    assert isinstance(command, click.Command)
    assert {one.name for one in fields(WorkerLimits)} <= {option.name for option in command.params}
