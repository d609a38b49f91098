"""Roles of PostgreSQL: docs/roles.sql grants what a worker needs, and what lacks is said in one line."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import make_url
from worker_samples import make_config, make_study

from search.optuna_adapter import privileges as optuna_privileges
from space.errors import AccessError
from storage import database, privileges

ROLES = Path(__file__).parents[2] / "docs" / "roles.sql"


def run(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


@pytest.fixture
def store(postgres_url: str) -> str:
    """A store with a study, over which docs/roles.sql was run."""
    engine, _ = make_study(postgres_url, make_config(), 3)
    engine.dispose()
    run(postgres_url, ROLES.read_text())
    run(postgres_url, ROLES.read_text())
    return postgres_url


@pytest.fixture
def role(postgres_url: str) -> Iterator[str]:
    """The name of a role that may nothing yet."""
    name = f"role_{uuid4().hex[:8]}"
    run(postgres_url, f"CREATE ROLE {name} LOGIN")
    yield name
    run(postgres_url, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def as_role(url: str, role: str) -> str:
    return make_url(url).set(username=role).render_as_string(hide_password=False)


def refusal(url: str) -> str:
    engine = database.connect(url)
    try:
        with pytest.raises(AccessError) as caught:
            optuna_privileges.require_to_work(engine)
    finally:
        engine.dispose()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_worker_role_has_what_a_worker_needs_and_drops_no_table(store: str, role: str) -> None:
    run(store, f"GRANT search_worker TO {role}")
    engine = database.connect(as_role(store, role))
    optuna_privileges.require_to_work(engine)
    engine.dispose()
    for forbidden in (
        "DROP TABLE search_epochs",
        "DELETE FROM search_studies",
        "DELETE FROM search_candidates",
        "TRUNCATE trials",
        "ALTER TABLE search_studies ADD x int",
        "CREATE TABLE mine (x int)",
        "INSERT INTO search_studies SELECT * FROM search_studies",
        "DELETE FROM studies",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            run(as_role(store, role), forbidden)


@pytest.mark.parametrize(
    ("table", "privilege"),
    [
        *((table, wanted[-1]) for table, wanted in privileges.WORKER.items()),
        *((table, wanted[-1]) for table, wanted in optuna_privileges.WORKER.items()),
    ],
)
def test_each_right_that_a_worker_lacks_is_named_before_its_first_claim(
    store: str, role: str, table: str, privilege: str
) -> None:
    run(store, f"GRANT search_worker TO {role}", f"REVOKE {privilege} ON {table} FROM search_worker")
    if privilege == "SELECT":
        run(store, f"REVOKE SELECT ON {table} FROM search_reader")
    assert f"GRANT {privilege} ON {table} TO {role}" in refusal(as_role(store, role))


def test_what_is_said_to_be_granted_is_all_that_lacks(store: str, role: str) -> None:
    run(store, f"GRANT USAGE ON SCHEMA public TO {role}")
    line = refusal(as_role(store, role))
    grants = line.split(": ", 1)[1].removesuffix(" (or run docs/roles.sql)").split("; ")
    assert any("SEQUENCE" in grant for grant in grants)
    run(store, *grants)
    engine = database.connect(as_role(store, role))
    optuna_privileges.require_to_work(engine)
    engine.dispose()


def test_a_closed_schema_is_one_line_that_says_what_to_grant(postgres_url: str, role: str) -> None:
    run(postgres_url, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")  # as it is since PostgreSQL 15
    engine = database.connect(as_role(postgres_url, role))
    with pytest.raises(AccessError, match=f"GRANT CREATE ON SCHEMA public TO {role}$"):
        database.prepare(engine)
    run(postgres_url, f"GRANT CREATE ON SCHEMA public TO {role}")
    database.prepare(engine)
    engine.dispose()


def test_a_schema_that_may_not_be_used_is_one_line(store: str, role: str) -> None:
    run(store, "REVOKE USAGE ON SCHEMA public FROM PUBLIC")
    engine = database.connect(as_role(store, role))
    with pytest.raises(AccessError, match=f"GRANT USAGE ON SCHEMA public TO {role}$"):
        database.check(engine)
    engine.dispose()


def test_older_tables_of_another_owner_are_one_line(store: str, role: str) -> None:
    run(store, f"GRANT search_worker TO {role}", "UPDATE search_version SET version_num = '0007'")
    engine = database.connect(as_role(store, role))
    with pytest.raises(AccessError, match=f"belong to postgres: role {role} may not change them"):
        database.prepare(engine)
    engine.dispose()


def test_a_reader_takes_nothing_back_and_is_not_stopped_by_that(store: str, role: str, check: object) -> None:
    """A claim whose time is over is taken back by whoever looks; a reader leaves it to the others."""
    run(
        store,
        f"GRANT search_reader TO {role}",
        "INSERT INTO search_claims"
        " (study_id, ordinal, worker, lease_seconds, claimed_at, renewed_at, expires_at)"
        " SELECT id, 1, 'gone', 1, 0, 0, 0 FROM search_studies",
    )
    assert callable(check)
    for command in ("status", "trials", "list", "ps"):
        assert check(command, "--storage", as_role(store, role)).code == 0, command
    stopped = check("stop", "--storage", as_role(store, role))
    assert stopped.code == 5
    assert "permission denied for table search_studies" in stopped.one_line
