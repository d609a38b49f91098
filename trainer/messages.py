"""Values, errors and differences between two documents, each short enough for one line of a message.

Takes plain values and returns text; reads and writes nothing. Called by the modules of trainer/ that raise,
and by search/training/run.py.
"""

from collections.abc import Iterator
from typing import Any

LONGEST_REASON = 200  # characters of another library's message


def one_line(error: BaseException) -> str:
    """What an error says, without line breaks, cut to 200 characters."""
    return " ".join(str(error).split())[:LONGEST_REASON]


def shortened(value: object, longest: int) -> str:
    """A value as text of at most `longest` characters; what is cut ends in dots."""
    text = str(value)
    return text if len(text) <= longest else text[: longest - 3] + "..."


def differences(first: dict[str, Any], second: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Each field that differs, by its dotted name, with both values; None for one that is not there."""
    one, other = _flat(first), _flat(second)
    for name in {**one, **other}:
        if one.get(name) != other.get(name):
            yield name, one.get(name), other.get(name)


def _flat(document: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one, with dotted names."""
    found = dict[str, Any]()
    for name, value in document.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found
