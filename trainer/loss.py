"""Losses of a batch: cross-entropy on mixed targets, and the Jensen-Shannon divergence of AugMix.

Takes scores and targets, returns a scalar to differentiate. Called by trainer/training_step.py.
"""

import torch
from torch import Tensor
from torch.nn import functional

from trainer.augmentation.mixup import Targets
from trainer.recipe.document import Recipe


def loss(scores: Tensor, targets: Targets, recipe: Recipe, weights: Tensor | None = None) -> Tensor:
    """Mean cross-entropy in nats, () float32, with what the recipe adds to it.

    scores (N, classes) float32 or bfloat16. weights (classes,) float32 is what an image of each class counts;
    None: all the same. With jensen_shannon they are (3N, classes), of three views of
    each image, one after another, and the cross-entropy is of the first (Hendrycks et al., 2019, arXiv
    1912.02781). Label smoothing: Szegedy et al., 2015 (arXiv 1512.00567).
    """
    views = scores.chunk(3) if recipe.jensen_shannon else (scores,)
    smoothing = recipe.label_smoothing
    entropy = functional.cross_entropy(views[0], targets.labels, weights, label_smoothing=smoothing)
    if targets.others is not None:
        other = functional.cross_entropy(views[0], targets.others, weights, label_smoothing=smoothing)
        entropy = targets.share * entropy + targets.rest * other
    if len(views) == 3:
        entropy = entropy + recipe.jensen_shannon * jensen_shannon(views)
    return entropy


def jensen_shannon(views: tuple[Tensor, ...]) -> Tensor:
    """Mean divergence, in nats, of the class probabilities of some views from their mean, () float32.

    views are scores (N, classes), float32 or bfloat16. The divergence: Lin, 1991.
    """
    logs = [functional.log_softmax(view.float(), 1) for view in views]
    mean = torch.stack([log.exp() for log in logs]).mean(0).clamp(1e-7, 1).log()
    parts = [functional.kl_div(mean, log, reduction="batchmean", log_target=True) for log in logs]
    return torch.stack(parts).mean()
