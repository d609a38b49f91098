"""Constants as tensors on a device: each is made there once in a process.

Reads nothing. Called by what is done to every batch in trainer/data and trainer/augmentation: a constant that
is made anew comes from the host, and a GPU is waited for until it has come.
"""

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=256)
def constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """The values, (n,) float32, on the device; whoever gets them changes nothing in them."""
    with torch.inference_mode(False):  # else what is made while evaluating could not be trained with
        return torch.tensor(values, device=device)
