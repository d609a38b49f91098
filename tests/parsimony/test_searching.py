"""`parsimony.search` and the launch that it waits for: what that says and ends with, and what is made of it.

Most launches are stand-ins in place of subprocess.Popen, which say a few lines and end.
"""

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import parsimony
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
