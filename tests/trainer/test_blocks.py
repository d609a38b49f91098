"""Kinds of blocks beside torchvision's own, and what can be said of them without another implementation.

torchvision's networks share no line with this project: the same parameters in, the same scores out.
"""

import itertools

import pytest
import torch
from lazily import Lazily
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from space import cost
from space.architecture import Architecture, Block, MaxPool, SqueezeExcitation, Stage, Stem
from trainer import model
from trainer.ema import Average

models = Lazily("torchvision.models")

KINDS = {
    "basic": Block(),
    "bottleneck": Block(kind="bottleneck", expansion=2),
    "bottleneck in groups": Block(kind="bottleneck", expansion=2, groups=4),
    "inverted": Block(kind="inverted", expansion=3, shortcut="identity"),
    "inverted and gated": Block(
        kind="inverted", expansion=3, squeeze_excitation=SqueezeExcitation(reduction=4)
    ),
    "padding": Block(shortcut="padding"),
}
KINDS |= {
    f"pre-activated {name}": block.model_copy(update={"preactivation": True}) for name, block in KINDS.items()
}


def small(block: Block, growth: str = "step") -> Architecture:
    stages = (
        Stage(blocks=2, width=8, growth=growth),  # type: ignore[arg-type]
        Stage(blocks=3, width=18, stride=2, growth=growth),  # type: ignore[arg-type]
    )
    return Architecture(image_size=9, classes=4, stem=Stem(width=8), stages=stages, block=block)


def residual_net(block: Block) -> Architecture:
    """ResNet-50 of He et al. for 1,000 classes at 224 pixels, with these blocks."""
    stages = tuple(
        Stage(blocks=blocks, width=width, stride=1 if width == 256 else 2)
        for blocks, width in ((3, 256), (4, 512), (6, 1_024), (3, 2_048))
    )
    stem = Stem(width=64, kernel=7, stride=2, max_pool=MaxPool())
    return Architecture(image_size=224, classes=1_000, stem=stem, stages=stages, block=block)


def take_over(ours: nn.Module, theirs: nn.Module) -> None:
    """Parameters and statistics in order; the order of torchvision's modules is ours."""
    for pairs in (
        zip(ours.parameters(), theirs.parameters(), strict=True),
        zip(ours.buffers(), theirs.buffers(), strict=True),
    ):
        for mine, other in pairs:
            assert mine.shape == other.shape
            mine.data.copy_(other.data)


@pytest.mark.parametrize(
    ("name", "block", "parameters"),
    [
        ("resnet50", Block(kind="bottleneck"), 25_557_032),
        ("resnext50_32x4d", Block(kind="bottleneck", expansion=2, groups=32), 25_028_904),
        ("wide_resnet50_2", Block(kind="bottleneck", expansion=2), 68_883_240),
    ],
)
def test_bottlenecks_count_and_answer_as_torchvisions(name: str, block: Block, parameters: int) -> None:
    architecture, theirs = residual_net(block), models.get_model(name).eval()
    assert cost.total(architecture).parameters == parameters
    network = model.build(architecture).eval()
    take_over(network, theirs)
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(network(images), theirs(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("inputs", "width", "stride"), [(6, 6, 1), (6, 9, 1), (6, 6, 2), (6, 10, 2)])
def test_an_inverted_block_answers_as_that_of_mobilenet(inputs: int, width: int, stride: int) -> None:
    theirs = models.mobilenetv2.InvertedResidual(inputs, width, stride, expand_ratio=4).eval()
    for name, module in list(theirs.named_modules()):
        if isinstance(module, nn.ReLU6):
            theirs.set_submodule(name, nn.ReLU())
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.uniform_(-1, 1)
    block = Block(kind="inverted", expansion=4, shortcut="identity")
    stages = (Stage(blocks=1, width=width, stride=stride),)
    ours = model.build(Architecture(stem=Stem(width=inputs), stages=stages, block=block)).eval().stages[0][0]
    take_over(ours, theirs)
    x = torch.randn(3, inputs, 7, 7)
    with torch.no_grad():
        assert torch.allclose(ours(x), theirs(x), atol=1e-5)


@pytest.mark.parametrize("block", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("growth", ["step", "linear"])
def test_torch_counts_the_same_multiply_accumulates(block: Block, growth: str) -> None:
    architecture = small(block, growth)
    network = model.build(architecture).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.rand(1, 3, 9, 9))
    assert counter.get_total_flops() == 2 * cost.total(architecture).macs


def test_a_pyramid_widens_by_as_many_channels_in_every_block() -> None:
    """Han et al.'s for CIFAR: 16 channels and 84 more over 3 stages of 12 blocks, 2 1/3 in each block."""
    stages, widths = [], [16]
    for i, width in enumerate((44, 72, 100)):
        stages.append(Stage(blocks=12, width=width, stride=1 if i == 0 else 2, growth="linear"))
        widths += stages[-1].widths(widths[-1])
    steps = {after - before for before, after in itertools.pairwise(widths)}
    assert widths[-1] == 100 and len(widths) == 37 and steps == {2, 3}
    network = Architecture(stem=Stem(width=16), stages=tuple(stages), block=Block(shortcut="padding"))
    built = model.build(network)
    assert [block.conv2.out_channels for stage in built.stages for block in stage] == widths[1:]
    by_hand = sum(9 * a * b + 9 * b * b + 4 * b for a, b in itertools.pairwise(widths))
    assert model.count(built) == by_hand + 9 * 3 * 16 + 2 * 16 + 100 * 10 + 10


def test_padding_adds_channels_of_zeros_or_cuts_them() -> None:
    x = torch.rand(2, 3, 5, 5)
    wider, narrower = model.Padding(3, 5, 2)(x), model.Padding(3, 2, 1)(x)
    assert wider.shape == (2, 5, 3, 3)
    assert torch.allclose(wider[:, :3, 0, 0], x[:, :, :2, :2].mean((2, 3)))
    assert torch.allclose(wider[:, :3, 2, 2], x[:, :, 4, 4])  # the last window holds one pixel
    assert not wider[:, 3:].any()
    assert torch.equal(narrower, x[:, :2])


@pytest.mark.parametrize("block", KINDS.values(), ids=KINDS)
def test_only_blocks_with_a_shortcut_start_as_it(block: Block) -> None:
    """A branch that starts at zero with nothing beside it would be a network of zeros."""
    network = model.build(small(block)).eval()
    zero = [
        not module.get_submodule(f"norm{module.depth}").weight.any()
        for module in network.modules()
        if isinstance(module, model.Block)
    ]
    changes = block.shortcut != "identity"
    assert zero == ([False] * 5 if block.preactivation else [True, True, changes, True, True])
    assert network(torch.rand(2, 3, 9, 9)).std() > 0


def test_the_weights_of_a_grouped_convolution_are_drawn_for_its_group() -> None:
    torch.manual_seed(0)
    block = Block(kind="bottleneck", expansion=2, groups=32)
    conv = model.build(small(block).model_copy(update={"stages": (Stage(blocks=1, width=512),)})).stages[0][0]
    assert conv.conv2.weight.shape == (256, 8, 3, 3)
    assert conv.conv2.weight.std().item() == pytest.approx((2 / (9 * 8)) ** 0.5, rel=0.02)


@pytest.mark.parametrize("block", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("growth", ["step", pytest.param("linear", marks=pytest.mark.thorough)])
def test_every_kind_learns_images_by_heart_and_runs_in_bfloat16(block: Block, growth: str) -> None:
    torch.manual_seed(1)
    network = model.build(small(block, growth)).train()
    images, labels = torch.rand(16, 3, 9, 9), torch.arange(16) % 4
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    average, losses = Average(network, 0.9), list[float]()
    for step in range(1, 31):
        loss = nn.functional.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average.update(step)
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
    assert_answers_nearly_alike(network.eval(), images)
    assert average.network.eval()(images).isfinite().all()


def assert_answers_nearly_alike(network: nn.Module, images: Tensor) -> None:
    with torch.no_grad():
        exact = network(images)
        with torch.autocast("cpu", torch.bfloat16):
            rough = network(images)
    assert (exact - rough.float()).abs().max() < 0.1 * exact.abs().max()
