"""Weights as safetensors, with the document in the header: what `search predict` reads, and any reader of the
format.

Reads and writes the format by the library of that name. Called by search/formats/write.py and check.py.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from search.formats.carried import KEY, Carried
from space.errors import VerificationError
from space.parser import one_line
from trainer.weights import FORMAT, Weights


def contents(found: Weights, document: Carried) -> bytes:
    """The file: the header of trainer/weights.py, and the document beside it."""
    normalisation = {"mean": found.normalisation.mean, "deviation": found.normalisation.deviation}
    header = {
        "format": FORMAT,
        "architecture": json.dumps(found.architecture.document()),
        "classes": json.dumps(list(found.classes)),
        "normalisation": json.dumps(normalisation),
        "about": json.dumps({**_noted(document), **found.about}),
        "scaling": json.dumps(asdict(found.scaling)),
        KEY: document.text,
    }
    return save({name: value.contiguous() for name, value in found.state.items()}, header)


def _noted(document: Carried) -> dict[str, Any]:
    """What is known of the training, for weights of an older version, which do not say it."""
    training = document.training
    known: dict[str, Any] = {
        "seed": training.seed,
        "epochs": training.epochs,
        "validation_accuracy": training.validation_accuracy,
    }
    if training.is_validated_alike:
        known["images_digest"] = document.export.data.digest
    return {name: value for name, value in known.items() if value is not None}


def document_of(path: Path) -> str:
    """The document in a file's header. Raises VerificationError where there is none."""
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise VerificationError(f"schema: {path}: {one_line(error)}") from None
    if KEY not in header:
        raise VerificationError(
            f"schema: {path} has no export in its header; `search export --format safetensors` writes one"
        )
    return str(header[KEY])
