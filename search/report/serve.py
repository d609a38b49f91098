"""Serves the report of one study over HTTP, as new as its database, for a browser on a desk or a phone.

Reads the store and nothing else: three answers are all there is, the page, Plotly and "no such thing", so
that no file of this machine can be asked for, and nothing is ever changed. Called by `search report --serve`.
"""

import gzip
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any
from urllib.parse import parse_qs, urlsplit

from plotly.offline import get_plotlyjs
from sqlalchemy import Engine

from search.report import page as report_page
from search.report.live import PLOTLY, live_page, problem_page
from search.study import run_state, web_address
from search.study.follower import StudyFollower
from search.study.run_state import RunState
from space.errors import StorageError, StudyError
from storage import candidates, trainings

REFRESH_SECONDS = 10.0  # between two readings of the database
WORK_SHARE = 5.0  # a page that takes a second to make is made every five at most
IDLE_SECONDS = 60.0  # after which a connection without a request is closed
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; script-src 'self' 'unsafe-inline'; img-src data: blob:;"
    " style-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Page:
    """The report at one moment; `stamp` tells it from an earlier one."""

    stamp: str
    text: str

    @cached_property
    def packed(self) -> bytes:
        """Compressed, as every browser takes it."""
        return gzip.compress(self.text.encode(), 5)


class LivePage:
    """The page of a study, made anew where it has changed, or is another one, and someone asks."""

    def __init__(
        self,
        follower: StudyFollower,
        has_optuna: Callable[[Engine, str], bool],
        differing: Callable[[Engine, str], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """The two functions look into Optuna's tables: whether the study of a name is there, and in how many
        trials it holds another parameter than was trained."""
        self.follower, self.has_optuna, self.differing, self.clock = follower, has_optuna, differing, clock
        self.page: Page | None = None  # the last one
        self.problem = ""  # why there is none that is newer
        self._due = float("-inf")  # when the database is looked at again
        self._lock = Lock()

    @property
    def name(self) -> str:
        """Of the study."""
        return self.follower.name or "search"

    def refresh(self) -> None:
        """Looks at the database, if it is time to; readers who come meanwhile get the last page."""
        if not self._lock.acquire(blocking=self.page is None):
            return
        try:
            started = self.clock()
            if started < self._due:
                return
            try:
                self._make()
                self.problem = ""
            except (StorageError, StudyError) as error:
                self.problem = f"{error}; the page goes on by itself once that is over"
            took = self.clock() - started
            self._due = self.clock() + max(REFRESH_SECONDS if self.page else 0.0, WORK_SHARE * took)
        finally:
            self._lock.release()

    def _make(self) -> None:
        with self.follower.look() as (engine, record):
            state = run_state.load(engine, record, self.has_optuna(engine, record.name))
            ends = (candidates.times(engine, record.id), len(trainings.of_study(engine, record.name)))
            stamp = _stamp(state, ends)
            if self.page is None or self.page.stamp != stamp:
                data = report_page.read(engine, record, self.differing(engine, record.name))
                self.page = Page(stamp, live_page(data, state, stamp))


def _stamp(state: RunState, ends: object) -> str:
    """Of all that changes what a reader sees; `ends` is when the last training ended, and how many of full
    ones have."""
    workers = [
        (one.name, one.state, one.running and (one.running.number, one.running.epoch))
        for one in state.workers
    ]
    second = [(one.id, one.state) for one in state.second.trainings] if state.second else []
    said = (state.record, sorted(state.tally.items()), workers, second, state.word, ends)
    return sha256(repr(said).encode()).hexdigest()[:16]


class Server(ThreadingHTTPServer):
    """The server of one live page."""

    daemon_threads = True

    def __init__(self, host: str, port: int, live: LivePage) -> None:
        self.live = live
        self.is_local = web_address.is_loopback(host)
        self.address_family = web_address.family(host)
        self.plotly = gzip.compress(get_plotlyjs().encode(), 6)
        super().__init__((host, port), Handler)


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD of the page and of Plotly."""

    server: Server
    server_version, sys_version = "search", ""
    timeout = IDLE_SECONDS

    def do_GET(self) -> None:
        """Answers with a body."""
        status, kind, body = self._answer()
        self._send(status, kind, body, with_body=True)

    def do_HEAD(self) -> None:
        """Answers without."""
        status, kind, body = self._answer()
        self._send(status, kind, body, with_body=False)

    def _answer(self) -> tuple[HTTPStatus, str, bytes]:
        """Status, type and compressed body."""
        asked, live = urlsplit(self.path), self.server.live
        if self.server.is_local and not web_address.is_asked_locally(self.headers.get("Host", "")):
            return _plain(HTTPStatus.FORBIDDEN, "this page is served to this machine alone; --host opens it")
        if asked.path == PLOTLY:
            return HTTPStatus.OK, "text/javascript; charset=utf-8", self.server.plotly
        if asked.path != "/":
            return _plain(HTTPStatus.NOT_FOUND, "there is one page here: /")
        live.refresh()
        since = parse_qs(asked.query).get("since")
        if live.problem and (since is not None or live.page is None):
            if since is not None:
                return _plain(HTTPStatus.SERVICE_UNAVAILABLE, live.problem)
            text = problem_page(live.name, live.problem)
            return HTTPStatus.OK, "text/html; charset=utf-8", gzip.compress(text.encode())
        assert live.page is not None
        if since == [live.page.stamp]:
            return HTTPStatus.NO_CONTENT, "", b""
        return HTTPStatus.OK, "text/html; charset=utf-8", live.page.packed

    def _send(self, status: HTTPStatus, kind: str, body: bytes, with_body: bool) -> None:
        packed = "gzip" in self.headers.get("Accept-Encoding", "")
        if body and not packed:
            body = gzip.decompress(body)
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Cache-Control", "max-age=86400" if kind.startswith("text/java") else "no-store")
        if body:
            self.send_header("Content-Type", kind)
            if packed:
                self.send_header("Content-Encoding", "gzip")
        if status != HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """To the log of the program, which shows nothing of it."""
        logger.debug(format, *args)


def _plain(status: HTTPStatus, line: str) -> tuple[HTTPStatus, str, bytes]:
    return status, "text/plain; charset=utf-8", gzip.compress(line.encode())


def serve(live: LivePage, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serves until interrupted; `ready` gets the address (port 0 takes a free one).

    Raises EnvironmentProblem for a port in use, UsageError for a host that is no address of this machine.
    """
    with web_address.listening(host, port):
        server = Server(host, port, live)
    with server:
        ready(f"{web_address.url(host, server.server_port)}/")
        server.serve_forever()
