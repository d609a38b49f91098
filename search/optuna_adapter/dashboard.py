"""Serves optuna-dashboard for this store. It has no login and accepts deletions: it stays on loopback.

It reads Optuna's tables and the ledger (ledger_view.py), and writes what a user changes in the browser.
Called by `search dashboard`. The database's URL is handed over inside this process, never by argv, where
every user could read a password.
"""

import logging
import socketserver
from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path
from typing import BinaryIO
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from optuna.artifacts import FileSystemArtifactStore
from sqlalchemy import Engine

from search.optuna_adapter import ledger_view, storage as optuna_storage, study as optuna_study
from search.optuna_adapter.plain_storage import PlainStorage
from search.study import web_address
from space.errors import StorageError, StudyError, UsageError
from storage import database, studies
from storage.studies import Study


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, host: str, port: int, app: WSGIApplication) -> None:
        self.address_family = web_address.family(host)
        super().__init__((host, port), _Silent)
        self.set_app(app)


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        logging.getLogger(__name__).debug(format, *args)


def _for_this_machine(app: WSGIApplication) -> WSGIApplication:
    """The same for browsers that mean this machine; those that ask by another name are refused."""

    def answer(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        if web_address.is_asked_locally(environ.get("HTTP_HOST", "")):
            return app(environ, start)
        start("403 Forbidden", [("Content-Type", "text/plain; charset=utf-8")])
        return [b"the dashboard is served to this machine alone; --allow-remote opens it to a proxy"]

    return answer


MakeFile = Callable[[Engine, Study, str], bytes]  # the file of this name, of a study


class Files:
    """The files of the studies, made as they are opened, and those that somebody uploads, in a folder: what
    Optuna calls an artifact store."""

    def __init__(self, engine: Engine, make: MakeFile, folder: Path) -> None:
        self.engine, self.make, self.folder = engine, make, folder

    def _made(self, artifact_id: str) -> tuple[Study, str] | None:
        for record in studies.all_studies(self.engine):
            for file in ledger_view.FILES:
                if ledger_view.artifact_id(record.name, file) == artifact_id:
                    return record, file
        return None

    def _uploads(self) -> FileSystemArtifactStore:
        self.folder.mkdir(parents=True, exist_ok=True)
        return FileSystemArtifactStore(self.folder)

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """Its bytes. Raises what making it raises, and optuna.artifacts.exceptions.ArtifactNotFound where
        there is no such file."""
        found = self._made(artifact_id)
        return BytesIO(self.make(self.engine, *found)) if found else self._uploads().open_reader(artifact_id)

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Keeps what somebody uploads."""
        self._uploads().write(artifact_id, content_body)

    def remove(self, artifact_id: str) -> None:
        """Deletes what somebody had uploaded; what is made is there again."""
        if not self._made(artifact_id):
            self._uploads().remove(artifact_id)


def serve(
    url: str,
    host: str,
    port: int,
    allow_remote: bool,
    ready: Callable[[str], None],
    make: MakeFile,
    uploads: Path,
    study: str | None = None,
) -> None:
    """Serves until interrupted; `ready` gets the address (port 0 takes a free one), that of the study where
    one is named. `make` makes the files of a study; what is uploaded goes into the folder `uploads`.

    Unless remote readers are allowed, requests by another name than this machine's own are refused.

    Raises UsageError for an address that others can reach unless that was allowed, and for one that this
    machine does not have, EnvironmentProblem for a port in use, StorageError for a store out of reach,
    StudyError for a study that is not there.
    """
    if not web_address.is_loopback(host) and not allow_remote:
        raise UsageError(
            f"--host {host} lets anyone delete studies, since the dashboard has no login; put a proxy with"
            " a login before it and add --allow-remote"
        )
    from optuna_dashboard import wsgi

    optuna_study.quiet()
    _make_tables(url)
    with optuna_storage.open_storage(url, ledger_view.over) as storage:
        place = _place(storage, study)
        app = wsgi(storage, artifact_store=Files(storage.engine, make, uploads))
        with web_address.listening(host, port):
            server = _Server(host, port, app if allow_remote else _for_this_machine(app))
        with server:
            ready(f"{web_address.url(host, server.server_port)}/dashboard/{place}")
            server.serve_forever()


def _place(storage: PlainStorage, study: str | None) -> str:
    """Where the dashboard shows a study, after its own address."""
    if study is None:
        return ""
    name = studies.find(storage.engine, study).name
    try:
        return f"studies/{storage.get_study_id_from_name(name)}"
    except KeyError:
        raise StudyError(
            f"Optuna's part of study {name!r} was deleted; the dashboard has no page of it"
        ) from None


def _make_tables(url: str) -> None:
    """A new server has no tables before its first launch; a store that has them is not written to."""
    engine = database.connect(url, create=False)
    try:
        database.check(engine)
    except StorageError:
        database.prepare(engine)
    finally:
        engine.dispose()
