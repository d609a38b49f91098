"""The recipe document, and the learning rate it leads to."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from space.errors import RecipeError
from trainer.recipe import Recipe, defaults
from trainer.schedule import rate


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
    base = defaults("digits")
    assert Recipe.load(tmp_path / "a.toml", base) == base.model_copy(update={"epochs": 3})


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"epochs": 0}, "epochs: Input should be greater than or equal to 1 (got 0)"),
        ({"epoch": 5}, "epoch: Extra inputs are not permitted (got 5)"),
        ({"learning_rate": "fast"}, "learning_rate: Input should be a valid number"),
        ({"precision": "float16"}, "precision: Input should be 'auto', 'float32' or 'bfloat16'"),
        ({"momentum": 0.0}, "nesterov needs a momentum above 0"),
        ([1, 2], "a recipe is a table of fields, not a list"),
    ],
)
def test_a_bad_field_is_named_with_its_value(tmp_path: Path, document: object, expected: str) -> None:
    assert expected in refused(tmp_path / "recipe.json", json.dumps(document))


def test_a_file_that_is_no_document_is_refused(tmp_path: Path) -> None:
    assert "is not a TOML or JSON document" in refused(tmp_path / "a.toml", "epochs = = 3")
    assert "is not a TOML or JSON document" in refused(tmp_path / "a.json", "epochs = 3")
    with pytest.raises(RecipeError, match=r"cannot read the recipe .*: No such file"):
        Recipe.load(tmp_path / "absent.toml")


def test_digits_are_never_mirrored() -> None:
    assert defaults("digits").flip is False
    assert defaults("cifar10").flip is defaults("folder:somewhere").flip is True


steps = st.integers(1, 500).flatmap(lambda total: st.tuples(st.integers(0, total - 1), st.just(total)))


@settings(deadline=None)
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
    modules = "trainer.recipe, trainer.data, trainer.outcome, trainer.schedule"
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
