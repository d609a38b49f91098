"""Two "machines" on this one, and a cable that can be cut: network namespaces, which need root and `ip`."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from postgres_server import Postgres

NEAR, FAR = f"faults-a{os.getpid()}", f"faults-b{os.getpid()}"
SERVER_ADDRESS, OTHER_ADDRESS = "10.78.0.1", "10.78.0.2"


class NoNamespacesError(Exception):
    """Why there can be none here."""


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@contextmanager
def joined() -> Iterator[Callable[..., None]]:
    """While it lasts there are two; yields the command `ip`. Raises NoNamespacesError."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        raise NoNamespacesError("network namespaces need root and the command ip")
    try:
        ip("netns", "add", NEAR)
    except subprocess.CalledProcessError as error:
        raise NoNamespacesError(f"no network namespaces here: {error.stderr.decode().strip()}") from None
    try:
        ip("netns", "add", FAR)
        ip("link", "add", "pv1", "netns", NEAR, "type", "veth", "peer", "name", "pv2", "netns", FAR)
        for space, device, address in ((NEAR, "pv1", SERVER_ADDRESS), (FAR, "pv2", OTHER_ADDRESS)):
            ip("-n", space, "addr", "add", f"{address}/24", "dev", device)
            ip("-n", space, "link", "set", device, "up")
            ip("-n", space, "link", "set", "lo", "up")
        yield ip
    finally:
        for space in (NEAR, FAR):
            with suppress(subprocess.CalledProcessError):
                ip("netns", "del", space)


class Inside:
    """Runs this process's network calls, and what it starts, in a network namespace."""

    def __init__(self, space: str) -> None:
        self.space = space

    def __enter__(self) -> None:
        self.home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self._enter(os.open(f"/run/netns/{self.space}", os.O_RDONLY))

    def __exit__(self, *_: object) -> None:
        self._enter(self.home)

    def _enter(self, file: int) -> None:
        import ctypes

        clone_newnet = 0x40000000
        failed = ctypes.CDLL(None, use_errno=True).setns(file, clone_newnet)
        os.close(file)
        assert not failed, "setns"


def trust(server: Postgres) -> None:
    """Lets the other host in."""
    rules = server.data / "pg_hba.conf"
    rules.write_text(rules.read_text() + "\nhost all all 10.78.0.0/24 trust\n")
    assert server.process
    server.process.send_signal(signal.SIGHUP)
