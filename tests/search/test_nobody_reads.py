"""A search that nobody listens to any more goes on: `launch 2>&1 | head -1`, and streams that are closed."""

import os
import sys
from pathlib import Path

import pytest
from command import fake_training, finish, python, run, start
from rich.live import Live

from search.study import streams, worker_logs
from search.study.console import LineLog, SteadyConsole

QUICK = ("--data", "digits", "--gpus", "none", "--workers", 1, "--epochs", 1, "--max-macs", "300k",
         "--no-baselines")  # fmt: skip


def test_a_console_without_a_reader_says_nothing_more_and_raises_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as gone:
        monkeypatch.setattr(sys, "stderr", gone)
        console = SteadyConsole()
        console.kept.path = tmp_path / "launcher.log"
        console.print("12:00:00 the first")
        console.print("the second", style="yellow")
        with Live("a board", console=console):
            console.print("the third")
    lines = (tmp_path / "launcher.log").read_text().splitlines()
    assert [line[20:] for line in lines] == ["the first", "the second", "the third"]


def test_the_lines_of_a_launch_are_logged_with_their_time_and_a_full_disk_is_no_matter(
    tmp_path: Path,
) -> None:
    log = LineLog()
    log.print("nowhere yet")
    log.path = tmp_path / "launcher.log"
    log.print("12:00:00 1/3 trial 0 completed", style="red")
    log.print("\nbench: 3 of 3 trained\nwell")
    log.print(object())
    lines = log.path.read_text().splitlines()
    assert all(worker_logs.TIMED.match(line) for line in lines)
    assert [line[20:] for line in lines] == ["1/3 trial 0 completed", "bench: 3 of 3 trained", "well"]
    log.path = tmp_path / "gone" / "launcher.log"
    log.print("nowhere again")


def test_a_file_is_never_opened_under_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    """Else a library's message to stderr would be written into whatever was opened next: a database."""
    script = (
        "import os; [os.close(n) for n in (0, 1, 2)]\n"
        "from search.study import streams; streams.hold_numbers()\n"
        "file = open('opened', 'w'); open('number', 'w').write(str(file.fileno()))"
    )
    assert finish(python("-c", script, cwd=tmp_path)).code == 0
    assert int((tmp_path / "number").read_text()) > 2
    streams.forget(None)


@pytest.mark.thorough  # what is printed is tested above
@pytest.mark.slow
def test_a_launch_whose_reader_goes_after_one_line_trains_to_its_number(
    tmp_path: Path, digits: Path, sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = fake_training(tmp_path / "training", seconds=0.0)
    place = ("--storage", sqlite_url, "--data-dir", digits)
    launcher = start("launch", "deaf", "--trials", 2, *QUICK, *place, cwd=tmp_path, **fake)
    assert launcher.stdout and launcher.stderr
    assert launcher.stderr.readline()
    for pipe in (launcher.stdout, launcher.stderr):  # as `2>&1 | head -1` does
        pipe.close()
    assert launcher.wait(600) == 0
    said = run(capsys, "logs", "deaf", *place).out
    assert "deaf: 2 of 2 trained" in said
    assert "validation accuracy: " in said
