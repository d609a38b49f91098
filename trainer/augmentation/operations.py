"""The operations that augmentation policies are made of, on a batch in which each image has its own amount.

Each takes images as bytes (N, C, H, W), with 1 or 3 channels, and amounts (N,) float32 in the units that it
says, and returns new images of the same shape and type. Called by trainer/augmentation/policy.py by the names
of OPERATIONS. Where one setting serves a whole batch torchvision's kernel does the work, unless a GPU would
be waited for in it. It knows no policy.

The operations are those of AutoAugment (Cubuk et al., 2018, arXiv 1805.09501), as Pillow carries them out.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from trainer.augmentation import affine
from trainer.constants import constant

Operation = Callable[[Tensor, Tensor], Tensor]


def brightness(x: Tensor, amount: Tensor) -> Tensor:
    """Bytes (N, C, H, W), towards black (-1) or away from it (1)."""
    return _blend(x, torch.zeros_like(x), amount)


def color(x: Tensor, amount: Tensor) -> Tensor:
    """Bytes (N, C, H, W), towards grey (-1) or away from it (1)."""
    return _blend(x, _grey(x), amount)


def contrast(x: Tensor, amount: Tensor) -> Tensor:
    """Bytes (N, C, H, W), towards their mean grey (-1) or away from it (1)."""
    return _blend(x, _grey(x).floor().mean((1, 2, 3), keepdim=True), amount)


def sharpness(x: Tensor, amount: Tensor) -> Tensor:
    """Bytes (N, C, H, W), towards a blurred image (-1) or away from it (1)."""
    return _blend(x, _blurred(x), amount)


def posterize(x: Tensor, amount: Tensor) -> Tensor:
    """Bytes (N, C, H, W), of whose values the highest `amount` bits are kept."""
    mask = (256 - 2 ** (8 - amount.round().int())).to(torch.uint8)
    return x & mask.view(-1, 1, 1, 1)


def solarize(x: Tensor, amount: Tensor) -> Tensor:
    """Bytes (N, C, H, W), inverted where they are at least `amount`; white is 1."""
    return torch.where(x >= (amount * 255).view(-1, 1, 1, 1), 255 - x, x)


def autocontrast(x: Tensor, _amount: Tensor) -> Tensor:
    """Bytes (N, C, H, W), each channel stretched from black to white; one of a single grey stays."""
    y = x.float()
    darkest, brightest = y.amin((2, 3), keepdim=True), y.amax((2, 3), keepdim=True)
    flat = darkest == brightest
    step = ((brightest - darkest) * (1 / 255)).masked_fill_(flat, 1.0)
    return y.sub_(darkest.masked_fill_(flat, 0.0)).div_(step).clamp_(0, 255).to(torch.uint8)


def equalize(x: Tensor, _amount: Tensor) -> Tensor:
    """Bytes (N, C, H, W), each channel with as many pixels of every brightness: its histogram is levelled."""
    from torchvision.transforms.v2 import functional

    return torch.as_tensor(functional.equalize(x))


def invert(x: Tensor, _amount: Tensor) -> Tensor:
    """Bytes (N, C, H, W), black for white."""
    return 255 - x


def identity(x: Tensor, _amount: Tensor) -> Tensor:
    """Bytes (N, C, H, W), returned as they are."""
    return x


OPERATIONS: dict[str, Operation] = {
    "Identity": identity,
    "ShearX": lambda x, amount: affine.shear(x, amount, 0),
    "ShearY": lambda x, amount: affine.shear(x, amount, 1),
    "TranslateX": lambda x, amount: affine.shift(x, amount, 0),
    "TranslateY": lambda x, amount: affine.shift(x, amount, 1),
    "Rotate": affine.rotate,
    "Brightness": brightness,
    "Color": color,
    "Contrast": contrast,
    "Sharpness": sharpness,
    "Posterize": posterize,
    "Solarize": solarize,
    "AutoContrast": autocontrast,
    "Equalize": equalize,
    "Invert": invert,
}


def _grey(x: Tensor) -> Tensor:
    """Brightness (N, 1, H, W), float32 0..255, of bytes (N, C, H, W); weights of ITU-R BT.601."""
    if x.shape[1] == 1:
        return x.float()
    weights = constant((0.2989, 0.587, 0.114), x.device).view(1, 3, 1, 1)
    return (x * weights).sum(1, keepdim=True)


def _blurred(x: Tensor) -> Tensor:
    """Bytes (N, C, H, W), each pixel but those of the edge mixed with the eight around it."""
    channels, height, width = x.shape[1:]
    if min(height, width) <= 2:
        return x
    kernel = constant((1 / 13,) * 4 + (5 / 13,) + (1 / 13,) * 4, x.device).view(3, 3)
    y = x.float()
    inside = functional.conv2d(y, kernel.expand(channels, 1, 3, 3), groups=channels).round_()
    y[:, :, 1:-1, 1:-1] = inside
    return y.clamp_(0, 255).to(torch.uint8)


def _blend(x: Tensor, other: Tensor, amount: Tensor) -> Tensor:
    """Bytes (N, C, H, W) between `other` (amount -1) and x (0), and beyond x (1); amount (N,) float32."""
    share = (1 + amount).view(-1, 1, 1, 1)
    return (share * x + (1 - share) * other).clamp(0, 255).to(torch.uint8)
