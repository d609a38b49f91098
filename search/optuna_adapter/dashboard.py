"""Serves optuna-dashboard for this store. It has no login and accepts deletions: it stays on loopback.

It reads Optuna's tables, and writes what a user changes in the browser. Called by `search dashboard`. The
database's URL is handed over inside this process, never by argv, where every user could read a password.
"""

import logging
import socketserver
from collections.abc import Callable
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from search.optuna_adapter import storage as optuna_storage, study as optuna_study
from space.errors import EnvironmentProblem, StorageError, UsageError
from storage import database

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        logging.getLogger(__name__).debug(format, *args)


def serve(url: str, host: str, port: int, allow_remote: bool, ready: Callable[[str], None]) -> None:
    """Serves until interrupted; `ready` gets the address (port 0 takes a free one).

    Raises UsageError for an address that others can reach unless that was allowed, EnvironmentProblem for a
    port in use, StorageError for a store out of reach.
    """
    if host not in LOOPBACK and not allow_remote:
        raise UsageError(
            f"--host {host} lets anyone delete studies, since the dashboard has no login; put a proxy with"
            " a login before it and add --allow-remote"
        )
    from optuna_dashboard import wsgi

    optuna_study.quiet()
    _make_tables(url)
    with optuna_storage.open_storage(url) as storage:
        try:
            server = make_server(host, port, wsgi(storage), server_class=_Server, handler_class=_Silent)
        except OSError as error:
            raise EnvironmentProblem(
                f"port {port} on {host}: {error.strerror}; choose another --port"
            ) from None
        with server:
            ready(f"http://{host}:{server.server_port}/dashboard/")
            server.serve_forever()


def _make_tables(url: str) -> None:
    """A new server has no tables before its first launch; a store that has them is not written to."""
    engine = database.connect(url, create=False)
    try:
        database.check(engine)
    except StorageError:
        database.prepare(engine)
    finally:
        engine.dispose()
