"""Image files as they are trained: upright, on one ground, of one depth, in a square."""

from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from trainer.data import dataset as datasets, images as image_files
from trainer.data.images import Picture

# What a camera stores for each orientation, so that a viewer shows the same upright scene.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def scene(width: int = 96, height: int = 64) -> Image.Image:
    """Red above blue, with a white quarter at the upper left: no turn and no mirror leaves it as it is."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2] = (200, 0, 0)
    pixels[height // 2 :] = (0, 0, 200)
    pixels[: height // 2, : width // 2] = 255
    return Image.fromarray(pixels)


def photograph(path: Path, orientation: int, image: Image.Image | None = None) -> Path:
    """The scene as a camera stores it that was held otherwise."""
    turn = STORED[orientation]
    image = image or scene()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    (image.transpose(turn) if turn is not None else image).save(path, exif=exif)
    return path


def decoded(path: Path, size: int = 16, mode: str = "RGB") -> np.ndarray:
    return image_files.decoded([Picture(str(path), 0, 0, 0)], size, mode)[0].astype(int)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_as_its_exif_says(orientation: int, suffix: str, tmp_path: Path) -> None:
    plain = tmp_path / f"plain.{suffix}"
    scene().save(plain)
    path = photograph(tmp_path / f"turned.{suffix}", orientation)
    assert abs(decoded(path) - decoded(plain)).max() <= 12, "as upright, but for the compression"
    with Image.open(path) as image:
        assert image_files.upright_size(image) == (96, 64)


def test_turning_comes_before_the_cut(tmp_path: Path) -> None:
    wide = Image.new("RGB", (96, 32), (0, 200, 0))
    wide.paste((200, 0, 0), (0, 0, 24, 32))
    wide.paste((0, 0, 200), (72, 0, 96, 32))
    found = decoded(photograph(tmp_path / "a.png", 6, wide), 8)
    assert found.tolist() == [[[0, 200, 0]] * 8] * 8, "the red and the blue end are cut off, nothing else"


def test_an_exif_that_cannot_be_read_turns_nothing(tmp_path: Path) -> None:
    scene().save(tmp_path / "a.jpg", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\x7f")
    scene().save(tmp_path / "b.jpg")
    assert np.array_equal(decoded(tmp_path / "a.jpg"), decoded(tmp_path / "b.jpg"))


def test_a_folder_of_photographs_is_trained_and_classified_upright(tmp_path: Path) -> None:
    for orientation in range(1, 9):
        photograph(tmp_path / "train" / "a" / f"{orientation}.jpg", orientation)
        photograph(tmp_path / "train" / "b" / f"{orientation}.jpg", orientation)
    dataset = datasets.load(f"folder:{tmp_path}", tmp_path / "data", 16)
    spread = dataset.images.astype(int).max(0) - dataset.images.astype(int).min(0)
    assert spread.max() <= 12, "one scene sixteen times"
    assert dataset.images[0, 2, 12].tolist()[0] > 150 > dataset.images[0, 2, 12].tolist()[2]


def test_a_cache_of_before_is_not_taken_for_one_of_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        for i in range(2):
            photograph(tmp_path / "train" / name / f"{i}.png", 6)
    monkeypatch.setattr("trainer.data.sources.DECODING", 1)
    before = datasets.load(f"folder:{tmp_path}", tmp_path / "data", 8).cache
    monkeypatch.undo()
    assert datasets.load(f"folder:{tmp_path}", tmp_path / "data", 8).cache != before
