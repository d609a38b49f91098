"""The architecture document: a residual network as plain data, JSON in and out.

Reads architecture files and exported documents (`load`), writes nothing. Everything else builds on it:
`space/` makes and counts networks, `trainer/model.py` builds them, `search/` stores and prints them as JSON.

A document says everything that is built and nothing about how it is trained. Two documents that build
the same network have the same `fingerprint`. The vocabulary is that of He et al. (arXiv 1512.03385):
stem, stages of blocks, shortcuts, head. What stages and blocks mean, layer by layer, stands in
`space/blocks.py`; what a network costs is `space/cost.py`'s business.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import Field, ValidationError, model_validator

from space.blocks import (
    EXPANSION,
    MOST_BLOCKS as MOST_BLOCKS,
    Block as Block,
    BlockKind as BlockKind,
    Kernel as Kernel,
    Probability as Probability,
    ShortcutKind as ShortcutKind,
    SqueezeExcitation as SqueezeExcitation,
    Stage as Stage,
    Stride as Stride,
    Width as Width,
)
from space.document import Document as Document, first_problem as first_problem
from space.errors import ArchitectureError
from space.parser import read

MOST_STAGES = 16
Activation = Literal["relu", "leaky_relu", "gelu", "silu", "tanh"]


class MaxPool(Document):
    kernel: int = Field(3, ge=1, le=63)
    stride: Stride = 2
    padding: int = Field(1, ge=0, le=31)

    @model_validator(mode="after")
    def _padding_is_at_most_half(self) -> Self:
        if self.padding * 2 > self.kernel:
            raise ValueError(f"padding {self.padding} is more than half of the kernel {self.kernel}")
        return self

    def map_after(self, size: int) -> int:
        return (size + 2 * self.padding - self.kernel) // self.stride + 1


class Stem(Document):
    """Convolution, BatchNorm, activation; then the gate and the pool if there are any."""

    width: Width
    kernel: Kernel = 3
    stride: Stride = 1
    bias: bool = False
    squeeze_excitation: SqueezeExcitation | None = None
    max_pool: MaxPool | None = None


class TailConvolution(Document):
    """A plain convolution and BatchNorm after the last stage; activations stand between, not after."""

    width: Width
    kernel: Kernel = 3
    stride: Stride = 1
    bias: bool = False


class Pool(Document):
    """Either `output` positions a side (adaptive), or a fixed `kernel` and `stride` (default: kernel)."""

    kind: Literal["avg", "max"] = "avg"
    output: int | None = Field(None, ge=1, le=1_024)
    kernel: int | None = Field(None, ge=1, le=1_024)
    stride: int | None = Field(None, ge=1, le=1_024)

    @model_validator(mode="after")
    def _adaptive_or_fixed(self) -> Self:
        if (self.output is None) == (self.kernel is None):
            raise ValueError("give either output (adaptive) or kernel (fixed)")
        if self.output is not None and self.stride is not None:
            raise ValueError("stride goes with kernel, not with output")
        return self

    def map_after(self, size: int) -> int:
        if self.kernel is None:
            return self.output or 1
        return (size - self.kernel) // (self.stride or self.kernel) + 1


class Head(Document):
    """Flatten, dropout, hidden linear layers each with the activation, the classifier.

    `softmax` ends the network in a softmax: it exists to rebuild a published mistake, and trains badly.
    """

    hidden: tuple[Width, ...] = Field((), max_length=16, strict=False)
    dropout: Probability = 0.0
    bias: bool = True
    softmax: bool = False


class Architecture(Document):
    """One network, from the size of its input to the number of its classes."""

    format: Literal["parsimony.architecture/1"] = "parsimony.architecture/1"
    channels: int = Field(3, ge=1, le=1_024)
    image_size: int = Field(32, ge=1, le=1_024)
    classes: int = Field(10, ge=2, le=100_000)
    activation: Activation = "relu"
    stem: Stem
    stages: tuple[Stage, ...] = Field(min_length=1, max_length=MOST_STAGES, strict=False)
    block: Block = Block()
    tail: tuple[TailConvolution, ...] = Field((), max_length=16, strict=False)
    pool: Pool = Pool(output=1)
    head: Head = Head()

    @model_validator(mode="after")
    def _maps_are_large_enough(self) -> Self:
        stem = self.stem
        after_stem = map_after(self.image_size, stem.stride)
        if stem.max_pool and stem.max_pool.map_after(after_stem) < 1:
            raise ValueError(f"stem.max_pool: kernel {stem.max_pool.kernel} on a map of {after_stem}")
        last = self.maps[-1]
        window = self.pool.kernel or self.pool.output or 1
        if window > last:
            raise ValueError(f"pool: {window} is larger than the last feature map, {last}x{last}")
        return self

    @property
    def maps(self) -> tuple[int, ...]:
        """Side of the square feature maps in pixels: after the stem, each stage and the tail."""
        size = map_after(self.image_size, self.stem.stride)
        if self.stem.max_pool:
            size = self.stem.max_pool.map_after(size)
        sizes = [size]
        for stride in (*(stage.stride for stage in self.stages), *(conv.stride for conv in self.tail)):
            sizes.append(map_after(sizes[-1], stride))
        return tuple(sizes)

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of the network that would be built; fields at their defaults are left
        out, so that a field added to the format later changes no old fingerprint."""
        text = json.dumps(canonical(self).model_dump(exclude_defaults=True), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def document(self) -> dict[str, Any]:
        """The whole document as JSON values."""
        return self.model_dump(mode="json")

    @classmethod
    def parse(cls, document: object, source: str = "architecture") -> Self:
        """Raises ArchitectureError with the path of the first bad field."""
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            raise ArchitectureError(f"{source}: {first_problem(error, cls)}") from None


def map_after(size: int, stride: int) -> int:
    """Side of a map after a convolution of odd kernel k with padding k//2: ceil(size / stride)."""
    return (size - 1) // stride + 1


def canonical(architecture: Architecture) -> Architecture:
    """The same network with every choice that makes no difference set to one value.

    A stage of linear growth becomes stages of one width each. Kinds of blocks are not turned into each other,
    though degenerate ones can build alike: a pre-activated bottleneck of more groups than it has channels
    outside can be the depthwise convolution of an inverted block.
    """
    block, maps = _canonical_residual(architecture), architecture.maps
    width, stages = architecture.stem.width, list[Stage]()
    pairs, reshaped = (
        list[tuple[int, int]](),
        False,
    )  # inputs and width of every block that is unlike the last
    for stage, size in _of_one_width(architecture):
        stage = _canonical_stage(stage, size, width, block)
        reshapes = stage.stride != 1 or stage.width != width
        reshaped = reshaped or reshapes
        pairs += [(width, stage.width), (stage.width, stage.width)][: stage.blocks]
        if stages and not reshapes and stages[-1].kernel == stage.kernel:
            more = stages[-1].blocks + stage.blocks
            stages[-1] = stages[-1].model_copy(update={"blocks": more})
        else:
            stages.append(stage)
        width = stage.width
    parts = {
        "stem": _canonical_stem(architecture.stem, architecture.image_size),
        "stages": tuple(stages),
        "block": _canonical_block(block, pairs, reshaped),
        "tail": tuple(
            _with_stride(conv, min(conv.stride, size))
            for conv, size in zip(architecture.tail, maps[len(architecture.stages) :], strict=False)
        ),
        "pool": _canonical_pool(architecture.pool, maps[-1]),
    }
    return architecture.model_copy(update=parts)


def _of_one_width(architecture: Architecture) -> Iterator[tuple[Stage, int]]:
    """Stages whose blocks all put out the same width, each with the side of the map before it."""
    width = architecture.stem.width
    for stage, size in zip(architecture.stages, architecture.maps, strict=False):
        if stage.growth == "step":
            yield stage, size
        else:
            for i, wider in enumerate(stage.widths(width)):
                update = {
                    "blocks": 1,
                    "width": wider,
                    "growth": "step",
                    "stride": stage.stride if i == 0 else 1,
                }
                yield stage.model_copy(update=update), size if i == 0 else map_after(size, stage.stride)
        width = stage.width


def _canonical_residual(architecture: Architecture) -> Block:
    """A network whose every block changes the shape, with shortcuts only where it stays, has none."""
    block, width = architecture.block, architecture.stem.width
    if not block.residual or block.shortcut != "identity":
        return block
    for stage, _ in _of_one_width(architecture):
        if stage.blocks > 1 or (stage.stride == 1 and stage.width == width):
            return block
        width = stage.width
    return block.model_copy(update={"residual": False})


Strided = TypeVar("Strided", Stem, Stage, TailConvolution, MaxPool)


def _with_stride(part: Strided, stride: int) -> Strided:
    return part if part.stride == stride else part.model_copy(update={"stride": stride})


def _canonical_stage(stage: Stage, size: int, width: int, block: Block) -> Stage:
    """A stride as long as the map leaves one position, however long; but any stride above 1 asks for a
    projection, or takes the identity away, where the width alone does not. The mean of one pixel does not."""
    strict = block.residual and block.shortcut != "padding"
    least = 2 if strict and stage.width == width and stage.stride > 1 else 1
    stage = _with_stride(stage, max(least, min(stage.stride, size)))
    if block.shortcut_of(width, stage.width, stage.stride) == "projection":
        return stage
    return stage.model_copy(update={"shortcut_kernel": 1})


def _canonical_block(block: Block, pairs: Sequence[tuple[int, int]], reshapes: bool) -> Block:
    """`pairs`: inputs and width of the blocks; `reshapes`: whether one changes the map or the width."""
    update = dict[str, Any]()
    if block.squeeze_excitation:
        gated = {block.gated(inputs, width) for inputs, width in pairs}
        update["squeeze_excitation"] = _canonical_gate(block.squeeze_excitation, gated)
    if not (block.residual and reshapes):
        update["shortcut"] = "projection"
    if block.kind != "basic":
        update["expansion"] = _canonical_expansion(block, pairs)
    return block.model_copy(update=update) if update else block


def _canonical_expansion(block: Block, pairs: Sequence[tuple[int, int]]) -> int | None:
    """The smallest that leaves the same inner widths; None for the one that is meant where none is said."""

    def inner(expansion: int) -> list[int]:
        changed = block.model_copy(update={"expansion": expansion})
        return [changed.inner(inputs, width) for inputs, width in pairs]

    said = block.expansion or EXPANSION[block.kind]
    smallest = next(expansion for expansion in range(2, said + 1) if inner(expansion) == inner(said))
    return None if smallest == EXPANSION[block.kind] else smallest


def _canonical_stem(stem: Stem, size: int) -> Stem:
    after, pool, gate = map_after(size, stem.stride), stem.max_pool, stem.squeeze_excitation
    stem = _with_stride(stem, min(stem.stride, size))
    if pool and (after == pool.map_after(after) == 1 or (pool.kernel == 1 and pool.stride == 1)):
        stem = stem.model_copy(update={"max_pool": None})
    elif pool:
        positions = after + 2 * pool.padding - pool.kernel + 1
        stem = stem.model_copy(update={"max_pool": _with_stride(pool, min(pool.stride, positions))})
    if gate:
        stem = stem.model_copy(update={"squeeze_excitation": _canonical_gate(gate, {stem.width})})
    return stem


def _canonical_gate(gate: SqueezeExcitation, widths: set[int]) -> SqueezeExcitation:
    """The smallest reduction that leaves as many hidden channels at each of the widths."""
    return SqueezeExcitation(reduction=max(width // (gate.hidden(width) + 1) + 1 for width in widths))


def _canonical_pool(pool: Pool, size: int) -> Pool:
    outputs, kernel = pool.map_after(size), pool.kernel
    if kernel:
        stride = min(pool.stride or kernel, size - kernel + 1)
        fixed = [(i * stride, i * stride + kernel) for i in range(outputs)]
        adaptive = [(i * size // outputs, -(-(i + 1) * size // outputs)) for i in range(outputs)]
        same = {"output": outputs} if fixed == adaptive else {"kernel": kernel, "stride": stride}
        pool = Pool(kind="avg" if kernel == 1 else pool.kind, **same)
    return Pool(output=size) if pool.output == size else pool


def load(path: Path) -> Architecture:
    """Reads an architecture file, or the architecture inside an exported artifact.

    Raises ArchitectureError: not there, not JSON, or not an architecture.
    """
    document = read(path, "JSON", ArchitectureError)
    if isinstance(document, dict) and "stages" not in document and "architecture" in document:
        document = document["architecture"]
    return Architecture.parse(document, str(path))
