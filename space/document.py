"""What all documents that people write have in common: strictness, and one line for a problem.

Reads and writes nothing (space/parser.py reads the files), and knows no document in particular. Extended by
the documents of space/, trainer/recipe/ and search/study/export.py.
"""

from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from space.parser import one_line

LONGEST = 60  # characters of a value in a message
LONGEST_MESSAGE = 400  # of what is wrong: some of our own give reasons, a library's may quote a whole file
WANTED = {  # by pydantic's type of error: what a TOML or JSON file is to have there, in its words
    "tuple_type": "give a list",
    "list_type": "give a list",
    "model_type": "give a table of fields, in JSON an object",
    "dict_type": "give a table of names and values, in JSON an object",
}


class Document(BaseModel):
    """Base of every part: unknown fields are errors, types are not bent, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def first_problem(error: ValidationError, model: type[BaseModel] | None = None) -> str:
    """One line for a person: where, what is wrong, what was found; of a `model`, what may have been meant."""
    problem = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(name_of(part) for part in problem["loc"] if not str(part).startswith("<"))
    more = f"; {error.error_count() - 1} more" if error.error_count() > 1 else ""
    if problem["type"] == "extra_forbidden":
        meant = _meant(model, problem["loc"]) if model else None
        return f"{place}: unknown field{f'; did you mean {meant}?' if meant else ''}{more}"
    message = WANTED.get(problem["type"]) or problem["msg"].removeprefix("Value error, ")
    message, found = one_line(message, LONGEST_MESSAGE), problem["input"]
    is_shown = isinstance(found, (str, int, float)) or problem["type"] in WANTED
    told = f" (found {shown(found)})" if is_shown else ""
    return f"{place}: {message}{told}{more}" if place else f"{message}{told}{more}"


def _meant(model: type[BaseModel], place: tuple[int | str, ...]) -> str | None:
    """The field that an unknown one is most like: by its letters, its first letters (lr) or its beginning."""
    models, wrong = {model}, str(place[-1]).lower()
    for part in place[:-1]:
        inside = [one.model_fields[str(part)] for one in models if part in one.model_fields]
        models = set().union(*(_models_in(field.annotation) for field in inside)) or models
    known = {name: None for one in models for name in one.model_fields}
    initials = [name for name in known if "_" in name and wrong == "".join(w[:1] for w in name.split("_"))]
    begun = [name for name in known if len(wrong) > 2 and name.startswith(wrong)]
    return next(iter([*initials, *begun, *get_close_matches(wrong[:LONGEST], known, 1)]), None)


def _models_in(annotation: object) -> set[type[BaseModel]]:
    """The documents that a field may hold, however they are wrapped."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return set().union(*map(_models_in, get_args(annotation)))


def shown(value: object) -> str:
    """A value in one short line, whatever it is; Python refuses to print integers of 4,300 digits."""
    if isinstance(value, int) and abs(value) >= 10**LONGEST:
        return f"an integer of more than {LONGEST} digits"
    try:
        text = repr(value)
    except RecursionError:
        return f"a {type(value).__name__} that is nested very deep"
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
