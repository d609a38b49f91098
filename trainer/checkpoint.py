"""Checkpoint files: all that a training needs to go on after an epoch, whole in one file or not at all.

The file is a line with its format and the SHA-256 of what follows, then torch's archive of tensors and plain
values: it is read with weights_only, so a file from elsewhere cannot run code, and a flipped bit is found.
Read and written by trainer/loop.py; search/training/run.py reads the epochs of one. It does not know which
trainings are worth keeping.
"""

import hashlib
import io
import logging
import pickle
import struct
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
from space.errors import CheckpointError, EnvironmentProblem
from trainer.data.dataset import Dataset, Split
from trainer.device import training_type
from trainer.messages import differences, one_line, shortened
from trainer.outcome import EpochReport
from trainer.recipe.document import Recipe

FORMAT = b"parsimony checkpoint 1 "
SHARE = 0.02  # of the time that saving may take
LONGEST = 16  # characters of a value in a message: as much of a digest as tells two apart

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CheckpointOptions:
    """The file that a training is kept in; at most every so many seconds, for 2% of the time; 0: always.

    at_once: the first time after the first epoch, which shows early whether the file can be written.
    """

    path: Path
    seconds: float = 5.0
    at_once: bool = False


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
        return [
            f"{name} is {shortened(there, LONGEST)}, here {shortened(here, LONGEST)}"
            for name, here, there in differences(asdict(self), asdict(other))
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
    """Puts back what `capture` took.

    Raises CheckpointError where it does not fit; some of it may be restored then, so begin anew.
    """
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
        raise CheckpointError(
            f"the checkpoint does not fit what is built from it: {one_line(error)}"
        ) from error


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Replaces what is at path, in one step, once the new file is on the disk.

    Raises EnvironmentProblem where it cannot be written; what was at path is still there then.
    """
    archive = io.BytesIO()
    torch.save(_document(checkpoint), archive)
    contents = archive.getbuffer()
    files.replace(path, _header(contents), contents)


def load(path: Path, identity: Identity) -> Checkpoint:
    """The checkpoint of exactly this training; its tensors are on the CPU.

    Raises CheckpointError where it is absent, cannot be read, is damaged, or is of another training: then it
    says what differs.
    """
    found = _parsed(path, _read(path))
    differences = identity.differences(found.identity)
    if differences:
        raise CheckpointError(f"{path} is of another training: {'; '.join(differences)}")
    return found


class CheckpointWriter:
    """Keeps one training in its file, as often as the options say. Made by `fit`, for as long as it trains.

    No fault of the disk stops a training: a line of the log tells of it instead.
    """

    def __init__(self, options: CheckpointOptions, identity: Identity) -> None:
        self.path, self.identity, self.seconds = options.path, identity, options.seconds
        self._next = time.monotonic() + (0.0 if options.at_once else options.seconds)

    def found(self) -> Checkpoint | None:
        """The checkpoint to continue from, tensors on the CPU; None, with a warning for an unusable file."""
        try:
            return load(self.path, self.identity)
        except CheckpointError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                self.refuse(error)
            return None

    def refuse(self, error: CheckpointError) -> None:
        """Logs why a training begins anew."""
        logger.warning("starts from the beginning: %s", error)

    def offer(self, make: Callable[[Identity], Checkpoint]) -> None:
        """Saves what `make` gives, unless the last time was too short ago; logs that it cannot be written."""
        started = time.monotonic()
        if started < self._next:
            return
        try:
            save(self.path, make(self.identity))
        except EnvironmentProblem as error:
            logger.warning("goes on without a new checkpoint: %s", error)
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
        struct.error,
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
