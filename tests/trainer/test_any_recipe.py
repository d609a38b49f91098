"""Any recipe trains any network, and goes on from a checkpoint to the same bits."""

from pathlib import Path
from typing import Any

import pytest
import torch
from examples import examples
from hypothesis import HealthCheck, given, settings, strategies as st
from recipe_samples import noise, recipes
from space_samples import architectures
from training_samples import RECIPE, STEPS, Training, digits, same

from space.architecture import Architecture, Stage, Stem
from space.errors import RecipeError
from trainer import initialisation, loop, model
from trainer.callbacks import TrainingCallbacks
from trainer.data.batches import Normalisation, feed
from trainer.ema import Average
from trainer.recipe.document import Recipe, Scale


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@settings(deadline=None, max_examples=examples(60), suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_two_steps_of_any_recipe_leave_the_loss_of_any_network_finite(
    precision: str, folder: Path, data: st.DataObject
) -> None:
    architecture = data.draw(architectures())
    recipe = data.draw(recipes(architecture.image_size, architecture.channels))
    recipe = recipe.model_copy(update={"epochs": 1, "batch_size": 4, "precision": precision})
    steps: list[int] = []
    outcome = loop.fit(
        architecture,
        recipe,
        *noise(architecture, 8, folder),
        seed=0,
        callbacks=TrainingCallbacks(on_batch=lambda step, total: steps.append(total)),
    ).outcome
    assert steps[:2] == [2, 2]
    assert 0 <= outcome.accuracy <= 1


@pytest.mark.parametrize("fields", [{"cutout": 1}, {"random_erasing": 0.5}])
def test_what_leaves_nothing_of_an_image_of_one_pixel_is_refused(fields: dict[str, Any]) -> None:
    """All images are alike then, and gradients are rounding, many times enlarged by norms of no variance."""
    recipe = Recipe.model_validate({"epochs": 5, "crop_padding": 0, **fields})
    with pytest.raises(RecipeError, match="leaves nothing of images of 1 pixel; set it to 0"):
        recipe.require_fit(1)
    recipe.require_fit(2)


VARIED: list[dict[str, Any]] = [
    {"ema": 0.9, "policy": "trivialaugment", "cutout": 3},
    {"drop_path": 0.3, "random_erasing": 0.5},
    {"optimizer": "muon"},
    {"optimizer": "adamw", "mixup": 0.2, "cutmix": 1.0, "clip_norm": 1.0},
    {"policy": "augmix", "jensen_shannon": 12, "dropout": {"block_end": 0.1}, "normalisation": "none"},
    {"optimizer": "adam", "schedule": {"name": "one_cycle", "momentum": [0.85, 0.95]}, "rotation": 20},
]


@pytest.mark.parametrize("fields", VARIED)
def test_a_training_of_any_recipe_goes_on_to_the_same_bits(
    fields: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    common = {"epochs": 3, "batch_size": 64, "crop_padding": 1, "precision": "float32", "flip": False}
    recipe = Recipe.model_validate(common | fields)
    expected = Training(folder, None, recipe).run()
    path = tmp_path / "checkpoint"
    part = Training(folder, path, recipe)
    part.run_until(STEPS + 1)
    last = Training(folder, path, recipe)
    assert same(last.run(), expected)
    assert len(last.before) == 1
    assert last.said == []


def test_what_is_evaluated_is_the_average_of_the_weights(folder: Path) -> None:
    plain = Training(folder, None).run()
    averaged = Training(folder, None, RECIPE.model_copy(update={"ema": 0.99})).run()
    assert averaged.outcome.loss != plain.outcome.loss
    assert not same(plain, averaged)


def test_an_average_follows_weights_and_statistics() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    average = Average(network, 0.5)
    with torch.no_grad():
        network[0].weight.fill_(1.0)
        network[1].running_mean.fill_(4.0)  # type: ignore[union-attr,operator]
        network[1].num_batches_tracked.fill_(7)  # type: ignore[union-attr,operator]
    before = average.network[0].weight.clone()  # type: ignore[index]
    average.update(100)
    average.take_counts()
    assert torch.allclose(average.network[0].weight, (before + 1) / 2)  # type: ignore[index]
    assert average.network[1].running_mean.tolist() == [2.0, 2.0]  # type: ignore[index]
    assert int(average.network[1].num_batches_tracked) == 7  # type: ignore[index]


def test_dropout_of_the_recipe_replaces_that_of_the_architecture() -> None:
    plain = Architecture(stem=Stem(width=4), stages=(Stage(blocks=1, width=4),))
    recipe = Recipe.model_validate({"dropout": {"block": 0.1, "head": 0.3}})
    shares = [m.p for m in initialisation.network(plain, recipe).modules() if isinstance(m, torch.nn.Dropout)]
    assert shares == [0.1, 0.3]
    noisy = initialisation.network(plain, Recipe.model_validate({"dropout": {"block_end": 0.5}}))
    x = torch.randn(4, 3, 32, 32)
    assert not torch.equal(noisy.train()(x), noisy(x))
    assert torch.equal(noisy.eval()(x), noisy(x))


@pytest.mark.parametrize("preactivation", [False, True])
def test_drop_path_leaves_out_whole_branches_more_often_towards_the_end(preactivation: bool) -> None:
    plain = Architecture(
        stem=Stem(width=4),
        stages=(Stage(blocks=4, width=4),),
        block={"preactivation": preactivation},  # type: ignore[arg-type]
    )
    network = initialisation.network(plain, Recipe(drop_path=0.4, initial="torch"))
    blocks = [module for module in network.modules() if isinstance(module, model.Block)]
    assert [block.drop_path.share for block in blocks] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert network.state_dict().keys() == initialisation.network(plain, Recipe()).state_dict().keys()
    torch.manual_seed(0)
    branch = torch.ones(10_000, 4, 1, 1)
    kept = blocks[-1].train().drop_path(branch)
    assert kept.unique().tolist() == pytest.approx([0.0, 1 / 0.6])
    assert abs(float((kept == 0).float().mean()) - 0.4) < 0.02, "for an image as a whole"
    x = torch.randn(4, 3, 32, 32)
    assert torch.equal(network.eval()(x), network(x)), "none is left out when it is used"


def test_a_block_that_is_skipped_is_its_shortcut() -> None:
    plain = Architecture(stem=Stem(width=4), stages=(Stage(blocks=1, width=4),))
    network = initialisation.network(plain, Recipe(drop_path=0.75, initial="torch"))
    (block,) = (module for module in network.modules() if isinstance(module, model.Block))
    x = torch.rand(400, 4, 8, 8)  # not negative: the activation after the sum changes nothing
    torch.manual_seed(0)
    skipped = (block.train()(x) == x).flatten(1).all(1)
    assert 270 < int(skipped.sum()) < 330


def test_normalisations_are_in_grey_levels_and_fit_the_channels() -> None:
    measured = Normalisation((100.0,), (50.0,))
    assert initialisation.normalisation(Recipe(), measured) is measured
    assert initialisation.normalisation(Recipe(normalisation="none"), measured) == Normalisation(
        (0.0,), (255.0,)
    )
    half = Recipe(normalisation=Scale(mean=(0.5,), deviation=(0.5,)))
    three = Normalisation((1.0, 2.0, 3.0), (1.0, 1.0, 1.0))
    assert initialisation.normalisation(half, three) == Normalisation((127.5,) * 3, (127.5,) * 3)
    with pytest.raises(RecipeError, match="normalisation cifar10 is for 3 channels, the images have 1"):
        initialisation.normalisation(Recipe(normalisation="cifar10"), measured)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"cutout": 9}, "cutout 9 is more than the 8 pixels of an image; lower it"),
        ({"cutout": 8}, "cutout 8 leaves nothing of some images of 8 pixels; lower it"),
        ({"enlarge": 4}, "enlarge 4 is below the 8 pixels of the images; raise it"),
    ],
)
def test_a_recipe_that_does_not_fit_the_images_is_refused_by_field_and_value(
    fields: dict[str, Any], expected: str, folder: Path
) -> None:
    with pytest.raises(RecipeError) as caught:
        Training(folder, None, RECIPE.model_copy(update=fields)).run()
    assert str(caught.value) == expected


def test_a_policy_is_for_grey_or_colour(folder: Path) -> None:
    architecture = Architecture(
        channels=2, image_size=8, stem=Stem(width=4), stages=(Stage(blocks=1, width=4),)
    )
    recipe = Recipe.model_validate({"policy": "augmix", "batch_size": 4, "epochs": 1})
    with pytest.raises(RecipeError, match="policy augmix is for images of 1 or 3 channels, these have 2"):
        loop.fit(architecture, recipe, *noise(architecture, 8, folder), seed=0)


def test_three_views_of_a_batch_come_one_after_another(folder: Path) -> None:
    recipe = Recipe.model_validate(
        {"batch_size": 64, "crop_padding": 0, "flip": False, "policy": "augmix", "jensen_shannon": 12}
    )
    ready = feed(*digits(folder), torch.device("cpu"))
    x, labels = next(iter(ready.epoch(recipe, torch.Generator().manual_seed(0))))
    assert (len(x), len(labels)) == (192, 64)
    clean, one, two = x.chunk(3)
    assert not torch.equal(clean, one)
    assert not torch.equal(one, two)


@pytest.mark.parametrize(("size", "stride"), [(1, 2), (1, 3), (2, 3)])
def test_gradients_are_whole_where_a_stride_is_wider_than_the_map(size: int, stride: int) -> None:
    """oneDNN leaves some of a bfloat16 kernel's gradient as it finds the memory: fill that with NaN first."""
    ours = model.Convolution(32, 64, 3, stride, 1, bias=False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(64, 32, size, size).to(memory_format=torch.channels_last)
    assert torch.equal(ours(x), torch.nn.functional.conv2d(x, ours.weight, None, stride, 1))
    for _ in range(20):
        junk = [torch.full((64 * 32 * 9,), torch.nan, dtype=kind) for kind in (torch.float32, torch.bfloat16)]
        del junk
        ours.weight.grad = None
        with torch.autocast("cpu", torch.bfloat16):
            y = ours(x)
        y.float().sum().backward()
        assert bool(ours.weight.grad.isfinite().all())  # type: ignore[attr-defined]


@pytest.mark.parametrize(("channels", "stride"), [(2, 3), (4, 2), (12, 2), (8, 2)])
def test_a_1x1_convolution_with_a_stride_has_the_gradient_of_the_pixels_it_looks_at(
    channels: int, stride: int
) -> None:
    """oneDNN writes beyond this gradient where channels are no multiple of 8, on a CPU without AVX-512."""
    ours = model.Convolution(channels, 8, 1, stride, bias=False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(4, channels, 9, 9).to(memory_format=torch.channels_last)
    for _ in range(20):
        ours.weight.grad = None
        ours(x).square().sum().backward()
    seen = x[:, :, ::stride, ::stride].double()
    weight = ours.weight.detach().double().requires_grad_()
    torch.nn.functional.conv2d(seen, weight).square().sum().backward()
    assert torch.allclose(ours.weight.grad.double(), weight.grad, rtol=1e-4, atol=1e-3)  # type: ignore[union-attr,arg-type]
