"""What programs read: the documented keys and no others, numbers, times with their zone, null."""

import csv
import io
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import pytest
from command import finish, leaves, run, start
from sqlalchemy import Engine
from worker_samples import FakeTraining, make_config, make_context, make_study

from search.cli import cli
from search.commands import fields, output
from search.optuna_adapter import study as optuna_study
from search.worker import trial as worker_trial
from storage import leases
from storage.leases import Claim


@pytest.fixture
def store(sqlite_url: str, tmp_path: Path) -> tuple[str, str]:
    """A study of three networks that were trained, and a claim that a worker holds."""
    config = make_config(max_parameters=100_000)
    engine, record = make_study(sqlite_url, config, 4)
    with optuna_study.open_study(sqlite_url, record.name, config) as opened:
        context = make_context(opened, engine, record, FakeTraining(), config, tmp_path)
        for _ in range(3):
            claim = leases.claim(engine, record.id, "one", 60.0)
            assert isinstance(claim, Claim)
            worker_trial.run(context, claim)
    leases.claim(engine, record.id, "two", 600.0)
    engine.dispose()
    return ("--storage", sqlite_url)


@pytest.fixture
def fresh(sqlite_url: str) -> tuple[str, str]:
    """A study in which nothing was trained yet."""
    engine: Engine
    engine, _ = make_study(sqlite_url, make_config(), 3)
    engine.dispose()
    return ("--storage", sqlite_url)


def rows(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[dict[str, Any]]:
    result = run(capsys, *arguments, "--format", "json")
    assert result.code == 0, result.err
    found: list[dict[str, Any]] = json.loads(result.out)
    return found


@pytest.mark.parametrize("command", ["status", "list", "trials", "best", "ps"])
def test_a_command_gives_the_documented_keys_in_their_order(
    store: tuple[str, str], capsys: pytest.CaptureFixture[str], command: str
) -> None:
    found = rows(capsys, command, *store)
    assert found and all(list(row) == list(fields.BY_COMMAND[command]) for row in found)
    header, *lines = csv.reader(io.StringIO(run(capsys, command, *store, "--format", "csv").out))
    assert header == list(fields.BY_COMMAND[command])
    assert len(lines) == len(found)


ABOUT_NETWORKS = {
    "show": ("published:001-final",),
    "explain": ("published:001-final", "--layers"),
    "published": (),
    "space show": (),
    "space check": ("--no-minutes", "--data", "digits", "--max-params", "200k"),
    "space sample": ("-n", "2"),
}


@pytest.mark.parametrize(("command", "more"), ABOUT_NETWORKS.items())
def test_a_command_about_networks_gives_the_documented_keys_in_their_order(
    capsys: pytest.CaptureFixture[str], command: str, more: tuple[str, ...]
) -> None:
    keys = list(fields.BY_COMMAND[command])
    result = run(capsys, *command.split(), *more, "--format", "json")
    assert result.code == 0, result.err
    found = json.loads(result.out)
    assert isinstance(found, dict) == (command in fields.ONE_OBJECT)
    assert all(list(row) == keys for row in ([found] if isinstance(found, dict) else found))
    csv_ = run(capsys, *command.split(), *more, "--format", "csv")
    assert (csv_.code == 2) == (command in fields.NO_CSV)
    if csv_.code == 0:
        assert csv_.out.splitlines()[0] == ",".join(keys)


def test_every_command_with_a_format_for_programs_is_documented() -> None:
    found = {
        path: set(option.type.choices)
        for path, command in leaves(cli)
        for option in command.params
        if option.name == "form" and isinstance(option.type, click.Choice)
    }
    del found["export"]  # whose formats are files
    assert set(found) == set(fields.BY_COMMAND)
    assert {path for path, forms in found.items() if "csv" not in forms} == set(fields.NO_CSV)


@pytest.mark.parametrize("command", ["trials", "best", "ps", "trainings"])
def test_nothing_yet_is_an_empty_list_a_header_and_code_0(
    fresh: tuple[str, str], capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert rows(capsys, command, *fresh) == []
    result = run(capsys, command, *fresh, "--format", "csv")
    assert (result.code, result.out) == (0, ",".join(fields.BY_COMMAND[command]) + "\n")
    assert run(capsys, command, *fresh).code == 0


@pytest.mark.parametrize("command", ["export", "show", "explain", "replay", "confirm", "train"])
def test_one_network_of_a_study_without_any_is_code_3(
    fresh: tuple[str, str],
    capsys: pytest.CaptureFixture[str],
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(capsys, command, "bench", *fresh)
    assert result.code == 3
    assert result.one_line == "search: study 'bench': nothing was trained to the end yet"


def test_status_tells_programs_who_runs_what_leads_and_under_which_budget(
    store: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    (found,) = rows(capsys, "status", *store)
    assert (found["state"], found["order"], found["trained"], found["trials"]) == ("running", "run", 3, 4)
    assert (found["max_params"], found["max_macs"], found["optuna"]) == (100_000, None, True)
    assert found["ledger"]["completed"] == 3 and found["ledger"]["failed"] == 0
    (busy,) = found["running"]
    assert busy["worker"] == "two" and busy["trial"] is None and isinstance(busy["seconds"], float)
    best = found["best"]
    assert best["low_accuracy"] < best["accuracy"] < best["high_accuracy"]
    assert datetime.fromisoformat(found["created"]).tzinfo is not None
    run(capsys, "pause", *store)
    assert rows(capsys, "status", *store)[0]["state"] == "paused"
    run(capsys, "stop", *store)
    assert rows(capsys, "status", *store)[0]["state"] == "stopping"


def test_a_trial_comes_with_all_that_is_stored_of_it(
    store: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    first = rows(capsys, "trials", *store)[0]
    assert (first["trial"], first["state"], first["attempt"], first["batch_size"]) == (0, "completed", 1, 128)
    assert first["knobs"]["depth"] == len(first["architecture"]["stages"])
    assert first["device"] == "fake" and first["loss"] == 1.0 and isinstance(first["seed"], int)
    assert datetime.fromisoformat(first["finished"]).tzinfo is not None


def test_trials_are_picked_by_state_turned_round_and_shown_by_columns(
    store: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = ("--columns", "accuracy,trial")
    best_first = rows(capsys, "trials", *store, "--sort", "accuracy", *chosen)
    assert [list(row) for row in best_first] == [["accuracy", "trial"]] * 3
    turned = rows(capsys, "trials", *store, "--sort", "accuracy", "--reverse", *chosen)
    assert [row["accuracy"] for row in turned] == sorted(row["accuracy"] for row in best_first)
    assert rows(capsys, "trials", *store, "--state", "pruned") == []
    assert len(rows(capsys, "trials", *store, "--state", "pruned", "--state", "completed")) == 3
    assert run(capsys, "trials", *store, "--state", "hopeless").code == 2
    refused = run(capsys, "trials", *store, "--columns", "colour")
    assert refused.code == 2
    assert refused.one_line.startswith("search: no column 'colour'; there are trial, state, score, ")


@pytest.mark.parametrize("command", ["trials", "list"])
def test_a_row_is_one_line_at_80_columns(
    store: tuple[str, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # what makes rich take a pipe for a terminal
    monkeypatch.setenv("COLUMNS", "80")
    lines = click.unstyle(run(capsys, command, *store).out).splitlines()
    table = [line for line in lines if line and line[0] in "│┃"]
    assert max(map(len, table)) <= 80
    assert len([line for line in table if line[0] == "│"]) == (3 if command == "trials" else 1)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.1 + 0.2, 0.3),
        (1 / 3, 0.3333333333),
        (1e-30, 1e-30),
        (float("nan"), None),
        (float("-inf"), None),
        (datetime(2026, 3, 1, 12, tzinfo=UTC), "2026-03-01T12:00:00+00:00"),
        ({"a": (1, True, None)}, {"a": [1, True, None]}),
    ],
)
def test_a_value_is_written_as_a_program_wants_it(value: object, written: object) -> None:
    assert output.plain(value) == written


def test_a_reader_that_goes_early_as_head_does_is_no_error(store: tuple[str, str], tmp_path: Path) -> None:
    process = start("published", "--format", "json", cwd=tmp_path)
    assert process.stdout is not None
    process.stdout.close()  # before anything was written
    process.stdout = None
    done = finish(process)
    assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize("form", ["json", "csv", "table"])
def test_a_name_that_is_no_utf8_is_written_to_a_stream_that_takes_nothing_else(
    monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="utf-8", errors="strict"))
    name = os.fsdecode(b"Stra\xdfe/\xe4\xb8\xad.png")
    output.emit([{"image": name, "folder": Path(name), "class": "\ud800", "parts": [name]}], form)
    sys.stdout.flush()
    text = written.getvalue().decode()
    assert text.count("Stra\ufffde/\u4e2d.png") == 3 and "\udcdf" not in text
