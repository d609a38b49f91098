"""Training: it learns, repeats itself to the bit, reports what it saw, and stops when told to."""

import dataclasses
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from space.architecture import Architecture, Stage, Stem
from space.errors import ArchitectureError, DeviceError, DivergedError, RecipeError
from trainer import device, loop, model, optimizers, weights
from trainer.callbacks import SaveWeights, TrainingCallbacks
from trainer.data import batches as image_batches, dataset as datasets
from trainer.outcome import EpochReport, Outcome
from trainer.recipe.defaults import brief_recipe
from trainer.recipe.document import Recipe
from trainer.recipe.optimizer_defaults import OPTIMIZER_DEFAULTS

ROOT = Path(__file__).parents[2]
BRIEF = Recipe(epochs=2, batch_size=64, learning_rate=0.2, crop_padding=1, flip=False, precision="float32")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> datasets.Dataset:
    return datasets.load("digits", tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def split(digits: datasets.Dataset) -> datasets.Split:
    return datasets.split(digits, seed=0)


@pytest.fixture(scope="module")
def few(digits: datasets.Dataset) -> datasets.Split:
    return datasets.split(digits, seed=0, limit=192)


def network(width: int = 8, **changes: object) -> Architecture:
    stages = (Stage(blocks=1, width=width), Stage(blocks=1, width=2 * width, stride=2))
    parts = {"channels": 1, "image_size": 8, "stem": Stem(width=width), "stages": stages}
    return Architecture(**{**parts, **changes})  # type: ignore[arg-type]


class Stop(Exception):
    pass


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_brief_training_learns_to_read_digits(
    precision: str, digits: datasets.Dataset, split: datasets.Split
) -> None:
    recipe = brief_recipe("digits").model_copy(update={"precision": precision})
    reports: list[EpochReport] = []
    outcome = loop.fit(
        network(), recipe, digits, split, seed=1, callbacks=TrainingCallbacks(on_epoch=reports.append)
    ).outcome
    assert outcome.accuracy > 0.85
    assert reports[-1].train_loss < reports[0].train_loss
    assert reports[-1].validation_loss < reports[0].validation_loss


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_same_seed_gives_the_same_result_to_the_bit(
    precision: str, digits: datasets.Dataset, few: datasets.Split
) -> None:
    def fitted(seed: int) -> tuple[torch.Tensor, list[float]]:
        reports: list[EpochReport] = []
        recipe = BRIEF.model_copy(update={"precision": precision, "flip": True})
        done = loop.fit(
            network(), recipe, digits, few, seed=seed, callbacks=TrainingCallbacks(on_epoch=reports.append)
        )
        losses = [loss for report in reports for loss in (report.train_loss, report.validation_loss)]
        return torch.cat([parameter.flatten() for parameter in done.model.parameters()]), losses

    first, losses = fitted(5)
    torch.rand(3)  # what others draw in between makes no difference
    again, losses_again = fitted(5)
    assert torch.equal(first, again)
    assert losses == losses_again
    assert not torch.equal(first, fitted(6)[0])


def test_what_is_reported_adds_up(digits: datasets.Dataset, few: datasets.Split) -> None:
    reports: list[EpochReport] = []
    recipe = BRIEF.model_copy(update={"epochs": 3})
    outcome = loop.fit(
        network(), recipe, digits, few, seed=0, callbacks=TrainingCallbacks(on_epoch=reports.append)
    ).outcome
    assert [(report.epoch, report.epochs) for report in reports] == [(1, 3), (2, 3), (3, 3)]
    assert outcome.accuracy == reports[-1].validation_accuracy
    assert outcome.best_accuracy == max(report.validation_accuracy for report in reports)
    assert outcome.loss == reports[-1].validation_loss
    assert (outcome.epochs, outcome.validation_images) == (3, 144)
    assert outcome.seconds >= sum(report.seconds for report in reports)
    rates = [report.images_per_second for report in reports]
    assert outcome.images_per_second == pytest.approx(3 / sum(1 / rate for rate in rates))
    whole = len(few.train) // recipe.batch_size * recipe.batch_size  # and with validation it takes longer
    assert all(rate > whole / report.seconds for rate, report in zip(rates, reports, strict=True))


def test_validation_is_what_evaluate_says_of_the_trained_network(
    digits: datasets.Dataset, few: datasets.Split
) -> None:
    fitted = loop.fit(network(), BRIEF, digits, few, seed=0)
    images = torch.from_numpy(digits.images[few.validation])
    labels = torch.from_numpy(digits.labels[few.validation])
    loss, accuracy, _ = loop.evaluate(fitted.model, images, labels, fitted.normalisation)
    assert accuracy == fitted.outcome.accuracy
    assert loss == pytest.approx(fitted.outcome.loss, rel=1e-5)


def test_whatever_the_epoch_callback_raises_stops_the_training(
    digits: datasets.Dataset, few: datasets.Split
) -> None:
    def stop(report: EpochReport) -> None:
        seen.append(report.epoch)
        raise Stop

    seen: list[int] = []
    with pytest.raises(Stop):
        loop.fit(network(), BRIEF, digits, few, seed=0, callbacks=TrainingCallbacks(on_epoch=stop))
    assert seen == [1]


def test_the_batch_callback_counts_all_steps_and_may_stop_too(
    digits: datasets.Dataset, few: datasets.Split
) -> None:
    def note(step: int, steps: int) -> None:
        seen.append((step, steps))
        if step == 4:
            raise Stop

    seen: list[tuple[int, int]] = []
    with pytest.raises(Stop):
        loop.fit(network(), BRIEF, digits, few, seed=0, callbacks=TrainingCallbacks(on_batch=note))
    assert seen == [(1, 6), (2, 6), (3, 6), (4, 6)]


def test_a_loss_that_is_no_number_is_a_divergence(digits: datasets.Dataset, few: datasets.Split) -> None:
    reports: list[EpochReport] = []
    recipe = BRIEF.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(DivergedError, match=r"loss is (nan|inf) in epoch 1; a lower learning_rate may help"):
        loop.fit(network(), recipe, digits, few, seed=0, callbacks=TrainingCallbacks(on_epoch=reports.append))
    assert reports == []


def test_a_split_smaller_than_a_batch_is_one_batch(digits: datasets.Dataset, few: datasets.Split) -> None:
    steps: list[int] = []
    recipe = BRIEF.model_copy(update={"batch_size": 500, "epochs": 1})
    loop.fit(
        network(),
        recipe,
        digits,
        few,
        seed=0,
        callbacks=TrainingCallbacks(on_batch=lambda step, _: steps.append(step)),
    )
    assert steps == [1]


def test_an_epoch_shows_every_image_once_but_for_the_last_partial_batch(
    digits: datasets.Dataset, split: datasets.Split
) -> None:
    ready = image_batches.feed(digits, split, torch.device("cpu"))
    numbered = dataclasses.replace(ready, labels=torch.arange(len(digits.labels)))
    recipe = BRIEF.model_copy(update={"crop_padding": 0})
    batches = list(numbered.epoch(recipe, torch.Generator().manual_seed(0)))
    seen = torch.cat([labels for _, labels in batches])
    assert [len(x) for x, _ in batches] == [64] * (1294 // 64)
    assert len(set(seen.tolist())) == len(seen)
    assert set(seen.tolist()) <= set(split.train.tolist())
    for x, labels in batches:
        assert torch.equal(x, ready.normalisation.apply(ready.images[labels].permute(0, 3, 1, 2)))


def test_normalisation_is_that_of_the_training_images_alone(
    digits: datasets.Dataset, few: datasets.Split
) -> None:
    chosen = digits.images[few.train].astype(np.float64)
    normalisation = image_batches.measure(digits.images, few.train)
    assert normalisation.mean == pytest.approx((chosen.mean(),))
    assert normalisation.deviation == pytest.approx((chosen.std(),))
    x = normalisation.apply(torch.from_numpy(digits.images[few.train]).permute(0, 3, 1, 2))
    assert (x.mean().item(), x.std().item()) == pytest.approx((0, 1), abs=1e-3)


def test_a_channel_of_one_value_is_not_divided_by_zero() -> None:
    normalisation = image_batches.measure(np.full((4, 8, 8, 3), 9, np.uint8), np.arange(4))
    assert normalisation.deviation == (1.0, 1.0, 1.0)


def nothing_is_on_a_device() -> None:
    """Other tests may have put another copy of the same data set there."""
    image_batches.feed.cache_clear()
    image_batches.on_device.cache_clear()


def test_data_is_put_on_the_device_once(
    digits: datasets.Dataset, split: datasets.Split, few: datasets.Split
) -> None:
    cpu = torch.device("cpu")
    nothing_is_on_a_device()
    ready = image_batches.feed(digits, split, cpu)
    assert image_batches.feed(dataclasses.replace(digits), datasets.split(digits, seed=0), cpu) is ready
    other = image_batches.feed(digits, few, cpu)
    assert other is not ready
    assert other.images is ready.images and other.labels is ready.labels, "one copy, whatever the split"
    assert torch.equal(other.train, torch.from_numpy(few.train))
    assert ready.images.data_ptr() == digits.images.ctypes.data, "and on a CPU it is not copied at all"


def test_one_data_set_is_freed_before_another_is_put_on_the_device(
    digits: datasets.Dataset, split: datasets.Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that follows goes on with the next study: two data sets at a time may be more than fit."""
    cpu, move, held = torch.device("cpu"), torch.from_numpy, list[bool]()
    nothing_is_on_a_device()
    before = weakref.ref(image_batches.feed(digits, split, cpu).images)
    assert before() is not None

    def moved(array: NDArray[Any]) -> torch.Tensor:
        held.append(before() is not None)
        return move(array)

    monkeypatch.setattr(torch, "from_numpy", moved)
    other = dataclasses.replace(digits, digest="another")
    assert image_batches.feed(other, split, cpu).images.shape == digits.images.shape
    assert held and not any(held)


def test_biases_and_norms_do_not_decay() -> None:
    built = model.build(network())
    decayed, kept = optimizers.build(built, Recipe(), torch.device("cpu")).param_groups
    assert {parameter.ndim for parameter in decayed["params"]} == {2, 4}
    assert {parameter.ndim for parameter in kept["params"]} == {1}
    assert (decayed["weight_decay"], kept["weight_decay"]) == (5e-4, 0.0)


@pytest.mark.parametrize("changes", [{"channels": 3}, {"image_size": 16}, {"classes": 7}])
def test_a_network_for_other_images_is_refused(
    changes: dict[str, int], digits: datasets.Dataset, few: datasets.Split
) -> None:
    with pytest.raises(ArchitectureError, match="digits has 1 channels, 8 pixels a side, 10 classes"):
        loop.fit(network(**changes), BRIEF, digits, few, seed=0)


def test_a_crop_as_large_as_the_image_is_refused(digits: datasets.Dataset, few: datasets.Split) -> None:
    with pytest.raises(RecipeError, match="crop_padding 8 does not fit images of 8 pixels"):
        loop.fit(network(), BRIEF.model_copy(update={"crop_padding": 8}), digits, few, seed=0)


@pytest.mark.parametrize("name", ["cuda:99", "tpu", "meta", "cpu:x"])
def test_a_device_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(DeviceError, match=name):
        device.select_device(name)


def test_float32_and_bfloat16_are_taken_at_their_word() -> None:
    cpu = device.select_device("cpu")
    assert device.training_type(Recipe(precision="float32"), cpu) is torch.float32
    assert device.training_type(Recipe(precision="bfloat16"), cpu) is torch.bfloat16


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_learns_to_read_digits_too(digits: datasets.Dataset, split: datasets.Split) -> None:
    outcome = loop.fit(network(), brief_recipe("digits"), digits, split, seed=1, device=None).outcome
    assert outcome.accuracy > 0.85


def test_the_weights_can_be_saved_when_the_training_is_done(
    digits: datasets.Dataset, few: datasets.Split, tmp_path: Path
) -> None:
    path, outcomes = tmp_path / "weights.safetensors", list[Outcome]()

    def keep(outcome: Outcome, save: SaveWeights) -> None:
        outcomes.append(outcome)
        save(path)

    fitted = loop.fit(network(), BRIEF, digits, few, seed=0, callbacks=TrainingCallbacks(on_trained=keep))
    assert outcomes == [fitted.outcome]
    kept = weights.load(path)
    assert (kept.architecture, kept.normalisation) == (network(), fitted.normalisation)
    assert all(torch.equal(kept.state[name], value) for name, value in fitted.model.state_dict().items())


def test_a_training_does_not_load_the_compiler() -> None:
    """torch's optimizers load it in their constructor, in step() and in state_dict(): seconds and 150 MB in
    every worker; the first checkpoint took 4 s beside an H200."""
    program = """
import sys, tempfile
from pathlib import Path
from space.architecture import Architecture, Stage, Stem
from trainer import loop
from trainer.data import dataset as data
from trainer.recipe.defaults import brief_recipe
digits = data.load("digits", Path(tempfile.mkdtemp()))
few = data.split(digits, 0, limit=192)
small = Architecture(channels=1, image_size=8, stem=Stem(width=4), stages=(Stage(blocks=1, width=4),))
kept = loop.CheckpointOptions(Path(tempfile.mkdtemp()) / "kept", 0.0)
loop.fit(small, brief_recipe("digits").for_epochs(3), digits, few, seed=0, checkpoint=kept)
print(sorted({name for name in sys.modules if name in ("torch._dynamo", "torch._inductor", "sympy")}))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("name", OPTIMIZER_DEFAULTS)
def test_an_optimizer_advances_as_its_own_step_does(name: str) -> None:
    recipe = Recipe(optimizer=name, learning_rate=0.01, weight_decay=0.01)
    weights = []
    for step in (optimizers.advance, lambda optimizer: optimizer.step()):
        torch.manual_seed(0)
        built = model.build(network())
        optimizer = optimizers.build(built, recipe, torch.device("cpu"))
        for _ in range(3):
            optimizer.zero_grad()
            built(torch.ones(2, 1, 8, 8)).square().sum().backward()
            step(optimizer)
        weights.append([weight.detach().clone() for weight in built.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))


def test_the_last_epoch_is_validated_in_float32_and_the_others_as_they_are_trained(
    digits: datasets.Dataset, few: datasets.Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = BRIEF.model_copy(update={"precision": "bfloat16", "epochs": 3})
    reports: list[list[EpochReport]] = [[], []]
    evaluate = loop.evaluate
    for wholly, heard in enumerate(reports):
        if wholly:
            monkeypatch.setattr(
                loop,
                "evaluate",
                lambda *given, **more: evaluate(*given, **more | {"precision": torch.float32}),
            )
        callbacks = TrainingCallbacks(on_epoch=heard.append)
        loop.fit(network(), recipe, digits, few, seed=3, callbacks=callbacks)
    losses = [[report.validation_loss for report in found] for found in reports]
    assert losses[0][:2] != losses[1][:2]
    assert losses[0][:2] == pytest.approx(losses[1][:2], rel=0.02)
    assert losses[0][2] == losses[1][2]
    assert [report.train_loss for report in reports[0]] == [report.train_loss for report in reports[1]]
