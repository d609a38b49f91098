"""The first guesses of a person: plain networks, solved to the budget, that a search has to be ahead of; and
variants of them, with which it begins its own search.

Reads the table [baselines] of a space; writes nothing. Called by search/launcher/enqueue.py. Whether the
space can say such a network is not asked here: that is space/membership.py's business.
"""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

from space import cost
from space.architecture import Architecture, Block, Stage, Stem
from space.blocks import SHORTCUTS
from space.budget import Budget
from space.domains import near
from space.space import SearchSpace, Task, Variant

WIDEST = 65_536  # channels of a stage, as a document has it
GOOD_USE = 0.75  # of what may be used: a coarser multiple of the width is taken where it comes so near
NAMES = {1.0: "full budget", 0.5: "half the budget"}


@dataclass(frozen=True)
class Baseline:
    """A first guess by name: "[3,3,3] at full budget", and the share of the budget that it was to use. With a
    `reason` the space has none that fits, and the architecture is the narrowest that can be."""

    name: str
    architecture: Architecture
    reason: str = ""
    share: float = 1.0


def baselines(space: SearchSpace, budget: Budget, task: Task) -> list[Baseline]:
    """The plain networks of the space's table, each as wide as its share of the budget lets it be, in order.

    Stages of 3x3 basic blocks (He et al., arXiv 1512.03385, section 4.2): the first keeps the resolution of
    the image, each later one halves the map and doubles the width; global average pool, linear head. A
    network that fits for two of them has the name of the first.
    """
    table = space.baselines
    if table is None:
        return []
    wanted = [Guess(blocks, share) for share in table.budget for blocks in table.blocks]
    return _in_order(space, budget, task, wanted)


def variants(space: SearchSpace, budget: Budget, task: Task) -> list[Baseline]:
    """The same for the table's first share, with what its `variants` change: no first guesses of a person,
    but what was measured to be ahead of them (docs/space.md, "What one change is worth")."""
    table = space.baselines
    if table is None:
        return []
    wanted = [
        Guess(blocks, table.budget[0], variant) for variant in table.variants for blocks in table.blocks
    ]
    return _in_order(space, budget, task, wanted)


def first_share(space: SearchSpace) -> float | None:
    """Of the budget, that the first guesses of a space use which it names first, and all variants; None
    without a table."""
    return space.baselines.budget[0] if space.baselines else None


@dataclass(frozen=True)
class Guess:
    """A plain network, or a variant of one, that the share of the budget makes as wide as it can be."""

    blocks: tuple[int, ...]
    share: float
    variant: Variant | None = None

    def name(self, share: float) -> str:
        """For people, with the share that it came to: "[3,3,3] at full budget, pre-activated"."""
        said = f"[{','.join(map(str, self.blocks))}] at {NAMES.get(share, f'{100 * share:g}% of the budget')}"
        return f"{said}, {described(self.variant)}" if self.variant else said

    def network(self, task: Task, width: int) -> Architecture:
        """It with this width in its stem and first stage."""
        return plain(task, width, self.blocks, self.variant)


def described(variant: Variant) -> str:
    """What a variant changes, in words: "pre-activated, padded shortcuts, gelu"."""
    placed = {None: None, False: "not pre-activated", True: "pre-activated"}[variant.preactivation]
    shortcut = SHORTCUTS[variant.shortcut] if variant.shortcut else None
    return ", ".join(said for said in (placed, shortcut, variant.activation) if said)


def _in_order(space: SearchSpace, budget: Budget, task: Task, wanted: Iterable[Guess]) -> list[Baseline]:
    """Those that fit, then those that are left out, with the reason."""
    found, left_out = dict[str, Baseline](), list[Baseline]()
    for guess in wanted:
        share = _share(space, guess.share)
        architecture = _solved(space, budget, task, share, guess)
        if architecture is not None:
            found.setdefault(
                architecture.fingerprint, Baseline(guess.name(share), architecture, share=guess.share)
            )
        else:
            left_out.append(_narrowest(space, budget, task, guess, guess.name(share)))
    return [*found.values(), *left_out]


def _share(space: SearchSpace, wanted: float) -> float:
    """The largest share that a proposal may use and that is not above the one wanted; where there is none,
    the one wanted."""
    return max((share for share in near(space.budget_share, wanted) if share <= wanted), default=wanted)


def _solved(
    space: SearchSpace, budget: Budget, task: Task, share: float, guess: Guess
) -> Architecture | None:
    """The widest within the share, at the coarsest grain of the space that makes good use of it."""
    best: tuple[float, Architecture] | None = None
    for grain in sorted(set(space.width.round_to), reverse=True):
        grid = _grid(space, grain, guess.blocks)

        def exceeds(width: int) -> bool:
            return not budget.allows(cost.total(guess.network(task, width)), share)

        count = bisect_left(grid, True, key=exceeds)
        if not count:
            continue
        network = guess.network(task, grid[count - 1])
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


def _narrowest(space: SearchSpace, budget: Budget, task: Task, guess: Guess, name: str) -> Baseline:
    """The one that is left out, with the reason: too large, or with a last stage that nothing can say."""
    width = min(space.width.grid(grain)[0] for grain in space.width.round_to)
    if width > (most := _widest(guess.blocks)):
        last = f"its last stage has {width << (len(guess.blocks) - 1):,}, over {WIDEST:,}"
        return Baseline(name, guess.network(task, most), f"even {width:,} channels wide {last}")
    least = guess.network(task, width)
    used = f"{100 * budget.used(cost.total(least)):.0f}% of the budget"
    return Baseline(name, least, f"even {width} channels wide it uses {used}")


def plain(task: Task, width: int, blocks: tuple[int, ...], variant: Variant | None = None) -> Architecture:
    """A first guess of this width in its stem and first stage, or a variant of it."""
    changed = variant.changes if variant else {}
    return Architecture(
        channels=task.channels,
        image_size=task.image_size,
        classes=task.classes,
        activation=changed.get("activation", "relu"),
        stem=Stem(width=width),
        stages=tuple(
            Stage(blocks=count, width=width * 2**i, stride=2 if i else 1) for i, count in enumerate(blocks)
        ),
        block=Block(
            preactivation=changed.get("preactivation", False),
            shortcut=changed.get("shortcut", "projection"),
        ),
    )
