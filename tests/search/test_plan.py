"""A plan is a promise: --dry-run makes the checks of a launch, and says what a launch would do."""

import json
import shlex
import threading
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from command import Result, finish, run, start, typed
from comparison_samples import add_finals, add_study, config
from no_web_server import no_web_server
from rich.console import Console
from sqlalchemy import update
from worker_samples import make_study

from search import settings
from search.cli import cli
from search.commands import at_end, launch_session, plan
from search.launcher import prepare
from search.launcher.prepare import Flags
from search.study import files
from search.study.finish_plan import FinishPlan, make_plan
from search.study.worker_options import WorkerLimits
from storage import database, studies, tables
from trainer.recipe.defaults import brief_recipe

Ask = Callable[..., Result]
DRY = ("launch", "--data", "digits", "--gpus", "none", "--workers", 1, "--epochs", 1, "--max-macs", "300k")


@pytest.fixture
def flags(tmp_path: Path, digits: Path) -> Flags:
    url = f"sqlite:///{tmp_path / 'plan.db'}"
    return Flags(url, digits, 3, "night", data="digits", epochs=1, max_macs=300_000)


@pytest.fixture
def ask(flags: Flags, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Ask:
    def dry(*more: object) -> Result:
        given = ("--storage", flags.storage, "--data-dir", flags.data_dir, "--dry-run")
        return run(capsys, *DRY, *given, *more)

    return dry


def made(flags: Flags) -> None:
    """The study of these flags, of which nothing is trained."""
    config = prepare.make_config(replace(flags, on_cpu=True), None)
    engine, _ = make_study(flags.storage, config, 3, "night")
    engine.dispose()


def test_a_plan_of_a_new_study_says_all_and_makes_nothing(ask: Ask, flags: Flags, tmp_path: Path) -> None:
    result = ask("night", "--trials", 4, "--timeout", 10, "--trial-timeout", "90")
    assert result.code == 0, result.err
    lines = result.err.splitlines()
    assert lines[0] == "study    night, new: to be 4 trained"
    assert lines[1] == f"stored   {flags.storage}, to be made"
    assert "augment  shifted by up to 1 pixels (off: crop_padding = 0); not mirrored" in result.err
    assert "limits   the search ends after 10s; a trial takes 90s at most" in lines
    assert lines[-1].startswith("time     about ") and " for 4 trials with 1 worker on " in lines[-1]
    assert not (tmp_path / "plan.db").exists()


def test_a_plan_for_cores_is_timed_on_one_though_there_is_a_gpu(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    result = ask("night", "--trials", 4)
    assert result.code == 0, result.err
    assert result.err.splitlines()[-1].endswith(" with 1 worker on cpu, none pruned")


def test_a_plan_says_that_trials_are_shorter_in_little_time(
    flags: Flags, capsys: pytest.CaptureFixture[str]
) -> None:
    def noted(*more: object) -> list[str]:
        place = ("--storage", flags.storage, "--data-dir", flags.data_dir, "--gpus", "none", "--workers", 1)
        words = ("launch", "--data", "digits", "--max-macs", "4M", "--trials", 500, "--dry-run")
        result = run(capsys, *words, *place, *more)
        assert result.code == 0, result.err
        assert ("training 2 epochs" in result.err) == (more == ("--timeout", "30s"))
        return [line for line in result.err.splitlines() if line.startswith("note     --epochs")]

    assert noted("--timeout", "30s") == [
        "note     --epochs 2 is the default in so little time, for about 43 trials on these cores; --epochs 6"
        " is usual"
    ]
    assert noted("--timeout", "30s", "--epochs", 3) == noted() == []


def test_a_plan_of_a_study_that_exists_says_how_far_it_is(ask: Ask, flags: Flags) -> None:
    made(flags)
    result = ask("night", "--trials", 5)
    assert result.code == 0, result.err
    assert result.err.startswith("study    night exists: 0 of 3 trained, to be 5\n")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--sampler", "random"), "was made with another --sampler (tpe, not random)"),
        (("--epochs", 2), "was made with another --recipe, --epochs or --class-weights"),
        (("--max-params", "1M"), "was made with another --max-params or --max-macs"),
    ],
)
def test_a_plan_refuses_what_the_launch_would_refuse(
    ask: Ask, flags: Flags, more: tuple[object, ...], words: str
) -> None:
    made(flags)
    result = ask("night", "--trials", 5, *more)
    assert result.code == 2
    assert words in result.one_line


def test_a_study_like_another_has_its_number_of_trials_whatever_the_environment_says(
    ask: Ask, flags: Flags, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(flags)
    monkeypatch.setenv("SEARCH_TRIALS", "7")
    assert "noon, new: to be 3 trained" in ask("noon", "--like", "night").err
    assert "noon, new: to be 5 trained" in ask("noon", "--like", "night", "--trials", 5).err
    assert "noon, new: to be 7 trained" in ask("noon").err


def test_a_plan_for_a_folder_that_is_not_there_is_refused(ask: Ask) -> None:
    result = ask("night", "--trials", 3, "--storage", "sqlite:////nowhere/x.db")
    assert result.code == 5
    assert "no folder '/nowhere'" in result.one_line


def test_two_names_are_refused(ask: Ask) -> None:
    result = ask("night", "--study", "noon", "--trials", 3)
    assert result.code == 2
    assert "two studies: 'night' and 'noon'" in result.one_line


LAUNCH = ("launch", "my night", "--trials", 3)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("postgresql://me:secret@db/x", "postgresql://me@db/x"),
        (
            "postgresql://db/x?user=me&password=secret&sslmode=require",
            "postgresql://db/x?user=me&sslmode=require",
        ),
        ("postgresql://me@db/x?password=secret", "postgresql://me@db/x"),
        ("postgresql://:secret@db/x", "postgresql://db/x"),
        ("postgresql://me@db:5433/x?application_name=y", "postgresql://me@db:5433/x?application_name=y"),
    ],
)
def test_a_hint_is_the_whole_command_without_the_password(flags: Flags, given: str, shown: str) -> None:
    """A password of ~/.pgpass or PGPASSWORD lets it in; `***` in its place would be one, and refused."""
    with typed(*LAUNCH, "--storage", given, "--data-dir", flags.data_dir):
        said = plan.again(replace(flags, storage=given), "my night", 9, "2", "0,1")
    expected = f"--trials 9 --storage {shown} --data-dir {flags.data_dir} --workers 2 --gpus 0,1"
    assert shlex.split(said) == ["search", "launch", "my night", *expected.split()]


def test_a_hint_names_no_store_and_no_folder_that_are_in_the_environment(
    flags: Flags, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SEARCH_STORAGE", "postgresql://me:secret@db/x")
    monkeypatch.setenv("SEARCH_DATA_DIR", str(tmp_path))
    with typed(*LAUNCH):
        assert plan.resume(flags, "my night") == "search resume 'my night'"


def test_a_hint_has_what_was_typed_where_the_environment_says_otherwise(
    flags: Flags, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it is the default, which the environment would hide."""
    for name, value in (("STORAGE", "sqlite:///o.db"), ("WORKERS", "0"), ("GPUS", "none"), ("GRACE", "5m"),
                        ("DATA_DIR", "/elsewhere"), ("DATA", "mnist")):  # fmt: skip
        monkeypatch.setenv(f"SEARCH_{name}", value)
    default = settings.data_dir()
    words = {"--storage": settings.STORAGE, "--data-dir": str(default), "--data": "digits", "--grace": "1h",
             "--workers": "auto", "--gpus": "all"}  # fmt: skip
    with typed(*LAUNCH, *(word for pair in words.items() for word in pair)):
        there = replace(flags, storage=settings.STORAGE, data_dir=default)
        said = shlex.split(plan.again(there, "n", 9, "auto", "all", spec="digits"))
    assert dict(zip(said[5::2], said[6::2], strict=True)) == words


def test_a_hint_leaves_out_the_images_that_lie_where_the_study_says(
    flags: Flags, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However that is written; elsewhere, what was resumed is resumed again."""
    monkeypatch.chdir(tmp_path)
    spec = f"folder:{tmp_path.resolve() / 'pets'}"
    there = replace(flags, data="folder:pets", data_is_place=True)
    limited = ("--data", there.data, "--grace", "5m", "--workers", "2")
    with typed("resume", "n", *limited):
        said = plan.again(replace(there, grace_seconds=300.0), "n", 9, "2", "all", spec=spec)
        assert said == "search launch n --trials 9 --grace 5m --workers 2"
        said = plan.again(replace(there, grace_seconds=300.0), "n", 9, "2", "all", spec="folder:/old")
        assert said == "search resume n --data folder:pets --grace 5m --workers 2"
    with typed("launch", "n", "--trials", 9, "--data", there.data):
        said = plan.again(replace(there, data_is_place=False), "n", 9, "auto", "all", spec="folder:/old")
        assert said == "search launch n --trials 9 --data folder:pets"


def test_a_hint_names_the_images_where_they_lie_elsewhere_than_the_study_says(flags: Flags) -> None:
    there = replace(flags, data="folder:my pictures")
    with typed(*LAUNCH, "--data", there.data):
        for said in (plan.resume(there, "n", "folder:/old"), plan.again(there, "n", 9, "auto", "all")):
            assert "--data 'folder:my pictures'" in said
        assert "--data" not in plan.resume(there, "n", there.data), "the study says that itself"


def test_a_hint_asks_for_no_home_folder(flags: Flags, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    with typed(*LAUNCH, "--data-dir", flags.data_dir):
        assert f"--data-dir {flags.data_dir}" in plan.again(flags, "n", 9, "auto", "all")


def test_a_limit_is_that_of_workers_elsewhere_where_none_is_here(ask: Ask) -> None:
    here, there = (ask("night", "--trials", 4, "--timeout", "8h", "--workers", n).err for n in (1, 0))
    assert "limits   the search ends after 8h\n" in here
    told = "limits   the search ends after 8h, and so do the workers elsewhere, but those of another launch\n"
    assert told in there


def test_hours_of_devices_are_refused_where_nobody_here_counts_them(
    ask: Ask, flags: Flags, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    limit = ("night", "--trials", 4, "--max-gpu-hours", 5, "--workers")
    place = ("--storage", flags.storage, "--data-dir", flags.data_dir)
    for refused in (ask(*limit, 0), run(capsys, *DRY, *place, *limit, 0)):
        assert refused.code == 2
        assert "--workers 0 starts none: give --timeout" in refused.one_line
    assert not (tmp_path / "plan.db").exists()
    assert "after 5 hours of its devices" in ask(*limit, 1).err


def test_a_hint_has_the_limits_and_the_images_that_are_served(flags: Flags) -> None:
    there = replace(flags, serve_data="0.0.0.0:8787", timeout=28_800.0, max_gpu_hours=2.5)
    assert plan.again(there, "night", 9, "auto", "all").endswith(
        " --serve-data 0.0.0.0:8787 --timeout 8h --max-gpu-hours 2.5"
    )


CHANGED = {
    "lease_seconds": 1.25,
    "stall_seconds": 600.0,
    "trial_seconds": 90.5,
    "trial_memory": 3 << 29,
    "database_timeout_seconds": 1_234_567.0,
    "grace_seconds": 7200.0,
    "keep_weights": 0,
}


@pytest.mark.parametrize("limit", [one.name for one in fields(WorkerLimits)])
@pytest.mark.parametrize("command", ["launch", "resume"])
def test_a_hint_has_every_limit_of_the_workers_that_is_not_the_default(
    flags: Flags, command: str, limit: str
) -> None:
    there = replace(flags, **{limit: CHANGED[limit]})
    said = plan.resume if command == "resume" else partial(plan.again, trials=9, workers="2", gpus="0,1")
    _, typed, *words = shlex.split(said(there, "night"))
    with cli.commands[command].make_context(command, words) as context:
        assert typed == command
        given = {name: context.params[name] for name in CHANGED}
    assert given == there.limits()


def test_a_plan_says_what_a_limit_does_to_the_second_stage_that_there_is(flags: Flags) -> None:
    limited = replace(flags, timeout=60.0)
    end = "trials end in time for it, after a third to a half of it at the earliest"
    usual = f"{end}; what does not fit is shortened"
    assert (plan.in_time(flags, None, 3), plan.in_time(limited, None, 3)) == ("", usual)
    record = add_study(flags.storage, "night", [0.5, 0.7])
    assert plan.in_time(limited, record, 3) == usual
    assert plan.in_time(limited, record, 2) == "what does not fit the time is shortened before it begins"
    add_finals(flags.storage, record, 1, (0.8, 0.9))
    assert plan.in_time(limited, record, 2) == "", "it is over"
    engine = database.connect(flags.storage)
    with database.writing(engine) as connection:
        connection.execute(
            update(tables.rung_trainings).where(tables.rung_trainings.c.seed == 1).values(state=None)
        )
    engine.dispose()
    kept = "it is under way and keeps its plan, but for finals to come that would not end in time"
    assert plan.in_time(limited, record, 2) == kept
    assert plan.in_time(limited, record, 3).startswith(f"{kept}; trials end in time")


def test_a_plan_says_what_is_done_to_images_in_the_finals_alone(capsys: pytest.CaptureFixture[str]) -> None:
    pictures = config(data={"spec": "folder:pictures", "image_size": 32, "aligned": False})
    data = pictures.data
    recipe = brief_recipe(data.spec, data.train_images, 8, data.image_size, data.aligned)
    study = pictures.model_copy(update={"recipe": recipe})

    def said(epochs: int) -> str:
        finish = make_plan(study, None, epochs=epochs)
        launch_session._say_finish(Console(width=500), Flags("sqlite://", Path(), 3), finish, study, 3, None)
        return capsys.readouterr().out

    assert "images of the finals" not in said(10)
    assert (
        "         images of the finals: shifted by up to 4 pixels (off: crop_padding = 0), mixed by MixUp 0.2"
        " (off: mixup = 0), mixed by CutMix 1 (off: cutmix = 0); not mirrored (on: flip = true);"
        " fields of a --recipe FILE\n"
    ) in said(200)


def test_a_plan_says_that_finals_between_their_turns_keep_their_length(flags: Flags) -> None:
    """Nothing waits or runs: the first seeds have ended, and chosen whose others are trained."""
    record = add_study(flags.storage, "night", [0.5, 0.7, 0.6])
    add_finals(flags.storage, record, 1, (0.8,))
    add_finals(flags.storage, record, 2, (0.7,))
    engine = database.connect(flags.storage)
    stored = FinishPlan.from_record(studies.get(engine, record.id).finish)
    assert stored
    finals = stored.finals.model_copy(update={"networks": 1, "seeds": 3, "contenders": 2})
    turns = stored.model_copy(update={"finals": finals})
    studies.set_finish(engine, record.id, turns.document())
    record = studies.get(engine, record.id)
    engine.dispose()
    assert plan.in_time(replace(flags, timeout=60.0), record, 3).startswith(
        "it is under way and keeps its plan"
    )


def test_a_command_at_the_end_is_told_how_it_ended(flags: Flags, tmp_path: Path) -> None:
    told = tmp_path / "told.txt"
    command = f'echo "$SEARCH_STUDY $SEARCH_END $SEARCH_STORAGE" > {told}'
    facts = {"format": "x", "study": "night", "end": "short", "exit_code": 4, "best": None, "trained": 3}
    found = at_end.environment(facts, flags.storage)
    assert at_end.run(command, found) is None
    assert told.read_text() == f"night short {flags.storage}\n"
    assert (found["SEARCH_EXIT_CODE"], found["SEARCH_BEST"], found["SEARCH_TRAINED"]) == ("4", "", "3")
    assert at_end.run("exit 7", found) == "--on-end exit 7: ended with code 7"


def test_a_command_at_the_end_finds_one_store_where_a_file_had_named_it(
    flags: Flags, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "told.txt"
    monkeypatch.setenv("SEARCH_STORAGE_FILE", str(tmp_path / "store.url"))
    assert at_end.run(f'echo "${{SEARCH_STORAGE_FILE-none}}" > {told}', {"SEARCH_STUDY": "night"}) is None
    assert told.read_text() == f"{tmp_path / 'store.url'}\n"
    found = at_end.environment({"study": "night"}, flags.storage)
    assert at_end.run(f'echo "${{SEARCH_STORAGE_FILE-none}} $SEARCH_STORAGE" > {told}', found) is None
    assert told.read_text() == f"none {flags.storage}\n"


class Listener(BaseHTTPRequestHandler):
    """Keeps what is posted, and answers with the server's `answer`."""

    server: Any

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.headers["Content-Type"], json.loads(body)))
        self.server.released.wait(60)
        self.send_response(self.server.answer)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing to stderr."""


@pytest.fixture
def listener() -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Listener)
    server.got, server.answer, server.released = [], 200, threading.Event()
    server.released.set()
    server.url = f"http://127.0.0.1:{server.server_port}/hook/secret"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_address_is_told_the_end_as_json_and_a_failure_is_one_line(listener: Any) -> None:
    facts = {"study": "night", "exit_code": 0, "best": "night:3", "best_accuracy": 0.1 + 0.2}
    assert at_end.notify(listener.url, facts) is None
    assert listener.got == [("application/json", {**facts, "best_accuracy": 0.3})]
    listener.answer = 404
    host = f"http://127.0.0.1:{listener.server_port}"
    assert at_end.notify(listener.url, facts) == f"--notify {host}: answers 404 Not Found"
    listener.released.clear()
    assert at_end.notify(listener.url, facts, 0.05) == f"--notify {host}: no answer within 0.05 s"
    refused = at_end.notify("http://127.0.0.1:9/hook/secret", facts)
    assert refused and "refused" in refused and "secret" not in refused
    with no_web_server() as address:
        failed = at_end.notify(f"{address}/hook/secret", facts)
    assert failed == f"--notify {address}: what listens there is no web server"


@pytest.mark.parametrize("address", ["example.org/hook", "file:///etc/passwd", "http://", "http://a b/c"])
def test_an_address_that_is_none_is_refused_before_anything_is_made(ask: Ask, address: str) -> None:
    refused = ask("--trials", 3, "--notify", address)
    assert refused.code == 2
    assert "give an address that begins with http:// or https://" in refused.one_line


def test_the_facts_of_an_end_name_the_best_with_its_figures(sqlite_url: str, tmp_path: Path) -> None:
    record = add_study(sqlite_url, "night", [0.5, 0.7])
    engine = database.connect(sqlite_url)
    found = at_end.facts(engine, record, "done", 0, {"out": tmp_path / "best.json"})
    assert found["best"] == "night:1" and found["best_accuracy"] == 0.7 and found["trained"] == 2
    assert found["out"] == str(tmp_path / "best.json") and found["confirmed_accuracy"] is None
    add_finals(sqlite_url, record, 1, (0.8, 0.9), (0.7, 0.8))
    found = at_end.facts(engine, studies.find(engine, "night"), "done", 0, {})
    assert (found["best"], found["test_accuracy"]) == ("night:1", pytest.approx(0.75))
    studies.delete(engine, record.id, lambda _: None)
    assert at_end.facts(engine, record, "error", 5, {})["best"] is None, "the end is told all the same"
    engine.dispose()


def test_a_search_runs_the_command_at_its_end(flags: Flags, tmp_path: Path) -> None:
    more = ("--storage", flags.storage, "--data-dir", flags.data_dir, "--timeout", "1s", "--on-end")
    (tmp_path / "here").mkdir()
    command = "echo $SEARCH_END $SEARCH_EXIT_CODE > told; exit 9"
    done = finish(start(*DRY, "night", "--trials", 99, *more, command, cwd=tmp_path / "here"))
    assert "go on with `search launch night --trials 99 --storage " in done.err
    assert (tmp_path / "here" / "told").read_text() == "short 4\n"
    assert done.code == 4, "the command's own failure is a line"
    assert "exit 9: ended with code 9" in done.err


def test_a_search_without_a_network_tells_of_no_file_that_another_one_left(
    flags: Flags, tmp_path: Path, listener: Any
) -> None:
    for name in ("best.json", "report.html"):
        (tmp_path / name).write_text("of yesterday")
    place = ("--storage", flags.storage, "--data-dir", flags.data_dir, "--timeout", "1s", "--workers", 0)
    left = ("--out", "best.json", "--report", "report.html", "--notify", listener.url)
    command = "echo [$SEARCH_OUT] [$SEARCH_REPORT] > told"
    ended = finish(start(*DRY, "night", "--trials", 9, *place, *left, "--on-end", command, cwd=tmp_path))
    assert (tmp_path / "told").read_text() == "[] []\n", ended.err
    _, told = listener.got[0]
    assert (told["trained"], told["out"], told["report"]) == (0, None, None)
    assert (tmp_path / "best.json").read_text() == "of yesterday"


def test_a_launch_notes_on_this_machine_what_holds_once_it_is_over(flags: Flags, tmp_path: Path) -> None:
    place = ("--storage", flags.storage, "--data-dir", flags.data_dir, "--timeout", "1s", "--workers", 0)
    finish(start(*DRY, "noon", "--trials", 9, *place, "--keep-weights", 20, cwd=tmp_path))
    engine = database.connect(flags.storage)
    record = studies.find(engine, "noon")
    engine.dispose()
    folders = files.study_folders(flags.data_dir, flags.storage, record)
    assert files.kept_best(folders.kept, None) == 20
    assert folders.logs in files.own_folders(flags.data_dir, flags.storage, record)
