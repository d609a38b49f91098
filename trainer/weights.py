"""Writes and reads files of trained weights: safetensors, with the network they belong to beside them.

The header holds the architecture, the names of the classes, and how the images were scaled and normalised, so
one file is enough to classify with. Written by trainer/loop.py for on_trained and by search/training/run.py,
read by search/training/. A file from elsewhere cannot run code. It knows no training.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialised
from torch import Tensor, nn

from space import cost, parser
from space.architecture import Architecture
from space.errors import CheckpointError, ParsimonyError
from space.files import replace
from trainer import model as networks
from trainer.data.batches import Normalisation
from trainer.data.images import AS_BEFORE, FITS, Scaling
from trainer.messages import one_line

FORMAT = "parsimony weights 1"
PARTS = ("architecture", "classes", "normalisation", "about")


@dataclass(frozen=True)
class Weights:
    """What a file holds; `about` is whatever else its writer found worth saying (JSON)."""

    architecture: Architecture
    classes: tuple[str, ...]
    normalisation: Normalisation
    about: Mapping[str, Any]
    state: Mapping[str, Tensor]
    scaling: Scaling = AS_BEFORE  # how pictures became squares

    def network(self) -> nn.Module:
        """The network on the CPU, in evaluation mode. Raises CheckpointError for weights of another."""
        held, wanted = sum(x.numel() for x in self.state.values()), cost.total(self.architecture).parameters
        if held < wanted:  # before anything of that size is built
            raise CheckpointError(f"the weights are {held:,} values, their architecture has {wanted:,}")
        built = networks.build(self.architecture)
        try:
            built.load_state_dict(dict(self.state))
        except RuntimeError as error:
            raise CheckpointError(
                f"the weights do not match their architecture: {one_line(error)}"
            ) from error
        return built.eval()


def trained_on(images_digest: str, seed: int, epochs: int, validation_accuracy: float) -> dict[str, Any]:
    """What `about` says of the training, so that weights beside a document of another can be told apart."""
    return {
        "images_digest": images_digest,
        "seed": seed,
        "epochs": epochs,
        "validation_accuracy": validation_accuracy,
    }


def save(
    path: Path,
    network: nn.Module,
    architecture: Architecture,
    classes: Sequence[str],
    normalisation: Normalisation,
    about: Mapping[str, Any] | None = None,
    scaling: Scaling = AS_BEFORE,
) -> None:
    """Writes the file whole or not at all. Raises EnvironmentProblem where it cannot be written."""
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    header = {
        "format": FORMAT,
        "architecture": json.dumps(architecture.document()),
        "classes": json.dumps(list(classes)),
        "normalisation": json.dumps({"mean": normalisation.mean, "deviation": normalisation.deviation}),
        "about": json.dumps(dict(about or {})),
        "scaling": json.dumps(asdict(scaling)),
    }
    replace(path, serialised(state, header))


def load(path: Path) -> Weights:
    """Reads a file. Raises CheckpointError where it is absent, cut off, damaged or not of this version."""
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot read weights from {path}: {str(error).splitlines()[0]}") from error
    if header.get("format") != FORMAT:
        raise CheckpointError(f"{path} holds no weights of this version; export them again")
    try:
        parts = {name: _read(header[name], name) for name in PARTS}
        normalisation = parts["normalisation"]
        found = Weights(
            architecture=Architecture.parse(parts["architecture"]),
            classes=tuple(parts["classes"]),
            normalisation=Normalisation(tuple(normalisation["mean"]), tuple(normalisation["deviation"])),
            about=parts["about"],
            state=state,
            scaling=Scaling(**_read(header.get("scaling", "{}"), "scaling")),
        )
        _require_whole(found)
        return found
    except (ParsimonyError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: the header is damaged: {error}") from error


def _require_whole(found: Weights) -> None:
    """Raises ValueError for a header whose parts do not go together, or are not what they should be."""
    network, scaling = found.architecture, found.scaling
    if len(found.classes) != network.classes or not all(isinstance(name, str) for name in found.classes):
        raise ValueError(f"classes: not the names of {network.classes} classes")
    for name, values in asdict(found.normalisation).items():
        whole = all(isinstance(x, (int, float)) and isfinite(x) for x in values)
        if len(values) not in (1, network.channels) or not whole:
            raise ValueError(f"normalisation: {name} is no number for each of {network.channels} channels")
    if min(found.normalisation.deviation) <= 0:
        raise ValueError("normalisation: a deviation is not above 0")
    if scaling.fit not in FITS or not isinstance(scaling.bits, int) or scaling.bits < 1:
        raise ValueError(f"scaling: fit is one of {', '.join(FITS)}, bits a number")
    if not isinstance(found.about, Mapping):
        raise ValueError("about: no table")


def _read(text: str, name: str) -> Any:
    return parser.parse(text.encode(), "JSON", name, CheckpointError)
