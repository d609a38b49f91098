"""A network in one line: complete up to what is usual, and different for networks that differ."""

from typing import Any

import pytest
from hypothesis import given, strategies as st
from space_samples import CALM, architectures

from search.study.short_form import short_form, summary
from space.architecture import Architecture
from space.errors import ArchitectureError

PLAIN: dict[str, Any] = {"stem": {"width": 16}, "stages": [{"blocks": 3, "width": 16}]}
SECOND = [{"blocks": 1, "width": 16}, {"blocks": 2, "width": 32, "stride": 2}]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({}, "stem 16, stages 3x16"),
        ({"stages": SECOND}, "stem 16, stages 1x16 2x32"),
        ({"stages": [SECOND[0], {"blocks": 2, "width": 32}]}, "stem 16, stages 1x16 2x32/s1"),
        ({"stages": [{"blocks": 1, "width": 32, "kernel": 1}]}, "stem 16, stages 1x32/k1"),
        ({"stages": [{"blocks": 3, "width": 32, "growth": "linear"}]}, "stem 16, stages 3x..32"),
        ({"stages": [{"blocks": 1, "width": 32, "shortcut_kernel": 3}]}, "stem 16, stages 1x32/p3"),
        ({"stages": [{"blocks": 1, "width": 16, "shortcut_kernel": 3}]}, "stem 16, stages 1x16"),
        (
            {"stem": {"width": 16, "kernel": 7, "stride": 2, "max_pool": {}, "squeeze_excitation": {}}},
            "stem 16/k7/s2/se/max, stages 3x16",
        ),
        (
            {"block": {"kind": "bottleneck", "expansion": 2, "groups": 4, "preactivation": True}},
            "stem 16, stages 3x16, bottleneck/2 in 4 groups, preactivation",
        ),
        (
            {"block": {"kind": "inverted", "shortcut": "identity"}},
            "stem 16, stages 3x16, inverted x6, identity shortcuts alone",
        ),
        (
            {"block": {"convolutions": 3, "dropout": 0.1, "squeeze_excitation": {"reduction": 8}}},
            "stem 16, stages 3x16, 3 convolutions a block, dropout 0.1 in blocks, se8",
        ),
        (
            {
                "activation": "silu",
                "tail": [{"width": 16}, {"width": 16, "stride": 2}],
                "pool": {"kind": "max", "output": 2},
                "head": {"hidden": [64], "dropout": 0.2, "softmax": True},
            },
            "stem 16, stages 3x16, silu, tail 16 16/s2, max pool to 2x2, hidden 64, dropout 0.2, softmax",
        ),
    ],
)
def test_the_line_says_what_is_not_as_usual(change: dict[str, Any], line: str) -> None:
    assert (
        summary(Architecture.parse(PLAIN | change)) == line == short_form(Architecture.parse(PLAIN | change))
    )


def test_the_whole_line_says_for_which_images_a_network_is() -> None:
    digits = Architecture.parse(PLAIN | {"channels": 1, "image_size": 8})
    assert summary(digits) == "stem 16, stages 3x16"
    assert short_form(digits) == "stem 16, stages 3x16, for 1x8x8 and 10 classes"


@CALM
@given(one=architectures(), other=architectures())
def test_networks_that_differ_have_different_lines(one: Architecture, other: Architecture) -> None:
    if one.fingerprint != other.fingerprint:
        assert short_form(one) != short_form(other)


PARTS = ("activation", "stem", "stages", "block", "tail", "pool", "head", "channels", "image_size", "classes")


@CALM
@given(one=architectures(), other=architectures(), data=st.data())
def test_networks_that_differ_in_one_field_have_different_lines(
    one: Architecture, other: Architecture, data: st.DataObject
) -> None:
    """Two random networks hardly ever come near each other; one with a field of the other does."""
    near = one.document()
    part = data.draw(st.sampled_from(PARTS))
    theirs = other.document()[part]
    if isinstance(theirs, dict) and isinstance(near[part], dict):
        field = data.draw(st.sampled_from(sorted(theirs)))
        near[part] |= {field: theirs[field]}
    else:
        near[part] = theirs
    try:
        changed = Architecture.parse(near)
    except ArchitectureError:
        return  # the field does not go with the others
    if changed.fingerprint != one.fingerprint:
        assert short_form(changed) != short_form(one)
        if part not in ("channels", "image_size", "classes"):
            assert summary(changed) != summary(one)
