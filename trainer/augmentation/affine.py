"""Turns, shears, shifts and enlarges images, each by its own amount, a whole batch at once on its device.

Takes and returns tensors, and reads nothing else; every draw comes from the generator that is given. Called
by trainer/augmentation/operations.py and trainer/data/batches.py.

A transformation is a matrix (N, 2, 3) from places in the result to places in the image, in pixels from its
upper left corner. Whole pixels are taken, as Pillow does by default; what lies outside is black.
"""

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional

from trainer.constants import constant


def warp(x: Tensor, matrix: Tensor) -> Tensor:
    """Images (N, C, H, W) of any type to the same shape and type, by `matrix` (N, 2, 3) float32."""
    n, channels, height, width = x.shape
    rows, columns = torch.meshgrid(_centres(x, height), _centres(x, width), indexing="ij")
    places = torch.stack([columns.flatten(), rows.flatten(), torch.ones_like(rows).flatten()])
    source = torch.floor(matrix @ places + 1e-4)  # a place on the edge of two pixels is the second's
    column, row = source[:, 0].long(), source[:, 1].long()
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    where = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
    taken = x.reshape(n, channels, -1).gather(2, where[:, None].expand(n, channels, -1))
    black = torch.zeros((), dtype=x.dtype, device=x.device)
    return torch.where(inside[:, None], taken, black).view(x.shape)


def shear(x: Tensor, amount: Tensor, axis: int) -> Tensor:
    """Images (N, C, H, W) of any type, moved by `amount` (N,) float32 pixels for each pixel across.

    Axis 0: to the left or right for each pixel down; axis 1: up or down for each pixel to the right.
    """
    matrix = _identity(x)
    matrix[:, axis, 1 - axis] = amount
    return warp(x, matrix)


def shift(x: Tensor, amount: Tensor, axis: int) -> Tensor:
    """Images (N, C, H, W) of any type, moved by `amount` (N,) float32 along axis 0 (right) or 1 (down)."""
    matrix = _identity(x)
    matrix[:, axis, 2] = -torch.trunc(amount)
    return warp(x, matrix)


def rotate(x: Tensor, degrees: Tensor) -> Tensor:
    """Images (N, C, H, W) of any type, turned counter-clockwise about the centre by `degrees` (N,)."""
    angle = degrees * (math.pi / 180)
    cosine, sine = torch.cos(angle), torch.sin(angle)
    middle = constant((x.shape[3] / 2, x.shape[2] / 2), x.device)
    turn = torch.stack([torch.stack([cosine, -sine], 1), torch.stack([sine, cosine], 1)], 1)
    offset = middle - turn @ middle
    return warp(x, torch.cat([turn, offset[:, :, None]], 2))


def random_rotation(x: Tensor, degrees: float, generator: Generator) -> Tensor:
    """Images (N, C, H, W) of any type, each turned by a random angle between -degrees and degrees."""
    angle = torch.rand(len(x), generator=generator, device=x.device) * 2 - 1
    return rotate(x, angle * degrees)


def enlarged_window(x: Tensor, side: int, padding: int, generator: Generator) -> Tensor:
    """A random window of each image, once it is scaled to `side` pixels and padded by zeros.

    x (N, C, S, S) of any type to the same shape and type. Bilinear; the scaled image is never made.
    """
    size = x.shape[2]
    span = side + 2 * padding - size
    start = torch.randint(span + 1, (len(x), 2), generator=generator, device=x.device) - padding
    middle = (start + size / 2) / side * 2 - 1  # columns and rows, where the image is -1..1
    grid = torch.zeros(len(x), 2, 3, device=x.device)
    grid[:, 0, 0] = grid[:, 1, 1] = size / side
    grid[:, :, 2] = middle
    places = functional.affine_grid(grid, list(x.shape), align_corners=False)
    y = functional.grid_sample(x.float(), places, align_corners=False)
    return y.round_().to(x.dtype)


def _centres(x: Tensor, size: int) -> Tensor:
    """The middle of each of so many pixels, (size,) float32, on the device of x, (...) of any type."""
    return torch.arange(size, device=x.device) + 0.5


def _identity(x: Tensor) -> Tensor:
    """The matrix that changes nothing, (N, 2, 3) float32, for each image of x, (N, C, H, W) of any type."""
    return torch.eye(2, 3, device=x.device).repeat(len(x), 1, 1)
