"""Serves one prepared data set over HTTP, read-only, for workers that have none: `launch --serve-data`.

Answers GET and HEAD of /DIGEST/manifest.json and of the files that the manifest names, out of one folder of
the cache, and 404 for all else: no path of a request is ever joined to a folder. There is no login, so it is
asked for by name. Called by search/commands/launch_session.py; its reader is trainer/data/prepared.py.
"""

import json
import re
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import SEEK_END, BytesIO
from pathlib import Path
from typing import Any

from space.errors import EnvironmentProblem, UsageError
from trainer.data import prepared

PORT = re.compile(r"[0-9]{1,5}")
IDLE_SECONDS = 60.0  # after which a connection without a request is closed


class DataServer(ThreadingHTTPServer):
    """The server of one folder."""

    daemon_threads = True

    def __init__(self, host: str, port: int) -> None:
        """Raises OSError where the address cannot be listened on."""
        self.host = host
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.answers: dict[str, bytes | Path] = {}
        super().__init__((host, port), _Handler)

    def offer(self, folder: Path, digest: str) -> None:
        """What is answered from now on. Raises OSError where a file cannot be read."""
        listed = prepared.manifest(folder)
        answers: dict[str, bytes | Path] = {f"/{digest}/{name}": folder / name for name in listed}
        self.answers = answers | {f"/{digest}/{prepared.MANIFEST}": json.dumps(listed).encode()}

    @property
    def url(self) -> str:
        """The address that workers ask."""
        shown = socket.gethostname() if self.host in ("0.0.0.0", "::") else self.host
        return f"http://{f'[{shown}]' if ':' in shown else shown}:{self.server_address[1]}"

    def handle_error(self, *_: Any) -> None:
        """Says nothing: a worker that went needs no answer, and any other sees that its own was cut short."""


class _Handler(BaseHTTPRequestHandler):
    server: DataServer
    timeout = IDLE_SECONDS
    server_version, sys_version = "search", ""

    def do_GET(self) -> None:
        """The file, or that there is none."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """The same without the file."""
        self._answer(with_body=False)

    def _answer(self, with_body: bool) -> None:
        found = self.server.answers.get(self.path)
        if found is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        try:
            file = BytesIO(found) if isinstance(found, bytes) else found.open("rb")
        except OSError:  # somebody deleted it
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        with file:
            size = file.seek(0, SEEK_END)
            file.seek(0)
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(size))
            self.end_headers()
            if with_body:
                shutil.copyfileobj(file, self.wfile)

    def log_message(self, *_: Any) -> None:
        """Says nothing: stderr has the board."""


def parse(given: str) -> tuple[str, int]:
    """HOST:PORT. Raises UsageError for anything else."""
    host, colon, port = given.rpartition(":")
    if not (colon and host and PORT.fullmatch(port) and int(port) < 1 << 16):
        raise UsageError(f"--serve-data {given}: give an address of this machine and a port: 10.0.0.5:8765")
    return host.strip("[]"), int(port)


@contextmanager
def bound(given: str) -> Iterator[DataServer]:
    """A server that has the address while it lasts; who asks waits until something is served there.

    Made before a study is, which would be left where the address cannot be had. Raises EnvironmentProblem,
    UsageError.
    """
    with _translated(given):
        server = DataServer(*parse(given))
    with server:
        yield server


@contextmanager
def serving(server: DataServer, folder: Path, digest: str) -> Iterator[str]:
    """Serves while it lasts; yields the address that workers ask. Raises EnvironmentProblem."""
    with _translated(server.url):
        server.offer(folder, digest)
    thread = threading.Thread(target=server.serve_forever, name="data server", daemon=True)
    thread.start()
    try:
        yield server.url
    finally:
        server.shutdown()
        thread.join()


@contextmanager
def _translated(given: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EnvironmentProblem(f"--serve-data {given}: {error.strerror or error}") from None
