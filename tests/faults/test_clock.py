"""Clocks that are wrong by days, and jump: PostgreSQL judges the leases by its own clock alone."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults import Figures, Search, require_equal_results, wait_until

pytestmark = [pytest.mark.faults, pytest.mark.thorough]

DAY = 86_400


@pytest.fixture
def clock(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A file with the seconds by which a clock is wrong, and the environment of whoever goes by it."""
    if not shutil.which("cc"):
        pytest.skip("no C compiler to make the wrong clock with")
    library, file = tmp_path / "fake_clock.so", tmp_path / "clock"
    source = Path(__file__).with_name("fake_clock.c")
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    file.write_text("0")
    wrong = {"LD_PRELOAD": str(library), "FAKE_CLOCK": str(file)}
    asked = ["date", "+%s"]
    file.write_text(str(DAY))
    ahead = int(subprocess.run(asked, env=wrong, check=True, capture_output=True, text=True).stdout)
    right = int(subprocess.run(asked, check=True, capture_output=True, text=True).stdout)
    if abs(ahead - right - DAY) > 60:
        pytest.skip("this C library asks the time in a way that cannot be intercepted")
    return file, wrong


def jump(search: Search, clock: Path, asked: int, times: int) -> None:
    """Two days ahead, a month behind, and so on, with trials in between."""
    for turn in range(times):
        start = search.trained()
        wait_until(lambda start=start: search.trained() >= min(start + 2, asked), "trials")
        clock.write_text(str(2 * DAY if turn % 2 == 0 else -30 * DAY))
        search.fault()


def test_a_worker_whose_clock_jumps_loses_no_trial(
    clock: tuple[Path, dict[str, str]],
    postgres_url: str,
    search_on: Callable[..., Search],
    check: Callable[..., Any],
    keep: Callable[[Figures], None],
    full: bool,
) -> None:
    """One worker's clock is wrong; the other's, the launcher's and the server's are right."""
    asked, times = (60, 12) if full else (12, 3)
    file, wrong = clock
    search = search_on(postgres_url)
    launcher = search.launch(asked, workers=1)
    wait_until(search.study, "a study")
    worker = search.worker("--name", "wrong", **wrong)
    jump(search, file, asked, times)
    launcher.require(0)
    worker.require(0)
    assert search.interrupted() == 0
    require_equal_results(search)
    keep(search.settle(check, "a worker's clock jumps by days", asked))


def test_a_machine_whose_clock_jumps_still_reaches_the_number(
    clock: tuple[Path, dict[str, str]],
    sqlite_url: str,
    search_on: Callable[..., Search],
    check: Callable[..., Any],
    keep: Callable[[Figures], None],
    full: bool,
) -> None:
    """SQLite has no clock but the machine's: leases run out, attempts are made again, the number holds."""
    asked, times = (60, 12) if full else (12, 3)
    file, wrong = clock
    search = search_on(sqlite_url)
    file.write_text("0")
    launcher = search.launch(asked, **wrong)
    wait_until(search.study, "a study")
    jump(search, file, asked, times)
    launcher.require(0)
    require_equal_results(search)
    figures = search.settle(check, "the machine's clock jumps by days", asked)
    figures.recovery = None  # the rows' own times jump too
    keep(figures)
