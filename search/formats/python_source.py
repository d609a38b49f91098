"""A network as one Python file of plain PyTorch: its layers written out, nothing of this project in it.

Takes the document of search/formats/carried.py, returns text; the same document gives the same text, so that
`search verify` can tell whether somebody changed a file before anything of it is run. Layers have the names
of trainer/model.py, so that the same weights fit. Called by search/formats/write.py and
search/formats/standing_alone.py.
"""

import importlib.resources
import pprint
from collections.abc import Iterator
from itertools import pairwise
from textwrap import indent

from search.formats.carried import Carried
from space.architecture import Architecture, Block, Stage
from trainer.data.images import FITTED

MARKER = "# copied from here on\n"
DOCUMENT = "DOCUMENT = "  # the line that `search verify` reads

ACTIVATIONS = {
    "relu": "nn.ReLU()",
    "leaky_relu": "nn.LeakyReLU()",
    "gelu": "nn.GELU()",
    "silu": "nn.SiLU()",
    "tanh": "nn.Tanh()",
}

SQUEEZE = '''

class Squeeze(nn.Module):
    """Squeeze-and-excitation: (N, C, H, W) scaled by a gate for each channel."""

    def __init__(self, width, hidden):
        super().__init__()
        self.reduce = nn.Conv2d(width, hidden, 1)
        self.expand = nn.Conv2d(hidden, width, 1)

    def forward(self, x):
        gate = self.expand(self.reduce(x.mean((2, 3), keepdim=True)).relu())
        return x * gate.sigmoid()
'''

PROJECTION = '''

class Projection(nn.Module):
    """The shortcut of a block that changes the map or the width: a strided convolution{and_norm}."""

    def __init__(self, inputs, width, kernel, stride):
        super().__init__()
        self.conv = nn.Conv2d(inputs, width, kernel, stride, kernel // 2, bias=False)
{norm}
    def forward(self, x):
        return {call}
'''

PADDING = '''

class Padding(nn.Module):
    """A shortcut without weights: means of stride x stride pixels, then zeros added or channels cut."""

    def __init__(self, inputs, width, stride):
        super().__init__()
        self.stride, self.more = stride, width - inputs

    def forward(self, x):
        x = functional.avg_pool2d(x, self.stride, self.stride, ceil_mode=True) if self.stride > 1 else x
        return functional.pad(x, (0, 0, 0, 0, 0, self.more))
'''

USE = '''

def load(weights=Path(__file__).with_name(WEIGHTS)):
    """The trained network on the CPU, in evaluation mode; it takes bytes (N, CHANNELS, SIDE, SIDE)."""
    network = Network()
    network.load_state_dict(read_weights(weights))
    return network.eval()


def classify(network, path, top=5):
    """The likeliest classes of a picture, each with its probability 0..1."""
    with torch.inference_mode():
        shares = {shares}
    best = shares[0].topk(min(top, len(CLASSES)))
    return [(CLASSES[i], share) for i, share in zip(best.indices.tolist(), best.values.tolist())]
'''

MAIN = """

if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(f"usage: python {sys.argv[0]} PICTURE...")
    trained = load()
    for picture in sys.argv[1:]:
        for name, share in classify(trained, picture, 3):
            print(f"{picture}: {name} {share:.2%}")
"""


def source(document: Carried, weights: str, sha256: str) -> str:
    """The whole file. `weights` is the name of the file of weights beside it, sha256 of the values in it."""
    network = document.export.architecture
    classes = pprint.pformat(document.classes, width=100)
    parts = [
        _opening(document, weights),
        _imports(),
        f"CLASSES = {classes}\n",
        f"CHANNELS, SIDE = {network.channels}, {network.image_size}  # of the images: bytes, pixels a side\n",
        f"MEAN = {_numbers(document.mean)}  # of each channel, in grey levels 0..255\n",
        f"DEVIATION = {_numbers(document.deviation)}\n",
        f'FIT, BITS = "{document.fit}", {document.bits}  # pictures that are not square are'
        f" {FITTED[document.fit]}\n",
        f"WEIGHTS, SHA256 = {weights!r}, (\n    {sha256!r}\n)\n",
        *_modules(network),
        "\n\n",
        _reading(),
        USE.replace("{shares}", _shares(network)),
        MAIN,
        "\n\n# What `search verify` reads.\n",
        f"{DOCUMENT}{document.text!r}\n",
    ]
    return "".join(parts)


def _opening(document: Carried, weights: str) -> str:
    export, stem = document.export, weights.removesuffix(".safetensors")
    network, origin = export.architecture, export.origin
    shape = f"{network.channels}, {network.image_size}, {network.image_size}"
    accuracy = document.training.validation_accuracy
    scored = f", validation accuracy {100 * accuracy:.2f}%" if accuracy is not None else ""
    return f'''"""Tells {network.classes} classes of pictures apart, by {export.parameters:,} parameters.

Plain PyTorch; numpy and Pillow read the pictures. The weights are in {weights}, beside this file.
Trial {origin.trial} of the study {_plain(origin.study)}{scored}: {stem}.py.md says more.

    python {stem}.py cat.png

or, as a module (`import {stem}` where this file lies; 12 lines):

    import torch
    import {stem}

    network = {stem}.load()  # a torch.nn.Module, in evaluation mode
    pixels = {stem}.read("cat.png")  # (1, {shape}), bytes 0..255
    with torch.inference_mode():
        scores = network(pixels)  # (1, {network.classes}); images are normalised inside
    number = scores.argmax(1).item()
    print({stem}.CLASSES[number])

    for name, share in {stem}.classify(network, "cat.png", top=3):
        print(name, share)
"""
'''


def _plain(name: str) -> str:
    """A name inside a docstring: nothing in it ends the text or escapes."""
    return name.replace("\\", "/").replace('"', "'")


def _imports() -> str:
    """Those of the part that is copied, and those of the network."""
    text = importlib.resources.files("search.formats").joinpath("standalone.py").read_text("utf-8")
    head = text.partition('"""\n\n')[2].partition("\nCHANNELS")[0]
    head = head.replace("import struct\n", "import struct\nimport sys\n")
    return f"\n{head.rstrip()}, nn\nfrom torch.nn import functional\n\n"


def _reading() -> str:
    text = importlib.resources.files("search.formats").joinpath("standalone.py").read_text("utf-8")
    return text.partition(MARKER)[2]


def _numbers(values: tuple[float, ...]) -> str:
    return repr(values)


def _shares(network: Architecture) -> str:
    return "network(read(path))" if network.head.softmax else "network(read(path)).softmax(1)"


def _modules(network: Architecture) -> Iterator[str]:
    """The classes of the network, those that it has."""
    block, kinds = network.block, _shortcuts(network)
    if block.squeeze_excitation or network.stem.squeeze_excitation:
        yield SQUEEZE
    if "projection" in kinds:
        norm = "" if block.preactivation else "        self.norm = nn.BatchNorm2d(width)\n"
        yield PROJECTION.format(
            and_norm="" if block.preactivation else " and a norm",
            norm=norm,
            call="self.conv(x)" if block.preactivation else "self.norm(self.conv(x))",
        )
    if "padding" in kinds:
        yield PADDING
    yield _block_class(network)
    yield _network_class(network)


def _shortcuts(network: Architecture) -> set[str | None]:
    return {
        network.block.shortcut_of(inputs, width, stride)
        for stage, before in _stages(network)
        for inputs, width, stride in _blocks(stage, before)
    }


def _stages(network: Architecture) -> Iterator[tuple[Stage, int]]:
    """Each stage with the channels before it."""
    widths = (network.stem.width, *(stage.width for stage in network.stages))
    return zip(network.stages, widths, strict=False)


def _blocks(stage: Stage, before: int) -> Iterator[tuple[int, int, int]]:
    """Inputs, width and stride of each block of a stage."""
    widths = (before, *stage.widths(before))
    strides = (stage.stride, *(1,) * (stage.blocks - 1))
    return ((a, b, stride) for (a, b), stride in zip(pairwise(widths), strides, strict=True))


def _block_class(network: Architecture) -> str:
    block = network.block
    lines = list(_block_layers(network))
    forward = _preactivated(block) if block.preactivation else _postactivated(block)
    return f'''

class Block(nn.Module):
    """{_described(block)}

    A convolution is (inputs, outputs, kernel, stride, groups).
    """

    def __init__(self, convolutions, shortcut=None{", gate=None" if block.squeeze_excitation else ""}):
        super().__init__()
{indent(chr(10).join(lines), " " * 8)}

    def forward(self, x):
{indent(chr(10).join(forward), " " * 8)}
'''


def _described(block: Block) -> str:
    name = {"basic": "convolutions", "bottleneck": "bottleneck", "inverted": "inverted bottleneck"}[
        block.kind
    ]
    what = f"{block.depth} {name}" if block.kind == "basic" else f"a {name} of {block.depth} convolutions"
    order = "norm and activation before each" if block.preactivation else "each with its norm"
    return f"A {'residual ' if block.residual else ''}block: {what}, {order}."


def _block_layers(network: Architecture) -> Iterator[str]:
    block, bias = network.block, network.block.bias
    names = ", ".join(f"c{i}" for i in range(1, block.depth + 1))
    yield f"{names}{',' if block.depth == 1 else ''} = convolutions"
    for i in range(1, block.depth + 1):
        norm = f"self.norm{i} = nn.BatchNorm2d(c{i}[{0 if block.preactivation else 1}])"
        if block.preactivation:
            yield norm
        yield (
            f"self.conv{i} = nn.Conv2d(c{i}[0], c{i}[1], c{i}[2], c{i}[3], c{i}[2] // 2,"
            f" groups=c{i}[4], bias={bias})"
        )
        if not block.preactivation:
            yield norm
    yield f"self.activation = {ACTIVATIONS[network.activation]}"
    if block.dropout:
        yield f"self.dropout = nn.Dropout({block.dropout!r})"
    if block.squeeze_excitation:
        yield "self.squeeze = Squeeze(*gate)"
    yield "self.shortcut = shortcut"


def _drop(block: Block, text: str, i: int) -> str:
    return f"self.dropout({text})" if block.dropout and i == 1 else text


def _postactivated(block: Block) -> Iterator[str]:
    inside = block.kind == "inverted"
    for i in range(1, block.depth + 1):
        given = "x" if i == 1 else "y"
        if block.squeeze_excitation and inside and i == block.depth:
            yield "y = self.squeeze(y)"
        layer = _drop(block, f"self.norm{i}(self.conv{i}({given}))", i)
        yield f"y = self.activation({layer})" if i < block.depth else f"y = {layer}"
    if block.squeeze_excitation and not inside:
        yield "y = self.squeeze(y)"
    yield from _sum(block)
    yield "return y" if block.linear else "return self.activation(y)"


def _sum(block: Block) -> Iterator[str]:
    if block.residual and block.shortcut == "identity":  # in blocks that change nothing alone
        yield "y = y + self.shortcut(x) if self.shortcut else y"
    elif block.residual:
        yield "y = y + (self.shortcut(x) if self.shortcut else x)"


def _preactivated(block: Block) -> Iterator[str]:
    inside = block.kind == "inverted"
    for i in range(1, block.depth + 1):
        given = "x" if i == 1 else "y"
        yield f"y = self.activation({_drop(block, f'self.norm{i}({given})', i)})"
        if i == 1 and block.residual and block.shortcut == "projection":
            yield "x = self.shortcut(y) if self.shortcut else x"
        if block.squeeze_excitation and inside and i == block.depth:
            yield "y = self.squeeze(y)"
        yield f"y = self.conv{i}(y)"
    if block.squeeze_excitation and not inside:
        yield "y = self.squeeze(y)"
    if block.residual and block.shortcut == "projection":
        yield "return y + x"
        return
    yield from _sum(block)
    yield "return y"


def _network_class(network: Architecture) -> str:
    layers = "\n".join(_network_layers(network))
    forward = "\n".join(_network_forward(network))
    shape = f"{network.channels}, {network.image_size}, {network.image_size}"
    return f'''

class Network(nn.Module):
    """Images (N, {shape}), bytes 0..255, to scores (N, {network.classes}) float32."""

    def __init__(self):
        super().__init__()
        for name, values in (("mean", MEAN), ("deviation", DEVIATION)):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1), persistent=False)
{indent(layers, " " * 8)}

    def forward(self, images):
{indent(forward, " " * 8)}
'''


def _network_layers(network: Architecture) -> Iterator[str]:
    stem, widths = network.stem, [stage.width for stage in network.stages]
    yield "self.stem = nn.Module()"
    yield (
        f"self.stem.conv = nn.Conv2d({network.channels}, {stem.width}, {stem.kernel}, {stem.stride},"
        f" {stem.kernel // 2}, bias={stem.bias})"
    )
    yield f"self.stem.norm = nn.BatchNorm2d({stem.width})"
    if stem.squeeze_excitation:
        yield f"self.stem.squeeze = Squeeze({stem.width}, {stem.squeeze_excitation.hidden(stem.width)})"
    if stem.max_pool:
        pool = stem.max_pool
        yield f"self.stem.pool = nn.MaxPool2d({pool.kernel}, {pool.stride}, {pool.padding})"
    yield "self.stages = nn.ModuleList(["
    for stage, before in _stages(network):
        yield "    nn.Sequential("
        for inputs, width, stride in _blocks(stage, before):
            yield f"        {_block_call(network, stage, inputs, width, stride)},"
        yield "    ),"
    yield "])"
    last = widths[-1]
    if network.block.preactivation:
        yield f"self.norm = nn.BatchNorm2d({last})"
    yield "self.tail = nn.ModuleList()"
    for conv in network.tail:
        yield "self.tail.append(nn.Module())"
        yield (
            f"self.tail[-1].conv = nn.Conv2d({last}, {conv.width}, {conv.kernel}, {conv.stride},"
            f" {conv.kernel // 2}, bias={conv.bias})"
        )
        yield f"self.tail[-1].norm = nn.BatchNorm2d({conv.width})"
        last = conv.width
    yield f"self.activation = {ACTIVATIONS[network.activation]}"
    yield f"self.pool = {_pool(network)}"
    yield from _head_layers(network, last * network.pool.map_after(network.maps[-1]) ** 2)


def _block_call(network: Architecture, stage: Stage, inputs: int, width: int, stride: int) -> str:
    block = network.block
    branch = ", ".join(str(tuple(conv)) for conv in block.branch(inputs, width, stage.kernel, stride))
    kind = block.shortcut_of(inputs, width, stride)
    call = f"Block([{branch}]"
    if kind == "projection":
        call += f", Projection({inputs}, {width}, {stage.shortcut_kernel}, {stride})"
    elif kind == "padding":
        call += f", Padding({inputs}, {width}, {stride})"
    elif kind == "identity" and block.shortcut == "identity":
        call += ", nn.Identity()"
    if block.squeeze_excitation:
        gated = block.gated(inputs, width)
        call += f", gate=({gated}, {block.squeeze_excitation.hidden(gated)})"
    return call + ")"


def _pool(network: Architecture) -> str:
    pool, kind = network.pool, {"avg": "Avg", "max": "Max"}[network.pool.kind]
    if pool.kernel is None:
        return f"nn.Adaptive{kind}Pool2d({pool.output or 1})"
    return f"nn.{kind}Pool2d({pool.kernel}, {pool.stride or pool.kernel})"


def _head_layers(network: Architecture, inputs: int) -> Iterator[str]:
    head = network.head
    widths = (inputs, *head.hidden)
    hidden = ", ".join(f"nn.Linear({a}, {b})" for a, b in pairwise(widths))
    yield "self.head = nn.Module()"
    if head.dropout:
        yield f"self.head.dropout = nn.Dropout({head.dropout!r})"
    if hidden:
        yield f"self.head.hidden = nn.ModuleList([{hidden}])"
    yield f"self.head.classifier = nn.Linear({widths[-1]}, {network.classes}, bias={head.bias})"


def _network_forward(network: Architecture) -> Iterator[str]:
    stem, head = network.stem, network.head
    yield "x = (images.float() - self.mean) * (1 / self.deviation)"
    yield "x = self.activation(self.stem.norm(self.stem.conv(x)))"
    if stem.squeeze_excitation:
        yield "x = self.stem.squeeze(x)"
    if stem.max_pool:
        yield "x = self.stem.pool(x)"
    yield "for stage in self.stages:"
    yield "    x = stage(x)"
    if network.block.linear:
        yield f"x = self.activation({'self.norm(x)' if network.block.preactivation else 'x'})"
    for i in range(len(network.tail)):
        given = "self.activation(x)" if i else "x"
        yield f"x = self.tail[{i}].norm(self.tail[{i}].conv({given}))"
    yield "x = self.pool(x).flatten(1)"
    if head.dropout:
        yield "x = self.head.dropout(x)"
    if head.hidden:
        yield "for layer in self.head.hidden:"
        yield "    x = self.activation(layer(x))"
    yield f"return self.head.classifier(x){'.softmax(1)' if head.softmax else ''}"
