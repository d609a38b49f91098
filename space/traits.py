"""What the proposals of a space look like: how many are of the kind known to work, and where the compute is.

Draws proposals as a search makes them at first (space/sampling.py, by the weights of the space) and counts.
Called by `search space check`; reads and writes nothing, and trains nothing.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from space import cost
from space.architecture import Architecture
from space.budget import Budget, judge
from space.random_suggest import RandomSuggest
from space.sampling import proposal
from space.space import SearchSpace, Task

DRAWS = 500  # seconds at most; a share of a half is then known to 4 points
SMALL_MAP = 8  # pixels a side: what is left for the stages of a network that halves too early
NEARLY_FULL = 0.7  # of the budget: the published 3.5M to 4.9M parameters of 5M


@dataclass(frozen=True)
class Traits:
    """Shares (0 to 1) of `draws` proposals, by what they are called in words; multiply-accumulates of one
    image, and the share of all of them that the dearest tenth of the proposals takes."""

    draws: int
    shares: dict[str, float]
    macs_median: int
    macs_p90: int
    macs_max: int
    dearest_tenth: float


def traits(space: SearchSpace, budget: Budget, task: Task, draws: int, seed: int = 0) -> Traits:
    """The same for the same seed. Raises NothingFitsError where even the smallest network exceeds it."""
    dice, found = RandomSuggest(seed), []
    for _ in range(draws):
        dice.clear()
        found.append(proposal(space, budget, task, dice))
    networks = [each.architecture for each in found]
    used = [_used(network, budget) for network in networks]
    macs = sorted(cost.total(network).macs for network in networks)
    shares = {name: _share([holds(network) for network in networks]) for name, holds in KINDS.items()}
    shares["in the upper half of the budget"] = _share([share > 0.5 for share in used])
    family = [_is_plain_family(n) and share >= NEARLY_FULL for n, share in zip(networks, used, strict=True)]
    shares["three halving 3x3 stages of basic blocks, over 70% of it"] = _share(family)
    shares["shrunk to fit"] = _share([each.shrunk for each in found])
    return Traits(
        draws=draws,
        shares=shares,
        macs_median=round(statistics.median(macs)),
        macs_p90=macs[min(draws - 1, 9 * draws // 10)],
        macs_max=macs[-1],
        dearest_tenth=sum(macs[-max(1, draws // 10) :]) / sum(macs),
    )


def keeps_resolution(network: Architecture) -> bool:
    """Whether the stages begin with as many pixels as the image has."""
    return network.maps[0] == network.image_size


def is_3x3(network: Architecture) -> bool:
    """Whether stem and stages have no other kernel (shortcuts aside)."""
    return network.stem.kernel == 3 and all(stage.kernel == 3 for stage in network.stages)


def _is_plain_family(network: Architecture) -> bool:
    """Three stages of basic blocks that halve, 3x3, from the full resolution, with a head that trains."""
    strides = [stage.stride for stage in network.stages]
    plain = network.block.kind == "basic" and not network.head.softmax
    return plain and keeps_resolution(network) and is_3x3(network) and strides == [1, 2, 2]


KINDS: dict[str, Callable[[Architecture], bool]] = {
    "full resolution after the stem": keeps_resolution,
    "3x3 kernels throughout": is_3x3,
    "both, and no softmax at the end": lambda network: (
        keeps_resolution(network) and is_3x3(network) and not network.head.softmax
    ),
    "bottleneck or inverted blocks": lambda network: network.block.kind != "basic",
    "softmax at the end": lambda network: network.head.softmax,
    f"stages begin at {SMALL_MAP}x{SMALL_MAP} or less": lambda network: network.maps[0] <= SMALL_MAP,
}


def _used(network: Architecture, budget: Budget) -> float:
    """The share of the tightest limit."""
    return max(1 + excess for excess in judge(network, budget).violations.values())


def _share(hits: Sequence[bool]) -> float:
    return sum(hits) / len(hits)
