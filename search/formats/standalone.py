"""What every exported Python file has beside its network: how pictures and weights are read.

search/formats/python_source.py copies this text, from the line below the marker on, and sets the constants.
Nothing here may import anything of this project: torch, Pillow, numpy and the standard library are all that a
file that stands alone has. Pictures become the bytes that trainer/data/images.py makes of them; a test holds
the two equal.
"""

import hashlib
import json
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

CHANNELS, SIDE = 3, 32
FIT, BITS = "pad", 16
WEIGHTS, SHA256 = "best.safetensors", ""

# copied from here on
TURNS = {  # by EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
TYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64}


def read(path: str | Path) -> Tensor:
    """A picture of any size and kind as the network was shown pictures: (1, CHANNELS, SIDE, SIDE) bytes.

    Turned as its EXIF says, laid on white where it is transparent, brought to 8 bits, made square by FIT.
    Raises ValueError where the network takes no pictures, by its channels.
    """
    if CHANNELS not in (1, 3):
        raise ValueError(f"pictures have 1 or 3 channels, and this network takes {CHANNELS}: give it tensors")
    mode = "L" if CHANNELS == 1 else "RGB"
    with Image.open(path) as image:
        image.draft(mode, (SIDE, SIDE))
        image.load()
        turned: Image.Image = image
        damaged = (OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError)
        with suppress(*damaged, struct.error):  # of its EXIF
            orientation = int(image.getexif().get(ExifTags.Base.Orientation, 1))
            turned = image.transpose(TURNS[orientation]) if orientation in TURNS else image
        pixels = np.array(_squared(_on_white(_of_8_bits(turned)).convert(mode)))
    return torch.from_numpy(pixels.reshape(1, SIDE, SIDE, CHANNELS)).permute(0, 3, 1, 2).contiguous()


def _of_8_bits(image: Image.Image) -> Image.Image:
    """Grey levels of up to BITS bits as 8 bits; pictures of 8 bits as they are."""
    if not image.mode.startswith(("I", "F")):
        return image
    levels = np.asarray(image).astype(np.int64)
    if image.mode == "F" or levels.min() < 0:
        raise ValueError("floating-point or negative pixels: save it with 8 or 16 bits a pixel")
    return Image.fromarray((levels >> max(0, BITS - 8)).clip(0, 255).astype(np.uint8))


def _on_white(image: Image.Image) -> Image.Image:
    """A transparent picture laid on white; others as they are."""
    if image.mode not in ("RGBA", "LA", "PA", "RGBa", "La") and "transparency" not in image.info:
        return image
    image = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _squared(image: Image.Image) -> Image.Image:
    """SIDE x SIDE pixels: the whole picture with its outermost pixels repeated, or cut, or stretched."""
    if image.size == (SIDE, SIDE):
        return image
    if FIT == "crop":
        return ImageOps.fit(image, (SIDE, SIDE), Image.Resampling.BICUBIC)
    if FIT == "stretch":
        return image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    longest = max(image.size)
    width, height = (max(1, round(side * SIDE / longest)) for side in image.size)
    inside = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
    beside = [((SIDE - side) // 2, SIDE - side - (SIDE - side) // 2) for side in (height, width)]
    return Image.fromarray(np.pad(inside, [*beside, (0, 0)][: inside.ndim], mode="edge"))


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file in the format safetensors, by name; those that belong to this file, by sha256.

    8 bytes for the length of the header, the header (JSON: type, shape and place of each tensor), the values.
    """
    data = Path(path).read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    if hashlib.sha256(data[begin:]).hexdigest() != SHA256:
        raise ValueError(f"{path} holds other weights than the {WEIGHTS} that was written with this file")
    header, found = json.loads(data[8:begin]), {}
    for name, entry in header.items():
        if name != "__metadata__":
            first, last = entry["data_offsets"]
            values = bytearray(data[begin + first : begin + last])
            found[name] = torch.frombuffer(values, dtype=TYPES[entry["dtype"]]).reshape(entry["shape"])
    return found
