"""Whether weights are those that an exported document is of, by what their file notes of itself.

Compares what was read; reads and writes nothing. Called by search/training/weights_reference.py and
parsimony/network.py, which find a file beside a document and do not know who left it there.
"""

from collections.abc import Mapping
from math import isclose
from typing import TYPE_CHECKING, Any

from search.study.text import counted

if TYPE_CHECKING:
    from trainer.weights import Weights

SAME = 1e-6  # the largest difference of an accuracy, 0..1, that is still the same


def other_subject(document: Mapping[str, Any], held: "Weights") -> str | None:
    """Why weights are of another network or of other images than a document, in words that follow "is"; None
    where both are the same, or one of the two does not say."""
    wanted = document.get("fingerprint")
    if wanted is not None and held.architecture.fingerprint != wanted:
        return "of another network"
    images, noted = _images(document), held.about.get("images_digest")
    return "of other images" if images and noted and images != noted else None


def other_training(document: Mapping[str, Any], held: "Weights") -> str | None:
    """Why weights are of none of the trainings whose mean a document states, in such words; None where they
    are of one, where it states none, or where they do not say of which they are."""
    stated, epochs = document.get("confirmation"), held.about.get("epochs")
    if not isinstance(stated, Mapping) or not isinstance(epochs, int):
        return None
    accuracy, by_seed = held.about.get("validation_accuracy"), stated.get("validation_by_seed")
    is_one = epochs == stated.get("epochs")
    if is_one and isinstance(accuracy, float) and isinstance(by_seed, list) and by_seed:
        is_one = any(isclose(accuracy, one, abs_tol=SAME) for one in by_seed if isinstance(one, float))
    return None if is_one else f"of another training ({counted(epochs, 'epoch')}) than the one it states"


def is_silent(document: Mapping[str, Any], held: "Weights") -> bool:
    """Whether weights do not say of which images they are, as those of older versions, where a document
    does."""
    return bool(_images(document)) and not held.about.get("images_digest")


def _images(document: Mapping[str, Any]) -> object:
    data = document.get("data")
    return data.get("digest") if isinstance(data, Mapping) else None
