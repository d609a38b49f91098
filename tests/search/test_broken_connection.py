"""A connection to PostgreSQL that breaks while a launch prepares is tried again, and the cause is said."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Engine, event

from search.launcher import prepare
from search.launcher.prepare import Flags
from search.optuna_adapter import study as optuna_study
from search.recording import outage
from search.recording.outage import OutageTooLongError, one_line
from storage import database, studies


@contextmanager
def broken_at(url: str, words: str, times: int) -> Iterator[list[str]]:
    """Breaks the connection at the server under the next so many statements that begin with these words."""
    broken: list[str] = []

    def end(connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith(words) and len(broken) < times:
            broken.append(statement)
            driver = connection.connection.driver_connection  # type: ignore[attr-defined]
            with psycopg.connect(url, autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(%s, 5000)", (driver.info.backend_pid,))

    event.listen(Engine, "before_cursor_execute", end)
    try:
        yield broken
    finally:
        event.remove(Engine, "before_cursor_execute", end)


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outage, "RETRY_SECONDS", 0.0)
    optuna_study.quiet()


def flags(url: str, data: Path, seconds: float) -> Flags:
    return Flags(
        storage=url, data_dir=data, trials=3, study="night", data="digits", database_timeout_seconds=seconds
    )


@pytest.mark.parametrize(
    "words",
    ["UPDATE search_studies", "INSERT INTO search_studies", "INSERT INTO studies", "SELECT search_studies"],
)
def test_a_connection_that_breaks_while_a_launch_prepares_is_tried_again(
    postgres_url: str, digits: Path, words: str
) -> None:
    with broken_at(postgres_url, words, 1) as broken:
        engine, record, _ = prepare.prepare(flags(postgres_url, digits, 60.0))
    assert len(broken) == 1
    assert [study.name for study in studies.all_studies(engine)] == [record.name] == ["night"]
    engine.dispose()


def test_the_reason_is_the_cause_and_not_a_guess_about_the_data(postgres_url: str, digits: Path) -> None:
    with broken_at(postgres_url, "INSERT INTO studies", 1_000_000), pytest.raises(OutageTooLongError) as said:
        prepare.prepare(flags(postgres_url, digits, 0.0))
    assert "terminating connection due to administrator command" in str(said.value)
    assert "invalid data" not in str(said.value)
    assert "\n" not in str(said.value)


def test_what_waiting_does_not_heal_is_not_waited_for(postgres_url: str, digits: Path) -> None:
    engine = database.connect(postgres_url)
    database.prepare(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE search_studies DROP COLUMN finish CASCADE")
    engine.dispose()
    with pytest.raises(Exception, match="finish") as said:
        prepare.prepare(flags(postgres_url, digits, 600.0))
    assert "does not exist" in one_line(said.value)
