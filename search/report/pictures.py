"""An image of a data set as part of a page. Called by data_page.py and by the report of a full training."""

import base64
import io
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

COLOURED = (1, 3)  # channels that a picture has: grey, or red, green and blue


def image(pixels: NDArray[np.uint8], text: str = "") -> str:
    """Pixels (H, W, C) uint8 as an HTML image that needs no file; `text` is what it shows. Of other than 1
    or 3 channels the first is drawn, in grey."""
    file = io.BytesIO()
    drawn(pixels).save(file, "png")
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img alt="{escape(text)}" title="{escape(text)}" src="data:image/png;base64,{data}">'


def drawn(pixels: NDArray[np.uint8]) -> Image.Image:
    """Pixels (H, W, C) uint8 as a picture, which has no channel for opacity."""
    return Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0])


def first_alone(channels: int) -> str:
    """What to say where images are shown of so many channels; empty where all of them are."""
    return "" if channels in COLOURED else f"of {channels} channels the first, in grey"
