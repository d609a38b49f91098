"""Measures how fast training steps go, on noise: it trains as slowly as pictures do, and needs no data.

Takes networks and a recipe, returns seconds and bytes. Called by search/study/duration.py for a forecast, and
by search/launcher/workers_per_gpu.py for workers that share a GPU, with the memory of an evaluation. On a GPU
both train as a trial does, augmented and recorded where trials are; the forecast for a CPU times no
augmentation. Nothing is learned or kept.
"""

import gc
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from space.architecture import Architecture
from trainer import initialisation
from trainer.augmentation.mixup import Targets, mixed
from trainer.data.batches import CHUNK_BYTES, DeviceDataset, Normalisation
from trainer.device import cudnn_choices, memory_errors, released_afterwards, select_device
from trainer.evaluation import EVALUATED, evaluate
from trainer.recipe.document import Recipe
from trainer.step_graph import WARM_UP_STEPS, GraphedStep, MakeRecorder, cuda_recorder
from trainer.training_step import TrainingStep

Batch = tuple[torch.Tensor, torch.Tensor]  # images (N, C, H, W) float32 or bfloat16, labels (N,) int64


@dataclass(frozen=True)
class Pace:
    """Seconds of a step by image, with so many images in the step's batch, on that kind of device."""

    seconds: float
    batch: int
    device: str


@dataclass(frozen=True)
class Throughput:
    """Images trained a second, and bytes of memory that it took at most (of a GPU, else of the process)."""

    images_per_second: float
    memory: int


def steady(
    networks: Sequence[Architecture],
    recipe: Recipe,
    seconds: float,
    ready: Callable[[], None] = lambda: None,
    make_recorder: MakeRecorder = cuda_recorder,
) -> Throughput:
    """The networks in turn, as a trial trains them, for about so many seconds after ready() has returned.

    Each is warmed up and evaluated before. On the first GPU if there is one. A worker has one network at a
    time: the memory is that of the one that took most, each measured by itself. Raises what torch raises
    without enough memory: a RuntimeError or a MemoryError.
    """
    device = select_device()
    with cudnn_choices(device, timed=False):
        memory = max(_memory_of(network, recipe, device, make_recorder) for network in networks)
        trainings = [_warm(network, recipe, device, make_recorder) for network in networks]
        ready()
        began, images = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            for training in trainings:
                images += training.train(IN_A_ROW if device.type == "cuda" else 1)
        gone = time.perf_counter() - began
    return Throughput(images / gone, memory)


def _memory_of(
    network: Architecture, recipe: Recipe, device: torch.device, make_recorder: MakeRecorder
) -> int:
    """Bytes that a training and an evaluation of it take of the device at most."""
    if device.type != "cuda":
        _warm(network, recipe, device, make_recorder)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    # Of a process that did nothing with its GPU yet torch resets no statistics.
    torch.cuda.init()  # type: ignore[no-untyped-call]
    gc.collect()  # else the network of before counts too
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    _warm(network, recipe, device, make_recorder)
    return torch.cuda.max_memory_reserved(device) + CONTEXT_BYTES


def _warm(
    network: Architecture, recipe: Recipe, device: torch.device, make_recorder: MakeRecorder
) -> "_Rehearsal":
    """One that has trained until its step is recorded, and was evaluated."""
    training = _Rehearsal(network, recipe, device, make_recorder)
    training.train(WARM_UP_STEPS + 1)
    training.evaluate()
    return training


CONTEXT_BYTES = 600 << 20  # what CUDA itself takes of a GPU for a process, which torch does not count
IN_A_ROW = 20  # steps on a GPU before it is waited for, as it is in a training once an epoch


class _Rehearsal:
    """A training by the steps of trainer/loop.py, on as much noise as is augmented at once."""

    def __init__(
        self, architecture: Architecture, recipe: Recipe, device: torch.device, make_recorder: MakeRecorder
    ) -> None:
        self.network = initialisation.network(architecture, recipe).to(
            device, memory_format=torch.channels_last
        )  # type: ignore[call-overload]
        self.recipe, self.images = recipe, _noise(architecture, recipe, device)
        self.generator = torch.Generator(device).manual_seed(0)
        self.step = TrainingStep(self.network, recipe, device)
        self.step.set_rate(recipe.learning_rate, None)
        recorder = make_recorder(recipe, device)
        self.train_on = GraphedStep(self.step, recorder) if recorder else self.step
        self.batches = _without_end(partial(self.images.epoch, recipe, self.generator, self.step.emitted))

    def train(self, steps: int) -> int:
        """So many steps, and a wait for them. Returns how many images they were."""
        self.network.train()
        for _ in range(steps):
            x, labels = next(self.batches)
            self.train_on(*mixed(x, labels, self.recipe, self.generator))
        self.step.total.item()
        return steps * len(labels)

    def evaluate(self) -> None:
        """One batch in float32, the largest that a validation has."""
        images = self.images
        most = EVALUATED * self.recipe.batch_size
        part = images.validation[:most]
        evaluate(self.network, images.images, images.labels, images.normalisation, part, most=most)


def _without_end(epoch: Callable[[], Iterator[Batch]]) -> Iterator[Batch]:
    """The batches of one epoch after another. It holds no _Rehearsal, which could not be freed then."""
    while True:
        yield from epoch()


def _noise(architecture: Architecture, recipe: Recipe, device: torch.device) -> DeviceDataset:
    """Images in whole batches, a few on a CPU, on a GPU as many as are augmented at once."""
    side, channels = architecture.image_size, architecture.channels
    fitting = CHUNK_BYTES["cuda"] // (side * side * channels) if device.type == "cuda" else 0
    count = max(1, fitting // recipe.batch_size) * recipe.batch_size
    rows = torch.arange(count, device=device)
    return DeviceDataset(
        images=torch.randint(256, (count, side, side, channels), dtype=torch.uint8, device=device),
        labels=torch.randint(architecture.classes, (count,), device=device),
        train=rows,
        validation=rows,
        normalisation=Normalisation((127.0,) * channels, (64.0,) * channels),
    )


def measure(
    architecture: Architecture,
    recipe: Recipe,
    seconds: float,
    seed: int = 0,
    device: torch.device | None = None,
    make_recorder: MakeRecorder = cuda_recorder,
) -> Pace:
    """Steps as a worker makes them, for about `seconds` once they are warm; on the first GPU if there is one,
    unless a device is given.

    A GPU, without TF32: the recipe's batches. One thread of a CPU: batches that double, to the recipe's or
    until the time has gone; the last one counts. Leaves torch's generator as it was. Raises MemoryError where
    two images are too many for a GPU.
    """
    device, threads = device or select_device(), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        forked = torch.random.fork_rng([device] if device.type == "cuda" else [])
        with forked, cudnn_choices(device, timed=False):
            torch.manual_seed(seed)
            if device.type == "cuda":
                return _within_memory(architecture, recipe, device, seconds, make_recorder)
            return _paced(_stepper(architecture, recipe, device), recipe.batch_size, seconds, device.type)
    finally:
        torch.set_num_threads(threads)


def _within_memory(
    architecture: Architecture,
    recipe: Recipe,
    device: torch.device,
    seconds: float,
    make_recorder: MakeRecorder,
) -> Pace:
    """By full batches; without enough memory for one by half of it, as a trial is trained then, and so on."""
    while True:
        try:
            with released_afterwards(device), memory_errors():
                return _by_full_batches(_Rehearsal(architecture, recipe, device, make_recorder), seconds)
        except MemoryError:
            if recipe.halved() == recipe:
                raise
        recipe = recipe.halved()


def _by_full_batches(training: "_Rehearsal", seconds: float) -> Pace:
    """Steps that are recorded already, and waited for once, as in a training; fewer than IN_A_ROW where these
    would take longer than so many seconds."""

    def timed(steps: int) -> float:
        started = time.perf_counter()
        training.train(steps)
        return (time.perf_counter() - started) / steps

    training.train(WARM_UP_STEPS + 1)
    each = timed(max(1, min(IN_A_ROW, int(seconds / timed(1)))))
    batch = training.recipe.batch_size
    return Pace(each / batch, batch, training.step.device.type)


def _paced(step: Callable[[int], float], most: int, seconds: float, device: str) -> Pace:
    batch = 2
    step(batch)  # the first one loads code, makes plans and takes memory
    began = time.perf_counter()
    while True:
        last = step(batch)
        gone = time.perf_counter() - began
        if batch >= most or gone + 4 * last > seconds:  # twice the batch, twice: once to plan, once to time
            return Pace(last / batch, batch, device)
        batch = min(2 * batch, most)
        step(batch)


def _stepper(architecture: Architecture, recipe: Recipe, device: torch.device) -> Callable[[int], float]:
    """One step of a training on a CPU with a batch of so many images; its seconds."""
    network = initialisation.network(architecture, recipe).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.train()
    train_on = TrainingStep(network, recipe, device)
    train_on.set_rate(recipe.learning_rate, None)

    def step(batch: int) -> float:
        views = 3 * batch if recipe.jensen_shannon else batch
        shape = (views, architecture.channels, architecture.image_size, architecture.image_size)
        x = torch.randn(shape, device=device).contiguous(memory_format=torch.channels_last)
        labels = torch.randint(architecture.classes, (batch,), device=device)
        started = time.perf_counter()
        train_on(x, Targets(labels))
        return time.perf_counter() - started

    return step
