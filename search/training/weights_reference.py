"""Finds the file of weights that an argument means: a FILE, a training's folder, STUDY:TRIAL or best.json.

Looks at files and, for a trial, into the store and the folder of kept weights; of weights beside a document
it reads whose they are. Called by search/commands/training.py and search/formats/choice.py.
"""

import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.study import files, network_reference, reader, weights_origin
from space import parser
from space.errors import CheckpointError, ParsimonyError, UsageError

METAVAR = "WEIGHTS|DIR|STUDY:TRIAL|best.json"
ELSEWHERE = (".py", ".onnx", ".pt2")  # forms of search export that are run without this program


@dataclass(frozen=True)
class FoundWeights:
    """A file of weights, and what is to be known of it beside its name, in words; empty for nothing."""

    path: Path
    note: str = ""


def find(reference: str, storage: str, data_dir: Path) -> FoundWeights:
    """The file of weights; of a training's folder that of its first seed, of a trial that of the first seed
    of its finals, else of its brief training; of a document the one that it is of.

    Raises CheckpointError for a folder or document that has none here, UsageError for a file that is not
    there, and StudyError and StorageError for a trial.
    """
    path = Path(reference)
    if not network_reference.can_be_file(reference):
        return FoundWeights(_of_trial(reference, storage, data_dir)[0])
    if path.is_dir():
        return FoundWeights(of_folder(path))
    if path.suffix in ELSEWHERE and path.is_file():
        return FoundWeights(_beside_program(path))
    if path.suffix == ".json":
        return _of_export(path, storage, data_dir)
    if path.is_file() or path.suffix == ".safetensors" or len(path.parts) > 1:
        return FoundWeights(path)
    return FoundWeights(_of_trial(reference, storage, data_dir)[0])


def of_folder(folder: Path) -> Path:
    """The weights of the first seed of a training. Raises CheckpointError where it has none."""
    seeds = _seeds(folder)
    if not seeds:
        raise CheckpointError(f"{folder} holds no seed-N.safetensors; name the folder of a finished training")
    return seeds[0]


def _seeds(folder: Path) -> list[Path]:
    """The weights of a training's folder, by seed."""
    found = {int(match[1]): path for path in folder.glob("seed-*.safetensors")
             if (match := re.fullmatch(r"seed-(\d+)", path.stem))}  # fmt: skip
    return [found[seed] for seed in sorted(found)]


def _beside_program(path: Path) -> Path:
    """The weights of a Python file, which lie beside it. Raises CheckpointError for what carries its own."""
    beside = path.with_suffix(".safetensors")
    if path.suffix == ".py" and beside.is_file():
        return beside
    raise CheckpointError(
        f"{path} is run without this program, its model card says how; for search predict name the trial, or"
        " what search export --format safetensors writes"
    )


@dataclass(frozen=True)
class _Judged:
    """A file of weights beside a document: why it is of another subject or training, in words."""

    path: Path
    other_subject: str | None
    other_training: str | None
    is_silent: bool

    @property
    def note(self) -> str:
        """What is to be known of it where it is taken."""
        if self.other_training:
            return f"{self.other_training}, whose weights are not here"
        return "it does not say on which images it was trained" if self.is_silent else ""


def _judged(path: Path, document: dict[str, Any]) -> _Judged:
    """Reads the weights. Raises CheckpointError for some that cannot be read."""
    from trainer import weights  # loads torch

    held = weights.load(path)
    return _Judged(
        path,
        weights_origin.other_subject(document, held),
        weights_origin.other_training(document, held),
        weights_origin.is_silent(document, held),
    )


def _of_export(path: Path, storage: str, data_dir: Path) -> FoundWeights:
    """Those beside a document, where its full trainings are, or kept of its trial, that are of its network
    and images, and of a training that it states; else of another training of the same.

    Another export may have left some beside it, and another study may have the name of its own.
    """
    document = parser.read(path, "JSON", CheckpointError)
    origin = document.get("origin") if isinstance(document, dict) else None
    if not isinstance(origin, dict):
        raise CheckpointError(f"{path} is not what search export writes; name a file of weights")
    beside, trial = path.with_suffix(".safetensors"), f"{origin.get('study')}:{origin.get('trial')}"
    read, why = list[_Judged](), list[ParsimonyError]()
    for file in _files_of(beside, document, trial, storage, data_dir, why):
        read.append(_judged(file, document))
        if not read[-1].other_subject and not read[-1].other_training:
            break
    fit = [one for one in read if not one.other_subject]
    if not fit:
        raise _no_weights(path, beside, trial, read, why)
    best = min(fit, key=lambda one: one.other_training is not None)
    left = read[0].other_subject or read[0].other_training if read[0].path == beside else None
    passed = f"{beside} is {left}" if best is not read[0] and left else ""
    return FoundWeights(best.path, "; ".join(filter(None, (best.note, passed))))


def _no_weights(
    path: Path, beside: Path, trial: str, read: list[_Judged], why: list[ParsimonyError]
) -> CheckpointError:
    there = f"{beside} is {read[0].other_subject}" if read and read[0].path == beside else ""
    kept = next((one for one in read if one.path != beside), None)
    if kept:
        here = f"those of trial {trial} that are kept here are {kept.other_subject}"
        said = f"{there} and {here}" if there else here
    elif there:
        said = f"{there} and those of trial {trial} are not kept here"
    else:
        said = f"neither {beside} is there nor are those of trial {trial} kept here"
    reason = f" ({why[0]})" if why else ""
    return CheckpointError(f"{path} has no weights: {said}{reason}; search export --weights writes them")


def _files_of(
    beside: Path,
    document: dict[str, Any],
    trial: str,
    storage: str,
    data_dir: Path,
    why: list[ParsimonyError],
) -> Iterator[Path]:
    """Weights that may be those of a document; `why` gets the reason where none of its trial are kept."""
    if beside.is_file():
        yield beside
    yield from _confirmed(document)
    try:
        kept = _of_trial(trial, storage, data_dir)
    except ParsimonyError as error:
        why.append(error)
        return
    yield from kept


def _confirmed(document: dict[str, Any]) -> list[Path]:
    """The weights of the full trainings that a document states, where their folder is on this machine."""
    stated = document.get("confirmation")
    folder = stated.get("folder") if isinstance(stated, dict) else None
    if isinstance(folder, str) and folder:
        with suppress(OSError, ValueError):  # one of another machine, or no name of a folder
            return _seeds(Path(folder))
    return []


def of_kept(kept: files.StudyFiles, number: int) -> Path:
    """Where the weights of a trial are, if they are kept: of the first seed of its finals, else the brief
    ones."""
    return next(iter(kept.finals(number)), kept.weights(number))


def _of_trial(reference: str, storage: str, data_dir: Path) -> list[Path]:
    """The weights that are kept of a trial, those of its finals first. Raises UsageError for none."""
    with reader.open_study(storage, reference) as view:
        number = view.candidate().number
        folder = files.study_folders(data_dir, storage, view.record).kept
        name = f"{view.record.name}:{number}"
    kept = files.StudyFiles(folder, 0)
    found = [path for path in (*kept.finals(number), kept.weights(number)) if path.is_file()]
    if not found:
        raise UsageError(
            f"no weights of trial {name} in {folder}: not one of the best, or trained on another machine;"
            f" `search train {shlex.quote(name)}` makes some"
        )
    return found
