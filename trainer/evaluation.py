"""Evaluates a network: its loss and accuracy on images, and the score of every class for each of them.

Takes a network and tensors on its device, returns numbers. Called by trainer/loop.py after each epoch, and
for test images and predictions by search/training/. In float32 unless another precision is asked for, so that
a result does not depend on that of the training: no TF32 on a GPU either. It knows no training and no data
set.

On a GPU all batches have one shape, for which cuDNN need not choose its algorithms twice: what the last one
lacks is filled up with images that do not count.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.class_scores import ClassScores, class_scores
from trainer.data.batches import Normalisation
from trainer.device import autocast, cudnn_choices

CPU_BATCH = 250  # images
EVALUATED = 8  # times the training's batch at a time on a GPU: nothing is kept of a map
GPU_BYTES = 12 << 20  # of the float32 images of a batch: 1,024 of 32 x 32 pixels in three channels


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
    most: int | None = None,
) -> Evaluation:
    """Loss without label smoothing and accuracies, in evaluation mode.

    images (N, H, W, C) bytes and labels (N,) int64 are on the network's device or the CPU, from which they
    are moved batch by batch; chosen are indices (n,) int64 beside them, None is all. on_part is called
    between batches: an evaluation may take minutes. `most` bounds the images of a batch on a GPU. `training`
    is a mistake that some have made: dropout stays on, norms take the statistics of each batch and learn from
    it.
    """
    if chosen is None:
        chosen = torch.arange(len(labels), device=labels.device)
    network.train(training)
    place = _device(network, images)
    loss, guesses, truths = torch.zeros((), device=place), list[Tensor](), list[Tensor]()
    size = batch_size(place, math.prod(images.shape[1:]), most)
    with torch.inference_mode(), cudnn_choices(place, timed=False):
        for i, (part, count) in enumerate(_parts(chosen, size, place.type == "cuda" and not training)):
            if i and on_part:
                on_part()
            x = normalisation.apply(images.index_select(0, part).to(place).permute(0, 3, 1, 2))
            with autocast(place, precision):
                scores = network(x)[:count].float()
            truths.append(labels.index_select(0, part[:count]).to(place))
            loss += functional.cross_entropy(scores, truths[-1], reduction="sum")
            guesses.append(scores.argmax(1))
        guess, truth = torch.cat(guesses), torch.cat(truths)
        classes = int(torch.maximum(guess.max(), truth.max())) + 1
        right = guess == truth
        counts = [torch.bincount(x, minlength=classes).tolist() for x in (truth[right], truth, guess)]
    return Evaluation(loss.item() / len(chosen), right.sum().item() / len(chosen), class_scores(*counts))


def _device(network: nn.Module, images: Tensor) -> torch.device:
    """Where the network is; one without parameters is where the images (N, H, W, C) bytes are."""
    return next((one.device for one in network.parameters()), images.device)


def batch_size(device: torch.device, numbers: int, most: int | None = None) -> int:
    """Images of so many numbers each that are evaluated at a time: on a GPU by bytes, and at most `most`."""
    if device.type != "cuda":
        return CPU_BATCH
    fitting = GPU_BYTES // (4 * numbers)
    return max(1, fitting if most is None else min(fitting, most))


def _parts(chosen: Tensor, size: int, alike: bool) -> list[tuple[Tensor, int]]:
    """Indices (n,) int64 in parts of at most `size`, each with how many of it count: all, unless alike.

    Parts that are alike have one length, as short as their number allows; the last begins anew at its end.
    """
    if not alike or len(chosen) <= size:
        return [(part, len(part)) for part in torch.split(chosen, size)]
    size = math.ceil(len(chosen) / math.ceil(len(chosen) / size))
    parts = list(torch.split(chosen, size))
    last = parts.pop()
    filled = torch.cat([last, chosen[: size - len(last)]])
    return [(part, size) for part in parts] + [(filled, len(last))]


def scores(
    network: nn.Module,
    images: Tensor,
    normalisation: Normalisation,
    *,
    training: bool = False,
    most: int | None = None,
) -> Tensor:
    """Images (N, H, W, C) bytes, on the network's device or the CPU, from which they are moved batch by
    batch, to its scores (N, classes) float32 on the CPU.

    `most` bounds the images of a batch on a GPU, `training` is that of evaluate().
    """
    network.train(training)
    place = _device(network, images)
    size, alike = batch_size(place, math.prod(images.shape[1:]), most), place.type == "cuda"
    found = []
    with torch.inference_mode(), cudnn_choices(place, timed=False):
        everything = torch.arange(len(images), device=images.device)
        for part, count in _parts(everything, size, alike and not training):
            x = normalisation.apply(images.index_select(0, part).to(place).permute(0, 3, 1, 2))
            found.append(network(x)[:count].float().cpu())
    return torch.cat(found)
