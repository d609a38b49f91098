"""What the plan says of a folder: each thing that may mislead, by the right number, and nothing else."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from picture_samples import folder_of, noise
from PIL import Image

from trainer.data import dataset as datasets, survey_text
from trainer.recipe.document import Recipe

PLAIN = Recipe()


def said(folder: Path, share: float = 0.2, recipe: Recipe = PLAIN, **given: object) -> list[str]:
    dataset = datasets.load(f"folder:{folder}", folder.parent / "data", **given)  # type: ignore[arg-type]
    found = survey_text.lines(dataset, datasets.split(dataset, 0, share), recipe)
    return [f"{word}: {line}" for word, line in found]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "pets", 40)


def test_of_a_folder_as_it_should_be_only_its_images_are_told(folder: Path) -> None:
    assert said(folder) == ["images: 12x12; colour"]


def test_of_a_named_data_set_nothing_is_told(tmp_path: Path) -> None:
    dataset = datasets.load("digits", tmp_path)
    assert survey_text.lines(dataset, datasets.split(dataset, 0), PLAIN) == []


@pytest.mark.parametrize(("fit", "how"), [("pad", "padded"), ("crop", "cut"), ("stretch", "stretched")])
def test_mixed_sizes_are_told_with_what_is_done_to_them(folder: Path, fit: str, how: str) -> None:
    for i in range(40):
        noise(folder / "train/cat" / f"{i:02}.png", 5000 + i, 24 + i, 30)
        noise(folder / "train/dog" / f"{i:02}.png", 6000 + i, 24, 70)
    assert said(folder, fit=fit) == [f"images: 24x30 to 63x70, scaled to 24, {how} (--fit); colour"]


def test_what_misleads_is_told_with_numbers(folder: Path) -> None:
    train, test = folder / "train", folder / "test"
    shutil.copytree(train / "dog", test / "dog", dirs_exist_ok=True)
    shutil.copy(train / "cat/03.png", train / "cat/same.png")
    shutil.copy(train / "cat/04.png", train / "dog/zz.png")
    for i in range(6):
        noise(train / "emu" / f"{i}.png", 7000 + i)
    noise(train / "gnu" / "0.png", 7100)
    (train / "cat/list.txt").write_text("")
    assert said(folder) == [
        "images: 12x12; colour",
        "note: left out 1 file: .txt 1",
        "warning: 2 of 4 classes have fewer than 5 validation images: emu (1 of 6), gnu (0 of 1)",
        "warning: uneven classes: 33 training images of cat, 1 of gnu;"
        " --class-weights balanced lets them count alike",
        "note: 2 pictures in train/ are copies of others; they stay on one side of the split",
        "warning: 1 picture in two classes: train/dog/zz.png is train/cat/04.png",
        "warning: 40 of 43 test images are also training images",
    ]


def test_weighing_classes_is_not_advised_where_they_are_weighed(folder: Path) -> None:
    noise(folder / "train" / "gnu" / "0.png", 7100)
    noise(folder / "train" / "gnu" / "1.png", 7101)
    line = "warning: uneven classes: 32 training images of cat, 1 of gnu"
    assert f"{line}; --class-weights balanced lets them count alike" in said(folder)
    assert line in said(folder, recipe=Recipe(class_weights="balanced"))


def test_a_folders_own_validation_part_is_told(folder: Path) -> None:
    for i in range(8):
        noise(folder / "val/cat" / f"{i}.png", 8000 + i)
        noise(folder / "val/dog" / f"{i}.png", 9000 + i)
    shutil.copy(folder / "train/cat/03.png", folder / "val/cat/same.png")
    assert said(folder)[1:] == [
        "note: val/ is the validation part: 17 images",
        "warning: 1 of 17 validation images are also in train/, and left out there",
    ]


def test_a_class_is_without_images_to_train_on_for_its_copies_alone(folder: Path) -> None:
    for name in ("emu", "gnu", "owl"):
        noise(folder / "train" / name / "0.png", 7000 + len(name) + ord(name[0]))
        noise(folder / "val" / name / "0.png", 7500 + ord(name[0]))
    shutil.copy(folder / "train/owl/0.png", folder / "val/owl/0.png")
    for name in ("cat", "dog"):
        noise(folder / "val" / name / "0.png", 7600 + ord(name[0]))
    dataset = datasets.load(f"folder:{folder}", folder.parent / "data")
    split = datasets.split(dataset, 0, limit=60)
    told = [line for _, line in survey_text.lines(dataset, split, PLAIN) if "to train on" in line]
    assert told == ["no image to train on in owl: all are copies of validation images"]
    without_emu = replace(split, train=split.train[dataset.labels[split.train] != 2])
    told = [line for _, line in survey_text.lines(dataset, without_emu, PLAIN) if "to train on" in line]
    assert told == [
        "no image to train on in owl: all are copies of validation images",
        "no image to train on in emu",
    ]


def test_transparency_depth_and_damage_are_told(folder: Path) -> None:
    grey = np.random.default_rng(1).integers(0, 4096, (3, 12, 12))
    for i, levels in enumerate(grey):
        Image.fromarray(levels.astype(np.uint16)).save(folder / "train/cat" / f"deep{i}.png")
    Image.new("RGBA", (12, 12), (1, 2, 3, 4)).save(folder / "train/dog/glass.png")
    (folder / "train/dog/bad.png").write_text("no picture")
    assert said(folder, skip_damaged=True) == [
        "images: 12x12; colour",
        "images: 1 picture with transparency, laid on white",
        "images: 3 pictures of more than 8 bits, all scaled alike: 4,095 is white",
        "warning: skipped 1 picture that cannot be read: train/dog/bad.png",
    ]


def test_of_many_names_ten_are_told(folder: Path) -> None:
    for i in range(14):
        noise(folder / "train" / f"rare{i:02}" / "0.png", 8000 + i)
    told = next(line for line in said(folder) if "fewer than" in line)
    assert told.count("(0 of 1)") == 10
    assert told.endswith(" and 4 more")


def test_classes_that_a_person_takes_for_one_are_named(folder: Path) -> None:
    for i, name in enumerate(("Cat", "caf\xe9", "cafe\u0301")):
        for j in range(40):
            noise(folder / "train" / name / f"{j}.png", 9000 + 100 * i + j)
    line = "warning: classes whose names differ by case, spaces or accents alone: 'Cat' and 'cat', "
    assert any(told.startswith(line) and told.endswith("'cafe\u0301' and 'caf\xe9'") for told in said(folder))


def test_a_test_part_that_is_the_validation_part_is_told(folder: Path) -> None:
    shutil.copytree(folder / "test", folder / "val")
    assert "warning: 6 of 6 test images are also validation images" in said(folder)


def test_a_part_without_class_folders_is_told_with_what_comes_of_it(folder: Path) -> None:
    shutil.rmtree(folder / "test")
    (folder / "test").mkdir()
    noise(folder / "valid" / "0.png", 1)
    found = said(folder)
    assert "warning: test/ has no pictures in class folders: there is no test set" in found
    assert (
        "warning: valid/ has no pictures in class folders: validation images are drawn from train/" in found
    )
