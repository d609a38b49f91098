"""A full training as one self-contained HTML page, and the same as a JSON document.

Reads the learning curves and test results in memory; returns text. Called by search/training/train.py. Its
sections are in curve_sections.py and test_sections.py, the frame of the page and its plots in search/report/.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.report.network_drawing import drawing
from search.report.parts import boxes, contents, facts, html, paragraph, section, table
from search.study.statistics import Spread
from search.study.text import counted, over_seeds, percent, span
from search.training.curve_sections import learning
from search.training.run import LearningCurve, TrainingJob
from search.training.test_sections import sections
from search.training.test_set import TestResult
from space import cost
from trainer.recipe import augmentations, checks


def document(
    job: TrainingJob,
    curves: Sequence[LearningCurve],
    tests: Sequence[TestResult],
    spreads: Mapping[str, Spread],
) -> dict[str, Any]:
    """All that is known of the training, for programs."""
    spent = cost.total(job.architecture)
    by_seed = {test.seed: test for test in tests}
    seeds = []
    for curve in curves:
        test = by_seed.get(curve.seed)
        seeds.append(
            {
                "seed": curve.seed,
                "best_epoch": curve.best_epoch,
                "validation": asdict(curve.outcome),
                "test": asdict(test) if test else None,
                "epochs": [asdict(epoch) for epoch in curve.epochs],
                "weights": job.path(curve.seed, "safetensors").name,
            }
        )
    return job.document() | {
        "fingerprint": job.architecture.fingerprint,
        "parameters": spent.parameters,
        "macs": spent.macs,
        "classes": list(job.images.dataset.classes),
        "mistakes": [mistake.reason for mistake in checks.of_training(job.recipe, job.architecture)],
        "summary": {name: _plain(found) for name, found in spreads.items()},
        "seeds": seeds,
    }


def _plain(found: Spread) -> dict[str, Any]:
    return {"mean": found.mean, "standard_deviation": found.deviation, "interval_95": found.interval}


def page(
    job: TrainingJob,
    curves: Sequence[LearningCurve],
    tests: Sequence[TestResult],
    spreads: Mapping[str, Spread],
    test_images: NDArray[np.uint8] | None = None,
) -> str:
    """The page as text. test_images, (N, H, W, C) uint8: to show those that were mistaken; without them it
    has no pictures."""
    title = escape(f"{job.subject.name} on {job.data.name}")
    parts = [
        section("network", "The network", drawing(job.architecture)),
        section("curves", "Learning curves", learning(job, curves)),
        *(sections(job.images.dataset.classes, tests, test_images) if tests else []),
        section("seeds", "Seeds", [*_seeds(curves, tests), *_others(spreads)]),
        section("made", "How it was made", _made(job)),
    ]
    head = [f"<h1>{title}</h1>", _about(job), _figures(spreads), *_warnings(job)]
    return html(title, [*head, contents(parts), *parts])


def _about(job: TrainingJob) -> str:
    spent = cost.total(job.architecture)
    return paragraph(
        f"{spent.parameters:,} parameters, {spent.macs:,} multiply-accumulates an image ·"
        f" {job.data.train_images:,} training and {job.data.validation_images:,} validation images in"
        f" {len(job.images.dataset.classes)} classes ·"
        f" {counted(job.recipe.epochs, 'epoch')}, {counted(len(job.seeds), 'seed')}",
        note=True,
    )


FIRST = ("test accuracy", "validation accuracy, last epoch", "validation accuracy, best epoch")


def _figures(spreads: Mapping[str, Spread]) -> str:
    """The accuracies, large; scores that count each class the same stand with the seeds."""
    return boxes(
        [(percent(spreads[n].mean), f"{n}: {describe_spread(spreads[n])}") for n in FIRST if n in spreads]
    )


def describe_spread(found: Spread) -> str:
    """What is known beyond the mean."""
    if found.deviation is None:
        return "one seed: how much a seed matters is not known"
    known = over_seeds(found, "95% interval of the mean")
    return f"standard deviation {100 * found.deviation:.2f}, {known}" if found.interval else known


def _warnings(job: TrainingJob) -> list[str]:
    found = checks.of_training(job.recipe, job.architecture)
    return [f"<p><b>Known mistake:</b> {escape(mistake.reason)}</p>" for mistake in found]


def _seeds(curves: Sequence[LearningCurve], tests: Sequence[TestResult]) -> list[str]:
    by_seed = {test.seed: test for test in tests}
    head = ["seed", "validation, last epoch", "best epoch", "which", "test", "test loss", "time", "images/s"]
    rows = []
    for curve in curves:
        outcome, test = curve.outcome, by_seed.get(curve.seed)
        rows.append(
            (
                curve.seed,
                percent(outcome.accuracy),
                percent(outcome.best_accuracy),
                curve.best_epoch,
                percent(test.accuracy) if test else "-",
                f"{test.loss:.3f}" if test else "-",
                span(outcome.seconds),
                f"{outcome.images_per_second:,.0f}",
            )
        )
    sealed = " Test images were read once, at the end, and chose nothing." if tests else ""
    said = f"The weights are those of the last epoch; the best epoch is shown, and chooses nothing.{sealed}"
    return [table(head, rows), paragraph(said, note=True)]


def _others(spreads: Mapping[str, Spread]) -> list[str]:
    """Scores beside accuracy, over the seeds."""
    rows = [
        (name, percent(one.mean), describe_spread(one)) for name, one in spreads.items() if name not in FIRST
    ]
    said = paragraph("these count each class the same, however many images it has", note=True)
    return [table(("score", "mean", "over the seeds"), rows, text=("over the seeds",)), said] if rows else []


def _made(job: TrainingJob) -> list[str]:
    recipe = job.recipe
    shown = {
        "images": f"{job.data.name} ({job.data.spec})",
        "digest": job.data.digest,
        "training": f"{counted(recipe.epochs, 'epoch')}, batches of {recipe.batch_size}, {recipe.optimizer},"
        f" {recipe.planned.name.replace('_', '-')} to {recipe.learning_rate:g}",
        "augmentation": ", ".join(one.what for one in augmentations.augmentations(recipe)) or "none",
        "device": str(job.device),
        "fingerprint": job.architecture.fingerprint,
        "run": job.run,
    }
    return [
        facts(shown),
        "<details><summary>Recipe: what differs from the default</summary>"
        f"<pre>{escape(json.dumps(_recipe(job), indent=1))}</pre></details>",
    ]


def _recipe(job: TrainingJob) -> dict[str, Any]:
    return job.recipe.model_dump(mode="json", exclude_defaults=True)
