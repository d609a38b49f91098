"""Augmentation: every result is a window of the padded image, mirrored or not, and a seed fixes it."""

import pytest
import torch
from torch import Generator, Tensor
from torch.nn import functional

from trainer.augmentation.crop_flip import Edge, augment, crop, flip


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def pictures(n: int = 64, channels: int = 3, height: int = 8, width: int = 6) -> Tensor:
    return torch.randint(0, 256, (n, channels, height, width), generator=seeded(1), dtype=torch.uint8)


def windows(image: Tensor, padding: int, mode: str) -> list[Tensor]:
    """All windows of one padded image, by torch's own padding: an independent account."""
    height, width = image.shape[1:]
    edge = {"reflect": "reflect", "zero": "constant"}[mode]
    padded = functional.pad(image[None].float(), [padding] * 4, mode=edge)[0].to(image.dtype)
    span = range(2 * padding + 1)
    return [padded[:, row : row + height, column : column + width] for row in span for column in span]


@pytest.mark.parametrize("mode", ["reflect", "zero"])
@pytest.mark.parametrize("padding", [1, 4])
def test_a_crop_is_a_window_of_the_padded_image(mode: Edge, padding: int) -> None:
    x = pictures()
    y = crop(x, padding, seeded(), mode)
    assert y.shape == x.shape
    assert y.dtype == x.dtype
    for before, after in zip(x, y, strict=True):
        assert any(torch.equal(after, window) for window in windows(before, padding, mode))


def test_every_position_of_the_window_occurs() -> None:
    x = pictures(1).expand(500, -1, -1, -1)
    found = {bytes(image.flatten().tolist()) for image in crop(x, 1, seeded())}
    assert found == {bytes(window.flatten().tolist()) for window in windows(x[0], 1, "reflect")}


def test_a_flip_mirrors_about_half_of_the_images_and_leaves_the_others() -> None:
    x = pictures(400)
    y = flip(x, seeded())
    mirrored = [torch.equal(after, before.flip(2)) for before, after in zip(x, y, strict=True)]
    same = [torch.equal(after, before) for before, after in zip(x, y, strict=True)]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert 150 < sum(mirrored) < 250


def test_both_at_once_give_mirrored_and_unmirrored_windows() -> None:
    x = pictures(40)
    for before, after in zip(x, augment(x, 2, True, seeded()), strict=True):
        allowed = windows(before, 2, "reflect")
        assert any(torch.equal(after, w) or torch.equal(after.flip(2), w) for w in allowed)


def test_a_seed_fixes_the_draw() -> None:
    x = pictures()
    assert torch.equal(augment(x, 4, True, seeded(5)), augment(x, 4, True, seeded(5)))
    assert not torch.equal(augment(x, 4, True, seeded(5)), augment(x, 4, True, seeded(6)))


def test_numbers_with_fractions_are_not_changed() -> None:
    x = pictures().float() / 7
    assert set(crop(x, 2, seeded())[0].flatten().tolist()) <= set(x[0].flatten().tolist())


def test_nothing_to_do_returns_the_batch_itself() -> None:
    x = pictures()
    assert augment(x, 0, False, seeded()) is x


def test_the_result_is_channels_last() -> None:
    assert augment(pictures(), 1, True, seeded()).is_contiguous(memory_format=torch.channels_last)


def test_positions_are_counted_in_half_the_memory_and_crop_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    x, kinds = pictures(), list[torch.dtype]()
    select = Tensor.index_select

    def told(of: Tensor, axis: int, where: Tensor) -> Tensor:
        kinds.append(where.dtype)
        return select(of, axis, where.long())

    plain = augment(x, 2, True, seeded())
    monkeypatch.setattr(Tensor, "index_select", told)
    assert torch.equal(augment(x, 2, True, seeded()), plain)
    assert kinds == [torch.int32]
