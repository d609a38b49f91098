"""The learning rate of every step of every schedule: torch's own schedulers, or the formula, say the same."""

import math
from typing import Any

import pytest
import torch
from examples import examples
from hypothesis import given, settings, strategies as st
from torch.optim import lr_scheduler

from space.errors import RecipeError
from trainer.learning_rate import momentum, rate
from trainer.recipe import checks
from trainer.recipe.document import Recipe

EPOCHS, PER_EPOCH, PEAK = 12, 5, 0.3
STEPS = EPOCHS * PER_EPOCH

Scheduler = lr_scheduler.LRScheduler


def trace(schedule: str | dict[str, Any], steps: int = STEPS, **fields: Any) -> list[float]:
    recipe = Recipe.model_validate(
        {"epochs": EPOCHS, "learning_rate": PEAK, "schedule": schedule, "accept": ALL} | fields
    )
    return [rate(recipe, step, steps) for step in range(steps)]


ALL = ["one_cycle_per_epoch", "short_schedule"]


def torchs(make: Any, unit: str, **given: Any) -> list[float]:
    """The rate that torch's scheduler has set before each step."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], PEAK, momentum=0.9)
    scheduler = make(optimizer, **given)
    rates = []
    for step in range(STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if unit == "step" or (step + 1) % PER_EPOCH == 0:
            scheduler.step()
    return rates


def units(unit: str, epochs: float) -> int:
    return round(epochs * PER_EPOCH) if unit == "step" else round(epochs)


@pytest.mark.parametrize("unit", ["step", "epoch"])
@pytest.mark.parametrize("length", [EPOCHS, 5, 40])
def test_a_cosine_is_torchs_whatever_its_length(unit: str, length: int) -> None:
    ours = trace({"name": "cosine", "length": length, "minimum": 0.01, "unit": unit})
    theirs = torchs(lr_scheduler.CosineAnnealingLR, unit, T_max=units(unit, length), eta_min=0.01)
    assert ours == pytest.approx(theirs)


def test_a_cosine_without_a_length_is_over_when_the_run_is() -> None:
    assert trace("cosine") == trace({"name": "cosine", "length": EPOCHS})


@pytest.mark.parametrize("unit", ["step", "epoch"])
@pytest.mark.parametrize("growth", [1, 2])
def test_warm_restarts_are_torchs(unit: str, growth: int) -> None:
    ours = trace({"name": "cosine_restarts", "first": 3, "growth": growth, "minimum": 0.01, "unit": unit})
    theirs = torchs(
        lr_scheduler.CosineAnnealingWarmRestarts, unit, T_0=units(unit, 3), T_mult=growth, eta_min=0.01
    )
    assert ours == pytest.approx(theirs)


@pytest.mark.parametrize("unit", ["step", "epoch"])
@pytest.mark.parametrize("length", [EPOCHS, 5])
def test_a_line_is_torchs(unit: str, length: int) -> None:
    ours = trace({"name": "linear", "length": length, "final": 0.1, "unit": unit})
    theirs = torchs(
        lr_scheduler.LinearLR, unit, start_factor=1, end_factor=0.1, total_iters=units(unit, length)
    )
    assert ours == pytest.approx(theirs)


@pytest.mark.parametrize("unit", ["step", "epoch"])
@pytest.mark.parametrize("length", [EPOCHS, 5])
def test_a_polynomial_is_torchs(unit: str, length: int) -> None:
    ours = trace({"name": "polynomial", "power": 1.5, "length": length, "unit": unit})
    theirs = torchs(lr_scheduler.PolynomialLR, unit, power=1.5, total_iters=units(unit, length))
    assert ours == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("unit", ["step", "epoch"])
def test_steps_are_torchs(unit: str) -> None:
    ours = trace({"name": "step", "milestones": [4, 9], "factor": 0.2, "unit": unit})
    theirs = torchs(lr_scheduler.MultiStepLR, unit, milestones=[units(unit, 4), units(unit, 9)], gamma=0.2)
    assert ours == pytest.approx(theirs)
    ours = trace({"name": "step", "every": 4, "factor": 0.5, "unit": unit})
    assert ours == pytest.approx(torchs(lr_scheduler.StepLR, unit, step_size=units(unit, 4), gamma=0.5))


@pytest.mark.parametrize("rise", [0.25, 0.3, 0.5])
def test_one_cycle_is_torchs_of_one_step_more(rise: float) -> None:
    """torch reaches its last rate with the last step; ours would with the step after it."""
    ours = trace({"name": "one_cycle", "rise": rise, "final": 1e-3})
    theirs = torchs(
        lr_scheduler.OneCycleLR,
        "step",
        max_lr=PEAK,
        total_steps=STEPS + 1,
        pct_start=(round(rise * STEPS) + 1) / (STEPS + 1),
        div_factor=25,
        final_div_factor=1000 / 25,
    )
    assert ours == pytest.approx(theirs)


def test_one_cycle_moves_the_momentum_against_the_rate_as_torchs_does() -> None:
    schedule = {"name": "one_cycle", "momentum": [0.85, 0.95]}
    recipe = Recipe.model_validate({"epochs": EPOCHS, "learning_rate": PEAK, "schedule": schedule})
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], PEAK, momentum=0.9)
    scheduler = lr_scheduler.OneCycleLR(
        optimizer, PEAK, total_steps=STEPS + 1, pct_start=(round(0.25 * STEPS) + 1) / (STEPS + 1)
    )
    for step in range(STEPS):
        assert momentum(recipe, step, STEPS) == pytest.approx(optimizer.param_groups[0]["momentum"])
        optimizer.step()
        scheduler.step()
    assert momentum(Recipe(), 3, STEPS) is None


def test_the_name_one_cycle_keeps_the_warm_up_beside_it() -> None:
    assert trace("one_cycle", warm_up=0.4) == trace({"name": "one_cycle", "rise": 0.4})


def test_a_constant_is_constant() -> None:
    assert set(trace("constant")) == {PEAK}


@pytest.mark.parametrize("unit", ["step", "epoch"])
@pytest.mark.parametrize("schedule", [{"name": "cosine"}, {"name": "constant"}, {"name": "step", "every": 3}])
def test_a_warm_up_comes_before_any_schedule(schedule: dict[str, Any], unit: str) -> None:
    ours = trace(schedule | {"warm_up": 3, "warm_up_from": 1 / 3, "unit": unit})
    rest = {"cosine": ("CosineAnnealingLR", {"T_max": units(unit, EPOCHS - 3)}),
            "constant": ("ConstantLR", {"factor": 1.0}),
            "step": ("StepLR", {"step_size": units(unit, 3)})}[schedule["name"]]  # fmt: skip

    def make(optimizer: torch.optim.Optimizer) -> Scheduler:
        rise = lr_scheduler.LinearLR(optimizer, 1 / 3, total_iters=units(unit, 3))
        after = getattr(lr_scheduler, rest[0])(optimizer, **rest[1])
        return lr_scheduler.SequentialLR(optimizer, [rise, after], milestones=[units(unit, 3)])

    assert ours == pytest.approx(torchs(make, unit))


def test_another_number_of_epochs_stretches_what_was_counted_in_epochs() -> None:
    schedule = {"name": "cosine", "length": 200, "unit": "epoch", "warm_up": 10}
    recipe = Recipe.model_validate({"epochs": 210, "schedule": schedule, "optimizer": "sgd"})
    short = recipe.for_epochs(21)
    assert short.planned.end == 21
    assert rate(short, 0, 21) == rate(recipe, 0, 210)
    assert Recipe(schedule="cosine").for_epochs(3).schedule == "cosine"
    steps = Recipe.model_validate({"epochs": 90, "schedule": {"name": "step", "milestones": [30, 60]}})
    assert steps.for_epochs(9).planned.model_dump()["milestones"] == (3, 6)


@pytest.mark.parametrize("name", ["one_cycle", "cosine", "linear", "polynomial"])
@pytest.mark.parametrize(("epochs", "warm_up"), [(7, 0), (10, 1), (12, 2), (13, 0.1), (20, 1), (200, 0.3)])
def test_a_schedule_as_long_as_its_run_is_so_at_any_number_of_epochs(
    name: str, epochs: int, warm_up: float
) -> None:
    """Stretched, the sum of warm-up and length is off by a last bit: it was refused as a short schedule."""
    schedule = {"name": name, "warm_up": warm_up, "length": epochs - warm_up}
    recipe = Recipe.model_validate({"epochs": epochs, "schedule": schedule})
    for other in range(1, 301):
        stretched = recipe.for_epochs(other).model_dump()
        assert checks.of_recipe(Recipe.parse(stretched, "stretched")) == [], other


def test_what_is_shorter_than_the_run_is_refused_at_any_number_of_epochs() -> None:
    short = {"name": "cosine", "warm_up": 1, "length": 8.99}
    given = Recipe.model_validate({"epochs": 10, "schedule": short, "accept": ["short_schedule"]})
    for other in (1, 29, 57, 113, 300):
        stretched = given.for_epochs(other).model_dump() | {"accept": ()}
        with pytest.raises(RecipeError, match="a cosine climbs again"):
            Recipe.parse(stretched, "stretched")


@pytest.mark.parametrize(
    ("schedule", "epochs"),
    [
        ({"name": "cosine_restarts", "first": 10}, 30),
        ({"name": "cosine_restarts", "first": 10 / 7, "growth": 2}, 10),  # 10/7, 20/7 and 40/7 epochs
        ({"name": "step", "milestones": [10, 20]}, 30),
        ({"name": "step", "every": 10}, 30),
    ],
)
def test_what_happens_at_an_epoch_does_so_however_often_a_schedule_is_stretched(
    schedule: dict[str, Any], epochs: int
) -> None:
    """A length that is a last bit too long made it a step late: the lowest rate where cycles start again."""
    recipe = Recipe.model_validate({"epochs": epochs, "schedule": schedule, "learning_rate": PEAK})
    usual = [rate(recipe, step, epochs * 7) for step in range(epochs * 7)]
    for other in (*range(1, 31), 57, 101, 113):
        stretched = recipe.for_epochs(3 * other).for_epochs(other * 7).for_epochs(other * epochs)
        assert checks.of_recipe(stretched) == checks.of_recipe(recipe) == [], other
        rates = [rate(stretched, step * other, other * epochs * 7) for step in range(epochs * 7)]
        assert rates == pytest.approx(usual), other


KINDS: list[dict[str, Any]] = [
    {"name": "one_cycle"},
    {"name": "cosine"},
    {"name": "cosine_restarts", "first": 2.5},
    {"name": "linear"},
    {"name": "polynomial"},
    {"name": "step", "every": 2},
    {"name": "constant"},
]


@settings(deadline=None, max_examples=examples(100))
@given(
    st.sampled_from(KINDS),
    st.sampled_from(["step", "epoch"]),
    st.floats(0, 15),
    st.integers(1, 12),
    st.integers(1, 9),
)
def test_no_rate_is_negative_or_above_the_highest(
    kind: dict[str, Any], unit: str, warm_up: float, epochs: int, per_epoch: int
) -> None:
    schedule = kind | {"unit": unit, "warm_up": warm_up}
    for value in trace(schedule, epochs * per_epoch, epochs=epochs):
        assert math.isfinite(value)
        assert -1e-12 <= value <= PEAK * (1 + 1e-12)
