"""The main branches that the blocks of a space may have: by kind, the cheapest and the dearest, and how many.

Asked by space/sampling.py when it shrinks a shape, by space/smallest.py and space/forecast.py for the ends of
a space, and by space/counting.py. Reads and writes nothing. Cost grows with convolutions and with the width
inside a block; a bottleneck is narrower inside the larger its expansion is, an inverted block is wider.
Groups work either way: they divide the weights, but no block is narrower inside than their number.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from space.blocks import Growth, ShortcutKind
from space.skeleton import BASIC, BranchSkeleton
from space.space import BlockKnobs, StageKnobs

FREE: tuple[ShortcutKind, ...] = ("padding", "identity")  # shortcuts without parameters


def cheapest(block: BlockKnobs) -> list[BranchSkeleton]:
    """Of each kind the cheapest branch at any width; of bottlenecks one for each number of groups."""
    return [*_ends(block, min, max)]


def dearest(block: BlockKnobs) -> list[BranchSkeleton]:
    """Of each kind the dearest branch at any width; of bottlenecks one for each number of groups."""
    return [*_ends(block, max, min)]


def _ends(
    block: BlockKnobs,
    end: Callable[[Iterable[int]], int],
    bottleneck: Callable[[Iterable[int]], int],
) -> Iterator[BranchSkeleton]:
    for kind in sorted(set(block.kind)):
        if kind == "basic":
            yield replace(BASIC, convolutions=end(block.convolutions))
        elif kind == "inverted":
            yield replace(BASIC, block_kind=kind, expansion=end(block.expansion))
        else:
            for groups in sorted(set(block.groups)):
                yield replace(BASIC, block_kind=kind, expansion=bottleneck(block.expansion), groups=groups)


def cheaper(block: BlockKnobs, branch: BranchSkeleton) -> list[BranchSkeleton]:
    """The cheapest branches of the same kind."""
    return [end for end in cheapest(block) if end.block_kind == branch.block_kind]


def cheapest_shortcut(block: BlockKnobs) -> ShortcutKind:
    """A shortcut without parameters where the space has one."""
    return next((kind for kind in FREE if kind in block.shortcut), "projection")


def dearest_shortcut(block: BlockKnobs) -> ShortcutKind:
    """The projection where the space has it."""
    return "projection" if "projection" in block.shortcut else cheapest_shortcut(block)


def growth(knobs: StageKnobs, wanted: Growth) -> Growth:
    """The growth that is wanted where the stage may have it, else the other. One block has either."""
    return wanted if wanted in knobs.growth else knobs.growth[0]


def count(block: BlockKnobs) -> int:
    """How many different branches the knobs say."""
    expansions = len(set(block.expansion))
    by_kind = {
        "basic": len(set(block.convolutions)),
        "bottleneck": expansions * len(set(block.groups)),
        "inverted": expansions,
    }
    return sum(by_kind[kind] for kind in set(block.kind))
