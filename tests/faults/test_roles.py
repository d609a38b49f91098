"""A worker with a role of its own in PostgreSQL (docs/roles.sql) trains a whole search, finals included."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from faults import ROOT, Search, require_equal_results, wait_until
from sqlalchemy import make_url

pytestmark = pytest.mark.faults

ROLES = (Path(ROOT) / "docs" / "roles.sql").read_text()


@pytest.mark.thorough  # a whole search for one more question: its pieces have tests of milliseconds
def test_a_worker_with_a_role_of_its_own_trains_trials_and_finals(
    postgres_url: str, search_on: Callable[[str], Search], check: Callable[..., Any]
) -> None:
    search = search_on(postgres_url)
    launcher = search.launch(4, "--finish", "--final-epochs", 13, "--final-seeds", 1, workers=0)
    wait_until(lambda: launcher.ended() or search.study(), "the study")
    wait_until(lambda: launcher.ended() or "resume" in launcher.said(), "a launch that waits for workers")
    role = "one_machine"
    with psycopg.connect(postgres_url, autocommit=True) as owner:
        owner.execute(ROLES.encode())
        owner.execute(f"DROP ROLE IF EXISTS {role}".encode())
        owner.execute(f"CREATE ROLE {role} LOGIN IN ROLE search_worker".encode())
        url = make_url(postgres_url).set(username=role).render_as_string(hide_password=False)
        owner.execute(b"REVOKE DELETE ON search_claims FROM search_worker")
        refused = search.worker(SEARCH_STORAGE=url)
        refused.require(5)
        assert "GRANT DELETE ON search_claims TO one_machine" in refused.said()
        assert search.trained() == 0
        owner.execute(b"GRANT DELETE ON search_claims TO search_worker")
        worker = search.worker(SEARCH_STORAGE=url)
        worker.require(0)
        launcher.require(0)
        search.settle(check, "a role of its own", 4)
        require_equal_results(search)
        assert check("trainings", "--storage", url).code == 0
        owner.execute(f"DROP ROLE {role}".encode())
