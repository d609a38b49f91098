"""Knobs that all stages may share: one value, drawn once, in place of one for each stage.

`[same]` of a space says how often. Asked by space/sampling.py when it draws, and by space/inverse.py when it
reads a network back. A stage with a value of its own in [stages.N] is never among those that share.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

from space.architecture import Architecture
from space.blocks import Growth
from space.domains import Domain, near
from space.skeleton import Skeleton, clamped, rounded
from space.space import SearchSpace

Shared = Literal["blocks", "kernel", "shortcut_kernel", "width_ratio", "growth"]
SHARED: tuple[Shared, ...] = get_args(Shared)


def sharing(space: SearchSpace, name: Shared, depth: int) -> range | tuple[int, ...]:
    """The stages (1, 2, ...) that could share this knob; none where these are fewer than two. The first stage
    has no ratio to a stage before."""
    first = 2 if name == "width_ratio" else 1
    stages = tuple(
        i
        for i in range(first, depth + 1)
        if (own := space.stages.get(str(i))) is None or getattr(own, name) is None
    )
    return stages if len(stages) > 1 else ()


def shared_value(space: SearchSpace, shape: Skeleton, name: Shared) -> Any | None:
    """The one value of all stages that may share it; None where they differ or the space lets none share."""
    stages = [shape.stages[i - 1] for i in sharing(space, name, len(shape.stages))]
    if name == "growth":  # of a single block it says nothing, and is not kept
        stages = [stage for stage in stages if stage.blocks > 1] or stages
    values = {getattr(stage, name) for stage in stages}
    return values.pop() if len(values) == 1 and True in getattr(space.same, name) else None


def unified(space: SearchSpace, shape: Skeleton, architecture: Architecture) -> Skeleton | str:
    """The shape with one value for all stages wherever that makes the same network and the space allows it;
    or why it lies outside: a knob that must be shared and is not."""
    for name in SHARED:
        allowed, stages = getattr(space.same, name), sharing(space, name, len(shape.stages))
        if not stages or True not in allowed:
            continue
        value = next(_common(space, shape, architecture, name, stages), None)
        if value is not None:
            shape = _with(shape, name, stages, value)
        elif False not in allowed:
            found = ", ".join(f"{getattr(architecture.stages[i - 1], _field(name))}" for i in stages)
            return f"same.{name}: the stages have {found}; the space has one value for all"
    return shape


def _field(name: Shared) -> str:
    return "width" if name == "width_ratio" else name


def _with(shape: Skeleton, name: Shared, stages: Sequence[int], value: Any) -> Skeleton:
    changed = [
        replace(stage, **{name: value}) if i in stages else stage
        for i, stage in enumerate(shape.stages, start=1)
    ]
    return replace(shape, stages=tuple(changed))


def _common(
    space: SearchSpace, shape: Skeleton, architecture: Architecture, name: Shared, stages: Sequence[int]
) -> Iterator[Any]:
    """Values that, in all of these stages, make this network. Shortcuts have a kernel where they are
    projections; a stage may have either growth where both give its blocks the same widths."""
    if name == "shortcut_kernel":
        stages = [i for i in stages if has_projection(architecture, i)]
    values = [getattr(shape.stages[i - 1], name) for i in stages]
    if name == "width_ratio":
        yield from _ratios(space, shape, architecture, stages)
    elif name == "blocks":
        yield from values[:1] if len(set(values)) == 1 else ()
    elif name == "growth":
        made = [growths(architecture, i) for i in stages]
        yield from (value for value in space.stage.growth if all(value in each for each in made))
    else:
        yield from _kernels(getattr(space.stage, name), values, [architecture.maps[i] for i in stages])


def before(architecture: Architecture, i: int) -> int:
    """Channels that stage 1, 2, ... gets."""
    return architecture.stages[i - 2].width if i > 1 else architecture.stem.width


def reshapes(architecture: Architecture, i: int) -> bool:
    """Whether a block of stage 1, 2, ... changes the map or the width."""
    stage = architecture.stages[i - 1]
    return stage.stride > 1 or stage.width != before(architecture, i)


def has_projection(architecture: Architecture, i: int) -> bool:
    """Whether stage 1, 2, ... has a shortcut with a kernel."""
    return architecture.block.shortcut == "projection" and reshapes(architecture, i)


def growths(architecture: Architecture, i: int) -> list[Growth]:
    """What stage 1, 2, ... may say as its growth and have the same blocks: its own first."""
    stage = architecture.stages[i - 1]
    other: Growth = "linear" if stage.growth == "step" else "step"
    again = stage.model_copy(update={"growth": other})
    inputs = before(architecture, i)
    return [stage.growth, other] if again.widths(inputs) == stage.widths(inputs) else [stage.growth]


def _kernels(choices: Sequence[int], values: Sequence[int], maps: Sequence[int]) -> Iterator[int]:
    """Kernels larger than a map become smaller ones there, as space/skeleton.py has it."""
    for kernel in sorted(set(choices)):
        if all(
            clamped(kernel, tuple(choices), size) == value for value, size in zip(values, maps, strict=True)
        ):
            yield kernel


def _ratios(
    space: SearchSpace, shape: Skeleton, architecture: Architecture, stages: Sequence[int]
) -> Iterator[float]:
    widths = [float(stage.width) for stage in architecture.stages]
    for ratio in _candidates(space.stage.width_ratio, widths, shape.round_to):
        exact, reached = widths[0], [int(widths[0])]
        for i, stage in enumerate(shape.stages[1:], start=2):
            exact *= ratio if i in stages else stage.width_ratio
            reached.append(rounded(exact, shape.round_to))
        if reached == widths:
            yield ratio


def _candidates(knob: Domain, widths: Sequence[float], grain: int) -> Iterator[float]:
    """Choices, the nearest first; of a range the middle of what rounds to every width, then its ends."""
    guess = (widths[-1] / widths[0]) ** (1 / (len(widths) - 1))
    if isinstance(knob, tuple):
        yield from near(knob, guess)
        return
    yield from near(knob, guess)
    low, high = knob.low, knob.top
    for steps, width in enumerate(widths[1:], start=1):
        least = 0.0 if width <= grain else width - 0.499 * grain
        low = max(low, (least / widths[0]) ** (1 / steps))
        high = min(high, ((width + 0.499 * grain) / widths[0]) ** (1 / steps))
    if low <= high:
        for wanted in ((low + high) / 2, low, high):
            yield from near(knob, wanted)
