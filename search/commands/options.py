"""Options that several commands share, and the click types of their values.

Reads the defaults of search/settings.py; the modules of search/commands/ put the options on their commands.
"""

import math
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from search import settings
from search.commands.help import study_names
from space.errors import UsageError

Value = TypeVar("Value", int, float)

LONGEST_NAME = 200  # bytes, so that a file of that name may have an ending
LONGEST_NUMBER = 40  # characters; Python reads some thousand digits slowly, and more not at all
LARGEST_COUNT = 10**18 - 1  # a database has 64 bits
MOST_TRIALS = 10**9  # 32 bits
MOST_HOURS = 10**6  # of devices
MOST_MEMORY = 1 << 50  # bytes, a thousand times what a device has
LONGEST_SECONDS = 100 * 365.25 * 86_400  # a hundred years; Python waits for three times that at most


def study_name(text: str) -> str:
    """A study's name as it is stored: letters that can be written in two ways are written in one (NFC).

    Raises ValueError for what cannot stand in a path, in a message and before `:137`.
    """
    name = unicodedata.normalize("NFC", text)
    signs = all(
        sign in " ._+@-" or unicodedata.category(sign)[0] in "LMN" for sign in name
    )  # letters, marks and digits of every script
    if (
        not (name and signs)
        or unicodedata.category(name[0])[0] == "M"
        or name[0] == "-"
        or name != name.strip()
        or name.endswith(".json")
        or set(name) == {"."}
        or len(name.encode()) > LONGEST_NAME
    ):
        raise ValueError(
            f"{text[:80]!a} is no name for a study: up to {LONGEST_NAME} bytes of letters, digits, spaces and"
            " . _ + @ -, no space at either end, not starting with - and not ending in .json"
        )
    return name


class StudyName(click.ParamType[str]):
    """A name for a study, checked before anything is made."""

    name = "name"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return study_name(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class WebAddress(click.ParamType[str]):
    """An address that is posted to, checked before anything is made; it may hold a secret, so that no message
    repeats it."""

    name = "url"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from urllib.parse import urlsplit

        try:
            parts = urlsplit(str(value))
            known = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            known = False
        if not known or any(ord(letter) <= 32 for letter in str(value)):
            self.fail("give an address that begins with http:// or https:// and names a host", param, ctx)
        return str(value)


class Number(click.ParamType[Value]):
    """A number with a unit, of bounded length."""

    def text_of(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """What was given, without blanks around it. Raises click.BadParameter for a text that is too long."""
        text = str(value).strip()
        if len(text) > LONGEST_NUMBER:
            self.fail(f"'{text[:20]}...' is too long, with {len(text):,} characters", param, ctx)
        return text


class Count(Number[int]):
    """A whole number: 5000000, 5_000_000, 5,000,000, 5M or 2.5M. A comma parts thousands, never decimals."""

    name = "number"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = self.text_of(value, param, ctx).replace("_", "")
        match = re.fullmatch(r"((?:\d+|\d{1,3}(?:,\d{3})+)(?:\.\d+)?)([kKmMgGbB]?)", text)
        if not match:
            self.fail(f"{value!r} is not a number like 5000000, 5_000_000 or 5M", param, ctx)
        scale = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9}[match[2].lower()]
        digits = match[1].replace(",", "")
        number = int(digits) * scale if "." not in digits else round(float(digits) * scale)
        if number < 1:
            self.fail(f"{value!r} is not a positive number", param, ctx)
        if number > LARGEST_COUNT:
            self.fail(f"{value!r} is more than a database can hold, {LARGEST_COUNT:,}", param, ctx)
        return number


class Names(click.ParamType[tuple[str, ...]]):
    """Names parted by commas, each once."""

    name = "names"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        found = tuple(dict.fromkeys(part.strip() for part in str(value).split(",") if part.strip()))
        if not found:
            self.fail("give names, parted by commas", param, ctx)
        return found


class CountOrNone(Count):
    """A count, or none: 0, which no count is."""

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = self.text_of(value, param, ctx)
        if text.lower() == "none" or value == 0:
            return 0
        if not any(character.isdecimal() for character in text):
            self.fail(f"{value!r} is not a number like 25M, and not none", param, ctx)
        return super().convert(value, param, ctx)


class Memory(Number[int]):
    """An amount of memory in bytes: 800M, 4G or 4GiB, 1.5G; multiples of 1,024."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = self.text_of(value, param, ctx).lower()
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", text)
        found = round(float(match[1]) * 1024 ** " kmgt".index(match[2] or " ")) if match else 0
        if found < 1 << 20:
            self.fail(f"{value!r} is not an amount of memory like 800M or 4G", param, ctx)
        if found < 64 << 20:
            self.fail(f"{value!r} is less than any training takes; give 64M or more", param, ctx)
        if found > MOST_MEMORY:
            self.fail(f"{value!r} is more than any device has; give 1024T or less", param, ctx)
        return found


class Duration(Number[float]):
    """A time span in seconds: 90, 90s, 15m, 2h, 1h30m, 1d."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        text = self.text_of(value, param, ctx).lower()
        parts = re.findall(r"(\d+(?:\.\d+)?)([smhd]?)", text)
        if not parts or "".join(n + u for n, u in parts) != text:
            self.fail(f"{value!r} is not a time like 90s, 15m, 2h or 1h30m", param, ctx)
        seconds = sum(float(n) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[u] for n, u in parts)
        if seconds <= 0:
            self.fail(f"{value!r} is no time at all", param, ctx)
        if seconds > LONGEST_SECONDS:
            self.fail(f"{value!r} is longer than a hundred years", param, ctx)
        return seconds


class Hours(click.FloatRange):
    """Hours, more than none and fewer than MOST_HOURS."""

    def __init__(self) -> None:
        super().__init__(0, MOST_HOURS, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found: float = super().convert(value, param, ctx)
        if math.isnan(found):
            self.fail(f"{value!r} is no number of hours", param, ctx)
        return found


def in_words(seconds: float) -> str:
    """A time span as Duration reads it, in the largest unit that divides it."""
    for unit, length in (("h", 3600), ("m", 60)):
        if seconds % length == 0:
            return f"{seconds // length:.0f}{unit}"
    return f"{seconds:.15g}s"


def size_in_words(size: int) -> str:
    """An amount of memory as Memory reads it, in the largest unit that divides it."""
    for unit, length in (("G", 1 << 30), ("M", 1 << 20)):
        if size % length == 0:
            return f"{size // length}{unit}"
    return str(size)


def default_of(seconds: float) -> str:
    """The end of a help text."""
    return f"  [default: {in_words(seconds)}]"


class RenamedOption(click.Option):
    """An option that is also known by the name it had before; help shows the new name alone."""

    def __init__(self, *args: Any, was: str, **given: Any) -> None:
        super().__init__(*args, **given)
        self.was = was

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        shown = self.opts
        self.opts = [*shown, self.was]
        try:
            super().add_to_parser(parser, ctx)
        finally:
            self.opts = shown  # what help and messages read


def worker_count(value: str) -> int | None:
    """The number that --workers gives; None for auto. Raises UsageError for anything else."""
    if value == "auto":
        return None
    if not re.fullmatch(r"[0-9]{1,9}", value):
        raise UsageError(f"--workers {value}: give a number, or auto")
    return int(value)


class Url(click.ParamType[str]):
    """The URL of a store; one variable of the environment holds one, spaces and all."""

    name = "url"

    def convert(self, value: object, _param: click.Parameter | None, _ctx: click.Context | None) -> str:
        return str(value)

    def split_envvar_value(self, rv: str) -> list[str]:
        """The one value; click would part it at its spaces."""
        return [rv]


Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


PRINTED_STORAGE = "--printed-storage"  # before a command: the store that printed commands name


FILE_KEY = "search.storage_file"  # of the context's meta: the file that names the store, if one does
PLACES_KEY = "search.places"  # of the context's meta: what typed_places() returns
STUDY_KEY = "search.study"  # of the context's meta: the study by --study or its variable


def _keep_file(context: click.Context, _parameter: click.Parameter, path: Path | None) -> Path | None:
    """Notes the file, which is read once it is known that no --storage wins."""
    context.meta[FILE_KEY] = path
    return path


def _choose(context: click.Context, parameter: click.Parameter, given: Any) -> Any:
    """The store: --storage, else --storage-file, else the one or the other variable, else the default.

    Raises click.UsageError where two name it, UsageError for a file that is no such one.
    """
    from storage import url

    file: Path | None = context.meta[FILE_KEY]
    source = context.get_parameter_source(parameter.name or "")
    file_source = context.get_parameter_source("storage_file")
    if file is None or source in (None, ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP):
        is_file = file is not None
    elif source == file_source:
        raise click.UsageError("two stores: --storage and --storage-file, or their variables", context)
    else:
        is_file = file_source == ParameterSource.COMMANDLINE
    if not (is_file and file):
        stores = given if isinstance(given, tuple) else (given,)
        if source == ParameterSource.COMMANDLINE and len(stores) == 1:
            _note_typed(context, "--storage", ["--storage", url.without_password(stores[0])])
        return given
    if file_source == ParameterSource.COMMANDLINE:
        _note_typed(context, "--storage", ["--storage-file", str(file)])
    found = url.from_file(file)
    return (found,) if isinstance(given, tuple) else found


def _note_typed(context: click.Context, option: str, words: list[str]) -> None:
    context.meta.setdefault(PLACES_KEY, {})[option] = words


def _note_printed(context: click.Context, _parameter: click.Parameter, url: str | None) -> None:
    if url is not None:
        _note_typed(context, "--storage", ["--storage", url])


# For whoever runs a command for somebody who has typed a store elsewhere (parsimony/searching.py): the
# environment of the command has the URL with its password, and this is without.
printed_storage: Decorator = click.option(
    PRINTED_STORAGE, hidden=True, expose_value=False, callback=_note_printed
)


def _keep_folder(context: click.Context, _parameter: click.Parameter, path: Path) -> Path:
    """Notes the folder of data, where it was typed."""
    if is_typed("data_dir", context):
        _note_typed(context, "--data-dir", ["--data-dir", str(path)])
    return path


def typed_places() -> dict[str, list[str]]:
    """Of the command that runs what was typed of --storage and --data-dir, by the option: its words. A store
    is without its password, or by the file that names it; what came from the environment is not there, unless
    the caller has said it for this (PRINTED_STORAGE)."""
    context = click.get_current_context(silent=True)
    found: dict[str, list[str]] = context.meta.get(PLACES_KEY, {}) if context else {}
    return found


def is_typed(name: str, context: click.Context | None = None) -> bool:
    """Whether the command that runs was given this parameter as an argument, be it its default."""
    context = context or click.get_current_context(silent=True)
    return context is not None and context.get_parameter_source(name) == ParameterSource.COMMANDLINE


def password_is_shown(store: str) -> bool:
    """Whether the command that runs was given a password where every user of this machine can read it."""
    from storage import database

    return is_typed("storage") and database.redacted(store) != store


_storage_file: Decorator = click.option(
    "--storage-file",
    type=click.Path(path_type=Path),
    envvar="SEARCH_STORAGE_FILE",
    show_envvar=True,
    metavar="FILE",
    is_eager=True,
    expose_value=False,
    callback=_keep_file,
    help="A file of mode 0600 that holds the URL, so that no list of processes shows its password.",
)


def storage(command: Callable[..., Any]) -> Callable[..., Any]:
    """The store by its URL, or by a file that holds it."""
    option = click.option(
        "--storage",
        default=settings.STORAGE,
        show_default=True,
        envvar="SEARCH_STORAGE",
        show_envvar=True,
        metavar="URL",
        callback=_choose,
        help="postgresql://user@host/name, or sqlite:///file.db.",
    )
    return option(_storage_file(command))


def storages(command: Callable[..., Any]) -> Callable[..., Any]:
    """One store, or one for each of several studies."""
    option = click.option(
        "--storage",
        "storages",
        type=Url(),
        multiple=True,
        default=(settings.STORAGE,),
        show_default=True,
        envvar="SEARCH_STORAGE",
        show_envvar=True,
        metavar="URL",
        callback=_choose,
        help="The store of all studies; given as often as there are studies, the store of each, in their"
        " order.",
    )
    return option(_storage_file(command))


data_dir: Decorator = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=settings.data_dir,
    envvar="SEARCH_DATA_DIR",
    show_envvar=True,
    callback=_keep_folder,
    help="Data sets, their caches, logs, checkpoints and weights.  [default: ~/.cache/parsimony]",
)


lease: Decorator = click.option(
    "--lease",
    "lease_seconds",
    type=Duration(),
    default=settings.LEASE_SECONDS,
    metavar="TIME",
    help="A worker silent for so long is taken for dead." + default_of(settings.LEASE_SECONDS),
)


stall: Decorator = click.option(
    "--stall-timeout",
    "stall_seconds",
    type=Duration(),
    default=settings.STALL_SECONDS,
    metavar="TIME",
    help="A training without a batch for so long hangs, and is ended." + default_of(settings.STALL_SECONDS),
)


trial_timeout: Decorator = click.option(
    "--trial-timeout",
    "trial_seconds",
    type=Duration(),
    metavar="TIME",
    help="No trial may take longer.  [default: none]",
)


trial_memory: Decorator = click.option(
    "--trial-memory",
    type=Memory(),
    metavar="SIZE",
    help="No trial may take more of its device's memory: 4G, 800M.  [default: none]",
)


database_timeout: Decorator = click.option(
    "--database-timeout",
    "database_timeout_seconds",
    cls=RenamedOption,
    was="--database-patience",
    type=Duration(),
    default=settings.DATABASE_TIMEOUT_SECONDS,
    metavar="TIME",
    help="The database may be away for so long; work goes on meanwhile."
    + default_of(settings.DATABASE_TIMEOUT_SECONDS),
)


grace: Decorator = click.option(
    "--grace",
    "grace_seconds",
    type=Duration(),
    default=settings.GRACE_SECONDS,
    envvar="SEARCH_GRACE",
    show_envvar=True,
    metavar="TIME",
    help="Once told to end, trials may still run for so long." + default_of(settings.GRACE_SECONDS),
)


keep_weights: Decorator = click.option(
    "--keep-weights",
    type=click.IntRange(0),
    metavar="K",
    help="Keep the weights of the best K networks, on the machine that trained them."
    f"  [default: as last said there, else {settings.KEEP_WEIGHTS}]",
)


def worker_limits(command: Callable[..., Any]) -> Callable[..., Any]:
    """The limits of workers, search/study/worker_options.py: of every command that starts some."""
    every = (lease, stall, database_timeout, trial_timeout, trial_memory, grace, keep_weights)
    for option in reversed(every):
        command = option(command)
    return command


fit: Decorator = click.option(
    "--fit",
    type=click.Choice(["pad", "crop", "stretch"]),
    help="How pictures of a folder become square: whole, with their edges repeated; their middle alone; bent."
    f"  [default: the study's, else {settings.FIT}]",
)


skip_damaged: Decorator = click.option(
    "--skip-damaged", is_flag=True, help="Go on without the pictures of a folder that cannot be read."
)


class_weights: Decorator = click.option(
    "--class-weights",
    type=click.Choice(["none", "balanced"]),
    help="balanced: in the loss rare classes count as much as common ones.  [default: the recipe's]",
)


format_: Decorator = click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
    help="How data are written to stdout.",
)


columns: Decorator = click.option(
    "--columns",
    type=Names(),
    metavar="KEY,KEY...",
    help="Show these alone, in this order: the keys of docs/output.md.",
)


table_or_json: Decorator = click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="How data are written to stdout.",
)


elsewhere: Decorator = click.option(
    "--data",
    envvar="SEARCH_DATA",
    show_envvar=True,
    metavar="SPEC",
    help="Where the study's images lie on this machine, if elsewhere.",
)


data_from: Decorator = click.option(
    "--data-from",
    envvar="SEARCH_DATA_FROM",
    show_envvar=True,
    metavar="FOLDER|URL",
    help="Where this machine has no images: take the prepared ones of a shared folder, or of a launcher"
    " with --serve-data.",
)


def _study(command: Callable[..., Any], default: str) -> Callable[..., Any]:
    """The study by its first argument, by --study or by SEARCH_STUDY, in this order; `default` is what help
    says of none of them."""

    def either(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
        """Raises click.UsageError where two names were typed."""
        value = value and unicodedata.normalize("NFC", value)  # as it is stored
        if parameter.name != "study":  # --study, which is eager, leaves its name for the argument
            context.meta[STUDY_KEY] = value
            return value
        flag: str | None = context.meta.get(STUDY_KEY)
        is_typed = context.get_parameter_source("study_flag") == ParameterSource.COMMANDLINE
        if value is not None and flag is not None and is_typed and flag != value:
            raise click.UsageError(f"two studies: {flag!r} and {value!r}", context)
        return flag if value is None else value

    option = click.option(
        "--study",
        "study_flag",
        metavar="NAME",
        envvar="SEARCH_STUDY",
        show_envvar=True,
        callback=either,
        is_eager=True,
        expose_value=False,
        shell_complete=study_names,
        help=f"The study.  [default: {default}]",
    )
    argument = click.argument(
        "study", required=False, metavar="[STUDY]", callback=either, shell_complete=study_names
    )
    return option(argument(command))


def study(command: Callable[..., Any]) -> Callable[..., Any]:
    """The study; without a name the newest of the store."""
    return _study(command, "the newest")


def study_or_all(command: Callable[..., Any]) -> Callable[..., Any]:
    """The study; without a name all of the store."""
    return _study(command, "all of the store")


def study_or_unfinished(command: Callable[..., Any]) -> Callable[..., Any]:
    """The study; without a name the newest, and of a worker that follows whatever is to be done."""
    return _study(command, "the newest; with --follow the newest that is not done")
