"""The networks nearest to one that exceeds its budget: what one kind of change makes it fit, and by how much.

Reads an architecture document and a budget, writes nothing. Called by `search explain`.

A change is of the document alone, and whether it fits is asked of `space/budget.py`. It knows no search space
and no accuracy: near means that most of the budget is still used. Widths, blocks, kernels and expansions are
found by bisection, so each is the largest in the sense that one more does not fit. The kind of blocks, their
groups and the growth of stages stay as they are.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any, NamedTuple

from space import cost
from space.architecture import Architecture
from space.blocks import EXPANSION, LEAST_EXPANSION, MOST_EXPANSION
from space.budget import Budget, judge

GRAIN = 8  # channels; what matrix units like
COARSEST = 16  # a first stage narrower than this is no measure for the widths of the others
NARROWEST = 4  # one stage alone becomes a bottleneck when it is left less than a 4th of its width
WORTHWHILE = 0.75  # of what the finest widths use of the budget


@dataclass(frozen=True)
class Repair:
    """`name` is fit for a file; `kept` is the share (0 to 1) of the tightest limit that is still used."""

    change: str
    name: str
    architecture: Architecture
    parameters: int
    macs: int
    kept: float


class Change(NamedTuple):
    words: str
    name: str
    architecture: Architecture


def repairs(architecture: Architecture, budget: Budget) -> list[Repair]:
    """Every single kind of change that makes it fit, the one that keeps most of the budget first.

    Two kinds at once only where no single one is enough. Empty: it fits already, or nothing makes it fit.
    """
    if judge(architecture, budget).fits:
        return []
    found: dict[str, Repair] = {}
    for change in [*_single(architecture, budget)] or [*_combined(architecture, budget)]:
        found.setdefault(change.architecture.fingerprint, _judged(change, budget))
    before = _leaves(architecture.document())
    return sorted(found.values(), key=lambda r: (-round(r.kept, 3), _distance(before, r.architecture)))


def scaled(architecture: Architecture, new: int, old: int, grain: int = 1) -> Architecture:
    """All widths times new / old, each to the nearest multiple of `grain` (half goes up), at least one."""

    def width(before: int) -> int:
        return max(1, (2 * before * new + old * grain) // (2 * old * grain)) * grain

    def narrow(part: Any) -> Any:
        return part.model_copy(update={"width": width(part.width)})

    head = architecture.head
    parts = {
        "stem": narrow(architecture.stem),
        "stages": tuple(narrow(stage) for stage in architecture.stages),
        "tail": tuple(narrow(conv) for conv in architecture.tail),
        "head": head.model_copy(update={"hidden": tuple(width(hidden) for hidden in head.hidden)}),
    }
    return architecture.model_copy(update=parts)


def _judged(change: Change, budget: Budget) -> Repair:
    network = Architecture.parse(change.architecture.document(), change.words)
    verdict = judge(network, budget)
    if not verdict.fits:
        raise AssertionError(f"{change.words}: {verdict.excess}")
    kept = verdict.parameters / budget.max_parameters
    if budget.max_macs is not None:
        kept = max(kept, verdict.macs / budget.max_macs)
    return Repair(change.words, change.name, network, verdict.parameters, verdict.macs, kept)


def _single(architecture: Architecture, budget: Budget) -> Iterator[Change]:
    yield from _all_widths(architecture, budget)
    for i in range(len(architecture.stages)):
        yield from _fewer_blocks(architecture, budget, i)
        yield from _smaller_kernel(architecture, budget, i)
        yield from _narrower_stage(architecture, budget, i)
    yield from _thinner_insides(architecture, budget)
    for change in (_small_shortcuts(architecture), _one_stage_less(architecture)):
        if change and _fits(change.architecture, budget):
            yield change


def _fits(architecture: Architecture, budget: Budget) -> bool:
    return budget.allows(cost.total(architecture))


def _largest(
    low: int, high: int, make: Callable[[int], Architecture], budget: Budget
) -> tuple[int, Architecture] | None:
    """A number from low to high - 1 that fits while one more does not; `high` is known not to fit."""
    if low >= high or not _fits(make(low), budget):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _fits(make(middle), budget) else (low, middle)
    return low, make(low)


def _all_widths(architecture: Architecture, budget: Budget) -> Iterator[Change]:
    """In steps of the first stage's width; in finer ones of the widest layer where these are too coarse."""
    base, widest = architecture.stages[0].width, max(_widths(architecture))
    for words, old in (("base width", base), ("all widths, the widest", widest)):
        if old == base < min(COARSEST, widest):
            continue
        found = _largest(1, old, partial(scaled, architecture, old=old), budget)
        if found:
            new, network = found
            name = words.replace("all widths, the ", "").replace(" ", "-")
            yield Change(f"{words} {old} to {new}", f"{name}-{new}", network)
            yield from _even_widths(architecture, budget, Change(words, name, network), old)
            return


def _widths(architecture: Architecture) -> list[int]:
    """Of every layer that `scaled` scales, in order."""
    stages = [stage.width for stage in architecture.stages]
    tail = [conv.width for conv in architecture.tail]
    return [architecture.stem.width, *stages, *tail, *architecture.head.hidden]


def _even_widths(architecture: Architecture, budget: Budget, finest: Change, old: int) -> Iterator[Change]:
    """The same in multiples of 8, if that uses most of what the finest widths use and widens nothing."""
    evens = range((old - 1) // GRAIN * GRAIN, 0, -GRAIN)
    networks = ((new, scaled(architecture, new, old, GRAIN)) for new in evens)
    for new, network in networks:
        if not _fits(network, budget):
            continue
        if _share(network, finest.architecture) >= WORTHWHILE and not _wider(network, architecture):
            words = f"{finest.words} {old} to {new} (multiples of {GRAIN})"
            yield Change(words, f"{finest.name}-{new}-multiples-of-{GRAIN}", network)
        return


def _share(network: Architecture, of: Architecture) -> float:
    return min(x / max(1, y) for x, y in zip(cost.total(network), cost.total(of), strict=True))


def _wider(network: Architecture, than: Architecture) -> bool:
    """Whether a width grew: rounding to a multiple may widen what was narrow."""
    return any(new > old for new, old in zip(_widths(network), _widths(than), strict=True))


def _with_stage(architecture: Architecture, i: int, **update: int) -> Architecture:
    stages = list(architecture.stages)
    stages[i] = stages[i].model_copy(update=update)
    return architecture.model_copy(update={"stages": tuple(stages)})


def _fewer_blocks(architecture: Architecture, budget: Budget, i: int) -> Iterator[Change]:
    old = architecture.stages[i].blocks
    found = _largest(1, old, lambda new: _with_stage(architecture, i, blocks=new), budget)
    if found:
        new, network = found
        less = "one block" if old - new == 1 else f"{old - new} blocks"
        yield Change(f"{less} less in stage {i + 1}", f"stage-{i + 1}-blocks-{new}", network)


def _smaller_kernel(architecture: Architecture, budget: Budget, i: int) -> Iterator[Change]:
    old = architecture.stages[i].kernel
    found = _largest(0, old // 2, lambda half: _with_stage(architecture, i, kernel=2 * half + 1), budget)
    if found:
        new, network = 2 * found[0] + 1, found[1]
        yield Change(f"kernel {old} to {new} in stage {i + 1}", f"stage-{i + 1}-kernel-{new}", network)


def _narrower_stage(architecture: Architecture, budget: Budget, i: int) -> Iterator[Change]:
    old = architecture.stages[i].width
    found = _largest(-(-old // NARROWEST), old, lambda new: _with_stage(architecture, i, width=new), budget)
    if found:
        new, network = found
        yield Change(f"width {old} to {new} in stage {i + 1}", f"stage-{i + 1}-width-{new}", network)


def _thinner_insides(architecture: Architecture, budget: Budget) -> Iterator[Change]:
    """A larger expansion of bottlenecks, a smaller one of inverted blocks; the change that is just enough."""
    block = architecture.block
    if block.kind == "basic":
        return
    old = block.expansion or EXPANSION[block.kind]

    def thinner(expansion: int) -> Architecture:
        update = {"block": block.model_copy(update={"expansion": expansion})}
        return architecture.model_copy(update=update)

    if block.kind == "inverted":
        found = _largest(LEAST_EXPANSION, old, thinner, budget)
    else:
        found = _largest(-MOST_EXPANSION, -old, lambda new: thinner(-new), budget)
    if found:
        new, network = abs(found[0]), found[1]
        yield Change(f"expansion {old} to {new} in all blocks", f"expansion-{new}", network)


def _small_shortcuts(architecture: Architecture) -> Change | None:
    kernels = sorted({stage.shortcut_kernel for stage in architecture.stages} - {1})
    if not kernels or architecture.block.shortcut != "projection":
        return None
    stages = tuple(stage.model_copy(update={"shortcut_kernel": 1}) for stage in architecture.stages)
    words = f"shortcut kernel {' and '.join(map(str, kernels))} to 1 everywhere"
    return Change(words, "shortcut-kernel-1", architecture.model_copy(update={"stages": stages}))


def _one_stage_less(architecture: Architecture) -> Change | None:
    left = architecture.stages[:-1]
    if not left:
        return None
    words = f"one stage less, without stage {len(left) + 1}"
    return Change(words, f"stages-{len(left)}", architecture.model_copy(update={"stages": left}))


def _combined(architecture: Architecture, budget: Budget) -> Iterator[Change]:
    """As few drastic changes of all stages as are enough, with narrower widths where they need them."""
    drastic = (
        ("kernel 1 in all stages", "kernel-1", _all_kernels_1),
        ("one block in each stage", "blocks-1", _one_block_each),
        ("the first stage alone", "stages-1", _first_stage),
    )
    for count in range(1, len(drastic) + 1):
        found = False
        for chosen in combinations(drastic, count):
            network = architecture
            for _, _, change in chosen:
                before, network = network, change(network)
                if network == before:
                    break
            else:
                words, names = (" and ".join(c[0] for c in chosen), "-".join(c[1] for c in chosen))
                for narrowed in _narrowed(Change(words, names, network), budget):
                    found = True
                    yield narrowed
        if found:
            return


def _narrowed(change: Change, budget: Budget) -> Iterator[Change]:
    if _fits(change.architecture, budget):
        yield change
        return
    for widths in _all_widths(change.architecture, budget):
        words, name = f"{change.words}, {widths.words}", f"{change.name}-{widths.name}"
        yield Change(words, name, widths.architecture)


def _all_kernels_1(architecture: Architecture) -> Architecture:
    return _everywhere(architecture, kernel=1, shortcut_kernel=1)


def _one_block_each(architecture: Architecture) -> Architecture:
    return _everywhere(architecture, blocks=1)


def _first_stage(architecture: Architecture) -> Architecture:
    return architecture.model_copy(update={"stages": architecture.stages[:1]})


def _everywhere(architecture: Architecture, **update: int) -> Architecture:
    stages = tuple(stage.model_copy(update=update) for stage in architecture.stages)
    return architecture.model_copy(update={"stages": stages})


def _distance(before: dict[str, Any], network: Architecture) -> int:
    """How many entries of the document differ."""
    return len(before.items() ^ _leaves(network.document()).items())


def _leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Every number and word of a document by its path."""
    if isinstance(value, dict):
        pairs = list(value.items())
    elif isinstance(value, list):
        pairs = list(enumerate(value))
    else:
        return {path: value}
    return {leaf: x for key, part in pairs for leaf, x in _leaves(part, f"{path}.{key}").items()}
