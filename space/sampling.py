"""Suggestions to architecture, inside the budget by construction.

Called by search/study/config.py for each trial, by the forecast and by the commands that draw networks.
The shape is drawn first, then the share of the budget to use, and the width of the first stage follows
exactly: the widest multiple that fits. A shape too large at its slimmest is shrunk in fixed steps, so that
every answer of a sampler becomes a network that may be trained. It knows no sampler: `Suggest` is all it
asks for, and Optuna's Trial is one.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise, product
from typing import Any, Protocol

from space import branches, cost
from space.architecture import Architecture
from space.blocks import BlockKind
from space.budget import Budget
from space.domains import Domain, FloatRange, IntRange, minimum, on_step, towards_low
from space.same import SHARED, sharing
from space.skeleton import BASIC, BranchSkeleton, Skeleton, StageSkeleton, realise
from space.smallest import require_smallest as require_smallest, smallest as smallest
from space.space import SearchSpace, Task
from space.weights import Weighted


class Suggest(Protocol):
    """The part of optuna.Trial that a proposal needs."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int: ...

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float: ...

    def suggest_categorical(self, name: str, choices: Any) -> Any: ...


@dataclass(frozen=True)
class Proposal:
    """A network, the shape that was drawn for it, and the shape that was made: None where no shape fits and
    the smallest network of the space was taken."""

    architecture: Architecture
    drawn: Skeleton
    made: Skeleton | None

    @property
    def shrunk(self) -> bool:
        """Whether the drawn shape exceeds the budget at its slimmest, and a smaller one was taken."""
        return self.made is not self.drawn


def propose(space: SearchSpace, budget: Budget, task: Task, suggest: Suggest) -> Architecture:
    """The network that these suggestions mean; it never exceeds `budget`.

    Raises NothingFitsError where even the smallest network of the space does.
    """
    return proposal(space, budget, task, suggest).architecture


def proposal(space: SearchSpace, budget: Budget, task: Task, suggest: Suggest) -> Proposal:
    """The same, with what had to be done to it. Raises NothingFitsError as `propose` does."""
    shape = draw(space, suggest)
    share = ask_share(space, suggest)
    architecture = widest(shape, space, budget, share, task) or widest(shape, space, budget, 1.0, task)
    if architecture is not None:
        return Proposal(architecture, shape, shape)
    for less in smaller(shape, space):
        architecture = widest(less, space, budget, 1.0, task)
        if architecture is not None:
            return Proposal(architecture, shape, less)
    return Proposal(require_smallest(space, budget, task), shape, None)


def plain(space: SearchSpace, task: Task, suggest: Suggest) -> Architecture:
    """The network that these suggestions mean if the first stage's width is one of them; no budget holds it.

    The width is asked for in channels on a log scale, whatever its grain, so that all proposals of a study
    share one parameter; the nearest width of the grid is taken.
    """
    return plain_proposal(space, task, suggest).architecture


def plain_proposal(space: SearchSpace, task: Task, suggest: Suggest) -> Proposal:
    """The same, with its shape."""
    shape = draw(space, suggest)
    base = nearest(space.width.grid(shape.round_to), ask_width(space, suggest))
    return Proposal(realise(shape, space, base, task), shape, shape)


def ask_share(space: SearchSpace, suggest: Suggest) -> float:
    """The share of the budget to use, after all else was asked."""
    return float(ask(suggest, "budget_share", space.budget_share))


def ask_width(space: SearchSpace, suggest: Suggest) -> int:
    """The first stage's width, where no budget gives it."""
    return int(ask(suggest, "width", IntRange(low=space.width.low, high=space.width.high, log=True)))


def nearest(grid: range, wanted: int) -> int:
    """The number of the grid that comes nearest; the lower of two equally near."""
    step = (wanted - grid[0] + (grid.step - 1) // 2) // grid.step
    return grid[min(max(0, step), len(grid) - 1)]


def ask(suggest: Suggest, name: str, knob: Domain) -> Any:
    """Ordered choices with one distance become an integer, so that a sampler can use their order.

    Choices with weights stay choices and reach the sampler as `Weighted`: RandomSuggest draws by it; Optuna
    keeps no weights, so its samplers are given those of `prior`. Steps of a float are taken as they are
    written: 0.3, where a sampler reckons 3 * 0.1 = 0.30000000000000004.
    """
    if isinstance(knob, (IntRange, FloatRange)) and knob.low == knob.top:
        return knob.low
    if isinstance(knob, IntRange):
        return suggest.suggest_int(name, knob.low, knob.top, step=knob.step, log=knob.log)
    if isinstance(knob, FloatRange):
        answer = suggest.suggest_float(name, knob.low, knob.top, step=knob.step, log=knob.log)
        return on_step(answer) if knob.step else answer
    if len(knob) == 1:
        return knob[0]
    if not isinstance(knob, Weighted) and all(type(value) is int for value in knob):
        steps = {b - a for a, b in pairwise(knob)}
        if len(steps) == 1 and min(steps) > 0:
            return suggest.suggest_int(name, knob[0], knob[-1], step=steps.pop())
    return suggest.suggest_categorical(name, knob)


def draw(space: SearchSpace, suggest: Suggest) -> Skeleton:
    """Every choice but the widths, under the names that the study keeps (`blocks_1`, `kernel_2`)."""
    depth = ask(suggest, "depth", space.depth)
    stem, block, head = space.stem, space.block, space.head
    form = ask(suggest, "head_form", head.form)
    shortcut = ask(suggest, "shortcut", block.shortcut)
    return Skeleton(
        stages=_draw_stages(space, depth, shortcut == "projection", suggest),
        round_to=ask(suggest, "round_to", space.width.round_to),
        stem_ratio=ask(suggest, "stem_width_ratio", stem.width_ratio),
        stem_kernel=ask(suggest, "stem_kernel", stem.kernel),
        stem_stride=ask(suggest, "stem_stride", stem.stride),
        max_pool=ask(suggest, "stem_max_pool", stem.max_pool),
        pool_kind=ask(suggest, "pool_kind", space.pool.kind),
        pool_size=ask(suggest, "pool_size", space.pool.size),
        pool_window=ask(suggest, "pool_window", space.pool.window),
        form=form,
        hidden=ask(suggest, "hidden", head.hidden) if form == "hidden" else int(minimum(head.hidden)),
        dropout=ask(suggest, "dropout", head.dropout),
        branch=_draw_branch(space, suggest),
        shortcut=shortcut,
        block_dropout=ask(suggest, "block_dropout", block.dropout),
        activation=ask(suggest, "activation", block.activation),
        squeeze_excitation=ask(suggest, "squeeze_excitation", block.squeeze_excitation),
        preactivation=ask(suggest, "preactivation", block.preactivation),
    )


def _draw_branch(space: SearchSpace, suggest: Suggest) -> BranchSkeleton:
    """The kind, and what goes with it."""
    block = space.block
    kind = ask(suggest, "block_kind", block.kind)
    if kind == "basic":
        return replace(BASIC, convolutions=ask(suggest, "convolutions", block.convolutions))
    return BranchSkeleton(
        kind,
        BASIC.convolutions,
        expansion=ask(suggest, "expansion", block.expansion),
        groups=ask(suggest, "groups", block.groups) if kind == "bottleneck" else BASIC.groups,
    )


def _draw_stages(
    space: SearchSpace, depth: int, projects: bool, suggest: Suggest
) -> tuple[StageSkeleton, ...]:
    """A value that stages share is asked for once, under the knob's own name (`kernel`). Kernels of shortcuts
    are asked for where these are projections."""
    shared: dict[tuple[str, int], Any] = {}
    if not projects:
        shared = {("shortcut_kernel", i): min(space.knobs(i).shortcut_kernel) for i in range(1, depth + 1)}
    for name in SHARED:
        if name == "shortcut_kernel" and not projects:
            continue
        stages = sharing(space, name, depth)
        if stages and ask(suggest, f"same_{name}", getattr(space.same, name)):
            value = ask(suggest, name, getattr(space.stage, name))
            shared |= {(name, i): value for i in stages}
    return tuple(_draw_stage(space, i, suggest, shared) for i in range(1, depth + 1))


def _draw_stage(
    space: SearchSpace, i: int, suggest: Suggest, shared: Mapping[tuple[str, int], Any]
) -> StageSkeleton:
    knobs = space.knobs(i)

    def chosen(name: str) -> Any:
        if (name, i) in shared:
            return shared[name, i]
        return ask(suggest, f"{name}_{i}", getattr(knobs, name))

    stage = StageSkeleton(
        blocks=chosen("blocks"),
        kernel=chosen("kernel"),
        shortcut_kernel=chosen("shortcut_kernel"),
        width_ratio=chosen("width_ratio") if i > 1 else 1.0,
        stride=chosen("stride"),
        growth=branches.growth(knobs, "step"),
    )
    return replace(stage, growth=chosen("growth")) if stage.blocks > 1 else stage


def prior(space: SearchSpace) -> dict[str, dict[Any, float]]:
    """How likely each value of each question with weights is, by the question's name; each sums to 1."""
    found: dict[str, dict[Any, float]] = {}
    for shared, kind in product((True, False), space.block.kind):
        draw(space, _Deepest(found, shared, kind))
    return found


@dataclass(frozen=True)
class _Deepest:
    """Answers so that every question of a space is asked, and notes the weights of each."""

    found: dict[str, dict[Any, float]]
    shared: bool
    kind: BlockKind

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        del name, low, step, log
        return high

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        del name, low, step, log
        return high

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        if isinstance(choices, Weighted):
            self.found[name] = choices.shares
        if name.startswith("same_"):
            return self.shared
        if name == "block_kind":
            return self.kind
        if name == "depth" or name.startswith("blocks"):
            return max(choices)
        return next((value for value in ("hidden", "projection") if value in choices), choices[0])


def widest(
    shape: Skeleton, space: SearchSpace, budget: Budget, share: float, task: Task
) -> Architecture | None:
    """The widest network of this shape within `share` of the budget; the next width exceeds it.

    Cost grows with the width, so bisection finds it; only where rounding makes two stages equal and
    saves a projection may a wider one fit again.
    """
    grid = space.width.grid(shape.round_to)

    def exceeds(base: int) -> bool:
        return not budget.allows(cost.total(realise(shape, space, base, task)), share)

    count = bisect_left(grid, True, key=exceeds)
    return realise(shape, space, grid[count - 1], task) if count else None


def smaller(shape: Skeleton, space: SearchSpace) -> Iterator[Skeleton]:
    """Ever smaller shapes of the space: first flatter widths, then fewer blocks, then no more than a plain
    head, the cheapest blocks of their kind and the smallest kernels."""
    for left in (0.75, 0.5, 0.25, 0.0):
        yield _scaled(shape, space, ratio=left)
    for left in (0.5, 0.25, 0.1, 0.0):
        yield _scaled(shape, space, ratio=0.0, blocks=left)
    flat = _scaled(shape, space, ratio=0.0, blocks=0.0)
    form = min(space.head.form, key=("linear", "softmax", "tail", "hidden").index)
    shortcut, ends = branches.cheapest_shortcut(space.block), branches.cheaper(space.block, shape.branch)
    plain = [replace(flat, form=form, shortcut=shortcut, branch=branch) for branch in ends]
    yield from plain
    stages = tuple(
        replace(s, kernel=min(space.knobs(i).kernel), shortcut_kernel=min(space.knobs(i).shortcut_kernel))
        for i, s in enumerate(flat.stages, start=1)
    )
    yield from (replace(each, stages=stages) for each in plain)


def _scaled(shape: Skeleton, space: SearchSpace, ratio: float, blocks: float = 1.0) -> Skeleton:
    stages = tuple(
        replace(
            stage,
            blocks=int(towards_low(space.knobs(i).blocks, stage.blocks, blocks)),
            width_ratio=towards_low(space.knobs(i).width_ratio, stage.width_ratio, ratio) if i > 1 else 1.0,
        )
        for i, stage in enumerate(shape.stages, start=1)
    )
    return replace(shape, stages=stages)
