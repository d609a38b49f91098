"""Classes that count alike: in the loss, and in what is measured."""

from pathlib import Path

import numpy as np
import pytest
import torch
from lazily import Lazily
from torch.nn import functional
from training_samples import NETWORK, RECIPE, digits

from trainer import loop
from trainer.augmentation.mixup import Targets
from trainer.class_scores import class_scores
from trainer.data.batches import feed
from trainer.data.dataset import Split
from trainer.evaluation import evaluate
from trainer.loss import loss
from trainer.recipe.document import Recipe

metrics = Lazily("sklearn.metrics")


@pytest.mark.parametrize("seed", range(5))
def test_scores_are_those_of_scikit_learn(seed: int) -> None:
    random = np.random.default_rng(seed)
    true = random.choice(6, 200, p=[0.6, 0.2, 0.1, 0.05, 0.04, 0.01])
    taken = np.where(random.random(200) < 0.7, true, random.integers(0, 6, 200))
    counts = [np.bincount(x, minlength=6).tolist() for x in (true[true == taken], true, taken)]
    there = np.unique(true)
    found = class_scores(*counts)
    expected = [
        score(true, taken, labels=there, average="macro")
        for score in (metrics.recall_score, metrics.f1_score)
    ]
    assert list(found) == pytest.approx(expected)


def test_a_class_without_images_is_left_out_and_none_at_all_is_an_error() -> None:
    assert class_scores([1, 0], [2, 0], [1, 1]) == (0.5, pytest.approx(2 / 3))
    with pytest.raises(ValueError, match="no image"):
        class_scores([0], [0], [0])


def test_a_rare_class_counts_as_much_as_a_common_one(tmp_path: Path) -> None:
    dataset, _ = digits(tmp_path)
    labels = dataset.labels
    rows = np.concatenate(
        [np.flatnonzero(labels == 0)[:90], *(np.flatnonzero(labels == i)[:10] for i in range(1, 10))]
    )
    found = feed(dataset, Split("made up", np.sort(rows), np.arange(5)), torch.device("cpu")).balance()
    assert found.tolist() == pytest.approx([180 / (10 * 90)] + [180 / (10 * 10)] * 9)


def test_the_loss_is_weighted_by_class() -> None:
    scores, labels = torch.randn(20, 3, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 3
    weights, plain = torch.tensor([0.5, 2.0, 1.0]), Recipe(label_smoothing=0.0)
    each = functional.cross_entropy(scores, labels, reduction="none")
    expected = (each * weights[labels]).sum() / weights[labels].sum()
    assert loss(scores, Targets(labels), plain, weights).item() == pytest.approx(expected.item(), rel=1e-5)
    assert loss(scores, Targets(labels), plain).item() == pytest.approx(each.mean().item(), rel=1e-5)


def test_a_training_follows_the_recipes_weights_and_tells_both_scores(tmp_path: Path) -> None:
    dataset, split = digits(tmp_path)
    rare = np.concatenate(
        [split.train[dataset.labels[split.train] == 0], split.train[dataset.labels[split.train] != 0][:24]]
    )
    split = Split("rare", np.sort(rare), split.validation)
    fitted = [
        loop.fit(NETWORK, RECIPE.weighing(weights), dataset, split, seed=1)
        for weights in ("none", "balanced", None)
    ]
    states = [list(one.model.state_dict().values()) for one in fitted]
    assert all(torch.equal(x, y) for x, y in zip(states[0], states[2], strict=True))
    assert not all(torch.equal(x, y) for x, y in zip(states[0], states[1], strict=True))
    outcome = fitted[1].outcome
    rows = torch.from_numpy(split.validation)
    again = evaluate(
        fitted[1].model,
        torch.from_numpy(dataset.images),
        torch.from_numpy(dataset.labels),
        fitted[1].normalisation,
        rows,
    )
    assert (outcome.balanced_accuracy, outcome.macro_f1) == again.by_class
    assert outcome.accuracy == again.accuracy
