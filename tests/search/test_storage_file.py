"""The store by a file: who may read it, whether file or URL wins, and that no line repeats what is in it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from command import Result
from worker_samples import make_config, make_study

Check = Callable[..., Result]


@pytest.fixture
def store(sqlite_url: str) -> str:
    engine, _ = make_study(sqlite_url, make_config(), 3, name="here")
    engine.dispose()
    return sqlite_url


def file_with(folder: Path, content: str, mode: int = 0o600) -> Path:
    file = folder / "store.url"
    file.write_text(content)
    file.chmod(mode)
    return file


def test_a_file_names_the_store_on_the_command_line_or_in_the_environment(
    store: str, tmp_path: Path, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = file_with(tmp_path, f"  {store}\n")
    found = check("status", "--storage-file", file)
    assert found.code == 0, found.err
    assert "here" in found.out
    assert "study 'here': nothing was trained" in check("compare", "here", "here", "--storage-file", file).err
    monkeypatch.setenv("SEARCH_STORAGE_FILE", str(file))
    assert "here" in check("list").out


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o666, 0o620])
def test_a_file_that_others_may_read_is_refused(store: str, tmp_path: Path, check: Check, mode: int) -> None:
    file = file_with(tmp_path, store, mode)
    refused = check("status", "--storage-file", file)
    assert refused.code == 2
    assert refused.one_line.endswith(f"others may read it (mode {mode:04o}): chmod 600 {file}")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "is to hold the URL of a store and nothing else"),
        ("postgresql://me:s3cret@h/x\nand a second line", "is to hold the URL of a store and nothing else"),
        ("postgresql://me:s3cret@h/x" + " " * 5_000, "is to hold the URL of a store and nothing else"),
        ("postgresql://me:s3c@s3cret@h/x", "percent-encode the password"),
    ],
)
def test_a_file_that_holds_no_url_is_one_line_that_repeats_nothing(
    tmp_path: Path, check: Check, content: str, complaint: str
) -> None:
    refused = check("status", "--storage-file", file_with(tmp_path, content))
    assert refused.code == 2
    assert complaint in refused.one_line
    assert "s3c" not in refused.err


def test_bytes_that_are_no_text_and_files_that_are_not_there_are_one_line(
    tmp_path: Path, check: Check
) -> None:
    file = file_with(tmp_path, "")
    file.write_bytes(b"\xff\xfe")
    assert "and nothing else" in check("status", "--storage-file", file).one_line
    absent = check("status", "--storage-file", tmp_path / "absent")
    assert absent.code == 2
    assert "No such file" in absent.one_line
    assert "cannot read" in check("status", "--storage-file", tmp_path).one_line


def test_two_stores_are_refused_and_the_command_line_wins_over_the_environment(
    store: str, tmp_path: Path, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = file_with(tmp_path, store)
    assert "two stores" in check("status", "--storage", store, "--storage-file", file).one_line
    monkeypatch.setenv("SEARCH_STORAGE", "sqlite:////nowhere/at/all.db")
    assert check("status", "--storage-file", file).code == 0
    monkeypatch.setenv("SEARCH_STORAGE_FILE", str(tmp_path / "absent"))
    assert check("status", "--storage", store).code == 0
    assert "two stores" in check("status").one_line
