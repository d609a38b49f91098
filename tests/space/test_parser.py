"""The reader of documents reads what Python's parsers read, and its limits end nothing that is ours."""

import json
import tomllib
from typing import Any

import pytest
from hypothesis import given, strategies as st

from space import parser
from space.errors import UsageError

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**40), 10**40) | TEXTS,
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(TEXTS, inside, max_size=4),
    max_leaves=20,
)


def read(text: str, form: parser.Form) -> Any:
    return parser.parse(text.encode(), form, "a file", UsageError)


@given(VALUES)
def test_any_json_of_moderate_depth_is_read_as_python_reads_it(value: object) -> None:
    text = json.dumps(value, ensure_ascii=False)
    assert read(text, "JSON") == json.loads(text)


@pytest.mark.parametrize(
    "text",
    [
        'a = "[[[[ # \\" [[[["  # ' + "[" * 99,
        "a = '" + "[" * 99 + "\\'\nb = 1",
        'a = """\n' + "[" * 99 + '\n"" "\\""""\nb = "x"',
        "a = '''\n" + "[" * 99 + "\n'' '''\nb = 1.5e-3",
        '"a.b.c" . d = 1979-05-27T07:32:00.999999-07:00',
        "".join(f"x{i} = 1.25\n" for i in range(99)),
        "a = [" + "[1.5, 2.5], " * 99 + "]",
        "a = [\n" + "# [[[ 'it''s\n" * 99 + "1]",
    ],
)
def test_what_stands_in_texts_and_comments_of_toml_is_no_nesting(text: str) -> None:
    assert read(text, "TOML") == tomllib.loads(text)


@pytest.mark.parametrize("form", ["JSON", "TOML"])
@pytest.mark.parametrize("depth", [32, 33])
def test_32_brackets_are_read_and_33_are_not(depth: int, form: parser.Form) -> None:
    text = ("a = " if form == "TOML" else "") + "[" * depth + "]" * depth
    if depth == 32:
        read(text, form)
        return
    with pytest.raises(UsageError, match=r"a file: not .*: line 1: it is nested more than 32 deep"):
        read(text, form)


@given(st.binary(max_size=200), st.sampled_from(["JSON", "TOML"]))
def test_whatever_bytes_are_given_are_read_or_refused_in_one_short_line(
    given_bytes: bytes, form: parser.Form
) -> None:
    try:
        parser.parse(given_bytes, form, "a file", UsageError)
    except UsageError as error:
        assert str(error).isprintable() and len(str(error)) < 250
