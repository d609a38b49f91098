"""Runs a Python file that was exported here, and tells one that somebody changed without running it.

Reads the file and the weights beside it. Called by search/formats/write.py on what it is about to write, and
by search/formats/check.py on a stranger's file, once `require_unchanged` has passed.
"""

import ast
import hashlib
import re
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from search.formats import carried, deployed, python_source
from search.formats.carried import Carried
from space.errors import VerificationError
from space.parser import contents, one_line


def sha256(given: bytes) -> str:
    """Of the values in a file of weights, which come after its header, in hexadecimal digits.

    Not of the header: the library writes its entries in another order each time.
    """
    return hashlib.sha256(given[8 + int.from_bytes(given[:8], "little") :]).hexdigest()


TEXT = re.compile(r"""'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+\"""")  # as repr() writes one


def document_of(path: Path) -> str:
    """The document at the end of a file, which is not run. Raises VerificationError where there is none."""
    lines = contents(path, VerificationError).decode("utf-8", "replace").rstrip().splitlines()
    if not lines or not lines[-1].startswith(python_source.DOCUMENT):
        raise VerificationError(f"schema: {path} does not end in the document of an export")
    text = lines[-1].removeprefix(python_source.DOCUMENT)
    if not TEXT.fullmatch(text):  # a tree of Python takes a thousand times the memory of its source
        raise VerificationError(f"schema: {path}: the document is no text in quotes")
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise VerificationError(f"schema: {path}: {one_line(error)}") from None
    return str(found)


def require_unchanged(path: Path, document: Carried) -> None:
    """Raises VerificationError for a file that is not, byte for byte, what its document is written as.

    The name of a file stands in its text: one that `search export` would not give could be code of its own.
    """
    if not path.stem.isidentifier():
        raise VerificationError(
            f"source: {one_line(path)}: no Python file is written under such a name; it was not run"
        )
    beside = path.with_suffix(".safetensors")
    try:
        given, digest = path.read_text("utf-8"), sha256(beside.read_bytes())
    except (OSError, UnicodeDecodeError) as error:
        raise VerificationError(f"source: {one_line(error)}") from None
    wanted = python_source.source(document, beside.name, digest)
    if given == wanted:
        return
    pairs = zip(given.splitlines(), wanted.splitlines(), strict=False)
    line = next((i for i, (one, other) in enumerate(pairs, 1) if one != other), "last")
    raise VerificationError(
        f"source: line {line} of {path} is not what this version writes for its network and {beside.name}:"
        " it was changed or renamed, or another version wrote it; it was not run"
    )


def scores(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Runs the file, and what its network says of images (N, C, S, S): (N, classes)."""
    module = ModuleType(carried.KEY)
    module.__file__ = str(path)
    exec(compile(path.read_text("utf-8"), str(path), "exec"), module.__dict__)
    return deployed.scores(module.load(), images)
