"""The file of a SQLite store goes in the middle of a search: that ends, and nothing is lost."""

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults import Search, require_equal_results, wait_until

from storage import leases

pytestmark = pytest.mark.faults


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


def delete(store: Path, _other: Path) -> None:
    store.unlink()


def replace(store: Path, other: Path) -> None:
    """By another store, as a copy from elsewhere that is moved into its place."""
    other.replace(store)


def both_train(search: Search) -> bool:
    """Whether each worker has stored an epoch of a trial: a claim without one would have to run out."""
    running = search.ask(leases.running)
    return len(running) == 2 and all(one.epoch for one in running)


@pytest.mark.parametrize(
    ("harm", "how"),
    [(delete, "deleted"), pytest.param(replace, "replaced by another file", marks=pytest.mark.thorough)],
)
def test_a_store_that_goes_ends_the_search_with_5_and_comes_back_from_the_spool(
    sqlite_url: str,
    tables_in_file: Path,
    search_on: Callable[[str], Search],
    check: Callable[..., Any],
    harm: Callable[[Path, Path], None],
    how: str,
) -> None:
    search, store = search_on(sqlite_url), Path(sqlite_url.removeprefix("sqlite:///"))
    other = Path(shutil.copy(tables_in_file, store.with_name("other.db")))
    search.orders(seconds=0.1)
    launcher = search.launch(200)  # more than are trained before the harm is done, however slow we are
    wait_until(lambda: launcher.ended() or (search.trained() >= 3 and both_train(search)), "some trials")
    before = search.trained()
    assert search.engine
    search.engine.dispose()
    search.engine = None
    harm(store, other)
    search.orders(seconds=0.005)
    launcher.require(5)
    line = last_line(launcher.said())
    assert f"{store} was {how} while it was in use" in line
    assert line.endswith(f"the same launch with `--study {search.name}` goes on")
    kept, back = shlex.split(line.split("`cp ")[1].split("`")[0])
    assert Path(back) == store
    assert not search.processes()
    assert not store.exists() or how != "deleted", "a new file was made in its place"
    for path in store.parent.glob(f"{store.name}*"):
        path.unlink()
    shutil.copy(kept, back)
    assert search.trained() >= before
    asked = search.trained() + 5
    search.launch(asked).require(0)
    search.settle(check, f"the file {how}", asked)
    require_equal_results(search)
