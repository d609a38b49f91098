"""A search through PgBouncer, in both of its modes; skipped where there is no pgbouncer."""

from collections.abc import Callable, Iterator
from typing import Any

import pgbouncer
import pytest
from faults import Search, require_equal_results
from postgres_server import Postgres
from sqlalchemy import make_url, text

from space.errors import StorageError, UsageError
from storage import database, postgres

MODES = ("session", "transaction")


@pytest.fixture(params=MODES)
def pooled_url(request: pytest.FixtureRequest, postgres: Postgres, postgres_url: str) -> Iterator[str]:
    """The database of the test by way of a pooler with few connections, which says so in its URL."""
    try:
        with pgbouncer.before(postgres.port, request.param, 40 if request.param == "session" else 2) as port:
            yield f"{make_url(postgres_url).set(port=port).render_as_string()}?pgbouncer=true"
    except pgbouncer.NoPgBouncer as reason:
        pytest.skip(str(reason))


def test_each_transaction_has_its_limits_and_leaves_nothing_to_the_next(pooled_url: str) -> None:
    engine = database.connect(pooled_url)
    for _ in range(8):  # beyond psycopg's 5, after which it would prepare a statement
        with database.reading(engine) as connection:
            assert connection.execute(text("SHOW statement_timeout")).scalar() == "30s"
            assert connection.execute(text("SHOW lock_timeout")).scalar() == "30s"
            assert connection.execute(text("SELECT count(*) FROM pg_prepared_statements")).scalar() == 0
    with engine.connect().execution_options(**postgres.ONE_MESSAGE) as connection:
        asked = "SELECT 1; SELECT current_setting('lock_timeout'), %(word)s"  # what every worker waits for
        assert postgres.at_once(connection, asked, {"word": "it's"}) == [("30s", "it's")]
    engine.dispose()
    with pytest.raises(StorageError, match="unsupported startup parameter"):
        database.connect(pooled_url.removesuffix("?pgbouncer=true"))


@pytest.mark.parametrize("word", ["yes", "1", "True"])
def test_another_word_than_true_or_false_is_refused(word: str) -> None:
    with pytest.raises(UsageError, match=f"pgbouncer={word}: give pgbouncer=true"):
        database.normalise(f"postgresql://h/d?pgbouncer={word}")
    assert database.normalise("postgresql://h/d?pgbouncer=false").endswith("pgbouncer=false")


@pytest.mark.thorough  # a whole search for one more question: its pieces have tests of milliseconds
@pytest.mark.faults
def test_a_search_through_a_pooler_is_whole(
    pooled_url: str, postgres_url: str, search_on: Callable[[str], Search], check: Callable[..., Any]
) -> None:
    search = search_on(pooled_url)
    search.launch(6, "--sampler", "tpe", "--pruner", "median").require(0)
    search.settle(check, "through PgBouncer", 6)
    require_equal_results(search)
    assert "6 of 6" in check("status", search.name, "--storage", pooled_url).out
