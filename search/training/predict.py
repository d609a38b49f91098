"""Classifies image files with the weights in a file: `search predict`.

Reads both, returns rows, writes nothing. Called by search/commands/training.py.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from space.errors import ArchitectureError
from trainer import weights
from trainer.data import images as image_files
from trainer.data.images import Picture
from trainer.evaluation import scores


def classify(path: Path, images: Sequence[Path], top: int) -> list[dict[str, Any]]:
    """A row for each picture and class, the likeliest first; probability is the softmax of the scores.

    Raises CheckpointError for weights that cannot be read, DataError for a picture that is none, and
    ArchitectureError for a network of other than 1 or 3 channels.
    """
    found = weights.load(path)
    channels, side = found.architecture.channels, found.architecture.image_size
    if channels not in (1, 3):
        raise ArchitectureError(f"{path} is for images of {channels} channels; pictures have 1 or 3")
    decoded = image_files.decoded(
        [Picture(str(image), 0, 0, 0) for image in images],
        side,
        "L" if channels == 1 else "RGB",
        found.scaling,
    )
    given = scores(found.network(), torch.from_numpy(decoded), found.normalisation)
    shares = given if found.architecture.head.softmax else given.softmax(1)
    best = shares.topk(min(top, len(found.classes)), dim=1)
    return [
        {"image": str(image), "class": found.classes[which], "probability": round(share, 4)}
        for image, places, values in zip(images, best.indices.tolist(), best.values.tolist(), strict=True)
        for which, share in zip(places, values, strict=True)
    ]
