"""Classifies pictures with the weights in a file: `search predict`.

Reads both, returns rows, writes nothing. Pictures are read as those that the network was trained on: upright,
on white, padded or cut as its weights say. Called by search/commands/training.py.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from search.study.text import counted, percent
from space.errors import ArchitectureError, DataError
from trainer import weights
from trainer.data import images as image_files
from trainer.data.folder_listing import readable, suffixes
from trainer.data.process_pool import over_parts
from trainer.evaluation import scores
from trainer.weights import Weights


@dataclass(frozen=True)
class Predictions:
    """Rows by picture and class, the likeliest first; `failures` has a line for each that cannot be read.

    classified has, for pictures of a folder of class folders, the true class and the likeliest one.
    """

    rows: list[dict[str, Any]]
    failures: list[str]
    classified: list[tuple[str, str]]

    @property
    def accuracy(self) -> str | None:
        """How many are right, in words, and the mean over classes; None where the truth is not known."""
        if not self.classified:
            return None
        right = sum(true == found for true, found in self.classified)
        by_class = [
            [true == found for true, found in self.classified if true == name]
            for name in sorted({true for true, _ in self.classified})
        ]
        balanced = sum(sum(hits) / len(hits) for hits in by_class) / len(by_class)
        classes = f"{len(by_class)} class{'es' * (len(by_class) != 1)}"
        return (
            f"accuracy {percent(right / len(self.classified))} of {counted(len(self.classified), 'picture')},"
            f" balanced over {classes} {percent(balanced)}"
        )


def classify(path: Path, images: Sequence[Path], top: int) -> Predictions:
    """A row for each picture and class, the likeliest first; probability is the softmax of the scores.

    An image that is a folder stands for all pictures in it. Raises CheckpointError for weights that cannot be
    read, DataError for a folder without pictures, ArchitectureError for a network of other than 1 or 3
    channels.
    """
    found = weights.load(path)
    channels, side = found.architecture.channels, found.architecture.image_size
    if channels not in (1, 3):
        raise ArchitectureError(f"{path} is for images of {channels} channels; pictures have 1 or 3")
    wanted = [one for image in images for one in pictures(image, found.classes)]
    paths = [str(image) for image, _ in wanted]
    mode = "L" if channels == 1 else "RGB"
    decode = partial(image_files.decode_part, size=side, mode=mode, scaling=found.scaling)
    rows, failures, classified, begin = list[dict[str, Any]](), list[str](), list[tuple[str, str]](), 0
    network = found.network()
    for decoded, failed in over_parts(decode, paths, "classifying"):
        failures += [str(image_files.unreadable(paths[begin + row], why)) for row, why in failed.items()]
        good = [row for row in range(len(decoded)) if row not in failed]
        if good:
            found_here = _likeliest(network, found, torch.from_numpy(decoded[good]), top)
            for row, likeliest in zip(good, found_here, strict=True):
                image, true = wanted[begin + row]
                rows += [{"image": readable(str(image)), **one} for one in likeliest]
                classified += [(true, likeliest[0]["class"])] if true is not None else []
        begin += len(decoded)
    return Predictions(rows, failures, classified)


def _likeliest(
    network: torch.nn.Module, found: Weights, images: torch.Tensor, top: int
) -> list[list[dict[str, Any]]]:
    """For each of the images, (N, side, side, C) uint8, its classes with their probabilities."""
    given = scores(network, images, found.normalisation)
    shares = given if found.architecture.head.softmax else given.softmax(1)
    best = shares.topk(min(top, len(found.classes)), dim=1)
    return [
        [
            {"class": found.classes[which], "probability": round(share, 4)}
            for which, share in zip(places, values, strict=True)
        ]
        for places, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def pictures(image: Path, classes: Sequence[str]) -> list[tuple[Path, str | None]]:
    """The picture, or those of a folder, in order; with their class where the folder's folders are classes.

    Raises DataError for a folder without pictures, and for one that cannot be listed.
    """
    if not image.is_dir():
        return [(image, None)]
    try:
        found = sorted(_inside(image))
    except OSError as error:
        raise DataError(f"cannot list {error.filename or image}: {error.strerror}") from error
    if not found:
        raise DataError(f"{image} holds no pictures that can be read; name files, or a folder with some")
    tops = [path.relative_to(image).parts[0] for path in found]
    known = all(len(path.relative_to(image).parts) > 1 for path in found) and set(tops) <= set(classes)
    return [(path, top if known else None) for path, top in zip(found, tops, strict=True)]


def _inside(folder: Path) -> Iterator[Path]:
    """The pictures of a folder and of those in it, through links as in training; no folder is taken twice,
    and by its own name where it has one here."""
    own, linked, seen = [folder], list[Path](), set[tuple[int, int]]()
    while own or linked:
        at = own.pop() if own else linked.pop(0)
        status = at.stat()
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        for entry in sorted(os.scandir(at), key=lambda entry: entry.name):
            if entry.name[0] == ".":
                continue
            if entry.is_dir():
                (linked if entry.is_symlink() else own).append(Path(entry.path))
            elif Path(entry.name).suffix.lower() in suffixes():
                yield Path(entry.path)
