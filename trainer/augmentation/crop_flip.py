"""Random crops, mirror images, cutout and random erasing, of a whole batch at once and on its device.

Takes and returns images (N, C, H, W); channels-last in memory is fast, and what comes back is channels-last.
Every draw comes from the generator that is given, so a seed fixes it. Called by trainer/data/batches.py.
Knows no data set and no network.
"""

import math
from typing import Literal

import torch
from torch import Generator, Tensor
from torch.nn import functional

Edge = Literal["reflect", "zero"]
ERASED_AREA = (0.02, 0.33)  # least and most, as shares of the image
ERASED_RATIO = (0.3, 1 / 0.3)  # height to width


def crop(x: Tensor, padding: int, generator: Generator, mode: Edge = "reflect") -> Tensor:
    """Pad every side by `padding` pixels, then cut a random window of the old size out of each image.

    x (N, C, H, W) of any type to the same shape and type (He et al., arXiv 1512.03385, section 4.2).
    """
    return _window(x, padding, False, generator, mode)


def flip(x: Tensor, generator: Generator) -> Tensor:
    """Mirror each image of x, (N, C, H, W) of any type, left to right with probability one half."""
    return _window(x, 0, True, generator, "reflect")


def flip_vertical(x: Tensor, generator: Generator) -> Tensor:
    """Mirror each image of x, (N, C, H, W) of any type, top to bottom with probability one half."""
    chosen = torch.rand(len(x), generator=generator, device=x.device) < 0.5
    return torch.where(chosen[:, None, None, None], x.flip(2), x)


def augment(x: Tensor, padding: int, mirrored: bool, generator: Generator, mode: Edge = "reflect") -> Tensor:
    """A crop and a flip in one pass over the pixels; x itself when there is nothing to do.

    x (N, C, H, W) of any type to the same shape and type.
    """
    return _window(x, padding, mirrored, generator, mode) if padding or mirrored else x


def _window(x: Tensor, padding: int, mirrored: bool, generator: Generator, mode: Edge) -> Tensor:
    """A random window, mirrored or not, of each image of x: (N, C, H, W) of any type to the same."""
    if mode == "zero":
        x = functional.pad(x, [padding] * 4)
    border = padding if mode == "zero" else 0
    rows = _line(x, x.shape[2] - 2 * border, padding, generator, mode)
    columns = _line(x, x.shape[3] - 2 * border, padding, generator, mode)
    if mirrored:
        chosen = torch.rand(len(x), generator=generator, device=x.device) < 0.5
        columns = torch.where(chosen[:, None], columns.flip(1), columns)
    return _gather(x, rows, columns)


def _line(x: Tensor, size: int, padding: int, generator: Generator, mode: Edge) -> Tensor:
    """Which row or column of its image each position of a window shows, (N, size) int64.

    x (N, C, H, W) of any type says how many images there are, and on which device.
    """
    start = torch.randint(2 * padding + 1, (len(x), 1), generator=generator, device=x.device)
    position = start + torch.arange(size, device=x.device)
    if mode == "zero":
        return position
    last = size - 1
    return last - (last - (position - padding).abs()).abs()


def _gather(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Pixels of x, (N, C, H, W) of any type, by `rows` (N, h) and `columns` (N, w) int64: (N, C, h, w).

    One copy of whole pixels by their position in memory: four times as fast as indexing each axis. Positions
    are int32 where they fit, which is half of the memory that an augmentation takes.
    """
    n, channels, height, width = x.shape
    pixels = x.permute(0, 2, 3, 1).reshape(-1, channels)
    kind = torch.int32 if len(pixels) <= torch.iinfo(torch.int32).max else torch.int64
    first = torch.arange(n, device=x.device, dtype=kind)[:, None, None] * (height * width)
    where = first + rows.to(kind)[:, :, None] * width + columns.to(kind)[:, None, :]
    chosen = pixels.index_select(0, where.reshape(-1))
    return chosen.view(n, rows.shape[1], columns.shape[1], channels).permute(0, 3, 1, 2)


def cutout(x: Tensor, side: int, generator: Generator) -> Tensor:
    """Blanks a square of so many pixels a side around a random pixel of each image.

    x (N, C, H, W) float32, normalised, so that 0 is the mean grey. Cutout: DeVries and Taylor, 2017 (arXiv
    1708.04552).
    """
    n, _, height, width = x.shape
    centres = torch.rand(2, n, 1, generator=generator, device=x.device)
    inside = []
    for centre, size in zip(centres, (height, width), strict=True):
        first = (centre * size).floor() - side // 2
        position = torch.arange(size, device=x.device)
        inside.append((position >= first) & (position < first + side))
    box = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return x.masked_fill(box, 0.0)


def random_erasing(x: Tensor, likely: float, generator: Generator) -> Tensor:
    """Blanks a rectangle inside of each image, with this probability: 2 to 33% of its area, 3:10 to 10:3.

    x (N, C, H, W) float32, normalised, so that 0 is the mean grey. Zhong et al., 2017 (arXiv 1708.04896), in
    the ranges of torchvision.transforms.v2.RandomErasing. A side that the image does not hold is cut to the
    image instead of drawn again, so that no device is waited for.
    """
    n, _, height, width = x.shape
    chosen, area, shape, *places = torch.rand(5, n, 1, generator=generator, device=x.device)
    pixels = (ERASED_AREA[0] + (ERASED_AREA[1] - ERASED_AREA[0]) * area) * (height * width)
    ratio = (math.log(ERASED_RATIO[0]) + math.log(ERASED_RATIO[1] / ERASED_RATIO[0]) * shape).exp()
    inside = []
    for side, size, place in zip(((pixels * ratio).sqrt(), (pixels / ratio).sqrt()), (height, width), places,
                                 strict=True):  # fmt: skip
        side = side.round().clamp(1, size)
        first = (place * (size - side + 1)).floor()
        position = torch.arange(size, device=x.device)
        inside.append((position >= first) & (position < first + side))
    box = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return x.masked_fill(box & (chosen < likely)[:, :, None, None], 0.0)
