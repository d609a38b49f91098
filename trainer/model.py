"""An architecture as a torch module: the layers of space/cost.py, by the same names in the same order.

Knows nothing of training, data or budgets. Sources: He et al., arXiv 1512.03385 (blocks) and
1603.05027 (pre-activation; projections see the activated input), Hu et al., arXiv 1709.01507 (gates).
"""

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
    """The network with fresh weights, drawn from torch's global generator; it returns scores (N, classes)."""
    network = Network(architecture)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
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

    Strides never go further than the map is wide: there is one place to look at. Where they do, the gradient of
    a bfloat16 kernel stays partly unwritten (torch 2.15). And a strided 1x1 kernel over fewer than 8 channels
    looks at the positions that it sees alone: else its gradient is wrong, or memory behind it is overwritten, on
    processors with AVX2 and without AVX-512 (oneDNN#6035).
    """

    def forward(self, x: Tensor) -> Tensor:
        stride = min(self.stride[0], x.shape[2])
        if stride > 1 and self.kernel_size[0] == 1 and self.in_channels < 8 and x.device.type == "cpu":
            x, stride = x[:, :, ::stride, ::stride], 1
        return functional.conv2d(x, self.weight, self.bias, stride, self.padding)


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, bias: bool = False) -> nn.Conv2d:
    return Convolution(inputs, outputs, kernel, stride, kernel // 2, bias=bias)


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
        gate: Tensor = self.expand(self.reduce(x.mean((2, 3), keepdim=True)).relu())
        return x * gate.sigmoid()


class Stem(nn.Module):
    """Convolution, norm, activation, then the gate and the pool if there are any."""

    def __init__(self, whole: document.Architecture) -> None:
        super().__init__()
        stem, pool, squeeze = whole.stem, whole.stem.max_pool, whole.stem.squeeze_excitation
        self.conv = _convolution(whole.channels, stem.width, stem.kernel, stem.stride, stem.bias)
        self.norm = nn.BatchNorm2d(stem.width)
        self.activation = _activation(whole.activation)
        self.squeeze = Squeeze(stem.width, squeeze.hidden(stem.width)) if squeeze else nn.Identity()
        self.pool = nn.MaxPool2d(pool.kernel, pool.stride, pool.padding) if pool else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.norm(self.conv(x)))
        y: Tensor = self.pool(self.squeeze(x))
        return y


class Shortcut(nn.Module):
    """The projection of a block that changes the shape; a pre-activated one has no norm."""

    def __init__(self, inputs: int, stage: document.Stage, stride: int, normalised: bool) -> None:
        super().__init__()
        self.conv = _convolution(inputs, stage.width, stage.shortcut_kernel, stride)
        self.norm = nn.BatchNorm2d(stage.width) if normalised else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.conv(x))
        return y


class Block(nn.Module):
    """Convolutions with their norms, and the shortcut around them."""

    def __init__(self, whole: document.Architecture, stage: document.Stage, inputs: int, stride: int) -> None:
        super().__init__()
        common = whole.block
        self.preactivation, self.residual, self.depth = (
            common.preactivation,
            common.residual,
            common.convolutions,
        )
        channels, step = inputs, stride
        for i in range(1, self.depth + 1):
            norm = nn.BatchNorm2d(channels if self.preactivation else stage.width)
            conv = _convolution(channels, stage.width, stage.kernel, step, common.bias)
            pair = {f"norm{i}": norm, f"conv{i}": conv}
            for name in sorted(pair, reverse=self.preactivation):
                self.add_module(name, pair[name])
            channels, step = stage.width, 1
        self.activation = _activation(whole.activation)
        self.dropout = nn.Dropout(common.dropout) if common.dropout else nn.Identity()
        squeeze = common.squeeze_excitation
        self.squeeze = Squeeze(stage.width, squeeze.hidden(stage.width)) if squeeze else nn.Identity()
        projects = common.residual and (stride != 1 or inputs != stage.width)
        self.shortcut = Shortcut(inputs, stage, stride, not common.preactivation) if projects else None

    def start_as_identity(self) -> None:
        """Let the last norm of a residual branch start at zero (Goyal et al., arXiv 1706.02677)."""
        if self.residual and not self.preactivation:
            last = self.get_submodule(f"norm{self.depth}")
            nn.init.zeros_(last.get_parameter("weight"))

    def forward(self, x: Tensor) -> Tensor:
        return self._preactivated(x) if self.preactivation else self._postactivated(x)

    def _postactivated(self, x: Tensor) -> Tensor:
        y = x
        for i in range(1, self.depth + 1):
            y = getattr(self, f"norm{i}")(getattr(self, f"conv{i}")(y))
            y = self.dropout(y) if i == 1 else y
            y = self.activation(y) if i < self.depth else y
        y = self.squeeze(y)
        if self.residual:
            y = y + (self.shortcut(x) if self.shortcut else x)
        z: Tensor = self.activation(y)
        return z

    def _preactivated(self, x: Tensor) -> Tensor:
        y, shortcut = x, x
        for i in range(1, self.depth + 1):
            y = getattr(self, f"norm{i}")(y)
            y = self.activation(self.dropout(y) if i == 1 else y)
            if i == 1 and self.shortcut:
                shortcut = self.shortcut(y)
            y = getattr(self, f"conv{i}")(y)
        y = self.squeeze(y)
        z: Tensor = y + shortcut if self.residual else y
        return z


class Stage(nn.Sequential):
    """Blocks of one width; the first one changes the shape."""

    def __init__(self, whole: document.Architecture, stage: document.Stage, inputs: int) -> None:
        first = Block(whole, stage, inputs, stage.stride)
        super().__init__(first, *(Block(whole, stage, stage.width, 1) for _ in range(stage.blocks - 1)))


class TailConvolution(nn.Module):
    """A plain convolution and norm."""

    def __init__(self, tail: document.TailConvolution, inputs: int) -> None:
        super().__init__()
        self.conv = _convolution(inputs, tail.width, tail.kernel, tail.stride, tail.bias)
        self.norm = nn.BatchNorm2d(tail.width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.conv(x))
        return y


class Head(nn.Module):
    """Flattened maps to class scores; dropout stands right before the first linear layer."""

    def __init__(self, whole: document.Architecture, inputs: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(whole.head.dropout) if whole.head.dropout else nn.Identity()
        widths = (inputs, *whole.head.hidden)
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.activation = _activation(whole.activation)
        self.classifier = nn.Linear(widths[-1], whole.classes, whole.head.bias)
        self.softmax = nn.Softmax(1) if whole.head.softmax else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
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
        preactivated = whole.block.preactivation
        self.norm = nn.BatchNorm2d(widths[-1]) if preactivated else nn.Identity()
        self.last_activation = _activation(whole.activation) if preactivated else nn.Identity()
        widths = (widths[-1], *(tail.width for tail in whole.tail))
        self.tail = nn.ModuleList(map(TailConvolution, whole.tail, widths))
        self.activation = _activation(whole.activation)
        self.pool = _pool(whole.pool)
        self.head = Head(whole, widths[-1] * whole.pool.map_after(whole.maps[-1]) ** 2)

    def forward(self, x: Tensor) -> Tensor:
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
