"""The checks of an exported network that is not JSON: `search verify best.onnx`, .pt2, .py or .safetensors.

Reads the file and, for Python, the weights beside it; writes nothing. No code out of the file is run: ONNX
and safetensors hold none, a .py is run only where it is byte for byte what this version writes, and of a .pt2
the weights alone are read. Called by search/commands/export.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from search.formats import carried, deployed, onnx_file, pt2_file, safetensors_file, standing_alone
from search.formats.carried import CHECKED, TOLERANCE, Carried
from search.formats.deployed import Deployed
from search.study import verification
from space.errors import ArchitectureError, CheckpointError, VerificationError
from space.parser import one_line
from trainer import weights
from trainer.data.batches import Normalisation
from trainer.data.images import Scaling
from trainer.weights import Weights

TYPES = (torch.float32, torch.int64)  # of the values of a network


@dataclass(frozen=True)
class Reader:
    """Of one form: the document in a file, and the checks that are of this form alone, a line for each."""

    document: Callable[[Path], str]
    check: Callable[[Path, Carried], list[str]]


def verify(path: Path) -> list[str]:
    """One line for each check, those of the document first. Raises VerificationError for the one that fails,
    EnvironmentProblem for a package that is not installed."""
    reader = READERS[path.suffix.lower()]
    found = carried.parse(reader.document(path), path)
    lines = [f"schema: {carried.FORMAT} in {path.name}", *verification.check_export(found.export)]
    lines += _check_training(found)
    if verification.excess_of(found.export):
        return [*lines, "weights: not read, for the size of the network"]
    return lines + reader.check(path, found)


def _check_training(found: Carried) -> list[str]:
    """A line for a final that the export has no figures of; none for any other training.

    Raises VerificationError for a training of the search with other figures than the export has of it. What
    is a full training of somebody is nowhere else in the file; nor is a final of a network some of whose
    seeds had not ended, or that has longer trainings.
    """
    training, export = found.training, found.export
    for name in ("validation_accuracy", "test_accuracy"):
        verification.require_share(getattr(training, name), f"training: {name}")
    lines = list[str]()
    if training.what == carried.BRIEF:
        metrics = export.metrics.validation_accuracy
        is_it = verification.is_same(training.validation_accuracy, metrics) and training.test_accuracy is None
        is_it &= (training.seed, training.epochs) == (export.origin.seed, export.origin.epochs)
    elif training.what == carried.FINALS and carried.is_confirmed(training, export):
        is_it = True
    elif training.what in (carried.FINALS, carried.UNCONFIRMED):
        is_it = carried.may_be_other_final(training, export)
        lines.append("training: a final that the export has no figures of")
    else:
        is_it = True
    if not is_it:
        raise VerificationError(
            f"schema: training: its figures are not those that the export has of {training.what}"
        )
    return lines


def _safetensors(path: Path, found: Carried) -> list[str]:
    held = _held(path)
    stated = (found.classes, found.mean, found.deviation, Scaling(found.fit, found.bits))
    normalisation = held.normalisation
    said = (held.classes, normalisation.mean, normalisation.deviation, held.scaling)
    if said != stated or held.architecture.fingerprint != found.export.fingerprint:
        raise VerificationError(f"schema: the two halves of the header of {path} do not agree")
    return [_digest(held.state, found), _scores(held.state, found)]


def _pt2(path: Path, found: Carried) -> list[str]:
    state = pt2_file.state_of(path)
    normalises = Deployed(torch.nn.Identity(), Normalisation(found.mean, found.deviation)).state_dict()
    if carried.digest(pt2_file.normalisation_of(path)) != carried.digest(normalises):
        raise VerificationError(f"schema: {path} does not normalise by mean and deviation of its document")
    note = "the program itself not run: loading a .pt2 can run code that is in it"
    return [_digest(state, found), f"{_scores(state, found)}, from its weights; {note}"]


def _python(path: Path, found: Carried) -> list[str]:
    standing_alone.require_unchanged(path, found)
    beside = path.with_suffix(".safetensors")
    source = f"source: byte for byte what is written for its network and {beside.name}"
    digest = _digest(_held(beside).state, found)
    network = found.export.architecture
    noise = carried.noise(network.channels, network.image_size)
    try:
        difference = carried.difference(standing_alone.scores(path, noise), _wanted(found))
    except (RuntimeError, ValueError, SyntaxError) as error:  # SyntaxError: a name with a zero in it
        raise VerificationError(f"forward pass: {one_line(error)}") from None
    return [source, digest, _judged(difference)]


def _onnx(path: Path, found: Carried) -> list[str]:
    network = found.export.architecture
    noise = carried.noise(network.channels, network.image_size)
    given = onnx_file.scores(path.read_bytes(), noise)
    described = onnx_file.described(path, found)  # of a graph that has run: it has an input and an opset
    return [f"graph: {described}", _judged(carried.difference(given, _wanted(found)))]


def _held(path: Path) -> Weights:
    """The weights of a file. Raises VerificationError for a header that is damaged."""
    try:
        return weights.load(path)
    except CheckpointError as error:
        raise VerificationError(f"schema: {one_line(error)}") from None


def _digest(state: Mapping[str, torch.Tensor], found: Carried) -> str:
    other = next((name for name, value in state.items() if value.dtype not in TYPES), None)
    if other is not None:
        raise VerificationError(f"weights: {other} is {state[other].dtype}, which no network here has")
    if carried.digest(state) != found.sha256:
        raise VerificationError("weights: not those that the file was written with (sha256)")
    values = sum(value.numel() for value in state.values())
    return f"weights: {values:,} values, sha256 {found.sha256[:16]}"


def _scores(state: Mapping[str, torch.Tensor], found: Carried) -> str:
    """Builds the network, gives it these weights, and compares its scores with those in the document."""
    network = found.export.architecture
    normalisation = Normalisation(found.mean, found.deviation)
    held = Weights(network, found.classes, normalisation, {}, state, Scaling(found.fit, found.bits))
    noise = carried.noise(network.channels, network.image_size)
    try:
        given = deployed.scores(Deployed(held.network(), normalisation), noise)
    except (RuntimeError, ArchitectureError, CheckpointError) as error:
        raise VerificationError(f"forward pass: {one_line(error)}") from None
    return _judged(carried.difference(given, _wanted(found)))


def _wanted(found: Carried) -> NDArray[np.float32]:
    """The scores in the document, (CHECKED, classes) float32."""
    return np.array(found.scores, np.float32)


def _judged(difference: float) -> str:
    if difference > TOLERANCE:
        raise VerificationError(
            f"forward pass: scores of {CHECKED} images of noise differ by {difference:.2g} from those in the"
            f" document, {TOLERANCE:g} at most"
        )
    found = f"scores differ by {difference:.1g} from those in the document"
    return f"forward pass: {CHECKED} images of noise, {found}"


READERS = {
    ".onnx": Reader(onnx_file.document_of, _onnx),
    ".pt2": Reader(pt2_file.document_of, _pt2),
    ".py": Reader(standing_alone.document_of, _python),
    ".safetensors": Reader(safetensors_file.document_of, _safetensors),
}
