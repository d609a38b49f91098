"""Evaluates trained weights on the test images, once for each seed: accuracy, by class, confusion matrix, how
far the network's confidence is right, and some images that it took for another class.

Reads the weights that search/training/run.py left; called by search/training/train.py after the last seed.
Nothing is chosen by these figures.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from search.study.statistics import Spread, spread
from search.training.run import LearningCurve, TrainingJob
from space.errors import CheckpointError, DataError
from trainer import initialisation, weights
from trainer.class_scores import class_scores
from trainer.evaluation import EVALUATED, scores

BINS = 15  # of the confidence, as Guo and others (2017) have it
PAIRS, EXAMPLES = 24, 4


@dataclass(frozen=True)
class TestResult:
    """Of one seed on all test images: confusion[i][j] images of class i were taken for class j."""

    seed: int
    accuracy: float
    loss: float
    images: int
    by_class: tuple[float | None, ...]
    confusion: tuple[tuple[int, ...], ...]
    balanced_accuracy: float | None = None  # None in results of before, as macro_f1
    macro_f1: float | None = None
    # Both are empty in results of before. Of the images by their confidence, that is the probability of the
    # class that they were taken for: how many, their mean confidence, their accuracy; by BINS equal ranges.
    calibration: tuple[tuple[int, float, float], ...] = ()
    # Images that were taken for another class: their number, class, the other one, confidence. Of each of the
    # PAIRS most frequent pairs of classes the EXAMPLES most confident ones.
    mistakes: tuple[tuple[int, int, int, float], ...] = ()

    @property
    def calibration_error(self) -> float | None:
        """Expected calibration error (Naeini and others, 2015), 0..1: how far confidence is from accuracy."""
        if not self.calibration:
            return None
        return sum(count * abs(sure - right) for count, sure, right in self.calibration) / self.images


def open_test_set(job: TrainingJob) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The test images and labels on the CPU; None where the data set has none."""
    try:
        images, labels = job.images.dataset.open_test()
    except DataError:
        return None
    return torch.from_numpy(images), torch.from_numpy(labels)


def evaluate(job: TrainingJob, seed: int, images: torch.Tensor, labels: torch.Tensor) -> TestResult:
    """The weights that the seed has left, on all test images.

    `images` is (n, height, width, channels), uint8, `labels` (n,), int64, both on the CPU.
    Raises CheckpointError where the file does not hold the weights of this network.
    """
    found = weights.load(job.path(seed, "safetensors"))
    if found.architecture.fingerprint != job.architecture.fingerprint:
        raise CheckpointError(f"{job.path(seed, 'safetensors')} holds weights of another network")
    network = initialisation.network(job.architecture, job.recipe)
    network.load_state_dict(dict(found.state))
    network = network.to(job.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    how = job.recipe
    given = scores(
        network,
        images,
        found.normalisation,
        training=how.evaluate_in_training_mode,
        most=EVALUATED * how.batch_size,  # as the validation, which went well
    )
    classes = len(found.classes)
    taken = torch.bincount(labels * classes + given.argmax(1), minlength=classes**2)
    confusion = taken.view(classes, classes)
    totals, hits = confusion.sum(1).tolist(), confusion.diagonal().tolist()
    by_class = class_scores(hits, totals, confusion.sum(0).tolist())
    # A softmax of logarithms of shares is these shares; the loss is that of the training, of two in a row.
    logits = given.log() if job.architecture.head.softmax else given
    return TestResult(
        seed=seed,
        accuracy=sum(hits) / len(labels),
        loss=float(functional.cross_entropy(given, labels)),
        images=len(labels),
        by_class=tuple(hit / total if total else None for hit, total in zip(hits, totals, strict=True)),
        confusion=tuple(map(tuple, confusion.tolist())),
        balanced_accuracy=by_class.balanced_accuracy,
        macro_f1=by_class.macro_f1,
        calibration=calibration(logits, labels),
        mistakes=mistakes(logits, labels),
    )


def calibration(given: torch.Tensor, labels: torch.Tensor) -> tuple[tuple[int, float, float], ...]:
    """Logits (n, classes) float32 and labels (n,) int64 to those bins of TestResult.calibration that have
    images."""
    sure, taken = given.softmax(1).double().max(1)
    right = (taken == labels).double()
    bins = (sure * BINS).ceil().long().clamp(1, BINS) - 1
    counts, confidence, accuracy = (
        torch.bincount(bins, weights=x, minlength=BINS).tolist() for x in (torch.ones_like(sure), sure, right)
    )
    return tuple(
        (round(count), total / count, hits / count)
        for count, total, hits in zip(counts, confidence, accuracy, strict=True)
        if count
    )


def mistakes(given: torch.Tensor, labels: torch.Tensor) -> tuple[tuple[int, int, int, float], ...]:
    """Logits (n, classes) float32 and labels (n,) int64 to the images of TestResult.mistakes."""
    sure, taken = given.softmax(1).max(1)
    wrong = (taken != labels).nonzero().flatten()
    wrong = wrong[sure[wrong].argsort(descending=True, stable=True)]
    pairs = [(int(labels[i]), int(taken[i])) for i in wrong]
    usual = {pair for pair, _ in Counter(pairs).most_common(PAIRS)}
    seen, found = Counter[tuple[int, int]](), list[tuple[int, int, int, float]]()
    for i, pair in zip(wrong.tolist(), pairs, strict=True):
        seen[pair] += 1
        if pair in usual and seen[pair] <= EXAMPLES:
            found.append((i, *pair, float(sure[i])))
    return tuple(found)


def summarise(curves: Sequence[LearningCurve], tests: Sequence[TestResult]) -> dict[str, Spread]:
    """Over the seeds: accuracies on validation images, and on test images where there are some.

    Beside accuracy stand balanced accuracy and macro F1, which count each class the same.
    """
    found = {
        "validation accuracy, last epoch": spread([curve.outcome.accuracy for curve in curves]),
        "validation accuracy, best epoch": spread([curve.outcome.best_accuracy for curve in curves]),
    }
    if tests:
        found["test accuracy"] = spread([test.accuracy for test in tests])
    for name in ("balanced_accuracy", "macro_f1"):
        for part, records in (("validation", [curve.outcome for curve in curves]), ("test", tests)):
            values = [value for record in records if (value := getattr(record, name)) is not None]
            if values and len(values) == len(records):
                found[f"{part} {name.replace('_', ' ').replace('f1', 'F1')}"] = spread(values)
    return found
