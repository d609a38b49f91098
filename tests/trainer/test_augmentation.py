"""What is done to images: known operations, a draw for each image, the same for the same seed."""

import pytest
import torch
from lazily import Lazily
from torch import Tensor

from trainer.augmentation import affine, crop_flip, operations
from trainer.augmentation.mixup import Targets, mixed
from trainer.augmentation.operations import OPERATIONS
from trainer.augmentation.policy import apply_policy
from trainer.loss import jensen_shannon, loss
from trainer.recipe.document import Recipe
from trainer.recipe.policies import POLICIES, AugMix, RandAugment

transforms = Lazily("torchvision.transforms")
functional = Lazily("torchvision.transforms.v2.functional")


def images(count: int = 6, channels: int = 3, size: int = 16) -> Tensor:
    """Smooth ones with an edge or two, as photographs are."""
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(count, channels, 4, 4, generator=generator)
    x = torch.nn.functional.interpolate(small, size=(size, size), mode="bilinear")
    return (x * 255).to(torch.uint8)


def each(x: Tensor, value: float) -> Tensor:
    return torch.full((len(x),), value)


SCALAR = {
    "Brightness": lambda x, m: functional.adjust_brightness(x, 1 + m),
    "Color": lambda x, m: functional.adjust_saturation(x, 1 + m),
    "Contrast": lambda x, m: functional.adjust_contrast(x, 1 + m),
    "Sharpness": lambda x, m: functional.adjust_sharpness(x, 1 + m),
}


@pytest.mark.parametrize("amount", [-0.9, -0.3, 0.0, 0.5, 0.9])
@pytest.mark.parametrize("name", SCALAR)
def test_colours_change_as_torchvision_changes_them(name: str, amount: float) -> None:
    x = images()
    difference = OPERATIONS[name](x, each(x, amount)).int() - SCALAR[name](x, amount).int()
    assert difference.abs().max() <= 1, "a rounding apart"


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [2, 3, 16])
def test_what_waits_for_no_gpu_is_to_the_bit_what_torchvision_does(channels: int, size: int) -> None:
    x = images(channels=channels, size=size)
    x[0], x[1, 0] = 7, 200  # of one grey, and with a channel of one
    assert torch.equal(operations._blurred(x), functional.adjust_sharpness(x, 0.0))
    assert torch.equal(operations.autocontrast(x, each(x, 0)), functional.autocontrast(x))


def test_bits_and_thresholds_are_those_of_torchvision() -> None:
    x = images()
    for bits in (1, 4, 7, 8):
        assert torch.equal(OPERATIONS["Posterize"](x, each(x, bits)), functional.posterize(x, bits))
    assert torch.equal(OPERATIONS["Solarize"](x, each(x, 0.5)), functional.solarize(x, 127.5))
    assert torch.equal(OPERATIONS["Invert"](x, each(x, 0)), functional.invert(x))


@pytest.mark.parametrize("degrees", [0, 90, 180, 30, -17])
def test_images_turn_as_torchvision_turns_them(degrees: int) -> None:
    x = images()
    theirs = functional.rotate(x, degrees, transforms.InterpolationMode.NEAREST)
    different = (affine.rotate(x, each(x, float(degrees))) != theirs).float().mean()
    assert different < 0.03, "but for pixels whose place lies on an edge"


def test_images_shear_and_shift_as_torchvision_does() -> None:
    x = images()
    for pixels in (0.0, 3.0, -5.0):
        theirs = functional.affine(x, 0, [int(pixels), 0], 1.0, [0.0, 0.0])
        assert torch.equal(affine.shift(x, each(x, pixels), 0), theirs)
        theirs = functional.affine(x, 0, [0, int(pixels)], 1.0, [0.0, 0.0])
        assert torch.equal(affine.shift(x, each(x, pixels), 1), theirs)
    degrees = float(torch.rad2deg(torch.atan(torch.tensor(0.3))))
    theirs = functional.affine(x, 0, [0, 0], 1.0, [degrees, 0.0], center=[0, 0])
    assert (affine.shear(x, each(x, 0.3), 0) != theirs).float().mean() < 0.1


def test_every_image_has_an_amount_of_its_own() -> None:
    x = images(4)
    amounts = torch.tensor([0.0, 3.0, -2.0, 1.0])
    together = affine.shift(x, amounts, 0)
    alone = torch.cat([affine.shift(x[i : i + 1], amounts[i : i + 1], 0) for i in range(4)])
    assert torch.equal(together, alone)
    assert torch.equal(together[0], x[0])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_changes_images_and_a_seed_fixes_how(name: str, channels: int) -> None:
    x = images(64, channels)
    kept = x.clone()

    def once(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return apply_policy(x, POLICIES[name](), torch.Generator().manual_seed(seed))

    y = once(1)
    assert (y.shape, y.dtype) == (x.shape, torch.uint8)
    assert torch.equal(y, once(1))
    assert not torch.equal(y, once(2))
    assert torch.equal(x, kept), "what was given is left as it is"
    changed = (y != x).flatten(1).any(1).float().mean()
    assert changed > 0.5


def test_images_of_a_batch_go_different_ways() -> None:
    x = images(1).expand(64, -1, -1, -1).contiguous()
    y = apply_policy(x, RandAugment(), torch.Generator().manual_seed(0))
    assert len({bytes(image.numpy()) for image in y}) > 20


def test_augmix_of_no_strength_keeps_the_image() -> None:
    x = images(32)
    gentle = AugMix(severity=1, every_operation=False)
    torch.manual_seed(0)
    y = apply_policy(x, gentle, torch.Generator().manual_seed(0))
    far = (y.int() - x.int()).abs().flatten(1).float().mean(1)
    assert float(far.median()) < 30


def test_cutout_blanks_a_square_that_may_lie_over_the_edge() -> None:
    x = torch.ones(200, 2, 9, 9)
    y = crop_flip.cutout(x, 4, torch.Generator().manual_seed(0))
    gone = (y == 0).sum((2, 3))
    assert torch.equal(gone[:, 0], gone[:, 1]), "in all channels alike"
    assert gone.max() == 16
    assert gone.min() >= 4


def test_random_erasing_blanks_a_rectangle_inside_some_images() -> None:
    x = torch.ones(2_000, 2, 20, 30)
    y = crop_flip.random_erasing(x, 0.25, torch.Generator().manual_seed(0))
    gone = y[:, 0] == 0
    assert torch.equal(gone, y[:, 1] == 0), "in all channels alike"
    hit = gone.flatten(1).any(1)
    assert 400 < int(hit.sum()) < 600
    rows, columns = gone[hit].any(2).sum(1), gone[hit].any(1).sum(1)
    assert torch.equal(gone[hit].flatten(1).sum(1), rows * columns), "one rectangle, nowhere cut off"
    share = rows * columns / (20 * 30)
    assert float(share.min()) < 0.04 and 0.3 < float(share.max()) < 0.36
    assert abs(float(share.mean()) - (0.02 + 0.33) / 2) < 0.02
    tall = (rows / columns).log().mean()
    assert abs(float(tall)) < 0.1, "as often upright as lying"


def test_random_erasing_spares_all_or_none() -> None:
    x = torch.ones(50, 1, 8, 8)
    generator = torch.Generator().manual_seed(0)
    assert (crop_flip.random_erasing(x, 1.0, generator) == 0).flatten(1).any(1).all()
    assert torch.equal(crop_flip.random_erasing(x, 0.0, generator), x)


def test_a_vertical_flip_turns_half_of_the_images() -> None:
    x = images(400)
    y = crop_flip.flip_vertical(x, torch.Generator().manual_seed(0))
    turned = torch.tensor([not torch.equal(a, b) for a, b in zip(x, y, strict=True)])
    assert 150 < int(turned.sum()) < 250
    assert torch.equal(y[turned], x[turned].flip(2))


def test_a_window_of_an_enlarged_image_shows_a_part_of_it() -> None:
    x = torch.full((8, 1, 16, 16), 200, dtype=torch.uint8)
    y = affine.enlarged_window(x, 64, 0, torch.Generator().manual_seed(0))
    assert torch.equal(y, x)
    x[:, :, :, 8:] = 0
    y = affine.enlarged_window(x, 64, 0, torch.Generator().manual_seed(0))
    shares = (y > 100).float().mean((1, 2, 3))
    assert shares.min() < 0.2 or shares.max() > 0.8, "a quarter of the picture is seldom half and half"


@pytest.mark.parametrize("given", [{"mixup": 1.0}, {"cutmix": 1.0}, {"mixup": 0.5, "cutmix": 1.0}])
def test_mixed_images_come_with_the_share_of_both_labels(given: dict[str, float]) -> None:
    torch.manual_seed(3)
    labels = torch.arange(8)
    x = labels.float().view(8, 1, 1, 1).expand(8, 1, 12, 12).contiguous()
    for _ in range(10):
        y, targets = mixed(x, labels, Recipe(**given), torch.Generator().manual_seed(0))  # type: ignore[arg-type]
        assert targets.others is not None
        expected = targets.share * labels + (1 - targets.share) * targets.others
        assert torch.allclose(y.mean((1, 2, 3)), expected, atol=1e-4)


def test_the_loss_of_a_mixture_is_that_of_soft_labels() -> None:
    recipe = Recipe(label_smoothing=0.1)
    scores, labels, others = torch.randn(8, 5), torch.randint(5, (8,)), torch.randint(5, (8,))
    soft = 0.3 * torch.eye(5)[labels] + 0.7 * torch.eye(5)[others]
    expected = torch.nn.functional.cross_entropy(scores, soft, label_smoothing=0.1)
    assert loss(scores, Targets(labels, others, 0.3, 0.7), recipe) == pytest.approx(float(expected), rel=1e-5)


def test_equal_views_do_not_diverge_and_others_do() -> None:
    x, y = torch.randn(6, 10), torch.randn(6, 10)
    assert float(jensen_shannon((x, x, x))) == pytest.approx(0, abs=1e-6)
    p, q = x.softmax(1), y.softmax(1)
    mean = (2 * p + q) / 3
    expected = (2 * (p * (p / mean).log()).sum() + (q * (q / mean).log()).sum()) / 3 / 6
    assert float(jensen_shannon((x, x, y))) == pytest.approx(float(expected), rel=1e-4)
