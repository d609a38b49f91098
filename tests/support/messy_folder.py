"""Writes a folder of pictures with all at once that people's folders have: `python messy_folder.py DIR`.

37 classes of letters and digits drawn as grey glyphs, in several sizes and modes: RGBA with hidden colours,
palettes, EXIF turns, 16 bits, CMYK; copies in test/ and across classes; a link to pictures that lie
elsewhere; a tiny class, damaged files, notes.
"""

import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageDraw, ImageFont

CLASSES = (*"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", "none")
TINY = ("none",)  # has three training pictures
TRAIN, TEST = 24, 6
TEXT_FILES = 10
LINKED = 4


def glyph(name: str, seed: int) -> Image.Image:
    """The letter, black on white, a little moved and of its own size: 24x24 to 90x70, as grey."""
    random = np.random.default_rng([seed, *name.encode()])
    width, height = int(random.integers(24, 91)), int(random.integers(24, 71))
    image = Image.new("L", (width, height), 255)
    size = int(0.8 * min(width, height))
    place = (width // 2 + int(random.integers(-3, 4)), height // 2 + int(random.integers(-3, 4)))
    text = "" if name == "none" else name
    ImageDraw.Draw(image).text(place, text, fill=0, font=ImageFont.load_default(size), anchor="mm")
    pixels = np.asarray(image).astype(int) - random.integers(0, 30, (height, width))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def save(image: Image.Image, path: Path, kind: int) -> None:
    """In one of several ways, each of which shows the same picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == 0:  # black ink on nothing, with a colour hidden in the nothing
        ink = Image.new("RGBA", image.size, (0, 0, 0, 255))
        hidden = Image.new("RGBA", image.size, (200, 30, 90, 0))
        Image.composite(hidden, ink, image).save(path.with_suffix(".png"))
    elif kind == 1:
        image.convert("P").save(path.with_suffix(".gif"))
    elif kind == 2:  # a phone that was held on its side
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6
        image.transpose(Image.Transpose.ROTATE_90).save(path.with_suffix(".jpg"), exif=exif, quality=95)
    elif kind == 3:
        Image.fromarray(np.asarray(image).astype(np.uint16) * 257).save(path.with_suffix(".png"))
    elif kind == 4:
        image.convert("RGB").save(path.with_suffix(".jfif"), format="jpeg", quality=95)
    elif kind == 5:
        image.convert("CMYK").save(path.with_suffix(".jpg"), quality=95)
    else:
        image.save(path.with_suffix(".png"))


def write(root: Path) -> Path:
    """The folder, the same whenever it is written."""
    for part, count, first in (("train", TRAIN, 0), ("test", TEST, 1000)):
        for name in CLASSES:
            for i in range(3 if name in TINY and part == "train" else count):
                save(glyph(name, first + i), root / part / name / f"{i:03}", i % 9)
    train, test = root / "train", root / "test"
    for i in (6, 7, 8, 15):  # pictures of train/ in test/ as well
        shutil.copy(train / "A" / f"{i:03}.png", test / "A" / f"again{i}.png")
    shutil.copy(train / "O" / "006.png", train / "0" / "of-the-letter-O.png")
    shutil.copy(train / "B" / "006.png", train / "B" / "copy.png")
    for i in range(LINKED):  # pictures that lie elsewhere, in a folder that a class has a link to
        save(glyph("F", 500 + i), root / ".elsewhere" / f"{i:03}", i)
    (train / "F" / "more").symlink_to(Path("..", "..", ".elsewhere"))
    for i in range(TEXT_FILES):
        (train / "C" / f"{i}.txt").write_text("notes")
    (train / "D" / "broken.png").write_bytes(b"no picture")
    whole = (train / "E" / "006.png").read_bytes()
    (train / "E" / "cut.png").write_bytes(whole[: len(whole) // 2])
    return root


if __name__ == "__main__":
    write(Path(sys.argv[1]))
