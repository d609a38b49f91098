"""The networks of five published systems as architecture documents, with what was reported of them.

Students at one university each tuned a network of at most 5,000,000 parameters on CIFAR-10 by hand; systems
are numbered 000 to 004. `published/cifar10.json` holds one row of their tables or repositories a line.
A row also holds how its network was trained, as a document that is not read here, and a reported accuracy was
mostly the best epoch on the test set.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.resources import files
from typing import Any, Literal

from space.architecture import Architecture
from space.errors import ArchitectureError


@dataclass(frozen=True)
class Published:
    """`accuracy` (0 to 1) and `printed_parameters` are the authors'; `parameters` and `macs` are counted.

    evidence, what the count was checked against: "layers", every layer size that the authors printed, in
    order; "total", the total that they printed; "code", their code; "guess", a reading of their text.
    `note` says what else to know of a row; `recipe` is what trainer/recipe/document.py reads.
    """

    name: str
    source: str
    kind: Literal["published", "cited", "repo_only"]
    evidence: Literal["layers", "total", "code", "guess"]
    accuracy: float | None
    printed_parameters: int | None
    parameters: int
    macs: int
    note: str | None
    architecture: Architecture
    recipe: Mapping[str, Any]

    @property
    def misprinted(self) -> bool:
        """Whether the printed count is not that of the network."""
        return self.printed_parameters not in (None, self.parameters)


def names() -> list[str]:
    """Every name, as `load` takes it."""
    return [row["name"] for row in _rows()]


def find(name: str) -> Published:
    """Raises ArchitectureError, with the names that come close."""
    for row in _rows():
        if row["name"] == name:
            return _published(row)
    close = get_close_matches(name, names(), n=3, cutoff=0.4) or ["000-og", "001-final", "002-final"]
    raise ArchitectureError(f"published:{name}: no such network; there are {', '.join(close)} and others")


def load(name: str) -> Architecture:
    """The network of this name, as `001-final`. Raises ArchitectureError."""
    return find(name).architecture


def everything() -> list[Published]:
    """All of them, system by system."""
    return [_published(row) for row in _rows()]


def _rows() -> list[dict[str, Any]]:
    text = files("space").joinpath("published", "cifar10.json").read_text(encoding="utf-8")
    rows: list[dict[str, Any]] = json.loads(text)
    return rows


def _published(row: dict[str, Any]) -> Published:
    architecture = Architecture.parse(row["architecture"], row["name"])
    return Published(**{**row, "architecture": architecture})
