import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from postgres_server import Postgres, free_port
from sqlalchemy import URL, Engine, make_url, text

from space.errors import StorageError, UsageError
from storage import database, url as urls
from storage.url import masked

SECRET = "s3cret@:/"


def refusal(url: str) -> str:
    """The one line with which the database is refused, by connect or by prepare."""
    engine = None
    with pytest.raises((StorageError, UsageError)) as caught:
        engine = database.connect(url)
        database.prepare(engine)
    if engine is not None:
        engine.dispose()
    line = str(caught.value)
    assert "\n" not in line
    assert "s3cret" not in line
    return line


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("postgres://u:p@h:1/d", "postgresql+psycopg://u:p@h:1/d"),
        ("postgresql://h/d", "postgresql+psycopg://h/d"),
        ("postgresql+psycopg://h/d", "postgresql+psycopg://h/d"),
        ("sqlite:///x.db", "sqlite:///x.db"),
        ("sqlite:////tmp/x.db", "sqlite:////tmp/x.db"),
        ("x.db", "sqlite:///x.db"),
        ("/tmp/a b/x.sqlite", "sqlite:////tmp/a b/x.sqlite"),
        (" sqlite:///x.db\n", "sqlite:///x.db"),
        ("\tpostgresql://h/d \r\n", "postgresql+psycopg://h/d"),
    ],
)
def test_a_url_is_normalised_to_the_driver_that_is_used(given: str, meant: str) -> None:
    assert database.normalise(given) == meant
    assert database.normalise(meant) == meant


@pytest.mark.parametrize(
    "spellings",
    [
        ["postgresql:///d", "postgres://u:p@localhost/d", "postgresql://127.0.0.1:5432/d", "postgresql://[::1]/d"],
        ["postgresql://u@DB/d", "postgresql://v:p@db:5432/d?sslmode=require", "postgresql://db/d?pgbouncer=true"],
        ["postgresql://h:5433/d", "postgresql:///d?host=h&port=5433", "postgresql:///d?host=h:5433"],
        ["postgresql:///d?host=h:1&host=i:2", "postgresql://u@/d?host=h:1,i:2"],
        ["postgresql:///d?host=/run/A", "postgresql://u@/d?host=/run/A&port=5432"],
        ["x.db", "sqlite:///./y/../x.db", "sqlite:///file:x.db?uri=true", "sqlite:////HERE/x.db", "link.db"],
    ],
)  # fmt: skip
def test_a_store_is_where_it_is_however_its_url_is_spelled(
    spellings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("y").mkdir()
    Path("link.db").symlink_to("x.db")
    assert len({urls.location(one.replace("/HERE", str(tmp_path))) for one in spellings}) == 1


def test_stores_that_differ_are_in_different_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stores = [
        *(
            "postgresql://h/d",
            "postgresql://i/d",
            "postgresql://h/e",
            "postgresql://h:5433/d",
            "postgresql:///d",
        ),
        *("postgresql:///d?host=/run/a", "postgresql:///d?host=/run/A", "postgresql:///d?host=h:1,i:2"),
        *("postgresql:///d?host=h:1,i:3", "x.db", "y.db", "/x.db"),
    ]
    assert len({urls.location(one) for one in stores}) == len(stores)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:s3cret@h/d",
        "postgresql://u:s3cret@h:port/d",
        "nonsense",
        "",
        "sqlite://",
        "sqlite:///:memory:",
    ],
)
def test_a_url_that_is_no_use_is_refused_in_one_line(url: str) -> None:
    line = refusal(url)
    assert "sqlite:///" in line


@pytest.mark.parametrize("url", ["sqlite://x.db", "sqlite://folder/x.db"])
def test_a_slash_that_is_missing_is_said(url: str) -> None:
    with pytest.raises(UsageError, match=f"a slash is missing in '{url}': sqlite:///FILE"):
        database.normalise(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:s3cret@h/d", "postgresql://u:***@h/d"),
        (f"postgresql://u:{SECRET}@h/d", "postgresql://u:***@h/d"),
        ("postgresql://h/d?user=u&password=s3cret&x=1", "postgresql://h/d?user=u&password=***&x=1"),
        ("postgresql://h/d?sslpassword=s3cret", "postgresql://h/d?sslpassword=***"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("sqlite:///a:b@c.db", "sqlite:///a:b@c.db"),
    ],
)
def test_a_password_is_masked(url: str, shown: str) -> None:
    assert database.redacted(url) == shown


@pytest.mark.parametrize(
    "secret", ["s3cret@x", "s3c/s3cret", "s3c?s3cret", "s3c#s3cret", "@s3cret", "s3cret?a=1@"]
)
@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg", "mysql"])
def test_a_password_that_is_not_percent_encoded_is_refused_before_connecting(
    scheme: str, secret: str
) -> None:
    line = refusal(f"{scheme}://me:{secret}@db.example/x")
    assert line.startswith(f"{scheme}://me:***: percent-encode the password (@ is %40, ")
    assert not any(word in line for word in ("s3c", "example"))


@pytest.mark.parametrize(
    ("url", "password"),
    [
        ("postgresql://me:s3%40c%2F%3F%23@h:5432/d?sslmode=require", "s3@c/?#"),
        ("postgresql://me@corp:secret@h/d", "secret"),
        ("postgresql://me:a:b@h/d", "a:b"),
        ("postgresql://h:5432/d?user=me%40corp", None),
        ("postgresql://me@h:5432/d", None),
        ("postgresql:///d?host=/tmp/a:b@c", None),
    ],
)
def test_a_password_that_can_be_read_in_one_way_alone_is_taken(url: str, password: str | None) -> None:
    assert make_url(database.normalise(url)).password == password


@pytest.mark.parametrize("url", ["postgres//me:s3cret@h/d", "me:s3cret@h", "postgresql:/me:s3cret@h/d"])
def test_what_is_no_url_is_shown_without_what_may_be_a_password(url: str) -> None:
    assert "not a database URL" in refusal(url)


@pytest.mark.parametrize(
    ("password", "line", "shown"),
    [
        ("s", "connection is bad: s is wrong", "connection is bad: *** is wrong"),
        ("host", "unknown host 'host', hosts differ", "unknown *** '***', hosts differ"),
        ("p@ss", "failed for p@ss.", "failed for ***."),
        ("x", 'no "ssl"', 'no "ssl"'),
    ],
)
def test_masking_a_password_leaves_the_insides_of_words(password: str, line: str, shown: str) -> None:
    assert masked(line, URL.create("postgresql", "me", password, "h")) == shown


def test_an_unreachable_server_is_one_line_without_the_password() -> None:
    port = free_port()
    line = refusal(f"postgresql://u:s3cret@127.0.0.1:{port}/d")
    assert str(port) in line
    assert "u:***@" in line


def test_an_unknown_database_of_a_server_is_one_line(postgres: Postgres) -> None:
    assert '"nowhere" does not exist' in refusal(postgres.url("nowhere"))


def test_an_unknown_parameter_in_the_url_is_one_line(postgres_url: str) -> None:
    assert "colour" in refusal(f"{postgres_url}?colour=red&password=s3cret")


def test_a_read_only_server_is_one_line(postgres_url: str) -> None:
    url = f"{postgres_url}?options=-c%20default_transaction_read_only%3Don"
    assert "read-only" in refusal(url)
    database.prepare(writable := database.connect(postgres_url))
    writable.dispose()
    assert "read-only" in refusal(url)


def test_a_read_only_file_is_one_line_and_can_still_be_read(sqlite_url: str) -> None:
    writable = database.connect(sqlite_url)
    read_only = f"{sqlite_url.replace('sqlite:///', 'sqlite:///file:')}?mode=ro&uri=true"
    assert "readonly" in refusal(read_only)
    database.prepare(writable)
    writable.dispose()
    assert "readonly" in refusal(read_only)
    engine = database.connect(read_only)
    database.check(engine)
    engine.dispose()


def test_a_file_that_is_no_database_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "notes.db"
    file.write_text("a text that is no database, and longer than the header of one would be " * 20)
    assert "not a database" in refusal(str(file))
    assert file.read_text().startswith("a text")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert str(tmp_path / "absent") in refusal(f"sqlite:///{tmp_path / 'absent' / 'x.db'}")


def test_a_reader_makes_no_file(tmp_path: Path) -> None:
    file = tmp_path / "x.db"
    with pytest.raises(StorageError, match="search launch"):
        database.connect(str(file), create=False)
    assert not file.exists()


def test_a_database_without_our_tables_is_not_ready(database_url: str) -> None:
    engine = database.connect(database_url)
    with pytest.raises(StorageError, match="search launch"):
        database.check(engine)
    database.prepare(engine)
    database.check(engine)
    engine.dispose()


def test_the_clock_is_that_of_the_database(engine: Engine) -> None:
    with database.reading(engine) as connection:
        first, second = database.now(connection), database.now(connection)
    assert 1_700_000_000 < first <= second < 10_000_000_000


def test_a_server_session_has_its_waits_bounded(postgres_url: str) -> None:
    engine = database.connect(f"{postgres_url}?options=-c%20statement_timeout%3D1234&connect_timeout=3")
    with database.reading(engine) as connection:
        shown = {
            key: connection.execute(text(f"SHOW {key}")).scalar()
            for key in ("statement_timeout", "lock_timeout")
        }
    assert shown == {"statement_timeout": "1234ms", "lock_timeout": "30s"}
    assert (
        database.engine_options(f"{postgres_url}?connect_timeout=3")["connect_args"].get("connect_timeout")
        is None
    )
    engine.dispose()


def test_a_broken_connection_is_replaced_before_it_is_used(postgres_url: str) -> None:
    engine = database.connect(postgres_url)
    with psycopg.connect(postgres_url, autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'parsimony'"
        )
    with database.reading(engine) as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1
    engine.dispose()


def test_sqlite_lets_readers_and_a_writer_work_side_by_side(sqlite_url: str) -> None:
    engine = database.connect(sqlite_url)
    database.prepare(engine)
    with database.writing(engine) as writer:
        writer.execute(text("UPDATE search_version SET version_num = version_num"))
        with database.reading(engine) as reader:
            assert reader.execute(text("SELECT count(*) FROM search_studies")).scalar() == 0
    engine.dispose()


def test_the_storage_loads_neither_optuna_nor_torch_nor_its_migrations() -> None:
    code = (
        "import sys, storage.database, storage.studies, storage.candidates, storage.leases\n"
        "print(sorted({'optuna', 'torch', 'alembic', 'trainer', 'search'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_file_waits_for_the_disk_where_a_transaction_is_to_be_durable(sqlite_url: str) -> None:
    engine = database.connect(sqlite_url)
    for durable, level in ((True, 2), (False, 1), (True, 2)):  # FULL, NORMAL
        with database.writing(engine, durable=durable) as connection:
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == level
    engine.dispose()


def test_postgresql_waits_for_the_disk_where_a_transaction_is_to_be_durable(postgres_url: str) -> None:
    engine = database.connect(postgres_url)
    for durable, level in ((True, "on"), (False, "off"), (True, "on")):
        with database.writing(engine, durable=durable) as connection:
            assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == level
    engine.dispose()
