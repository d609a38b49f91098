"""An architecture as a torch module: the layers of space/cost.py, by the same names in the same order.

Reads an architecture document, writes nothing. Called by `trainer/initialisation.py` (networks to train),
`trainer/weights.py` (trained ones) and `search verify`. Knows nothing of training, data or budgets.

Tensors are float32, or bfloat16 under autocast, as each `forward` says; maps have the shape (N, channels,
side, side). Which layers a block has, in which order and from which papers, stands in `space/blocks.py`.
"""

import math
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from space import architecture as document

ACTIVATIONS: dict[document.Activation, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


def build(architecture: document.Architecture) -> "Network":
    """The network with fresh weights, drawn from torch's global generator; it returns scores (N, classes).

    Convolutions as in He et al., arXiv 1502.01852, by what a pixel goes out to: in a grouped convolution the
    channels of its group alone, as in Tan and Le's code (arXiv 1905.11946), and not all, as torch counts.
    """
    network = Network(architecture)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            if module.groups > 1:
                fan_out = module.out_channels // module.groups * math.prod(module.kernel_size)
                nn.init.normal_(module.weight, 0, math.sqrt(2 / fan_out))
            else:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in network.modules():
        if isinstance(module, Block):
            module.start_as_identity()
    return network


def count(module: nn.Module) -> int:
    """Trainable parameters."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


class Convolution(nn.Conv2d):
    """A convolution (N, C, H, W) -> (N, K, H', W'), spared two faults of oneDNN on a CPU; no result changes.

    Strides never go further than the map is wide: there is one place to look at. Where they do, the gradient
    of a bfloat16 kernel stays partly unwritten (torch 2.15). And a strided 1x1 kernel over fewer than 8
    channels looks at the positions that it sees alone: else its gradient is wrong, or memory behind it is
    overwritten, on processors with AVX2 and without AVX-512 (uxlfoundation/oneDNN#6035).
    """

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, K, H', W'), float32 or bfloat16."""
        stride = min(self.stride[0], x.shape[2])
        few = self.in_channels // self.groups < 8
        if stride > 1 and self.kernel_size[0] == 1 and few and x.device.type == "cpu":
            x, stride = x[:, :, ::stride, ::stride], 1
        return functional.conv2d(x, self.weight, self.bias, stride, self.padding, groups=self.groups)


def _convolution(
    inputs: int, outputs: int, kernel: int, stride: int = 1, bias: bool = False, groups: int = 1
) -> nn.Conv2d:
    return Convolution(inputs, outputs, kernel, stride, kernel // 2, bias=bias, groups=groups)


def _activation(name: document.Activation) -> nn.Module:
    # In place where the backward pass needs only the result: one map less to keep and to write.
    return ACTIVATIONS[name](inplace=True) if name in ("relu", "leaky_relu") else ACTIVATIONS[name]()


class Squeeze(nn.Module):
    """Squeeze-and-excitation: (N, C, H, W) scaled by a gate for each channel."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(width, hidden, 1)
        self.expand = nn.Conv2d(hidden, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W), float32 or bfloat16, to the same."""
        gate: Tensor = self.expand(self.reduce(x.mean((2, 3), keepdim=True)).relu())
        return x * gate.sigmoid()


class Stem(nn.Module):
    """Convolution, norm, activation, then gate and pool if there are any: (N, C, S, S) to the first maps."""

    def __init__(self, whole: document.Architecture) -> None:
        super().__init__()
        stem, pool, squeeze = whole.stem, whole.stem.max_pool, whole.stem.squeeze_excitation
        self.conv = _convolution(whole.channels, stem.width, stem.kernel, stem.stride, stem.bias)
        self.norm = nn.BatchNorm2d(stem.width)
        self.activation = _activation(whole.activation)
        self.squeeze = Squeeze(stem.width, squeeze.hidden(stem.width)) if squeeze else nn.Identity()
        self.pool = nn.MaxPool2d(pool.kernel, pool.stride, pool.padding) if pool else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, S, S) to the first maps (N, width, T, T), float32 or bfloat16."""
        x = self.activation(self.norm(self.conv(x)))
        y: Tensor = self.pool(self.squeeze(x))
        return y


class Projection(nn.Module):
    """The shortcut of a block that changes the shape; a pre-activated one has no norm."""

    def __init__(self, inputs: int, width: int, kernel: int, stride: int, normalised: bool) -> None:
        super().__init__()
        self.conv = _convolution(inputs, width, kernel, stride)
        self.norm = nn.BatchNorm2d(width) if normalised else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, S, S) to (N, width, ceil(S / stride), the same), float32 or bfloat16."""
        y: Tensor = self.norm(self.conv(x))
        return y


class Padding(nn.Module):
    """A shortcut without parameters: means of stride x stride pixels, then zeros added or channels cut."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        # Windows over the edge hold only the pixels that are there: the side becomes ceil(side / stride).
        self.pool = nn.AvgPool2d(stride, stride, ceil_mode=True) if stride > 1 else nn.Identity()
        self.more = width - inputs  # below 0: so many channels less

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, S, S) to (N, width, ceil(S / stride), the same), float32 or bfloat16."""
        return functional.pad(self.pool(x), (0, 0, 0, 0, 0, self.more))


class DropPath(nn.Module):
    """While training, all of an image's maps are zero with probability `share`, else divided by what is kept.

    torchvision.ops.StochasticDepth does so too; to load it loads torch's compiler, seconds in each process.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W), float32 or bfloat16, to the same."""
        return x * functional.dropout(x.new_ones(len(x), 1, 1, 1), self.share, self.training)


class Block(nn.Module):
    """One residual block of any kind: convolutions with their norms, and the shortcut around them."""

    def __init__(
        self, whole: document.Architecture, stage: document.Stage, inputs: int, width: int, stride: int
    ) -> None:
        super().__init__()
        common = whole.block
        self.preactivation, self.linear, self.depth = common.preactivation, common.linear, common.depth
        self.gate_inside = common.kind == "inverted"
        for i, conv in enumerate(common.branch(inputs, width, stage.kernel, stride), start=1):
            if self.preactivation:
                self.add_module(f"norm{i}", nn.BatchNorm2d(conv.inputs))
            if self.gate_inside and i == self.depth:
                self.squeeze = _squeeze(common, conv.inputs)
            self.add_module(f"conv{i}", _convolution(*conv[:4], common.bias, conv.groups))
            if not self.preactivation:
                self.add_module(f"norm{i}", nn.BatchNorm2d(conv.outputs))
        self.activation = _activation(whole.activation)
        self.dropout = nn.Dropout(common.dropout) if common.dropout else nn.Identity()
        if not self.gate_inside:
            self.squeeze = _squeeze(common, width)
        kind = common.shortcut_of(inputs, width, stride)
        self.residual = kind is not None
        self.drop_path: nn.Module = nn.Identity()  # a recipe's, set by trainer/initialisation.py
        self.shortcut = _shortcut(kind, stage, inputs, width, stride, not common.preactivation)

    def start_as_identity(self) -> None:
        """Let the last norm of a residual branch start at zero (Goyal et al., arXiv 1706.02677)."""
        if self.residual and not self.preactivation:
            last = self.get_submodule(f"norm{self.depth}")
            nn.init.zeros_(last.get_parameter("weight"))

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, S, S) to (N, width, ceil(S / stride), the same), float32 or bfloat16."""
        return self._preactivated(x) if self.preactivation else self._postactivated(x)

    def _postactivated(self, x: Tensor) -> Tensor:
        """As forward(): maps (N, inputs, S, S) to (N, width, T, T), float32 or bfloat16."""
        y = x
        for i in range(1, self.depth + 1):
            y = self.squeeze(y) if self.gate_inside and i == self.depth else y
            y = getattr(self, f"norm{i}")(getattr(self, f"conv{i}")(y))
            y = self.dropout(y) if i == 1 else y
            y = self.activation(y) if i < self.depth else y
        y = y if self.gate_inside else self.squeeze(y)
        if self.residual:
            y = self.drop_path(y) + (self.shortcut(x) if self.shortcut else x)
        z: Tensor = y if self.linear else self.activation(y)
        return z

    def _preactivated(self, x: Tensor) -> Tensor:
        """As forward(): maps (N, inputs, S, S) to (N, width, T, T), float32 or bfloat16."""
        y, shortcut = x, x
        if isinstance(self.shortcut, Padding):
            shortcut = self.shortcut(x)
        for i in range(1, self.depth + 1):
            y = getattr(self, f"norm{i}")(y)
            y = self.activation(self.dropout(y) if i == 1 else y)
            if i == 1 and isinstance(self.shortcut, Projection):
                shortcut = self.shortcut(y)
            y = self.squeeze(y) if self.gate_inside and i == self.depth else y
            y = getattr(self, f"conv{i}")(y)
        y = y if self.gate_inside else self.squeeze(y)
        z: Tensor = self.drop_path(y) + shortcut if self.residual else y
        return z


def _squeeze(common: document.Block, width: int) -> nn.Module:
    gate = common.squeeze_excitation
    return Squeeze(width, gate.hidden(width)) if gate else nn.Identity()


def _shortcut(
    kind: document.ShortcutKind | None,
    stage: document.Stage,
    inputs: int,
    width: int,
    stride: int,
    normalised: bool,
) -> nn.Module | None:
    """None for an identity, which needs no module, and where there is no shortcut."""
    if kind == "projection":
        return Projection(inputs, width, stage.shortcut_kernel, stride, normalised)
    return Padding(inputs, width, stride) if kind == "padding" else None


class Stage(nn.Sequential):
    """Blocks on one map; the first one has the stride."""

    def __init__(self, whole: document.Architecture, stage: document.Stage, inputs: int) -> None:
        widths = (inputs, *stage.widths(inputs))
        strides = (stage.stride, *(1,) * (stage.blocks - 1))
        super().__init__(
            *(
                Block(whole, stage, before, width, stride)
                for (before, width), stride in zip(pairwise(widths), strides, strict=True)
            )
        )


class TailConvolution(nn.Module):
    """A plain convolution and norm: (N, inputs, S, S) to (N, width, ceil(S / stride), the same)."""

    def __init__(self, tail: document.TailConvolution, inputs: int) -> None:
        super().__init__()
        self.conv = _convolution(inputs, tail.width, tail.kernel, tail.stride, tail.bias)
        self.norm = nn.BatchNorm2d(tail.width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, S, S) to (N, width, ceil(S / stride), the same), float32 or bfloat16."""
        y: Tensor = self.norm(self.conv(x))
        return y


class Head(nn.Module):
    """Flattened maps (N, C, P, P) to scores (N, classes); dropout stands before the first linear layer."""

    def __init__(self, whole: document.Architecture, inputs: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(whole.head.dropout) if whole.head.dropout else nn.Identity()
        widths = (inputs, *whole.head.hidden)
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.activation = _activation(whole.activation)
        self.classifier = nn.Linear(widths[-1], whole.classes, whole.head.bias)
        self.softmax = nn.Softmax(1) if whole.head.softmax else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, P, P) to scores (N, classes), float32 or bfloat16."""
        x = self.dropout(x.flatten(1))
        for layer in self.hidden:
            x = self.activation(layer(x))
        y: Tensor = self.softmax(self.classifier(x))
        return y


class Network(nn.Module):
    """Stem, stages, tail, pool, head: images (N, C, S, S) to class scores (N, classes)."""

    def __init__(self, whole: document.Architecture) -> None:
        super().__init__()
        self.stem = Stem(whole)
        widths = (whole.stem.width, *(stage.width for stage in whole.stages))
        pairs = zip(whole.stages, widths, strict=False)
        self.stages = nn.ModuleList(Stage(whole, stage, inputs) for stage, inputs in pairs)
        self.norm = nn.BatchNorm2d(widths[-1]) if whole.block.preactivation else nn.Identity()
        self.last_activation = _activation(whole.activation) if whole.block.linear else nn.Identity()
        widths = (widths[-1], *(tail.width for tail in whole.tail))
        self.tail = nn.ModuleList(map(TailConvolution, whole.tail, widths))
        self.activation = _activation(whole.activation)
        self.pool = _pool(whole.pool)
        self.head = Head(whole, widths[-1] * whole.pool.map_after(whole.maps[-1]) ** 2)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images (N, C, S, S) to scores (N, classes), float32 or bfloat16.

        No shares unless the head says so.
        """
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        x = self.last_activation(self.norm(x))
        for i, tail in enumerate(self.tail):
            x = tail(self.activation(x) if i else x)
        y: Tensor = self.head(self.pool(x))
        return y


def _pool(pool: document.Pool) -> nn.Module:
    if pool.kernel is None:
        return (nn.AdaptiveAvgPool2d if pool.kind == "avg" else nn.AdaptiveMaxPool2d)(pool.output or 1)
    return (nn.AvgPool2d if pool.kind == "avg" else nn.MaxPool2d)(pool.kernel, pool.stride)
