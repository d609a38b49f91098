"""Libraries that take seconds to load, for tests that compare with them: loaded by the first that does."""

from importlib import import_module
from typing import Any


class Lazily:
    """Stands for a module of this name: `Lazily("scipy.stats").kendalltau`.

    torchvision brings torch's compiler along, and each process of pytest-xdist collects every file.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith(("_", "pytest")):  # what pytest asks of everything it finds
            raise AttributeError(attribute)
        return getattr(import_module(self._name), attribute)
