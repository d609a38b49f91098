"""A network as an ONNX file: normalisation inside, any number of images, the document in its metadata.

Needs the packages onnx and onnxscript to write one and onnxruntime to run it (`pip install parsimony[onnx]`);
they are loaded inside the functions. Called by search/formats/write.py and check.py.
"""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.formats.carried import KEY, Carried
from search.formats.deployed import BATCH, Deployed
from space.errors import EnvironmentProblem, UsageError, VerificationError
from space.parser import one_line

OPSET = 20  # of ONNX 1.15; onnxruntime knows it since 1.17
INPUT, OUTPUT = "images", "scores"


def package(name: str) -> Any:
    """A package of the extra onnx. Raises EnvironmentProblem where it is not installed."""
    try:
        return import_module(name)
    except ImportError as error:
        raise EnvironmentProblem(
            f"ONNX needs the package {name} ({one_line(error)}); pip install 'parsimony[onnx]' brings it"
        ) from error


def contents(network: Deployed, document: Carried, example: NDArray[np.uint8]) -> bytes:
    """The file. Raises UsageError for a network that ONNX cannot say, EnvironmentProblem as package()."""
    import torch

    onnx = package("onnx")
    package("onnxscript")
    given = torch.from_numpy(example)
    with _quiet():
        try:
            program = torch.onnx.export(
                network,
                (given,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
        except Exception as error:  # the exporter raises errors of many kinds
            raise UsageError(
                f"ONNX cannot say this network: {_cause(error)}; take another --format"
            ) from error
    assert program is not None
    model = program.model_proto
    _forget_where(model)
    onnx.helper.set_model_props(model, {"classes": _class_lines(document), KEY: document.text})
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _class_lines(document: Carried) -> str:
    """The names of the classes, a line each: a name of two would move all that come after it."""
    return "\n".join(" ".join(name.split("\n")) for name in document.classes)


def _forget_where(model: Any) -> None:
    """Removes what the exporter notes of its own sources: lines and paths of this machine."""
    for part in (
        *model.graph.node,
        *model.graph.value_info,
        *model.graph.input,
        *model.graph.output,
        model.graph,
    ):
        part.doc_string = ""
        del part.metadata_props[:]
    assert not model.functions  # the exporter puts their nodes into the graph


def _cause(error: BaseException) -> str:
    """What the first error of a chain says, in one line without the colours of a terminal."""
    while error.__cause__ is not None:
        error = error.__cause__
    return one_line(re.sub(r"\x1b\[[0-9;]*m", "", str(error)) or type(error).__name__)


@contextmanager
def _quiet() -> Iterator[None]:
    """What exporters warn of is of their own making."""
    with warnings.catch_warnings(action="ignore"):
        yield


def document_of(path: Path) -> str:
    """The document in a file's metadata.

    Raises VerificationError where it is no ONNX file or has none, EnvironmentProblem as package().
    """
    found = _metadata(_parsed(path))
    if KEY not in found:
        raise VerificationError(f"schema: {path} has no export in its metadata; another program wrote it")
    return str(found[KEY])


def _parsed(path: Path) -> Any:
    onnx = package("onnx")
    try:
        model = onnx.load_model_from_string(path.read_bytes())  # from bytes: no other file is opened
        onnx.checker.check_model(model, full_check=True)
    except OSError as error:
        raise VerificationError(f"schema: {path}: {error.strerror}") from None
    except Exception as error:  # protobuf and the checker raise errors of their own
        raise VerificationError(f"schema: {path} is no ONNX file: {one_line(error)}") from None
    return model


def _metadata(model: Any) -> dict[str, str]:
    return {entry.key: entry.value for entry in model.metadata_props}


def described(path: Path, document: Carried) -> str:
    """Opset, and how many images it takes, in words.

    Raises VerificationError where the classes in the metadata are not those of its document, and as
    document_of(), EnvironmentProblem as that.
    """
    model = _parsed(path)
    if _metadata(model).get("classes") != _class_lines(document):
        raise VerificationError(
            f"schema: the classes in the metadata of {path} are not those of its document"
        )
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    batch = model.graph.input[0].type.tensor_type.shape.dim[0]
    many = "any number of images" if batch.dim_param else f"{batch.dim_value} images"
    return f"opset {opset}, {many} at a time, classes in the metadata"


def scores(given: bytes, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What onnxruntime says of images (N, C, S, S): (N, classes), by one thread of the CPU.

    Raises EnvironmentProblem as package(), VerificationError for a file that it cannot run.
    """
    runtime = package("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = runtime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
        parts = [
            session.run([OUTPUT], {INPUT: images[i : i + BATCH]})[0] for i in range(0, len(images), BATCH)
        ]
    except Exception as error:  # onnxruntime's errors have no common base but this
        raise VerificationError(f"forward pass: onnxruntime: {one_line(error)}") from None
    found: NDArray[np.float32] = np.concatenate(parts)
    return found
