"""A data set on the device, handed out in shuffled, augmented, normalised batches.

Reads a Dataset and a Split of trainer/data/dataset.py, writes nothing. Called by trainer/loop.py, and for
its normalisation by whatever evaluates. Images stay bytes until they are used, so a data set takes a quarter
of its float32 size. Knows no network.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from trainer.augmentation import affine
from trainer.augmentation.crop_flip import augment, cutout, flip_vertical, random_erasing
from trainer.augmentation.policy import apply_policy
from trainer.constants import constant
from trainer.data.dataset import Dataset, Split
from trainer.recipe.document import Recipe

CHUNK_BYTES = {"cpu": 4 << 20, "cuda": 16 << 20}  # augmented, normalised images take 16 times as much


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of each channel, in grey levels 0..255."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def apply(self, x: Tensor) -> Tensor:
        """(N, C, H, W) uint8 to (N, C, H, W) float32 of mean 0 and deviation 1 in each channel."""
        shape = (1, -1, 1, 1)
        mean, deviation = (constant(of, x.device).view(shape) for of in (self.mean, self.deviation))
        return x.float().sub_(mean).mul_(1 / deviation)


@dataclass(frozen=True)
class DeviceDataset:
    """A data set on a device: images (N, H, W, C) uint8, labels (N,) int64.

    train and validation are int64 indices into both.
    """

    images: Tensor
    labels: Tensor
    train: Tensor
    validation: Tensor
    normalisation: Normalisation

    def steps(self, batch_size: int) -> int:
        """Batches in an epoch: the last one is dropped when it is not full, unless it is the only one."""
        return max(1, len(self.train) // batch_size)

    def order(self, generator: Generator) -> Tensor:
        """A random order of the training images: positions in `train`, (N,) int64."""
        return torch.randperm(len(self.train), generator=generator, device=self.train.device)

    def balance(self) -> Tensor:
        """What an image of each class counts so that all classes count alike, (classes,) float32, mean 1."""
        counts = torch.bincount(self.labels[self.train], minlength=int(self.labels.max()) + 1)
        return len(self.train) / (len(counts) * counts.clamp(min=1)).float()

    def epoch(
        self, recipe: Recipe, generator: Generator, kind: torch.dtype = torch.float32
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """One pass in random order: images (B, C, H, W) of `kind`, channels last, and labels (B,) int64.

        With jensen_shannon there are three views of every image, (3B, C, H, W): the batch, and twice its
        AugMix variants. B is the recipe's batch size, or less where there are fewer training images.
        """
        kept = self.train[self.order(generator)[: self.steps(recipe.batch_size) * recipe.batch_size]]
        size = recipe.batch_size
        for chunk in torch.split(kept, self._chunk(size)):
            pixels = self.images.index_select(0, chunk).permute(0, 3, 1, 2)
            views = [
                self._finished(view, recipe, generator).to(kind) for view in _views(pixels, recipe, generator)
            ]
            batches = zip(*(torch.split(view.to(kind), size) for view in views), strict=True)
            for batch, labels in zip(batches, torch.split(self.labels[chunk], size), strict=True):
                yield batch[0] if len(batch) == 1 else torch.cat(batch), labels

    def _finished(self, pixels: Tensor, recipe: Recipe, generator: Generator) -> Tensor:
        """(N, C, H, W) uint8 to (N, C, H, W) float32."""
        return _blanked(self.normalisation.apply(pixels), recipe, generator)

    def _chunk(self, batch_size: int) -> int:
        """Images to augment at once: whole batches, and few enough to stay in a cache."""
        image = self.images[0].numel()
        return max(1, CHUNK_BYTES[self.images.device.type] // (image * batch_size)) * batch_size


def _views(pixels: Tensor, recipe: Recipe, generator: Generator) -> list[Tensor]:
    """Augmented copies of images (N, C, H, W) uint8: one, or three where views are compared."""
    padding = recipe.crop_padding
    if recipe.enlarge:
        pixels, padding = affine.enlarged_window(pixels, recipe.enlarge, padding, generator), 0
    x = augment(pixels, padding, recipe.flip, generator, recipe.crop_edge)
    if recipe.flip_vertical:
        x = flip_vertical(x, generator)
    if recipe.rotation:
        x = affine.random_rotation(x, recipe.rotation, generator)
    policy = recipe.expanded_policy
    if policy is None:
        return [x]
    if recipe.jensen_shannon:
        return [x, apply_policy(x, policy, generator), apply_policy(x, policy, generator)]
    return [apply_policy(x, policy, generator)]


def _blanked(x: Tensor, recipe: Recipe, generator: Generator) -> Tensor:
    """Images (N, C, H, W) float32, of which 0 is the mean grey, after cutout and random erasing."""
    if recipe.cutout:
        x = cutout(x, recipe.cutout, generator)
    return random_erasing(x, recipe.random_erasing, generator) if recipe.random_erasing else x


def augmented(pixels: Tensor, recipe: Recipe, generator: Generator) -> Tensor:
    """Images (N, C, H, W) uint8 to the same, as a training has them, blanked parts in the mean colour, to be
    looked at."""
    x = _views(pixels, recipe, generator)[0]
    if not (recipe.cutout or recipe.random_erasing):
        return x
    mean = x.float().mean((0, 2, 3), keepdim=True)
    return _blanked(x.float() - mean, recipe, generator).add(mean).round().clamp(0, 255).byte()


@lru_cache(maxsize=1)
def feed(dataset: Dataset, split: Split, device: torch.device) -> DeviceDataset:
    """The data set on the device: moved and measured once in a process, however many trainings it runs.

    Splits of one data set share its images there.
    """
    feed.cache_clear()  # whatever is kept of another data set is freed before this one is moved
    images, labels = on_device(dataset, device)
    return DeviceDataset(
        images=images,
        labels=labels,
        train=torch.from_numpy(split.train).to(device),
        validation=torch.from_numpy(split.validation).to(device),
        normalisation=measure(dataset.images, split.train),
    )


@lru_cache(maxsize=1)
def on_device(dataset: Dataset, device: torch.device) -> tuple[Tensor, Tensor]:
    """Images (N, H, W, C) uint8 and labels (N,) int64 of a data set on the device, moved once in a process.

    All of them, whatever the split: that of a study's finals may be another than that of its trials, and
    search/launcher/workers_per_gpu.py counts on one copy in each worker of a GPU.
    """
    on_device.cache_clear()
    return torch.from_numpy(dataset.images).to(device), torch.from_numpy(dataset.labels).to(device)


def measure(images: NDArray[np.uint8], indices: NDArray[np.int64]) -> Normalisation:
    """Mean and deviation of each channel over the chosen ones, (M,) int64, of images (N, H, W, C) uint8.

    A constant channel counts as of deviation 1.
    """
    channels = images.shape[3]
    total, square = np.zeros(channels), np.zeros(channels)
    for chunk in np.array_split(indices, max(1, len(indices) // 1000)):
        pixels = images[chunk].reshape(-1, channels).astype(np.float32)
        total += pixels.sum(0, dtype=np.float64)
        square += np.square(pixels, out=pixels).sum(0, dtype=np.float64)
    count = len(indices) * images.shape[1] * images.shape[2]
    mean = total / count
    deviation = np.sqrt(np.maximum(square / count - mean**2, 1.0))
    return Normalisation(tuple(mean.tolist()), tuple(deviation.tolist()))
