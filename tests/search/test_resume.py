"""`search resume` goes on where all that it takes is there, and gives no order where it is not."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command import Result, run
from picture_samples import folder_of
from worker_samples import make_config, make_study

from search.commands import launch_session, services
from search.launcher import prepare
from search.launcher.prepare import Flags
from search.machine.signals import Interrupts
from storage import database, leases, studies, workers
from storage.studies import Control
from storage.workers import Doing

Capture = pytest.CaptureFixture[str]


class Searches(Exception):
    """The launch has done all before its search begins; holds its flags."""


@pytest.fixture
def begins(monkeypatch: pytest.MonkeyPatch) -> None:
    def search(_: object, flags: Flags, *__: object) -> None:
        raise Searches(flags)

    monkeypatch.setattr(launch_session, "_search", search)
    monkeypatch.setattr(Interrupts, "listen", lambda _: None)


@pytest.fixture
def resume(sqlite_url: str, tmp_path: Path, capsys: Capture) -> Callable[..., Result]:
    def resume(*more: object) -> Result:
        place = ("--storage", sqlite_url, "--data-dir", tmp_path / "data")
        return run(capsys, "resume", "my night", *place, *more)

    return resume


def order(url: str) -> Control:
    engine = database.connect(url)
    try:
        return studies.find(engine, "my night").order
    finally:
        engine.dispose()


def made(url: str, given: Control, *, waits: bool = False) -> None:
    """A study of images that are nowhere, and if so a worker that waits for its order."""
    config = make_config()
    nowhere = config.data.model_copy(update={"spec": "folder:/nowhere"})
    engine, record = make_study(url, config.model_copy(update={"data": nowhere}), 3, "my night")
    studies.set_control(engine, record.id, given)
    if waits:
        here: dict[str, Any] = {"host": "h", "pid": 1, "lease_seconds": 60.0, "state": Doing.PAUSED}
        workers.announce(engine, record.id, "one", **here)
    engine.dispose()


@pytest.mark.parametrize("given", [Control.PAUSE, Control.STOP, Control.GAVE_UP])
@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (("--workers", "abc"), 2, "--workers abc: give a number, or auto"),
        (("--workers", "²"), 2, "--workers ²: give a number, or auto"),
        (("--gpus", "77"), 5, "there is no GPU 77"),
        (("--gpus", "first"), 2, "--gpus first"),
        (("--workers", "1", "--gpus", "none"), 5, "there is no folder /nowhere"),
    ],
)
def test_a_resume_that_is_refused_gives_no_order(
    sqlite_url: str,
    resume: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
    given: Control,
    flags: tuple[str, ...],
    code: int,
    words: str,
) -> None:
    """Also not for a moment, in which workers that are paused would go on."""
    made(sqlite_url, given)
    gave = list[Control]()
    monkeypatch.setattr(studies, "set_control", lambda _, __, order: gave.append(order))
    refused = resume(*flags)
    assert (refused.code, gave) == (code, [])
    assert words in refused.err.splitlines()[-1]


def test_a_mistyped_flag_lets_no_worker_go_on_that_waits(
    sqlite_url: str, resume: Callable[..., Result]
) -> None:
    made(sqlite_url, Control.PAUSE, waits=True)
    for flags in (("--workers", "abc"), ("--gpus", "77")):
        assert resume(*flags).code in (2, 5)
        assert order(sqlite_url) == Control.PAUSE


def test_workers_that_wait_go_on_whatever_images_there_are_here(
    sqlite_url: str, resume: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    made(sqlite_url, Control.PAUSE, waits=True)

    def claims(_: float) -> None:
        engine = database.connect(sqlite_url)
        assert isinstance(leases.claim(engine, studies.find(engine).id, "one", 60.0), leases.Claim)
        engine.dispose()

    monkeypatch.setattr(services.time, "sleep", claims)
    went_on = resume()
    assert (went_on.code, went_on.out) == (0, "my night: the workers that waited go on\n")
    assert order(sqlite_url) == Control.RUN


def test_where_no_worker_takes_the_order_and_none_can_be_started_it_is_what_it_was(
    sqlite_url: str, resume: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    made(sqlite_url, Control.PAUSE, waits=True)
    monkeypatch.setattr(services, "LOOK_SECONDS", 0.0)
    refused = resume("--workers", "1", "--gpus", "none")
    assert refused.code == 5 and "/nowhere" in refused.one_line
    assert order(sqlite_url) == Control.PAUSE


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("said", ["--data", "SEARCH_DATA"])
def test_images_that_were_moved_are_named_as_for_a_launch(
    sqlite_url: str,
    tmp_path: Path,
    resume: Callable[..., Result],
    begins: None,
    monkeypatch: pytest.MonkeyPatch,
    said: str,
) -> None:
    folder = folder_of(tmp_path / "pa")
    flags = Flags(sqlite_url, tmp_path / "data", 3, "my night", data=f"folder:{folder}", epochs=1)
    engine, record, _ = prepare.prepare(flags)
    studies.set_control(engine, record.id, Control.STOP)
    engine.dispose()
    folder.rename(tmp_path / "pb")
    shutil.rmtree(tmp_path / "data" / "cache")  # else it goes on with the images of before
    here = ("--workers", "1", "--gpus", "none")
    missing = resume(*here)
    assert missing.code == 5 and "give --data folder:PATH" in missing.one_line
    assert order(sqlite_url) == Control.STOP
    spec = f"folder:{tmp_path / 'pb'}"
    if said == "--data":
        here = ("--data", spec, *here)
    else:
        monkeypatch.setenv(said, spec)
    monkeypatch.setattr("search.cli._unexpected", lambda error: f"searches with {error.args[0].data}")
    assert resume(*here).err.splitlines()[-1] == f"search: searches with {spec}"
    assert order(sqlite_url) == Control.RUN
