"""TLS to a PostgreSQL with a certificate authority of our own; skipped where the server was built without."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import postgres_server
import pytest
from postgres_server import Postgres
from sqlalchemy import text

from search.optuna_adapter import storage as optuna_storage
from space.errors import StorageError
from storage import database

USED = text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")


def programs() -> Path:
    """Those of a PostgreSQL that was built with TLS."""
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        asked = subprocess.run([folder / "pg_config", "--configure"], capture_output=True, text=True)
        if "--with-openssl" in asked.stdout or "--with-ssl" in asked.stdout:
            return folder
    pytest.skip("no PostgreSQL with TLS here; the wheel's was built without")


def openssl(folder: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)


def authority(folder: Path, name: str) -> Path:
    """A certificate authority's certificate, its key beside it."""
    openssl(folder, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", f"/CN={name}",
            "-keyout", f"{name}.key", "-out", f"{name}.pem")  # fmt: skip
    return folder / f"{name}.pem"


@pytest.fixture
def certified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Postgres, Path]]:
    """A server that is `localhost` by the word of an authority, and that authority's certificate."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here")
    monkeypatch.setenv("PG_BIN", str(programs()))
    monkeypatch.setattr(postgres_server, "TEMPLATES", [])
    ours = authority(tmp_path, "ours")
    openssl(tmp_path, "req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost",
            "-keyout", "server.key", "-out", "server.csr")  # fmt: skip
    (tmp_path / "names").write_text("subjectAltName=DNS:localhost\n")
    openssl(tmp_path, "x509", "-req", "-days", "30", "-in", "server.csr", "-CA", "ours.pem",
            "-CAkey", "ours.key", "-CAcreateserial", "-extfile", "names", "-out", "server.pem")  # fmt: skip
    server = Postgres(ssl="on", ssl_cert_file="server.pem", ssl_key_file="server.key")
    try:
        server._initialise()
        for name in ("server.pem", "server.key"):
            shutil.copy(tmp_path / name, server.data / name)
            (server.data / name).chmod(0o600)
            if server.user:
                os.chown(server.data / name, server.user["user"], server.user["group"])
        yield server.start(), ours
    finally:
        server.remove()


def test_a_store_is_reached_over_tls_that_checks_the_servers_name(
    certified: tuple[Postgres, Path], tmp_path: Path
) -> None:
    server, ours = certified
    url = f"postgresql://postgres@localhost:{server.port}/postgres?sslmode=verify-full&sslrootcert="
    engine = database.connect(f"{url}{ours}")
    database.prepare(engine)
    with database.reading(engine) as connection:
        assert connection.execute(USED).scalar() is True
    engine.dispose()
    with optuna_storage.open_storage(f"{url}{ours}") as storage, storage.engine.connect() as connection:
        assert connection.execute(USED).scalar() is True
    with pytest.raises(StorageError, match="certificate verify failed"):
        database.connect(f"{url}{authority(tmp_path, 'another')}")
    with pytest.raises(StorageError, match=r'server certificate for "localhost" .*does not match'):
        database.connect(f"{url}{ours}".replace("localhost", "127.0.0.1"))
