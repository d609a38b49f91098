"""What is kept on the disk, and what is not any more."""

import shutil
from pathlib import Path

import pytest

from search.study import files
from search.study.files import StudyFiles
from space.errors import EnvironmentProblem


@pytest.fixture
def own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> StudyFiles:
    caplog.set_level("INFO", "search")
    return StudyFiles(tmp_path / "made" / "later", 2)


def fill(own: StudyFiles, *names: str) -> None:
    own.folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (own.folder / name).write_text("")


def names(own: StudyFiles) -> set[str]:
    return {path.name for path in own.folder.iterdir()}


def test_only_the_weights_of_the_best_stay(own: StudyFiles) -> None:
    fill(own, "1.safetensors", "2.safetensors", "13.safetensors", "ab.checkpoint", "notes.txt")
    own.tidy({2, 13})
    assert names(own) == {"2.safetensors", "13.safetensors", "ab.checkpoint", "notes.txt"}


def test_a_training_that_is_over_leaves_no_checkpoint(own: StudyFiles) -> None:
    fill(own, "ab.checkpoint", ".ab.checkpoint.0123", "cd.checkpoint")
    own.done("ab")
    assert names(own) == {"cd.checkpoint"}


def test_what_nobody_needs_is_named_and_nothing_else(own: StudyFiles) -> None:
    assert own.stale({1}, {"ab"}) == []
    fill(
        own,
        "1.safetensors",
        "2.safetensors",
        "ab.checkpoint",
        "cd.checkpoint",
        ".x.checkpoint.7",
        "notes.txt",
    )
    assert [path.name for path in own.stale({1}, {"ab"})] == [
        ".x.checkpoint.7",
        "2.safetensors",
        "cd.checkpoint",
    ]


def test_weights_that_cannot_be_written_are_no_reason_to_fail(
    own: StudyFiles, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: Path) -> None:
        raise EnvironmentProblem(f"cannot write {path.name}: No space left on device")

    own.keep(7, full)
    assert caplog.messages == [
        "the weights of trial 7 are not kept: cannot write 7.safetensors: No space left on device"
    ]


def test_a_disk_that_is_almost_full_is_said_once_and_so_is_its_end(
    own: StudyFiles, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = iter([10 << 30, 100 << 20, 90 << 20, 10 << 30])
    monkeypatch.setattr(
        shutil, "disk_usage", lambda _: type("Usage", (), {"free": next(free)})
    )  # a full disk cannot be had for the asking
    assert [own.has_space(5_000_000) for _ in range(4)] == [True, False, False, True]
    assert len(caplog.messages) == 2
    assert caplog.messages[0].startswith("100 MB free for ")
    assert caplog.messages[1] == "there is space again: checkpoints and weights are kept"


def test_the_space_that_a_trial_needs_grows_with_its_network(
    own: StudyFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "free_bytes", lambda _: files.RESERVE + files.BYTES_A_PARAMETER * 1_000)
    assert own.has_space(1_000)
    assert not own.has_space(1_001)
