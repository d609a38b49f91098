"""Turns an architecture into the vector of numbers from which a forest predicts its learning curve.

Called by benchmarks/simulated/table.py and worlds.py. Reads and writes nothing.
"""

import math

import numpy as np
from numpy.typing import NDArray

from space.architecture import Architecture
from space.blocks import EXPANSION

STAGES = 5
ACTIVATIONS = ("relu", "leaky_relu", "gelu", "silu", "tanh")
KINDS = ("basic", "bottleneck", "inverted")
SHORTCUTS = ("projection", "padding", "identity")


def features(architecture: Architecture, parameters: int, macs: int) -> NDArray[np.float64]:
    """One row: costs, sums over the stages, each stage's own knobs (0 where there is none), what all blocks
    have in common, and extras."""
    stages, block, stem = architecture.stages, architecture.block, architecture.stem
    blocks = sum(stage.blocks for stage in stages)
    sizes = list(architecture.maps)[1 : 1 + len(stages)]
    row: list[float] = [
        math.log(parameters),
        math.log(macs),
        len(stages),
        blocks,
        blocks * block.depth,
        sum(stage.kernel * stage.blocks for stage in stages) / blocks,
        sizes[-1],
        sum(size * stage.blocks for size, stage in zip(sizes, stages, strict=True)) / blocks,
        math.log(min(stage.width for stage in stages)),
        math.log(max(stage.width for stage in stages)),
        math.log(stages[-1].width),
    ]
    for i in range(STAGES):
        if i < len(stages):
            stage = stages[i]
            row += [stage.blocks, stage.kernel, math.log(stage.width), stage.stride, stage.shortcut_kernel]
            row += [stage.growth == "linear"]
        else:
            row += [0.0] * 6
    row += [math.log(stem.width), stem.kernel, stem.stride, stem.max_pool is not None]
    row += [stem.squeeze_excitation is not None, block.squeeze_excitation is not None, block.convolutions]
    row += [block.kind == name for name in KINDS]
    row += [block.expansion or EXPANSION[block.kind], block.groups, block.preactivation, block.residual]
    row += [block.shortcut == name for name in SHORTCUTS]
    row += [math.log(max(block.inner(stage.width, stage.width) for stage in stages))]
    row += [architecture.activation == name for name in ACTIVATIONS]
    row += [architecture.pool.kind == "max", architecture.pool.output or 0, architecture.pool.kernel or 0]
    row += [architecture.head.dropout, architecture.head.softmax, len(architecture.head.hidden)]
    row += [len(architecture.tail), block.dropout]
    return np.asarray(row, dtype=np.float64)
