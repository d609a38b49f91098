"""A network but for its widths, and what it becomes once the width of its first stage is known.

`realise` makes the network; space/sampling.py draws skeletons, space/inverse.py reads them back. Kernels and
pools larger than their maps become the next choice of the space that fits. It reads and writes nothing, and
knows no budget.
"""

from dataclasses import dataclass
from typing import Literal

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
    TailConvolution,
    map_after,
)
from space.blocks import BlockKind, Growth, ShortcutKind
from space.space import Form, SearchSpace, Task, fits

PoolKind = Literal["avg", "max"]
Gate = Literal["none", "stem", "block"]
TAIL = 2  # convolutions of a tail, as the published one has
GATE, MAX_POOL = SqueezeExcitation(), MaxPool()


@dataclass(frozen=True)
class StageSkeleton:
    blocks: int
    kernel: int
    shortcut_kernel: int
    width_ratio: float
    stride: int
    growth: Growth


@dataclass(frozen=True)
class BranchSkeleton:
    """What stands on the main branch of all blocks; fields that do not go with the kind have the values of
    `BASIC`, as the document wants it."""

    block_kind: BlockKind
    convolutions: int
    expansion: int | None
    groups: int


BASIC = BranchSkeleton("basic", convolutions=2, expansion=None, groups=1)


@dataclass(frozen=True)
class Skeleton:
    """Everything of a network but its widths."""

    stages: tuple[StageSkeleton, ...]
    round_to: int
    stem_ratio: float
    stem_kernel: int
    stem_stride: int
    max_pool: bool
    pool_kind: PoolKind
    pool_size: int
    pool_window: int
    form: Form
    hidden: int
    dropout: float
    branch: BranchSkeleton
    shortcut: ShortcutKind
    block_dropout: float
    activation: Activation
    squeeze_excitation: Gate
    preactivation: bool


def realise(shape: Skeleton, space: SearchSpace, base: int, task: Task) -> Architecture:
    """The network of this shape whose first stage is `base` channels wide."""
    size = map_after(task.image_size, shape.stem_stride)
    stem = Stem(
        width=rounded(base * shape.stem_ratio, shape.round_to),
        kernel=clamped(shape.stem_kernel, space.stem.kernel, task.image_size),
        stride=shape.stem_stride,
        max_pool=MAX_POOL if shape.max_pool else None,
        squeeze_excitation=GATE if shape.squeeze_excitation == "stem" else None,
    )
    size = stem.max_pool.map_after(size) if stem.max_pool else size
    stages, width = [], float(base)
    for i, stage in enumerate(shape.stages, start=1):
        knobs, size, width = space.knobs(i), map_after(size, stage.stride), width * stage.width_ratio
        stages.append(
            Stage(
                blocks=stage.blocks,
                width=rounded(width, shape.round_to),
                kernel=clamped(stage.kernel, knobs.kernel, size),
                stride=stage.stride,
                shortcut_kernel=clamped(stage.shortcut_kernel, knobs.shortcut_kernel, size),
                growth=stage.growth,
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
            kind=shape.branch.block_kind,
            convolutions=shape.branch.convolutions,
            expansion=shape.branch.expansion,
            groups=shape.branch.groups,
            shortcut=shape.shortcut,
            preactivation=shape.preactivation,
            dropout=shape.block_dropout,
            squeeze_excitation=GATE if shape.squeeze_excitation == "block" else None,
        ),
        tail=(TailConvolution(width=stages[-1].width),) * TAIL if shape.form == "tail" else (),
        pool=pooled(shape.pool_kind, shape.pool_size, shape.pool_window, space.pool.size, size),
        head=Head(
            hidden=(shape.hidden,) if shape.form == "hidden" else (),
            dropout=shape.dropout,
            softmax=shape.form == "softmax",
        ),
    )


def rounded(width: float, grain: int) -> int:
    """The nearest multiple, at least one and no more than a document can say."""
    return round(min(65_536 // grain, max(1, width / grain))) * grain


def clamped(kernel: int, choices: tuple[int, ...], size: int) -> int:
    """The largest choice up to `kernel` that fits the map; the smallest choice where none does."""
    return max((k for k in choices if k <= kernel and fits(k, size)), default=min(choices))


def pooled(kind: PoolKind, wanted: int, window: int, choices: tuple[int, ...], size: int) -> Pool:
    """The window where the map holds it once; else the largest choice up to `wanted` that the map holds, the
    whole map where none does."""
    if window <= size < 2 * window:
        return Pool(kind=kind, kernel=window)
    return Pool(kind=kind, output=max((p for p in choices if p <= min(wanted, size)), default=size))
