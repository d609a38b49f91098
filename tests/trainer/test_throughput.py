"""What is measured before a search, as a GPU would be: torch.cuda is a stand-in, the trainings are real."""

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import pytest
import torch

from space.architecture import Architecture, Stage, Stem
from trainer import throughput
from trainer.recipe.document import Recipe
from trainer.step_graph import plain_steps

NETWORK = Architecture(channels=3, image_size=8, stem=Stem(width=4), stages=(Stage(blocks=1, width=4),))
RECIPE = Recipe(batch_size=8, precision="float32")


@pytest.fixture
def _nothing_is_collected_by_itself() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_nothing_is_collected_by_itself")
def test_the_memory_of_each_network_is_measured_without_that_of_the_one_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else three networks count as one, and a GPU gets a third of the workers that it has room for."""
    made: list[weakref.ref[object]] = []
    held: list[int] = []
    warm = throughput._warm

    def on_the_cpu(network: Architecture, recipe: Recipe, _: torch.device, make: object) -> object:
        training = warm(network, recipe, torch.device("cpu"), plain_steps)
        made.append(weakref.ref(training))
        return training

    monkeypatch.setattr(throughput, "_warm", on_the_cpu)
    monkeypatch.setattr(
        torch.cuda, "empty_cache", lambda: held.append(sum(one() is not None for one in made))
    )
    ready: list[bool] = []

    def reset(_: object) -> None:
        """As torch's own, which needs a process that has begun with its GPU, and does not begin itself."""
        if not ready:
            raise RuntimeError("Invalid device argument 0: did you call init?")

    monkeypatch.setattr(torch.cuda, "init", lambda: ready.append(True))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda _: 5)
    for _ in range(3):
        found = throughput._memory_of(NETWORK, RECIPE, torch.device("cuda"), plain_steps)
        assert found == 5 + throughput.CONTEXT_BYTES
    assert held == [0, 0, 0]
    assert made[-1]() is None, "nor is the last one held while the speed of all is measured"


def test_a_forecast_of_float32_is_timed_without_tf32_as_trials_compute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """TF32 is several times as fast, and torch has convolutions in it unless it is told otherwise."""
    allowed: list[bool] = []

    def stepper(*_: object) -> Callable[[int], float]:
        def step(_: int) -> float:
            allowed.append(torch.backends.cudnn.allow_tf32)
            return 1.0

        return step

    monkeypatch.setattr(throughput, "select_device", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.random, "fork_rng", lambda _: nullcontext())
    monkeypatch.setattr(throughput, "_stepper", stepper)
    assert torch.backends.cudnn.allow_tf32
    assert throughput.measure(NETWORK, RECIPE, seconds=1.0).device == "cuda"
    assert set(allowed) == {False}
    assert torch.backends.cudnn.allow_tf32
