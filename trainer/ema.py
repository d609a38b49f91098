"""An exponential moving average of a network's weights: often better than the weights, never trained.

Reads the weights of the network that is trained, and keeps a copy of its own. Made and stepped by
trainer/loop.py, evaluated in place of the network. Averaging: Polyak and Juditsky, 1992.
"""

from copy import deepcopy
from itertools import chain

from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Average:
    """A network that follows the weights, and the statistics of the norms, of the one that is trained."""

    def __init__(self, trained: nn.Module, decay: float) -> None:
        self.network = deepcopy(trained).requires_grad_(False)
        self.decay = decay
        pairs = list(zip(_state(self.network), _state(trained), strict=True))
        floats = [pair for pair in pairs if pair[0].is_floating_point()]
        self._kept, self._now = [kept for kept, _ in floats], [now.detach() for _, now in floats]
        self._counts = [pair for pair in pairs if not pair[0].is_floating_point()]

    def update(self, step: int) -> None:
        """Takes in the weights after step 1, 2, ...

        The decay is min(decay, (1 + step) / (10 + step)), as TensorFlow's ExponentialMovingAverage has it: it
        begins low, so that the first weights are soon forgotten.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        get_ema_multi_avg_fn(decay)(self._kept, self._now, step)  # type: ignore[no-untyped-call]

    def take_counts(self) -> None:
        """Copies how many batches the norms saw, which no norm here reads: after an epoch is soon enough."""
        for kept, now in self._counts:
            kept.copy_(now)


def _state(network: nn.Module) -> list[Tensor]:
    """Parameters and buffers, (...) of any shape: floats, and int64 for the counts of the norms."""
    return list(chain(network.parameters(), network.buffers()))
