import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, inspect, text

from space.errors import StorageError
from storage import database, migrations, tables
from storage.row_types import DEDUPLICATED

VERSIONS = Path(migrations.__file__).parent / "versions"


def schema(engine: Engine) -> set[str]:
    return set(inspect(engine).get_table_names())


def test_the_migrations_make_the_tables_that_the_queries_expect(engine: Engine) -> None:
    def ours(name: str | None, kind: str, _parents: object) -> bool:
        return kind != "table" or (name or "").startswith("search_")

    options = {"version_table": migrations.VERSION_TABLE, "include_name": ours, "compare_type": True}
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, tables.metadata) == []


def test_every_table_carries_the_prefix(engine: Engine) -> None:
    assert schema(engine) == {*tables.metadata.tables, "search_version"}
    assert all(name.startswith("search_") for name in schema(engine))


def test_the_head_is_the_newest_file() -> None:
    numbers = sorted(found[0] for file in VERSIONS.glob("*.py") if (found := re.match(r"\d{4}", file.name)))
    assert numbers[-1] == migrations.HEAD
    assert numbers == [f"{number:04}" for number in range(1, len(numbers) + 1)]


def test_preparing_again_changes_nothing(engine: Engine) -> None:
    with database.writing(engine) as connection:
        connection.execute(text("UPDATE search_version SET version_num = version_num"))
    before = schema(engine)
    database.prepare(engine)
    database.prepare(engine)
    assert schema(engine) == before


def test_many_may_prepare_one_database_at_once(database_url: str) -> None:
    def prepare(_: int) -> set[str]:
        engine = database.connect(database_url)
        database.prepare(engine)
        found = schema(engine)
        engine.dispose()
        return found

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(prepare, range(8)))
    assert answers == [{*tables.metadata.tables, "search_version"}] * 8


def test_a_migration_that_fails_leaves_nothing_behind(database_url: str) -> None:
    engine = database.connect(database_url)
    with database.writing(engine) as connection:
        connection.execute(text("CREATE TABLE search_epochs (somebody INTEGER)"))
    with pytest.raises(StorageError, match="search_epochs"):
        database.prepare(engine)
    assert schema(engine) == {"search_epochs"}
    engine.dispose()


def test_tables_of_a_newer_version_are_refused(engine: Engine) -> None:
    with database.writing(engine) as connection:
        connection.execute(text("UPDATE search_version SET version_num = '9999'"))
    for use in (database.prepare, database.check):
        with pytest.raises(StorageError, match="newer version"):
            use(engine)


def test_the_index_that_keeps_networks_apart_names_the_known_states() -> None:
    assert set(re.findall(r"'(\w+)'", tables.DEDUPLICATED)) == DEDUPLICATED
