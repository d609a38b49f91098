"""`parsimony.search` and the launch that it waits for: what that says and ends with, and what is made of it.

Most launches are stand-ins in place of subprocess.Popen, which say a few lines and end.
"""

import shlex
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from command import typed
from comparison_samples import add_study

import parsimony
from search import settings
from search.commands import options, plan, printed
from search.launcher.prepare import Flags
from space import errors

Capture = pytest.CaptureFixture[str]
Launches = Callable[..., list[Sequence[str]]]


class Ended:
    """A launch that has said its lines, and ended."""

    def __init__(self, code: int, *said: str) -> None:
        self.code, self.said = code, [*said, ""]
        self.stderr = self

    def readline(self) -> str:
        return self.said.pop(0)

    def poll(self) -> int:
        return self.code

    def wait(self) -> int:
        return self.code

    def close(self) -> None:
        pass


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> Launches:
    """Makes launches end with a code after some lines; returns their argv, as they come."""

    def end(code: int, *said: str) -> list[Sequence[str]]:
        asked = list[Sequence[str]]()

        def start(words: Sequence[str], **_: Any) -> Ended:
            asked.append(words)
            return Ended(code, *said)

        monkeypatch.setattr(subprocess, "Popen", start)
        return asked

    return end


def search(folder: Path, **words: Any) -> parsimony.Study:
    return parsimony.search("digits", 1, storage=f"sqlite:///{folder / 's.db'}", data_dir=folder, **words)


def test_images_that_are_not_there_are_an_error_of_data(tmp_path: Path) -> None:
    with pytest.raises(parsimony.DataError, match="there is no folder /nowhere"):
        parsimony.search(
            "folder:/nowhere", 1, storage=f"sqlite:///{tmp_path / 's.db'}", data_dir=tmp_path,
            workers=0, quiet=True,
        )  # fmt: skip


@pytest.mark.parametrize(
    "name", ["DataError", "StudyError", "DeviceError", "NothingTrainedError", "StorageError"]
)
def test_a_search_raises_the_error_that_its_launch_had_and_shows_the_line_alone(
    name: str, launches: Launches, tmp_path: Path, capsys: Capture
) -> None:
    launches(5, "search: the disk is nearly full\n", f"search: {name}: it is gone: all of it\n")
    with pytest.raises(errors.ParsimonyError, match=r"^it is gone: all of it$") as raised:
        search(tmp_path)
    assert type(raised.value).__name__ == name
    assert capsys.readouterr().err == "search: the disk is nearly full\nsearch: it is gone: all of it\n"


def test_a_launch_that_names_no_class_ends_as_its_code_says(launches: Launches, tmp_path: Path) -> None:
    launches(5, "search: database: it is locked\n")
    with pytest.raises(parsimony.EnvironmentProblem, match=r"^database: it is locked$"):
        search(tmp_path)


@pytest.fixture
def unnamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of the study that a search makes without one; it is in the store already, with two trials."""
    monkeypatch.setattr(settings, "study_name", lambda _now: "search-now")
    add_study(f"sqlite:///{tmp_path / 's.db'}", "search-now", [0.5, 0.625])
    return "search-now"


@pytest.mark.parametrize("code", [0, 4, 130, 143])
def test_a_search_that_was_interrupted_or_ended_short_returns_its_study(
    code: int, launches: Launches, unnamed: str, tmp_path: Path
) -> None:
    launches(code, "one line\n")
    study = search(tmp_path, quiet=True)
    assert (study.name, study.trained) == (unnamed, 2)


@pytest.mark.parametrize("code", [130, 143, -2, -15])
def test_a_search_that_was_interrupted_before_it_had_a_study_says_so(
    code: int, launches: Launches, tmp_path: Path
) -> None:
    launches(code)
    with pytest.raises(parsimony.ParsimonyError, match="told to end before it had a study"):
        search(tmp_path)


def test_a_search_that_failed_names_the_study_that_goes_on(
    launches: Launches, unnamed: str, tmp_path: Path
) -> None:
    launches(5, "search: StorageError: the disk is full\n")
    with pytest.raises(errors.StorageError, match=f"^the disk is full; .* study='{unnamed}' goes on"):
        search(tmp_path, quiet=True)
    launches(2, "search: UsageError: --seed x: give a number\n")
    with pytest.raises(parsimony.UsageError, match=r"^--seed x: give a number$"):
        search(tmp_path, quiet=True)


def test_a_launch_that_ends_without_a_reason_is_told_with_its_last_line(
    launches: Launches, tmp_path: Path
) -> None:
    launches(9, "first\n", "Killed by the kernel\n", "\n")
    with pytest.raises(
        parsimony.ParsimonyError, match=r"^search launch ended with code 9: Killed by the kernel$"
    ):
        search(tmp_path)


@pytest.mark.parametrize(
    ("given", "is_typed"),
    [("sqlite:///{}/s.db", True), ("postgresql://me@127.0.0.1:9/x", True),
     ("postgresql://me:secret@127.0.0.1:9/x", False), (None, False)],
)  # fmt: skip
def test_a_launch_is_told_its_store_so_that_the_commands_which_it_prints_name_it_but_no_password(
    given: str | None, is_typed: bool, launches: Launches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEARCH_STORAGE", f"sqlite:///{tmp_path}/environment.db")
    store, asked = given and given.format(tmp_path), launches(2, "search: UsageError: no\n")
    with pytest.raises(errors.UsageError):
        parsimony.search("digits", 1, storage=store, data_dir=tmp_path, quiet=True)
    (words,) = asked
    assert ("--storage" in words) == is_typed and "secret" not in " ".join(words)
    if is_typed:
        assert words[words.index("--storage") + 1] == store


@pytest.mark.parametrize(
    ("given", "shown"),
    [("sqlite:///my night.db", "'sqlite:///my night.db'"),
     ("postgresql://me:secret@127.0.0.1:9/x", "postgresql://me@127.0.0.1:9/x"),
     ("postgresql://127.0.0.1:9/x?user=me&password=secret", "'postgresql://127.0.0.1:9/x?user=me'"),
     (None, None)],
)  # fmt: skip
def test_the_commands_that_a_launch_prints_name_the_store_of_a_caller_without_its_password(
    given: str | None, shown: str | None, launches: Launches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a shell they would else mean whatever store that has: a new search, in ./parsimony.db."""
    url = given or f"sqlite:///{tmp_path}/environment.db"
    monkeypatch.setenv("SEARCH_STORAGE", url)  # as the launch has it
    asked = launches(2, "search: UsageError: no\n")
    with pytest.raises(errors.UsageError):
        parsimony.search("digits", 1, storage=given, data_dir=tmp_path, study="night", quiet=True)
    (words,) = asked
    store = f" --storage {shown}" if shown else ""
    with typed(*words[3:]) as context:
        flags = Flags(storage=context.params["storage"], data_dir=tmp_path, trials=1)
        again = plan.again(flags, "night", 5, "auto", "all")
        assert again.startswith("search launch night --trials 5 ") and "secret" not in again
        assert shlex.split(again).count("--storage") == bool(shown) and store in again
        assert printed.completed("`search best night`") == f"`search best night{store}`"
        assert not options.password_is_shown(flags.storage)
        assert flags.storage == url
