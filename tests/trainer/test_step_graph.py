"""A step that is recorded once and replayed trains as plain steps do. Recorders are stand-ins on the CPU."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from recipe_samples import noise
from recorded_steps import FailingRecorder, IdleRecorder, OperatorRecorder, step_as_on_a_gpu
from torch import Tensor, nn

from space.architecture import Architecture, Block, Head, Stage, Stem
from trainer import initialisation, loop, step_graph, training_step
from trainer.augmentation.mixup import Targets
from trainer.callbacks import TrainingCallbacks
from trainer.cast_weights import CastWeights, is_worthwhile
from trainer.outcome import EpochReport
from trainer.recipe.document import Recipe
from trainer.step_graph import WARM_UP_STEPS, GraphedStep, Recorder, cuda_recorder, is_recordable
from trainer.training_step import TrainingStep

NETWORK = Architecture(
    channels=3,
    image_size=8,
    stem=Stem(width=4),
    block=Block(dropout=0.2),
    stages=(Stage(blocks=1, width=4), Stage(blocks=1, width=8, stride=2)),
    head=Head(dropout=0.1),
)
CALM = NETWORK.model_copy(update={"block": Block(), "head": Head()})  # draws nothing while it is trained
IMAGES, BATCH, EPOCHS = 27, 6, 5  # four steps an epoch, of which three images are left over
STEPS = 4 * EPOCHS

RECIPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "adam": {"optimizer": "adamw"},
    "muon": {"optimizer": "muon"},
    "bfloat16": {"precision": "bfloat16"},
    "averaged, clipped, with drop path": {"ema": 0.9, "clip_norm": 1.0, "drop_path": 0.3},
    "mixed": {"mixup": 0.4, "cutmix": 1.0, "class_weights": "balanced"},
    "views": {"policy": "augmix", "jensen_shannon": 12.0},
    "a rate that falls by steps": {
        "schedule": {"name": "step", "every": 2, "warm_up": 1},
        "label_smoothing": 0.3,
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


Trained = tuple[dict[str, Tensor], list[EpochReport]]


def train(
    fields: dict[str, Any], folder: Path, recorder: Recorder | None, network: Architecture = NETWORK
) -> Trained:
    """State of the network and what was reported of its epochs."""
    recipe = Recipe.model_validate(
        {"epochs": EPOCHS, "batch_size": BATCH, "crop_padding": 1, "precision": "float32", **fields}
    )
    told: list[EpochReport] = []
    dataset, split = noise(network, IMAGES, folder)
    fitted = loop.fit(
        network,
        recipe,
        dataset,
        split,
        seed=3,
        callbacks=TrainingCallbacks(on_epoch=told.append),
        make_recorder=lambda *_: recorder,
    )
    return fitted.model.state_dict(), told


def require_same(one: Trained, other: Trained) -> None:
    assert one[0].keys() == other[0].keys()
    for name, tensor in one[0].items():
        assert torch.equal(tensor, other[0][name]), name
    for a, b in zip(one[1], other[1], strict=True):
        assert (a.train_loss, a.validation_loss, a.learning_rate) == (
            b.train_loss, b.validation_loss, b.learning_rate,
        )  # fmt: skip


@pytest.mark.parametrize(
    "name",
    # torchvision's operations take half a minute to load
    [pytest.param(name, marks=pytest.mark.thorough if name == "views" else ()) for name in RECIPES],
)
def test_a_recorded_step_trains_to_the_same_bits_as_a_plain_one(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step_as_on_a_gpu(monkeypatch)
    recorder = OperatorRecorder()
    recorded = train(RECIPES[name], folder, recorder)
    assert (recorder.warmed, recorder.recorded) == (WARM_UP_STEPS, 1)
    assert recorder.replayed == STEPS - WARM_UP_STEPS
    require_same(recorded, train(RECIPES[name], folder, None))
    counts = [value for name, value in recorded[0].items() if name.endswith("num_batches_tracked")]
    assert counts and all(count == STEPS for count in counts)


@pytest.mark.parametrize("fields", [{}, {"clip_norm": 1.0, "cutout": 3}, {"mixup": 0.4}])
def test_weights_and_images_that_are_cast_at_once_train_to_the_same_bits(
    fields: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = fields | {"precision": "bfloat16", "epochs": 2}
    expected = train(fields, folder, None)
    emitted: list[torch.dtype] = []
    monkeypatch.setattr(training_step, "is_worthwhile", lambda *_: True)
    made = TrainingStep.__call__

    def call(step: TrainingStep, x: Tensor, targets: Targets) -> None:
        emitted.append(x.dtype)
        made(step, x, targets)

    monkeypatch.setattr(TrainingStep, "__call__", call)
    require_same(train(fields, folder, None), expected)
    assert set(emitted) == {torch.float32 if "mixup" in fields else torch.bfloat16}
    assert is_worthwhile(torch.device("cuda"), torch.bfloat16)
    assert not is_worthwhile(torch.device("cpu"), torch.bfloat16)


def test_a_pass_that_was_broken_off_leaves_no_gradient_and_no_copy() -> None:
    layer = nn.Linear(4, 2)
    weight, cast = layer.weight, CastWeights(layer)

    def backward() -> None:
        layer(torch.ones(3, 4, dtype=torch.bfloat16)).sum().backward()

    with pytest.raises(RuntimeError, match="captured"), cast.lent():
        backward()
        raise RuntimeError("cannot be captured")
    assert layer.weight is weight and weight.grad is None
    with cast.lent():
        assert layer.weight.dtype is torch.bfloat16
        backward()
    assert layer.weight is weight
    assert weight.grad is not None and torch.equal(weight.grad, torch.full((2, 4), 3.0))


def test_weights_are_cast_by_one_operator_each_way(monkeypatch: pytest.MonkeyPatch) -> None:
    casts: dict[bool, int] = {}
    for at_once in (False, True):
        monkeypatch.setattr(training_step, "is_worthwhile", lambda *_, at_once=at_once: at_once)
        recipe = Recipe(precision="bfloat16")
        network = initialisation.network(NETWORK, recipe)
        recorder = OperatorRecorder()
        step = TrainingStep(network, recipe, torch.device("cpu"))
        x = torch.randn(4, 3, 8, 8).to(step.emitted)
        recorder.record(lambda step=step, x=x: step(x, Targets(torch.zeros(4, dtype=torch.long))))  # type: ignore[misc]
        casts[at_once] = recorder.names.count("_to_copy")
        assert recorder.names.count("_foreach_copy_") == (2 if at_once else 0)
    layers = sum(isinstance(module, (nn.Conv2d, nn.Linear)) for module in network.modules())
    assert casts[False] - casts[True] >= 2 * layers


@pytest.mark.parametrize("optimizer", ["sgd", "muon", "adamw"])
def test_the_steps_of_a_gpu_differ_from_those_of_a_cpu_by_rounding_alone(
    optimizer: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"optimizer": optimizer, "learning_rate": 0.001}
    expected = train(fields, folder, None)[1]
    step_as_on_a_gpu(monkeypatch)
    found = train(fields, folder, OperatorRecorder())[1]
    assert [one.train_loss for one in found] == pytest.approx([one.train_loss for one in expected], rel=1e-4)


def test_a_recording_that_fails_is_one_line_and_changes_no_number(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    step_as_on_a_gpu(monkeypatch)
    recorder = FailingRecorder()
    with caplog.at_level(logging.INFO, "trainer"):
        found = train(RECIPES["mixed"], folder, recorder)
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("trains without a CUDA graph: CUDA error: operation not permitted when stream is")
    assert "\n" not in said
    assert (recorder.warmed, recorder.recorded, recorder.replayed) == (WARM_UP_STEPS, 1, 0)
    require_same(found, train(RECIPES["mixed"], folder, None))


@pytest.mark.parametrize("name", ["sgd", "muon", "adamw"])
def test_a_recording_that_does_not_do_what_a_plain_step_does_is_not_used(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    step_as_on_a_gpu(monkeypatch)
    fields = {"optimizer": name, "learning_rate": 0.001}
    with caplog.at_level(logging.INFO, "trainer"):
        found = train(fields, folder, IdleRecorder(), CALM)
    (said,) = [record.getMessage() for record in caplog.records]
    assert said == "trains without a CUDA graph: what it repeated was not what a plain step does"
    require_same(found, train(fields, folder, None, CALM))


class DrawingRecorder(OperatorRecorder):
    """Repeats with other draws than a plain step from the same state has."""

    def record(self, action: Callable[[], None]) -> Callable[[], None]:
        replay = super().record(action)

        def drawn_anew() -> None:
            torch.manual_seed(1_000 + self.replayed)
            replay()

        return drawn_anew


@pytest.mark.parametrize("fields", [{"dropout": {"block_end": 0.9}}, {"drop_path": 0.9}])
def test_of_a_network_that_draws_the_first_repetition_is_not_compared(
    fields: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    step_as_on_a_gpu(monkeypatch)
    recorder = DrawingRecorder()
    with caplog.at_level(logging.INFO, "trainer"):
        train(fields, folder, recorder, CALM)
    assert caplog.records == []
    assert recorder.replayed == STEPS - WARM_UP_STEPS


def test_where_there_is_no_memory_to_compare_a_recording_plain_steps_train(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A network that fits is not trained at half its batch for it."""
    step_as_on_a_gpu(monkeypatch)
    recorder = OperatorRecorder()

    def no_memory(_: object) -> NoReturn:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore.")

    monkeypatch.setattr(step_graph, "deepcopy", no_memory)
    with caplog.at_level(logging.INFO, "trainer"):
        found = train(RECIPES["plain"], folder, recorder, CALM)
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("trains without a CUDA graph: no memory to compare it: CUDA out of memory.")
    assert recorder.replayed == 0
    require_same(found, train(RECIPES["plain"], folder, None, CALM))


def test_a_network_that_diverges_is_no_fault_of_its_recording(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    step_as_on_a_gpu(monkeypatch)
    recorder, recipe = OperatorRecorder(), Recipe(precision="float32")
    step = TrainingStep(initialisation.network(CALM, recipe), recipe, torch.device("cpu"))
    step.set_rate(0.1, None)
    graphed = GraphedStep(step, recorder)
    with caplog.at_level(logging.INFO, "trainer"):
        for at in range(WARM_UP_STEPS + 2):
            x = torch.full((4, 3, 8, 8), float("nan") if at == WARM_UP_STEPS else 1.0)
            graphed(x, Targets(torch.arange(4)))
    assert caplog.records == [] and recorder.replayed == 2


@pytest.mark.parametrize("name", ["plain", "adam", "mixed"])
def test_a_recording_that_does_what_a_plain_step_does_is_used(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step_as_on_a_gpu(monkeypatch)
    recorder = OperatorRecorder()
    found = train(RECIPES[name], folder, recorder, CALM)
    assert recorder.replayed == STEPS - WARM_UP_STEPS
    require_same(found, train(RECIPES[name], folder, None, CALM))


def test_a_recording_would_betray_a_rate_of_the_host(folder: Path) -> None:
    """Else the tests above could not fail: without a tensor for it the first rate is repeated for good."""
    found = train({}, folder, OperatorRecorder())[0]
    expected = train({}, folder, None)[0]
    assert not torch.equal(found["stem.conv.weight"], expected["stem.conv.weight"])


def test_a_batch_of_another_shape_is_trained_by_a_plain_step(monkeypatch: pytest.MonkeyPatch) -> None:
    step_as_on_a_gpu(monkeypatch)

    def trained(recorder: Recorder | None) -> tuple[Tensor, Tensor]:
        torch.manual_seed(0)
        recipe = Recipe(precision="float32")
        network = initialisation.network(NETWORK, recipe)
        step = TrainingStep(network, recipe, torch.device("cpu"))
        step.set_rate(0.1, None)
        call: Callable[[Tensor, Targets], None] = GraphedStep(step, recorder) if recorder else step
        for size in (4, 4, 4, 4, 4, 2, 4, 3, 4):
            call(torch.randn(size, 3, 8, 8), Targets(torch.randint(10, (size,))))
        return step.total, network.get_parameter("stem.conv.weight").detach()

    recorder = OperatorRecorder()
    assert all(map(torch.equal, trained(recorder), trained(None)))
    assert recorder.replayed == 4


def test_which_steps_are_recorded() -> None:
    one_cycle = {"name": "one_cycle", "momentum": [0.85, 0.95]}
    recordable: tuple[dict[str, Any], ...] = (
        {},
        {"optimizer": "adam"},
        {"optimizer": "muon"},
        {"mixup": 0.2},
        {"schedule": {"name": "cosine"}},
    )
    plain = ({"optimizer": "rmsprop"}, {"optimizer": "adagrad"}, {"schedule": one_cycle})
    assert all(is_recordable(Recipe.model_validate(fields)) for fields in recordable)
    assert not any(is_recordable(Recipe.model_validate(fields)) for fields in plain)
    assert cuda_recorder(Recipe(), torch.device("cpu")) is None
    assert cuda_recorder(Recipe(optimizer="rmsprop"), torch.device("cuda")) is None


class FakeCuda:
    """Stands for torch.cuda: says what was asked of it, and ends a capture as it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, failure: str | None = None) -> None:
        self.said: list[str] = []
        self.now, self.failure = "default", failure
        said = self.said

        class Stream:
            def __init__(self, name: object = "side") -> None:
                self.name = name if isinstance(name, str) else "side"

            def wait_stream(self, other: "Stream") -> None:
                said.append(f"{self.name} waits for {other.name}")

        @contextmanager
        def stream(of: Stream) -> Iterator[None]:
            before, self.now = self.now, of.name
            yield
            self.now = before

        @contextmanager
        def graph(_: object, stream: Stream) -> Iterator[None]:
            self.now = stream.name
            yield
            if self.failure:
                raise RuntimeError(self.failure)
            self.now = "default"

        class CUDAGraph:
            def replay(self) -> None:
                said.append("replay")

        for name, fake in {
            "Stream": Stream,
            "stream": stream,
            "graph": graph,
            "CUDAGraph": CUDAGraph,
            "current_stream": lambda _: Stream(self.now),
            "set_stream": lambda of: setattr(self, "now", of.name),
        }.items():
            monkeypatch.setattr(torch.cuda, name, fake)


def test_a_graph_is_warmed_up_and_captured_on_a_stream_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda(monkeypatch)
    recorder = cuda_recorder(Recipe(), torch.device("cuda"))
    assert isinstance(recorder, step_graph.CudaRecorder)
    recorder.warm_up(lambda: cuda.said.append(f"works on {cuda.now}"))
    replay = recorder.record(lambda: cuda.said.append(f"captures on {cuda.now}"))
    replay()
    assert cuda.said == [
        *("side waits for default", "works on side", "default waits for side"),
        *("captures on side", "replay"),
    ]
    assert cuda.now == "default"


def test_work_goes_on_where_it_was_after_a_capture_whose_end_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda(monkeypatch, failure="CUDA error: capture was invalidated")
    recorder = step_graph.CudaRecorder(torch.device("cuda"))
    with pytest.raises(RuntimeError, match="invalidated"):
        recorder.record(lambda: None)
    assert cuda.now == "default"
