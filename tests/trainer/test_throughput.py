"""What is measured before a search, as a GPU would be: torch.cuda is a stand-in, the trainings are real."""

import gc
import weakref
from collections.abc import Iterator
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from recorded_steps import OperatorRecorder, step_as_on_a_gpu

from space.architecture import Architecture, Stage, Stem
from trainer import throughput
from trainer.augmentation.mixup import Targets
from trainer.recipe.document import Recipe
from trainer.step_graph import WARM_UP_STEPS, MakeRecorder, plain_steps
from trainer.training_step import TrainingStep

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

    class Rehearsal:
        def __init__(self, _: Architecture, recipe: Recipe, device: torch.device, make: object) -> None:
            self.recipe, self.step = recipe, SimpleNamespace(device=device)

        def train(self, _: int) -> None:
            allowed.append(torch.backends.cudnn.allow_tf32)

    monkeypatch.setattr(throughput, "select_device", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.random, "fork_rng", lambda _: nullcontext())
    monkeypatch.setattr(throughput, "_Rehearsal", Rehearsal)
    assert torch.backends.cudnn.allow_tf32
    assert throughput.measure(NETWORK, RECIPE, seconds=1.0).device == "cuda"
    assert set(allowed) == {False}
    assert torch.backends.cudnn.allow_tf32


@pytest.fixture
def rehearse_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """A GPU is selected, and what is to be trained there is trained here. Returns the shapes of batches."""
    shapes: list[torch.Size] = []
    step_as_on_a_gpu(monkeypatch)

    class Rehearsal(throughput._Rehearsal):
        def __init__(
            self, network: Architecture, recipe: Recipe, _: torch.device, make: MakeRecorder
        ) -> None:
            super().__init__(network, recipe, torch.device("cpu"), make)
            train_on = self.train_on

            def noted(x: torch.Tensor, targets: Targets) -> None:
                shapes.append(x.shape)
                train_on(x, targets)

            self.train_on = noted  # type: ignore[assignment]

    monkeypatch.setattr(throughput, "select_device", lambda: torch.device("cuda", 0))
    monkeypatch.setattr(torch.random, "fork_rng", lambda _: nullcontext())
    monkeypatch.setattr(throughput, "_Rehearsal", Rehearsal)
    return shapes


@pytest.mark.parametrize(("seconds", "steps"), [(100.0, 20), (8.0, 8), (0.1, 1)])
def test_a_forecast_for_a_gpu_times_recorded_steps_of_full_batches(
    seconds: float, steps: int, rehearse_on_the_cpu: list[torch.Size], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plain steps take twice as long there, and no trial makes them. A second passes with each repetition."""
    recorder = OperatorRecorder()
    clock = SimpleNamespace(perf_counter=lambda: float(recorder.replayed))
    monkeypatch.setattr(throughput, "time", clock)
    found = throughput.measure(NETWORK, RECIPE, seconds, make_recorder=lambda *_: recorder)
    assert (found.seconds, found.batch) == (1 / RECIPE.batch_size, RECIPE.batch_size)
    assert (recorder.warmed, recorder.recorded) == (WARM_UP_STEPS, 1)
    assert recorder.replayed == 2 + steps, "the first one, one that says how long they take, and these"
    assert set(rehearse_on_the_cpu) == {(RECIPE.batch_size, 3, 8, 8)}


def test_a_forecast_for_a_gpu_without_memory_for_a_batch_is_of_half_of_it(
    rehearse_on_the_cpu: list[torch.Size], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a trial is: it says how long that takes, and not that there was no memory."""
    train = TrainingStep.__call__

    def short(step: TrainingStep, x: torch.Tensor, targets: Targets) -> None:
        if len(x) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        train(step, x, targets)

    monkeypatch.setattr(TrainingStep, "__call__", short)
    found = throughput.measure(NETWORK, RECIPE, 1.0, make_recorder=plain_steps)
    assert found.batch == 2 and found.seconds > 0
    assert list(dict.fromkeys(shape[0] for shape in rehearse_on_the_cpu)) == [8, 4, 2]
    monkeypatch.setattr(TrainingStep, "__call__", fail)
    with pytest.raises(MemoryError, match="out of memory"):
        throughput.measure(NETWORK, RECIPE, 1.0, make_recorder=plain_steps)


def fail(*_: object) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory.")


def test_a_forecast_for_a_cpu_times_plain_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = OperatorRecorder()
    monkeypatch.setattr(throughput, "select_device", lambda: torch.device("cpu"))
    found = throughput.measure(NETWORK, RECIPE, 60.0, make_recorder=lambda *_: recorder)
    assert (found.batch, found.device, recorder.recorded) == (RECIPE.batch_size, "cpu", 0)
    assert found.seconds > 0
