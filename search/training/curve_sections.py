"""The learning curves of a full training as parts of its page: loss, accuracy and learning rate by epoch, and
why the training loss lies where it does.

Reads curves in memory; returns HTML. Called by search/training/report.py; confirm_page.py has its axis.
"""

from collections.abc import Callable, Sequence
from math import ceil, isfinite, log10
from typing import Any

import plotly.graph_objects as go

from search.report.data import axis_range
from search.report.parts import COLOURS, panel, paragraph, range_switch, switch
from search.training.run import LearningCurve, TrainingJob
from trainer.outcome import EpochReport
from trainer.recipe import augmentations

HEIGHT = 340  # of figures, pixels
STEPS = (1, 2, 5, 10, 20, 25, 50, 100, 200, 500, 1_000, 2_000)  # between two ticks of an axis of epochs
TICKS = 10  # of such an axis, at most


def learning(job: TrainingJob, curves: Sequence[LearningCurve]) -> list[str]:
    """The section: loss, accuracy and learning rate by epoch."""
    losses = [[(_train_loss, "dot"), (_validation_loss, "solid")], [(_accuracy, "solid")], [(_rate, "solid")]]
    loss, accuracy, rate = (_curves(curves, lines) for lines in losses)
    several = " Each colour is a seed." if len(curves) > 1 else ""
    return [
        panel("Loss", f"Dotted: training, solid: validation, in nats.{several}",
              loss.update_yaxes(title="loss"), HEIGHT, [_loss_switch(loss, curves)]),
        paragraph(loss_note(job, curves), note=True),
        panel("Validation accuracy", f"After each epoch; the last one counts.{several}",
              accuracy.update_yaxes(title="%"), HEIGHT, [_accuracy_switch(accuracy, curves)]),
        panel("Learning rate", "At the end of each epoch.", rate.update_yaxes(title=""), HEIGHT // 2),
    ]  # fmt: skip


def _train_loss(epoch: EpochReport) -> float:
    return epoch.train_loss


def _validation_loss(epoch: EpochReport) -> float:
    return epoch.validation_loss


def _accuracy(epoch: EpochReport) -> float:
    return 100 * epoch.validation_accuracy


def _rate(epoch: EpochReport) -> float:
    return epoch.learning_rate


def _curves(
    curves: Sequence[LearningCurve], lines: Sequence[tuple[Callable[[EpochReport], float], str]]
) -> go.Figure:
    figure = go.Figure()
    for i, curve in enumerate(curves):
        for value, dash in lines:
            figure.add_scatter(
                x=[epoch.epoch for epoch in curve.epochs],
                y=[_plain_number(value(epoch)) for epoch in curve.epochs],
                mode="lines+markers" if len(curve.epochs) < 3 else "lines",
                line={"color": COLOURS[i % len(COLOURS)], "dash": dash, "width": 1.8},
                name=f"seed {curve.seed}",
                legendgroup=str(curve.seed),
                showlegend=dash == "solid",
            )
    figure.update_layout(showlegend=len(curves) > 1)
    return figure.update_xaxes(title="epoch", tick0=0, **epoch_axis(max(len(c.epochs) for c in curves)))


def epoch_axis(epochs: int) -> dict[str, Any]:
    """Ticks at whole epochs."""
    step = next((step for step in STEPS if epochs / step <= TICKS), STEPS[-1])
    return {"dtick": step, "tickformat": "d", "range": [1 - 0.02 * epochs, epochs + 0.02 * epochs]}


def _plain_number(value: float) -> float | None:
    return float(f"{value:.6g}") if isfinite(value) else None


def _loss_switch(figure: go.Figure, curves: Sequence[LearningCurve]) -> str:
    """The logarithmic axis at first, on which the first epoch does not press the others together; beside it
    one that begins at 0 and ends above the last two thirds of the epochs."""
    each = [
        [value for epoch in curve.epochs for value in (epoch.train_loss, epoch.validation_loss)]
        for curve in curves
    ]
    late = [value for one in each for value in one[len(one) // 3 :] if isfinite(value)]
    every = [value for one in each for value in one if isfinite(value) and value > 0]
    if not late or not every:
        return ""
    low, high = log10(min(every)), log10(max(every))
    air = max(0.05 * (high - low), 0.02)
    figure.update_yaxes(
        type="log", range=[low - air, high + air], tickvals=loss_ticks(min(every), max(every))
    )
    return switch(
        {
            "logarithmic": ({}, {"yaxis.type": "log", "yaxis.range": [low - air, high + air],
                                 "yaxis.tickvals": loss_ticks(min(every), max(every))}),
            "from 0, first third clipped": (
                {}, {"yaxis.type": "linear", "yaxis.range": [0, 1.05 * max(late)], "yaxis.tickvals": None}
            ),
        }
    )  # fmt: skip


def loss_ticks(low: float, high: float) -> list[float]:
    """Round values on a logarithmic axis: of each power of ten three, or more where that is few."""
    steps = (1, 2, 5) if high / low > 8 else (1, 1.2, 1.5, 2, 3, 4, 5, 7)
    powers = range(int(log10(low)) - 2, ceil(log10(high)) + 1)
    found = [float(f"{step * 10.0**power:.3g}") for power in powers for step in steps]
    return [value for value in found if 0.97 * low <= value <= 1.03 * high]


def loss_note(job: TrainingJob, curves: Sequence[LearningCurve]) -> str:
    """What is in the training loss and not in the validation loss, and which lies above."""
    last = [curve.epochs[-1] for curve in curves]
    above = sum(epoch.train_loss > epoch.validation_loss for epoch in last)
    causes = _only_in_training(job)
    which = {0: "below", len(last): "above"}.get(above, "in some seeds above, in others below")
    said = f"at the end the training loss lies {which} the validation loss"
    listed = ", ".join(causes)
    while_learning = "it is the mean over an epoch, while the network still learns"
    if above and causes:
        return (
            f"{said}, which is no mistake here: {while_learning}, and holds what is made harder on purpose:"
            f" {listed}. Validation is measured after the epoch, on plain images, without any of it"
        )
    if above:
        return f"{said}: {while_learning}, and validation is measured after it"
    harder = f", though it holds what is made harder on purpose ({listed})" if causes else ""
    return f"{said}{harder}: the network knows its training images better than new ones"


def _only_in_training(job: TrainingJob) -> list[str]:
    """What raises the training loss, in words."""
    recipe, network = job.recipe, job.architecture
    dropout = recipe.dropout is not None or bool(network.block.dropout or network.head.dropout)
    found = [one.what for one in augmentations.augmentations(recipe)]
    found = [f"augmentation ({', '.join(found)})"] if found else []
    found += [f"label smoothing {recipe.label_smoothing:g}"] if recipe.label_smoothing else []
    found += ["dropout"] if dropout else []
    found += [f"drop path {recipe.drop_path:g}"] if recipe.drop_path else []
    found += ["class weights"] if recipe.class_weights != "none" else []
    return found


def _accuracy_switch(figure: go.Figure, curves: Sequence[LearningCurve]) -> str:
    each = [[epoch.validation_accuracy for epoch in curve.epochs] for curve in curves]
    late = [value for one in each for value in one[len(one) // 3 :] if isfinite(value)]
    every = [value for one in each for value in one if isfinite(value)]
    if not late:
        return ""
    figure.update_yaxes(range=axis_range(late))
    return range_switch("after the first third", axis_range(late), axis_range(every))
