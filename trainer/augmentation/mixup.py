"""MixUp and CutMix, which make batches whose images are mixtures of two of theirs.

Takes a batch and its labels, returns the mixed batch and the targets that trainer/loss.py weighs. Called by
trainer/loop.py for each step. One share is drawn for a whole batch, on the host from torch's own generator,
so no device is waited for: it goes there as an argument of what is launched.
"""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.distributions import Beta

from trainer.recipe.document import Recipe


@dataclass(frozen=True)
class Targets:
    """Labels (N,) int64; of mixed images also those of the other image, and both shares, 0..1 in all.

    Shares are numbers, or tensors () float32 where a recorded step reads them.
    """

    labels: Tensor
    others: Tensor | None = None
    share: float | Tensor = 1.0  # of the first image
    rest: float | Tensor = 0.0  # of the other


def mixed(x: Tensor, labels: Tensor, recipe: Recipe, generator: Generator) -> tuple[Tensor, Targets]:
    """Mixes each image with a random other one as the recipe says; by turns at random if it says both.

    x (N, C, H, W) float32 to the same, and its labels (N,) int64 to targets. MixUp: Zhang et al., 2017 (arXiv
    1710.09412); CutMix: Yun et al., 2019 (arXiv 1905.04899).
    """
    if not recipe.mixup and not recipe.cutmix:
        return x, Targets(labels)
    partner = torch.randperm(len(x), generator=generator, device=x.device)
    cut = not recipe.mixup or (recipe.cutmix > 0 and bool(torch.rand(()) < 0.5))
    alpha = recipe.cutmix if cut else recipe.mixup
    share = float(Beta(torch.tensor(alpha), torch.tensor(alpha), validate_args=False).sample())
    if cut:
        x, share = _cut(x, x[partner], share)
    else:
        x = x.lerp(x[partner], 1 - share)
    return x, Targets(labels, labels[partner], share, 1 - share)


def _cut(x: Tensor, other: Tensor, share: float) -> tuple[Tensor, float]:
    """A box of about 1 - share of the area comes from `other`; the share that is left to x.

    Both are (N, C, H, W) float32, and so is the result.
    """
    height, width = x.shape[2:]
    side = (1 - share) ** 0.5
    row, column = (int(torch.randint(size, ())) for size in (height, width))
    top, bottom = (min(height, max(0, round(row + half * side * height))) for half in (-0.5, 0.5))
    left, right = (min(width, max(0, round(column + half * side * width))) for half in (-0.5, 0.5))
    x = x.clone(memory_format=torch.preserve_format)
    x[:, :, top:bottom, left:right] = other[:, :, top:bottom, left:right]
    return x, 1 - (bottom - top) * (right - left) / (height * width)
