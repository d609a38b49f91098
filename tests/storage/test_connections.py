"""How many connections a worker takes of a PostgreSQL, and what is said where it has too few."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import command
import psycopg
import pytest
from faults import wait_until
from postgres_server import Postgres
from sqlalchemy import Engine, text
from sqlalchemy.exc import TimeoutError as PoolTimeout
from worker_samples import FakeTraining, make_config, make_context, make_study

from search.optuna_adapter import study as optuna_study
from search.worker import worker
from space.errors import StorageError
from storage import connections, database
from storage.connections import SPARE

ROLE = "limited"


@contextmanager
def role(url: str, limit: int, name: str = ROLE) -> Iterator[str]:
    """The URL for a role of the server that may have so many connections, and see nobody else's."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN CONNECTION LIMIT {limit}")
        connection.execute(f"GRANT ALL ON SCHEMA public TO {name}")
        connection.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {name}")
        connection.execute(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {name}")
        try:
            yield url.replace("://postgres", f"://{name}")
        finally:
            connection.execute(f"DROP OWNED BY {name}")
            connection.execute(f"DROP ROLE {name}")


def connected(engine: Engine) -> int:
    """Connections to this database but those that ask, which are of another pool."""
    url = engine.url.render_as_string(False).replace("+psycopg", "")
    with psycopg.connect(url, application_name="counts") as other:
        row = other.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND backend_type = 'client backend'"
            " AND application_name <> 'counts'"
        ).fetchone()
    assert row is not None
    return int(row[0])


def await_one(engine: Engine) -> None:
    """The server counts a closed connection until its process has had a turn."""
    wait_until(lambda: connected(engine) == 1, "the end of all connections but one", 60)


def test_a_worker_holds_one_connection_for_the_ledger_and_for_optuna(
    postgres_url: str, tmp_path: Path
) -> None:
    config = make_config(sampler="tpe", pruner="median")
    make_study(postgres_url, config, trials=2)[0].dispose()
    engine = worker._connect(postgres_url)
    record = worker.studies.find(engine)
    seen: list[int] = []

    def look(_: object) -> None:
        await_one(engine)
        seen.append(connected(engine))

    train = FakeTraining(before=look)
    with optuna_study.open_study(postgres_url, record.name, config, engine) as study:
        context = make_context(study, engine, record, train, config, tmp_path)
        worker._work_in(context, worker.ShutdownRequest(60.0, None))
        assert seen == [1, 1]
        await_one(engine)
    assert connected(engine) == 1  # the ledger's connection is not Optuna's to close
    engine.dispose()


def test_a_worker_never_has_more_than_two_connections(postgres_url: str) -> None:
    engine = database.connect(postgres_url, few=True)
    engine.pool._timeout = 0.01  # type: ignore[attr-defined]
    with engine.connect(), engine.connect():
        with pytest.raises(PoolTimeout):
            engine.connect()
        assert connected(engine) == 2
    await_one(engine)  # the second was for a moment
    engine.dispose()


def test_workers_that_fit_are_told_nothing_and_one_more_is_told_how_many_do(postgres_url: str) -> None:
    with role(postgres_url, 12) as url:
        engine = database.connect(url, few=True)
        connections.require_room(engine, 11 - SPARE)
        with pytest.raises(StorageError) as told:
            connections.require_room(engine, 12 - SPARE)
        engine.dispose()
    assert "\n" not in str(told.value)
    assert f"{12 - SPARE} workers need one connection each, and the server has 11 left" in str(told.value)
    assert "CONNECTION LIMIT of 12" in str(told.value)
    assert f"--workers {11 - SPARE} fits" in str(told.value)


def test_what_the_server_keeps_for_its_administrators_does_not_count_as_free(postgres_url: str) -> None:
    engine = database.connect(postgres_url)
    with engine.connect() as connection:
        most = int(connection.execute(text("SHOW max_connections")).scalar_one())
        reserved = int(connection.execute(text("SHOW superuser_reserved_connections")).scalar_one())
    found = connections.room(engine)
    engine.dispose()
    assert found is not None and reserved > 0
    assert found.free + found.used == most - reserved
    assert f"max_connections = {most}, {reserved} of them reserved" in found.limit


def await_no_more_ends(engine: Engine) -> None:
    """Until those who were connected before are no longer counted."""
    found: list[connections.Room | None] = []

    def same_twice() -> bool:
        found.append(connections.room(engine))
        return found[-2:-1] == found[-1:]

    wait_until(same_twice, "the end of the connections of others", 60)


def test_connections_of_others_count_though_a_role_does_not_see_what_they_are(postgres_url: str) -> None:
    with role(postgres_url, -1, "ann") as ann, role(postgres_url, -1, "ben") as ben, ExitStack() as open_:
        engine = database.connect(ann)
        open_.callback(engine.dispose)
        await_no_more_ends(engine)
        alone = connections.room(engine)
        for _ in range(3):
            open_.enter_context(psycopg.connect(ben.replace("+psycopg", "")))
        beside = connections.room(engine)
    assert alone is not None and beside is not None
    assert (beside.used, beside.free) == (alone.used + 3, alone.free - 3)
    assert beside.free_at_turn == alone.free_at_turn - 3  # when they came it does not see: earlier, then


def test_the_limit_that_is_full_at_a_workers_turn_is_the_one_that_counts(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    roomy = connections.Room("max_connections = 100", used=90, free=2, free_at_turn=SPARE)
    full = connections.Room("the role's CONNECTION LIMIT of 9", used=6, free=3, free_at_turn=SPARE - 1)
    monkeypatch.setattr(connections, "rooms", lambda _: [roomy, full])
    engine = database.connect(postgres_url)
    with pytest.raises(StorageError, match="6 are in use"):
        connections.require_turn(engine)
    engine.dispose()


def test_of_workers_that_start_at_once_the_last_are_refused_and_the_first_are_not(postgres_url: str) -> None:
    """Each counts after all have connected: who came first must not be refused for those who came later."""
    with role(postgres_url, SPARE + 3) as url, ExitStack() as all_of_them:
        engines = [database.connect(url, few=True) for _ in range(5)]
        for engine in engines:
            all_of_them.callback(engine.dispose)
        told = []
        for engine in engines:
            try:
                connections.require_turn(engine)
                told.append("works")
            except StorageError as error:
                assert f"{SPARE} stay free for others" in str(error)
                told.append("refused")
    assert told == ["works"] * 3 + ["refused"] * 2


def test_behind_a_pooler_the_servers_limit_is_not_asked(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PgBouncer gives its clients process numbers of its own."""
    monkeypatch.setattr(psycopg.ConnectionInfo, "backend_pid", property(lambda _: 1))
    engine = database.connect(postgres_url, few=True)
    assert connections.room(engine) is None
    connections.require_room(engine, 10_000)
    connections.require_turn(engine)
    engine.dispose()


def test_a_file_has_room_for_any_number(sqlite_url: str) -> None:
    engine = database.connect(sqlite_url)
    connections.require_room(engine, 10_000)
    connections.require_turn(engine)
    engine.dispose()


def test_launch_refuses_workers_that_the_server_has_no_connections_for_before_a_study_is_made(
    postgres: Postgres, postgres_url: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    del postgres
    with role(postgres_url, SPARE + 4) as url:
        done = command.run(
            capsys, "launch", "--trials", 2, "--workers", 9, "--storage", url, "--data-dir", tmp_path
        )
    assert done.code == 5
    assert "9 workers need one connection each" in done.one_line and "--workers 3 fits" in done.one_line
    engine = database.connect(postgres_url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT to_regclass('search_studies')")).scalar() is None
    engine.dispose()


def test_a_worker_by_hand_is_refused_on_a_full_server(
    postgres_url: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    make_study(postgres_url, make_config(), trials=2)[0].dispose()
    with role(postgres_url, SPARE) as url:
        done = command.run(capsys, "worker", "--storage", url, "--data-dir", tmp_path)
    assert done.code == 5
    assert "the server is full: of its connections 1 are in use" in done.one_line
