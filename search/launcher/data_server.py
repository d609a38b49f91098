"""Serves one prepared data set over HTTP, read-only, for workers that have none: `launch --serve-data`.

Answers GET and HEAD of /DIGEST/manifest.json and of the files that the manifest names, out of one folder of
the cache, and 404 for all else: no path of a request is ever joined to a folder. There is no login, so it is
asked for by name. Called by search/commands/launch_session.py; its reader is trainer/data/prepared.py.
"""

import json
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from space.errors import EnvironmentProblem, UsageError
from trainer.data import prepared

IDLE_SECONDS = 60.0  # after which a connection without a request is closed


class DataServer(ThreadingHTTPServer):
    """The server of one folder."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], folder: Path, digest: str) -> None:
        """Raises OSError where the address cannot be listened on, or a file cannot be read."""
        listed = prepared.manifest(folder)
        self.answers: dict[str, bytes | Path] = {f"/{digest}/{name}": folder / name for name in listed}
        self.answers[f"/{digest}/{prepared.MANIFEST}"] = json.dumps(listed).encode()
        super().__init__(address, _Handler)


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
        size = len(found) if isinstance(found, bytes) else found.stat().st_size
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(size))
        self.end_headers()
        if not with_body:
            return
        with suppress(ConnectionError):  # the worker was ended
            if isinstance(found, bytes):
                self.wfile.write(found)
            else:
                with found.open("rb") as file:
                    shutil.copyfileobj(file, self.wfile)

    def log_message(self, *_: Any) -> None:
        """Says nothing: stderr has the board."""


def parse(given: str) -> tuple[str, int]:
    """HOST:PORT. Raises UsageError for anything else."""
    host, colon, port = given.rpartition(":")
    if not (colon and host and port.isdigit() and int(port) < 1 << 16):
        raise UsageError(f"--serve-data {given}: give an address of this machine and a port: 10.0.0.5:8765")
    return host.strip("[]"), int(port)


@contextmanager
def serving(given: str, folder: Path, digest: str) -> Iterator[str]:
    """Serves while it lasts; yields the address that workers ask. Raises EnvironmentProblem, UsageError."""
    host, port = parse(given)
    try:
        server = DataServer((host, port), folder, digest)
    except OSError as error:
        raise EnvironmentProblem(f"--serve-data {given}: {error.strerror or error}") from None
    thread = threading.Thread(target=server.serve_forever, name="data server", daemon=True)
    thread.start()
    try:
        shown = socket.gethostname() if host in ("0.0.0.0", "::") else host
        yield f"http://{f'[{shown}]' if ':' in shown else shown}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
