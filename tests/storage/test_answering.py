"""A server that hears everything and says nothing: no wait without an end."""

import pytest
from postgres_server import Postgres
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from search.optuna_adapter import storage as optuna_storage
from storage import database
from storage.postgres import BoundedConnection


def test_a_frozen_server_is_given_up_and_found_again_once_it_answers(
    server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = database.connect(server.url())
    monkeypatch.setattr(BoundedConnection, "answer_seconds", 0.5)
    with pytest.raises(OperationalError, match="no answer for"), database.reading(engine) as held:
        held.execute(text("SELECT 1"))
        server.freeze()
        held.execute(text("SELECT 1"))
    server.thaw()
    with database.reading(engine) as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1
    engine.dispose()


def test_optuna_waits_no_longer_than_we_do(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    with optuna_storage.open_storage(server.url()) as storage, storage.engine.connect() as held:
        held.execute(text("SELECT 1"))
        monkeypatch.setattr(BoundedConnection, "answer_seconds", 0.5)
        server.freeze()
        with pytest.raises(OperationalError, match="no answer for"):
            held.execute(text("SELECT 1"))
        server.thaw()


def test_what_takes_its_time_and_is_answered_is_waited_for(
    server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = database.connect(server.url())
    monkeypatch.setattr(BoundedConnection, "answer_seconds", 30.0)
    with database.reading(engine) as connection:
        assert connection.execute(text("SELECT 7 FROM pg_sleep(1)")).scalar() == 7
    engine.dispose()
