"""Choices of a knob with weights, as a table in a space file: `kernel = { 1 = 1, 3 = 6, 5 = 1 }`.

Reads the table's keys (TOML and JSON know text alone) as truths, numbers or names, and writes them back for
the study's settings. The knobs of space/space.py and space/domains.py allow it with `Choices`; how likely a
value is to be drawn is asked by space/random_suggest.py and, through space/sampling.py, by the samplers of a
search.
"""

import math
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Annotated, Any, TypeVar

from pydantic import Field, GetJsonSchemaHandler, WrapSerializer, WrapValidator

from space.document import name_of, shown

Value = TypeVar("Value")
HEAVIEST = 10**6  # of a weight
WHOLE = re.compile(r"\d[\d_]{0,30}")
FRACTION = re.compile(r"\d{1,30}\.\d{1,60}|\d(?:\.\d{1,30})?e-\d{1,3}")  # 5e-05: of studies made before
ENDS = ("low", "high")  # keys of a range, which is no table of weights; `step` is a choice of growth
LONGEST_EXAMPLE = 20  # characters of a value that a message repeats as it should stand


class Weighted(tuple[Any, ...]):
    """Different choices, each with a weight above 0: `Weighted({1: 1, 3: 6})`.

    It is the tuple of its values; who does not care for weights need not know of them. Equal to another one
    of the same values and weights, and to no plain tuple.
    """

    weights: tuple[float, ...]

    def __new__(cls, table: Mapping[Any, float]) -> "Weighted":
        made = super().__new__(cls, table)
        made.weights = tuple(table.values())
        return made

    @property
    def shares(self) -> dict[Any, float]:
        """How likely each value is to be drawn; together 1."""
        total = math.fsum(self.weights)
        return {value: weight / total for value, weight in zip(self, self.weights, strict=True)}

    def __getnewargs__(self) -> tuple[dict[Any, float]]:
        return (dict(zip(self, self.weights, strict=True)),)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Weighted) and super().__eq__(other) and self.weights == other.weights

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((tuple(self), self.weights))

    def __repr__(self) -> str:
        return f"Weighted({dict(zip(self, self.weights, strict=True))})"


class Described:
    """Marks choices in a document: its JSON Schema has the list, and the table of weights."""

    def __get_pydantic_json_schema__(self, core: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        weight = {"type": "number", "exclusiveMinimum": 0, "maximum": HEAVIEST}
        parted = {"type": "object", "minProperties": 1, "additionalProperties": weight}  # TOML's 0.5 = 1
        table = {
            "type": "object",
            "minProperties": 1,
            "propertyNames": {"not": {"enum": [*ENDS]}},
            "additionalProperties": {"anyOf": [weight, parted]},
        }
        return {"anyOf": [handler(core), table]}


def _read(given: Any, validate: Any) -> Any:
    if isinstance(given, Weighted):
        table = dict(zip(given, given.weights, strict=True))
    elif isinstance(given, Mapping):
        if given.keys() & {*ENDS}:
            raise ValueError("this knob takes choices, [1, 3] or { 1 = 1, 3 = 6 }, and no range")
        table = _table(given)
    elif isinstance(given, (bool, int, float, str)):
        raise ValueError(f"give a list or choices with weights: {_examples(given)}")
    else:
        return validate(given)
    values = validate([*table])
    if len(set(values)) < len(values):
        raise ValueError("a choice stands twice")
    return Weighted(dict(zip(values, table.values(), strict=True)))


def _examples(given: bool | float | str) -> str:
    """A single value as a file should have it."""
    text = key_of(given) if isinstance(given, bool) else shown(given)
    key = given if isinstance(given, str) and re.fullmatch(r"[A-Za-z0-9_-]+", given) else text
    return f"[{text}] or {{ {key} = 1 }}" if len(text) <= LONGEST_EXAMPLE else "[...] or { ... = 1 }"


def _table(given: Mapping[Any, Any]) -> dict[Any, float]:
    found: dict[Any, float] = {}
    for key, weight in _flat(given):
        number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
        if not (number and 0 < weight <= HEAVIEST):
            wanted = f"a weight is a number above 0 and up to {HEAVIEST:,}"
            raise ValueError(f"{name_of(key)}: {wanted}, not {shown(weight)}")
        value = _value(key)
        if value in found:
            raise ValueError(f"{name_of(key)}: stands twice")
        found[value] = weight
    return found


def _flat(given: Mapping[Any, Any]) -> Iterator[tuple[Any, Any]]:
    """TOML takes `0.5 = 1` without quotes for a table 0 with a key 5: it is put together again."""
    for key, weight in given.items():
        if isinstance(weight, Mapping) and weight:
            yield from ((f"{key}.{part}", inner) for part, inner in weight.items())
        else:
            yield key, weight


def _value(key: Any) -> Any:
    if not isinstance(key, str):
        return key
    if key in ("true", "false"):
        return key == "true"
    if WHOLE.fullmatch(key):
        return int(key)
    return float(key) if FRACTION.fullmatch(key) else key


def _written(value: Any, write: Any) -> Any:
    if not isinstance(value, Weighted):
        return write(value)
    return {key_of(choice): weight for choice, weight in zip(value, value.weights, strict=True)}


def key_of(value: Any) -> str:
    """A choice as the key of a table; a number without an exponent."""
    if isinstance(value, float):
        return format(Decimal(repr(value)), "f")
    return str(value).lower() if isinstance(value, bool) else str(value)


Choices = Annotated[
    tuple[Value, ...],
    Field(min_length=1, max_length=64, strict=False),
    WrapValidator(_read),
    WrapSerializer(_written),
    Described(),
]
