"""What is done to training images is said, with what switches it off; and what it says is true."""

import pytest

from trainer.recipe.augmentations import augmentations, described
from trainer.recipe.defaults import brief_recipe
from trainer.recipe.document import Recipe

EVERY = Recipe(
    crop_padding=3,
    enlarge=40,
    flip=True,
    flip_vertical=True,
    rotation=15,
    cutout=8,
    random_erasing=0.25,
    policy="trivialaugment",
    mixup=0.2,
    cutmix=1.0,
)


@pytest.mark.parametrize("spec", ["folder:letters", "folder:/a/cifar10"])
def test_pictures_of_a_folder_are_not_mirrored_unless_asked(spec: str) -> None:
    recipe = brief_recipe(spec)
    assert recipe.flip is False
    assert recipe.learning_rate == 0.4
    assert described(recipe).startswith(
        "shifted by up to 4 pixels (off: crop_padding = 0); not mirrored (on:"
    )


def test_each_augmentation_is_named_with_what_ends_it() -> None:
    assert [str(one) for one in augmentations(EVERY)] == [
        "cut out of 40 pixels a side (off: enlarge left out)",
        "shifted by up to 3 pixels (off: crop_padding = 0)",
        "mirrored left to right (off: flip = false)",
        "mirrored top to bottom (off: flip_vertical = false)",
        "turned by up to 15 degrees (off: rotation = 0)",
        "policy trivialaugment (off: policy left out)",
        "a square of 8 pixels blanked (off: cutout = 0)",
        "a rectangle blanked in 25% of them (off: random_erasing = 0)",
        "mixed by MixUp 0.2 (off: mixup = 0)",
        "mixed by CutMix 1 (off: cutmix = 0)",
    ]
    assert "not mirrored" not in described(EVERY)


def test_what_is_said_to_switch_an_augmentation_off_does() -> None:
    values = {"false": False, "0": 0, "out": None}
    recipe = EVERY
    for left, one in reversed(list(enumerate(augmentations(EVERY)))):
        field, value = one.off.split()[0], values[one.off.split()[-1]]
        recipe = recipe.model_copy(update={field: value})
        assert len(augmentations(recipe)) == left
    assert described(recipe) == "none; not mirrored (on: flip = true); fields of a --recipe FILE"
