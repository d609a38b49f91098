"""Image files as they are trained: upright, on one ground, of one depth, in a square."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st
from PIL import ExifTags, Image

from search.formats import standalone
from space.errors import DataError
from trainer.data import dataset as datasets, images as image_files
from trainer.data.images import FITS, Fit, Picture, Scaling

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


def oddly_typed(path: Path, kind: int) -> Path:
    """A TIFF that says of where its pixels begin that it is a text (2), a fraction (5, 10), bytes (7) or a
    floating-point number (11, 12)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scene().save(path)
    content = bytearray(path.read_bytes())
    at = content.index(struct.pack("<HHI", 273, 4, 1))
    if kind in (5, 10, 12):  # 8 bytes of a value lie elsewhere
        content[at + 8 : at + 12] = struct.pack("<I", len(content))
        content += struct.pack("<d", 8.0) if kind == 12 else struct.pack("<II", 8, 1)
    content[at + 2 : at + 4] = struct.pack("<H", kind)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", [2, 5, 7, 10, 11, 12])
def test_a_tiff_whose_tags_have_other_types_is_damaged_and_named(kind: int, tmp_path: Path) -> None:
    for name in ("a", "b"):
        photograph(tmp_path / f"pictures/train/{name}/good.png", 1)
        photograph(tmp_path / f"pictures/train/{name}/other.png", 1, scene(40, 30))
    oddly_typed(tmp_path / "pictures/train/a/odd.tif", kind)
    given = (f"folder:{tmp_path / 'pictures'}", tmp_path / "data", 8)
    with pytest.raises(DataError, match=r"cannot read a picture of .*train/a/odd\.tif \(.+\); "):
        datasets.load(*given)
    assert len(datasets.load(*given, skip_damaged=True).labels) == 4


def test_an_orientation_that_is_no_number_is_upright(tmp_path: Path) -> None:
    for i, value in enumerate((float("inf"), float("nan"), -1e30)):
        tag = struct.pack("<HHIf", ExifTags.Base.Orientation, 11, 1, value)
        exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + tag + bytes(4)
        path = tmp_path / f"{i}.jpg"
        scene().save(path, exif=exif)
        with Image.open(path) as image:
            assert image.getexif()[ExifTags.Base.Orientation] == pytest.approx(value, nan_ok=True)
        scene().save(tmp_path / "plain.jpg")
        assert np.array_equal(decoded(path), decoded(tmp_path / "plain.jpg"))
        assert standalone.read(path).equal(standalone.read(tmp_path / "plain.jpg"))


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


# Notes of no use, beside the orientation: a resolution and a width in letters, a negative unit.
ODD_NOTES = {
    "resolution": (0x011A, 2, 4, b"abc\0"),
    "width": (0x0100, 2, 4, b"abc\0"),
    "unit": (0x0128, 8, 1, struct.pack("<hh", -5, 0)),
}


def with_odd_note(path: Path, note: str) -> Path:
    """The scene on its side, as orientation 6 says, and beside that a note that no camera writes."""
    tag, kind, count, value = ODD_NOTES[note]
    entries = sorted([(0x0112, 3, 1, struct.pack("<HH", 6, 0)), (tag, kind, count, value)])
    body = b"".join(struct.pack("<HHL", *entry[:3]) + entry[3] for entry in entries)
    exif = b"Exif\0\0II*\0" + struct.pack("<LH", 8, len(entries)) + body + bytes(4)
    scene().transpose(STORED[6]).save(path, exif=exif)
    return path


@pytest.mark.parametrize("note", ODD_NOTES)
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_a_photograph_with_an_odd_note_is_turned_all_the_same(
    note: str, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = with_odd_note(tmp_path / f"odd.{suffix}", note)
    plain = photograph(tmp_path / f"plain.{suffix}", 6)
    assert np.array_equal(decoded(path), decoded(plain))
    monkeypatch.setattr(standalone, "SIDE", 16)
    monkeypatch.setattr(standalone, "FIT", "crop")
    assert standalone.read(path).equal(standalone.read(plain)), "and by an exported file"
    with Image.open(path) as image:
        assert image_files.upright_size(image) == (96, 64)


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
    monkeypatch.setattr("trainer.data.picture_folder.DECODING", 1)
    before = datasets.load(f"folder:{tmp_path}", tmp_path / "data", 8).cache
    monkeypatch.undo()
    assert datasets.load(f"folder:{tmp_path}", tmp_path / "data", 8).cache != before


def see_through(path: Path, hidden: tuple[int, ...], mode: str) -> Path:
    """A picture whose left half is black ink, and whose right half is nothing but has a hidden colour."""
    image = Image.new("RGBA", (16, 16), (*hidden, 0))
    image.paste((0, 0, 0, 255), (0, 0, 8, 16))
    path.parent.mkdir(parents=True, exist_ok=True)
    if mode == "P":
        image = Image.new("P", (16, 16), 1)
        image.putpalette([0, 0, 0, *hidden])
        image.paste(0, (0, 0, 8, 16))
        image.save(path, transparency=1)
    else:
        image.convert(mode).save(path)
    return path


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white_whatever_is_hidden_there(mode: str, tmp_path: Path) -> None:
    for name, hidden in (("a", (0, 0, 0)), ("b", (200, 30, 90))):
        found = decoded(see_through(tmp_path / f"{name}.png", hidden, mode))
        assert found[:, :8].max() == 0
        assert found[:, 8:].min() == 255


def test_half_transparent_ink_is_mixed_with_white(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (0, 0, 100, 51)).save(tmp_path / "a.png")
    assert decoded(tmp_path / "a.png", 8)[0, 0].tolist() == [204, 204, 224]


def test_hidden_colours_do_not_make_a_grey_folder_coloured(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for i in range(3):
            see_through(tmp_path / "train" / name / f"{i}.png", (200, 10 * i, 0), "RGBA")
    assert datasets.load(f"folder:{tmp_path}", tmp_path / "data").channels == 1


def deep(path: Path, levels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(levels).save(path)
    return path


def test_deep_pictures_of_a_folder_are_scaled_by_one_number(tmp_path: Path) -> None:
    for name, level in (("a", 1000), ("b", 4000)):
        for i in range(2):
            deep(tmp_path / "train" / name / f"{i}.png", np.full((8, 8), level + i, np.uint16))
    deep(tmp_path / "test" / "a" / "0.png", np.full((8, 8), 60_000, np.uint16))
    dataset = datasets.load(f"folder:{tmp_path}", tmp_path / "data")
    assert dataset.scaling.bits == 12
    assert dataset.images[:, 0, 0, 0].tolist() == [1000 >> 4, 1001 >> 4, 4000 >> 4, 4001 >> 4]
    assert dataset.open_test()[0].min() == 255, "brighter than all that was trained"
    assert dataset.survey and (dataset.survey.deep, dataset.survey.bits) == (4, 12)


def test_numbers_of_32_bits_are_scaled_too(tmp_path: Path) -> None:
    for name, level in (("a", 1 << 20), ("b", 1 << 24)):
        for i in range(2):
            deep(tmp_path / "train" / name / f"{i}.tif", np.full((8, 8), level + i, np.int32))
    dataset = datasets.load(f"folder:{tmp_path}", tmp_path / "data")
    assert dataset.images[:, 0, 0, 0].tolist() == [8, 8, 128, 128]


@pytest.mark.parametrize(
    ("levels", "why"),
    [
        (np.full((8, 8), 0.5, np.float32), "its pixels are floating-point numbers"),
        (np.full((8, 8), -5, np.int32), "it has negative pixels"),
    ],
)
def test_what_cannot_be_scaled_is_refused_by_name(levels: np.ndarray, why: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        deep(tmp_path / "train" / name / "0.png", np.full((8, 8), 7, np.uint8))
    deep(tmp_path / "train" / "b" / "1.tif", levels)
    with pytest.raises(DataError, match=rf"train/b/1\.tif \({why}; save it with 8 or 16 bits"):
        datasets.load(f"folder:{tmp_path}", tmp_path / "data")


def png_of_16_bits(path: Path, *levels: int) -> None:
    """8x8 pixels of 16 bits, which Pillow does not write: grey and opacity, RGB, or RGBA."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    path.parent.mkdir(parents=True, exist_ok=True)
    rows = (b"\0" + b"".join(struct.pack(">H", level) for level in levels) * 8) * 8
    header = struct.pack(">IIBBBBB", 8, 8, 16, {2: 4, 3: 2, 4: 6}[len(levels)], 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


def test_colours_of_16_bits_are_taken_by_their_upper_8_or_refused_where_these_are_black(
    tmp_path: Path,
) -> None:
    for name in ("a", "b"):
        for i in range(2):
            png_of_16_bits(tmp_path / "train" / name / f"{i}.png", *3 * [(200 << 8) + i])
    assert (datasets.load(f"folder:{tmp_path}", tmp_path / "data").images == 200).all()
    png_of_16_bits(tmp_path / "train" / "b" / "dark.png", 4095, 4095, 4095)
    with pytest.raises(DataError, match=r"train/b/dark\.png \(its colours of 16 bits are all but black"):
        datasets.load(f"folder:{tmp_path}", tmp_path / "data")


@pytest.mark.parametrize("colours", [1, 3])
def test_opacity_of_16_bits_hides_no_colours_that_are_black(colours: int, tmp_path: Path) -> None:
    for name, opacity in (("opaque", 65_535), ("ink", 30_000)):
        png_of_16_bits(tmp_path / f"{name}.png", *colours * [4095], opacity)
    with (
        Image.open(tmp_path / "opaque.png") as image,
        pytest.raises(ValueError, match="16 bits are all but black"),
    ):
        image_files.depth(image)
    with Image.open(tmp_path / "ink.png") as image:
        assert image_files.depth(image) is None, "black ink on white, as it is meant"


def test_a_dark_picture_of_8_bits_is_none_of_these(tmp_path: Path) -> None:
    for suffix in ("png", "bmp", "tif", "jpg", "ppm"):
        Image.new("RGB", (160, 16), (3, 3, 3)).save(tmp_path / f"a.{suffix}")
        with Image.open(tmp_path / f"a.{suffix}") as image:
            assert image_files.depth(image) is None


def test_cmyk_is_colour(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (255, 0, 0, 0)).save(tmp_path / "a.jpg")
    red, green, blue = decoded(tmp_path / "a.jpg", 8)[4, 4]
    assert red < 20 and min(green, blue) > 150


BANDS = np.repeat(np.array([[10, 200, 90, 40]], np.uint8), 2, 0).repeat(8, 0).repeat(8, 1)  # 16 high, 32 wide


@pytest.mark.parametrize(
    ("fit", "rows"),
    [
        ("crop", [[200, 200, 90, 90]] * 4),
        ("stretch", [[10, 200, 90, 40]] * 4),
        ("pad", [[10, 200, 90, 40]] * 4),
    ],
)
def test_a_wide_picture_is_cut_stretched_or_padded(fit: Fit, rows: list[list[int]], tmp_path: Path) -> None:
    Image.fromarray(BANDS).save(tmp_path / "a.png")
    whole = image_files.decoded([Picture(str(tmp_path / "a.png"), 0, 0, 0)], 16, "L", Scaling(fit))[0, ..., 0]
    centres = whole[2::4, 2::4].astype(int)
    assert abs(centres - np.array(rows)).max() <= 25, centres
    if fit == "pad":
        assert (whole[:4] == whole[4]).all(), "above and below the outermost row is repeated"


def test_a_picture_of_one_row_is_padded_too(tmp_path: Path) -> None:
    Image.new("RGB", (300, 1), (1, 2, 3)).save(tmp_path / "a.png")
    found = image_files.decoded([Picture(str(tmp_path / "a.png"), 0, 0, 0)], 16, "RGB", Scaling("pad"))
    assert (found == [1, 2, 3]).all()


@given(
    width=st.integers(1, 90), height=st.integers(1, 90), size=st.integers(4, 40), fit=st.sampled_from(FITS)
)
def test_any_picture_becomes_a_square(width: int, height: int, size: int, fit: Fit) -> None:
    image = Image.new("RGB", (width, height), (9, 120, 250))
    found = np.asarray(image_files.fitted(image, size, "RGB", Scaling(fit)))
    assert found.shape == (size, size, 3)
    assert (found == [9, 120, 250]).all()
