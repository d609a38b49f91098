"""The networks that `search confirm` trains to the end: which they are, and what each came to.

Chooses among the rows of a study, reads the networks of --also, and the training.json and result.json of a
training. Called by search/training/confirm.py, its board and its page. Trains nothing.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from search.study import network_reference
from search.study.score import FIELDS, ScoreName
from search.study.statistics import Spread, spread
from space import parser
from space.architecture import Architecture
from space.errors import NothingTrainedError, UsageError
from storage.row_types import Candidate, State

Row = TypeVar("Row")

OF_TRIAL = re.compile(r"trial-\d+")  # a folder of a trial of the study


@dataclass(frozen=True)
class Flags:
    """What `search confirm` was given."""

    study: str | None
    storage: str
    data_dir: Path
    top: int
    seeds: int
    epochs: int
    rank_sample: int
    also: tuple[str, ...]
    data: str | None
    out: Path | None
    workers: int | None
    gpus: str
    baseline: bool = True  # the best of the study's baselines is trained too


@dataclass(frozen=True)
class Contender:
    """A network that is trained to the end. One of the study has its number, its brief score there and its
    multiply-accumulates; of one from outside none of these is known."""

    name: str
    reference: str  # what `search train` is given
    folder: Path
    brief: float | None
    sealed: bool
    seeds: int
    baseline: str | None = None
    number: int | None = None
    macs: int | None = None
    score: ScoreName = "accuracy"  # by which contenders are ranked
    brief_score: float | None = None  # in the study, where that is not accuracy
    asked_for: str | None = None  # how --also named it
    fingerprint: str | None = None

    @property
    def brief_value(self) -> float | None:
        """What contenders are ranked by, in the study."""
        return self.brief if self.brief_score is None else self.brief_score


@dataclass(frozen=True)
class ConfirmedNetwork:
    """A contender whose trainings came to their end; `result` is the document that they left."""

    contender: Contender
    result: dict[str, Any]

    @property
    def validation(self) -> Spread:
        """Accuracy on validation images after the last epoch, over the seeds."""
        return spread([seed["validation"]["accuracy"] for seed in self.result["seeds"]])

    @property
    def scored(self) -> Spread:
        """What contenders are ranked by, on validation images after the last epoch, over the seeds."""
        return spread([seed["validation"][FIELDS[self.contender.score]] for seed in self.result["seeds"]])

    @property
    def test(self) -> Spread | None:
        """The same on test images; None where they were not read, or there are none."""
        tests = [seed["test"]["accuracy"] for seed in self.result["seeds"] if seed["test"]]
        return spread(tests) if tests else None

    @property
    def architecture(self) -> Architecture:
        """The network."""
        return Architecture.parse(self.result["architecture"])


def read(contender: Contender) -> ConfirmedNetwork:
    """What the trainings of a contender came to, from its folder. Raises UsageError as read_result()."""
    return ConfirmedNetwork(contender, read_result(contender.folder / "result.json"))


def read_result(path: Path) -> dict[str, Any]:
    """The result that a full training left. Raises UsageError for what is none."""
    found = parser.read_own(path, UsageError)
    if not (isinstance(found, dict) and isinstance(found.get("seeds"), list)):
        raise UsageError(f"{path} is no result of a training")
    return found


def completed(rows: Sequence[Candidate], name: str) -> list[Candidate]:
    """Trained to the end, the best first. Raises NothingTrainedError where there is none."""
    found = [row for row in rows if row.state == State.COMPLETED and row.accuracy is not None]
    if not found:
        raise NothingTrainedError(f"study {name!r}: nothing was trained to the end yet")
    return sorted(found, key=lambda row: (-(row.value or 0), row.parameters))


def choose(
    flags: Flags, name: str, ranked: Sequence[Candidate], out: Path, score: ScoreName = "accuracy"
) -> list[Contender]:
    """Of the networks of a study, ranked by brief score: the best, among them the best baseline whatever its
    rank, those of --also, and of the rest those at --rank-sample evenly spaced ranks.

    Raises ArchitectureError, StudyError and StorageError for what --also does not find.
    """
    found = _chosen(flags, name, ranked, out)
    if score == "accuracy":
        return [replace(one, brief_score=None) for one in found]
    return [replace(one, score=score) for one in found]


def _chosen(flags: Flags, name: str, ranked: Sequence[Candidate], out: Path) -> list[Contender]:
    top = list(ranked[: flags.top])
    baseline = next((row for row in ranked if row.baseline), None)
    if flags.baseline and baseline and not any(row.baseline for row in top):
        top.append(baseline)
    best = [_of_study(name, row, out, False, flags.seeds) for row in top]
    beside = _beside(flags, name, ranked, out, best)
    named = {one.fingerprint for one in beside}
    rest = [
        row for row in spaced(ranked, flags.rank_sample) if row not in top and row.fingerprint not in named
    ]
    return best + beside + [_of_sample(name, row, out) for row in rest]


def _beside(
    flags: Flags, name: str, ranked: Sequence[Candidate], out: Path, best: Sequence[Contender]
) -> list[Contender]:
    """The networks of --also; one that is among the best, or was named before, is trained once. One that a
    trial of the study has trained to the end is that trial, whatever it was named by.

    Raises ArchitectureError, StudyError and StorageError for what names none.
    """
    found = list[Contender]()
    trials = {row.fingerprint: row for row in reversed(ranked)}
    for reference in flags.also:
        fingerprint = network_reference.resolve(reference, flags.storage).architecture.fingerprint
        if any(one.fingerprint == fingerprint for one in (*best, *found)):
            continue
        begun = _begun(out, reference, fingerprint)
        if row := trials.get(fingerprint):
            trial = replace(_of_study(name, row, out, False, flags.seeds), asked_for=reference)
            found.append(_as_begun(trial, begun, reference) if begun else trial)
            continue
        folder = begun or out / _folder_name(reference, fingerprint, [one.folder.name for one in found])
        found.append(
            Contender(reference, reference, folder, None, False, flags.seeds, fingerprint=fingerprint)
        )
    return found


def _folder_names(reference: str, fingerprint: str) -> tuple[str, str]:
    """By the name of the file, and with eight digits of the fingerprint."""
    name = Path(reference).stem.replace(":", "-")
    return name, f"{name}-{fingerprint[:8]}"


def _folder_name(reference: str, fingerprint: str, taken: Sequence[str]) -> str:
    """The name of the file; the one with digits where others have that, and where a trial of the study
    might."""
    name, with_digits = _folder_names(reference, fingerprint)
    return with_digits if name in taken or OF_TRIAL.fullmatch(name) else name


def _begun(out: Path, reference: str, fingerprint: str) -> Path | None:
    """The folder by the name of a reference that holds a training of its network, None where none does."""
    for name in _folder_names(reference, fingerprint):
        if not OF_TRIAL.fullmatch(name) and _fingerprint_in(out / name) == fingerprint:
            return out / name
    return None


def _fingerprint_in(folder: Path) -> str | None:
    """Of the network that a folder holds a training of; None for none that can be read."""
    with suppress(UsageError):
        if training := _training_in(folder):
            return Architecture.parse(training.get("architecture")).fingerprint
    return None


def _training_in(folder: Path) -> dict[str, Any]:
    """The training that a folder holds, as its training.json says it; empty for none that can be read."""
    with suppress(UsageError):
        found = parser.read_own(folder / "training.json", UsageError)
        if isinstance(found, dict):
            return found
    return {}


def require_length(chosen: Sequence[Contender], epochs: int) -> None:
    """Raises UsageError where a folder of theirs holds a training of another length, which `search train`
    would not go on with."""
    for one in chosen:
        recipe = _training_in(one.folder).get("recipe")
        there = recipe.get("epochs") if isinstance(recipe, dict) else None
        if there not in (None, epochs):
            raise UsageError(
                f"{one.folder} holds trainings of {there} epochs: go on by --epochs {there}, or name another"
                " --out"
            )


def _as_begun(trial: Contender, folder: Path, reference: str) -> Contender:
    """A trial that --also names, in the folder by the reference, where older versions trained it: unless the
    trial's own folder holds as many seeds. What is there is gone on with by the name that it was given."""
    own = trial.folder
    if (own / "training.json").exists() and _seeds_done(own) >= _seeds_done(folder):
        return trial
    return replace(trial, reference=reference, folder=folder)


def _seeds_done(folder: Path) -> int:
    return sum(1 for _ in folder.glob("seed-*.json"))


def spaced(rows: Sequence[Row], count: int) -> list[Row]:
    """So many of them from first to last, at even distances."""
    if count < 2 or len(rows) <= count:
        return list(rows) if count >= 2 else []
    return [rows[round(i * (len(rows) - 1) / (count - 1))] for i in range(count)]


def _of_sample(name: str, row: Candidate, out: Path) -> Contender:
    """One of the rank sample: one seed, or as many as it has from when it was among the best, so that what is
    known of it stays."""
    one = _of_study(name, row, out, True, 1)
    return replace(one, seeds=max(one.seeds, _seeds_done(one.folder)))


def _of_study(name: str, row: Candidate, out: Path, sealed: bool, seeds: int) -> Contender:
    reference = f"{name}:{row.number}"
    folder = out / f"trial-{row.number}"
    return Contender(
        reference, reference, folder, row.accuracy, sealed, seeds, row.baseline, row.number, row.macs,
        brief_score=row.score, fingerprint=row.fingerprint,
    )  # fmt: skip
