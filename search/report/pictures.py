"""An image of a data set as part of a page. Called by data_page.py and by the report of a full training."""

import base64
import io
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def image(pixels: NDArray[np.uint8], text: str = "") -> str:
    """Pixels (H, W, 1 or 3) uint8 as an HTML image that needs no file; `text` is what it shows."""
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(file, "png")
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img alt="{escape(text)}" title="{escape(text)}" src="data:image/png;base64,{data}">'
