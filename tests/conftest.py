"""Databases for the tests: SQLite in a file, and a real PostgreSQL where its programs are at hand."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before anything loads torch or numpy

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from postgres_server import NoPostgres, Postgres
from sqlalchemy import Engine

from storage import database


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server for the session, or for each process of pytest-xdist."""
    try:
        server = Postgres()
    except NoPostgres as reason:
        pytest.skip(str(reason))
    try:
        yield server.start()
    finally:
        server.remove()


@pytest.fixture
def postgres_url(postgres: Postgres) -> str:
    """A fresh database."""
    name = f"test_{uuid4().hex}"
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return postgres.url(name)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'search.db'}"


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """Every test that asks for it holds on both."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine on a database with our tables."""
    engine = database.connect(database_url)
    database.prepare(engine)
    yield engine
    engine.dispose()
