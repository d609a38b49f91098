"""The recipe document, and the learning rate it leads to."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from examples import examples
from hypothesis import given, settings, strategies as st
from recipe_samples import recipes

from space import published
from space.errors import RecipeError
from trainer import optimizers
from trainer.data.catalogue import DATASETS, KnownDataset
from trainer.learning_rate import rate
from trainer.recipe import checks
from trainer.recipe.augmentations import described
from trainer.recipe.defaults import TIED, adapted, brief_recipe, default_recipe
from trainer.recipe.document import Recipe
from trainer.recipe.optimizer_defaults import OPTIMIZER_DEFAULTS


def refused(path: Path, text: str) -> str:
    path.write_text(text)
    with pytest.raises(RecipeError) as caught:
        Recipe.load(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_recipe_survives_toml_and_json(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('epochs = 3\nschedule = "cosine"\nlearning_rate = 1\n')
    recipe = Recipe.load(tmp_path / "a.toml")
    assert recipe == Recipe(epochs=3, schedule="cosine", learning_rate=1.0)
    (tmp_path / "a.json").write_text(recipe.model_dump_json())
    assert Recipe.load(tmp_path / "a.json") == recipe


def test_what_a_file_leaves_out_comes_from_the_base(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("epochs = 3")
    base = brief_recipe("digits")
    assert Recipe.load(tmp_path / "a.toml", base) == base.model_copy(update={"epochs": 3})


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"epochs": 0}, "epochs: Input should be greater than or equal to 1 (found 0)"),
        ({"epoch": 5}, "epoch: unknown field; did you mean epochs?"),
        ({"learning_rate": "fast"}, "learning_rate: Input should be a valid number"),
        ({"precision": "float16"}, "precision: Input should be 'auto', 'float32' or 'bfloat16'"),
        ({"momentum": 0.0}, "nesterov needs a momentum above 0"),
        ([1, 2], "a recipe is a table of fields, not a list"),
    ],
)
def test_a_bad_field_is_named_with_its_value(tmp_path: Path, document: object, expected: str) -> None:
    assert expected in refused(tmp_path / "recipe.json", json.dumps(document))


def test_a_file_that_is_no_document_is_refused(tmp_path: Path) -> None:
    assert "a.toml: not TOML: " in refused(tmp_path / "a.toml", "epochs = = 3")
    assert "a.json: not JSON: " in refused(tmp_path / "a.json", "epochs = 3")
    with pytest.raises(RecipeError, match=r"absent.toml: No such file"):
        Recipe.load(tmp_path / "absent.toml")


def test_a_file_that_is_nested_too_deeply_is_refused_in_one_line(tmp_path: Path) -> None:
    assert "nested more than 32 deep" in refused(tmp_path / "a.json", "[" * 100_000)


def test_a_file_may_begin_with_the_mark_of_an_editor(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(b"\xef\xbb\xbfepochs = 3\n")
    assert Recipe.load(tmp_path / "a.toml") == Recipe(epochs=3)


@pytest.mark.parametrize("spec", ["digits", "mnist", "svhn"])
def test_digits_are_never_mirrored(spec: str) -> None:
    assert brief_recipe(spec).flip is False


@pytest.mark.parametrize("spec", ["cifar10", "cifar100", "fashion-mnist"])
def test_pictures_are_mirrored(spec: str) -> None:
    assert brief_recipe(spec).flip is True


@pytest.mark.parametrize("spec", ["folder:pictures", "tensors:pets-0f3a1b2c3d4e"])
def test_pictures_of_which_nobody_knows_what_they_are_are_shifted_and_not_mirrored(spec: str) -> None:
    for recipe in (brief_recipe(spec), default_recipe(spec, 200, 12_000)):
        assert (recipe.flip, recipe.crop_padding) == (False, 4)


@pytest.mark.parametrize(
    ("spec", "side", "pixels"),
    [
        ("folder:pictures", 64, 8),
        ("folder:pictures", 32, 4),
        ("cifar10", 96, 12),
        ("fashion-mnist", 28, 4),
        ("fashion-mnist", 14, 2),
        ("mnist", 28, 2),
        ("mnist", 14, 1),
        ("digits", 8, 1),
        ("digits", 16, 2),
        ("svhn", 64, 0),
        ("folder:pictures", 1_024, 64),
        ("folder:pictures", 3, 0),
    ],
)
def test_images_are_shifted_by_a_part_of_their_side(spec: str, side: int, pixels: int) -> None:
    """Four pixels are an eighth of 32, as usual; of 14 they are more than a quarter."""
    assert default_recipe(spec, 200, 50_000, side).crop_padding == pixels
    assert brief_recipe(spec, side=side).crop_padding == pixels
    recipe = default_recipe(spec, 200, 50_000, side)
    recipe.require_fit(side)


def test_a_study_of_images_that_were_shifted_otherwise_stays_as_it_is() -> None:
    """Made when all were shifted by four pixels, of 64 as well."""
    old = default_recipe("folder:pictures", 200, 50_000, 32)
    now = default_recipe("folder:pictures", 400, 50_000, 64)
    assert adapted(old, default_recipe("folder:pictures", 200, 50_000, 64), now).crop_padding == 4


@pytest.mark.parametrize("known", DATASETS.values(), ids=list(DATASETS))
def test_every_data_set_has_a_brief_and_a_full_recipe_that_fit_its_images(known: KnownDataset) -> None:
    for recipe in (brief_recipe(known.name), default_recipe(known.name, 200)):
        recipe.require_fit(known.image_size)
        recipe.require_batch(known.train_images)
        assert recipe.normalisation == "measured"
    assert brief_recipe(known.name).epochs <= 8


def test_a_training_of_few_images_takes_small_batches_and_a_rate_for_them() -> None:
    few, more, many = (brief_recipe("cifar10", images) for images in (1_000, 6_000, 12_000))
    assert (few.batch_size, more.batch_size, many.batch_size) == (16, 64, 128)
    assert (few.learning_rate, more.learning_rate, many.learning_rate) == (0.14, 0.28, 0.4)


@pytest.mark.parametrize("epochs", [6, 200])
def test_digits_are_trained_as_was_measured_however_few_they_are(epochs: int) -> None:
    """The comment at the recipe has the figures."""
    for images in (None, 100, 1_150):
        recipe = default_recipe("digits", epochs, images)
        assert (recipe.batch_size, recipe.learning_rate, recipe.crop_padding) == (64, 0.4, 1)
    assert brief_recipe("digits").epochs == brief_recipe("svhn").epochs == 6
    assert brief_recipe("cifar10").epochs == 8


def test_a_training_that_sees_little_is_not_augmented_and_a_long_one_of_the_same_images_is() -> None:
    assert described(brief_recipe("cifar10", 12_000)).startswith("none; not mirrored")
    assert described(default_recipe("cifar10", 200, 12_000)).startswith("shifted by up to 4 pixels")
    assert brief_recipe("cifar10", 45_000) == brief_recipe("cifar10")


@pytest.mark.parametrize(
    ("spec", "epochs", "images", "augmented"),
    [
        ("folder:pictures", 11, 2_000, False),
        ("folder:pictures", 12, 2_000, True),
        ("cifar10", 12, 600, True),
        ("cifar10", 7, 45_000, False),
        ("cifar10", 8, 45_000, True),
        ("fashion-mnist", 8, 54_000, False),
        ("fashion-mnist", 99, 54_000, False),
        ("fashion-mnist", 100, 6_000, True),
        ("mnist", 12, 54_000, False),
        ("cifar10", 8, 37_500, True),  # 300,000 images in all
        ("cifar10", 8, 37_499, False),
    ],
)
def test_it_is_the_epochs_by_which_images_are_seen_too_often(
    spec: str, epochs: int, images: int, augmented: bool
) -> None:
    assert (default_recipe(spec, epochs, images).crop_padding > 0) == augmented


@pytest.mark.parametrize("spec", ["cifar10", "cifar100", "folder:pictures", "tensors:pets-0f3a1b2c3d4e"])
def test_pictures_are_mixed_in_long_trainings(spec: str) -> None:
    """MixUp and CutMix by turns; as many epochs as it takes for that to help."""
    mixing = [
        (one.mixup, one.cutmix) for one in (default_recipe(spec, 99, 2_000), default_recipe(spec, 100, 2_000))
    ]
    assert mixing == [(0.0, 0.0), (0.2, 1.0)]


@pytest.mark.parametrize(
    ("spec", "epochs", "mirrored"),
    [
        ("fashion-mnist", 29, False),
        ("fashion-mnist", 30, True),
        ("mnist", 99, False),
        ("folder:scans", 99, False),
    ],
)
def test_what_fills_its_frame_is_mirrored_before_it_is_shifted_if_it_is_known_by_name(
    spec: str, epochs: int, mirrored: bool
) -> None:
    """By mirrors alone Fashion-MNIST gains after 30 epochs, by shifts too it loses."""
    found = default_recipe(spec, epochs, 6_000, 28, aligned=True)
    assert (found.crop_padding, found.flip) == (0, mirrored)


@pytest.mark.parametrize(
    ("spec", "aligned", "augmented", "mixed"),
    [
        ("folder:pictures", None, [False, True, True], True),
        ("folder:pictures", False, [False, True, True], True),
        ("folder:pictures", True, [False, False, True], False),
        ("tensors:pets-0f3a1b2c3d4e", True, [False, False, True], False),
        ("fashion-mnist", None, [False, False, True], False),
        ("fashion-mnist", False, [False, True, True], True),
    ],
)
def test_what_was_seen_in_the_images_goes_before_their_name(
    spec: str, aligned: bool | None, augmented: list[bool], mixed: bool
) -> None:
    found = [default_recipe(spec, epochs, 6_000, 32, aligned) for epochs in (11, 12, 100)]
    assert [recipe.crop_padding > 0 for recipe in found] == augmented
    assert [brief_recipe(spec, 6_000, epochs, 32, aligned) for epochs in (11, 12, 100)] == found
    assert (default_recipe(spec, 100, 6_000, 32, aligned).mixup > 0) == mixed


@pytest.mark.parametrize("spec", ["digits", "mnist", "fashion-mnist", "svhn"])
def test_signs_are_not_mixed(spec: str) -> None:
    assert default_recipe(spec, 400, 50_000).mixup == default_recipe(spec, 400, 50_000).cutmix == 0


def test_who_compares_views_of_an_image_gets_no_mixed_ones(tmp_path: Path) -> None:
    """In a file over the default of a long training, and in a brief recipe that becomes a long one."""
    (tmp_path / "views.toml").write_text('policy = "augmix"\njensen_shannon = 12')
    assert FULL.mixup > 0
    found = Recipe.load(tmp_path / "views.toml", FULL)
    assert (found.jensen_shannon, found.mixup, found.cutmix) == (12, 0, 0)
    brief = Recipe.load(tmp_path / "views.toml", BRIEF)
    longer = adapted(brief, BRIEF, FULL)
    assert Recipe.parse(longer.model_dump(), "recipe") == longer
    assert (longer.jensen_shannon, longer.mixup, longer.cutmix) == (12, 0, 0)
    (tmp_path / "both.toml").write_text('policy = "augmix"\njensen_shannon = 12\nmixup = 0.2')
    with pytest.raises(RecipeError, match="it goes with neither mixup nor cutmix"):
        Recipe.load(tmp_path / "both.toml", FULL)


BRIEF, FULL = brief_recipe("cifar10", 6_000), default_recipe("cifar10", 200, 45_000)


def test_what_somebody_chose_for_brief_trainings_stays_in_longer_ones() -> None:
    assert adapted(BRIEF, BRIEF, FULL) == FULL
    chosen = BRIEF.model_copy(update={"mixup": 0.2, "label_smoothing": 0.0})
    longer = adapted(chosen, BRIEF, FULL)
    assert (longer.mixup, longer.label_smoothing, longer.flip, longer.batch_size) == (0.2, 0.0, True, 128)


@pytest.mark.parametrize("written", ["mixup", "crop_padding", "batch_size", "optimizer", "jensen_shannon"])
def test_what_somebody_wrote_stays_though_it_was_usual(written: str) -> None:
    longer = adapted(BRIEF, BRIEF, FULL, {written, "epochs"})
    kept = {written} | ({"optimizer", "learning_rate", "batch_size"} if written in TIED else set())
    assert longer == FULL.model_copy(update={name: getattr(BRIEF, name) for name in kept})


def test_a_rate_that_was_chosen_keeps_the_batch_it_was_chosen_with() -> None:
    longer = adapted(BRIEF.model_copy(update={"learning_rate": 0.1}), BRIEF, FULL)
    assert (longer.learning_rate, longer.batch_size, longer.epochs) == (0.1, 64, 200)


@pytest.mark.parametrize(
    "chosen", [{"momentum": 0.8}, {"nesterov": False}, {"betas": (0.8, 0.99)}, {"epsilon": 1e-6}]
)
def test_what_an_optimizer_was_given_keeps_the_rate_and_the_batch_beside_it(chosen: dict[str, Any]) -> None:
    brief = BRIEF.model_copy(update=chosen)
    longer = adapted(brief, BRIEF, FULL)
    assert (longer.learning_rate, longer.batch_size) == (BRIEF.learning_rate, BRIEF.batch_size) != (
        FULL.learning_rate, FULL.batch_size,
    )  # fmt: skip
    assert {name: getattr(longer, name) for name in chosen} == chosen


def test_the_recipe_of_a_study_made_before_batches_were_adapted_stays_as_it_is() -> None:
    old, few = brief_recipe("cifar10"), brief_recipe("cifar10", 2_000)
    assert adapted(old, few, default_recipe("cifar10", 32, 2_000)) == old.for_epochs(32)


steps = st.integers(1, 500).flatmap(lambda total: st.tuples(st.integers(0, total - 1), st.just(total)))


@settings(deadline=None, max_examples=examples(100))
@given(steps, st.sampled_from(["one_cycle", "cosine"]), st.floats(0, 0.99))
def test_the_rate_is_positive_and_never_above_its_peak(
    at: tuple[int, int], schedule: str, warm_up: float
) -> None:
    recipe = Recipe.model_validate({"schedule": schedule, "warm_up": warm_up, "learning_rate": 0.3})
    assert 0 < rate(recipe, *at) <= 0.3


@pytest.mark.parametrize("total", [8, 100, 3001])
def test_one_cycle_rises_for_its_warm_up_and_then_falls_to_nothing(total: int) -> None:
    rates = [rate(Recipe(learning_rate=0.1), step, total) for step in range(total)]
    assert rates[0] == pytest.approx(0.1 / 25)
    assert rates.index(max(rates)) == round(0.25 * total)
    assert max(rates) == pytest.approx(0.1)
    assert rates[-1] < 0.1 * 20 / total


def test_cosine_starts_at_its_peak_and_is_half_way_down_in_the_middle() -> None:
    recipe = Recipe(schedule="cosine", learning_rate=0.2)
    assert rate(recipe, 0, 100) == 0.2
    assert rate(recipe, 50, 100) == pytest.approx(0.1)


def test_recipes_and_data_are_read_without_loading_torch() -> None:
    modules = "trainer.recipe.document, trainer.data.dataset, trainer.outcome, trainer.learning_rate"
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(("batch", "half"), [(128, 64), (5, 2), (3, 2), (2, 2)])
def test_half_the_batch_comes_with_its_share_of_the_rate_and_as_many_epochs(batch: int, half: int) -> None:
    whole = Recipe(batch_size=batch, learning_rate=0.4, schedule="cosine")
    halved = whole.halved()
    assert halved.learning_rate == pytest.approx(0.4 * half / batch)
    assert halved == whole.model_copy(update={"batch_size": half, "learning_rate": halved.learning_rate}), (
        "nothing else changes"
    )


def test_each_optimizer_has_a_rate_and_a_decay_of_its_own(tmp_path: Path) -> None:
    adamw = Recipe(optimizer="adamw")
    assert (adamw.learning_rate, adamw.weight_decay, adamw.momentum, adamw.nesterov) == (1e-3, 0.05, 0, False)
    assert Recipe(optimizer="adadelta").learning_rate == 1.0
    (tmp_path / "a.toml").write_text('optimizer = "adam"')
    assert Recipe.load(tmp_path / "a.toml", brief_recipe("digits")) == brief_recipe("digits").model_copy(
        update={
            "optimizer": "adam",
            "learning_rate": 1e-3,
            "weight_decay": 0,
            "momentum": 0,
            "nesterov": False,
        }
    ), "what was tuned for Muon is not handed on"
    (tmp_path / "b.toml").write_text('optimizer = "sgd"')
    sgd = Recipe.load(tmp_path / "b.toml", brief_recipe("digits"))
    assert sgd == brief_recipe("digits").model_copy(update={"optimizer": "sgd"}), "but that is SGD's too"


@pytest.mark.parametrize("name", OPTIMIZER_DEFAULTS)
def test_an_optimizer_is_torchs_with_the_settings_of_the_recipe(name: str) -> None:
    built = optimizers.build(torch.nn.Linear(3, 3), Recipe(optimizer=name), torch.device("cpu"))
    assert type(built).__name__.lower() == name
    assert all(group["lr"] == OPTIMIZER_DEFAULTS[name].rate for group in built.param_groups)
    assert OPTIMIZER_DEFAULTS[name].lowest < OPTIMIZER_DEFAULTS[name].rate < OPTIMIZER_DEFAULTS[name].highest


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"learning_rate": -1}, "learning_rate: Input should be greater than 0 (found -1)"),
        ({"jensen_shannon": 12}, 'jensen_shannon 12 needs AugMix: add policy = "augmix"'),
        ({"policy": "randaugment", "jensen_shannon": 12}, "jensen_shannon 12 needs AugMix"),
        ({"optimizer": "adam", "nesterov": True}, "nesterov is of sgd and muon, not of adam"),
        ({"optimizer": "adagrad", "momentum": 0.9}, "momentum is of sgd, muon and rmsprop, not of adagrad"),
        ({"betas": [0.9, 0.99]}, "betas are of adam, adamw and radam, not of sgd"),
        ({"clip_norm": 1, "clip_value": 1}, "clip_value and clip_norm are alternatives"),
        ({"schedule": {"name": "cosin"}}, "schedule: name should be one_cycle, cosine, cosine_restarts"),
        (
            {"schedule": {"name": "cosine", "T_max": 3}},
            "schedule.cosine.T_max: unknown field",
        ),
        ({"schedule": {"name": "step"}}, "schedule.step: give either milestones or every"),
        ({"schedule": {"name": "step", "milestones": [9, 3]}}, "milestones must rise"),
        ({"policy": {"name": "augmix", "width": 0}}, "policy.augmix.width: Input should be greater"),
        ({"optimizer": "lion"}, "optimizer: Input should be 'sgd', 'muon'"),
        ({"normalisation": {"mean": [0.5], "deviation": [0.5, 0.5]}}, "mean and deviation must be as many"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(
    tmp_path: Path, document: dict[str, Any], expected: str
) -> None:
    assert expected in refused(tmp_path / "recipe.json", json.dumps(document))


GRAVE: dict[str, dict[str, Any]] = {
    "one_cycle_per_epoch": {
        "epochs": 200,
        "schedule": {"name": "one_cycle", "unit": "epoch", "length": 25600},
    },
    "short_schedule": {"epochs": 300, "schedule": {"name": "cosine", "length": 200, "unit": "epoch"}},
    "coupled_decay": {"optimizer": "adam", "learning_rate": 0.1, "weight_decay": 5e-4},
    "training_mode": {"evaluate_in_training_mode": True},
}


@pytest.mark.parametrize("name", GRAVE)
def test_a_known_mistake_is_refused_unless_it_is_meant(tmp_path: Path, name: str) -> None:
    told = refused(tmp_path / "a.json", json.dumps(GRAVE[name]))
    assert f'if that is meant, add accept = ["{name}"]' in told
    recipe = Recipe.model_validate(GRAVE[name] | {"accept": [name]})
    assert checks.of_recipe(recipe)[0].name == name, "and it is told all the same"


def test_softmax_before_cross_entropy_is_a_mistake_of_the_network() -> None:
    network = published.load("000-resblock")
    (found,) = checks.of_training(Recipe(), network)
    assert found.name == "softmax"
    assert "cannot fall below 1.46" in found.reason
    scores = torch.nn.functional.one_hot(torch.arange(10), 10).float()
    assert float(torch.nn.functional.cross_entropy(scores, torch.arange(10))) == pytest.approx(
        1.4612, abs=1e-4
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"epochs": 100, "schedule": {"name": "cosine", "length": 200}},
            "cosine lasts 200 epochs, the training 100",
        ),
        ({"epochs": 12, "schedule": {"name": "cosine_restarts", "first": 5}}, "40% of a cycle"),
        ({"optimizer": "adam", "learning_rate": 0.1}, "outside the 1e-05 to 0.01 usual with adam"),
        ({"schedule": "cosine", "warm_up": 0.1}, "warm_up 0.1 is of one_cycle"),
        ({"epochs": 5, "schedule": {"name": "constant", "warm_up": 5}}, "warm_up 5 is not over in 5 epochs"),
    ],
)
def test_what_may_be_meant_is_only_told(fields: dict[str, Any], expected: str) -> None:
    (found,) = checks.of_recipe(Recipe.model_validate(fields))
    assert found.name is None
    assert expected in found.reason


def test_ordinary_recipes_hear_of_no_mistake() -> None:
    for recipe in (
        Recipe(),
        brief_recipe("digits"),
        brief_recipe("cifar10"),
        Recipe(schedule="cosine", epochs=200),
    ):
        assert checks.of_recipe(recipe) == []


def test_a_recipe_that_was_stored_before_there_were_optimizers_still_loads() -> None:
    stored = {
        "epochs": 8,
        "batch_size": 128,
        "learning_rate": 0.4,
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": 0.0005,
        "schedule": "one_cycle",
        "warm_up": 0.25,
        "label_smoothing": 0.1,
        "crop_padding": 4,
        "flip": True,
        "precision": "auto",
    }
    assert Recipe.model_validate_json(json.dumps(stored)) == brief_recipe("cifar10").model_copy(
        update={"optimizer": "sgd"}
    )


def test_any_recipe_survives_json() -> None:
    @settings(deadline=None, max_examples=examples(50))
    @given(recipes(32, 3))
    def holds(recipe: Recipe) -> None:
        assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe

    holds()
