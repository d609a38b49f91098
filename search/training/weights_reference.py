"""Finds the file of weights that an argument means: a FILE, a training's folder, STUDY:TRIAL or best.json.

Looks at files and, for a trial, into the store and the folder of kept weights; of weights beside a document
it reads whose they are. Called by search/commands/training.py and search/formats/choice.py.
"""

import re
import shlex
from pathlib import Path
from typing import Any

from search.study import files, reader
from space import parser
from space.errors import CheckpointError, ParsimonyError, UsageError

METAVAR = "WEIGHTS|DIR|STUDY:TRIAL|best.json"
ELSEWHERE = (".py", ".onnx", ".pt2")  # forms of search export that are run without this program


def find(reference: str, storage: str, data_dir: Path) -> Path:
    """The file of weights; of a training's folder that of its first seed, of a trial that of the first seed
    of its finals, else of its brief training.

    Raises CheckpointError for a folder or document that has none here, UsageError for a file that is not
    there, and StudyError and StorageError for a trial.
    """
    path = Path(reference)
    if path.is_dir():
        return of_folder(path)
    if path.suffix in ELSEWHERE and path.is_file():
        return _beside_program(path)
    if path.suffix == ".json":
        return _of_export(path, storage, data_dir)
    if path.is_file() or path.suffix == ".safetensors" or len(path.parts) > 1:
        return path
    return _of_trial(reference, storage, data_dir)


def of_folder(folder: Path) -> Path:
    """The weights of the first seed of a training. Raises CheckpointError where it has none."""
    seeds = {int(match[1]): path for path in folder.glob("seed-*.safetensors")
             if (match := re.fullmatch(r"seed-(\d+)", path.stem))}  # fmt: skip
    if not seeds:
        raise CheckpointError(f"{folder} holds no seed-N.safetensors; name the folder of a finished training")
    return seeds[min(seeds)]


def _beside_program(path: Path) -> Path:
    """The weights of a Python file, which lie beside it. Raises CheckpointError for what carries its own."""
    beside = path.with_suffix(".safetensors")
    if path.suffix == ".py" and beside.is_file():
        return beside
    raise CheckpointError(
        f"{path} is run without this program, its model card says how; for search predict name the trial, or"
        " what search export --format safetensors writes"
    )


def _of_export(path: Path, storage: str, data_dir: Path) -> Path:
    beside = path.with_suffix(".safetensors")
    document = parser.read(path, "JSON", CheckpointError)
    origin = document.get("origin") if isinstance(document, dict) else None
    if not isinstance(origin, dict):
        raise CheckpointError(f"{path} is not what search export writes; name a file of weights")
    is_there = beside.is_file()
    if is_there and _is_of(beside, document):
        return beside
    trial = f"{origin.get('study')}:{origin.get('trial')}"
    try:
        return _of_trial(trial, storage, data_dir)
    except ParsimonyError as error:
        why = f"neither {beside} is there nor are those of trial {trial} kept here"
        if is_there:
            why = f"{beside} is of another network and those of trial {trial} are not kept here"
        raise CheckpointError(
            f"{path} has no weights: {why} ({error}); search export --weights writes them"
        ) from error


def _is_of(beside: Path, document: dict[str, Any]) -> bool:
    """Whether a file of weights is of the network of a document: another export may have left it there.

    Raises CheckpointError for weights that cannot be read.
    """
    from trainer import weights  # loads torch

    wanted = document.get("fingerprint")
    return wanted is None or weights.load(beside).architecture.fingerprint == wanted


def of_kept(kept: files.StudyFiles, number: int) -> Path:
    """Where the weights of a trial are, if they are kept: of the first seed of its finals, else the brief
    ones."""
    return next(iter(kept.finals(number)), kept.weights(number))


def _of_trial(reference: str, storage: str, data_dir: Path) -> Path:
    with reader.open_study(storage, reference) as view:
        number = view.candidate().number
        folder = files.study_folders(data_dir, storage, view.record).kept
        name = f"{view.record.name}:{number}"
    path = of_kept(files.StudyFiles(folder, 0), number)
    if not path.is_file():
        raise UsageError(
            f"no weights of trial {name} in {folder}: not one of the best, or trained on another machine;"
            f" `search train {shlex.quote(name)}` makes some"
        )
    return path
