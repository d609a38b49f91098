"""What a search of a space would meet, told before anything is trained: from draws, ends and counts.

Shares are those of `plain` draws, each knob evenly on its own scale, as a sampler without knowledge makes
them. It trains nothing and knows no sampler; seconds are not its business.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import sqrt
from typing import get_args

from space import branches, cost, counting, lift
from space.architecture import Architecture
from space.blocks import Growth
from space.budget import Budget
from space.cost import Cost
from space.domains import maximum, minimum, values
from space.errors import SpaceError
from space.random_suggest import RandomSuggest
from space.sampling import plain, propose
from space.skeleton import BranchSkeleton, Gate, Skeleton, StageSkeleton, realise
from space.smallest import require_smallest
from space.space import Form, SearchSpace, Task

DRAWS = 4_000  # of a space of five stages or so, in about a second; of fewer the more stages there are
PROPOSALS = 150  # a fifth of it where few draws fit: shrinking a shape takes ten times as long
RARE = 0.1  # share of draws that fit under which those that fit say more than those that miss
SCARCE = 0.01  # share of draws that fit under which luck is no way to search
NORMAL = 1.959964


@dataclass(frozen=True)
class Share:
    """`hits` of `draws`, with the 95% Wilson interval."""

    hits: int
    draws: int

    @property
    def value(self) -> float:
        return self.hits / self.draws

    @property
    def interval(self) -> tuple[float, float]:
        n, p, z = self.draws, self.value, NORMAL
        middle, half = p + z * z / (2 * n), z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        low, high = (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)
        return (0.0 if self.hits == 0 else max(0.0, low)), (1.0 if self.hits == n else min(1.0, high))


@dataclass(frozen=True)
class Spread:
    """Quantiles of 5%, 50% and 95% of the multiply-accumulates of one image."""

    low: int
    middle: int
    high: int


@dataclass(frozen=True)
class Forecast:
    """`fit` and `upper_half` are of plain draws: within the budget, and using more than half of a limit of
    it. `networks` counts different ones, in and out of the budget. `causes` are of the misses; where few
    draws fit, `helps` are the same of those that do (`of_misses` is then a share of hits). The spreads are of
    plain draws that fit (None if none does) and of proposals made to fit."""

    budget: Budget
    fit: Share
    upper_half: Share
    smallest: Cost
    largest_drawn: Cost
    largest: Cost
    networks: int
    causes: tuple[lift.OverRepresented, ...]
    helps: tuple[lift.OverRepresented, ...]
    plain_macs: Spread | None
    fit_macs: Spread

    @property
    def scarce(self) -> bool:
        return self.fit.value < SCARCE

    def proposals(self, trials: int) -> float | None:
        """Draws until so many fit, on average, without construction; None if none did."""
        return trials / self.fit.value if self.fit.hits else None


def forecast(
    space: SearchSpace, budget: Budget, task: Task, draws: int | None = None, seed: int = 0
) -> Forecast:
    """The same for the same seed. Raises SpaceError where kernels or pools exceed their maps, and
    NothingFitsError where even the smallest network exceeds the budget."""
    space.require_geometry(task.image_size)
    least = cost.total(require_smallest(space, budget, task))
    deep = max(1, int(maximum(space.depth)) // 5)
    dice, answers, spent = RandomSuggest(seed), [], list[Cost]()
    for _ in range(draws or DRAWS // deep):
        dice.clear()
        spent.append(cost.total(plain(space, task, dice)))
        answers.append(dice.answers)
    fits = [budget.allows(each) for each in spent]
    upper = sum(fit and not budget.allows(each, 0.5) for fit, each in zip(fits, spent, strict=True))
    count = PROPOSALS // deep // (1 if sum(fits) * 10 > len(fits) else 5)
    made = [cost.total(propose(space, budget, task, dice)).macs for _ in range(count)]
    return Forecast(
        budget=budget,
        fit=Share(sum(fits), len(fits)),
        upper_half=Share(upper, len(fits)),
        smallest=least,
        largest_drawn=max(spent),
        largest=cost.total(largest(space, task)),
        networks=counting.networks(space, task),
        causes=tuple(lift.over_represented(answers, [not fit for fit in fits])),
        helps=tuple(lift.over_represented(answers, fits)) if sum(fits) < RARE * len(fits) else (),
        plain_macs=_spread([each.macs for fit, each in zip(fits, spent, strict=True) if fit]),
        fit_macs=_spread(made) or Spread(least.macs, least.macs, least.macs),
    )


def require_luck(found: Forecast) -> None:
    """Raises SpaceError where too few plain draws fit for a search that draws until one does."""
    if found.scarce:
        low, high = found.fit.interval
        raise SpaceError(
            f"{100 * found.fit.value:.2f}% of the draws fit {found.budget} (95% interval {100 * low:.2f}-"
            f"{100 * high:.2f}%), under {100 * SCARCE:.0f}%: use --sampling fit, which builds only what fits,"
            f" or a space of smaller networks{_first(found.causes)}"
        )


def _first(causes: Sequence[lift.OverRepresented]) -> str:
    return f" (most misses for their number: {causes[0].knob} = {causes[0].value})" if causes else ""


def _spread(macs: list[int]) -> Spread | None:
    if len(macs) < 2:
        return Spread(macs[0], macs[0], macs[0]) if macs else None
    cuts = statistics.quantiles(sorted(macs), n=20, method="inclusive")
    return Spread(round(cuts[0]), round(cuts[9]), round(cuts[18]))


def largest(space: SearchSpace, task: Task) -> Architecture:
    """The network of most parameters among the space's extremes: every knob at its dearest, those that may
    work either way (depth, stride, grain, form, pool, gate, kind and groups of blocks, growth) tried each
    way."""
    growths: tuple[Growth, ...] = get_args(Growth)
    strides: tuple[Callable[[Sequence[int]], int], ...] = (min, _least_change)
    ends = [*product(set(space.head.form), set(space.pool.window))]
    bodies = [*product(set(space.block.squeeze_excitation), set(space.block.preactivation),
                       branches.dearest(space.block), growths, strides)]  # fmt: skip

    def spent(shape: Skeleton) -> Cost:
        return cost.total(realise(shape, space, space.width.grid(shape.round_to)[-1], task))

    found = list[Skeleton]()
    for depth, grain in product(values(space.depth), sorted(set(space.width.round_to))):
        shapes = dict.fromkeys(
            _dearest(space, depth, grain, *ends[0], gate, before, branch, growth, stride)
            for gate, before, branch, growth, stride in bodies
        )
        body = max(shapes, key=spent)  # it costs the same before any head
        found += [replace(body, form=form, pool_window=window) for form, window in ends]
    shape = max(found, key=spent)
    return realise(shape, space, space.width.grid(shape.round_to)[-1], task)


def _least_change(strides: Sequence[int]) -> int:
    """The least stride that changes the map: where the width stays it asks for a projection."""
    return min((stride for stride in strides if stride > 1), default=1)


def _dearest(
    space: SearchSpace,
    depth: int,
    grain: int,
    form: Form,
    window: int,
    gate: Gate,
    preactivation: bool,
    branch: BranchSkeleton,
    growth: Growth,
    stride: Callable[[Sequence[int]], int],
) -> Skeleton:
    stages = tuple(
        StageSkeleton(
            blocks=int(maximum(knobs.blocks)),
            kernel=max(knobs.kernel),
            shortcut_kernel=max(knobs.shortcut_kernel),
            width_ratio=maximum(knobs.width_ratio) if i > 1 else 1.0,
            stride=stride(knobs.stride),
            growth=branches.growth(knobs, growth),
        )
        for i, knobs in ((i, space.knobs(i)) for i in range(1, depth + 1))
    )
    return Skeleton(
        stages=stages,
        round_to=grain,
        stem_ratio=maximum(space.stem.width_ratio),
        stem_kernel=max(space.stem.kernel),
        stem_stride=min(space.stem.stride),
        max_pool=min(space.stem.max_pool),
        pool_kind=space.pool.kind[0],
        pool_size=max(space.pool.size),
        pool_window=window,
        form=form,
        hidden=int(maximum(space.head.hidden)),
        dropout=minimum(space.head.dropout),
        branch=branch,
        shortcut=branches.dearest_shortcut(space.block),
        block_dropout=minimum(space.block.dropout),
        activation=space.block.activation[0],
        squeeze_excitation=gate,
        preactivation=preactivation,
    )
