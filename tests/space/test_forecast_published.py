"""The forecast of the published networks' space against 100,000 draws made and counted here, by other means.

Nothing of space/sampling.py, skeleton.py or cost.py is used: the knobs of published.toml are read as TOML,
and the weights of each layer are counted.
"""

import math
import random
import tomllib
from pathlib import Path
from typing import Any

import pytest

from space import forecast, space as spaces
from space.budget import Budget
from space.space import Task

KNOBS = tomllib.loads(Path(spaces.__file__).with_name("published.toml").read_text())
DRAWS, LIMIT = 100_000, 5_000_000


def pick(dice: random.Random, knob: Any) -> Any:
    if isinstance(knob, list):
        return dice.choice(knob)
    low, high = knob["low"], knob["high"]
    if isinstance(low, float):
        return math.exp(dice.uniform(math.log(low), math.log(high)))
    if not knob.get("log"):
        return dice.randint(low, high)
    cuts = [math.log((n + 0.5) / (low - 0.5)) for n in range(low, high + 1)]
    at = dice.random() * cuts[-1]
    return low + next(i for i, cut in enumerate(cuts) if at <= cut)


def largest(kernel: int, choices: list[int], side: int) -> int:
    return max(k for k in choices if k <= kernel and (k <= side or (k == 3 and side == 2)))


class Counter:
    """Parameters and multiply-accumulates so far."""

    def __init__(self) -> None:
        self.parameters = self.macs = 0

    def convolution(self, inputs: int, outputs: int, kernel: int, side: int) -> None:
        weights = inputs * outputs * kernel**2
        self.parameters += weights + 2 * outputs  # with its batch norm
        self.macs += weights * side**2

    def dense(self, inputs: int, outputs: int) -> None:
        self.parameters += inputs * outputs + outputs
        self.macs += inputs * outputs

    def gate(self, width: int) -> None:
        hidden = max(1, width // 16)
        self.dense(width, hidden)
        self.dense(hidden, width)


def drawn(dice: random.Random) -> tuple[int, int]:
    """What one uniform draw of this space costs on images of 3x32x32."""
    stem, stage, head, block = (KNOBS[name] for name in ("stem", "stage", "head", "block"))
    found, grain = Counter(), pick(dice, KNOBS["width"]["round_to"])
    low, high = KNOBS["width"]["low"], KNOBS["width"]["high"]
    base = pick(dice, {"low": low, "high": high, "log": True})
    width = float(min(max(low, grain * math.ceil(base / grain - 0.5)), high))  # half goes down
    gate = pick(dice, block["squeeze_excitation"])
    convolutions = pick(dice, block["convolutions"])

    def even(exact: float) -> int:
        return max(1, round(exact / grain)) * grain

    inputs = even(width * pick(dice, stem["width_ratio"]))
    side = math.ceil(32 / pick(dice, stem["stride"]))
    found.convolution(3, inputs, pick(dice, stem["kernel"]), side)
    if gate == "stem":
        found.gate(inputs)
    if pick(dice, stem["max_pool"]):
        side = math.ceil(side / 2)
    for i in range(1, pick(dice, KNOBS["depth"]) + 1):
        own = stage | KNOBS["stages"].get(str(i), {})
        width *= pick(dice, own["width_ratio"]) if i > 1 else 1.0
        outputs, stride = even(width), pick(dice, own["stride"])
        side = math.ceil(side / stride)
        kernel = largest(pick(dice, own["kernel"]), own["kernel"], side)
        shortcut = largest(pick(dice, own["shortcut_kernel"]), own["shortcut_kernel"], side)
        reshapes = stride > 1 or inputs != outputs
        for _ in range(pick(dice, own["blocks"])):
            if reshapes:
                found.convolution(inputs, outputs, shortcut, side)
                reshapes = False
            for _ in range(convolutions):
                found.convolution(inputs, outputs, kernel, side)
                inputs = outputs
            if gate == "block":
                found.gate(outputs)
    form, positions = pick(dice, head["form"]), min(side, pick(dice, KNOBS["pool"]["size"]))
    window = pick(dice, KNOBS["pool"]["window"])
    if window and window <= side < 2 * window:
        positions = 1
    if form == "tail":
        found.convolution(inputs, inputs, 3, side)
        found.convolution(inputs, inputs, 3, side)
    inputs *= positions**2
    if form == "hidden":
        found.dense(inputs, head["hidden"][0])
        inputs = head["hidden"][0]
    found.dense(inputs, 10)
    return found.parameters, found.macs


@pytest.fixture(scope="module")
def brute() -> list[tuple[int, int]]:
    dice = random.Random(2026)
    return [drawn(dice) for _ in range(DRAWS)]


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.parametrize("max_macs", [None, 100_000_000])
def test_shares_extremes_and_operations_are_those_of_100_000_draws(
    brute: list[tuple[int, int]], max_macs: int | None
) -> None:
    told = forecast.forecast(spaces.packaged("published"), Budget(LIMIT, max_macs), Task())
    used = [max(p / LIMIT, m / (max_macs or math.inf)) for p, m in brute]
    for share, hits in (
        (told.fit, sum(x <= 1 for x in used)),
        (told.upper_half, sum(0.5 < x <= 1 for x in used)),
    ):
        true = hits / DRAWS
        error = math.sqrt(true * (1 - true) * (1 / share.draws + 1 / DRAWS))
        assert 0.02 < true < 0.98 and abs(share.value - true) <= 4 * error
    assert told.smallest.parameters <= min(p for p, _ in brute)
    assert told.largest.parameters >= max(p for p, _ in brute)
    macs = sorted(m for x, (_, m) in zip(used, brute, strict=True) if x <= 1)
    assert told.plain_macs is not None
    for quantile, found in zip((0.05, 0.5, 0.95), vars(told.plain_macs).values(), strict=True):
        below = sum(m <= found for m in macs) / len(macs)
        error = math.sqrt(quantile * (1 - quantile) / told.fit.hits)
        assert abs(below - quantile) <= 5 * error


@pytest.mark.slow
@pytest.mark.thorough
def test_the_intervals_of_95_percent_hold_the_truth_about_as_often(brute: list[tuple[int, int]]) -> None:
    """Of 50 intervals, each of 2,000 draws, 2 or 3 may miss; more than 9 would in one case of 6,000."""
    true = sum(p <= LIMIT for p, _ in brute) / DRAWS
    missed = 0
    for i in range(50):
        part = brute[2_000 * i : 2_000 * (i + 1)]
        low, high = forecast.Share(sum(p <= LIMIT for p, _ in part), len(part)).interval
        missed += not low <= true <= high
    assert missed <= 9
