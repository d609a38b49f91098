"""One step of a training: forward, backward and update by one batch, and the sum of the losses so far.

Made by trainer/loop.py for a training and by trainer/throughput.py to time one; trainer/step_graph.py records
it. Between two steps nothing of it changes but tensors on the device, the learning rate among them on a GPU:
what is recorded once can be repeated. It knows no data set and no schedule.
"""

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from trainer import optimizers
from trainer.augmentation.mixup import Targets
from trainer.cast_weights import CastWeights, is_worthwhile
from trainer.device import autocast, training_type
from trainer.loss import loss as losses
from trainer.recipe.document import Recipe


class TrainingStep:
    """Trains a network by batches, one at a call. `total` is the sum of their losses, () float32."""

    def __init__(
        self, network: nn.Module, recipe: Recipe, device: torch.device, class_weights: Tensor | None = None
    ) -> None:
        """`class_weights`, (classes,) float32, are those of the loss."""
        self.network, self.recipe, self.device = network, recipe, device
        self.optimizer = optimizers.build(network, recipe, device)
        self.precision = training_type(recipe, device)
        self.class_weights = class_weights
        self.total = torch.zeros((), device=device)
        self._cast = CastWeights(network) if is_worthwhile(device, self.precision) else None
        self._rate = torch.zeros((), device=device) if optimizers.is_fused(recipe, device) else None

    @property
    def emitted(self) -> torch.dtype:
        """What batches come in: on a GPU that of the convolutions, so that it is not each step's to cast.

        Images that are mixed stay float32 until they are.
        """
        is_mixed = self.recipe.mixup > 0 or self.recipe.cutmix > 0
        return self.precision if self._cast and not is_mixed else torch.float32

    def set_rate(self, rate: float, momentum: float | None) -> None:
        """The learning rate of the next step, and its momentum unless that is None.

        On a GPU the rate is a tensor there: a step that was recorded reads it, and nobody waits, since a
        number that fills a tensor travels with the launch.
        """
        if self._rate is None:
            optimizers.set_rate(self.optimizer, rate, momentum)
        else:
            optimizers.set_rate(self.optimizer, self._rate.fill_(rate), momentum)

    def __call__(self, x: Tensor, targets: Targets) -> None:
        """Trains on images (N, C, H, W), float32 or in the training's precision, and their targets."""
        self.optimizer.zero_grad()
        with self._cast.lent() if self._cast else nullcontext():
            with autocast(self.device, self.precision):
                loss = losses(self.network(x), targets, self.recipe, self.class_weights)
            loss.backward()  # type: ignore[no-untyped-call]
        optimizers.clip_gradients(self.network, self.recipe)
        optimizers.advance(self.optimizer)
        self.total += loss.detach()
