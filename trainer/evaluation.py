"""Evaluates a network: its loss and accuracy on images, and the score of every class for each of them.

Takes a network and tensors on its device, returns numbers. Called by trainer/loop.py after each epoch, and
for test images and predictions by search/training/. In float32 unless another precision is asked for, so that
a result does not depend on that of the training. It knows no training and no data set.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.data.batches import Normalisation
from trainer.device import autocast

EVALUATION_BATCH = {"cpu": 250, "cuda": 2000}


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
    """Mean cross-entropy (nats, no label smoothing) and accuracy 0..1, in evaluation mode.

    images (N, H, W, C) bytes and labels (N,) int64 are on the network's device; chosen are indices (n,)
    int64, None is all. on_part is called between batches: an evaluation may take minutes. `training` is a
    mistake that some have made: dropout stays on, norms take the statistics of each batch and learn from it.
    """
    if chosen is None:
        chosen = torch.arange(len(labels), device=labels.device)
    network.train(training)
    loss, correct = torch.zeros((), device=images.device), torch.zeros((), device=images.device)
    with torch.inference_mode():
        for i, part in enumerate(torch.split(chosen, EVALUATION_BATCH[images.device.type])):
            if i and on_part:
                on_part()
            x = normalisation.apply(images.index_select(0, part).permute(0, 3, 1, 2))
            with autocast(images.device, precision):
                scores = network(x).float()
            loss += functional.cross_entropy(scores, labels[part], reduction="sum")
            correct += (scores.argmax(1) == labels[part]).sum()
    return loss.item() / len(chosen), correct.item() / len(chosen)


def scores(
    network: nn.Module, images: Tensor, normalisation: Normalisation, *, training: bool = False
) -> Tensor:
    """Images (N, H, W, C) bytes, on the network's device, to its scores (N, classes) float32 on the CPU."""
    network.train(training)
    with torch.inference_mode():
        parts = torch.split(images, EVALUATION_BATCH[images.device.type])
        found = [network(normalisation.apply(part.permute(0, 3, 1, 2))).float().cpu() for part in parts]
    return torch.cat(found)
