"""Spares a network's norms their count of batches while it is trained: all are told afterwards, at once.

BatchNorm counts in a tensor on the device, with an operator for each norm and step, and reads the count only
where its momentum is None, which no network here has. Called by trainer/loop.py for each epoch.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def counted_afterwards(network: nn.Module, steps: Callable[[], int]) -> Iterator[None]:
    """Within, norms do not count; then each count grows by the steps made meanwhile. `steps`: so far."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    counts = [norm.num_batches_tracked for norm in norms]
    before = steps()
    for norm in norms:
        norm.num_batches_tracked = None
    try:
        yield
    finally:
        for norm, count in zip(norms, counts, strict=True):
            norm.num_batches_tracked = count
        if made := steps() - before:
            torch._foreach_add_([count for count in counts if count is not None], made)
