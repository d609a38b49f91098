"""Evaluates a network: its loss and accuracy on images, and the score of every class for each of them.

Takes a network and tensors on its device, returns numbers. Called by trainer/loop.py after each epoch, and
for test images and predictions by search/training/. In float32 unless another precision is asked for, so that
a result does not depend on that of the training. It knows no training and no data set.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.class_scores import ClassScores, class_scores
from trainer.data.batches import Normalisation
from trainer.device import autocast

EVALUATION_BATCH = {"cpu": 250, "cuda": 2000}


class Evaluation(NamedTuple):
    """Mean cross-entropy in nats, accuracy 0..1, and the scores that count each class the same."""

    loss: float
    accuracy: float
    by_class: ClassScores


def evaluate(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    normalisation: Normalisation,
    chosen: Tensor | None = None,
    on_part: Callable[[], None] | None = None,
    *,
    training: bool = False,
    precision: torch.dtype = torch.float32,
) -> tuple[float, float]:
    """Mean cross-entropy (nats, no label smoothing) and accuracy 0..1: those of evaluate_classes.

    images (N, H, W, C) bytes and labels (N,) int64 are on the network's device; chosen are indices (n,).
    """
    found = evaluate_classes(
        network,
        images,
        labels,
        normalisation,
        chosen,
        on_part,
        training=training,
        precision=precision,
    )
    return found.loss, found.accuracy


def evaluate_classes(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    normalisation: Normalisation,
    chosen: Tensor | None = None,
    on_part: Callable[[], None] | None = None,
    *,
    training: bool = False,
    precision: torch.dtype = torch.float32,
) -> Evaluation:
    """Loss without label smoothing and accuracies, in evaluation mode.

    images (N, H, W, C) bytes and labels (N,) int64 are on the network's device; chosen are indices (n,)
    int64, None is all. on_part is called between batches: an evaluation may take minutes. `training` is a
    mistake that some have made: dropout stays on, norms take the statistics of each batch and learn from it.
    """
    if chosen is None:
        chosen = torch.arange(len(labels), device=labels.device)
    network.train(training)
    loss, guesses = torch.zeros((), device=images.device), list[Tensor]()
    with torch.inference_mode():
        for i, part in enumerate(torch.split(chosen, EVALUATION_BATCH[images.device.type])):
            if i and on_part:
                on_part()
            x = normalisation.apply(images.index_select(0, part).permute(0, 3, 1, 2))
            with autocast(images.device, precision):
                scores = network(x).float()
            loss += functional.cross_entropy(scores, labels[part], reduction="sum")
            guesses.append(scores.argmax(1))
        guess, truth = torch.cat(guesses), labels[chosen]
        classes = int(torch.maximum(guess.max(), truth.max())) + 1
        right = guess == truth
        counts = [torch.bincount(x, minlength=classes).tolist() for x in (truth[right], truth, guess)]
    return Evaluation(loss.item() / len(chosen), right.sum().item() / len(chosen), class_scores(*counts))


def scores(
    network: nn.Module, images: Tensor, normalisation: Normalisation, *, training: bool = False
) -> Tensor:
    """Images (N, H, W, C) bytes, on the network's device, to its scores (N, classes) float32 on the CPU."""
    network.train(training)
    with torch.inference_mode():
        parts = torch.split(images, EVALUATION_BATCH[images.device.type])
        found = [network(normalisation.apply(part.permute(0, 3, 1, 2))).float().cpu() for part in parts]
    return torch.cat(found)
