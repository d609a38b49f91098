"""Trains one network: architecture, recipe, data and a seed in; weights and an outcome out.

Reads the images of a data set, and reads and writes a checkpoint where one is asked for.
Called by search/worker/training_function.py for a trial, search/training/run.py for a full training, and
benchmarks/. It knows nothing of studies, databases or the test set: whoever calls is told after each epoch,
and stops a training by raising.

The same seed, device and number of threads give the same result to the bit on a CPU. An accuracy that counts
is evaluated in float32, so that it does not depend on the precision of the training.

With a checkpoint a training that was ended goes on where it was saved, to the same bits as if it had never
stopped (on a CPU, with as many threads). It is saved after on_epoch has returned: an epoch that a checkpoint
holds was told, one that raised (pruned, say) is in none, and after a kill an epoch may be told again.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from space.architecture import Architecture
from space.errors import ArchitectureError, CheckpointError, DivergedError, RecipeError
from trainer import checkpoint as checkpoints, initialisation, weights
from trainer.augmentation.mixup import mixed
from trainer.batch_counts import counted_afterwards
from trainer.callbacks import NO_CALLBACKS, TrainingCallbacks
from trainer.checkpoint import Checkpoint, CheckpointOptions, CheckpointWriter, Identity
from trainer.data.batches import DeviceDataset, Normalisation, feed
from trainer.data.dataset import Dataset, Split
from trainer.device import cudnn_choices, select_device
from trainer.ema import Average
from trainer.evaluation import EVALUATED, evaluate, scores as scores_of
from trainer.learning_rate import momentum, rate
from trainer.outcome import EpochReport, Outcome
from trainer.recipe.document import Recipe
from trainer.step_graph import GraphedStep, MakeRecorder, cuda_recorder
from trainer.training_step import TrainingStep

__all__ = [
    "CheckpointOptions",
    "EpochReport",
    "Fitted",
    "Outcome",
    "TrainingCallbacks",
    "evaluate",
    "fit",
    "select_device",
]

Score = Callable[[Tensor, Tensor], float]


@dataclass(frozen=True)
class Fitted:
    """A trained network (weights channels-last), what its images were normalised with, and how it did."""

    model: nn.Module
    normalisation: Normalisation
    outcome: Outcome


def fit(
    architecture: Architecture,
    recipe: Recipe,
    dataset: Dataset,
    split: Split,
    *,
    seed: int,
    device: str | torch.device | None = "cpu",
    callbacks: TrainingCallbacks = NO_CALLBACKS,
    checkpoint: CheckpointOptions | None = None,
    timed: bool = False,
    score: Score | None = None,
    make_recorder: MakeRecorder = cuda_recorder,
) -> Fitted:
    """Train for recipe.epochs, validating after each. Seeds torch's global generator.

    The last epoch is validated in float32, those before it as they are trained: no more than a pruner and a
    person's eye go by them, and on a GPU float32 took a seventh of a training.

    The images (N, H, W, C) uint8 and labels (N,) int64 of the data set are moved to the device, the first GPU
    where that is None. A checkpoint is written after an epoch but never after the last; whoever no longer
    needs it discards it. One that is there and is of this very training is continued, and the outcome is of
    all epochs. Any other is replaced in time, and a warning in the log says so.

    timed: cuDNN may try its algorithms on a GPU, for a training so long that some seconds are nothing.
    score: what is reported beside accuracy as own_score, of the network's scores (N, classes) float32 and the
    labels (N,) int64 of the validation images, both on the CPU.
    make_recorder: what records the step on a GPU, to repeat it by one launch (trainer/step_graph.py).

    Raises what a callback raises; DivergedError where a loss is not finite; ArchitectureError and RecipeError
    where the data set has other images than they are for; DeviceError for a device that is not there.
    """
    _check(architecture, recipe, dataset)
    place = device if isinstance(device, torch.device) else select_device(device)

    def fresh() -> _Run:
        torch.manual_seed(seed)
        network = initialisation.network(architecture, recipe).to(place, memory_format=torch.channels_last)  # type: ignore[call-overload]
        images = feed(dataset, split, place)
        images = replace(images, normalisation=initialisation.normalisation(recipe, images.normalisation))
        return _Run(network, recipe, images, place, seed, callbacks, score, make_recorder)

    run = fresh()
    if checkpoint:
        identity = Identity.of(architecture, recipe, dataset, split, seed, place)
        run = _continued(run, fresh, CheckpointWriter(checkpoint, identity))
    if run.reports and callbacks.on_continue:
        callbacks.on_continue(tuple(run.reports))
    with cudnn_choices(place, timed=timed):
        outcome = run.all_epochs()
    run.network.zero_grad()  # else the gradients live as long as the network, and with them a graph's memory
    fitted = Fitted(run.judged, run.feed.normalisation, outcome)
    if callbacks.on_trained:
        about = weights.trained_on(dataset.digest, seed, outcome.epochs, outcome.accuracy)
        written = (fitted.model, architecture, dataset.classes, fitted.normalisation, about)
        callbacks.on_trained(outcome, lambda path: weights.save(path, *written, dataset.scaling))
    return fitted


def _continued(run: "_Run", fresh: Callable[[], "_Run"], writer: CheckpointWriter) -> "_Run":
    """The run at the state that was kept, if one was, and from now on kept there."""
    found = writer.found()
    try:
        if found:
            run.restore(found)
    except CheckpointError as error:
        writer.refuse(error)
        run = fresh()
    run.writer = writer
    return run


class _Run:
    """One training under way."""

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        feed: DeviceDataset,
        device: torch.device,
        seed: int,
        callbacks: TrainingCallbacks,
        score: Score | None = None,
        make_recorder: MakeRecorder = cuda_recorder,
    ) -> None:
        self.score = score
        self.network, self.recipe, self.feed = network, recipe, feed
        self.device, self.callbacks = device, callbacks
        class_weights = feed.balance() if recipe.class_weights == "balanced" else None
        self.plain_step = TrainingStep(network, recipe, device, class_weights)
        recorder = make_recorder(recipe, device)
        self.train_on = GraphedStep(self.plain_step, recorder) if recorder else self.plain_step
        self.average = Average(network, recipe.ema) if recipe.ema else None
        self.generator = torch.Generator(device).manual_seed(seed)
        self.step, self.steps = 0, recipe.epochs * feed.steps(recipe.batch_size)
        self.learning_rate = 0.0
        self.reports: list[EpochReport] = []
        self.started = time.perf_counter()
        self.writer: CheckpointWriter | None = None

    def restore(self, found: Checkpoint) -> None:
        checkpoints.restore(
            found.state, self.network, self.plain_step.optimizer, self.generator, self._averaged
        )
        self.step, self.reports = found.step, list(found.reports)
        self.started -= found.seconds

    def capture(self, identity: Identity) -> Checkpoint:
        state = checkpoints.capture(self.network, self.plain_step.optimizer, self.generator, self._averaged)
        return Checkpoint(identity, self.step, self._seconds, tuple(self.reports), state)

    @property
    def _averaged(self) -> nn.Module | None:
        return self.average.network if self.average else None

    @property
    def judged(self) -> nn.Module:
        """The network that counts: the average of the weights where there is one."""
        return self._averaged or self.network

    @property
    def _seconds(self) -> float:
        return time.perf_counter() - self.started

    def all_epochs(self) -> Outcome:
        reports, last = self.reports, self.recipe.epochs
        for epoch in range(len(reports) + 1, last + 1):
            reports.append(self.one_epoch(epoch))
            if self.callbacks.on_epoch:
                self.callbacks.on_epoch(reports[-1])
            if self.writer and epoch < last:
                self.writer.offer(self.capture)
        training = sum(self._images / report.images_per_second for report in reports)
        return Outcome(
            accuracy=reports[-1].validation_accuracy,
            best_accuracy=max(report.validation_accuracy for report in reports),
            loss=reports[-1].validation_loss,
            epochs=len(reports),
            seconds=self._seconds,
            images_per_second=len(reports) * self._images / training,
            validation_images=len(self.feed.validation),
            balanced_accuracy=reports[-1].balanced_accuracy,
            macro_f1=reports[-1].macro_f1,
            own_score=reports[-1].own_score,
        )

    @property
    def _images(self) -> int:
        """Training images in an epoch."""
        return min(len(self.feed.train), self.feed.steps(self.recipe.batch_size) * self.recipe.batch_size)

    def one_epoch(self, epoch: int) -> EpochReport:
        started = time.perf_counter()
        train_loss = self._train()
        trained = time.perf_counter()
        _require_finite(train_loss, "training", epoch)
        feed = self.feed
        loss, accuracy, by_class = evaluate(
            self.judged,
            feed.images,
            feed.labels,
            feed.normalisation,
            feed.validation,
            self._tell_batch,
            training=self.recipe.evaluate_in_training_mode,
            precision=self.plain_step.precision if epoch < self.recipe.epochs else torch.float32,
            most=EVALUATED * self.recipe.batch_size,
        )
        _require_finite(loss, "validation", epoch)
        return EpochReport(
            epoch=epoch,
            epochs=self.recipe.epochs,
            train_loss=train_loss,
            validation_loss=loss,
            validation_accuracy=accuracy,
            learning_rate=self.learning_rate,
            seconds=time.perf_counter() - started,
            images_per_second=self._images / (trained - started),
            balanced_accuracy=by_class.balanced_accuracy,
            macro_f1=by_class.macro_f1,
            own_score=self._scored() if self.score else None,
        )

    def _scored(self) -> float:
        """The validation images by the score that was given."""
        assert self.score is not None
        feed, chosen = self.feed, self.feed.validation
        images, labels = feed.images.index_select(0, chosen), feed.labels.index_select(0, chosen)
        most = EVALUATED * self.recipe.batch_size
        return self.score(scores_of(self.judged, images, feed.normalisation, most=most), labels.cpu())

    def _train(self) -> float:
        """One pass over the training images; their mean loss. The only wait for the device is at the end."""
        self.network.train()
        total = self.plain_step.total.zero_()
        with counted_afterwards(self.network, lambda: self.step):
            for x, labels in self.feed.epoch(self.recipe, self.generator, self.plain_step.emitted):
                self._step(x, labels)
                self.step += 1
                if self.average:
                    self.average.update(self.step)
                self._tell_batch()
        if self.average:
            self.average.take_counts()
        return total.item() / self.feed.steps(self.recipe.batch_size)

    def _tell_batch(self) -> None:
        """Says where the training stands, between the batches of a validation too: it is not hanging."""
        if self.callbacks.on_batch:
            self.callbacks.on_batch(self.step, self.steps)

    def _step(self, x: Tensor, labels: Tensor) -> None:
        """Trains on images (N, C, H, W) float32 and labels (N,) int64."""
        self.learning_rate = rate(self.recipe, self.step, self.steps)
        self.plain_step.set_rate(self.learning_rate, momentum(self.recipe, self.step, self.steps))
        self.train_on(*mixed(x, labels, self.recipe, self.generator))


def _require_finite(loss: float, kind: str, epoch: int) -> None:
    if not math.isfinite(loss):
        raise DivergedError(f"{kind} loss is {loss} in epoch {epoch}; a lower learning_rate may help")


def _check(architecture: Architecture, recipe: Recipe, dataset: Dataset) -> None:
    wanted = (architecture.channels, architecture.image_size, architecture.classes)
    found = (dataset.channels, dataset.image_size, len(dataset.classes))
    if wanted != found:
        shown = ["{} channels, {} pixels a side, {} classes".format(*facts) for facts in (wanted, found)]
        raise ArchitectureError(f"the architecture is for {shown[0]}; {dataset.name} has {shown[1]}")
    recipe.require_fit(dataset.image_size)
    if recipe.expanded_policy and dataset.channels not in (1, 3):
        name = recipe.expanded_policy.name
        raise RecipeError(f"policy {name} is for images of 1 or 3 channels, these have {dataset.channels}")
