"""The repeated part of the architecture document: `Stage`, `Block`, and the convolutions that they mean.

Reads and writes nothing. Called by `space/architecture.py` (the document and its canonical form),
`space/cost.py` (what a block costs) and `trainer/model.py` (the block as a torch module). They take widths,
kernels, strides, groups and the kind of shortcut from here, so that what is counted is what is built.

`inputs` are the channels that a block gets, `width` those that it puts out, `inner` those between. A map of
side m has side ceil(m / s) after the convolution that has the stride s: the k x k one, in a basic block the
first. After the last stage maps are activated, whatever the kind. Shapes are (N, channels, side, side):

basic (He et al., arXiv 1512.03385), k x k `convolutions` times, here twice
    x               (N, inputs, m, m)
    conv1 k x k     (N, width, m/s, m/s)    norm1, dropout, activation
    conv2 k x k     (N, width, m/s, m/s)    norm2, gate, + shortcut, activation
bottleneck (the same paper; groups are those of Xie et al., arXiv 1611.05431; torchvision has the same stride)
    x               (N, inputs, m, m)
    conv1 1 x 1     (N, inner, m, m)        norm1, dropout, activation
    conv2 k x k     (N, inner, m/s, m/s)    in groups; norm2, activation
    conv3 1 x 1     (N, width, m/s, m/s)    norm3, gate, + shortcut, activation
inverted (Sandler et al., arXiv 1801.04381; the gate stands where Howard et al., arXiv 1905.02244, have it)
    x               (N, inputs, m, m)
    conv1 1 x 1     (N, inner, m, m)        norm1, dropout, activation
    conv2 k x k     (N, inner, m/s, m/s)    depthwise; norm2, activation, gate
    conv3 1 x 1     (N, width, m/s, m/s)    norm3, + shortcut; no activation

With `preactivation` (He et al., arXiv 1603.05027) each norm, with what follows it in its line up to the
activation, stands before the convolution of its number instead, on that one's input: norm1, dropout,
activation, conv1, norm2, activation, conv2, gate, + shortcut. In an inverted block the gate still stands
between the last activation and conv3. Nothing follows the sum; the network has a last norm and activation.

Dropout is elementwise. The gate is squeeze-and-excitation (Hu et al., arXiv 1709.01507).
"""

from typing import Annotated, Literal, NamedTuple, Self

from pydantic import AfterValidator, Field, model_validator

from space.document import Document

MOST_BLOCKS = 1_000
LEAST_EXPANSION, MOST_EXPANSION = 2, 16
THREE = 3  # convolutions of a bottleneck and of an inverted block
EXPANSION = {"basic": 1, "bottleneck": 4, "inverted": 6}  # of the two papers, where a document says none
BlockKind = Literal["basic", "bottleneck", "inverted"]
ShortcutKind = Literal["projection", "padding", "identity"]
Growth = Literal["step", "linear"]
SHORTCUTS: dict[ShortcutKind, str] = {  # in words
    "projection": "projected shortcuts",
    "padding": "padded shortcuts",
    "identity": "identity shortcuts alone",
}


def _odd(kernel: int) -> int:
    if kernel % 2 == 0:
        raise ValueError(f"kernel {kernel} is even; an odd one keeps the map's size with padding kernel//2")
    return kernel


Kernel = Annotated[int, Field(ge=1, le=63), AfterValidator(_odd)]
Width = Annotated[int, Field(ge=1, le=65_536)]
Stride = Annotated[int, Field(ge=1, le=8)]
Probability = Annotated[float, Field(ge=0, lt=1)]
Expansion = Annotated[int, Field(ge=LEAST_EXPANSION, le=MOST_EXPANSION)]
Groups = Annotated[int, Field(ge=1, le=1_024)]


class SqueezeExcitation(Document):
    """Channel gate: pool, 1x1 convolution to `width // reduction` (at least 1), back, both biased."""

    reduction: int = Field(16, ge=1, le=65_536)

    def hidden(self, width: int) -> int:
        """Channels between the two convolutions of a gate on `width` channels."""
        return max(1, width // self.reduction)


class Stage(Document):
    """`blocks` residual blocks; the first has the stride, all others keep the map.

    `growth` step: the first block goes from the width before the stage to `width`, the others keep it.
    `growth` linear: every block adds as many channels, rounded, and the last one has `width`; a stage may
    narrow as well. A network of such stages alone is the pyramid of Han et al., arXiv 1610.02915.

    A block that changes the map or the width has a shortcut of the kind that `Block.shortcut` says, with
    `shortcut_kernel` where it is a projection. All other shortcuts are identities.
    """

    blocks: int = Field(ge=1, le=MOST_BLOCKS)
    width: Width
    kernel: Kernel = 3
    stride: Stride = 1
    shortcut_kernel: Kernel = 1
    growth: Growth = "step"

    def __str__(self) -> str:
        """Blocks, width and kernel, for tables: 3x64/k3, or 3x..64/k3 where every block grows."""
        return f"{self.blocks}x{'..' if self.growth == 'linear' else ''}{self.width}/k{self.kernel}"

    def widths(self, before: int) -> tuple[int, ...]:
        """Channels that each block puts out, after `before` channels; a half goes up."""
        if self.growth == "step":
            return (self.width,) * self.blocks
        more, n = self.width - before, self.blocks
        return tuple(before + (2 * more * i + n) // (2 * n) for i in range(1, n + 1))


class BranchConvolution(NamedTuple):
    """One convolution of a block's main branch, with padding kernel//2."""

    inputs: int
    outputs: int
    kernel: int
    stride: int = 1
    groups: int = 1


class Block(Document):
    """What all blocks have in common; the order of their layers stands at the top of this module.

    `convolutions` is for kind basic; the others have three. `expansion` is for the others: how many times
    wider the outside of a bottleneck is than its inside (None: 4), or the inside of an inverted block than
    its input (None: 6). `groups` is for the k x k convolution of a bottleneck; in a block of two convolutions
    groups are no topology of their own (Xie et al., section 3.3).

    `shortcut` is what a block has that changes the map or the width (all others add their input as it is):

    - projection: a convolution of `Stage.shortcut_kernel` with the block's stride, and a BatchNorm; before a
      pre-activated block without one, on the activated input.
    - padding: no parameters. Means of stride x stride pixels, with channels of zeros added at the end, or cut
      off there where the block narrows; He et al.'s option A, with the pooling of Han et al. This is what
      linear growth is meant to have: with projections no path through such a stage is free of weights.
    - identity: nothing is added, as in MobileNetV2.

    Without `residual` nothing is added in any block.
    """

    kind: BlockKind = "basic"
    convolutions: int = Field(2, ge=1, le=8)
    expansion: Expansion | None = None
    groups: Groups = 1
    preactivation: bool = False
    residual: bool = True
    shortcut: ShortcutKind = "projection"
    bias: bool = False
    dropout: Probability = 0.0
    squeeze_excitation: SqueezeExcitation | None = None

    @model_validator(mode="after")
    def _fields_go_with_the_kind(self) -> Self:
        if self.kind == "basic" and self.expansion is not None:
            raise ValueError(f"expansion {self.expansion} goes with kind bottleneck or inverted, not basic")
        if self.kind != "bottleneck" and self.groups != 1:
            raise ValueError(f"groups {self.groups} goes with kind bottleneck, not {self.kind}")
        if self.kind != "basic" and self.convolutions != 2:
            raise ValueError(f"convolutions {self.convolutions} goes with kind basic; {self.kind} has three")
        return self

    @property
    def depth(self) -> int:
        """Convolutions of the main branch."""
        return self.convolutions if self.kind == "basic" else THREE

    @property
    def linear(self) -> bool:
        """Whether the last activation of a block is left out, and stands after the last stage instead."""
        return self.preactivation or self.kind == "inverted"

    def __str__(self) -> str:
        """The kind, for tables: nothing for basic, "bottleneck/2 in 32 groups", "inverted x6"."""
        times = self.expansion or EXPANSION[self.kind]
        groups = f" in {self.groups} groups" if self.groups > 1 else ""
        return {"basic": "", "bottleneck": f"bottleneck/{times}{groups}", "inverted": f"inverted x{times}"}[
            self.kind
        ]

    def inner(self, inputs: int, width: int) -> int:
        """Channels between the convolutions of a block.

        Of a bottleneck `width / expansion`, rounded to the nearest multiple of `groups` (a half goes up), at
        least `groups`: so groups divide it at any width, and a wider block is never narrower inside.
        """
        if self.kind == "basic":
            return width
        times = self.expansion or EXPANSION[self.kind]
        if self.kind == "inverted":
            return times * inputs
        return max(1, (2 * width + times * self.groups) // (2 * times * self.groups)) * self.groups

    def gated(self, inputs: int, width: int) -> int:
        """Channels that the squeeze-and-excitation gate scales."""
        return self.inner(inputs, width) if self.kind == "inverted" else width

    def branch(self, inputs: int, width: int, kernel: int, stride: int) -> tuple[BranchConvolution, ...]:
        """The convolutions of the main branch, in order."""
        if self.kind == "basic":
            more = (BranchConvolution(width, width, kernel),) * (self.convolutions - 1)
            return (BranchConvolution(inputs, width, kernel, stride), *more)
        inner = self.inner(inputs, width)
        groups = inner if self.kind == "inverted" else self.groups
        return (
            BranchConvolution(inputs, inner, 1),
            BranchConvolution(inner, inner, kernel, stride, groups),
            BranchConvolution(inner, width, 1),
        )

    def shortcut_of(self, inputs: int, width: int, stride: int) -> ShortcutKind | None:
        """What is added to the main branch of one block; None where nothing is."""
        if not self.residual:
            return None
        if stride == 1 and inputs == width:
            return "identity"
        return None if self.shortcut == "identity" else self.shortcut
