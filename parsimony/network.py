"""A network as a document: counted, explained, built, and with weights where they are there.

Reads architecture files, exported documents and files of weights; writes nothing. torch is loaded by build()
and trained() alone.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.report.network_parts import Part, parts
from search.study import network_reference, weights_origin
from search.study.short_form import summary
from space import architecture as architectures, cost, parser
from space.architecture import Architecture
from space.budget import Budget, judge
from space.cost import Layer
from space.errors import ArchitectureError, CheckpointError, UsageError
from space.repair import Repair, repairs

if TYPE_CHECKING:
    from torch import nn

    from trainer.weights import Weights

UNLIMITED = 10**15  # parameters; what no limit means


@dataclass(frozen=True)
class Explanation:
    """Where a network's parameters are, what is over a budget, and the nearest networks that fit it.

    parts: stem, stages, tail and head, each with its parameters and multiply-accumulates of one image.
    excess: what is over, in words; None where it fits. repairs: the nearest that fit, the one that keeps most
    of the budget first. str() gives it in lines.
    """

    parameters: int
    macs: int
    parts: tuple[Part, ...]
    excess: str | None
    repairs: tuple[Repair, ...]

    def __str__(self) -> str:
        rows = [(part.name, f"{part.parameters:,}", f"{part.macs:,}", part.text) for part in self.parts]
        rows.append(("all", f"{self.parameters:,}", f"{self.macs:,}", self.excess or "fits"))
        lines = [
            f"{name:8} {count:>12} parameters {macs:>15} macs  {text}" for name, count, macs, text in rows
        ]
        return "\n".join(lines + [f"{one.change}: {one.parameters:,} parameters" for one in self.repairs])


@dataclass(frozen=True, eq=False)
class Network:
    """A network; equal to another where it builds the same, which is where their fingerprints are equal.

    document: its architecture (JSON values, docs/architecture.md). weights: a file of trained weights; None
    where there is none. budget: the limits of its study, where it was exported.
    """

    name: str
    architecture: Architecture = field(repr=False)
    weights: Path | None = None
    budget: Budget | None = field(default=None, repr=False)
    stated: Mapping[str, Any] | None = field(default=None, repr=False)  # the exported document it is of

    def __eq__(self, other: object) -> bool:
        return self.fingerprint == other.fingerprint if isinstance(other, Network) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __str__(self) -> str:
        return f"{self.name}: {summary(self.architecture)}, {self.count():,} parameters"

    @property
    def document(self) -> dict[str, Any]:
        """The architecture as JSON values; json.dump() of it is a file that load() reads."""
        return self.architecture.document()

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits; the same for the same network."""
        return self.architecture.fingerprint

    def count(self) -> int:
        """Trainable parameters, in closed form: nothing is built."""
        return cost.total(self.architecture).parameters

    def macs(self) -> int:
        """Multiply-accumulates of one image."""
        return cost.total(self.architecture).macs

    def layers(self) -> tuple[Layer, ...]:
        """Name, kind, output channels, side of the output in pixels, parameters and macs of each layer."""
        return tuple(cost.layers(self.architecture))

    def fits(self, max_params: int | None = None, max_macs: int | None = None) -> bool:
        """Whether it is within these limits, both inclusive; without any, within those of its study.

        Raises UsageError without a limit for a network of no study, and for a limit below 1.
        """
        return judge(self.architecture, self._limits(max_params, max_macs)).fits

    def explain(self, max_params: int | None = None, max_macs: int | None = None) -> Explanation:
        """Its parts with what they cost, and what would make it fit. Limits as in fits().

        Raises UsageError as fits() does.
        """
        limits = self._limits(max_params, max_macs)
        verdict = judge(self.architecture, limits)
        nearest = tuple(repairs(self.architecture, limits))
        found = tuple(parts(self.architecture))
        return Explanation(verdict.parameters, verdict.macs, found, verdict.excess, nearest)

    def _limits(self, max_params: int | None, max_macs: int | None) -> Budget:
        if max_params is not None or max_macs is not None:
            return Budget(UNLIMITED if max_params is None else max_params, max_macs)
        if self.budget is None:
            raise UsageError(
                f"{self.name} is of no study, whose budget could hold; give max_params or max_macs"
            )
        return self.budget

    def build(self) -> "nn.Module":
        """The network with fresh weights, drawn from torch's global generator.

        It takes normalised images (N, channels, image_size, image_size) float32 and gives scores
        (N, classes) float32, which are logits unless the head has a softmax.
        """
        from trainer import model

        return model.build(self.architecture)

    def trained(self) -> "nn.Module":
        """The network with its trained weights, on the CPU and in evaluation mode.

        It takes images as bytes, (N, channels, image_size, image_size) uint8 of 0..255, which it normalises,
        and gives scores (N, classes) float32. Raises CheckpointError where there are no weights, or those of
        another network.
        """
        from search.formats.deployed import Deployed

        if self.weights is None:
            raise CheckpointError(
                f"{self.name} has no weights here: `search export STUDY:TRIAL --format safetensors` writes"
                " those that a search kept, `search train STUDY:TRIAL` trains some"
            )
        found = self._held(self.weights)
        return Deployed(found.network(), found.normalisation)

    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the scores. Raises CheckpointError without weights, or where
        they are those of another network."""
        if self.weights is None:
            raise CheckpointError(f"{self.name} has no weights here, in whose file the classes are named")
        return self._held(self.weights).classes

    def _held(self, path: Path) -> "Weights":
        from trainer import weights

        found = weights.load(path)
        stated = {**(self.stated or {}), "fingerprint": self.fingerprint}
        other = weights_origin.other_subject(stated, found) or weights_origin.other_training(stated, found)
        if other:
            raise CheckpointError(f"{path} holds the weights {other}; load that file to use them")
        return found


def load(source: str | Path) -> Network:
    """The network of a file, or of a published system.

    source: an architecture file, what `search export` writes (best.json; weights are best.safetensors beside
    it, if that is there), a file of weights (.safetensors), or "published:NAME" (`search published`).

    Raises ArchitectureError (a UsageError) for what is none of these, CheckpointError (one too) for weights
    that cannot be read.
    """
    if isinstance(source, str) and network_reference.is_published(source):
        found = network_reference.resolve(source, "")
        return Network(found.name, found.architecture)
    path = Path(source).expanduser()
    if path.suffix == ".safetensors":
        from trainer import weights

        return Network(path.stem, weights.load(path).architecture, path)
    document = parser.read(path, "JSON", ArchitectureError)
    beside = path.with_suffix(".safetensors")
    weights_file = beside if beside.is_file() else None
    stated = document if isinstance(document, dict) and "origin" in document else None
    return Network(path.stem, architectures.load(path), weights_file, _budget(stated), stated)


def _budget(document: dict[str, Any] | None) -> Budget | None:
    """The budget that an exported document names; None where it is none."""
    if document is None:
        return None
    from pydantic import ValidationError

    from search.study.export import Export

    try:
        return Export.model_validate_json(json.dumps(document)).budget
    except ValidationError:
        return None
