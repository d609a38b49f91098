"""How the files of each form of a network end, and the refusal of such a name for a file of another form.

Reads and writes nothing. Called by the commands export, launch, report, compare and data before they write;
read by search/formats/write.py. Free of torch.
"""

from pathlib import Path
from typing import Literal, get_args

from space.errors import UsageError

Form = Literal["onnx", "pt2", "python", "safetensors"]
FORMS: tuple[Form, ...] = get_args(Form)
ENDING: dict[Form, str] = {"onnx": ".onnx", "pt2": ".pt2", "python": ".py", "safetensors": ".safetensors"}
EVERY_ENDING = {"json": ".json", **{str(form): ending for form, ending in ENDING.items()}}


def require_json(option: str, path: Path, instead: str) -> None:
    """Raises UsageError for a JSON document that is named like a file of another form, which `search verify`
    would take it for. `instead` says what to do, with {form} for that form."""
    _require(option, path, "json", "a file of format json", instead)


def require_weights(option: str, path: Path) -> None:
    """The same for weights, which are safetensors, whatever else their name ends in. Raises UsageError."""
    _require(option, path, "safetensors", "a file of weights", "name it .safetensors")


def require_page(option: str, path: Path) -> None:
    """The same for an HTML page. Raises UsageError."""
    _require(option, path, "html", "a page", "name it .html")


def require_two(first: tuple[str, Path | None], second: tuple[str, Path | None]) -> None:
    """Raises UsageError for two options that name one file: the later would replace the earlier."""
    (option, path), (other, place) = first, second
    if path and place and path.absolute() == place.absolute():
        raise UsageError(f"{option} and {other} name one file, {path}: give each its own")


def _require(option: str, path: Path, form: str, what: str, instead: str) -> None:
    for named, ending in EVERY_ENDING.items():
        if named != form and path.suffix.lower() == ending:
            raise UsageError(
                f"{option} {path}: {what} does not end in {ending}; {instead.format(form=named)}"
            )
