"""A score of the caller's as the name that worker processes import it by. What it is stands in
search/study/own_score.py."""

import inspect
from collections.abc import Callable

from space.errors import UsageError


def reference(score: str | Callable[..., float]) -> str:
    """ "FILE.py:FUNCTION" of a function that stands in a file, or the text itself.

    Raises UsageError for a function that no other process could import: one of a notebook's cell, of the
    script that runs, or inside another function.
    """
    if isinstance(score, str):
        return score
    name = getattr(score, "__qualname__", "")
    file = inspect.getsourcefile(score) if inspect.isfunction(score) else None
    if not name.isidentifier() or file is None or score.__module__ == "__main__" or "<" in file:
        raise UsageError(
            f"score {name or score!r}: workers are processes of their own and import it; write the function"
            " into a file beside this one, and give score='my_score.py:FUNCTION'"
        )
    return f"{file}:{name}"
