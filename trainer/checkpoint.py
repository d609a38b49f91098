"""Everything that a training needs to go on after an epoch, in one file that is there whole or not at all.

The file is a line with its format and the SHA-256 of what follows, then torch's archive of tensors and plain
values: it is read with weights_only, so a file from elsewhere cannot run code, and a flipped bit is found.
It knows neither when to save (trainer/loop.py) nor which trainings are worth keeping.
"""

import hashlib
import io
import pickle
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Generator, nn
from torch.optim import Optimizer

from space import files
from space.architecture import Architecture
from space.document import flat
from space.errors import CheckpointError, EnvironmentProblem
from trainer.data.dataset import Dataset, Split
from trainer.device import training_type
from trainer.outcome import EpochReport
from trainer.recipe.document import Recipe

FORMAT = b"parsimony checkpoint 1 "
SHARE = 0.02  # of the time that saving may take


@dataclass(frozen=True)
class Identity:
    """Which training it is: two that agree in all of this go the same way from the same state."""

    architecture: str  # its fingerprint
    seed: int
    data: str
    split: str
    device: str
    precision: str
    recipe: dict[str, Any]

    @classmethod
    def of(
        cls,
        architecture: Architecture,
        recipe: Recipe,
        dataset: Dataset,
        split: Split,
        seed: int,
        device: torch.device,
    ) -> Self:
        """The kind of device counts, since random states do not move from one to another."""
        precision = str(training_type(recipe, device)).removeprefix("torch.")
        document = recipe.model_dump(mode="json")
        return cls(
            architecture.fingerprint, seed, dataset.digest, split.digest, device.type, precision, document
        )

    def differences(self, other: "Identity") -> list[str]:
        """Each field that differs, with its value in `other` and the one here."""
        here, there = flat(asdict(self)), flat(asdict(other))
        return [
            f"{name} is {_shown(there.get(name))}, here {_shown(here.get(name))}"
            for name in {**here, **there}
            if here.get(name) != there.get(name)
        ]


@dataclass(frozen=True)
class Checkpoint:
    """A training after len(reports) epochs, `step` steps and `seconds`; what state holds, `capture` says."""

    identity: Identity
    step: int
    seconds: float
    reports: tuple[EpochReport, ...]
    state: dict[str, Any]


def capture(
    network: nn.Module, optimizer: Optimizer, generator: Generator, average: nn.Module | None = None
) -> dict[str, Any]:
    """The present state of all that changes while training; its tensors are those in use, not copies.

    Random states are those of the given generator and of torch's own, on the CPU and on its GPU.
    """
    generators = {"loop": generator.get_state(), "cpu": torch.get_rng_state()}
    if generator.device.type == "cuda":
        generators["cuda"] = torch.cuda.get_rng_state(generator.device)
    return {
        "weights": dict(network.state_dict()),
        "optimizer": optimizer.state_dict(),
        "generators": generators,
        "average": dict(average.state_dict()) if average else None,
    }


def restore(
    state: dict[str, Any],
    network: nn.Module,
    optimizer: Optimizer,
    generator: Generator,
    average: nn.Module | None = None,
) -> None:
    """Undo of `capture`. After a CheckpointError some of it may be restored: then begin anew."""
    try:
        network.load_state_dict(state["weights"])
        if average:
            average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        generator.set_state(state["generators"]["loop"])
        torch.set_rng_state(state["generators"]["cpu"])
        if generator.device.type == "cuda":
            torch.cuda.set_rng_state(state["generators"]["cuda"], generator.device)
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"the checkpoint does not fit what is built from it: {reason}") from error


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Replaces what is at path, in one step, once the new file is on the disk.

    EnvironmentProblem: it cannot be written, and what was at path is still there.
    """
    archive = io.BytesIO()
    torch.save(_document(checkpoint), archive)
    contents = archive.getbuffer()
    files.replace(path, _header(contents), contents)


def load(path: Path, identity: Identity) -> Checkpoint:
    """The checkpoint of exactly this training; its tensors are on the CPU.

    CheckpointError: it is absent, cannot be read, is damaged, or is of another training, and what differs.
    """
    found = _parsed(path, _read(path))
    differences = identity.differences(found.identity)
    if differences:
        raise CheckpointError(f"{path} is of another training: {'; '.join(differences)}")
    return found


class CheckpointWriter:
    """Where one training is kept and how often: at most every `seconds` and for 2% of the time; 0: always.

    No fault of the disk stops a training: it is said instead.
    """

    def __init__(
        self, path: Path, identity: Identity, seconds: float, say: Callable[[str], None] | None
    ) -> None:
        self.path, self.identity, self.seconds = path, identity, seconds
        self.say = say or (lambda _: None)
        self._next = time.monotonic() + seconds

    def found(self) -> Checkpoint | None:
        """What there is to continue from."""
        try:
            return load(self.path, self.identity)
        except CheckpointError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                self.refuse(error)
            return None

    def refuse(self, error: CheckpointError) -> None:
        """Tells why a training begins anew."""
        self.say(f"starts from the beginning: {error}")

    def offer(self, make: Callable[[Identity], Checkpoint]) -> None:
        """Saves what `make` gives, unless the last time was too short ago."""
        started = time.monotonic()
        if started < self._next:
            return
        try:
            save(self.path, make(self.identity))
        except EnvironmentProblem as error:
            self.say(f"goes on without a new checkpoint: {error}")
        ended = time.monotonic()
        self._next = ended + max(self.seconds, (ended - started) / SHARE if self.seconds else 0.0)


def _document(checkpoint: Checkpoint) -> dict[str, Any]:
    # Not asdict() of the whole: it would copy every tensor.
    return {
        "identity": asdict(checkpoint.identity),
        "step": checkpoint.step,
        "seconds": checkpoint.seconds,
        "reports": [asdict(report) for report in checkpoint.reports],
        "state": checkpoint.state,
    }


def _header(contents: memoryview) -> bytes:
    return FORMAT + hashlib.sha256(contents).hexdigest().encode() + b"\n"


def _read(path: Path) -> memoryview:
    """What follows a true header."""
    try:
        whole = memoryview(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"cannot read the checkpoint {path}: {error.strerror or error}") from error
    if whole[: len(FORMAT)] != FORMAT:
        raise CheckpointError(f"{path} is not a checkpoint of this version; delete it or name another")
    contents = whole[len(FORMAT) + 65 :]
    if whole[: len(FORMAT) + 65] != _header(contents):
        raise CheckpointError(f"{path} is damaged or cut off; delete it")
    return contents


def _parsed(path: Path, contents: memoryview) -> Checkpoint:
    try:
        document = torch.load(io.BytesIO(contents), map_location="cpu", weights_only=True)
        return Checkpoint(
            identity=Identity(**document["identity"]),
            step=document["step"],
            seconds=document["seconds"],
            reports=tuple(EpochReport(**report) for report in document["reports"]),
            state=document["state"],
        )
    except (
        pickle.UnpicklingError,
        RuntimeError,
        ValueError,
        LookupError,
        TypeError,
        EOFError,
        AttributeError,
    ) as error:
        raise CheckpointError(
            f"{path} is not a checkpoint of this version; delete it or name another"
        ) from error


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= 16 else text[:12] + "..."
