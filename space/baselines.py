"""The first guesses of a person: plain networks, solved to the budget, that a search has to be ahead of.

Reads the table [baselines] of a space; writes nothing. Called by search/launcher/enqueue.py. Whether the
space can say such a network is not asked here: that is space/membership.py's business.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

from space import cost
from space.architecture import Architecture, Stage, Stem
from space.budget import Budget
from space.domains import near
from space.space import SearchSpace, Task

WIDEST = 65_536  # channels of a stage, as a document has it
GOOD_USE = 0.75  # of what may be used: a coarser multiple of the width is taken where it comes so near
NAMES = {1.0: "full budget", 0.5: "half the budget"}


@dataclass(frozen=True)
class Baseline:
    """A first guess by name: "[3,3,3] at full budget". With a `reason` the space has none that fits, and the
    architecture is the narrowest that can be."""

    name: str
    architecture: Architecture
    reason: str = ""


def baselines(space: SearchSpace, budget: Budget, task: Task) -> list[Baseline]:
    """The plain networks of the space's table, each as wide as its share of the budget lets it be, in order.

    Stages of 3x3 basic blocks (He et al., arXiv 1512.03385, section 4.2): the first keeps the resolution of
    the image, each later one halves the map and doubles the width; global average pool, linear head. A
    network that fits for two of them has the name of the first.
    """
    found, left_out = dict[str, Baseline](), list[Baseline]()
    for wanted, blocks in _wanted(space):
        share = _share(space, wanted)
        shape = f"[{','.join(map(str, blocks))}]"
        name = f"{shape} at {NAMES.get(share, f'{100 * share:g}% of the budget')}"
        architecture = _solved(space, budget, task, share, blocks)
        if architecture is not None:
            found.setdefault(architecture.fingerprint, Baseline(name, architecture))
        else:
            left_out.append(_narrowest(space, budget, task, name, blocks))
    return [*found.values(), *left_out]


def _wanted(space: SearchSpace) -> Iterator[tuple[float, tuple[int, ...]]]:
    if space.baselines is not None:
        for share in space.baselines.budget:
            for blocks in space.baselines.blocks:
                yield share, blocks


def _share(space: SearchSpace, wanted: float) -> float:
    """The largest share that a proposal may use and that is not above the one wanted; where there is none,
    the one wanted."""
    return max((share for share in near(space.budget_share, wanted) if share <= wanted), default=wanted)


def _solved(
    space: SearchSpace, budget: Budget, task: Task, share: float, blocks: tuple[int, ...]
) -> Architecture | None:
    """The widest within the share, at the coarsest grain of the space that makes good use of it."""
    best: tuple[float, Architecture] | None = None
    for grain in sorted(set(space.width.round_to), reverse=True):
        grid = _grid(space, grain, blocks)

        def exceeds(width: int) -> bool:
            return not budget.allows(cost.total(plain(task, width, blocks)), share)

        count = bisect_left(grid, True, key=exceeds)
        if not count:
            continue
        network = plain(task, grid[count - 1], blocks)
        used = budget.used(cost.total(network)) / share
        if used >= GOOD_USE:
            return network
        if best is None or used > best[0]:
            best = used, network
    return best[1] if best else None


def _grid(space: SearchSpace, grain: int, blocks: tuple[int, ...]) -> range:
    """The multiples of the grain with which the last stage, twice as wide for each before it, can be said."""
    grid = space.width.grid(grain)
    return range(grid.start, min(grid.stop, _widest(blocks) + 1), grid.step)


def _widest(blocks: tuple[int, ...]) -> int:
    return WIDEST >> (len(blocks) - 1)


def _narrowest(
    space: SearchSpace, budget: Budget, task: Task, name: str, blocks: tuple[int, ...]
) -> Baseline:
    """The one that is left out, with the reason: too large, or with a last stage that nothing can say."""
    width = min(space.width.grid(grain)[0] for grain in space.width.round_to)
    if width > (most := _widest(blocks)):
        last = f"its last stage has {width << (len(blocks) - 1):,}, over {WIDEST:,}"
        return Baseline(name, plain(task, most, blocks), f"even {width:,} channels wide {last}")
    least = plain(task, width, blocks)
    used = f"{100 * budget.used(cost.total(least)):.0f}% of the budget"
    return Baseline(name, least, f"even {width} channels wide it uses {used}")


def plain(task: Task, width: int, blocks: tuple[int, ...]) -> Architecture:
    """A first guess of this width in its stem and first stage."""
    return Architecture(
        channels=task.channels,
        image_size=task.image_size,
        classes=task.classes,
        stem=Stem(width=width),
        stages=tuple(
            Stage(blocks=count, width=width * 2**i, stride=2 if i else 1) for i, count in enumerate(blocks)
        ),
    )
