"""The comparison of recipes: its documents can be read, and its table compares like with like."""

from statistics import stdev

import pytest
import torch

from benchmarks import recipes
from trainer.data.batches import DeviceDataset, Normalisation
from trainer.recipe.document import Recipe


def row(
    recipe: str, seed: int, accuracy: float, network: str = "[1,1,1]", seconds: float = 10
) -> dict[str, object]:
    return {
        "recipe": recipe,
        "network": network,
        "seed": seed,
        "data": "fashion-mnist",
        "epochs": 6,
        "train_images": 12_000,
        "image_size": 28,
        "max_macs": 8_000_000,
        "accuracy": accuracy,
        "cpu_seconds": seconds,
    }


def test_every_recipe_can_be_read_and_is_as_long_as_asked() -> None:
    found = recipes.recipes(None, 5)
    assert len(found) > 1
    assert {recipe.epochs for recipe in found.values()} == {5}


@pytest.mark.parametrize(("side", "pixels"), [(32, 4), (28, 4), (14, 2), (8, 1), (64, 8)])
def test_images_are_shifted_by_a_part_of_their_side(side: int, pixels: int) -> None:
    found = recipes.recipes(["shifted-64", "plain-64"], 5, side)
    assert [recipe.crop_padding for recipe in found.values()] == [pixels, 0]


def test_a_recipe_that_is_not_there_is_named() -> None:
    with pytest.raises(SystemExit, match="no recipe fast; it has augmented-128"):
        recipes.recipes(["fast"], 5)
    with pytest.raises(SystemExit, match=r"no recipe published:nobody; .* default-sgd and published:NAME"):
        recipes.recipes(["published:nobody"], 5)


def test_a_published_recipe_is_stretched_and_fits_other_images() -> None:
    """001: SGD at 0.1 under a cosine over 200 epochs, shifted by 4 of 32 pixels; 004: scaled by CIFAR's own
    mean and deviation, of which grey images have none."""
    names = ["published:001-final", "published:004-final"]
    first, fourth = recipes.recipes(names, 30, side=14, channels=1).values()
    assert (first.epochs, first.learning_rate, first.batch_size, first.crop_padding) == (30, 0.1, 128, 2)
    assert first.planned.length == 30
    assert (first.normalisation, fourth.normalisation) == ("none", "measured")
    assert recipes.recipes(names, 30)["published:004-final"].normalisation.mean == (0.4914, 0.4822, 0.4465)


def test_a_published_recipe_with_restarts_ends_with_a_cycle() -> None:
    """003: cycles of 500 epochs, and 1,200 epochs, after which the rate has not come down."""
    (found,) = recipes.recipes(["published:003-final"], 30).values()
    assert found.planned.first == found.epochs == 30


def test_the_default_is_what_it_is_given_as_and_by_sgd_too() -> None:
    usual = Recipe(optimizer="muon", batch_size=64, learning_rate=0.28)
    found = recipes.recipes(["default", "default-sgd"], 8, default=usual)
    assert found == {"default": usual, "default-sgd": usual.model_copy(update={"optimizer": "sgd"})}


def test_recipes_are_compared_network_by_network_and_seed_by_seed() -> None:
    rows = [
        row("old", 0, 0.80),
        row("old", 1, 0.70),
        row("old", 0, 0.60, "[2,2,2]"),
        row("new", 0, 0.81, seconds=20),
        row("new", 1, 0.73, seconds=20),
    ]
    old, new = recipes.compared(rows)
    assert old["mean"] == pytest.approx(0.70)
    assert new["gain"] == pytest.approx(0.02)  # +1 and +3 points; the third has no counterpart
    assert new["half"] == pytest.approx(12.706 * 0.01, rel=1e-3)  # Student's t of two, one degree of freedom
    assert new["time"] == pytest.approx(2)


def test_of_many_pairs_the_quantile_is_students_still() -> None:
    """Of 32 pairs 2.0395, of the normal distribution 1.96."""
    rows = [row("old", seed, 0.8) for seed in range(32)]
    rows += [row("new", seed, 0.8 + seed % 2 / 100) for seed in range(32)]
    *_, new = recipes.compared(rows)
    gains = [seed % 2 / 100 for seed in range(32)]
    assert new["half"] == pytest.approx(2.0395 * stdev(gains) / 32**0.5, rel=1e-3)


def test_a_single_pair_has_no_interval() -> None:
    *_, new = recipes.compared([row("old", 0, 0.80), row("new", 0, 0.81)])
    assert new["half"] is None
    assert "+1.0 |" in recipes.table([row("old", 0, 0.80), row("new", 0, 0.81)])


def test_a_repeated_image_is_in_a_batch_as_often_as_asked_and_augmented_by_itself() -> None:
    """Ten images of one brightness each, batches of four, shifted: 2 of an image side by side, half of all in
    an epoch of as many steps."""
    levels = torch.arange(10)
    images = levels.view(10, 1, 1, 1).expand(10, 8, 8, 1).to(torch.uint8).clone()
    images[:, 3, 3] = 200
    plain = Normalisation((0.0,), (1.0,))
    data = DeviceDataset(images, levels, torch.arange(10), levels[:0], plain)
    recipe = Recipe(epochs=1, batch_size=4, crop_padding=2, crop_edge="zero", flip=False)
    with recipes.repeated(2):
        batches = list(data.epoch(recipe, torch.Generator().manual_seed(0)))
    assert len(batches) == 2 == data.steps(4)
    pairs = [labels.view(2, 2) for _, labels in batches]
    assert all((pair[:, 0] == pair[:, 1]).all() for pair in pairs)
    assert len({int(label) for pair in pairs for label in pair[:, 0]}) == 4
    copies = torch.cat([x for x, _ in batches]).view(4, 2, -1)
    assert any(not torch.equal(*pair) for pair in copies), "shifted alike"
    (_, labels), *_ = data.epoch(recipe, torch.Generator().manual_seed(0))
    assert len(set(labels.tolist())) == 4, "as ever, once it is over"
