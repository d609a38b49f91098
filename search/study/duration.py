"""Estimates how long a search would take, from the pace of a few proposals on this machine.

Loads torch and times training steps on noise; stores nothing. Called by search/commands/space.py (`space
check`) and search/commands/plan.py (the plan of a launch). Taken for granted: no trial is pruned or repeated,
all workers are as fast as this process, and on a CPU images are augmented in no time.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from search import settings
from space import cost
from space.architecture import Architecture
from space.budget import Budget
from space.random_suggest import RandomSuggest
from space.sampling import propose
from space.space import SearchSpace, Task

if TYPE_CHECKING:
    from trainer.recipe.document import Recipe

PROPOSALS = 100  # whose mean time is estimated
TIMED = (0.1, 0.5, 0.9)  # of them by multiply-accumulates, the cheapest first
SECONDS = 1.0  # of timing for each
FORWARD = 1 / 3  # of a training step: what it takes to evaluate an image


@dataclass(frozen=True)
class Workload:
    """What a trial does: `images` trained on and `validated` on in each of the recipe's epochs."""

    recipe: "Recipe"
    images: int
    validated: int


@dataclass(frozen=True)
class Point:
    """Seconds that a network of so many multiply-accumulates takes for one training image."""

    macs: int
    seconds: float
    batch: int


@dataclass(frozen=True)
class Estimate:
    """`minutes` for all trials; `trial_seconds` is the mean of one, `images` what it trains on an epoch."""

    minutes: float
    workers: int
    epochs: int
    images: int
    trial_seconds: float
    device: str
    points: tuple[Point, ...]


def estimate(
    space: SearchSpace,
    budget: Budget,
    task: Task,
    work: Workload,
    trials: int,
    workers: int,
    seed: int = 0,
    *,
    on_cpu: bool = False,
) -> Estimate:
    """Times three proposals for a second each, and reckons the mean of 100 from them.

    On the first GPU if there is one, unless on_cpu. Raises NothingFitsError where the space has no network in
    the budget.
    """
    from trainer import throughput
    from trainer.device import select_device
    from trainer.step_graph import cuda_recorder, plain_steps

    recorder = plain_steps if settings.plain_steps() else cuda_recorder
    chosen = select_device("cpu" if on_cpu else None)
    networks, points, device = proposals(space, budget, task, seed), list[Point](), ""
    for share in TIMED:
        network = networks[round(share * (len(networks) - 1))]
        pace = throughput.measure(network, work.recipe, SECONDS, device=chosen, make_recorder=recorder)
        points.append(Point(cost.total(network).macs, pace.seconds, pace.batch))
        device = pace.device
    each = [seconds(points, cost.total(network).macs) for network in networks]
    trial = work.recipe.epochs * (work.images + FORWARD * work.validated) * sum(each) / len(each)
    minutes = trial * trials / min(workers, trials) / 60
    return Estimate(minutes, workers, work.recipe.epochs, work.images, trial, device, tuple(points))


def proposals(space: SearchSpace, budget: Budget, task: Task, seed: int) -> list[Architecture]:
    """PROPOSALS networks of the space, by multiply-accumulates, the cheapest first."""
    suggest = RandomSuggest(seed)
    found = [propose(space, budget, task, suggest) for _ in range(PROPOSALS)]
    return sorted(found, key=lambda network: cost.total(network).macs)


def seconds(points: Sequence[Point], macs: int) -> float:
    """Between the points along straight lines on log scales; a cheaper network takes as long as the
    cheapest, a dearer one longer in proportion."""
    known = sorted({point.macs: point for point in points}.values(), key=lambda point: point.macs)
    if macs <= known[0].macs:
        return known[0].seconds
    for low, high in pairwise(known):
        if macs <= high.macs:
            part = math.log(macs / low.macs) / math.log(high.macs / low.macs)
            return float(low.seconds * (high.seconds / low.seconds) ** part)
    return known[-1].seconds * macs / known[-1].macs
