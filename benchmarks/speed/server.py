"""A PostgreSQL server for a benchmark: that of a URL, else one of the tests' package of binaries.

The latter is safe as by default (fsync), and gone afterwards. Called by the modules beside it.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def server(given: str | None = None) -> Iterator[str]:
    """The URL of a server that can make databases."""
    if given:
        yield given
        return
    sys.path.insert(0, "tests/support")
    from postgres_server import Postgres

    postgres = Postgres(fsync="on", full_page_writes="on").start()
    try:
        yield postgres.url()
    finally:
        postgres.remove()
