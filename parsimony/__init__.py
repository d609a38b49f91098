"""Parsimony in Python: networks, studies, searches and proposals, for scripts and notebooks.

The public face of the packages beside it, and no more: each name below is loaded when it is first used, so
that `import parsimony` takes milliseconds and loads neither torch nor Optuna nor a database. docs/python.md
describes it. What is not in `__all__` may change without notice.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from parsimony.data import Data as Data
    from parsimony.network import Explanation as Explanation, Network as Network, load as load
    from parsimony.proposing import propose as propose
    from parsimony.searching import search as search
    from parsimony.study import Study as Study, Trial as Trial, open_study as open_study
    from space.errors import (
        DataError as DataError,
        EnvironmentProblem as EnvironmentProblem,
        NothingFitsError as NothingFitsError,
        NothingTrainedError as NothingTrainedError,
        ParsimonyError as ParsimonyError,
        UsageError as UsageError,
    )

__all__ = [
    "Data",
    "DataError",
    "EnvironmentProblem",
    "Explanation",
    "Network",
    "NothingFitsError",
    "NothingTrainedError",
    "ParsimonyError",
    "Study",
    "Trial",
    "UsageError",
    "load",
    "open_study",
    "propose",
    "search",
]

_PLACES = {
    "Data": "parsimony.data",
    "Explanation": "parsimony.network",
    "Network": "parsimony.network",
    "load": "parsimony.network",
    "propose": "parsimony.proposing",
    "search": "parsimony.searching",
    "Study": "parsimony.study",
    "Trial": "parsimony.study",
    "open_study": "parsimony.study",
}


def __getattr__(name: str) -> Any:
    """A public name, from the module where it is. Raises AttributeError for any other."""
    if name not in __all__:
        raise AttributeError(f"module 'parsimony' has no attribute {name!r}")
    found = getattr(import_module(_PLACES.get(name, "space.errors")), name)
    globals()[name] = found  # the next time it is there
    return found


def __dir__() -> list[str]:
    """The public names alone."""
    return list(__all__)
