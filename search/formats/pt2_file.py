"""A network as a program of torch.export (.pt2): normalisation inside, any number of images, the document.

torch.export.load can run code that is in a file (it unpickles), so a stranger's is never loaded: its weights
are read out of the archive as bytes. Called by search/formats/write.py and check.py.
"""

import io
import json
import math
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from search.formats.carried import KEY, Carried
from search.formats.deployed import Deployed
from space.errors import UsageError, VerificationError
from space.parser import one_line

EXTRA = f"{KEY}.json"
LARGEST = 4 << 20  # bytes of a JSON part
PREFIX = "network."  # of the weights, as Deployed names them
# What a damaged archive raises: in its table of weights (shapes of no sense among it), and in a part.
DAMAGED = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError)
UNREADABLE = (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)  # RuntimeError: a password
TYPES = {7: torch.float32, 5: torch.int64}  # numbers of torch's schema


def contents(network: Deployed, document: Carried, example: NDArray[np.uint8]) -> bytes:
    """The file of a network. Raises UsageError for one that torch cannot export."""
    written = io.BytesIO()
    with warnings.catch_warnings(action="ignore"), torch.no_grad():
        try:
            program = torch.export.export(
                network, (torch.from_numpy(example),), dynamic_shapes=({0: torch.export.Dim("batch")},)
            )
            for node in program.graph.nodes:
                node.meta.pop("stack_trace", None)  # lines and paths of this machine
            torch.export.save(program, written, extra_files={EXTRA: document.text})
        except Exception as error:  # torch's exporter raises errors of many kinds
            raise UsageError(f"torch.export cannot say this network: {one_line(error)}") from error
    return written.getvalue()


def scores(given: bytes, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the program says of images (N, C, S, S): (N, classes). Only for a file that was written here."""
    from search.formats import deployed

    with warnings.catch_warnings(action="ignore"):
        program = torch.export.load(io.BytesIO(given)).module()
    return deployed.scores(program, images)


def document_of(path: Path) -> str:
    """The document in the archive. Raises VerificationError where it is none or has none."""
    return _part(path, f"extra/{EXTRA}").decode("utf-8", "replace")


def state_of(path: Path) -> dict[str, torch.Tensor]:
    """The weights in the archive by name, read as bytes: nothing in it is unpickled or run.

    Raises VerificationError for an archive whose parts are not as torch.export.save writes plain tensors.
    """
    held = _tensors(path)
    return {name.removeprefix(PREFIX): held[name] for name in held if name.startswith(PREFIX)}


def normalisation_of(path: Path) -> dict[str, torch.Tensor]:
    """What the program normalises by, as Deployed names it: mean and scale, (1, C, 1, 1) float32.

    Raises VerificationError as state_of().
    """
    held = _tensors(path)
    return {name: held[name] for name in held if not name.startswith(PREFIX)}


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        config = json.loads(_part(path, "data/weights/model_weights_config.json"))["config"]
        return {name: _tensor(path, entry) for name, entry in config.items()}
    except DAMAGED as error:
        raise VerificationError(f"weights: {path}: {type(error).__name__}: {one_line(error)}") from None


def _tensor(path: Path, entry: dict[str, Any]) -> torch.Tensor:
    """One tensor (...) of float32 or int64. Raises ValueError for one that is not plain bytes."""
    meta = entry["tensor_meta"]
    shape = [int(size["as_int"]) for size in meta["sizes"]]
    strides = [int(size["as_int"]) for size in meta["strides"]]
    dtype = TYPES[meta["dtype"]]
    plain = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    if entry["use_pickle"] or strides != plain or int(meta["storage_offset"]["as_int"]):
        raise ValueError("a tensor that is not stored as plain bytes")
    name = str(entry["path_name"])
    given = _part(path, f"data/weights/{name}", math.prod(shape) * dtype.itemsize)
    return torch.frombuffer(bytearray(given), dtype=dtype).reshape(shape)


def _part(path: Path, name: str, largest: int = LARGEST) -> bytes:
    """A file of the archive, which has one folder at its top. Raises VerificationError."""
    try:
        with zipfile.ZipFile(path) as archive:
            found = next(one for one in archive.infolist() if one.filename.partition("/")[2] == name)
            if found.file_size > largest:
                raise VerificationError(f"schema: {path}: {name} has more than {largest:,} bytes")
            return archive.read(found)
    except StopIteration:
        raise VerificationError(f"schema: {path} has no {name}; another program wrote it") from None
    except UNREADABLE as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise VerificationError(f"schema: {path} is no .pt2 file: {reason}") from None
