"""A search from Python: `search launch` as a process of its own, waited for, and the study that it leaves.

Writes tensors of the caller's into the folder of data, and has the launch write all else. What the launch
says goes to stderr, line by line, so that a notebook shows it. Ctrl-C, or the interruption of a
notebook's cell, lets running trials finish, as in a shell.
"""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from parsimony import data as own_data, scoring
from parsimony.study import Study, folder_of, open_study
from search import settings
from search.commands.exit_codes import ERROR_CLASS
from search.commands.options import PRINTED_STORAGE, study_name
from space import errors
from space.errors import (
    EnvironmentProblem,
    NothingFitsError,
    ParsimonyError,
    StudyError,
    UsageError,
)
from storage.url import redacted, without_password

# What search/cli.py ends with, as an error where its line names none; 4 is a study that ended short, which is
# returned.
ERRORS: dict[int, type[ParsimonyError]] = {2: UsageError, 3: NothingFitsError, 5: EnvironmentProblem}
SHORT = 4
STOPPED = (130, 143, -signal.SIGINT, -signal.SIGTERM)  # told to end: while it searched, or as it started
SAID = "search: "  # how the line begins that says what was wrong


def search(
    data: Any = settings.DATA,
    trials: int = 200,
    max_params: int = settings.MAX_PARAMETERS,
    *,
    max_macs: int | None = None,
    epochs: int | None = None,
    image_size: int | None = None,
    space: str | Path | None = None,
    recipe: str | Path | None = None,
    score: str | Callable[..., float] | None = None,
    finish: bool = False,
    seed: int | None = None,
    study: str | None = None,
    storage: str | None = None,
    data_dir: str | Path | None = None,
    workers: int | str = "auto",
    gpus: str = "all",
    options: Sequence[str] = (),
    quiet: bool = False,
) -> Study:
    """Searches until `trials` networks were trained, and returns the study; the same name goes on with it.

    data: what --data takes ("digits", "folder:pictures"), a Data, (images, labels) as tensors, or a Dataset.
    max_params: trainable parameters at most; max_macs: multiply-accumulates of an image (None: the default of
    --max-macs). image_size: pixels a side. space, recipe: files; `~` is your home in them.
    score: what networks are chosen by in place of accuracy: a name that --score takes, a function of (scores,
    labels) in a file of its own, or "FILE.py:FUNCTION" (docs/python.md).
    finish: halving and finals follow. storage, data_dir, workers, gpus: as the options of these names.
    options: further words for `search launch`. quiet: its lines are not shown.

    Takes as long as the search. Raises the error that its launch had: UsageError (StudyError for a name) and
    DataError (an EnvironmentProblem) for what is wrong before anything is trained, NothingFitsError where no
    network is that small, EnvironmentProblem for a database, GPU or data that fail. A search that ends short
    of `trials`, or is interrupted, returns its study all the same; of one that fails the error has the name.
    """
    url, folder = storage or settings.storage(), folder_of(data_dir)
    name = _named(study)
    given = own_data.of(data)
    spec = given if isinstance(given, str) else given.store(folder)
    flags = {
        "--trials": trials,
        "--study": name,
        "--data": spec,
        "--data-dir": folder,
        "--max-params": max_params,
        "--max-macs": max_macs,
        "--epochs": epochs,
        "--image-size": image_size,
        "--space": Path(space).expanduser() if space is not None else None,
        "--recipe": Path(recipe).expanduser() if recipe is not None else None,
        "--score": scoring.reference(score) if score is not None else None,
        "--seed": seed,
        "--workers": workers,
        "--gpus": gpus,
    }
    shown = list[str]()
    if storage is not None and redacted(url) == url:  # so that commands which the launch prints name it
        flags["--storage"] = url
    elif storage is not None:  # so that they name it without its password, which stands in no argument
        shown = [PRINTED_STORAGE, without_password(url)]
    words = [word for flag, value in flags.items() if value is not None for word in (flag, str(value))]
    try:
        _launch([*shown, "launch", *words, *(["--finish"] if finish else []), *options], url, quiet)
    except ParsimonyError as error:
        return _left(error, url, name, folder)
    return open_study(url, name, folder)


class _StoppedError(ParsimonyError):
    """The launch was told to end."""


def _left(error: ParsimonyError, url: str, name: str, folder: Path) -> Study:
    """The study of a launch that was told to end. Raises the error of any other, with the name of the study
    that it leaves, if it does."""
    try:
        study = open_study(url, name, folder)
    except (ParsimonyError, SQLAlchemyError):
        raise error from None
    if isinstance(error, _StoppedError):
        return study
    if isinstance(error, UsageError) or name in str(error):
        raise error
    raise type(error)(f"{error}; what was trained is kept, and study={name!r} goes on with it") from None


def _named(study: str | None) -> str:
    """The name as it is stored. Raises StudyError for one that a study cannot have."""
    if study is None:
        return settings.study_name(datetime.now())
    try:
        return study_name(study)
    except ValueError as error:
        raise StudyError(f"study {study!r}: {error}") from None


def _launch(words: Sequence[str], url: str, quiet: bool) -> None:
    """Runs a launch, of the words after `search`, to its end. Raises the error that it ended with."""
    process = subprocess.Popen(
        [sys.executable, "-m", "search", ERROR_CLASS, *words],
        env=settings.child_environment(url, {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,  # what it says there it says on stderr too
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        process_group=0,  # so that an interruption reaches it once, by _lines
    )
    reason, last = "", ""
    kind: type[ParsimonyError] | None = None
    with _ended(process):
        for line in _lines(process):
            shown = line
            if line.startswith(SAID):
                kind, shown = _parted(line)
                reason = shown.removeprefix(SAID).strip()
            last = shown.strip() or last
            if not quiet:
                sys.stderr.write(shown)
        code = process.wait()
    if code in STOPPED:
        raise _StoppedError("the search was told to end before it had a study")
    if code not in (0, SHORT):
        because = f"search launch ended with code {code}" + (f": {last}" if last else "")
        raise (kind or ERRORS.get(code, ParsimonyError))(reason or because)


def _parted(line: str) -> tuple[type[ParsimonyError] | None, str]:
    """The class of error that a line of the launch names, None for none, and the line without it."""
    word, colon, rest = line.removeprefix(SAID).partition(": ")
    kind = getattr(errors, word, None) if colon else None
    if isinstance(kind, type) and issubclass(kind, ParsimonyError):
        return kind, SAID + rest
    return None, line


def _lines(process: "subprocess.Popen[str]") -> Iterator[str]:
    """What it says, to the end; an interruption is passed on, and its last lines are still shown."""
    assert process.stderr is not None
    while True:
        try:
            line = process.stderr.readline()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            continue
        if not line:
            return
        yield line


@contextmanager
def _ended(process: "subprocess.Popen[str]") -> Iterator[None]:
    """Leaves no launch behind, whatever happens here."""
    try:
        yield
    finally:
        if process.poll() is None:
            process.terminate()
        if process.stderr is not None:
            process.stderr.close()  # or its last lines could wait for a reader for ever
        process.wait()
