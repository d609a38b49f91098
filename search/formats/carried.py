"""The document that travels inside every exported file of a trained network, in whatever form it is.

It holds what `search export` writes as JSON, and what else it takes to use and to check the weights: names of
the classes, normalisation, how pictures became squares, which training it was, and the scores of a few fixed
images of noise. Made by search/formats/write.py, read again by search/formats/check.py; each form has a place
of its own for it.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError, model_validator

from search.study.export import Export
from search.study.text import counted
from search.study.verification import is_same
from space import parser
from space.document import Document, first_problem
from space.errors import VerificationError
from trainer.data.images import Fit

if TYPE_CHECKING:
    from torch import Tensor

FORMAT: Literal["parsimony.network/1"] = "parsimony.network/1"
KEY = "parsimony"  # under which a form keeps the document
CHECKED = 4  # images of noise
BRIEF, FINALS = "the brief training of the search", "the finals of the search"  # Training.what
UNCONFIRMED = "a final of the search that is not confirmed"  # the other
TOLERANCE = 1e-4  # the largest difference of a score that is still the same


class Training(Document):
    """Which training the weights are of: validation and test accuracy 0..1 of these very weights.

    Of weights that somebody named it may not be known whether they were tried on test images
    (is_test_known), nor whether the validation images were those of the study (is_validated_alike); of a
    training by the split of another study they were not. train_images: how many it had; None where that is
    not known, and in documents of before.
    """

    what: str
    seed: int | None
    epochs: int | None
    validation_accuracy: float | None
    test_accuracy: float | None = None
    test_images: int | None = None
    is_test_known: bool = True
    is_validated_alike: bool = True
    train_images: int | None = None

    model_config = Document.model_config | {"strict": False}

    @property
    def how(self) -> str:
        """Epochs, images and seed in brackets, after a space; nothing where the epochs are not known."""
        seed = f", seed {self.seed}" if self.seed is not None else ""
        images = f" of {self.train_images:,} images" if self.train_images else ""
        return f" ({counted(self.epochs, 'epoch')}{images}{seed})" if self.epochs else ""


class Carried(Document):
    """The whole document, format parsimony.network/1.

    mean and deviation are of each channel in grey levels 0..255; fit and bits as in trainer/data/images.py.
    sha256 is of the values of the network. scores, (CHECKED, classes), are those of `noise`.
    """

    format: Literal["parsimony.network/1"]
    export: Export
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    fit: Fit
    bits: int
    training: Training
    sha256: str
    scores: tuple[tuple[float, ...], ...]

    model_config = Document.model_config | {"strict": False}

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        network = self.export.architecture
        if len(self.classes) != network.classes:
            raise ValueError(f"classes: {len(self.classes)} names for {network.classes} classes")
        if not len(self.mean) == len(self.deviation) == network.channels:
            raise ValueError(f"mean, deviation: one for each of {network.channels} channels")
        if min(self.deviation) <= 0:
            raise ValueError("deviation: not above 0")
        if [len(row) for row in self.scores] != [network.classes] * CHECKED:
            raise ValueError(f"scores: not those of {CHECKED} images and {network.classes} classes")
        return self

    @property
    def text(self) -> str:
        """The document as one line of JSON, ASCII alone; one of before as it was."""
        found = self.model_dump(mode="json")
        if self.training.train_images is None:
            del found["training"]["train_images"]
        return json.dumps(found)


def is_confirmed(training: Training, export: Export) -> bool:
    """Whether a training is one of those that the export states as confirmed; of documents of before, which
    have no accuracy of each seed, one as long."""
    full = export.confirmation
    if full is None or training.epochs != full.epochs or training.validation_accuracy is None:
        return False
    if not full.validation_by_seed:
        return True
    tests = full.test_by_seed if len(full.test_by_seed) == full.seeds else [None] * full.seeds
    return any(
        is_same(training.validation_accuracy, validation)
        and (test is None or is_same(training.test_accuracy, test))
        for validation, test in zip(full.validation_by_seed, tests, strict=True)
    )


def may_be_other_final(training: Training, export: Export) -> bool:
    """Whether a training can be a final of which the export states no figures: not those of the brief
    training, nor, where it is called one of the finals, other figures of the length that is confirmed.

    Older versions called every final so, that of a network whose other seeds had not ended too, or beside a
    longer full training, of which the figures are then.
    """
    stated = (training.seed, training.epochs, training.validation_accuracy)
    if None in stated or stated[:2] == (export.origin.seed, export.origin.epochs):
        return False
    full = export.confirmation
    return training.what == UNCONFIRMED or full is None or training.epochs != full.epochs


def parse(text: str | bytes, path: Path) -> Carried:
    """The document out of a file. Raises VerificationError where it is not one."""
    given = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    document = parser.parse(given, "JSON", f"schema: {path}", VerificationError)
    try:
        return Carried.model_validate_json(json.dumps(document))
    except ValidationError as error:
        raise VerificationError(f"schema: {path}: {first_problem(error, Carried)}") from None


def noise(channels: int, side: int, count: int = CHECKED) -> NDArray[np.uint8]:
    """The images that a file is checked with: (count, channels, side, side) uint8, the same for ever.

    RandomState, because numpy promises that its stream never changes.
    """
    return np.random.RandomState(20).randint(0, 256, (count, channels, side, side)).astype(np.uint8)


def digest(state: "Mapping[str, Tensor]") -> str:
    """sha256 of the values of a network, tensors of any shape and type (...), by their names."""
    found = hashlib.sha256()
    for name in sorted(state):
        values = state[name].detach().cpu().contiguous()
        found.update(f"{name} {tuple(values.shape)} {values.dtype} ".encode())
        found.update(values.numpy().tobytes())
    return found.hexdigest()


def difference(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    """The largest difference of two tables of scores (N, classes); infinite where one is no number."""
    if found.shape != wanted.shape or not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found.astype(np.float64) - wanted).max())
