"""The disk is full: the search waits until there is space again, or ends and keeps what it has."""

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from faults import Figures, Search, wait_until
from postgres_server import Postgres

pytestmark = [pytest.mark.faults, pytest.mark.thorough]

SIZE = 48 << 20  # bytes of the small disk
BLOCK = 1 << 16


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 48 MB, in memory."""
    if os.geteuid() != 0:
        pytest.skip("a small disk needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "faults", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no small disk here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Leaves no byte free."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (BLOCK, 1):
            with suppress(OSError):
                while file.write(b"x" * size):
                    pass
    return ballast


def say_in(search: Search) -> str:
    """What the workers have logged."""
    logs = (search.place / "data" / "logs").glob("**/*.log")
    return "".join(log.read_text(errors="replace") for log in logs)


def fill_until_noticed(search: Search, disk: Path, seconds: float) -> None:
    """Fills the disk, sees that the search notices, and frees it again."""
    before = say_in(search).count("database is away") + say_in(search).count("goes on without")
    ballast = fill(disk)

    def noticed() -> bool:
        said = say_in(search)
        return said.count("database is away") + said.count("goes on without") > before

    wait_until(noticed, "a worker that notices")
    threading.Event().wait(seconds)  # the fault's own length
    ballast.unlink()
    search.fault()


def test_a_full_disk_under_sqlite_is_waited_for(
    small_disk: Path,
    search_on: Callable[..., Search],
    check: Callable[..., Any],
    keep: Callable[[Figures], None],
    full: bool,
) -> None:
    search = search_on(f"sqlite:///{small_disk / 'search.db'}")
    search.orders(seconds=0.1)
    asked = 60 if full else 14
    launcher = search.launch(asked)
    for _ in range(3 if full else 1):
        start = search.trained()
        wait_until(lambda start=start: search.trained() > start + 1, "some trials")
        fill_until_noticed(search, small_disk, 10 if full else 3)
    search.orders(seconds=0.005)  # the faults are over: let the rest be quick
    launcher.require(0)
    keep(search.settle(check, "disk full under the database, then free again", asked))


def test_a_disk_that_stays_full_ends_the_search_and_the_next_goes_on(
    small_disk: Path,
    search_on: Callable[..., Search],
    check: Callable[..., Any],
    keep: Callable[[Figures], None],
) -> None:
    search = search_on(f"sqlite:///{small_disk / 'search.db'}")
    search.orders(seconds=0.1)
    launcher = search.launch(10, "--database-timeout", "3s")
    wait_until(lambda: search.trained() > 1 and search.training(), "some trials")
    ballast = fill(small_disk)
    assert launcher.code() == 5, launcher.said()
    assert "Traceback" not in launcher.said()
    wait_until(lambda: not search.processes(), "the end of the workers")
    ballast.unlink()
    search.fault()
    search.launch(10).require(0)
    keep(search.settle(check, "disk full under the database, for longer than the timeout", 10))


def test_a_full_disk_under_postgresql_is_waited_for(
    small_disk: Path,
    server: Postgres,
    search_on: Callable[..., Search],
    check: Callable[..., Any],
    keep: Callable[[Figures], None],
    full: bool,
) -> None:
    """The tables lie on the small disk: the server lives and refuses to extend them."""
    if server.user:
        shutil.chown(small_disk, server.user["user"], server.user["group"])
        for folder in (small_disk.parent, *small_disk.parent.parents):
            if folder.stat().st_mode & 0o005 != 0o005:
                folder.chmod(folder.stat().st_mode | 0o005)  # pytest's own folders, closed to the server
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(f"CREATE TABLESPACE small LOCATION '{small_disk}'")
        connection.execute("CREATE DATABASE small TABLESPACE small")
    search = search_on(server.url("small"))
    search.orders(seconds=0.1)
    asked = 60 if full else 14
    launcher = search.launch(asked)
    for _ in range(3 if full else 1):
        start = search.trained()
        wait_until(lambda start=start: search.trained() > start + 1, "some trials")
        fill_until_noticed(search, small_disk, 10 if full else 3)
    search.orders(seconds=0.005)
    launcher.require(0)
    keep(search.settle(check, "disk full under the database, then free again", asked))


def test_a_full_disk_under_logs_checkpoints_and_spool_costs_no_trial(
    small_disk: Path,
    server: Postgres,
    search_on: Callable[..., Search],
    check: Callable[..., Any],
    keep: Callable[[Figures], None],
) -> None:
    """And the database is away meanwhile: what is owed to it is kept in memory."""
    search = search_on(server.url())
    shutil.move(search.place / "data", small_disk / "data")
    (search.place / "data").symlink_to(small_disk / "data")
    search.orders(seconds=0.1)
    launcher = search.launch(14)
    wait_until(lambda: search.trained() > 1 and search.training(), "some trials")
    ballast = fill(small_disk)
    server.stop()
    threading.Event().wait(8)  # the fault's own length
    server.start()
    search.fault()
    start = search.trained()
    wait_until(lambda: search.trained() > start + 1, "trials beside a full disk")
    ballast.unlink()
    search.orders(seconds=0.005)
    launcher.require(0)
    keep(search.settle(check, "disk full under logs and spool, PostgreSQL restarted meanwhile", 14))
