"""Suggestions to architecture, inside the budget by construction.

The shape is drawn first, then the share of the budget to use, and the width of the first stage follows
exactly: the widest multiple that fits. A shape too large at its slimmest is shrunk in fixed steps, so that
every answer of a sampler becomes a network that may be trained. It knows no sampler: `Suggest` is all it
asks for, and Optuna's Trial is one.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise, product
from typing import Any, Protocol

from space import cost
from space.architecture import (
    Activation,
    Architecture,
    Block,
    Head,
    MaxPool,
    Pool,
    SqueezeExcitation,
    Stage,
    Stem,
    map_after,
)
from space.budget import Budget
from space.errors import NothingFitsError
from space.space import FloatRange, IntRange, Knob, SearchSpace, Task, fits, maximum, minimum


class Suggest(Protocol):
    """The part of optuna.Trial that a proposal needs."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int: ...

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float: ...

    def suggest_categorical(self, name: str, choices: Any) -> Any: ...


@dataclass(frozen=True)
class StageShape:
    blocks: int
    kernel: int
    shortcut_kernel: int
    width_ratio: float
    stride: int


@dataclass(frozen=True)
class Shape:
    """Everything of a network but its widths."""

    stages: tuple[StageShape, ...]
    stem_ratio: float
    stem_kernel: int
    stem_stride: int
    max_pool: bool
    pool_kind: Any
    pool_size: int
    dropout: float
    convolutions: int
    activation: Activation
    squeeze_excitation: str


def propose(space: SearchSpace, budget: Budget, task: Task, suggest: Suggest) -> Architecture:
    """The network that these suggestions mean; it never exceeds `budget`.

    Raises NothingFitsError where even the smallest network of the space does.
    """
    shape = draw(space, suggest)
    share = ask(suggest, "budget_share", space.budget_share)
    architecture = widest(shape, space, budget, share, task) or widest(shape, space, budget, 1.0, task)
    if architecture is None:
        architecture = next(
            filter(None, (widest(s, space, budget, 1.0, task) for s in smaller(shape, space))), None
        )
    return architecture or require_smallest(space, budget, task)


def ask(suggest: Suggest, name: str, knob: Knob) -> Any:
    """Ordered choices with one distance become an integer, so that a sampler can use their order."""
    if isinstance(knob, (IntRange, FloatRange)) and knob.low == knob.top:
        return knob.low
    if isinstance(knob, IntRange):
        return suggest.suggest_int(name, knob.low, knob.top, step=knob.step, log=knob.log)
    if isinstance(knob, FloatRange):
        return suggest.suggest_float(name, knob.low, knob.top, step=knob.step, log=knob.log)
    if len(knob) == 1:
        return knob[0]
    if all(type(value) is int for value in knob):
        steps = {b - a for a, b in pairwise(knob)}
        if len(steps) == 1 and min(steps) > 0:
            return suggest.suggest_int(name, knob[0], knob[-1], step=steps.pop())
    return suggest.suggest_categorical(name, knob)


def draw(space: SearchSpace, suggest: Suggest) -> Shape:
    """Every choice but the widths, under the names that the study keeps (`blocks_1`, `kernel_2`)."""
    depth = ask(suggest, "depth", space.depth)
    stem, block = space.stem, space.block
    return Shape(
        stages=tuple(_draw_stage(space, i, suggest) for i in range(1, depth + 1)),
        stem_ratio=ask(suggest, "stem_width_ratio", stem.width_ratio),
        stem_kernel=ask(suggest, "stem_kernel", stem.kernel),
        stem_stride=ask(suggest, "stem_stride", stem.stride),
        max_pool=ask(suggest, "stem_max_pool", stem.max_pool),
        pool_kind=ask(suggest, "pool_kind", space.pool.kind),
        pool_size=ask(suggest, "pool_size", space.pool.size),
        dropout=ask(suggest, "dropout", space.head.dropout),
        convolutions=ask(suggest, "convolutions", block.convolutions),
        activation=ask(suggest, "activation", block.activation),
        squeeze_excitation=ask(suggest, "squeeze_excitation", block.squeeze_excitation),
    )


def _draw_stage(space: SearchSpace, i: int, suggest: Suggest) -> StageShape:
    knobs = space.knobs(i)
    return StageShape(
        blocks=ask(suggest, f"blocks_{i}", knobs.blocks),
        kernel=ask(suggest, f"kernel_{i}", knobs.kernel),
        shortcut_kernel=ask(suggest, f"shortcut_kernel_{i}", knobs.shortcut_kernel),
        width_ratio=ask(suggest, f"width_ratio_{i}", knobs.width_ratio) if i > 1 else 1.0,
        stride=ask(suggest, f"stride_{i}", knobs.stride),
    )


def realise(shape: Shape, space: SearchSpace, base: int, task: Task) -> Architecture:
    """The network of this shape whose first stage is `base` channels wide."""
    size = map_after(task.image_size, shape.stem_stride)
    gate = SqueezeExcitation()
    stem = Stem(
        width=_rounded(base * shape.stem_ratio, space.width.round_to),
        kernel=_clamped(shape.stem_kernel, space.stem.kernel, task.image_size),
        stride=shape.stem_stride,
        max_pool=MaxPool() if shape.max_pool else None,
        squeeze_excitation=gate if shape.squeeze_excitation == "stem" else None,
    )
    size = stem.max_pool.map_after(size) if stem.max_pool else size
    stages, width = [], float(base)
    for i, stage in enumerate(shape.stages, start=1):
        knobs, size, width = space.knobs(i), map_after(size, stage.stride), width * stage.width_ratio
        stages.append(
            Stage(
                blocks=stage.blocks,
                width=_rounded(width, space.width.round_to),
                kernel=_clamped(stage.kernel, knobs.kernel, size),
                stride=stage.stride,
                shortcut_kernel=_clamped(stage.shortcut_kernel, knobs.shortcut_kernel, size),
            )
        )
    return Architecture(
        channels=task.channels,
        image_size=task.image_size,
        classes=task.classes,
        activation=shape.activation,
        stem=stem,
        stages=tuple(stages),
        block=Block(
            convolutions=shape.convolutions,
            squeeze_excitation=gate if shape.squeeze_excitation == "block" else None,
        ),
        pool=Pool(kind=shape.pool_kind, output=_pooled(shape.pool_size, space.pool.size, size)),
        head=Head(dropout=shape.dropout),
    )


def _rounded(width: float, grain: int) -> int:
    return min(65_536 // grain, max(1, round(width / grain))) * grain


def _clamped(kernel: int, choices: tuple[int, ...], size: int) -> int:
    """The largest choice up to `kernel` that fits the map; the smallest choice where none does."""
    return max((k for k in choices if k <= kernel and fits(k, size)), default=min(choices))


def _pooled(wanted: int, choices: tuple[int, ...], size: int) -> int:
    """The largest choice up to `wanted` that the last map holds; the whole map where none does."""
    return max((p for p in choices if p <= min(wanted, size)), default=size)


def widest(shape: Shape, space: SearchSpace, budget: Budget, share: float, task: Task) -> Architecture | None:
    """The widest network of this shape within `share` of the budget; the next width exceeds it.

    Cost grows with the width, so bisection finds it; only where rounding makes two stages equal and
    saves a projection may a wider one fit again.
    """
    grid = space.width.grid

    def exceeds(base: int) -> bool:
        return not budget.allows(cost.total(realise(shape, space, base, task)), share)

    count = bisect_left(grid, True, key=exceeds)
    return realise(shape, space, grid[count - 1], task) if count else None


def smaller(shape: Shape, space: SearchSpace) -> Iterator[Shape]:
    """Ever smaller shapes of the space: first flatter widths, then fewer blocks, then smaller kernels."""
    for left in (0.75, 0.5, 0.25, 0.0):
        yield _scaled(shape, space, ratio=left)
    for left in (0.5, 0.25, 0.1, 0.0):
        yield _scaled(shape, space, ratio=0.0, blocks=left)
    flat = _scaled(shape, space, ratio=0.0, blocks=0.0)
    stages = tuple(
        replace(s, kernel=min(space.knobs(i).kernel), shortcut_kernel=min(space.knobs(i).shortcut_kernel))
        for i, s in enumerate(flat.stages, start=1)
    )
    yield replace(flat, stages=stages)


def _scaled(shape: Shape, space: SearchSpace, ratio: float, blocks: float = 1.0) -> Shape:
    stages = tuple(
        replace(
            stage,
            blocks=int(_towards_low(space.knobs(i).blocks, stage.blocks, blocks)),
            width_ratio=_towards_low(space.knobs(i).width_ratio, stage.width_ratio, ratio) if i > 1 else 1.0,
        )
        for i, stage in enumerate(shape.stages, start=1)
    )
    return replace(shape, stages=stages)


def _towards_low(knob: Knob, value: float, left: float) -> float:
    """`left` of the way from the knob's lowest value to `value`, on the knob's own grid."""
    if isinstance(knob, tuple):
        below = sorted(choice for choice in knob if choice <= value)
        return float(below[int((len(below) - 1) * left)])
    moved = (value - knob.low) * left
    return knob.low + (moved // knob.step * knob.step if knob.step else moved)


def smallest(space: SearchSpace, task: Task) -> Architecture:
    """The network of fewest parameters among the space's extremes, then of fewest multiply-accumulates."""
    return min(_slimmest(space, task), key=cost.total)


def _slimmest(space: SearchSpace, task: Task) -> Iterator[Architecture]:
    """Every knob at its cheapest. A knob that may save a projection by keeping the shape (stride, ratio of
    widths), or a classifier by changing it (depth), is tried both ways."""
    base = space.width.grid[0]
    for depth in sorted({int(minimum(space.depth)), int(maximum(space.depth))}):
        for stride, ratio, stem_ratio in product((min, max), (minimum, _evenest), (minimum, _evenest)):
            stages = tuple(
                StageShape(
                    blocks=int(minimum(knobs.blocks)),
                    kernel=min(knobs.kernel),
                    shortcut_kernel=min(knobs.shortcut_kernel),
                    width_ratio=ratio(knobs.width_ratio) if i > 1 else 1.0,
                    stride=stride(knobs.stride),
                )
                for i, knobs in ((i, space.knobs(i)) for i in range(1, depth + 1))
            )
            yield realise(_cheapest(space, stages, stem_ratio(space.stem.width_ratio)), space, base, task)


def _cheapest(space: SearchSpace, stages: tuple[StageShape, ...], stem_ratio: float) -> Shape:
    return Shape(
        stages=stages,
        stem_ratio=stem_ratio,
        stem_kernel=min(space.stem.kernel),
        stem_stride=max(space.stem.stride),
        max_pool=max(space.stem.max_pool),
        pool_kind=space.pool.kind[0],
        pool_size=min(space.pool.size),
        dropout=minimum(space.head.dropout),
        convolutions=min(space.block.convolutions),
        activation=space.block.activation[0],
        squeeze_excitation=max(space.block.squeeze_excitation, key=("block", "stem", "none").index),
    )


def _evenest(knob: Knob) -> float:
    """The ratio nearest to 1, from below if the knob goes there."""
    if isinstance(knob, tuple):
        return float(min(knob, key=lambda ratio: abs(ratio - 1)))
    return _towards_low(knob, min(max(1.0, knob.low), knob.high), left=1.0)


def require_smallest(space: SearchSpace, budget: Budget, task: Task) -> Architecture:
    """The smallest network that fits. Raises NothingFitsError if even the smallest of all exceeds it."""
    fitting = [a for a in _slimmest(space, task) if budget.allows(cost.total(a))]
    if fitting:
        return min(fitting, key=cost.total)
    spent = cost.total(smallest(space, task))
    raise NothingFitsError(
        f"nothing fits {budget}: the smallest network of the space has {spent.parameters:,} parameters"
        f" and {spent.macs:,} multiply-accumulates"
    )
