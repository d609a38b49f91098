"""torch's optimizers, patched only where torch is as it was when the patch was tested."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from trainer import optimizers
from trainer.recipe.document import Recipe


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    optimizers._is_known.cache_clear()
    yield
    optimizers._is_known.cache_clear()


def trained(steps: int) -> torch.Tensor:
    torch.manual_seed(0)
    network = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        network(torch.ones(3, 4)).square().sum().backward()
        optimizers.advance(optimizer)
    return network.weight.detach()


def test_this_torch_is_as_it_was_tested(caplog: pytest.LogCaptureFixture) -> None:
    optimizers.build(nn.Linear(4, 2), Recipe(), torch.device("cpu"))
    assert optimizers._is_known() and caplog.records == []


def test_another_torch_is_left_as_it_is_and_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = trained(3)
    optimizers._is_known.cache_clear()

    def disable(function: Callable[..., Any]) -> Callable[..., Any]:
        return function

    monkeypatch.setattr(torch, "_disable_dynamo", disable)
    with caplog.at_level(logging.WARNING, "trainer"):
        optimizers._keep_compiler_out()
        assert torch.equal(trained(3), expected)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"torch {torch.__version__} is not as it was tested")
