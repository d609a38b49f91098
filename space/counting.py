"""About how many different networks a space has, without drawing any.

Kernels and pools that a map turns into the same one count once, and so do choices that stand twice. Widths
are counted on their grid, each stage's ratio taken to the rounded width before it; a network of two grains
counts for each. A dropout without steps counts once. The count is a whole number of any size.
A knob that all stages must share ([same] without false) counts where it first may be chosen, and once after.
Called by the forecast; reads and writes nothing.
"""

from collections import Counter
from collections.abc import Iterator
from math import prod

from space import branches
from space.architecture import MaxPool, map_after
from space.domains import Domain, FloatRange, IntRange, holds, maximum, minimum
from space.same import SHARED, sharing
from space.skeleton import clamped, pooled, rounded
from space.space import SearchSpace, StageKnobs, Task

FEW = 16  # values of a ratio that are followed one by one; more are taken for all widths between
CELLS = 8_192  # of a grid of widths, for all grains together; a finer grid is counted in coarser cells


def networks(space: SearchSpace, task: Task) -> int:
    """The number of documents that `realise` can give; networks that differ in no more than an unused
    field (the kernel of a shortcut that is an identity, the growth of a stage that keeps the width) count as
    two."""
    grains = sorted(set(space.width.round_to))
    chains = [_widths(space, grain, CELLS // len(grains)) for grain in grains]
    shortcuts = [_shapes(space, task, kind == "projection") for kind in set(space.block.shortcut)]
    deepest, depths = int(maximum(space.depth)), set(values(space.depth) or ())
    total = 0
    for depth in range(1, deepest + 1):
        widths, ways = (sum(next(each) for each in many) for many in (chains, shortcuts))
        total += widths * ways if depth in depths else 0
    return total * _common(space)


def values(knob: Domain) -> list[float] | None:
    """The different values of a knob in order; None where there are infinitely many."""
    if isinstance(knob, tuple):
        return sorted(set(knob))
    if knob.low == knob.top:
        return [knob.low]
    if knob.step is None:
        return None
    count = round((knob.top - knob.low) / knob.step) + 1
    return [knob.low + i * knob.step for i in range(count)]


def size(knob: Domain) -> int:
    """How many different values a knob has; 1 where that is beyond counting."""
    if isinstance(knob, tuple):
        return len(set(knob))
    return round((knob.top - knob.low) / knob.step) + 1 if knob.step else 1


def _common(space: SearchSpace) -> int:
    """What is chosen once for a network and bears on no other choice."""
    block, head = space.block, space.head
    forms = sum(size(head.hidden) if form == "hidden" else 1 for form in set(head.form))
    count = forms * size(head.dropout) * size(block.dropout) * branches.count(block)
    for choices in (block.activation, block.squeeze_excitation, block.preactivation):
        count *= len(set(choices))
    return count


def _shapes(space: SearchSpace, task: Task, projects: bool) -> Iterator[int]:
    """Ways to choose stem, blocks, kernels, strides and pool, for 1, 2, ... stages. Kernels of shortcuts are
    chosen where these are projections."""
    ways = Counter[int]()  # by the size of the map so far
    kernels = len({clamped(k, space.stem.kernel, task.image_size) for k in space.stem.kernel})
    for stride in set(space.stem.stride):
        for pool in set(space.stem.max_pool):
            after = map_after(task.image_size, stride)
            ways[MaxPool().map_after(after) if pool else after] += kernels
    for i in range(1, int(maximum(space.depth)) + 1):
        bound = _bound(space, i) | (set() if projects else {"shortcut_kernel"})
        ways = _after(ways, space.knobs(i), bound)
        yield sum(count * _pools(space, side) for side, count in ways.items())


def _bound(space: SearchSpace, stage: int) -> set[str]:
    """The knobs that stages before this one have settled for it."""
    return {
        name
        for name in SHARED
        if False not in getattr(space.same, name) and stage in sharing(space, name, stage)
    }


def _after(ways: Counter[int], knobs: StageKnobs, bound: set[str]) -> Counter[int]:
    new = Counter[int]()
    for side, count in ways.items():
        for stride in set(knobs.stride):
            after = map_after(side, stride)
            kernels = {clamped(k, knobs.kernel, after) for k in knobs.kernel}
            shortcuts = {clamped(k, knobs.shortcut_kernel, after) for k in knobs.shortcut_kernel}
            free = {"kernel": len(kernels), "shortcut_kernel": len(shortcuts)}
            new[after] += (
                count
                * _runs(knobs, bound)
                * prod(number for name, number in free.items() if name not in bound)
            )
    return new


def _runs(knobs: StageKnobs, bound: set[str]) -> int:
    """Ways to choose the number of blocks and how they grow, which one block alone does in one way."""
    blocks = 1 if "blocks" in bound else size(knobs.blocks)
    growths = 1 if "growth" in bound else len(set(knobs.growth))
    single = "blocks" not in bound and holds(knobs.blocks, 1)
    return blocks * growths - (growths - 1 if single else 0)


def _pools(space: SearchSpace, side: int) -> int:
    pool = space.pool
    made = {
        (found.kernel, found.output)
        for wanted in pool.size
        for window in pool.window
        for found in (pooled("avg", wanted, window, pool.size, side),)
    }
    return len(made) * len(set(pool.kind))


def _widths(space: SearchSpace, grain: int, most: int) -> Iterator[int]:
    """Ways to choose the widths of the stem and of 1, 2, ... stages."""
    cells = 65_536 // grain
    coarse = -(-cells // most)  # grains in a cell
    ways = [0] * (cells // coarse + 2)
    for base in space.width.grid(grain):
        ways[base // grain // coarse] += _reached(space.stem.width_ratio, base, grain)
    yield sum(ways)
    for i in range(2, int(maximum(space.depth)) + 1):
        if "width_ratio" not in _bound(space, i):
            ways = _next(ways, space.knobs(i).width_ratio, grain, coarse)
        yield sum(ways)


def _reached(knob: Domain, width: int, grain: int) -> int:
    """How many widths the ratios lead to."""
    if _is_list(knob):
        return len({rounded(width * ratio, grain) for ratio in values(knob) or ()})
    low, high = (rounded(width * ratio, grain) for ratio in (minimum(knob), maximum(knob)))
    return (high - low) // grain + 1


def _is_list(knob: Domain) -> bool:
    if isinstance(knob, (IntRange, FloatRange)):
        return knob.low == knob.top or (knob.step is not None and size(knob) <= FEW)
    return len(set(knob)) <= FEW


def _next(ways: list[int], knob: Domain, grain: int, coarse: int) -> list[int]:
    """The ways by the width of the next stage; a run of widths is added at its ends only, then summed."""
    steps, ratios = [0] * (len(ways) + 1), values(knob) or [] if _is_list(knob) else []
    ends = minimum(knob), maximum(knob)
    for cell, count in enumerate(ways):
        if not count:
            continue
        width = (cell * coarse + coarse // 2) * grain
        for reached in {rounded(width * ratio, grain) // grain for ratio in ratios}:
            steps[reached // coarse] += count
            steps[reached // coarse + 1] -= count
        if not ratios:
            low, high = (rounded(width * ratio, grain) // grain for ratio in ends)
            first, last = low // coarse, high // coarse
            each = max(1, count * (high - low + 1) // (last - first + 1))
            steps[first] += each
            steps[last + 1] -= each
    total, new = 0, []
    for step in steps[:-1]:
        total += step
        new.append(total)
    return new
