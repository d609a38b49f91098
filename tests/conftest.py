"""Databases for the tests: SQLite in a file, and a real PostgreSQL where its programs are at hand."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before anything loads torch or numpy

import gc
import logging
import shutil
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from uuid import uuid4
from zlib import crc32

import command
import examples
import faults
import hypothesis
import postgres_server
import psycopg
import pytest
from alembic.script import ScriptDirectory
from faults import Figures, Search
from optuna.storages._rdb import storage as rdb_storage
from postgres_server import NoPostgres, Postgres
from sqlalchemy import Engine
from two_hosts import NoNamespacesError, joined

from search.worker import log
from storage import database
from trainer.data import dataset as datasets

DATABASES = ("sqlite", "postgres")
BY_TURNS = "TEST_DATABASES_BY_TURNS"  # set for the processes of pytest-xdist


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--faults", choices=("short", "full"), default="short", help="How many faults, how long")
    parser.addoption(
        "--thorough", action="store_true", help="All tests and all random examples, as `make check`"
    )
    parser.addoption("--faults-json", type=Path, metavar="FILE", help="Add the figures of each fault here")


def pytest_configure(config: pytest.Config) -> None:
    # In memory where there is room: commits to SQLite wait for no disk.
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", postgres_server.place())
    examples.THOROUGH = is_thorough(config)
    # A busy machine is no fault of the code.
    hypothesis.settings.register_profile("untimed", hypothesis.settings(), deadline=None)
    hypothesis.settings.load_profile("untimed")
    if not hasattr(config, "workerinput"):
        chosen = config.args_source != pytest.Config.ArgsSource.TESTPATHS or config.getoption("keyword")
        if chosen or is_thorough(config):
            os.environ.pop(BY_TURNS, None)
        else:
            os.environ[BY_TURNS] = "1"


def pytest_collection_finish() -> None:
    """What is there by now stays: nobody need look through it again (postgres_url collects often)."""
    gc.collect()
    gc.freeze()


def is_thorough(config: pytest.Config) -> bool:
    """Whether everything is to run (tests/README.md says what `make test` leaves out, and why)."""
    return bool(config.getoption("--thorough") or config.getoption("--faults") == "full")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what is marked as thorough, and deals out what takes long."""
    if not is_thorough(config):
        left_out = [item for item in items if item.get_closest_marker("thorough") or not is_its_turn(item)]
        config.hook.pytest_deselected(items=left_out)
        among = set(left_out)
        items[:] = [item for item in items if item not in among]
    items[:] = dealt(items, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1)))


def is_its_turn(item: pytest.Item) -> bool:
    """Whether a test that holds on both databases is asked of this one: where all tests are run, half of them
    are of each."""
    asked = getattr(item, "callspec", None) and item.callspec.params.get("database_url")  # type: ignore[attr-defined]
    if not asked or BY_TURNS not in os.environ:
        return True
    return DATABASES[crc32(item.nodeid.replace(asked, "").encode()) % 2] == str(asked)


def dealt(items: list[pytest.Item], hands: int) -> list[pytest.Item]:
    """An equal part for each process of pytest-xdist, what takes long first: the end is then short work.

    `--dist worksteal` deals out one part after another, and the rest of a part to whoever is done. Short ones
    stay beside those of their file, for which a module's fixtures are made once.
    """
    long = [item for item in items if item.get_closest_marker("faults") or item.get_closest_marker("slow")]
    among = set(long)
    short = [item for item in items if item not in among]
    cuts = [len(short) * hand // hands for hand in range(hands + 1)]
    return [item for hand in range(hands) for item in long[hand::hands] + short[cuts[hand] : cuts[hand + 1]]]


@pytest.fixture(autouse=True, scope="session")
def _optunas_migrations_are_read_once() -> Iterator[None]:
    """Each RDBStorage reads Optuna's migrations, ORM classes among them, to know the newest: three quarters
    of what opening a study takes, and a tenth of what tests took in their own processes."""

    @cache
    def directory() -> ScriptDirectory:
        return ScriptDirectory(str(Path(rdb_storage.__file__).parent / "alembic"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rdb_storage._VersionManager, "_create_alembic_script", lambda _: directory())
        yield


@pytest.fixture(autouse=True)
def _nothing_is_left_running() -> Iterator[None]:
    """Ends and waits for each process that a test started and, having failed perhaps, did not wait for."""
    yield
    command.end_all()


@pytest.fixture(autouse=True)
def _lines_go_where_they_went() -> Iterator[None]:
    """A worker in a test's own process sends its log to stderr, and later tests would hear nothing."""
    ours = [logging.getLogger(name) for name in log.OURS]
    before = [(one.level, one.handlers, one.propagate) for one in ours]
    yield
    for one, (level, handlers, propagate) in zip(ours, before, strict=True):
        one.setLevel(level)
        one.handlers, one.propagate = handlers, propagate


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


def create_database(postgres: Postgres, name: str, template: str = "template1") -> str:
    """Its URL. Files are copied: by way of the log it takes twice as long."""
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    return postgres.url(name)


def put_tables(url: str) -> None:
    """Ours, by all migrations: what takes a quarter of a second, and is copied for tests that want them."""
    engine = database.connect(url)
    database.prepare(engine)
    engine.dispose()


@pytest.fixture(scope="session")
def tables_on_server(postgres: Postgres) -> str:
    """The name of a database that has our tables."""
    put_tables(create_database(postgres, "with_our_tables"))
    return "with_our_tables"


@pytest.fixture(scope="session")
def tables_in_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file that has our tables."""
    path = tmp_path_factory.mktemp("tables") / "search.db"
    put_tables(f"sqlite:///{path}")
    return path


@pytest.fixture
def postgres_url(postgres: Postgres, request: pytest.FixtureRequest) -> Iterator[str]:
    """A fresh database: empty, or with our tables where a test asks for `engine`. A connection to it that is
    left open fails the test that left it, and not whichever runs when it is collected."""
    wanted = "engine" in request.fixturenames
    template = request.getfixturevalue("tables_on_server") if wanted else "template1"
    name = f"test_{uuid4().hex}"
    yield create_database(postgres, name, template)
    gc.collect()
    gc.freeze()  # modules that were loaded since: a fifth of a second to look through, hundreds of times
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def sqlite_url(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """Of no file yet, or of one with our tables where a test asks for `engine`."""
    path = tmp_path / "search.db"
    if "engine" in request.fixturenames:
        shutil.copyfile(request.getfixturevalue("tables_in_file"), path)
    return f"sqlite:///{path}"


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest) -> str:
    """Every test that asks for it holds on both."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture(params=["postgres", pytest.param("sqlite", marks=pytest.mark.thorough)])
def faulty_url(request: pytest.FixtureRequest) -> str:
    """For long tests: both under --thorough, PostgreSQL alone in `make test`."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine on a database with our tables."""
    engine = database.connect(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def server() -> Iterator[Postgres]:
    """A PostgreSQL of its own, to be mistreated."""
    try:
        own = Postgres()
    except NoPostgres as reason:
        pytest.skip(str(reason))
    try:
        yield own.start()
    finally:
        own.remove()


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the digits, converted once; their test images are gone for good."""
    folder = tmp_path_factory.mktemp("digits")
    for file in datasets.load("digits", folder).cache.glob("test-*"):
        file.unlink()
    return folder


@pytest.fixture
def full(pytestconfig: pytest.Config) -> bool:
    """Whether the faults are to be many and long, as in docs/reliability.md."""
    return bool(pytestconfig.getoption("--faults") == "full")


@pytest.fixture
def search_on(tmp_path: Path, digits: Path) -> Iterator[Callable[..., Search]]:
    """Makes a search on a database, in a folder of its own; what it leaves running is ended."""
    made: list[Search] = []

    def make(url: str, fake: bool = True) -> Search:
        place = tmp_path / f"search-{len(made)}"
        place.mkdir()
        shutil.copytree(digits, place / "data")
        made.append(Search(place, url, fake))
        return made[-1]

    yield make
    for search in made:
        search.end()
        for started in search.logs():  # pytest shows them for a test that failed
            print(started.name, started.read_text(errors="replace")[-2000:], sep="\n")


@pytest.fixture
def two_hosts() -> Iterator[Callable[..., None]]:
    """Two network namespaces joined by a cable; PostgreSQL is to be in the first, a search in the second."""
    try:
        with joined() as ip:
            yield ip
    except NoNamespacesError as reason:
        pytest.skip(str(reason))


@pytest.fixture
def keep(pytestconfig: pytest.Config) -> Callable[[Figures], None]:
    """Keeps what a fault did for the document."""
    return partial(faults.record, pytestconfig.getoption("--faults-json"))


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Callable[..., object]:
    """The command `search`, in this process."""
    return partial(command.run, capsys)
