"""The addresses where pages without a login listen, and who may ask there: this machine alone, unless told
otherwise.

Used by search/report/serve.py and search/optuna_adapter/dashboard.py. A browser on this machine can be led to
such a page by one of elsewhere, whose name is made to lead here (DNS rebinding): it says that name as Host.
"""

import ipaddress
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from space.errors import EnvironmentProblem, UsageError


def is_loopback(host: str) -> bool:
    """Whether an address or a name is this machine's own alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_asked_locally(header: str) -> bool:
    """Whether the browser that says this as Host means this machine."""
    try:
        return is_loopback(urlsplit(f"//{header}").hostname or "")
    except ValueError:  # no host
        return False


def family(host: str) -> socket.AddressFamily:
    """IPv6 for an address of that, else IPv4."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def url(host: str, port: int) -> str:
    """The address as a browser takes it."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


@contextmanager
def listening(host: str, port: int) -> Iterator[None]:
    """While a server is made that listens there.

    Raises EnvironmentProblem for a port in use, UsageError for a host that is no address of this machine.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, PermissionError) or "in use" in str(error):
            raise EnvironmentProblem(
                f"port {port} on {host}: {error.strerror}; choose another --port"
            ) from None
        raise UsageError(f"--host {host}: {error.strerror or error}") from None
