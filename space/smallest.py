"""The smallest networks of a space: what decides whether anything fits a budget at all.

Called by `search launch` before a study is made, by the forecast, and by space/sampling.py where no shape
fits. It reads and writes nothing, and knows no sampler. Extremes are found among the knobs' ends, since cost
grows with each of them, and at every depth.
"""

from collections.abc import Iterator
from functools import lru_cache
from itertools import product

from space import branches, cost
from space.architecture import Architecture
from space.blocks import Growth
from space.budget import Budget
from space.cost import Cost
from space.domains import Domain, minimum, towards_low, values
from space.errors import NothingFitsError
from space.skeleton import BranchSkeleton, Skeleton, StageSkeleton, realise
from space.space import Form, SearchSpace, Task


def smallest(space: SearchSpace, task: Task) -> Architecture:
    """The network of fewest parameters among the space's extremes, then of fewest multiply-accumulates."""
    return min(_extremes(space, task), key=_spent)[0]


def _spent(extreme: tuple[Architecture, Cost]) -> Cost:
    return extreme[1]


@lru_cache(maxsize=8)
def _extremes(space: SearchSpace, task: Task) -> tuple[tuple[Architecture, Cost], ...]:
    """Kept, since a launch asks three times: some hundred networks, a fifth of a second."""
    return tuple((network, cost.total(network)) for network in dict.fromkeys(_slimmest(space, task)))


def _slimmest(space: SearchSpace, task: Task) -> Iterator[Architecture]:
    """Every knob at its cheapest. A knob that may save a projection by keeping the shape (stride, ratio of
    widths), or a classifier by changing it (form, window), is tried both ways. So is every depth: one more
    stage costs its blocks, and may halve or narrow the map that the classifier reads."""
    ends = sorted(set(space.head.form)), sorted({min(space.pool.window), max(space.pool.window)})
    norms = sorted(set(space.block.preactivation))  # as wide as the input of a convolution, or as its output
    shapes = dict.fromkeys(
        _cheapest(space, stages, stem_ratio(space.stem.width_ratio), grain, form, window, before, branch)
        for depth, grain, form, window, before, branch in product(
            values(space.depth),
            sorted(set(space.width.round_to)),
            *ends,
            norms,
            branches.cheapest(space.block),
        )
        for stages, stem_ratio in product(_stages(space, depth), (minimum, evenest))
    )
    for shape in shapes:
        yield realise(shape, space, space.width.grid(shape.round_to)[0], task)


def _stages(space: SearchSpace, depth: int) -> Iterator[tuple[StageSkeleton, ...]]:
    numbered = [(i, space.knobs(i)) for i in range(1, depth + 1)]
    growths: tuple[Growth, ...] = ("step", "linear")
    for stride, ratio, growth in product((min, max), (minimum, evenest), growths):
        yield tuple(
            StageSkeleton(
                blocks=int(minimum(knobs.blocks)),
                kernel=min(knobs.kernel),
                shortcut_kernel=min(knobs.shortcut_kernel),
                width_ratio=ratio(knobs.width_ratio) if i > 1 else 1.0,
                stride=stride(knobs.stride),
                growth=branches.growth(knobs, growth if minimum(knobs.blocks) > 1 else "step"),
            )
            for i, knobs in numbered
        )


def _cheapest(
    space: SearchSpace,
    stages: tuple[StageSkeleton, ...],
    stem_ratio: float,
    grain: int,
    form: Form,
    window: int,
    preactivation: bool,
    branch: BranchSkeleton,
) -> Skeleton:
    return Skeleton(
        stages=stages,
        round_to=grain,
        stem_ratio=stem_ratio,
        stem_kernel=min(space.stem.kernel),
        stem_stride=max(space.stem.stride),
        max_pool=max(space.stem.max_pool),
        pool_kind=space.pool.kind[0],
        pool_size=min(space.pool.size),
        pool_window=window,
        form=form,
        hidden=int(minimum(space.head.hidden)),
        dropout=minimum(space.head.dropout),
        branch=branch,
        shortcut=branches.cheapest_shortcut(space.block),
        block_dropout=minimum(space.block.dropout),
        activation=space.block.activation[0],
        squeeze_excitation=max(space.block.squeeze_excitation, key=("block", "stem", "none").index),
        preactivation=preactivation,
    )


def evenest(knob: Domain) -> float:
    """The ratio nearest to 1, from below if the knob goes there."""
    if isinstance(knob, tuple):
        return float(min(knob, key=lambda ratio: abs(ratio - 1)))
    return towards_low(knob, min(max(1.0, knob.low), knob.high), left=1.0)


def require_smallest(space: SearchSpace, budget: Budget, task: Task) -> Architecture:
    """The smallest network that fits. Raises NothingFitsError if even the smallest of all exceeds it."""
    extremes = _extremes(space, task)
    fitting = [extreme for extreme in extremes if budget.allows(extreme[1])]
    if fitting:
        return min(fitting, key=_spent)[0]
    spent = min(extremes, key=_spent)[1]
    raise NothingFitsError(
        f"nothing fits {budget}: the smallest network of the space has {spent.parameters:,} parameters"
        f" and {spent.macs:,} multiply-accumulates"
    )
