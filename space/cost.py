"""What a network costs, in closed form: trainable parameters and multiply-accumulates, layer by layer.

Reads architecture documents and writes nothing. Called by whatever asks if a network fits (`space/budget.py`,
sampling, repair, forecast) and by the tables of `search show`, `explain`, `export` and `report`.

Each kind of layer has its formula here, once; which layers a block has, `space/blocks.py` says. Nothing is
built: a test proves every figure equal to the built network's. A multiply-accumulate (MAC) is one product and
its sum, of convolutions and linear layers, for one image; normalisation, activation and pooling are not
counted, as is usual (pycls, thop, fvcore).
"""

from collections.abc import Iterator
from typing import NamedTuple

from space.architecture import Architecture, Block, SqueezeExcitation, Stage, map_after

BRANCH = tuple((f"conv{i}", f"norm{i}") for i in range(1, 9))


class Layer(NamedTuple):
    """`name` is the module's path in the built network; its output has shape (channels, size, size)."""

    name: str
    kind: str
    channels: int
    size: int
    parameters: int
    macs: int


class Cost(NamedTuple):
    parameters: int
    macs: int


def convolution(
    name: str, inputs: int, outputs: int, kernel: int, size: int, bias: bool = False, groups: int = 1
) -> Layer:
    """k x k convolution to a map of `size`: k*k*in*out/groups weights, each used once for every output pixel.

    `groups` divides `inputs` and `outputs`; as many groups as channels are a depthwise convolution.
    """
    weights = kernel * kernel * (inputs // groups) * outputs
    kind = f"conv {kernel}x{kernel}"
    if groups > 1:
        kind += " depthwise" if groups == inputs == outputs else f" in {groups} groups"
    return Layer(name, kind, outputs, size, weights + outputs * bias, weights * size * size)


def norm(name: str, channels: int, size: int) -> Layer:
    """BatchNorm: a scale and a shift for each channel (running statistics are not trainable)."""
    return Layer(name, "batch norm", channels, size, 2 * channels, 0)


def linear(name: str, inputs: int, outputs: int, bias: bool = True) -> Layer:
    """Fully connected: in*out weights, each used once."""
    weights = inputs * outputs
    return Layer(name, "linear", outputs, 1, weights + outputs * bias, weights)


def pooling(name: str, kind: str, channels: int, size: int) -> Layer:
    """A row for the table: pooling has neither parameters nor counted operations."""
    return Layer(name, f"{kind} pool", channels, size, 0, 0)


def gate(prefix: str, width: int, squeeze: SqueezeExcitation) -> list[Layer]:
    """Squeeze-and-excitation on a pooled vector: two biased 1x1 convolutions."""
    hidden = squeeze.hidden(width)
    return [
        convolution(f"{prefix}.reduce", width, hidden, 1, 1, bias=True),
        convolution(f"{prefix}.expand", hidden, width, 1, 1, bias=True),
    ]


def block(stage: Stage, common: Block, inputs: int, width: int, stride: int, size: int) -> list[Layer]:
    """One block on a map of `size` before its stride; the main branch first, then the shortcut."""
    squeeze, inside, layers, at = common.squeeze_excitation, common.kind == "inverted", list[Layer](), size
    branch = common.branch(inputs, width, stage.kernel, stride)
    for (conv_name, norm_name), conv in zip(BRANCH, branch, strict=False):
        if common.preactivation:
            layers.append(norm(norm_name, conv.inputs, at))
        if squeeze and inside and conv is branch[-1]:
            layers += gate("squeeze", conv.inputs, squeeze)
        at = map_after(at, conv.stride)
        layers.append(
            convolution(conv_name, conv.inputs, conv.outputs, conv.kernel, at, common.bias, conv.groups)
        )
        if not common.preactivation:
            layers.append(norm(norm_name, conv.outputs, at))
    if squeeze and not inside:
        layers += gate("squeeze", width, squeeze)
    return layers + _shortcut(stage, common, inputs, width, stride, at)


def _shortcut(stage: Stage, common: Block, inputs: int, width: int, stride: int, size: int) -> list[Layer]:
    """`size`: side of the map after the block."""
    kind = common.shortcut_of(inputs, width, stride)
    if kind == "padding" and stride > 1:
        return [pooling("shortcut.pool", "avg", inputs, size)]
    if kind != "projection":
        return []
    projection = convolution("shortcut.conv", inputs, width, stage.shortcut_kernel, size)
    return [projection] if common.preactivation else [projection, norm("shortcut.norm", width, size)]


class Section(NamedTuple):
    """`times` equal runs of layers: the blocks of a stage after its first are all alike."""

    prefix: str
    first: int
    times: int
    layers: list[Layer]


def sections(architecture: Architecture) -> Iterator[Section]:
    """The network from input to output, in runs of equal blocks."""
    maps, common = architecture.maps, architecture.block
    yield Section("stem", -1, 1, _stem(architecture, maps[0]))
    inputs = architecture.stem.width
    for i, stage in enumerate(architecture.stages):
        size, stride, done = maps[i], stage.stride, 0
        for width, times in _runs(stage, inputs):
            yield Section(f"stages.{i}", done, times, block(stage, common, inputs, width, stride, size))
            size, stride, inputs, done = maps[i + 1], 1, width, done + times
    yield Section("", -1, 1, _end(architecture, inputs, maps))


def _runs(stage: Stage, before: int) -> list[tuple[int, int]]:
    """Width and number of blocks that are alike, one after the other; the first of a stage stands alone."""
    if stage.growth == "step":
        return [(stage.width, 1), (stage.width, stage.blocks - 1)][: stage.blocks]
    return [(width, 1) for width in stage.widths(before)]


def _stem(architecture: Architecture, after: int) -> list[Layer]:
    stem = architecture.stem
    size = map_after(architecture.image_size, stem.stride)
    layers = [
        convolution("conv", architecture.channels, stem.width, stem.kernel, size, stem.bias),
        norm("norm", stem.width, size),
    ]
    if stem.squeeze_excitation:
        layers += gate("squeeze", stem.width, stem.squeeze_excitation)
    if stem.max_pool:
        layers.append(pooling("pool", "max", stem.width, after))
    return layers


def _end(architecture: Architecture, width: int, maps: tuple[int, ...]) -> list[Layer]:
    layers, size = list[Layer](), maps[len(architecture.stages)]
    if architecture.block.preactivation:
        layers.append(norm("norm", width, size))
    for i, conv in enumerate(architecture.tail):
        size = map_after(size, conv.stride)
        layers.append(convolution(f"tail.{i}.conv", width, conv.width, conv.kernel, size, conv.bias))
        layers.append(norm(f"tail.{i}.norm", conv.width, size))
        width = conv.width
    positions = architecture.pool.map_after(size)
    layers.append(pooling("pool", architecture.pool.kind, width, positions))
    inputs = width * positions * positions
    for i, outputs in enumerate(architecture.head.hidden):
        layers.append(linear(f"head.hidden.{i}", inputs, outputs))
        inputs = outputs
    layers.append(linear("head.classifier", inputs, architecture.classes, architecture.head.bias))
    return layers


def layers(architecture: Architecture) -> list[Layer]:
    """Every layer with parameters or a pool, in the order in which the network is built."""
    table = []
    for section in sections(architecture):
        for i in range(section.times):
            index = f".{section.first + i}" if section.first >= 0 else ""
            path = f"{section.prefix}{index}."
            table += [row._replace(name=(path + row.name).lstrip(".")) for row in section.layers]
    return table


def total(architecture: Architecture) -> Cost:
    """Trainable parameters and multiply-accumulates of one image, exact integers of any size."""
    parameters = macs = 0
    for section in sections(architecture):
        for layer in section.layers:
            parameters += section.times * layer.parameters
            macs += section.times * layer.macs
    return Cost(parameters, macs)
