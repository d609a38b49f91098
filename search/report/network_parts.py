"""A network in the parts that people speak of: stem, stages, tail, head, each with what it costs.

Reads an architecture; writes nothing. Called by the drawing of the winner and by the section that compares
where parameters and compute sit.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from search.study.text import counted
from space import cost
from space.architecture import Architecture, Block, Head, Pool, Stage, Stem
from space.blocks import EXPANSION
from space.cost import Cost


@dataclass(frozen=True)
class Part:
    """`widths`: output channels of its blocks; `size`: side of its map in pixels; costs of one image."""

    name: str
    text: str
    widths: tuple[int, ...]
    size: int
    parameters: int
    macs: int


def parts(network: Architecture) -> list[Part]:
    """The parts in the order in which an image goes through them; a tail only where there is one."""
    spent, maps = part_costs(network), network.maps
    found = [_part("stem", _stem(network.stem), (network.stem.width,), maps[0], spent["stem"])]
    before = network.stem.width
    for i, stage in enumerate(network.stages):
        name = f"stage {i + 1}"
        widths = stage.widths(before)
        text = _stage(stage, before, network.block)
        found.append(_part(name, text, tuple(widths), maps[i + 1], spent[name]))
        before = stage.width
    if network.tail:
        convolutions = ", ".join(f"{c.kernel}×{c.kernel} to {c.width} channels" for c in network.tail)
        widths = tuple(c.width for c in network.tail)
        found.append(_part("tail", f"convolutions {convolutions}", widths, maps[-1], spent["tail"]))
    text = f"{_pool(network.pool)}, {_head(network.head, network.classes)}"
    return [*found, _part("head", text, (network.classes,), 1, spent["head"])]


def _part(name: str, text: str, widths: tuple[int, ...], size: int, spent: Cost) -> Part:
    return Part(name, text, widths, size, spent.parameters, spent.macs)


def part_costs(network: Architecture) -> dict[str, Cost]:
    """Parameters and multiply-accumulates by the name of the part; together they are the network's."""
    found = dict[str, Cost]()
    for section in cost.sections(network):
        for layer in section.layers:
            name = _owner(section.prefix, layer.name)
            was = found.get(name, Cost(0, 0))
            found[name] = Cost(
                was.parameters + section.times * layer.parameters, was.macs + section.times * layer.macs
            )
    return found


def _owner(prefix: str, layer: str) -> str:
    if prefix.startswith("stages."):
        return f"stage {int(prefix.removeprefix('stages.')) + 1}"
    return prefix or ("tail" if layer.startswith("tail.") else "head")


def _stem(stem: Stem) -> str:
    text = f"{stem.kernel}×{stem.kernel} convolution to {counted(stem.width, 'channel')}"
    text += f", stride {stem.stride}" if stem.stride > 1 else ""
    text += ", squeeze-and-excitation" if stem.squeeze_excitation else ""
    return text + (f", max pool {stem.max_pool.kernel}×{stem.max_pool.kernel}" if stem.max_pool else "")


def _stage(stage: Stage, before: int, block: Block) -> str:
    widths = tuple(stage.widths(before))
    width = f"{widths[0]} to {widths[-1]}" if widths[0] != widths[-1] else f"{stage.width}"
    text = f"{counted(stage.blocks, 'block')} of {width} channels, {stage.kernel}×{stage.kernel} kernel"
    text += f", stride {stage.stride}" if stage.stride > 1 else ""
    pairs = pairwise((before, *widths))
    kinds = [
        block.shortcut_of(inputs, width, 1 if i else stage.stride) for i, (inputs, width) in enumerate(pairs)
    ]
    if "projection" in kinds:
        text += f", shortcut projected by {stage.shortcut_kernel}×{stage.shortcut_kernel}"
    return text


def block_text(network: Architecture) -> str:
    """What all blocks have in common."""
    return ", ".join(_block(network.block, network.activation.replace("_", " ")))


def _block(block: Block, activation: str) -> Iterator[str]:
    times = block.expansion or EXPANSION.get(block.kind, 1)
    if block.kind == "basic":
        yield f"basic blocks of {counted(block.convolutions, 'convolution')}"
    elif block.kind == "bottleneck":
        yield f"bottleneck blocks, {times} times narrower inside"
    else:
        yield f"inverted blocks, {times} times wider inside"
    if block.kind == "bottleneck" and block.groups > 1:
        yield f"{block.groups} groups"
    yield activation
    yield "batch norm before each convolution" if block.preactivation else "batch norm after each convolution"
    if block.squeeze_excitation:
        yield f"squeeze-and-excitation (reduction {block.squeeze_excitation.reduction})"
    shortcuts = {"projection": "projected", "padding": "padded", "identity": "only where nothing changes"}
    yield f"shortcuts {shortcuts[block.shortcut]}" if block.residual else "no shortcuts"
    if block.dropout:
        yield f"dropout {block.dropout:g}"


def _pool(pool: Pool) -> str:
    kind = "average" if pool.kind == "avg" else "max"
    if pool.kernel:
        return f"{kind} pool of {pool.kernel}×{pool.kernel}"
    return f"global {kind} pool" if pool.output == 1 else f"{kind} pool to {pool.output}×{pool.output}"


def _head(head: Head, classes: int) -> str:
    text = f"dropout {head.dropout:g}, " if head.dropout else ""
    text += "".join(f"linear layer of {width}, " for width in head.hidden)
    return f"{text}linear layer to {classes} classes" + (", softmax" if head.softmax else "")
