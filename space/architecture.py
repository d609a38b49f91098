"""The architecture document: a residual network as plain data, JSON in and out.

A document says everything that is built and nothing about how it is trained. Two documents that build
the same network have the same `fingerprint`. The vocabulary is that of He et al. (arXiv 1512.03385):
stem, stages of blocks, shortcuts, head; `preactivation` orders a block as arXiv 1603.05027 does, and
squeeze-and-excitation is that of arXiv 1709.01507. What a network costs is `space/cost.py`'s business.
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, ValidationError, model_validator

from space.document import Document as Document, first_problem as first_problem, read
from space.errors import ArchitectureError

MOST_BLOCKS, MOST_STAGES = 1_000, 16
Activation = Literal["relu", "leaky_relu", "gelu", "silu", "tanh"]


def _odd(kernel: int) -> int:
    if kernel % 2 == 0:
        raise ValueError(f"kernel {kernel} is even; an odd one keeps the map's size with padding kernel//2")
    return kernel


Kernel = Annotated[int, Field(ge=1, le=63), AfterValidator(_odd)]
Width = Annotated[int, Field(ge=1, le=65_536)]
Stride = Annotated[int, Field(ge=1, le=8)]
Probability = Annotated[float, Field(ge=0, lt=1)]


class SqueezeExcitation(Document):
    """Channel gate: pool, 1x1 convolution to `width // reduction` (at least 1), back, both biased."""

    reduction: int = Field(16, ge=1, le=65_536)

    def hidden(self, width: int) -> int:
        return max(1, width // self.reduction)


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


class Stage(Document):
    """`blocks` residual blocks of one width; the first has the stride and, if the shape changes, a
    shortcut of a `shortcut_kernel` convolution and BatchNorm. All other shortcuts are identities."""

    blocks: int = Field(ge=1, le=MOST_BLOCKS)
    width: Width
    kernel: Kernel = 3
    stride: Stride = 1
    shortcut_kernel: Kernel = 1


class Block(Document):
    """What all blocks have in common. `dropout` is elementwise, after the first BatchNorm."""

    convolutions: int = Field(2, ge=1, le=8)
    preactivation: bool = False
    residual: bool = True
    bias: bool = False
    dropout: Probability = 0.0
    squeeze_excitation: SqueezeExcitation | None = None


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
            raise ArchitectureError(f"{source}: {first_problem(error)}") from None


def map_after(size: int, stride: int) -> int:
    """Side of a map after a convolution of odd kernel k with padding k//2: ceil(size / stride)."""
    return (size - 1) // stride + 1


def canonical(architecture: Architecture) -> Architecture:
    """The same network with every choice that makes no difference set to one value."""
    block, maps = architecture.block, architecture.maps
    width, stages = architecture.stem.width, list[Stage]()
    for stage, size in zip(architecture.stages, maps, strict=False):
        stage = _canonical_stage(stage, size, width, block.residual)
        reshapes = stage.stride != 1 or stage.width != width
        if stages and not reshapes and stages[-1].kernel == stage.kernel:
            more = stages[-1].blocks + stage.blocks
            stages[-1] = stages[-1].model_copy(update={"blocks": more})
        else:
            stages.append(stage)
        width = stage.width
    gate = block.squeeze_excitation
    if gate:
        gate = _canonical_gate(gate, {stage.width for stage in stages})
        block = block.model_copy(update={"squeeze_excitation": gate})
    parts = {
        "stem": _canonical_stem(architecture.stem, architecture.image_size),
        "stages": tuple(stages),
        "block": block,
        "tail": tuple(
            _with_stride(conv, min(conv.stride, size))
            for conv, size in zip(architecture.tail, maps[len(architecture.stages) :], strict=False)
        ),
        "pool": _canonical_pool(architecture.pool, maps[-1]),
    }
    return architecture.model_copy(update=parts)


Strided = TypeVar("Strided", Stem, Stage, TailConvolution, MaxPool)


def _with_stride(part: Strided, stride: int) -> Strided:
    return part if part.stride == stride else part.model_copy(update={"stride": stride})


def _canonical_stage(stage: Stage, size: int, width: int, residual: bool) -> Stage:
    """A stride as long as the map leaves one position, however long; but any stride above 1 asks for a
    projection where the width alone does not."""
    least = 2 if residual and stage.width == width and stage.stride > 1 else 1
    stage = _with_stride(stage, max(least, min(stage.stride, size)))
    if residual and (stage.stride != 1 or stage.width != width):
        return stage
    return stage.model_copy(update={"shortcut_kernel": 1})


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
