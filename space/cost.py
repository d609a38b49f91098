"""What a network costs, in closed form: trainable parameters and multiply-accumulates, layer by layer.

Each kind of layer has its formula here, once. Nothing is built: a test proves every figure equal to the
built network's. A multiply-accumulate (MAC) is one product and its sum, of convolutions and linear layers,
for one image; normalisation, activation and pooling are not counted, as is usual (pycls, thop, fvcore).
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


def convolution(name: str, inputs: int, outputs: int, kernel: int, size: int, bias: bool = False) -> Layer:
    """k x k convolution to a map of `size`: k*k*in*out weights, each used once for every output pixel."""
    weights = kernel * kernel * inputs * outputs
    kind = f"conv {kernel}x{kernel}"
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


def block(stage: Stage, common: Block, inputs: int, stride: int, size: int) -> list[Layer]:
    """One block on a map of `size` before its stride; the main branch first, then the shortcut."""
    width, kernel, bias, preactivation = stage.width, stage.kernel, common.bias, common.preactivation
    after, layers = map_after(size, stride), list[Layer]()
    channels, at = inputs, size
    for conv_name, norm_name in BRANCH[: common.convolutions]:
        conv = convolution(conv_name, channels, width, kernel, after, bias)
        layers += (
            (norm(norm_name, channels, at), conv) if preactivation else (conv, norm(norm_name, width, after))
        )
        channels, at = width, after
    if common.squeeze_excitation:
        layers += gate("squeeze", width, common.squeeze_excitation)
    if common.residual and (stride != 1 or inputs != width):
        layers.append(convolution("shortcut.conv", inputs, width, stage.shortcut_kernel, after))
        if not preactivation:
            layers.append(norm("shortcut.norm", width, after))
    return layers


class Section(NamedTuple):
    """`times` equal runs of layers: the blocks of a stage after its first are all alike."""

    prefix: str
    first: int
    times: int
    layers: list[Layer]


def sections(architecture: Architecture) -> Iterator[Section]:
    """The network from input to output, in runs of equal blocks."""
    maps = architecture.maps
    yield Section("stem", -1, 1, _stem(architecture, maps[0]))
    width = architecture.stem.width
    for i, stage in enumerate(architecture.stages):
        first = block(stage, architecture.block, width, stage.stride, maps[i])
        yield Section(f"stages.{i}", 0, 1, first)
        width = stage.width
        if stage.blocks > 1:
            other = block(stage, architecture.block, width, 1, maps[i + 1])
            yield Section(f"stages.{i}", 1, stage.blocks - 1, other)
    yield Section("", -1, 1, _end(architecture, width, maps))


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
