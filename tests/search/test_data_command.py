"""`search data`: what would be trained is shown before any search, by number and as the network sees it."""

import base64
import io
import json
import re
from html import escape
from pathlib import Path

import numpy as np
import pytest
from command import run
from picture_samples import folder_of, noise
from PIL import Image

from search.report import data_page
from trainer.recipe.document import Recipe

PLAIN = Recipe(crop_padding=0, flip=False)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEARCH_DATA_DIR", str(tmp_path / "data"))
    root = folder_of(tmp_path / "pets", 20)
    (root / "train/cat/bad.png").write_text("no picture")
    return root


def images_of(page: str) -> list[np.ndarray]:
    found = re.findall(r"base64,([^\"]+)", page)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))) for text in found]


def test_counts_lines_and_a_page_come_of_a_folder(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    result = run(capsys, "data", f"folder:{folder}", "--format", "json")
    assert result.code == 0, result.err
    assert json.loads(result.out) == [
        {"class": "cat", "train": 16, "validation": 4, "test": 3},
        {"class": "dog", "train": 16, "validation": 4, "test": 3},
    ]
    assert result.err.splitlines() == [
        "data     pets: 32 training and 8 validation images of 3x12x12, 2 classes",
        "modes    RGB 40 training pictures, as Pillow calls them",
        "images   12x12; colour",
        "warning  skipped 1 picture that cannot be read: train/cat/bad.png",
        "warning  2 of 2 classes have fewer than 5 validation images: cat (4 of 20), dog (4 of 20)",
        "augment  in trials of 8 epochs: none; not mirrored (on: flip = true)",
        "         in a full training of 200 epochs: shifted by up to 2 pixels (off: crop_padding = 0), mixed"
        " by MixUp 0.2 (off: mixup = 0), mixed by CutMix 1 (off: cutmix = 0); not mirrored (on: flip = true);"
        " fields of a --recipe FILE",
        "warning  a launch refuses damaged pictures; with --skip-damaged it goes on without",
        "wrote data.html: open it in a browser",
    ]
    page = Path("data.html").read_text()
    assert "<script" not in page and "http" not in page, "it needs nothing from elsewhere"
    assert "skipped 1 picture" in page


def test_the_page_has_the_images_plain_augmented_and_their_mean(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    Path("shifted.toml").write_text("crop_padding = 4")
    asked = ("data", f"folder:{folder}", "--image-size", 12)
    assert run(capsys, *asked, "--recipe", "shifted.toml").code == 0
    plain, augmented, mean = images_of(Path("data.html").read_text())[:3]
    assert plain.shape == augmented.shape == (12, data_page.SHOWN * (12 + data_page.GAP), 3)
    assert mean.shape == (12, 12, 3)
    trained = {
        np.asarray(Image.open(path)).tobytes()
        for path in (folder / "train/cat").iterdir()
        if path.name != "bad.png"
    }
    tiles = [plain[:, i * 14 : i * 14 + 12].tobytes() for i in range(data_page.SHOWN)]
    assert set(tiles) <= trained and len(set(tiles)) == data_page.SHOWN
    assert not np.array_equal(plain, augmented), "shifted"
    Path("plain.toml").write_text("crop_padding = 0")
    assert run(capsys, *asked, "--recipe", "plain.toml", "--out", "b.html").code == 0
    plain, augmented, _ = images_of(Path("b.html").read_text())[:3]
    assert np.array_equal(plain, augmented)
    assert run(capsys, *asked, "--out", "c.html").code == 0
    text = Path("c.html").read_text()
    plain, augmented, _ = images_of(text)[:3]
    assert not np.array_equal(plain, augmented), "as the finals see them, though brief trials do not augment"
    assert "augmented, in a full training" in text


def test_a_recipe_of_other_epochs_is_filled_in_as_for_these(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    """A launch shifts a few pictures from 12 epochs on."""
    Path("longer.toml").write_text("epochs = 30")
    result = run(capsys, "data", f"folder:{folder}", "--recipe", "longer.toml")
    assert result.code == 0, result.err
    assert "augment  shifted by up to 2 pixels (off: crop_padding = 0); " in result.err


def test_a_recipe_without_epochs_is_shown_for_trials_and_for_a_full_training(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    """As recipe check says of it; what is augmented on the page is what its title says."""
    Path("r1.toml").write_text('optimizer = "sgd"')
    asked = ("data", f"folder:{folder}", "--image-size", 12)
    result = run(capsys, *asked, "--recipe", "r1.toml")
    assert result.code == 0, result.err
    lines = result.err.splitlines()
    at = lines.index("augment  in trials of 8 epochs: none; not mirrored (on: flip = true)")
    assert lines[at + 1].startswith(
        "         in a full training of 200 epochs: shifted by up to 2 pixels (off: crop_padding = 0)"
    )
    checked = run(capsys, "recipe", "check", "r1.toml", "--data", f"folder:{folder}")
    assert "a full training has epochs 200, crop_padding 2, mixup 0.2, cutmix 1.0" in checked.err
    text = Path("data.html").read_text()
    plain, augmented, _ = images_of(text)[:3]
    assert not np.array_equal(plain, augmented), "shifted"
    assert "augmented, in a full training" in text


def test_the_mean_is_of_the_class(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3000, 4, 4, 1), np.uint8)
    rows = np.arange(0, 3000, 2)
    assert np.array_equal(data_page.mean_image(images, rows), np.rint(images[rows].mean(0)).astype(np.uint8))


def test_cutout_is_shown_in_the_mean_colour() -> None:
    import torch

    from trainer.data.batches import augmented

    x = torch.full((4, 1, 8, 8), 100, dtype=torch.uint8)
    x[:, :, :, 4:] = 200
    recipe = Recipe(crop_padding=0, flip=False, cutout=4)
    found = augmented(x, recipe, torch.Generator().manual_seed(0))
    assert found.dtype == torch.uint8
    assert set(found.unique().tolist()) == {100, 150, 200}


def test_random_erasing_is_shown_in_the_mean_colour_after_cutout() -> None:
    import torch

    from trainer.data.batches import augmented

    x = torch.full((16, 1, 16, 16), 100, dtype=torch.uint8)
    x[..., 8:] = 200
    erased, both = (
        augmented(x, PLAIN.model_copy(update=fields), torch.Generator().manual_seed(0))
        for fields in ({"random_erasing": 1.0}, {"random_erasing": 1.0, "cutout": 4})
    )
    assert set(erased.unique().tolist()) == {100, 150, 200}
    assert (erased != x).flatten(1).any(1).all(), "something is taken from every image"
    cut = augmented(x, PLAIN.model_copy(update={"cutout": 4}), torch.Generator().manual_seed(0))
    assert (both[cut == 150] == 150).all() and (both == 150).sum() > (cut == 150).sum()


def test_a_named_data_set_is_shown_too(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    result = run(capsys, "data", "digits", "--train-images", 100)
    assert result.code == 0
    assert result.err.startswith(
        "data     digits: 100 training and 288 validation images of 1x8x8, 10 classes"
    )
    assert len(images_of(Path("data.html").read_text())) == 30


def test_what_is_no_data_set_leaves_no_page(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    noise(folder / "train" / "cat" / "x.png", 1)
    assert run(capsys, "data", "folder:nowhere").code == 5
    assert run(capsys, "data", "imagenet").code == 2
    assert not Path("data.html").exists()


def test_a_recipe_that_a_full_training_refuses_is_shown_as_trials_have_it(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    """A launch takes it."""
    Path("cosine.toml").write_text('crop_padding = 1\nschedule = {name = "cosine", length = 6}')
    result = run(capsys, "data", "digits", "--train-images", 100, "--recipe", "cosine.toml")
    assert result.code == 0, result.err
    said = (
        "augmented as in a trial of 6 epochs: a full training refuses the recipe (cosine.toml:"
        " schedule.length 6 is shorter than the 200 epochs: a cosine climbs again after its length; if that"
        ' is meant, add accept = ["short_schedule"]; it says no epochs, and search train takes it for one of'
        " 200: add epochs)"
    )
    assert f"note     {said}" in result.err.splitlines()
    page = Path("data.html").read_text()
    assert escape(said) in page and "augmented, in a trial of 6 epochs" in page
    assert "in a full training" not in page
    Path("cosine.toml").write_text('schedule = {name = "cosine", length = 3}')
    refused = run(capsys, "data", "digits", "--recipe", "cosine.toml", "--out", "b.html")
    assert refused.code == 2 and "shorter than the 6 epochs" in refused.one_line
    assert not Path("b.html").exists()
