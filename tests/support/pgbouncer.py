"""A private PgBouncer before a PostgreSQL of the tests, on a TCP port of 127.0.0.1."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
from postgres_server import free_port, server_user

START_SECONDS = 30.0
SETTINGS = """
[databases]
* = host=127.0.0.1 port={server} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {size}
max_client_conn = 200
"""


class NoPgBouncer(Exception):
    """There is no program `pgbouncer` on this machine."""


def program() -> str:
    """Where it is. Raises NoPgBouncer."""
    found = shutil.which("pgbouncer", path=os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin")
    if found is None:
        raise NoPgBouncer("no pgbouncer: install it to run this test")
    return found


@contextlib.contextmanager
def before(server_port: int, mode: str, size: int = 4) -> Iterator[int]:
    """Its port. It connects as `postgres`, in `mode` session or transaction, by so many connections."""
    found, port, user = program(), free_port(), server_user()
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        file = Path(folder, "pgbouncer.ini")
        file.write_text(SETTINGS.format(server=server_port, port=port, mode=mode, size=size))
        file.chmod(0o644)
        Path(folder).chmod(0o755)
        process = subprocess.Popen(
            [found, "--quiet", str(file)], cwd="/", stderr=subprocess.PIPE, text=True, **user
        )
        try:
            _wait(process, port)
            yield port
        finally:
            process.terminate()
            process.communicate(timeout=START_SECONDS)


def _wait(process: "subprocess.Popen[str]", port: int) -> None:
    pause, end = 0.02, time.monotonic() + START_SECONDS
    while True:
        try:
            psycopg.connect(f"postgresql://postgres@127.0.0.1:{port}/postgres").close()
            return
        except psycopg.OperationalError:
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < end, "pgbouncer does not answer"
            time.sleep(pause)
