"""Bad documents and files: each one line that names the place, never a traceback."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st
from space_samples import CALM, spaces

from space import architecture, parser, space
from space.architecture import Architecture, Stage, Stem
from space.budget import Budget, judge
from space.errors import ArchitectureError, SpaceError, UsageError
from space.random_suggest import RandomSuggest
from space.sampling import propose
from space.space import SearchSpace

ROOT = Path(__file__).parents[2]
DEEP = 100_000
GOOD: dict[str, Any] = {
    "stem": {"width": 8},
    "stages": [{"blocks": 1, "width": 8}, {"blocks": 1, "width": 16, "stride": 2}],
}


def with_stage(**changes: Any) -> dict[str, Any]:
    return {**GOOD, "stages": [{"blocks": 1, "width": 8, **changes}]}


BAD_ARCHITECTURES: dict[str, tuple[object, str]] = {
    "an unknown field": ({**GOOD, "colour": 1}, "colour: unknown field"),
    "an unknown field of a stage": (with_stage(depth=3), "stages.0.depth: unknown field"),
    "an unknown field of two lines": ({**GOOD, "a\nb": 1}, r"'a\\nb': unknown field"),
    "an unknown field without end": ({**GOOD, "x" * 9_999: 1}, "x{50,60}...: unknown field"),
    "a text for a number": (with_stage(width="64"), "stages.0.width: .* integer .*'64'"),
    "a fraction": (with_stage(width=8.5), "stages.0.width: .* integer .*8.5"),
    "a float that is whole": (with_stage(width=8.0), "stages.0.width: .* integer"),
    "true for a number": (with_stage(width=True), "stages.0.width: .* integer .*True"),
    "a number for true": ({**GOOD, "block": {"residual": 1}}, "block.residual: .* boolean"),
    "a width of 0": (with_stage(width=0), "stages.0.width: .* 1 .*found 0"),
    "a negative width": ({**GOOD, "stem": {"width": -3}}, "stem.width: .*found -3"),
    "a million blocks": (with_stage(blocks=10**6), "stages.0.blocks: .* 1000 .*found 1000000"),
    "an integer without end": (with_stage(width=10**5_000), "stages.0.width: .*more than 60 digits"),
    "a negative integer without end": (with_stage(width=-(10**5_000)), "stages.0.width: "),
    "an integer without end for a share": ({**GOOD, "head": {"dropout": 10**5_000}}, "head.dropout: "),
    "a text without end": ({**GOOD, "activation": "x" * 9_999}, r"activation: .*\.\.\.\)$"),
    "a text of two lines": ({**GOOD, "activation": "re\nlu"}, r"activation: .*'re\\nlu'"),
    "not a number": ({**GOOD, "head": {"dropout": math.nan}}, "head.dropout: .*nan"),
    "an infinite share": ({**GOOD, "head": {"dropout": math.inf}}, "head.dropout: .*inf"),
    "a share of 1": ({**GOOD, "head": {"dropout": 1.0}}, "head.dropout: "),
    "an even kernel": (with_stage(kernel=4), "stages.0.kernel: kernel 4 is even"),
    "a kernel of 65": (with_stage(kernel=65), "stages.0.kernel: .* 63 .*found 65"),
    "a stride of 9": (with_stage(stride=9), "stages.0.stride: .* 8 .*found 9"),
    "no stages": ({**GOOD, "stages": []}, "stages: "),
    "17 stages": ({**GOOD, "stages": GOOD["stages"][:1] * 17}, "stages: .*at most 16"),
    "stages that are a table": ({**GOOD, "stages": {}}, "stages: "),
    "no stem": ({"stages": GOOD["stages"]}, "stem: "),
    "a pool larger than its map": ({**GOOD, "pool": {"output": 17}}, "pool: 17 is larger .* 16x16"),
    "a window larger than its map": ({**GOOD, "pool": {"kernel": 17}}, "pool: 17 is larger .* 16x16"),
    "two sorts of pool": ({**GOOD, "pool": {"kernel": 2, "output": 2}}, "pool: give either"),
    "neither sort of pool": ({**GOOD, "pool": {"kind": "max"}}, "pool: give either"),
    "a stem pool larger than its map": (
        {**GOOD, "image_size": 4, "stem": {"width": 8, "max_pool": {"kernel": 9, "padding": 0}}},
        "stem.max_pool: kernel 9 on a map of 4",
    ),
    "padding of more than half": (
        {**GOOD, "stem": {"width": 8, "max_pool": {"kernel": 3, "padding": 2}}},
        "stem.max_pool: padding 2",
    ),
    "an unknown kind of block": ({**GOOD, "block": {"kind": "dense"}}, "block.kind: .*'dense'"),
    "an expansion of 1": (
        {**GOOD, "block": {"kind": "inverted", "expansion": 1}},
        "block.expansion: .*found 1",
    ),
    "an expansion of basic blocks": (
        {**GOOD, "block": {"expansion": 4}},
        "block: expansion 4 goes with kind",
    ),
    "groups of basic blocks": ({**GOOD, "block": {"groups": 4}}, "block: groups 4 goes with kind bottleneck"),
    "groups of inverted blocks": (
        {**GOOD, "block": {"kind": "inverted", "groups": 4}},
        "block: groups 4 goes with kind bottleneck, not inverted",
    ),
    "convolutions of bottlenecks": (
        {**GOOD, "block": {"kind": "bottleneck", "convolutions": 3}},
        "block: convolutions 3 goes with kind basic; bottleneck has three",
    ),
    "an unknown growth": (with_stage(growth="doubling"), "stages.0.growth: .*'doubling'"),
    "another format": ({**GOOD, "format": "parsimony.architecture/9"}, "format: "),
    "a list": ([GOOD], "give a table of fields, in JSON an object"),
    "nothing": (None, "give a table of fields, in JSON an object"),
    "several problems": (
        {**GOOD, "stem": {"width": 0, "kernel": 0}},
        r"stem.width: .*found 0\); 1 more$",
    ),
}


@pytest.mark.parametrize(("document", "problem"), BAD_ARCHITECTURES.values(), ids=BAD_ARCHITECTURES)
def test_a_bad_architecture_is_refused_in_one_line_that_names_the_place(
    document: object, problem: str
) -> None:
    with pytest.raises(ArchitectureError, match=problem) as caught:
        Architecture.parse(document, "net.json")
    assert_one_line(caught.value, "net.json: ")


def assert_one_line(error: UsageError, start: str) -> None:
    text = str(error)
    assert text.startswith(start)
    assert text.isprintable() and len(text) < 400
    assert error.__cause__ is None and error.__suppress_context__


def test_the_file_of_the_documents_is_an_architecture() -> None:
    text = (ROOT / "docs/architecture.md").read_text().split("```json")[1].split("```")[0]
    found = Architecture.parse(json.loads(text))
    assert (found.block.kind, found.stages[1].widths(32)) == ("bottleneck", (43, 53, 64))
    assert found.block.inner(32, 43) == 20 and found.block.inner(53, 64) == 32


BAD_SPACES: dict[str, tuple[str, str]] = {
    "an unknown field": ("colour = 1", "colour: unknown field"),
    "an unknown section": ("[stag]\nblocks = [1]", "stag: unknown field"),
    "an unknown knob": ("[stage]\nblock = [1]", "stage.block: unknown field"),
    "an empty range": ("depth = {low = 5, high = 2}", "depth: empty range: low 5 is above high 2"),
    "an empty range of ratios": (
        "[stage]\nwidth_ratio = {low = 2.0, high = 1.5}",
        "stage.width_ratio: empty range",
    ),
    "an empty list": ("[stage]\nkernel = []", "stage.kernel: "),
    "a number for a knob": (
        "depth = 3",
        r"depth: give a list or choices with weights: \[3\] or \{ 3 = 1 \} \(found 3\)",
    ),
    "a truth for a knob": ("[stem]\nmax_pool = true", r"stem.max_pool: give .*: \[true\] or \{ true = 1 \}"),
    "a name for a knob": (
        '[block]\nactivation = "relu"',
        r"block.activation: give .*: \['relu'\] or \{ relu = 1 \}",
    ),
    "a text without end for a knob": (f"[block]\nactivation = '{'a' * 999}'", r"give .*: \[\.\.\.\] or"),
    "a range of a knob that has choices": (
        "[stage]\nkernel = { low = 3, high = 7 }",
        "stage.kernel: this knob takes choices, .* and no range$",
    ),
    "a number for a range": ("budget_share = 0.5", "budget_share: give a range, { low = 0.5, high = 1.0 }"),
    "choices for a range": ("budget_share = [0.5, 1.0]", "budget_share: give a range"),
    "a ratio of the first stage": (
        "[stages.1]\nwidth_ratio = [2.0]",
        "stages.1.width_ratio: no stage is before the first; .* stem.width_ratio",
    ),
    "a whole number beside one with a dot": (
        "[stage]\nwidth_ratio = { 1 = 1, 1.5 = 2 }",
        r"not TOML: Cannot overwrite .* \(write 1.0 beside 1.5, or quote the numbers\)",
    ),
    "the same the other way round": (
        "[stage]\nwidth_ratio = { 1.5 = 2, 1 = 1 }",
        r"not TOML: Duplicate .* \(write 1.0 beside 1.5, or quote the numbers\)",
    ),
    "a text for a number": ('depth = {low = "2", high = 3}', "depth.low: .*integer .*'2'"),
    "a text in a list": ('[stage]\nwidth_ratio = ["2.0"]', "stage.width_ratio.0: .*'2.0'"),
    "true in a list": ("[stage]\nblocks = [true]", "stage.blocks.0: .*True"),
    "true in a list of ratios": ("[stage]\nwidth_ratio = [true]", "stage.width_ratio.0: .*True"),
    "a number in a list of truths": ("[stem]\nmax_pool = [1]", "stem.max_pool.0: .*boolean"),
    "not a number": ("[head]\ndropout = [nan]", "head.dropout.0: .*nan"),
    "an infinite ratio": ("[stage]\nwidth_ratio = [inf]", "stage.width_ratio.0: .*inf"),
    "an infinite range": ("[stage]\nwidth_ratio = {low = 1.0, high = inf}", "stage.width_ratio.high: .*inf"),
    "an infinite step": ("[head]\ndropout = {low = 0, high = 0.5, step = inf}", "head.dropout.step: .*inf"),
    "an integer without end": (f"depth = [0x{'f' * 9_999}]", "a number or name of 10,001 characters"),
    "a depth of 0": ("depth = {low = 0, high = 2}", "depth.low: .*found 0"),
    "a depth of 17": ("depth = [17]", "depth: 17 stages; at most 16"),
    "a million blocks": ("[stage]\nblocks = {low = 1, high = 1_000_000}", "stage.blocks: 1,000,000 blocks"),
    "a million blocks in a list": ("[stages.1]\nblocks = [1_000_000]", "stages.1.blocks: 1,000,000 blocks"),
    "a width of 0": ("[width]\nlow = 0", "width.low: .*found 0"),
    "a range without its multiple": (
        "[width]\nlow = 9\nhigh = 15",
        "width: no multiple of 8 from 9 to 15",
    ),
    "reversed widths": ("[width]\nlow = 64\nhigh = 32", "width: no multiple of 8 from 64 to 32"),
    "a logarithm from 0": ("[head]\ndropout = {low = 0.0, high = 0.5, log = true}", "head.dropout: a log"),
    "a logarithm with a step": ("depth = {low = 1, high = 4, step = 2, log = true}", "depth: log and step"),
    "a logarithm with a step of 1": (
        "[head]\ndropout = {low = 0.1, high = 0.5, step = 1.0, log = true}",
        "head.dropout: log and step",
    ),
    "steps without end": (
        "[head]\ndropout = {low = 0.0, high = 0.5, step = 1e-300}",
        "head.dropout: .*1e-300",
    ),
    "a step of many decimals": (
        "[head]\ndropout = {low = 0.0, high = 0.5, step = 0.33333333333}",
        "head.dropout: .*6 decimals",
    ),
    "a dropout of everything": ("[head]\ndropout = [1.0]", "head.dropout: dropout 1.0 would drop everything"),
    "an even kernel": ("[stage]\nkernel = [2]", "stage.kernel.0: kernel 2 is even"),
    "a stride of 0": ("[stages.2]\nstride = [0]", "stages.2.stride.0: .*found 0"),
    "a stage that is not there": (
        "depth = [2]\n[stages.3]\nkernel = [3]",
        "stages.3: no such stage; depth goes to 2",
    ),
    "a share above the whole": ("budget_share = {low = 0.5, high = 1.5}", "budget_share: .*up to 1"),
    "a share of nothing": ("budget_share = {low = 0.0, high = 1.0}", "budget_share: .*above 0"),
    "an unknown activation": ('[block]\nactivation = ["relu6"]', "block.activation.0: .*'relu6'"),
}


@pytest.mark.parametrize(("text", "problem"), BAD_SPACES.values(), ids=BAD_SPACES)
def test_a_bad_space_is_refused_in_one_line_that_names_the_place(
    text: str, problem: str, tmp_path: Path
) -> None:
    path = tmp_path / "space.toml"
    path.write_text(text)
    with pytest.raises(SpaceError, match=problem) as caught:
        space.load(path)
    assert_one_line(caught.value, f"{path}: ")


def test_a_stored_space_with_a_ratio_of_its_first_stage_is_opened() -> None:
    old = {"stages": {"1": {"width_ratio": [2.0]}}}
    assert SearchSpace.model_validate_json(json.dumps(old)).stages["1"].width_ratio == (2.0,)


def test_a_key_that_stands_twice_for_another_reason_has_no_hint() -> None:
    with pytest.raises(SpaceError, match=r"not TOML: Cannot overwrite a value \(at [^()]*\)$"):
        parser.parse(b"depth = [2]\ndepth = [3]  # 1.5", "TOML", "file", SpaceError)


@pytest.mark.parametrize(
    ("text", "size", "problem"),
    [
        ("[stem]\nkernel = [7]", 5, "stem.kernel: 7 is larger than its feature map, 5x5"),
        ("[stage]\nkernel = [3, 9]", 8, "stage.kernel: 9 is larger than its feature map, 8x8"),
        ("[stage]\nshortcut_kernel = [9]", 8, "stage.shortcut_kernel: 9 is larger"),
        (
            "depth = [3]\n[stages.3]\nkernel = [5]",
            8,
            "stages.3.kernel: 5 is larger than its feature map, 2x2",
        ),
        ("[stem]\nstride = [2]\nmax_pool = [true]\n[stage]\nkernel = [5]", 16, "stage.kernel: 5 .* 4x4"),
        ("depth = [4]\n[pool]\nsize = [2]", 8, "pool.size: 2 is larger than the last map, 1x1"),
    ],
)
def test_a_kernel_or_pool_larger_than_any_map_it_could_meet_is_refused(
    text: str, size: int, problem: str, tmp_path: Path
) -> None:
    path = tmp_path / "space.toml"
    path.write_text(text)
    found = space.load(path)
    with pytest.raises(SpaceError, match=problem) as caught:
        found.require_geometry(size)
    assert str(caught.value).isprintable()
    found.require_geometry(512)


JUNK: dict[str, bytes] = {
    "binary junk": bytes(range(256)) * 9,
    "an empty file": b"",
    "zeros": bytes(4_096),
    "half a document": b'{"stem": {"width":',
    "deep lists": b'{"stem": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    "deep tables": b'{"stem":' * DEEP + b"1" + b"}" * DEEP,
    "deep lists of a space": b"stem = " + b"[" * DEEP + b"]" * DEEP,
    "an integer without end": b'{"image_size": ' + b"9" * 9_999 + b"}",
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(99),
}


@pytest.mark.parametrize("name", ["file.json", "file.toml", "file", "file.txt"])
@pytest.mark.parametrize("content", JUNK.values(), ids=JUNK)
def test_junk_is_refused_in_one_line(content: bytes, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ArchitectureError) as caught:
        architecture.load(path)
    assert_one_line(caught.value, f"{path}: ")
    if content or name.endswith(".json"):  # an empty TOML file is the space of all defaults
        with pytest.raises(SpaceError) as refused:
            space.load(path)
        assert_one_line(refused.value, f"{path}: ")


def test_a_nesting_that_can_just_be_read_is_refused_in_one_line() -> None:
    nested: object = 1
    for _ in range(500):
        nested = {"stem": [nested]}
    with pytest.raises(ArchitectureError, match="stem: ") as caught:
        Architecture.parse(nested, "net.json")
    assert_one_line(caught.value, "net.json: ")


@pytest.mark.parametrize("name", ["not-there.json", "not-there.toml", "."])
def test_a_file_that_is_not_there_and_a_directory_are_refused_in_one_line(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    with pytest.raises(ArchitectureError, match=r"No such file|Is a directory") as caught:
        architecture.load(path)
    assert_one_line(caught.value, f"{path}: ")
    with pytest.raises(SpaceError, match=r"No such file|Is a directory") as refused:
        space.load(path)
    assert_one_line(refused.value, f"{path}: ")


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=9,
)
FIELDS = st.sampled_from(sorted(Architecture.model_fields) + sorted(SearchSpace.model_fields))


@CALM
@given(st.dictionaries(FIELDS, ANYTHING, max_size=4))
def test_whatever_stands_in_a_field_is_read_or_refused_in_one_line(document: dict[str, Any]) -> None:
    for parse, document_ in ((Architecture.parse, {**GOOD, **document}), (space.parse, document)):
        try:
            parse(document_, "file")
        except UsageError as error:
            assert_one_line(error, "file: ")


def test_an_architecture_is_read_from_its_file_and_from_an_exported_one(tmp_path: Path) -> None:
    network = Architecture(stem=Stem(width=8), stages=(Stage(blocks=1, width=8),))
    plain, exported = tmp_path / "net.json", tmp_path / "best.json"
    plain.write_text(json.dumps(network.document()), encoding="utf-8-sig")
    exported.write_text(json.dumps({"budget": 1, "architecture": network.document()}))
    assert architecture.load(plain) == architecture.load(exported) == network


@CALM
@given(spaces())
def test_a_space_comes_back_from_json_as_it_was(given_space: SearchSpace) -> None:
    text = given_space.model_dump_json(exclude_none=True)
    assert space.parse(json.loads(text)) == given_space
    assert SearchSpace.model_validate_json(text) == given_space


def test_a_space_is_the_same_from_toml_and_from_json(tmp_path: Path) -> None:
    toml, other = tmp_path / "space.toml", tmp_path / "space.JSON"
    toml.write_text("depth = [2, 4]\n[stage]\nwidth_ratio = {low = 1, high = 4}\n[head]\ndropout = [0, 0.5]")
    other.write_text(
        '{"depth": [2, 4], "stage": {"width_ratio": {"low": 1, "high": 4}}, "head": {"dropout": [0, 0.5]}}'
    )
    assert space.load(toml) == space.load(other)
    assert space.load(toml).stage.width_ratio == space.FloatRange(low=1.0, high=4.0)


def test_the_default_space_can_be_proposed_from_for_small_and_large_images() -> None:
    for size in (8, 28, 32, 64, 224):
        found, task = space.default().for_images(size), space.Task(channels=1, image_size=size, classes=10)
        found.require_geometry(size)
        network = propose(found, Budget(1_000_000), task, RandomSuggest(size))
        assert network.image_size == size and judge(network, Budget(1_000_000)).fits
