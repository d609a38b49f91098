"""What every part of a recipe has in common. Extends the base of all documents (space/document.py).

Reads and writes nothing; the base of the classes in trainer/recipe/document.py, schedules.py and policies.py.
"""

from typing import Any

from pydantic import ConfigDict

from space.document import Document


class RecipePart(Document):
    """A document that bends types where nothing is lost: recipes of before may say 2.0 for 2.

    Numbers are finite, as JSON has no others.
    """

    model_config = ConfigDict(strict=False, allow_inf_nan=False)


SHORT, TABLE = "<short>", "<table>"  # not shown in messages: they stand in no file


def tag(value: Any) -> str:
    """Which part a value is: the name in a table or a part, SHORT for what is given by its name alone."""
    if isinstance(value, dict):
        return str(value.get("name"))
    return str(value.name) if isinstance(value, RecipePart) and hasattr(value, "name") else SHORT
