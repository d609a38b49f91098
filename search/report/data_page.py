"""A data set as one self-contained HTML page: counts by class, and the images as the network will see them.

Reads training and validation images, never a test image, and augments as a training does; returns text.
Called by search/commands/data.py. Loads torch for the augmentation.
"""

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.report.parts import html
from search.report.pictures import first_alone, image
from trainer.data import survey_text
from trainer.data.dataset import Dataset, Split
from trainer.recipe.document import Recipe

SHOWN = 6  # images of a class
CLASSES_SHOWN = 200
GAP = 2  # pixels between two images
HEIGHT = 48  # of an image on the page


def class_rows(dataset: Dataset, split: Split) -> list[dict[str, Any]]:
    """How many training, validation and test images each class has; None where those are not counted."""
    train, validation = (survey_text.counts(dataset, rows) for rows in (split.train, split.validation))
    tests = (dataset.survey.counts.get("test", {}) if dataset.survey else None) or {}
    return [
        {
            "class": name,
            "train": train[name],
            "validation": validation[name],
            "test": tests.get(name, 0) if dataset.survey else None,
        }
        for name in dataset.classes
    ]


def page(
    dataset: Dataset,
    split: Split,
    recipe: Recipe,
    trained: str,
    told: Sequence[tuple[str, str]],
    rows: Sequence[dict[str, Any]],
    seed: int,
) -> str:
    """The page as text; `trained` is the training that augments by the recipe, in words, `told` are the lines
    above the table, `rows` those of class_rows()."""
    lines = "".join(f"<tr><td>{escape(word)}<td class=text>{escape(line)}" for word, line in told)
    shown, less = list(rows)[:CLASSES_SHOWN], first_alone(dataset.channels)
    head = "<tr><th>class<th>train<th>validation<th>test<th class=text>as the network sees them"
    head += f"<th class=text>augmented, in {escape(trained)}<th class=text>mean"
    body = "".join(_row(dataset, split, recipe, label, row, seed) for label, row in enumerate(shown))
    more = (
        f"<p class=note>and {len(rows) - CLASSES_SHOWN:,} more classes</p>" if len(rows) > len(shown) else ""
    )
    style = f"<style>img {{ height: {HEIGHT}px; image-rendering: pixelated; vertical-align: middle }}</style>"
    return html(
        escape(dataset.name),
        [
            style,
            f"<h1>{escape(dataset.name)}</h1>",
            f"<table>{lines}</table>",
            "<h2>By class</h2>",
            f"<div class=wide><table>{head}{body}</table></div>",
            more,
            "<p class=note>Training images, drawn by the seed; mixing of two images is not shown"
            f"{less and f'; {less}'}.</p>",
        ],
        figures=False,
    )


def _row(dataset: Dataset, split: Split, recipe: Recipe, label: int, row: dict[str, Any], seed: int) -> str:
    mine = split.train[dataset.labels[split.train] == label]
    counted = "".join(
        f"<td>{'-' if row[name] is None else row[name]}" for name in ("train", "validation", "test")
    )
    if not len(mine):
        return f"<tr><td>{escape(row['class'])}{counted}<td colspan=3 class=text>no training image"
    chosen = np.sort(np.random.default_rng([seed, label]).permutation(mine)[:SHOWN])
    images = np.asarray(dataset.images[chosen])
    return (
        f"<tr><td>{escape(row['class'])}{counted}"
        f"<td class=text>{image(_strip(images))}"
        f"<td class=text>{image(_strip(_augmented(images, recipe, seed)))}"
        f"<td class=text>{image(mean_image(dataset.images, mine))}"
    )


def _augmented(images: NDArray[np.uint8], recipe: Recipe, seed: int) -> NDArray[np.uint8]:
    """Images (N, H, W, C) uint8 to the same, as one epoch of a training has them before normalisation."""
    import torch

    from trainer.data.batches import augmented

    given = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
    found = augmented(given, recipe, torch.Generator().manual_seed(seed))
    return np.ascontiguousarray(found.permute(0, 2, 3, 1).numpy())


def mean_image(images: NDArray[np.uint8], rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The mean, (H, W, C) uint8, of the chosen ones, (N,) int64, of images (M, H, W, C) uint8."""
    total = np.zeros(images.shape[1:], np.float64)
    for part in np.array_split(rows, max(1, len(rows) // 1000)):
        total += images[part].sum(0, dtype=np.float64)
    return np.rint(total / len(rows)).astype(np.uint8)


def _strip(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images (N, H, W, C) uint8 beside each other, (H, N * (W + GAP), C) uint8, on white."""
    padded = np.pad(images, [(0, 0), (0, 0), (0, GAP), (0, 0)], constant_values=255)
    return np.concatenate(list(padded), axis=1)
