"""The usual hand-written PyTorch training loop, to compare with. Called by training.py and plain.py.

A DataLoader with two workers, torchvision's transforms image by image, float32, SGD with momentum, batches of
128, a one-cycle schedule stepped per batch. Written for comparison alone; nothing of Parsimony's trainer is
used but the network, so that both sides train the same one.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

MEAN, DEVIATION = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


@dataclass(frozen=True)
class Settings:
    """The same numbers for both sides."""

    epochs: int
    batch_size: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    loader_workers: int = 2


class Pictures(Dataset[tuple[Tensor, int]]):
    """Images (N, H, W, C) bytes as PIL images, transformed one by one."""

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.int64], train: bool) -> None:
        self.images, self.labels = images, labels
        channels = images.shape[3]
        normalise = transforms.Normalize(MEAN[:channels], DEVIATION[:channels])
        moves = [
            transforms.RandomCrop(images.shape[1], padding=images.shape[1] // 8),
            transforms.RandomHorizontalFlip(),
        ]
        self.transform = transforms.Compose([*(moves if train else []), transforms.ToTensor(), normalise])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        pixels = self.images[index]
        picture = transforms.functional.to_pil_image(pixels)
        return self.transform(picture), int(self.labels[index])


@dataclass(frozen=True)
class Trained:
    """Mean training loss (nats) of the last epoch; seconds and images of training, seconds of each epoch."""

    loss: float
    seconds: float
    images: int
    epoch_seconds: tuple[float, ...] = ()


def train(
    network: nn.Module,
    part: tuple[NDArray[np.uint8], NDArray[np.int64]],
    settings: Settings,
    seed: int,
    on_epoch: Callable[[int], None] | None = None,
) -> Trained:
    """The loop. on_epoch(epoch from 1), where given, may raise to stop it."""
    torch.manual_seed(seed)
    device = usual_device()
    network.to(device)
    loader = DataLoader(
        Pictures(*part, train=True),
        batch_size=settings.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=settings.loader_workers,
        persistent_workers=settings.loader_workers > 0,
        pin_memory=device.type == "cuda",
    )
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        nesterov=True,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=settings.learning_rate, total_steps=settings.epochs * len(loader)
    )
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    started, loss, ends = time.perf_counter(), 0.0, list[float]()
    for epoch in range(1, settings.epochs + 1):
        network.train()
        loss = 0.0
        for images, labels in loader:
            images, labels = images.to(device), labels.to(device)
            optimizer.zero_grad()
            found = criterion(network(images), labels)
            found.backward()
            optimizer.step()
            schedule.step()
            loss += found.item()
        loss /= len(loader)
        ends.append(time.perf_counter())
        if on_epoch:
            on_epoch(epoch)
    seconds = time.perf_counter() - started
    each = tuple(end - begun for begun, end in zip([started, *ends], ends, strict=False))
    return Trained(loss, seconds, settings.epochs * len(loader) * settings.batch_size, each)


def usual_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def evaluate(
    network: nn.Module, part: tuple[NDArray[np.uint8], NDArray[np.int64]], settings: Settings
) -> float:
    """Accuracy 0..1."""
    pictures, device = Pictures(*part, train=False), usual_device()
    loader = DataLoader(pictures, batch_size=settings.batch_size, num_workers=settings.loader_workers)
    network.eval()
    correct = 0
    with torch.no_grad():
        for images, labels in _on(loader, device):
            correct += int((network(images).argmax(1) == labels).sum().item())
    return correct / len(pictures)


def _on(loader: DataLoader[tuple[Tensor, int]], device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    for images, labels in loader:
        yield images.to(device), labels.to(device)
