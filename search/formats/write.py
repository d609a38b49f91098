"""Writes a trained network in one of the forms, once its scores are those of the original; and its card.

Reads the weights and real images; writes the file, for Python its weights too, and the model card, after all
checks. Called by search/commands/export.py.
"""

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from keyword import iskeyword
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from search.formats import (
    carried,
    deployed,
    model_card,
    onnx_file,
    pt2_file,
    python_source,
    safetensors_file,
    standing_alone,
)
from search.formats.carried import TOLERANCE, Carried, Training
from search.formats.choice import ChosenWeights
from search.formats.deployed import Deployed
from search.formats.endings import ENDING, FORMS, Form
from search.study.config import Images
from search.study.export import Export, LayerRow
from space import cost
from space.errors import UsageError, VerificationError
from space.files import replace, require_writable
from trainer import weights
from trainer.weights import Weights

TAKEN = sys.stdlib_module_names | {"torch", "numpy", "PIL"}  # what a Python file imports, itself or by these
REAL = 256  # validation images that a file is checked with, at most

Scores = NDArray[np.float32]


def form_of(name: str) -> Form:
    """The form of this name, one of FORMS."""
    return next(form for form in FORMS if form == name)


@dataclass(frozen=True)
class Written:
    """What was written, and how far the scores of the file were from those of the original at most."""

    files: tuple[Path, ...]
    images: int
    difference: float


def write(form: Form, out: Path, document: Export, chosen: ChosenWeights, images: Images) -> Written:
    """Writes the file at `out`, whole or not at all, and beside it what belongs to it.

    Raises UsageError for weights of another network and for a network or name that the form cannot say,
    VerificationError where the file does not give the scores of the original (nothing is written then),
    CheckpointError for weights that cannot be read, EnvironmentProblem for a package that is not installed.
    """
    require_name(form, out)
    found = load_weights(document, chosen)
    document = _as_trained(document, found)
    network = Deployed(found.network(), found.normalisation)
    carrying = document_of(document, found, _as_stated(chosen.training, document), network)
    given = contents(form, out, found, carrying, network)
    difference, count = _compare(form, out, given, network, images)
    card = model_card.text(form, out, carrying, difference, count)
    files = {**given, out.with_name(f"{out.name}.md"): card.encode()}
    for path, parts in reversed(files.items()):  # the file that was asked for comes last
        replace(path, parts)
    return Written(tuple(files), count, difference)


def require_name(form: Form, out: Path) -> None:
    """Raises UsageError or EnvironmentProblem for a name or folder that cannot be written."""
    if out.suffix != ENDING[form]:
        raise UsageError(f"--out {out}: the name of a file of format {form} ends in {ENDING[form]}")
    if form == "python" and (not out.stem.isidentifier() or iskeyword(out.stem)):
        raise UsageError(f"--out {out}: Python cannot import that name; use letters, digits and _")
    if form == "python" and out.stem in TAKEN:
        raise UsageError(
            f"--out {out}: Python has a module {out.stem}, which that file would hide; name it otherwise"
        )
    require_writable(out)


def load_weights(document: Export, chosen: ChosenWeights) -> Weights:
    """The chosen weights. Raises UsageError for those of another network than the document's, CheckpointError
    for a file that cannot be read."""
    found = weights.load(chosen.path)
    if found.architecture.fingerprint != document.fingerprint:
        raise UsageError(
            f"{chosen.path} is of the network {found.architecture.fingerprint}, and trial"
            f" {document.origin.study}:{document.origin.trial} is {document.fingerprint}"
        )
    return found


def _as_trained(document: Export, found: Weights) -> Export:
    """The document with the network as the weights spell it: two that build the same one can name its layers
    otherwise (two stages of a block, one stage of two blocks)."""
    rows = tuple(LayerRow(**row._asdict()) for row in cost.layers(found.architecture))
    return document.model_copy(update={"architecture": found.architecture, "layers": rows})


def _as_stated(training: Training, document: Export) -> Training:
    """The training as the file says it: a final of the search is not called confirmed where another run of
    full trainings is, or not all seeds have ended."""
    if training.what != carried.FINALS or carried.is_confirmed(training, document):
        return training
    return training.model_copy(update={"what": carried.UNCONFIRMED})


def document_of(document: Export, found: Weights, training: Training, network: Deployed) -> Carried:
    """What a file carries of itself: the export, how images are read, and its scores of images of noise."""
    noise = carried.noise(found.architecture.channels, found.architecture.image_size)
    rows = deployed.scores(network, noise).tolist()
    return Carried(
        format=carried.FORMAT,
        export=document,
        classes=found.classes,
        mean=found.normalisation.mean,
        deviation=found.normalisation.deviation,
        fit=found.scaling.fit,
        bits=found.scaling.bits,
        training=training,
        sha256=carried.digest(found.state),
        scores=tuple(tuple(row) for row in rows),
    )


def contents(
    form: Form, out: Path, found: Weights, document: Carried, network: Deployed
) -> dict[Path, bytes]:
    """The bytes of every file, the one that was asked for first.

    Raises UsageError for a network that the form cannot say, EnvironmentProblem for a package that is not
    installed.
    """
    if form == "onnx":
        return {out: onnx_file.contents(network, document, _example(found))}
    if form == "pt2":
        return {out: pt2_file.contents(network, document, _example(found))}
    tensors = safetensors_file.contents(found, document)
    if form == "safetensors":
        return {out: tensors}
    beside = out.with_suffix(".safetensors")
    text = python_source.source(document, beside.name, standing_alone.sha256(tensors))
    return {out: text.encode(), beside: tensors}


def _example(found: Weights) -> NDArray[np.uint8]:
    """Two images, as exporters take a batch of one for a number that never changes."""
    return carried.noise(found.architecture.channels, found.architecture.image_size, 2)


def _compare(
    form: Form, out: Path, given: dict[Path, bytes], network: Deployed, images: Images
) -> tuple[float, int]:
    """The largest difference from the original on validation images, and how many there were.

    The files are read again from a folder of their own, under their own names.
    """
    chosen = images.split.validation[:REAL]
    pixels = np.ascontiguousarray(images.dataset.images[chosen].transpose(0, 3, 1, 2))
    wanted = deployed.scores(network, pixels)
    with tempfile.TemporaryDirectory() as folder:
        for path, parts in given.items():
            Path(folder, path.name).write_bytes(parts)
        found = RUN[form](Path(folder, out.name), pixels)
    difference = carried.difference(found, wanted)
    if difference > TOLERANCE:
        raise VerificationError(
            f"{form}: scores differ by {difference:.2g} from the original's on {len(chosen)} images,"
            f" {TOLERANCE:g} at most; {out} is not written"
        )
    return difference, len(chosen)


def _run_safetensors(path: Path, pixels: NDArray[np.uint8]) -> Scores:
    found = weights.load(path)
    return deployed.scores(Deployed(found.network(), found.normalisation), pixels)


RUN: dict[Form, Callable[[Path, NDArray[np.uint8]], Scores]] = {
    "onnx": lambda path, pixels: onnx_file.scores(path.read_bytes(), pixels),
    "pt2": lambda path, pixels: pt2_file.scores(path.read_bytes(), pixels),
    "python": standing_alone.scores,
    "safetensors": _run_safetensors,
}
