"""Losses of a batch: cross-entropy on mixed targets, and the Jensen-Shannon divergence of AugMix."""

import torch
from torch import Tensor
from torch.nn import functional

from trainer.augmentation.mixup import Targets
from trainer.recipe.document import Recipe


def loss(scores: Tensor, targets: Targets, recipe: Recipe) -> Tensor:
    """Mean cross-entropy in nats, with what the recipe adds to it.

    With jensen_shannon the scores are of three views of each image, one after another; the cross-entropy is
    of the first (arXiv 1912.02781).
    """
    views = scores.chunk(3) if recipe.jensen_shannon else (scores,)
    smoothing = recipe.label_smoothing
    entropy = functional.cross_entropy(views[0], targets.labels, label_smoothing=smoothing)
    if targets.others is not None:
        other = functional.cross_entropy(views[0], targets.others, label_smoothing=smoothing)
        entropy = targets.share * entropy + (1 - targets.share) * other
    if len(views) == 3:
        entropy = entropy + recipe.jensen_shannon * jensen_shannon(views)
    return entropy


def jensen_shannon(views: tuple[Tensor, ...]) -> Tensor:
    """Mean divergence, in nats, of the class probabilities of views (N, classes) from their mean."""
    logs = [functional.log_softmax(view.float(), 1) for view in views]
    mean = torch.stack([log.exp() for log in logs]).mean(0).clamp(1e-7, 1).log()
    parts = [functional.kl_div(mean, log, reduction="batchmean", log_target=True) for log in logs]
    return torch.stack(parts).mean()
