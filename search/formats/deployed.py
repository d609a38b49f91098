"""A trained network with its normalisation inside, as it is exported and run: bytes in, scores out.

Takes weights that trainer/weights.py read; loads torch. Called by search/formats/write.py and check.py.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainer.data.batches import Normalisation

BATCH = 250  # images at a time


class Deployed(nn.Module):
    """Images (N, C, S, S), bytes 0..255, to scores (N, classes) float32."""

    def __init__(self, network: nn.Module, normalisation: Normalisation) -> None:
        super().__init__()
        self.network = network
        mean, deviation = (torch.tensor(x).view(1, -1, 1, 1) for x in
                           (normalisation.mean, normalisation.deviation))  # fmt: skip
        self.register_buffer("mean", mean)
        self.register_buffer("scale", 1 / deviation)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, S, S) uint8 to scores (N, classes) float32; shares where the head has a softmax."""
        x = (images.float() - self.get_buffer("mean")) * self.get_buffer("scale")
        scores: Tensor = self.network(x)
        return scores


def scores(network: nn.Module, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What a network of bytes (N, C, S, S) says of each image: (N, classes) float32."""
    with torch.inference_mode():
        parts = torch.split(torch.from_numpy(np.ascontiguousarray(images)), BATCH)
        found: NDArray[np.float32] = torch.cat([network(part).float() for part in parts]).numpy()
    return found
