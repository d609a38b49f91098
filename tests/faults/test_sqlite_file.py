"""The file of a SQLite store goes in the middle of a search: that ends, and nothing is lost."""

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults import Search, require_equal_results, wait_until

from storage import database

pytestmark = pytest.mark.faults


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


def delete(store: Path) -> None:
    store.unlink()


def replace(store: Path) -> None:
    """By another store, as a copy from elsewhere that is moved into its place."""
    other = store.with_name("other.db")
    engine = database.connect(f"sqlite:///{other}")
    database.prepare(engine)
    engine.dispose()
    other.replace(store)


@pytest.mark.parametrize(
    ("harm", "how"),
    [(delete, "deleted"), pytest.param(replace, "replaced by another file", marks=pytest.mark.thorough)],
)
def test_a_store_that_goes_ends_the_search_with_5_and_comes_back_from_the_spool(
    sqlite_url: str,
    search_on: Callable[[str], Search],
    check: Callable[..., Any],
    harm: Callable[[Path], None],
    how: str,
) -> None:
    search, store = search_on(sqlite_url), Path(sqlite_url.removeprefix("sqlite:///"))
    launcher = search.launch(12)
    wait_until(lambda: launcher.ended() or search.trained() >= 3, "some trials")
    before = search.trained()
    assert search.engine
    search.engine.dispose()
    search.engine = None
    harm(store)
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
    search.launch(12).require(0)
    search.settle(check, f"the file {how}", 12)
    require_equal_results(search)
