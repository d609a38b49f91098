"""A full training as one self-contained HTML page, and the same as a JSON document.

Reads the learning curves and test results in memory; returns text. Called by search/training/train.py.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from html import escape
from typing import Any

import plotly.graph_objects as go

from search.report.parts import draw, html
from search.study.short_form import summary
from search.study.statistics import Spread
from search.study.text import counted, percent, span
from search.training.run import LearningCurve, TrainingJob
from search.training.test_set import TestResult
from space import cost
from trainer.outcome import EpochReport
from trainer.recipe import checks

HEIGHT, CONFUSION_HEIGHT = 360, 560  # of figures, pixels
COLOURS = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2")


def document(
    job: TrainingJob,
    curves: Sequence[LearningCurve],
    tests: Sequence[TestResult],
    spreads: Mapping[str, Spread],
) -> dict[str, Any]:
    """All that is known of the training, for programs."""
    spent = cost.total(job.architecture)
    seeds = []
    for i, curve in enumerate(curves):
        seeds.append(
            {
                "seed": curve.seed,
                "best_epoch": curve.best_epoch,
                "validation": asdict(curve.outcome),
                "test": asdict(tests[i]) if tests else None,
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
) -> str:
    """The page as text."""
    title = escape(job.subject.name)
    parts = [f"<h1>{title}</h1>", _about(job), _figures(spreads), *_warnings(job)]
    parts += ["<h2>Seeds</h2>", _seeds(curves, tests)]
    for name, unit, value in CURVES:
        parts += [f"<h2>{name}</h2>", draw(_curves(curves, unit, value), HEIGHT)]
    if tests:
        classes = job.images.dataset.classes
        parts += ["<h2>Test accuracy by class</h2>", draw(_by_class(classes, tests), HEIGHT)]
        parts += [
            "<h2>Who is taken for whom</h2>",
            _note(tests),
            draw(_confusion(classes, tests), CONFUSION_HEIGHT),
        ]
    parts += [
        "<h2>Recipe: what differs from the default</h2>",
        f"<pre>{escape(json.dumps(_recipe(job), indent=1))}</pre>",
    ]
    return html(title, parts)


def _about(job: TrainingJob) -> str:
    spent = cost.total(job.architecture)
    return (
        f"<p>{escape(summary(job.architecture))}</p><p class=note>{spent.parameters:,} parameters,"
        f" {spent.macs:,} multiply-accumulates an image · {escape(job.data.name)},"
        f" {job.data.train_images:,} training and {job.data.validation_images:,} validation images ·"
        f" {counted(job.recipe.epochs, 'epoch')}, batches of {job.recipe.batch_size}, {job.recipe.optimizer},"
        f" {escape(job.recipe.planned.name.replace('_', '-'))} to {job.recipe.learning_rate:g}</p>"
    )


def _figures(spreads: Mapping[str, Spread]) -> str:
    boxes = "".join(
        f"<div class=figure><b>{percent(found.mean)}</b>{escape(name)}<br>"
        f"<span class=note>{escape(describe_spread(found))}</span></div>"
        for name, found in spreads.items()
    )
    return f"<div class=figures>{boxes}</div>"


def describe_spread(found: Spread) -> str:
    """What is known beyond the mean."""
    if found.deviation is None:
        return "one seed: how much a seed matters is not known"
    return f"standard deviation {100 * found.deviation:.2f}, 95% interval of the mean {found.interval}"


def _warnings(job: TrainingJob) -> list[str]:
    found = checks.of_training(job.recipe, job.architecture)
    return [f"<p><b>Known mistake:</b> {escape(mistake.reason)}</p>" for mistake in found]


def _seeds(curves: Sequence[LearningCurve], tests: Sequence[TestResult]) -> str:
    lines = []
    for i, curve in enumerate(curves):
        outcome = curve.outcome
        tested = f"<td>{percent(tests[i].accuracy)}<td>{tests[i].loss:.3f}" if tests else "<td>-<td>-"
        lines.append(
            f"<tr><td>{curve.seed}<td>{percent(outcome.accuracy)}<td>{percent(outcome.best_accuracy)}"
            f"<td>{curve.best_epoch}{tested}<td>{span(outcome.seconds)}<td>{outcome.images_per_second:,.0f}"
        )
    head = (
        "<tr><th>seed<th>validation, last epoch<th>best epoch<th>which<th>test<th>test loss"
        "<th>time<th>images/s"
    )
    return (
        f"<table>{head}{''.join(lines)}</table><p class=note>The weights are those of the last epoch; the"
        " best epoch is shown, and chooses nothing. Test images were read once, at the end.</p>"
    )


def _rate(epoch: EpochReport) -> float:
    return epoch.learning_rate


CURVES: tuple[tuple[str, str, tuple[tuple[str, Callable[[EpochReport], float], str], ...]], ...] = (
    (
        "Loss",
        "nats",
        (
            ("training", lambda epoch: epoch.train_loss, "dot"),
            ("validation", lambda epoch: epoch.validation_loss, "solid"),
        ),
    ),
    ("Validation accuracy", "%", (("", lambda epoch: 100 * epoch.validation_accuracy, "solid"),)),
    ("Learning rate", "at the end of the epoch", (("", _rate, "solid"),)),
)


def _curves(
    curves: Sequence[LearningCurve],
    unit: str,
    lines: tuple[tuple[str, Callable[[EpochReport], float], str], ...],
) -> go.Figure:
    figure = go.Figure()
    for i, curve in enumerate(curves):
        for name, value, dash in lines:
            figure.add_scatter(
                x=[epoch.epoch for epoch in curve.epochs],
                y=[value(epoch) for epoch in curve.epochs],
                mode="lines+markers" if len(curve.epochs) < 3 else "lines",
                line={"color": COLOURS[i % len(COLOURS)], "dash": dash},
                name=f"seed {curve.seed}{', ' * bool(name)}{name}",
            )
    figure.update_layout(showlegend=True)
    return figure.update_xaxes(title="epoch").update_yaxes(title=unit)


def _by_class(classes: Sequence[str], tests: Sequence[TestResult]) -> go.Figure:
    figure = go.Figure()
    for i, test in enumerate(tests):
        figure.add_bar(
            x=list(classes),
            y=[None if share is None else 100 * share for share in test.by_class],
            name=f"seed {test.seed}",
            marker={"color": COLOURS[i % len(COLOURS)]},
        )
    figure.update_layout(showlegend=True)
    return figure.update_xaxes(type="category").update_yaxes(title="%")


def _note(tests: Sequence[TestResult]) -> str:
    seeds = "all seeds together" if len(tests) > 1 else f"seed {tests[0].seed}"
    return f"<p class=note>Test images, {seeds}; a row is a class, in % of its images.</p>"


def _confusion(classes: Sequence[str], tests: Sequence[TestResult]) -> go.Figure:
    size = range(len(classes))
    counts = [[sum(test.confusion[i][j] for test in tests) for j in size] for i in size]
    shares = [[100 * count / sum(row) if sum(row) else 0 for count in row] for row in counts]
    few = len(classes) <= 20
    figure = go.Figure(
        go.Heatmap(
            z=shares,
            x=list(classes),
            y=list(classes),
            customdata=counts,
            colorscale="Blues",
            texttemplate="%{z:.1f}" if few else None,
            hovertemplate="%{y} taken for %{x}: %{z:.1f}%, %{customdata} images<extra></extra>",
        )
    )
    figure.update_xaxes(title="taken for", type="category")
    return figure.update_yaxes(title="is", type="category", autorange="reversed")


def _recipe(job: TrainingJob) -> dict[str, Any]:
    return job.recipe.model_dump(mode="json", exclude_defaults=True)
