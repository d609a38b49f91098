"""Commands that are printed to be copied mean what they say: the same study, in the same store, whatever its
name and whichever study is the newest."""

import json
import re
import shlex
import shutil
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

import click
import optuna
import pytest
from command import fake_training, finish, run, start, typed
from comparison_samples import add_study, config
from ledger_samples import proposal
from sqlalchemy import Engine
from worker_samples import FakeTraining, make_config, make_context, make_study

from search import settings
from search.cli import cli
from search.commands import launch_session, plan, printed
from search.formats import choice
from search.launcher.display import Snapshot
from search.launcher.launcher import End, Launch
from search.launcher.prepare import Flags
from search.launcher.snapshots import Snapshots
from search.machine.signals import ShutdownRequest
from search.optuna_adapter import care as optuna_care, study as optuna_study
from search.study.config import split_images
from search.study.console import stderr_console
from search.study.files import StudyFiles
from search.study.worker_options import WorkerOptions
from search.worker import worker as workers
from space import baselines
from space.errors import UsageError
from storage import candidates, database, leases, studies
from storage.row_types import GIVE_UP_AFTER, State
from storage.studies import Control
from trainer.data import dataset as datasets

Capture = pytest.CaptureFixture[str]


def commands(said: str) -> list[list[str]]:
    """The words of each command in a text."""
    return [shlex.split(one) for one in re.findall(r"`(search [^`]*)`", said)]


def test_the_end_of_a_launch_names_its_study_and_file_as_they_are_typed(
    sqlite_url: str, tmp_path: Path, capsys: Capture
) -> None:
    record = add_study(sqlite_url, "my night", [0.5, 0.7])
    engine, out = database.connect(sqlite_url), tmp_path / "my best.json"
    console = stderr_console(printed.completed)
    flags = Flags(storage=sqlite_url, data_dir=tmp_path, trials=3, study="my night")
    snapshot = Snapshots(engine, record, config()).take()
    again = partial(plan.again, flags, record.name, workers="2", gpus="all")
    short = replace(snapshot, target=9)
    end = End(short, Control.STOP, 0, None, "", None, {"cpu:0": "no disk"}, True)
    store = ["--storage", sqlite_url]
    where = [*store, "--data-dir", str(tmp_path)]
    with typed("launch", "my night", "--trials", 3, *where):
        launch_session._say_end(console, flags, record, end, again)
        launch_session._leave(console, engine, record, config(), snapshot, None, None, {})
        launch_session._leave(console, engine, record, config(), snapshot, out, None, {})
        launch = Launch(flags, engine, record, config(), cast(optuna.Study, None), [])
        launch.worked = float("-inf")
        shown = Shown()
        launch_session.WholeCommands(shown).show(replace(snapshot, note=launch._note()))
    engine.dispose()
    said = capsys.readouterr()
    assert commands(said.err) == [
        ["search", "resume", "my night", *where],
        ["search", "launch", "my night", "--trials", "9", *where, "--workers", "2"],
    ]
    assert commands(said.out) == [
        ["search", "export", "my night", *where],
        ["search", "verify", str(out)],
    ]
    assert commands(shown.note) == [["search", "worker", "--study", "my night", *where]]


def test_the_end_of_a_search_that_is_done_names_no_order(
    sqlite_url: str, tmp_path: Path, capsys: Capture
) -> None:
    """It came while the last trial was trained."""
    record = add_study(sqlite_url, "night", [0.5, 0.7])
    engine = database.connect(sqlite_url)
    flags = Flags(storage=sqlite_url, data_dir=tmp_path, trials=2, study="night")
    end = End(Snapshots(engine, record, config()).take(), Control.STOP, 0, None, "", None, {}, False)
    launch_session._say_end(stderr_console(), flags, record, end, str)
    engine.dispose()
    assert capsys.readouterr().err == (
        "\nnight: 2 of 2 trained\ncompleted 2 · pruned 0 · over budget 0 · repeated 0 · failed 0\n"
    )


class Shown:
    """A display that keeps the note it was to show."""

    note = ""

    def show(self, snapshot: Snapshot) -> None:
        """Keeps it."""
        self.note = snapshot.note

    def close(self) -> None:
        """Nothing to take back."""


SPOKEN_OF = (["pause"], ["stop"])  # "paused by `search pause`"
NIGHT = "my night"  # a study, and after it a newer one that is not meant

Act = Callable[[Engine, int], object]  # on the study, before the command


def owes_more(engine: Engine, study_id: int) -> None:
    studies.set_trials(engine, study_id, 9)


def pauses(engine: Engine, study_id: int) -> None:
    owes_more(engine, study_id)
    studies.set_control(engine, study_id, Control.PAUSE)


def stops(engine: Engine, study_id: int) -> None:
    owes_more(engine, study_id)
    studies.set_control(engine, study_id, Control.STOP)


def gives_up(state: State) -> Act:
    def act(engine: Engine, study_id: int) -> None:
        owes_more(engine, study_id)
        for number in range(10, 10 + GIVE_UP_AFTER):
            claim = leases.claim(engine, study_id, "one", 60.0)
            assert isinstance(claim, leases.Claim)
            made = candidates.propose(engine, claim, proposal(number))
            candidates.finish(engine, claim, made.id, state, reason="broken")

    return act


def is_at_work(engine: Engine, study_id: int) -> None:
    owes_more(engine, study_id)
    assert isinstance(leases.claim(engine, study_id, "one", 600.0), leases.Claim)


def loses_its_part_in_optuna(engine: Engine, _: int) -> None:
    with database.writing(engine) as connection:
        optuna_care.delete(connection, NIGHT)


def nothing(_: Engine, __: int) -> None:
    """As it is."""


PRINTS: list[tuple[Act, Sequence[str], list[list[str]]]] = [
    (owes_more, ["stop", NIGHT], [["resume", NIGHT]]),
    (pauses, ["status", NIGHT], [["resume", NIGHT]]),
    (stops, ["status", NIGHT, "--watch"], [["resume", NIGHT]]),
    (stops, ["wait", NIGHT], [["resume", NIGHT]]),
    (owes_more, ["wait", NIGHT, "--idle", "0.001"], [["resume", NIGHT]]),
    (gives_up(State.FAILED), ["status", NIGHT], [["trials", NIGHT, "--state", "failed"], ["resume", NIGHT]]),
    (gives_up(State.FAILED), ["wait", NIGHT], [["trials", NIGHT, "--state", "failed"], ["resume", NIGHT]]),
    (nothing, ["export", NIGHT, "--out", "best.json"], [["confirm", NIGHT]]),
    (nothing, ["export", NIGHT, "--format", "onnx"], [["train", f"{NIGHT}:1"]]),
    (nothing, ["predict", f"{NIGHT}:1", "cat.png"], [["train", f"{NIGHT}:1"]]),
    (nothing, ["show", f"{NIGHT}:9"], [["trials", NIGHT]]),
    (nothing, ["show", "zzz"], [["list"]]),
    (nothing, ["compare", NIGHT], [["list"]]),
    (nothing, ["db", "repair", NIGHT], [["db", "check", NIGHT]]),
    (loses_its_part_in_optuna, ["db", "check", NIGHT], [["db", "repair", NIGHT]]),
    (loses_its_part_in_optuna, ["best", NIGHT], [["db", "repair", NIGHT], ["delete", NIGHT]]),
    (is_at_work, ["delete", NIGHT, "--yes"], [["stop", NIGHT]]),
    (nothing, ["enqueue", NIGHT, "mine.json"], [["launch", NIGHT, "--trials", "3"]]),
]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two studies in a store of its own, beside which there is an empty one."""
    folder = tmp_path / "my store"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("STORAGE", "STORAGE_FILE", "DATA_DIR", "STUDY"):
        monkeypatch.delenv(f"SEARCH_{name}", raising=False)
    plan_of_both, url = make_config(), f"sqlite:///{folder / 'search.db'}"
    optuna_study.quiet()
    for name in (NIGHT, "newer"):
        add_study(url, name, [0.5, 0.7], plan_of_both)
        optuna_study.create(url, name, plan_of_both)
    mine = baselines.baselines(plan_of_both.space, plan_of_both.budget, plan_of_both.task)[0].architecture
    (folder / "mine.json").write_text(json.dumps(mine.document()))
    (folder / "my url").write_text(url)
    (folder / "my url").chmod(0o600)
    return folder


def asked(capsys: Capture, place: Path, act: Act, words: Sequence[str], *where: str) -> list[list[str]]:
    """The commands that are printed by one that is typed so, each once, without `search`."""
    engine = database.connect(f"sqlite:///{place / 'search.db'}")
    act(engine, studies.find(engine, NIGHT).id)
    engine.dispose()
    result = run(capsys, *words, *where)
    assert "Traceback" not in result.err
    found = [one[1:] for one in commands(result.out + result.err)]
    return [one for index, one in enumerate(found) if one not in found[:index] and one not in SPOKEN_OF]


def takes(words: Sequence[str], parameter: str) -> bool:
    group = cli.commands[words[0]]
    command = group.commands[words[1]] if isinstance(group, click.Group) else group
    return parameter in {one.name for one in command.params}


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize(("act", "words", "named"), PRINTS)
def test_a_printed_command_has_the_store_and_the_folder_that_were_typed(
    place: Path, capsys: Capture, act: Act, words: Sequence[str], named: list[list[str]]
) -> None:
    store = ["--storage", f"sqlite:///{place / 'search.db'}"]
    folder = ["--data-dir", str(place / "my data")] if takes(words, "data_dir") else []
    assert asked(capsys, place, act, words, *store, *folder) == [
        [*one, *store, *(folder if takes(one, "data_dir") else [])] for one in named
    ]


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize(("act", "words", "named"), PRINTS)
def test_a_printed_command_has_no_store_that_is_in_the_environment(
    place: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
    act: Act,
    words: Sequence[str],
    named: list[list[str]],
) -> None:
    monkeypatch.setenv("SEARCH_STORAGE", f"sqlite:///{place / 'search.db'}")
    monkeypatch.setenv("SEARCH_DATA_DIR", str(place / "my data"))
    assert asked(capsys, place, act, words) == named


@pytest.mark.parametrize("named", [[NIGHT], []])
def test_what_is_refused_names_a_command_for_programs_with_the_store_that_was_typed(
    named: list[str], place: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ["--storage", f"sqlite:///{place / 'search.db'}"]
    words = ("status", *named, "--watch", "--format", "json")
    refused = run(capsys, *words, *store)
    assert refused.code == 2
    assert commands(refused.one_line)[0] == ["search", "wait", *named, *store]
    monkeypatch.setenv("SEARCH_STORAGE", store[1])
    assert commands(run(capsys, *words).one_line)[0] == ["search", "wait", *named]


def test_a_worker_that_a_person_started_names_its_store_on_the_terminal_and_not_in_its_log(
    tmp_path: Path, digits: Path
) -> None:
    """A study without its part in Optuna, which it leaves out."""
    images = split_images(datasets.load("digits", digits), None, None, 0)[0]
    add_study(f"sqlite:///{tmp_path / 's2.db'}", NIGHT, [], make_config().model_copy(update={"data": images}))
    store, data = ["--storage", "sqlite:///s2.db"], tmp_path / "data"
    shutil.copytree(digits, data, ignore=shutil.ignore_patterns("logs"))  # of other tests
    worker = start("worker", "--follow", *store, "--data-dir", data, cwd=tmp_path,
                   **fake_training(tmp_path / "training", seconds=0.0))  # fmt: skip
    assert worker.stderr
    line = next(line for line in worker.stderr if "leaves" in line or "Error" in line)
    worker.terminate()
    ended = finish(worker)
    assert ended.code == 143, ended.err
    assert "leaves my night out for now" in line
    assert commands(line) == [["search", "db", "repair", NIGHT, *store]]
    (log,) = (path for path in data.rglob("*.log") if "leaves" in path.read_text())
    assert commands(log.read_text()) == [["search", "db", "repair", NIGHT]]


@pytest.mark.parametrize("parent", [None, 1])
def test_a_worker_that_follows_says_why_a_search_gave_up_with_the_store_that_was_typed(
    parent: int | None,
    sqlite_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """One of a launcher has the command as it is: nobody typed its own."""
    plan_of_it = make_config()
    engine, record = make_study(sqlite_url, plan_of_it, 50, name=NIGHT)
    gives_up(State.FAILED)(engine, record.id)
    told = WorkerOptions(storage=sqlite_url, data_dir=tmp_path, follow=True, parent=parent)
    with (
        optuna_study.open_study(sqlite_url, NIGHT, plan_of_it) as opened,
        typed("worker", "--follow", "--storage", sqlite_url),
    ):
        context = make_context(opened, engine, record, FakeTraining(), plan_of_it, tmp_path)
        monkeypatch.setattr(workers, "open_context", lambda *_: nullcontext(context))
        workers._configure_log(told, printed.completed)
        workers._work_to_its_end(told, engine, record, ShutdownRequest(1.0))
    engine.dispose()
    store = ["--storage", sqlite_url] if parent is None else []
    (line,) = (line for line in capfd.readouterr().err.splitlines() if "in a row failed" in line)
    assert commands(line) == [["search", "trials", NIGHT, "--state", "failed", *store]]


def test_a_printed_command_has_the_file_that_names_the_store(
    place: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = ["--storage-file", "my url"]
    assert asked(capsys, place, owes_more, ["stop", NIGHT], *file) == [["resume", NIGHT, *file]]
    monkeypatch.setenv("SEARCH_STORAGE_FILE", "my url")
    assert asked(capsys, place, owes_more, ["stop", NIGHT]) == [["resume", NIGHT]]


def test_a_printed_command_has_the_store_that_was_typed_though_it_is_the_default(
    place: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment names another one, in which the command would look else."""
    (place / "search.db").rename(place / "parsimony.db")
    monkeypatch.setenv("SEARCH_STORAGE", "sqlite:///other.db")
    typed_store = ["--storage", settings.STORAGE]
    said = run(capsys, "pause", "newer", *typed_store).out
    assert "newer is done" in said
    assert commands(run(capsys, "show", f"{NIGHT}:9", *typed_store).one_line) == [
        ["search", "trials", NIGHT, *typed_store]
    ]


def test_what_is_spoken_of_and_what_names_a_store_stays_as_it_is() -> None:
    with typed("stop", "night", "--storage", "a.db"):
        for text in (
            "stopped by `search stop --now`",
            "no database 'x'; `search launch` makes one",
            "`search verify best.json`",
            "`search resume night --storage b.db` goes on",
            "`search resume night --storage-file b` goes on",
            "`search nothing night`, `search db`, `searching for it`",
            "search resume night",
            "it's `search resume night's`",
        ):
            assert printed.completed(text) == text
        assert printed.completed("`search db check n` and `search list`") == (
            "`search db check n --storage a.db` and `search list --storage a.db`"
        )
    assert printed.completed("`search list`") == "`search list`", "no command runs"


def test_programs_read_commands_as_they_are_stored(place: Path, capsys: Capture) -> None:
    store = ("--storage", f"sqlite:///{place / 'search.db'}")
    asked(capsys, place, gives_up(State.FAILED), ["status", NIGHT], *store)
    (row,) = json.loads(run(capsys, "status", NIGHT, *store, "--format", "json").out)
    assert commands(row["gave_up"]) == [["search", "trials", NIGHT, "--state", "failed"]]


def test_a_report_names_no_store_of_who_made_it(place: Path, capsys: Capture) -> None:
    engine = database.connect(f"sqlite:///{place / 'search.db'}")
    pauses(engine, studies.find(engine, NIGHT).id)
    engine.dispose()
    made = run(capsys, "report", NIGHT, "--storage", f"sqlite:///{place / 'search.db'}", "--out", "r.html")
    assert made.code == 0, made.err
    assert "--storage" not in (place / "r.html").read_text()


def test_an_export_names_the_study_and_the_trial_as_they_are_typed(
    sqlite_url: str, tmp_path: Path, capsys: Capture
) -> None:
    add_study(sqlite_url, "my night", [0.5, 0.7])
    place = ("--storage", sqlite_url, "--data-dir", tmp_path)
    written = run(capsys, "export", "my night", *place, "--out", tmp_path / "best.json")
    assert written.code == 0, written.err
    where = list(map(str, place))
    assert commands(written.err) == [["search", "confirm", "my night", *where]]
    missing = run(capsys, "predict", "my night:1", tmp_path / "cat.png", *place)
    assert commands(missing.one_line) == [["search", "train", "my night:1", *where]]
    engine = database.connect(sqlite_url)
    (best,) = candidates.best(engine, 1, 1)
    engine.dispose()
    with pytest.raises(UsageError) as refused:
        choice.choose("my night", best, [], StudyFiles(tmp_path, 0), config().data)
    assert commands(str(refused.value)) == [["search", "train", "my night:1"]]
