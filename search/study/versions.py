"""Versions of Python and of the packages on which a result depends."""

import platform
from importlib.metadata import version
from typing import Any


def installed_versions() -> dict[str, Any]:
    """What a result depends on besides the plan."""
    packages = ("parsimony", "torch", "torchvision", "optuna", "numpy")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}
