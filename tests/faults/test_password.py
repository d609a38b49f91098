"""A PostgreSQL that asks for a password: no list of processes, no log, no file and no message shows it."""

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from faults import Search, Started, wait_until
from postgres_server import Postgres

pytestmark = pytest.mark.faults

PASSWORD = "s3cr3t-of-mine"


@pytest.fixture
def guarded(server: Postgres) -> Postgres:
    """A server whose role `me` has a password, which everyone is asked for."""
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE me LOGIN SUPERUSER PASSWORD '{PASSWORD}'".encode())
        connection.execute("CREATE DATABASE search OWNER me")
        (server.data / "pg_hba.conf").write_text("host all all 127.0.0.1/32 scram-sha-256\n")
        connection.execute("SELECT pg_reload_conf()")
    return server


def secret_file(path: Path, content: str) -> Path:
    path.write_text(content)
    path.chmod(0o600)
    return path


def shown(search: Search) -> list[str]:
    """Where the password stands: in the arguments of a process of the search, or in a file that it left."""
    found = [f"arguments of {pid}" for pid in search.processes() if PASSWORD in arguments(pid)]
    for path in search.place.rglob("*"):
        if path.is_file() and PASSWORD.encode() in path.read_bytes():
            found.append(str(path))
    return found


def arguments(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


@pytest.mark.thorough  # a whole search for one more question: its pieces have tests of milliseconds
def test_a_search_shows_its_password_nowhere(
    guarded: Postgres, tmp_path: Path, search_on: Callable[[str], Search]
) -> None:
    open_url = f"postgresql://me@127.0.0.1:{guarded.port}/search"
    url = open_url.replace("me@", f"me:{PASSWORD}@")
    file = secret_file(tmp_path / "store.url", url + "\n")
    passwords = secret_file(tmp_path / "pgpass", f"127.0.0.1:{guarded.port}:search:me:{PASSWORD}\n")
    service = secret_file(
        tmp_path / "services", f"[night]\nhost=127.0.0.1\nport={guarded.port}\ndbname=search\nuser=me\n"
    )
    search = search_on(url)
    search.orders(seconds=0.25)

    def run(*words: object, code: int = 0, **environment: str) -> Started:
        done = search.start(*words, **{"SEARCH_STORAGE": "", **environment})
        done.require(code)
        return done

    launcher = search.launch(
        4, "--storage-file", file, "--out", "best.json", "--report", "report.html", SEARCH_STORAGE=""
    )
    wait_until(lambda: launcher.ended() or search.training(), "a trial under way")
    assert len(search.processes()) >= 3
    assert shown(search) == []
    guarded.stop()
    wait_until(lambda: launcher.ended() or "is away" in launcher.said(), "an outage that is noticed")
    search.orders(seconds=0.005)
    guarded.start()
    launcher.require(0)
    assert f"--storage-file {file}" in launcher.said()
    # In the environment; in PGPASSFILE, by a URL without it; by a service, whose URL has nothing at all.
    for environment in (
        {"SEARCH_STORAGE": url},
        {"SEARCH_STORAGE": open_url, "PGPASSFILE": str(passwords)},
        {"SEARCH_STORAGE": "postgresql://", "PGSERVICEFILE": str(service), "PGSERVICE": "night",
         "PGPASSFILE": str(passwords)},
    ):  # fmt: skip
        assert "4 of 4" in run("status", search.name, **environment).said()
    by_pgpass = {"SEARCH_STORAGE": open_url, "PGPASSFILE": str(passwords)}
    search.orders(seconds=0.25)
    more = search.launch(5, **by_pgpass)
    wait_until(lambda: more.ended() or search.training(), "a worker that finds the password itself")
    assert shown(search) == []
    more.require(0)
    for words in (
        ("export",),
        ("report", "--out", "again.html"),
        ("db", "check"),
        ("trials", "--format", "json"),
    ):
        run(*words, "--storage-file", file)
    wrong = url.replace(PASSWORD, PASSWORD[::-1])
    refused = run("status", code=5, SEARCH_STORAGE=wrong)
    assert "password authentication failed" in refused.said()
    assert PASSWORD[::-1] not in refused.said()
    assert run("status", code=5, SEARCH_STORAGE=open_url).said().startswith("search: cannot use postgresql")
    typed = run("launch", search.name, "--trials", 5, "--workers", 1, "--gpus", "none", "--storage", url)
    assert "the password stands in the list of processes: --storage-file keeps it out" in typed.said()
    assert shown(search) == []
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT settings::text || versions::text FROM search_studies").fetchall()
        workers = connection.execute(
            "SELECT worker || coalesce(reason, '') FROM search_candidates"
        ).fetchall()
    assert not any(PASSWORD in str(row) for row in (*rows, *workers))
