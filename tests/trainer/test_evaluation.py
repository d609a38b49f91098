"""Evaluation: the same figures in whatever batches; on a GPU these are small, of one shape, without TF32."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import given, strategies
from torch import Tensor, nn

from trainer import device, evaluation
from trainer.data.batches import Normalisation

PLAIN = Normalisation((0.0,), (255.0,))


def flags() -> tuple[bool, bool, bool]:
    """Whether cuDNN times its algorithms, and whether convolutions and products may be TF32."""
    backends = torch.backends
    return backends.cudnn.benchmark, backends.cudnn.allow_tf32, backends.cuda.matmul.allow_tf32


class Told(nn.Module):
    """Scores (N, 10) of images (N, 1, S, S) by their first pixels, and what it was asked in passing."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self.flags: set[tuple[bool, bool, bool]] = set()

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        self.flags.add(flags())
        return x.flatten(1)[:, :10] * 5


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randint(256, (1_001, 4, 4, 1), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.fixture(scope="module")
def labels() -> Tensor:
    return torch.randint(10, (1_001,), generator=torch.Generator().manual_seed(1))


@given(count=strategies.integers(1, 300), size=strategies.integers(1, 90))
def test_parts_that_are_alike_hold_each_image_once(count: int, size: int) -> None:
    chosen = torch.arange(count) * 3
    parts = evaluation._parts(chosen, size, alike=True)
    assert torch.cat([part[:counted] for part, counted in parts]).tolist() == chosen.tolist()
    assert len({len(part) for part, _ in parts}) == 1
    assert len(parts[0][0]) <= size
    assert sum(len(part) for part, _ in parts) < count + len(parts)


def test_a_batch_that_is_filled_up_changes_no_figure(
    images: Tensor, labels: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, alike = Told(), Told()
    expected = evaluation.evaluate(plain, images, labels, PLAIN)
    made = evaluation._parts
    monkeypatch.setattr(evaluation, "_parts", lambda chosen, size, _: made(chosen, size, alike=True))
    found = evaluation.evaluate(alike, images, labels, PLAIN)
    assert (plain.sizes, alike.sizes) == ([250] * 4 + [1], [201] * 5)
    assert found[0] == pytest.approx(expected[0], rel=1e-6)
    assert found[1] == expected[1]


def test_scores_come_in_batches_of_one_shape_too(images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, alike = Told(), Told()
    expected = evaluation.scores(plain, images, PLAIN)
    made = evaluation._parts
    monkeypatch.setattr(evaluation, "_parts", lambda chosen, size, _: made(chosen, size, alike=True))
    assert torch.equal(evaluation.scores(alike, images, PLAIN), expected)
    assert (plain.sizes, alike.sizes) == ([250] * 4 + [1], [201] * 5)


@pytest.mark.parametrize(
    ("shape", "most", "size"),
    [
        ((32, 32, 3), None, 1_024),
        ((32, 32, 3), 8 * 64, 512),
        ((224, 224, 3), 8 * 64, 20),
        ((2_048, 2_048, 3), None, 1),
    ],
)
def test_a_gpu_evaluates_by_bytes(shape: tuple[int, ...], most: int | None, size: int) -> None:
    assert evaluation.batch_size(torch.device("cuda"), math.prod(shape), most) == size


def test_a_cpu_evaluates_as_it_always_did() -> None:
    assert evaluation.batch_size(torch.device("cpu"), 3_072, 16) == 250


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """cuDNN's choices are made as for a GPU, though the tensors are on the CPU."""
    real = device.cudnn_choices

    @contextmanager
    def choices(_device: torch.device, **given: Any) -> Iterator[None]:
        with real(torch.device("cuda"), **given):
            yield

    monkeypatch.setattr(evaluation, "cudnn_choices", choices)


@pytest.fixture
def products_in_tf32() -> Iterator[None]:
    """As TORCH_ALLOW_TF32_CUBLAS_OVERRIDE has it in some containers."""
    products, before = torch.backends.cuda.matmul, torch.backends.cuda.matmul.allow_tf32
    products.allow_tf32 = True
    yield
    products.allow_tf32 = before


@pytest.mark.usefixtures("as_on_a_gpu", "products_in_tf32")
def test_evaluation_times_no_algorithms_and_knows_no_tf32(images: Tensor, labels: Tensor) -> None:
    before = flags()
    network = Told()
    with device.cudnn_choices(torch.device("cuda"), timed=True):
        evaluation.evaluate(network, images, labels, PLAIN)
        assert torch.backends.cudnn.benchmark, "the training around it goes on as it was"
    evaluation.scores(network, images, PLAIN)
    assert network.flags == {(False, False, False)}
    assert flags() == before and before[2]


def test_cudnn_times_its_algorithms_only_where_it_is_asked_to() -> None:
    with device.cudnn_choices(torch.device("cuda"), timed=False):
        assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32) == (False, False)
    with device.cudnn_choices(torch.device("cuda"), timed=True):
        assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32) == (True, False)
    with device.cudnn_choices(torch.device("cpu"), timed=True):
        assert not torch.backends.cudnn.benchmark


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_images_on_the_cpu_are_evaluated_on_the_gpu_of_the_network(images: Tensor, labels: Tensor) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 10)).cuda()
    expected = evaluation.evaluate(network, images.cuda(), labels.cuda(), PLAIN)
    assert evaluation.evaluate(network, images, labels, PLAIN) == expected
    given = evaluation.scores(network, images.cuda(), PLAIN)
    assert torch.equal(evaluation.scores(network, images, PLAIN), given)
