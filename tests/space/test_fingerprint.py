"""A fingerprint names the network that would be built: equal for equal networks, different for others."""

import json
import random
from typing import Any

import pytest
import torch
from examples import examples
from hypothesis import example, given, settings, strategies as st
from space_samples import CALM, architectures
from torch import Tensor

from space import cost
from space.architecture import (
    Architecture,
    Block,
    Head,
    MaxPool,
    Pool,
    SqueezeExcitation,
    Stage,
    Stem,
    TailConvolution,
    canonical,
)
from trainer import model


def net(**changes: Any) -> Architecture:
    parts = {
        "image_size": 8,
        "stem": Stem(width=8),
        "stages": (Stage(blocks=2, width=8), Stage(blocks=1, width=16, stride=2)),
    }
    return Architecture(**{**parts, **changes})


GATE, PLAIN, PADDED = SqueezeExcitation, Block(residual=False), Block(shortcut="padding")
SAME = {
    "a kernel of a shortcut that is not there": (
        net(),
        net(stages=(Stage(blocks=2, width=8, shortcut_kernel=3), Stage(blocks=1, width=16, stride=2))),
    ),
    "a kernel of shortcuts in a network without them": (
        net(block=PLAIN),
        net(
            block=PLAIN,
            stages=(Stage(blocks=2, width=8), Stage(blocks=1, width=16, stride=2, shortcut_kernel=5)),
        ),
    ),
    "a stage cut in two": (
        net(),
        net(stages=(*[Stage(blocks=1, width=8)] * 2, Stage(blocks=1, width=16, stride=2))),
    ),
    "a stride longer than the map": (
        net(tail=(TailConvolution(width=4, stride=4),)),
        net(tail=(TailConvolution(width=4, stride=8),)),
    ),
    "a stride on a map of one pixel": (
        net(image_size=1),
        net(image_size=1, stages=(Stage(blocks=2, width=8), Stage(blocks=1, width=16))),
    ),
    "a pool of the whole map": (net(), net(pool=Pool(kernel=4))),
    "a pool of the whole map and some stride": (net(), net(pool=Pool(kernel=4, stride=1))),
    "a fixed pool that divides the map": (net(pool=Pool(output=2)), net(pool=Pool(kernel=2))),
    "a fixed pool of the windows of an adaptive one": (
        net(pool=Pool(output=3)),
        net(pool=Pool(kernel=2, stride=1)),
    ),
    "a stride of a pool of one window": (
        net(pool=Pool(kernel=3, stride=2)),
        net(pool=Pool(kernel=3, stride=3)),
    ),
    "the kind of a pool that changes nothing": (
        net(pool=Pool(output=4)),
        net(pool=Pool(kind="max", kernel=1)),
    ),
    "a max-pool of one pixel": (
        net(),
        net(stem=Stem(width=8, max_pool=MaxPool(kernel=1, stride=1, padding=0))),
    ),
    "a gate of as many hidden channels": (
        net(stem=Stem(width=8, squeeze_excitation=GATE(reduction=5))),
        net(stem=Stem(width=8, squeeze_excitation=GATE(reduction=300))),
    ),
    "gates of as many hidden channels at each width": (
        net(block=Block(squeeze_excitation=GATE(reduction=8))),
        net(block=Block(squeeze_excitation=GATE(reduction=7))),
    ),
    "an expansion that is meant where none is said": (
        net(block=Block(kind="inverted")),
        net(block=Block(kind="inverted", expansion=6)),
    ),
    "expansions that leave the same inner width": (
        net(block=Block(kind="bottleneck", groups=4, expansion=3)),
        net(block=Block(kind="bottleneck", groups=4)),
    ),
    "the kind of shortcuts where there are none but identities": (
        net(stages=(Stage(blocks=2, width=8),)),
        net(stages=(Stage(blocks=2, width=8),), block=Block(shortcut="padding")),
    ),
    "the kind of shortcuts in a network without them": (
        net(block=PLAIN),
        net(block=Block(residual=False, shortcut="identity")),
    ),
    "shortcuts for blocks that keep the shape, where no block does": (
        net(block=PLAIN, stages=(Stage(blocks=1, width=8, stride=2), Stage(blocks=1, width=16))),
        net(
            block=Block(shortcut="identity"),
            stages=(Stage(blocks=1, width=8, stride=2), Stage(blocks=1, width=16)),
        ),
    ),
    "a kernel of projections that are paddings": (
        net(block=PADDED),
        net(
            block=PADDED,
            stages=(Stage(blocks=2, width=8), Stage(blocks=1, width=16, stride=2, shortcut_kernel=5)),
        ),
    ),
    "a mean of one pixel": (
        net(block=PADDED, image_size=1, stages=(Stage(blocks=2, width=8, stride=2),)),
        net(block=PADDED, image_size=1, stages=(Stage(blocks=2, width=8),)),
    ),
    "linear growth to the width that is there, or in one block": (
        net(),
        net(
            stages=(
                Stage(blocks=2, width=8, growth="linear"),
                Stage(blocks=1, width=16, stride=2, growth="linear"),
            )
        ),
    ),
    "linear growth said block by block": (
        net(stages=(Stage(blocks=3, width=15, stride=2, growth="linear"),)),
        net(stages=(Stage(blocks=1, width=10, stride=2), *(Stage(blocks=1, width=w) for w in (13, 15)))),
    ),
    "a number said as a whole one": (net(head=Head(dropout=0)), net(head=Head(dropout=0.0))),
}
DIFFERENT = {
    "nothing": net(),
    "a stage cut in two with another kernel": net(
        stages=(
            Stage(blocks=1, width=8),
            Stage(blocks=1, width=8, kernel=5),
            Stage(blocks=1, width=16, stride=2),
        )
    ),
    "a stride": net(stages=(Stage(blocks=2, width=8), Stage(blocks=1, width=16))),
    "a projection": net(
        stages=(Stage(blocks=2, width=8), Stage(blocks=1, width=16, stride=2, shortcut_kernel=3))
    ),
    "a width": net(stem=Stem(width=9)),
    "an activation": net(activation="gelu"),
    "the input": net(image_size=9),
    "the order": net(block=Block(preactivation=True)),
    "no shortcuts": net(block=PLAIN),
    "dropout": net(head=Head(dropout=0.1)),
    "dropout in the blocks": net(block=Block(dropout=0.1)),
    "a pool": net(pool=Pool(output=2)),
    "another kind of pool": net(pool=Pool(kind="max", output=2)),
    "a part of the map": net(pool=Pool(kernel=3)),
    "a gate": net(stem=Stem(width=8, squeeze_excitation=GATE())),
    "a wider gate": net(stem=Stem(width=8, squeeze_excitation=GATE(reduction=4))),
    "gates in blocks": net(block=Block(squeeze_excitation=GATE())),
    "a softmax": net(head=Head(softmax=True)),
    "a hidden layer": net(head=Head(hidden=(16,))),
    "no bias": net(head=Head(bias=False)),
    "bottlenecks": net(block=Block(kind="bottleneck")),
    "bottlenecks with wider insides": net(block=Block(kind="bottleneck", expansion=2)),
    "bottlenecks in groups": net(block=Block(kind="bottleneck", expansion=2, groups=2)),
    "inverted bottlenecks": net(block=Block(kind="inverted")),
    "inverted bottlenecks of another width": net(block=Block(kind="inverted", expansion=4)),
    "padding": net(block=PADDED),
    "identities alone": net(block=Block(shortcut="identity")),
    "linear growth": net(
        stages=(Stage(blocks=2, width=8), Stage(blocks=2, width=16, stride=2, growth="linear"))
    ),
    "growth at once": net(stages=(Stage(blocks=2, width=8), Stage(blocks=2, width=16, stride=2))),
}


@pytest.mark.parametrize("pair", SAME.values(), ids=SAME)
def test_documents_of_one_network_have_one_fingerprint(pair: tuple[Architecture, Architecture]) -> None:
    one, other = pair
    assert one != other or one.head.dropout == 0
    assert one.fingerprint == other.fingerprint


def test_documents_of_different_networks_have_different_fingerprints() -> None:
    assert len({architecture.fingerprint for architecture in DIFFERENT.values()}) == len(DIFFERENT)


def test_the_fingerprint_of_a_known_document_never_changes() -> None:
    """Stores and exported files hold fingerprints: whoever changes one of these splits every old study."""
    assert net().fingerprint == "f06b1b6fe424014b"
    full = Architecture(
        channels=1,
        image_size=28,
        classes=7,
        activation="silu",
        stem=Stem(
            width=24,
            kernel=5,
            stride=2,
            bias=True,
            squeeze_excitation=GATE(reduction=4),
            max_pool=MaxPool(kernel=2, padding=0),
        ),
        stages=(Stage(blocks=3, width=40, kernel=5, stride=2, shortcut_kernel=3),),
        block=Block(convolutions=3, preactivation=True, bias=True, dropout=0.2, squeeze_excitation=GATE()),
        tail=(TailConvolution(width=9, kernel=1, bias=True),),
        pool=Pool(kind="max", output=2),
        head=Head(hidden=(32, 16), dropout=0.3, bias=False, softmax=True),
    )
    assert full.fingerprint == "4f427b5d0ef6c45d"
    resnext = Block(kind="bottleneck", expansion=2, groups=2, preactivation=True)
    assert net(block=resnext).fingerprint == "6bf6dbedb8d6b80a"
    mobile = Block(kind="inverted", expansion=4, shortcut="identity", squeeze_excitation=GATE(reduction=4))
    assert net(block=mobile).fingerprint == "2fb92fdf7f360f8a"
    pyramid = (
        Stage(blocks=3, width=16, growth="linear"),
        Stage(blocks=3, width=24, stride=2, growth="linear"),
    )
    assert net(stages=pyramid, block=PADDED).fingerprint == "f5fdfbfb170d5e8a"


@CALM
@given(architectures(), st.randoms(use_true_random=False))
def test_the_order_of_keys_and_a_trip_through_json_change_nothing(
    architecture: Architecture, dice: random.Random
) -> None:
    again = Architecture.parse(json.loads(json.dumps(_shuffled(architecture.document(), dice))))
    assert again == architecture
    assert again.fingerprint == architecture.fingerprint


def _shuffled(value: Any, dice: random.Random) -> Any:
    if not isinstance(value, dict):
        return [_shuffled(part, dice) for part in value] if isinstance(value, list) else value
    keys = dice.sample(sorted(value), len(value))
    return {key: _shuffled(value[key], dice) for key in keys}


EVEN_POOL = MaxPool(kernel=2, stride=1, padding=1)  # makes two pixels of one


@settings(CALM, max_examples=examples(300))
@example(net(image_size=1, stem=Stem(width=8, max_pool=EVEN_POOL)))
@given(architectures())
def test_the_canonical_document_builds_the_same_network(architecture: Architecture) -> None:
    plain = canonical(architecture)
    assert canonical(plain) == plain
    assert plain.fingerprint == architecture.fingerprint
    assert cost.total(plain) == cost.total(architecture)
    assert torch.allclose(answers(plain), answers(architecture), rtol=1e-9, atol=0)


def answers(architecture: Architecture) -> Tensor:
    """Scores for fixed images of a network whose weights depend on nothing but their order; in double
    precision, since torch may add in another order for another stride."""
    network, generator = model.build(architecture).eval().double(), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.uniform_(-0.5, 1, generator=generator)
        size = architecture.image_size
        images = torch.rand(3, architecture.channels, size, size, generator=generator)
        return network(images.double())


DRAWN = 3_000  # the kinds of blocks make repeats rarer than when 1,500 had 200


@pytest.mark.thorough
def test_networks_that_answer_alike_have_one_fingerprint() -> None:
    """The other way round, over 3,000 tiny networks: no two documents of one network are told apart."""
    dice, prints = random.Random(1), dict[object, set[str]]()
    for _ in range(DRAWN):
        architecture = tiny(dice)
        scores = [f"{score:.9g}" for score in answers(architecture).flatten().tolist()]
        key = (architecture.image_size, cost.total(architecture), *scores)
        prints.setdefault(key, set()).add(architecture.fingerprint)
    assert [found for found in prints.values() if len(found) > 1] == []
    assert DRAWN - len(prints) > 200, "too few networks were drawn twice for this to say anything"


def tiny(dice: random.Random) -> Architecture:
    stages = tuple(
        Stage(
            blocks=dice.randint(1, 2),
            width=dice.randint(2, 3),
            kernel=dice.choice((1, 3)),
            stride=dice.randint(1, 3),
            shortcut_kernel=dice.choice((1, 3)),
            growth=dice.choice(("step", "linear")),
        )
        for _ in range(dice.randint(1, 2))
    )
    gate = dice.choice((None, GATE(reduction=dice.randint(1, 3))))
    return net(
        image_size=dice.choice((1, 2, 3)),
        classes=2,
        activation="silu",  # unlike relu it never makes a tiny network silent
        stem=Stem(width=2, stride=dice.randint(1, 3), squeeze_excitation=gate),
        stages=stages,
        block=tiny_block(dice),
    )


def tiny_block(dice: random.Random) -> Block:
    """Without shortcuts a chain of convolutions may be cut into blocks of one, two or three of them: that is
    told apart, and not drawn here."""
    kind = dice.choice(("basic", "bottleneck", "inverted"))
    own = {"convolutions": 1} if kind == "basic" else {"expansion": dice.choice((None, 2, 4, 6))}
    return Block(
        kind=kind,
        residual=kind != "basic" or dice.random() < 0.5,
        preactivation=dice.random() < 0.5,
        shortcut=dice.choice(("projection", "padding", "identity")),
        **own,
    )
