"""A score of the user's own, by which a study chooses, beside accuracy: a function in a Python file.

`--score FILE.py:FUNCTION` names it; the study keeps the path, the name and the sha256 of the file, and
workers load it from there. It is called after each epoch as FUNCTION(scores, labels):

- scores: (N, classes) float32 on the CPU, what the network says of each validation image (logits),
- labels: (N,) int64, the true classes,
- returns a number from 0 to 1, higher is better.

Read by search/launcher/prepare.py and search/worker/training_function.py. Loads no torch by itself.
"""

import hashlib
import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from search.study.score import NAMES
from space.errors import UsageError
from space.parser import one_line

if TYPE_CHECKING:
    from torch import Tensor

Score = Callable[["Tensor", "Tensor"], float]
MODULE = "parsimony_own_score"  # what the file is imported as


class OwnScore(BaseModel):
    """The file on the machines of the search, the function in it, and the sha256 of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    function: str
    sha256: str

    def __str__(self) -> str:
        return f"{Path(self.file).name}:{self.function}"


def find(reference: str) -> OwnScore:
    """What FILE.py:FUNCTION names. Raises UsageError where there is no such file or function."""
    file, colon, function = reference.rpartition(":")
    if not colon or not function.isidentifier() or not file.endswith(".py"):
        raise UsageError(f"--score {reference}: use {', '.join(NAMES)}, or give FILE.py:FUNCTION")
    path = Path(file).expanduser().resolve()
    found = OwnScore(file=str(path), function=function, sha256=_digest(path))
    load(found)
    return found


def load(own: OwnScore) -> Score:
    """The function, wrapped so that what it returns is looked at.

    Raises UsageError where the file is not there, is another than the study was made with, or has no such
    function; the wrapped one where it returns no number from 0 to 1.
    """
    path = Path(own.file)
    if _digest(path) != own.sha256:
        raise UsageError(
            f"--score: {path} was changed since the study was made; restore it, or name a new study"
        )
    spec = importlib.util.spec_from_file_location(MODULE, path)
    assert spec is not None and spec.loader is not None  # as its name ends in .py
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        function = getattr(module, own.function)
    except (Exception, SystemExit) as error:  # whatever the user's file raises, or ends with
        raise UsageError(f"--score: {path}: {type(error).__name__}: {one_line(error)}") from error
    if not callable(function):
        raise UsageError(f"--score: {own.function} of {path} is no function")
    return _looked_at(own, function)


def _looked_at(own: OwnScore, function: Callable[..., Any]) -> Score:
    def score(scores: "Tensor", labels: "Tensor") -> float:
        value = float(function(scores, labels))
        if not (math.isfinite(value) and 0 <= value <= 1):
            raise UsageError(f"{own} returned {value:g}; give a number from 0 to 1, higher is better")
        return value

    return score


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(f"--score: {path}: {error.strerror or error}") from error
