"""Which weights of a trial are taken along: those of its full training, where this machine has them, else the
brief ones.

Reads rows of full trainings, looks into folders, and reads weights that somebody names. Called by
search/commands/export.py.
"""

import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.formats import carried
from search.formats.carried import Training
from search.study import full_training
from search.study.config import DataConfig
from search.study.files import StudyFiles
from search.training import contenders, weights_reference
from space import parser
from space.errors import UsageError
from space.parser import one_line
from storage.row_types import OF_FINALS, Candidate
from storage.trainings import Finished, by_length
from trainer import weights

SHOWN, LONGEST = 3, 60  # classes that a message names, and its characters for them


@dataclass(frozen=True)
class ChosenWeights:
    """A file of weights, and the training that it comes from."""

    path: Path
    training: Training


def choose(
    study: str, candidate: Candidate, trainings: Sequence[Finished], files: StudyFiles, data: DataConfig
) -> ChosenWeights:
    """Weights of the full training of the network that saw most images, of equals the newest, of those whose
    files are here, of its first seed; else those of the brief training. `trainings` are those of
    full_training.of_network(): on the images of the study, `data`. Those that were validated on others of
    them than the study, as in a study of another --seed, come after all that were not.

    Raises UsageError where there are none, with the command that makes some.
    """
    finals = {row.epochs for row in trainings if row.run.startswith(OF_FINALS)}
    alike = [row for row in trainings if full_training.validated_alike(row.data, data)]
    others = [row for row in trainings if row not in alike]
    for run in by_length(alike) + by_length(others):
        for row in sorted(run, key=lambda row: row.seed):
            path = _of_row(row, candidate.number, files, are_known=len(finals) == 1)
            if _is_file(path) and _is_of_its_run(row, path):
                return ChosenWeights(path, _full(row, is_validated_alike=row in alike))
    brief = files.weights(candidate.number)
    if brief.is_file():
        return ChosenWeights(brief, _brief(candidate))
    trial = f"{study}:{candidate.number}"
    raise UsageError(
        f"no weights of trial {trial} here, in {files.folder} (only the best of a study are kept, where they"
        f" were trained); `search train {shlex.quote(trial)}` trains some"
    )


def given(path: Path, data: DataConfig) -> ChosenWeights:
    """Weights that somebody named: a file, or the folder of a training, of which its first seed is taken.
    `data` are the images of the study.

    Raises CheckpointError where there are none.
    """
    file = weights_reference.of_folder(path) if path.is_dir() else path
    said = weights.load(file).about
    seed, epochs, accuracy = (said.get(name) for name in ("seed", "epochs", "validation_accuracy"))
    row, images = _result_beside(file, said)
    test = _test_of(row)
    return ChosenWeights(
        file,
        Training(
            what=f"a full training of {said['subject']}"
            if "subject" in said
            else f"{file.name}, of which no more is known",
            seed=seed if isinstance(seed, int) else None,
            epochs=epochs if isinstance(epochs, int) else None,
            validation_accuracy=accuracy if isinstance(accuracy, float) else None,
            test_accuracy=test[0] if test else None,
            test_images=test[1] if test else None,
            is_test_known=bool(row) and (test is not None or not row.get("test")),
            is_validated_alike=full_training.validated_alike(images, data),
            train_images=images.get("train_images"),
        ),
    )


def _test_of(row: Mapping[str, Any]) -> tuple[float, int] | None:
    """Accuracy and number of the test images, as a result.json has them; None where it has none."""
    test = row.get("test")
    found = (test.get("accuracy"), test.get("images")) if isinstance(test, dict) else (None, None)
    return (found[0], found[1]) if isinstance(found[0], float) and isinstance(found[1], int) else None


def _result_beside(file: Path, said: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the result.json beside weights has of them, of their seed and of the images of the training; empty
    where it is of others, as their header `said` tells, or there is none."""
    with suppress(UsageError, KeyError, TypeError, ValueError):
        result = contenders.read_result(file.with_name("result.json"))
        for row in result["seeds"]:
            held = {"seed": row["seed"], "epochs": row["validation"]["epochs"],
                    "validation_accuracy": row["validation"]["accuracy"]}  # fmt: skip
            if held.items() <= dict(said).items():
                return dict(row), dict(result["data"])
    return {}, {}


def require_classes(path: Path, classes: Sequence[str], of: str) -> None:
    """Raises UsageError for weights that somebody named and that tell other classes apart than images do,
    CheckpointError for some that cannot be read. `of` names the images."""
    held = weights.load(path).classes
    if held != tuple(classes):
        some = one_line(", ".join(held[:SHOWN]), LONGEST) + ", ..." * (len(held) > SHOWN)
        raise UsageError(f"{path} tells other classes apart than {of}: {some}; name weights of its images")


def _of_row(row: Finished, number: int, files: StudyFiles, *, are_known: bool) -> Path:
    """`are_known`: all finals of the network are of one length, so that an older version's file is of it."""
    if not row.run.startswith(OF_FINALS):
        return Path(row.folder) / f"seed-{row.seed}.safetensors"
    path, older = files.final(number, row.epochs, row.seed), files.older_final(number, row.seed)
    return older if are_known and older.is_file() and not path.is_file() else path


def _is_file(path: Path) -> bool:
    """Whether the file is here; one in a folder that another user closed is not."""
    with suppress(OSError):
        return path.is_file()
    return False


def _is_of_its_run(row: Finished, path: Path) -> bool:
    """Whether the folder of a full training holds that one, and not another that was made there later."""
    try:
        said = parser.read_own(path.with_name("training.json"), UsageError)
    except UsageError:
        return True  # the kept weights of finals, or a folder that does not say
    return not isinstance(said, dict) or said.get("run") == row.run


def _full(row: Finished, *, is_validated_alike: bool) -> Training:
    return Training(
        what=carried.FINALS if row.run.startswith(OF_FINALS) else "a full training",
        seed=row.seed,
        epochs=row.epochs,
        validation_accuracy=row.accuracy,
        test_accuracy=row.test_accuracy,
        test_images=row.test_images,
        is_validated_alike=is_validated_alike,
        train_images=row.data.get("train_images"),
    )


def _brief(candidate: Candidate) -> Training:
    return Training(
        what=carried.BRIEF,
        seed=candidate.seed,
        epochs=candidate.epochs,
        validation_accuracy=candidate.accuracy,
    )
