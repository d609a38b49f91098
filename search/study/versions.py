"""Versions of Python and of the packages on which a result depends.

Read from what is installed; stored with a study, a trial and a full training, compared by `search replay`.
With a study stands the machine, too, that it was launched on.
"""

import platform
import socket
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

OF_TRAINING = ("parsimony", "torch", "torchvision", "numpy")
OF_SEARCH = ("parsimony", "torch", "torchvision", "optuna", "numpy")
UNINSTALLED = "not installed"
HOST = "host"  # beside the versions of a study: where it was launched


def of_launch() -> dict[str, str]:
    """What is stored with a study: the versions and this machine's name."""
    return installed_versions() | {HOST: socket.gethostname()}


def installed_versions(packages: Sequence[str] = OF_SEARCH) -> dict[str, str]:
    """Python's version and that of each package; UNINSTALLED for this program run from its source tree."""
    return {"python": platform.python_version()} | {name: _version(name) for name in packages}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return UNINSTALLED
