"""A network in one line that tells it from every other one: what it has, without what is as usual.

Reads an architecture; writes nothing. Called by all that lists networks, and by the worker, which stores the
line with the trial. LEGEND says what is usual and what the letters mean; print it once where lines stand.
"""

from collections.abc import Iterator
from itertools import pairwise

from space.architecture import Architecture, Head, Pool, Stem
from space.blocks import EXPANSION, SHORTCUTS, Block, SqueezeExcitation, Stage

LEGEND = (
    "network: stem WIDTH, stages BLOCKSxWIDTH ..., then what is not as usual. /k kernel (3), /s stride (1,"
    " from the second stage on 2), /p kernel of the shortcuts (1), se squeeze-and-excitation, ..WIDTH grows"
    " by block. Usual: basic blocks of 2 convolutions, relu, global average pool, linear head"
)


def short_form(architecture: Architecture) -> str:
    """The whole line, with the images and classes that the network is for where they are not CIFAR-10's."""
    network = summary(architecture)
    size, classes = architecture.image_size, architecture.classes
    if (architecture.channels, size, classes) == (3, 32, 10):
        return network
    return f"{network}, for {architecture.channels}x{size}x{size} and {classes} classes"


def summary(architecture: Architecture) -> str:
    """The line without images and classes, which the networks of one study have in common."""
    parts = [f"stem {_stem(architecture.stem)}", f"stages {' '.join(_stages(architecture))}"]
    parts += _block(architecture.block)
    if architecture.activation != "relu":
        parts.append(architecture.activation.replace("_", " "))
    if architecture.tail:
        convolutions = (
            f"{conv.width}{_kernel(conv.kernel)}{_stride(conv.stride, 1)}{'/bias' if conv.bias else ''}"
            for conv in architecture.tail
        )
        parts.append(f"tail {' '.join(convolutions)}")
    parts += [*_pool(architecture.pool), *_head(architecture.head)]
    return ", ".join(parts)


def _stem(stem: Stem) -> str:
    text = f"{stem.width}{_kernel(stem.kernel)}{_stride(stem.stride, 1)}{'/bias' if stem.bias else ''}"
    if stem.squeeze_excitation:
        text += f"/{_gate(stem.squeeze_excitation)}"
    if stem.max_pool:
        pool = stem.max_pool
        usual = (pool.kernel, pool.stride, pool.padding) == (3, 2, 1)
        text += "/max" if usual else f"/max{pool.kernel} by {pool.stride} padded {pool.padding}"
    return text


def _stages(architecture: Architecture) -> Iterator[str]:
    before = architecture.stem.width
    for i, stage in enumerate(architecture.stages):
        grows = ".." if stage.growth == "linear" else ""
        text = f"{stage.blocks}x{grows}{stage.width}{_kernel(stage.kernel)}"
        text += _stride(stage.stride, 2 if i else 1)
        if stage.shortcut_kernel != 1 and _projects(stage, before, architecture.block):
            text += f"/p{stage.shortcut_kernel}"
        before = stage.width
        yield text


def _projects(stage: Stage, before: int, block: Block) -> bool:
    """Whether any shortcut of the stage is a convolution, whose kernel then counts."""
    pairs = pairwise((before, *stage.widths(before)))
    return any(
        block.shortcut_of(width, wider, 1 if i else stage.stride) == "projection"
        for i, (width, wider) in enumerate(pairs)
    )


def _block(block: Block) -> Iterator[str]:
    if block.kind != "basic":
        times = block.expansion or EXPANSION[block.kind]
        groups = f" in {block.groups} groups" if block.groups > 1 else ""
        yield f"bottleneck/{times}{groups}" if block.kind == "bottleneck" else f"inverted x{times}"
    elif block.convolutions != 2:
        yield f"{block.convolutions} convolutions a block"
    if block.preactivation:
        yield "preactivation"
    if not block.residual:
        yield "no shortcuts"
    elif block.shortcut != "projection":
        yield SHORTCUTS[block.shortcut]
    if block.bias:
        yield "bias in blocks"
    if block.dropout:
        yield f"dropout {block.dropout} in blocks"
    if block.squeeze_excitation:
        yield _gate(block.squeeze_excitation)


def _pool(pool: Pool) -> Iterator[str]:
    if pool.kernel:
        stride = "" if pool.stride in (None, pool.kernel) else f" by {pool.stride}"
        yield f"{pool.kind} pool of {pool.kernel}x{pool.kernel}{stride}"
    elif (pool.kind, pool.output) != ("avg", 1):
        yield f"{pool.kind} pool to {pool.output}x{pool.output}"


def _head(head: Head) -> Iterator[str]:
    if head.hidden:
        yield f"hidden {' '.join(map(str, head.hidden))}"
    if head.dropout:
        yield f"dropout {head.dropout}"
    if not head.bias:
        yield "no bias in head"
    if head.softmax:
        yield "softmax"


def _kernel(kernel: int) -> str:
    return "" if kernel == 3 else f"/k{kernel}"


def _stride(stride: int, usual: int) -> str:
    return "" if stride == usual else f"/s{stride}"


def _gate(gate: SqueezeExcitation) -> str:
    return "se" if gate.reduction == 16 else f"se{gate.reduction}"
