"""An architecture read back as a shape of a space: what `space/skeleton.py` does, undone.

Called by space/membership.py. Reads two documents, and writes nothing.
What cannot be told apart in the built network (the kernel of a shortcut that is an identity, a window that
is the whole map) is taken as the space has it. Every answer is proven by making the network again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import inf
from typing import Any

from space.architecture import Architecture, MaxPool, TailConvolution, canonical
from space.blocks import EXPANSION, Growth, ShortcutKind
from space.document import shown
from space.domains import Domain, holds, minimum, near, told
from space.same import growths, has_projection, reshapes, unified
from space.skeleton import (
    TAIL,
    BranchSkeleton,
    Gate,
    PoolKind,
    Skeleton,
    StageSkeleton,
    pooled,
    realise,
    rounded,
)
from space.space import Form, SearchSpace, Task, fits


def shape_of(space: SearchSpace, architecture: Architecture) -> tuple[Skeleton | None, list[str]]:
    """The shape that the space gives this network, or the reasons why it has none."""
    shape, reasons = _read(space, architecture)
    for again in _spelled(architecture) if shape is None else ():
        shape, _ = _read(space, again)
        if shape:
            break
    return shape, [] if shape else reasons


def _spelled(architecture: Architecture) -> Iterator[Architecture]:
    """Other documents of the same network."""
    plain = canonical(architecture)
    if plain != architecture:
        yield plain
    if not plain.block.residual:  # every block may change the shape, where only identities are added
        update = {"residual": True, "shortcut": "identity"}
        again = architecture.model_copy(update={"block": architecture.block.model_copy(update=update)})
        if again.fingerprint == architecture.fingerprint:
            yield again


def _read(space: SearchSpace, architecture: Architecture) -> tuple[Skeleton | None, list[str]]:
    reasons = [*_foreign(architecture), *_outside(space, architecture)]
    widths = _widths(space, architecture)
    pool = _pool(space, architecture)
    if isinstance(widths, str):
        reasons.append(widths)
    if pool is None:
        reasons.append(f"pool: {architecture.pool.model_dump(exclude_none=True)} is none of the space")
    if reasons or isinstance(widths, str) or pool is None:
        return None, reasons
    shape = unified(space, _assembled(space, architecture, widths, pool), architecture)
    if isinstance(shape, str):
        return None, [shape]
    task = Task(**{name: getattr(architecture, name) for name in ("channels", "image_size", "classes")})
    made = realise(shape, space, architecture.stages[0].width, task)
    if made.fingerprint != architecture.fingerprint:
        return None, [_difference(canonical(made).document(), canonical(architecture).document())]
    return shape, []


def _foreign(architecture: Architecture) -> Iterator[str]:
    """What no space can say."""
    stem, block, head = architecture.stem, architecture.block, architecture.head
    for place, found, wanted in (
        ("stem.bias", stem.bias, False),
        ("stem.max_pool", stem.max_pool or MaxPool(), MaxPool()),
        ("block.bias", block.bias, False),
        ("block.residual", block.residual, True),
        ("head.bias", head.bias, True),
    ):
        if found != wanted:
            yield f"{place}: {shown(found)}; a space has {shown(wanted)}"
    if len(head.hidden) > 1:
        yield f"head.hidden: {len(head.hidden)} layers; a space has one at most"
    width = architecture.stages[-1].width
    if architecture.tail and architecture.tail != (TailConvolution(width=width),) * TAIL:
        yield f"tail: a space has {TAIL} convolutions of 3x3 as wide as the last stage, or none"
    if stem.squeeze_excitation and block.squeeze_excitation:
        yield "block.squeeze_excitation: in the stem and in the blocks at once"
    if len(_forms(architecture)) > 1:
        yield f"head.form: {' and '.join(_forms(architecture))} at once"


def _forms(architecture: Architecture) -> list[Form]:
    head = architecture.head
    named: list[tuple[Form, object]] = [("hidden", head.hidden), ("tail", architecture.tail)]
    named.append(("softmax", head.softmax))
    return [form for form, there in named if there] or ["linear"]


def _gate(architecture: Architecture) -> Gate:
    if architecture.block.squeeze_excitation:
        return "block"
    return "stem" if architecture.stem.squeeze_excitation else "none"


def _outside(space: SearchSpace, architecture: Architecture) -> Iterator[str]:
    """Every value that its knob does not have."""
    stem, block, head, stages = (getattr(architecture, x) for x in ("stem", "block", "head", "stages"))
    branch = _branch(space, architecture)
    checks: list[tuple[str, Any, Domain]] = [
        ("depth", len(stages), space.depth),
        ("stem.kernel", stem.kernel, space.stem.kernel),
        ("stem.stride", stem.stride, space.stem.stride),
        ("stem.max_pool", stem.max_pool is not None, space.stem.max_pool),
        ("head.form", _forms(architecture)[0], space.head.form),
        ("head.dropout", head.dropout, space.head.dropout),
        ("block.kind", block.kind, space.block.kind),
        ("block.shortcut", _shortcut(space, architecture), space.block.shortcut),
        ("block.dropout", block.dropout, space.block.dropout),
        ("block.activation", architecture.activation, space.block.activation),
        ("block.squeeze_excitation", _gate(architecture), space.block.squeeze_excitation),
        ("block.preactivation", block.preactivation, space.block.preactivation),
    ]
    fields = {"basic": ["convolutions"], "bottleneck": ["expansion", "groups"], "inverted": ["expansion"]}
    checks += [
        (f"block.{name}", getattr(branch, name), getattr(space.block, name)) for name in fields[block.kind]
    ]
    checks += [("head.hidden", width, space.head.hidden) for width in head.hidden]
    sizes = {"stem.kernel": architecture.image_size}
    for i, stage in enumerate(stages, start=1):
        knobs = space.knobs(i)
        names = ["blocks", "stride", "kernel"]
        if has_projection(architecture, i):
            names.append("shortcut_kernel")
        checks += [(f"stages.{i}.{name}", getattr(stage, name), getattr(knobs, name)) for name in names]
        sizes |= {f"stages.{i}.{name}": architecture.maps[i] for name in names[2:]}
        checks.append((f"stages.{i}.growth", _growth(space, architecture, i), knobs.growth))
    for place, found, knob in checks:
        if not holds(knob, found):
            yield f"{place}: {found}, not {told(knob)}"
        elif place in sizes and not fits(found, sizes[place]) and found > minimum(knob):
            yield f"{place}: {found} is larger than its feature map, {sizes[place]}x{sizes[place]}"


def _branch(space: SearchSpace, architecture: Architecture) -> BranchSkeleton:
    """The main branch, with an expansion of the space where one makes the same network."""
    block = architecture.block
    read = BranchSkeleton(block.kind, block.convolutions, None, block.groups)
    if block.kind == "basic":
        return read
    said, wanted = block.expansion or EXPANSION[block.kind], canonical(architecture).block.expansion
    for expansion in sorted(set(space.block.expansion), key=lambda value: value != said):
        again = block.model_copy(update={"expansion": expansion})
        if canonical(architecture.model_copy(update={"block": again})).block.expansion == wanted:
            return replace(read, expansion=expansion)
    return replace(read, expansion=said)


def _shortcut(space: SearchSpace, architecture: Architecture) -> ShortcutKind:
    """The network's, or any of the space where no block has one that is no identity."""
    said = architecture.block.shortcut
    asked = any(reshapes(architecture, i + 1) for i in range(len(architecture.stages)))
    return said if asked or said in space.block.shortcut else space.block.shortcut[0]


def _growth(space: SearchSpace, architecture: Architecture, i: int) -> Growth:
    """The stage's, or the other of the space where both make the same blocks."""
    made = growths(architecture, i)
    return next((growth for growth in made if growth in space.knobs(i).growth), made[0])


def _pool(space: SearchSpace, architecture: Architecture) -> tuple[PoolKind, int, int] | None:
    """Kind, size and window of the space that pool as this network does; a plain pool where one does."""
    pools, size = space.pool, architecture.maps[-1]
    wanted = canonical(architecture).pool
    for window, kind, wide in product(sorted(set(pools.window)), pools.kind, sorted(set(pools.size))):
        pool = pooled(kind, wide, window, pools.size, size)
        if canonical(architecture.model_copy(update={"pool": pool})).pool == wanted:
            return kind, wide, window
    return None


@dataclass(frozen=True)
class Widths:
    round_to: int
    stem_ratio: float
    ratios: tuple[float, ...]


def _widths(space: SearchSpace, architecture: Architecture) -> Widths | str:
    """The grain and the ratios that give exactly these widths; or which of them the space does not have."""
    stem, widths = architecture.stem.width, [stage.width for stage in architecture.stages]
    knobs = [space.knobs(i).width_ratio for i in range(2, len(widths) + 1)]
    problem = ""
    for grain in dict.fromkeys(sorted(space.width.round_to, reverse=True)):
        if uneven := [width for width in (stem, *widths) if width % grain]:
            problem = f"width.round_to: {uneven[0]} is no multiple of {grain}"
        elif widths[0] not in space.width.grid(grain):
            problem = f"width: {widths[0]} is outside {space.width.low} to {space.width.high}"
        elif not (stems := list(_ratios(space.stem.width_ratio, widths[0], stem, grain))):
            problem = f"stem.width_ratio: {stem / widths[0]:g}, not {told(space.stem.width_ratio)}"
        elif (ratios := _chain(knobs, widths[1:], float(widths[0]), grain)) is not None:
            return Widths(grain, stems[0], ratios)
        else:
            problem = _first_ratio_outside(knobs, widths, grain)
    return problem


def _first_ratio_outside(knobs: Sequence[Domain], widths: Sequence[int], grain: int) -> str:
    for i, (knob, before, width) in enumerate(zip(knobs, widths, widths[1:], strict=False), start=2):
        if not list(_ratios(knob, before, width, grain)):
            return f"stages.{i}.width_ratio: {width / before:g}, not {told(knob)}"
    return f"stage.width_ratio: no ratios of the space give {', '.join(map(str, widths))}"


def _chain(
    knobs: Sequence[Domain], widths: Sequence[int], before: float, grain: int
) -> tuple[float, ...] | None:
    """One ratio a stage, each to the exact width before it, which need not be a multiple."""
    found = _walk(knobs, widths, (before, before), before, grain)
    return tuple(ratio for _, ratio in found[:-1]) if found else None


def _walk(
    knobs: Sequence[Domain], widths: Sequence[int], bounds: tuple[float, float], wanted: float, grain: int
) -> list[tuple[float, float]] | None:
    """Exact widths, each with the ratio to the next, of which the first lies inside the bounds and as near to
    the one wanted as the rest lets it. Forward the bounds are narrowed, backward each width is chosen."""
    low, high = bounds
    if not widths:
        return [(min(max(wanted, low), high), 1.0)]
    width = float(widths[0])
    floor = 0.0 if width <= grain else width - 0.499 * grain  # nothing is narrower than one grain
    is_widest = width == rounded(inf, grain)  # whatever is wider is cut to it
    ceiling = inf if is_widest else width + 0.499 * grain
    for least, most in _segments(knobs[0], width / wanted if wanted else 1.0):
        reached = max(low * least, floor), min(high * most, ceiling)
        if low * least == high * most and rounded(low * least, grain) == width:
            reached = low * least, low * least  # a half is rounded to either side
        rest = _walk(knobs[1:], widths[1:], reached, width, grain) if reached[0] <= reached[1] else None
        if rest is not None:
            after = rest[0][0]
            first = max(low, after / most) if most else low
            last = min(high, after / least) if least else high
            exact = min(max(wanted, first), last)
            exact = min(max(exact, low), high)  # where a product is too small for a float, last is too
            ratio = after / exact if exact else most
            return [(exact, min(max(ratio, least), most)), *rest]
    return None


def _segments(knob: Domain, wanted: float) -> Iterator[tuple[float, float]]:
    """A knob's values as ranges: one of all, or many of one value each, the nearest first."""
    if isinstance(knob, tuple) or knob.step:
        yield from ((value, value) for value in near(knob, wanted))
    else:
        yield knob.low, knob.top


def _ratios(knob: Domain, before: float, width: int, grain: int) -> Iterator[float]:
    """Ratios that round to this width, the exact one first; a range has its ends of what rounds to it too,
    since the next stage may need them."""
    wanted = [width, width - 0.499 * grain, width + 0.499 * grain]
    values = (value for w in wanted for value in near(knob, w / before if before else 1.0))
    yield from (ratio for ratio in dict.fromkeys(values) if rounded(before * ratio, grain) == width)


def _assembled(
    space: SearchSpace, architecture: Architecture, widths: Widths, pool: tuple[PoolKind, int, int]
) -> Skeleton:
    stem, block, head = architecture.stem, architecture.block, architecture.head
    stages = list[StageSkeleton]()
    for i, (stage, ratio) in enumerate(zip(architecture.stages, (1.0, *widths.ratios), strict=True), start=1):
        shortcut = stage.shortcut_kernel
        if not has_projection(architecture, i):
            shortcut = min(space.knobs(i).shortcut_kernel)
        growth = _growth(space, architecture, i)
        stages.append(StageSkeleton(stage.blocks, stage.kernel, shortcut, ratio, stage.stride, growth))
    return Skeleton(
        stages=tuple(stages),
        round_to=widths.round_to,
        stem_ratio=widths.stem_ratio,
        stem_kernel=stem.kernel,
        stem_stride=stem.stride,
        max_pool=stem.max_pool is not None,
        pool_kind=pool[0],
        pool_size=pool[1],
        pool_window=pool[2],
        form=_forms(architecture)[0],
        hidden=head.hidden[0] if head.hidden else int(minimum(space.head.hidden)),
        dropout=head.dropout,
        branch=_branch(space, architecture),
        shortcut=_shortcut(space, architecture),
        block_dropout=block.dropout,
        activation=architecture.activation,
        squeeze_excitation=_gate(architecture),
        preactivation=block.preactivation,
    )


def _difference(made: Any, wanted: Any, place: str = "") -> str:
    """The first value by which the nearest network of the space is another one."""
    if isinstance(made, dict) and isinstance(wanted, dict):
        for name in wanted:
            if made[name] != wanted[name]:
                return _difference(made[name], wanted[name], f"{place}.{name}".lstrip("."))
    if isinstance(made, list) and isinstance(wanted, list) and len(made) == len(wanted):
        for i, (ours, theirs) in enumerate(zip(made, wanted, strict=True)):
            if ours != theirs:
                return _difference(ours, theirs, f"{place}.{i}")
    return f"{place}: {shown(wanted)}; the space makes {shown(made)}"
