"""The one reader of documents that people write or receive, TOML, JSON: space, architecture, recipe, export.

Reads files, writes nothing, and knows no document in particular; each caller says with which error one is
refused. Called by space/architecture.py, space/space.py and space/document.py, trainer/recipe/document.py and
trainer/weights.py, and in search/ by study/network_reference.py, study/verification.py, formats/ and
training/.

A stranger's file is looked at before a parser is: Python's parsers call themselves for each bracket and each
dotted key, and need a second for an integer of some thousand digits. What exceeds a limit below is refused.
"""

import json
import re
import tomllib
from pathlib import Path
from typing import Any, Literal

from space.errors import UsageError

LARGEST = {"TOML": 256 << 10, "JSON": 4 << 20}  # bytes; the export of a network of 1,000 layers has 200,000
DEEPEST = 32  # brackets, or names in a dotted key; our own documents have six
LONGEST_WORD = 100  # characters of a number or a bare name
LONGEST_LINE = 200  # characters of what a parser has to say

Form = Literal["JSON", "TOML"]

# Text in quotes and comments first, so that what stands in them is not taken for structure.
TOKENS = {
    "JSON": re.compile(
        r'(?P<text>"(?:[^"\\]|\\.)*+"?)|(?P<word>[\w.+-]{101,}+)|(?P<bracket>[\[\]{}])', re.DOTALL
    ),
    "TOML": re.compile(
        r'(?P<text>"""(?:[^"\\]|\\.|"(?!""))*+(?:"{3,5})?'
        r"|'''(?:[^']|'(?!''))*+(?:'{3,5})?"
        r'|"(?:[^"\\\n]|\\.)*+"?'
        r"|'[^'\n]*+'?)"
        r"|(?P<comment>\#[^\n]*+)|(?P<word>[\w+-]++)|(?P<dot>\.)|(?P<bracket>[\[\]{}])|(?P<other>[^\s])",
        re.DOTALL,
    ),
}


PARTED = re.compile(rb"(?<![\w.])\d+\.\d+\s*=")  # a number as a key of TOML


def read(path: Path, form: Form, refuse: type[UsageError]) -> Any:
    """The values of a file, unchecked. Raises `refuse`: not there, too large, or not of this form."""
    return parse(contents(path, refuse), form, str(path), refuse)


def read_own(path: Path, refuse: type[UsageError]) -> Any:
    """The same of a JSON file that Python wrote, in which a loss may be infinite or no number."""
    return parse(contents(path, refuse), "JSON", str(path), refuse, any_number=True)


def form_of(path: Path) -> Form:
    """JSON by the end of its name, else TOML."""
    return "JSON" if path.suffix.lower() == ".json" else "TOML"


def contents(path: Path, refuse: type[Exception]) -> bytes:
    """The bytes of a file, at most one more than a document may have. Raises `refuse` where there is none."""
    try:
        with path.open("rb") as file:
            return file.read(max(LARGEST.values()) + 1)
    except (OSError, ValueError) as error:  # ValueError: a name with a zero in it
        raise refuse(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def parse(given: bytes, form: Form, where: str, refuse: type[Exception], *, any_number: bool = False) -> Any:
    """The values of a document; `where` names it in an error, a line of bounded length. Raises `refuse`.

    A byte order mark may stand before it. In JSON a key that stands twice and what is no number of JSON (NaN)
    are errors, as in TOML.
    """
    try:
        if len(given) > LARGEST[form]:
            raise ValueError(f"it has more than the {LARGEST[form] >> 10:,} kB that a document may have")
        text = given.decode("utf-8-sig")
        _require_simple(text, form)
        return _json(text, any_number) if form == "JSON" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise refuse(f"{where}: not {form}: {one_line(error)}{_hint(error, given)}") from None


def _hint(error: Exception, given: bytes) -> str:
    """What to do where 1.5 without quotes is a key 5 in a table 1, and 1 has a value already."""
    told = str(error)
    taken = told.startswith("Cannot overwrite a value") or re.match(r"Duplicate inline table key '\d+'", told)
    return " (write 1.0 beside 1.5, or quote the numbers)" if taken and PARTED.search(given) else ""


def one_line(error: object, longest: int = LONGEST_LINE) -> str:
    """What an error says, in one line that can be printed, cut where it is long."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    text = "".join(character if character.isprintable() else "?" for character in lines[0])
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def _json(text: str, any_number: bool) -> Any:
    return json.loads(text, object_pairs_hook=_once, parse_constant=float if any_number else _no_number)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen = set[str]()
        again = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"{one_line(repr(again), 60)} stands twice")
    return found


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _require_simple(text: str, form: Form) -> None:
    """Raises ValueError for a document that is nested too deeply, or has a number without end."""
    depth, dots, before = 0, 0, ""
    for token in TOKENS[form].finditer(text):
        kind, found = token.lastgroup, token.group()
        if kind == "word" and len(found) > LONGEST_WORD:
            raise ValueError(
                f"{_line(text, token)} a number or name of {len(found):,} characters, {LONGEST_WORD} at most"
            )
        if kind == "bracket":
            depth += 1 if found in "[{" else -1
        if kind == "dot":
            dots += 1
        elif before != "dot":  # a name goes on after a dot alone
            dots = 0
        if max(depth, dots + 1) > DEEPEST:
            raise ValueError(f"{_line(text, token)} it is nested more than {DEEPEST} deep")
        if kind != "comment":
            before = kind or ""


def _line(text: str, token: re.Match[str]) -> str:
    return f"line {text.count(chr(10), 0, token.start()) + 1}:"
