"""A training step as a CUDA graph: recorded once for a network, then repeated by a single launch.

A step of a median network is more than a thousand kernels, each of which Python must launch; a graph of them
is launched as one. Made and called by trainer/loop.py in place of the plain step (trainer/training_step.py),
with the same numbers: on an H200 losses equal to the last bit (docs/speed.md, "What an H200 says").

The first steps are plain ones on a stream of their own: in them libraries are loaded, algorithms chosen and
the optimizer's states made. Then the step is recorded on tensors that stay where they are, and each batch is
copied into them. What is drawn for a batch (augmentation, MixUp, CutMix) is drawn outside; dropout and drop
path are drawn inside, from torch's generator, which graphs carry on with.

Not recorded, and so trained by plain steps: optimizers that torch does not fuse (radam, rmsprop, adagrad,
adadelta), schedules that move the momentum, and batches of another shape than the recorded one. A recording
that fails is told in one line of the log, and the training goes on by plain steps. So it is where the first
repetition does not do what a plain step of a copy does, of a network that draws nothing itself.
"""

import logging
import math
from collections.abc import Callable, Iterable
from copy import deepcopy
from functools import cache
from typing import Protocol

import torch
from torch import Tensor, nn

from trainer import optimizers
from trainer.augmentation.mixup import Targets
from trainer.messages import one_line
from trainer.model import DropPath
from trainer.recipe.document import Recipe
from trainer.recipe.schedules import OneCycle
from trainer.training_step import TrainingStep

WARM_UP_STEPS = 3  # as torch advises; they are steps of the training like all others

# What the first repetition may differ by from a plain step, as a share of that step: rounding, in sums whose
# order is left to the device. A batch of before, or weights that are not moved, differ by about 1.
APART = 0.3

logger = logging.getLogger(__name__)

Action = Callable[[], None]


class Recorder(Protocol):
    """Records the work that a function gives to a device, and repeats it without the function."""

    def warm_up(self, action: Action) -> None:
        """Calls the function where it will be recorded."""

    def record(self, action: Action) -> Action:
        """Records what the function does without doing it; what is returned does it. Raises RuntimeError."""


MakeRecorder = Callable[[Recipe, torch.device], Recorder | None]


def cuda_recorder(recipe: Recipe, device: torch.device) -> Recorder | None:
    """What records the steps of a training; None where they are plain ones: on a CPU, and as said above."""
    if device.type != "cuda" or not is_recordable(recipe):
        return None
    return CudaRecorder(device)


def plain_steps(_recipe: Recipe, _device: torch.device) -> None:
    """In place of cuda_recorder: nothing is recorded."""


def is_recordable(recipe: Recipe) -> bool:
    """Whether all that changes from step to step is in tensors."""
    schedule = recipe.planned
    is_momentum_moved = isinstance(schedule, OneCycle) and schedule.momentum is not None
    return recipe.optimizer in optimizers.FUSED and not is_momentum_moved


class CudaRecorder:
    """Records CUDA graphs, on a stream of its own."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.stream = device, _stream(device)

    def warm_up(self, action: Action) -> None:
        """The stream of before waits for it: whoever follows finds its work done."""
        before = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(before)
        with torch.cuda.stream(self.stream):
            action()
        before.wait_stream(self.stream)

    def record(self, action: Action) -> Action:
        """Raises RuntimeError, torch's own too, for what cannot be in a graph and for a lack of memory."""
        graph, before = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self.device)
        try:
            with torch.cuda.graph(graph, stream=self.stream):
                action()
        finally:
            torch.cuda.set_stream(before)  # torch leaves its own stream set where the end of a capture fails
        replay: Action = graph.replay
        return replay


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """One for all trainings of a process: cuBLAS keeps a workspace for each stream that it ever saw, and
    torch gives a new one each time, of 32 (on an H200 64 MiB each, by torch's source)."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


class GraphedStep:
    """A TrainingStep by its recording, once there is one. Call it as the step itself."""

    def __init__(self, step: TrainingStep, recorder: Recorder) -> None:
        self.step = step
        self._recorder: Recorder | None = recorder  # None once a recording has failed
        self._warm = 0
        self._x, self._targets = torch.empty(0), Targets(torch.empty(0))
        self._replay: Action | None = None

    def __call__(self, x: Tensor, targets: Targets) -> None:
        """Trains on images (N, C, H, W), float32 or bfloat16, and their targets, as TrainingStep does."""
        if self._recorder and self._warm < WARM_UP_STEPS:
            self._warm += 1
            self._recorder.warm_up(lambda: self.step(x, targets))
            return
        if self._recorder and self._replay is None:
            self._record(self._recorder, x, targets)
            if self._replay and not draws(self.step.network, self.step.recipe):
                self._repeat_first(self._replay, x, targets)
                return
        if self._replay is None or not self._fits(x, targets):
            self.step(x, targets)
            return
        self._fill(x, targets)
        self._replay()

    def _record(self, recorder: Recorder, x: Tensor, targets: Targets) -> None:
        """Records a step on images (N, C, H, W), float32 or bfloat16, and targets like these."""
        share = torch.empty(2, device=x.device).unbind()
        others = None if targets.others is None else torch.empty_like(targets.others)
        self._x = torch.empty_like(x)
        self._targets = Targets(torch.empty_like(targets.labels), others, *share)
        try:
            self._fill(x, targets)
            self._replay = recorder.record(lambda: self.step(self._x, self._targets))
        except RuntimeError as error:
            self._recorder = None
            logger.warning("trains without a CUDA graph: %s", one_line(error))

    def _repeat_first(self, replay: Action, x: Tensor, targets: Targets) -> None:
        """Trains on images (N, C, H, W), float32 or bfloat16, and their targets by the recording, beside a
        plain step of a copy; by that one, and without the recording from then on, where they differ, and by
        plain steps where there is no memory for a copy beside it. Waits for the device, once."""
        try:
            before, plain = self._copy_trained(x, targets)
        except torch.OutOfMemoryError as error:
            logger.warning("trains without a CUDA graph: no memory to compare it: %s", one_line(error))
            plain = None
        if plain is None:  # out of the clause, whose error keeps the copy alive
            self._forget()
            self.step(x, targets)
            return
        self._fill(x, targets)
        replay()
        moved = _distance(before, plain.network.parameters())
        if not math.isfinite(moved):
            return  # the network diverges, which is no fault of the recording
        if _distance(self.step.network.parameters(), plain.network.parameters()) <= APART * moved:
            return
        self._forget()
        logger.warning("trains without a CUDA graph: what it repeated was not what a plain step does")
        self.step.network.load_state_dict(plain.network.state_dict())
        self.step.optimizer.load_state_dict(plain.optimizer.state_dict())
        self.step.total.copy_(plain.total)

    def _copy_trained(self, x: Tensor, targets: Targets) -> tuple[list[Tensor], TrainingStep]:
        """The weights, (...) float32, and a copy of the step that was trained by images (N, C, H, W), float32
        or bfloat16, and their targets. Raises torch.OutOfMemoryError."""
        plain = deepcopy(self.step)
        # A copy of an optimizer does not keep that it need not warn of steps that are not captured.
        plain.optimizer._warned_capturable_if_run_uncaptured = True
        before = [weight.detach().clone() for weight in plain.network.parameters()]
        with torch.random.fork_rng([x.device] if x.is_cuda else []):
            plain(x, targets)
        return before, plain

    def _forget(self) -> None:
        """Plain steps from now on; what the recording held of the device's memory is free."""
        self._recorder = self._replay = None
        self._x, self._targets = torch.empty(0), Targets(torch.empty(0))

    def _fits(self, x: Tensor, targets: Targets) -> bool:
        """Whether images (N, C, H, W), float32 or bfloat16, and targets are like the recorded ones."""
        is_mixed, was_mixed = targets.others is not None, self._targets.others is not None
        return (x.shape, x.dtype, is_mixed) == (self._x.shape, self._x.dtype, was_mixed)

    def _fill(self, x: Tensor, targets: Targets) -> None:
        """Copies images (N, C, H, W), float32 or bfloat16, and targets to where the recording reads them."""
        there = self._targets
        self._x.copy_(x)
        there.labels.copy_(targets.labels)
        if there.others is not None and targets.others is not None:
            there.others.copy_(targets.others)
            for place, value in ((there.share, targets.share), (there.rest, targets.rest)):
                torch.as_tensor(place).fill_(value)


def draws(network: nn.Module, recipe: Recipe) -> bool:
    """Whether two steps from the same state differ, by dropout or drop path. That at the end of blocks is no
    module of the network's (trainer/initialisation.py)."""
    if recipe.dropout and recipe.dropout.block_end:
        return True
    return any(isinstance(module, (nn.Dropout, DropPath)) for module in network.modules())


def _distance(one: Iterable[Tensor], other: Iterable[Tensor]) -> float:
    """Euclidean, between two lists of tensors (...) float32 of equal shapes."""
    with torch.no_grad():
        apart = torch._foreach_norm(torch._foreach_sub(list(one), list(other)))
        return float(torch.stack(apart).norm())
