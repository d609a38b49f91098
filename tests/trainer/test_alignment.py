"""Whether images fill their frame in one way: what their mean explains."""

import numpy as np
import pytest

from trainer.data import alignment


def alike(count: int, side: int, share: float, channels: int = 1) -> np.ndarray:
    """Images that are a common one by this share of their variance, and noise else."""
    dice = np.random.default_rng(0)
    common, own = dice.normal(size=(side, side, channels)), dice.normal(size=(count, side, side, channels))
    return (128 + 30 * (share**0.5 * common + (1 - share) ** 0.5 * own)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 0.8])
@pytest.mark.parametrize("channels", [1, 3])
def test_it_is_the_share_of_the_mean_in_the_variance_of_pixels(share: float, channels: int) -> None:
    assert alignment.mean_share(alike(500, 16, share, channels)) == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("count", [2, 3, 10])
def test_of_few_images_chance_is_taken_off(count: int) -> None:
    """The mean of two that have nothing in common explains half of them."""
    assert alignment.mean_share(alike(count, 32, 0.0)) == pytest.approx(0, abs=0.05)
    assert alignment.mean_share(alike(count, 32, 0.5)) == pytest.approx(0.5, abs=0.05)


def test_what_does_not_vary_is_not_aligned() -> None:
    one, black = alike(1, 8, 1.0), np.zeros((5, 8, 8, 3), np.uint8)
    assert (alignment.mean_share(one), alignment.mean_share(black)) == (0, 0)
    assert not alignment.is_aligned(black)


def test_a_colour_is_nothing_in_common() -> None:
    """Each channel has a mean of its own: green pictures are not aligned."""
    green = alike(50, 8, 0.0, 3) // 4
    green[..., 1] += 180
    assert not alignment.is_aligned(green)


@pytest.mark.parametrize("classes", [2, 5, 10])
@pytest.mark.parametrize("count", [4_000, 10_000, 20_000, 40_000])
def test_classes_that_follow_each_other_in_turns_are_all_looked_at(count: int, classes: int) -> None:
    """Tensors may be in any order: of one class alone the mean explains much."""
    patterns = np.random.default_rng(0).integers(0, 2, (classes, 8, 8, 1)) * 2 - 1
    patterns[1::2] = -patterns[::2][: classes // 2]
    images = np.resize((128 + 60 * patterns).astype(np.uint8), (count, 8, 8, 1))
    own = np.random.default_rng(1).integers(0, 60, images.shape).astype(np.uint8)
    whole = alignment.mean_share(images + own)
    assert whole < 0.25 and alignment.is_aligned(images + own) == (whole >= alignment.ALIGNED)


def test_large_images_and_many_are_looked_at_in_part() -> None:
    assert alignment.is_aligned(alike(30, 200, 0.5))
    assert not alignment.is_aligned(alike(30, 200, 0.02))
    assert alignment.is_aligned(np.repeat(alike(10, 8, 0.5), 1_000, axis=0))
