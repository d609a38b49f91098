"""What all documents that people write have in common: strictness, reading a file, one line for a problem.

It knows no document in particular; each says with which error it is refused.
"""

import json
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from space.errors import UsageError

LONGEST = 60  # characters of a value in a message


class Document(BaseModel):
    """Base of every part: unknown fields are errors, types are not bent, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def read(path: Path, form: Literal["JSON", "TOML"], refuse: type[UsageError]) -> Any:
    """The values of a file, unchecked. Raises `refuse`: not there, not readable, not of this form."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        return json.loads(text) if form == "JSON" else tomllib.loads(text)
    except OSError as error:
        raise refuse(f"{path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise refuse(f"{path}: not {form}: {error}") from None


def first_problem(error: ValidationError) -> str:
    """One line for a person: where, what is wrong, what was found."""
    problem = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(name_of(part) for part in problem["loc"] if not str(part).startswith("<"))
    more = f"; {error.error_count() - 1} more" if error.error_count() > 1 else ""
    if problem["type"] == "extra_forbidden":
        return f"{place}: unknown field{more}"
    message = problem["msg"].removeprefix("Value error, ")
    found = problem["input"]
    told = f" (found {shown(found)})" if isinstance(found, (str, int, float)) else ""
    return f"{place}: {message}{told}{more}" if place else f"{message}{told}{more}"


def shown(value: object) -> str:
    """A value in one short line, whatever it is; Python refuses to print integers of 4,300 digits."""
    if isinstance(value, int) and abs(value) >= 10**LONGEST:
        return f"an integer of more than {LONGEST} digits"
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def name_of(part: int | str) -> str:
    """A field's name as it stands in a file, or escaped where it cannot be printed."""
    text = str(part)
    return text if text.isprintable() and len(text) <= LONGEST else shown(part)


def flat(document: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one, with dotted names."""
    found = dict[str, Any]()
    for name, value in document.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found
