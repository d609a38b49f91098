"""Optuna's storage as the dashboard reads it: with what the ledger knows of each trial and of the study.

Adds attributes, notes and links to files as they are read, out of rows of the ledger; writes none of it, so
that a search costs nothing more and nothing in Optuna's tables grows old. Whatever a person writes in the
dashboard is stored, and goes before. Opened by dashboard.py.
"""

import json
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from copy import copy
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import text

from search.optuna_adapter.plain_storage import PlainStorage
from search.study import study_notes
from search.study.config import StudyConfig
from search.study.statistics import wilson
from space.errors import StudyError
from storage import candidates, database, studies
from storage.candidates import Measured
from storage.studies import Study

# The keys of optuna-dashboard 0.21 in a study's system attributes.
NOTE, NOTE_VERSION = "dashboard:note_str:0", "dashboard:note_ver"
TRIAL_NOTE, TRIAL_NOTE_VERSION = "dashboard:{}:note_str:0", "dashboard:{}:note_ver"
ARTIFACT = "artifacts:{}"
OURS = ("dashboard:", "artifacts:")
LONGEST = 2_045  # characters of a note that stand in one attribute
# For each trial the dashboard looks through all attributes of its study, of which a note is two. Of very many
# trials fewer have one, so that trials times notes stay below this: half a second of a processor.
LOOKS = 200_000
FEWEST_NOTES = 50
IDS = text("SELECT number, trial_id FROM trials WHERE study_id = :study")
FILES = {"report.html": "text/html", "best.json": "application/json"}


def artifact_id(study: str, file: str) -> str:
    """What the dashboard calls a file of a study; always the same."""
    return str(uuid5(NAMESPACE_URL, f"parsimony:{study}:{file}"))


class LedgerView(PlainStorage):
    """What is laid over a storage; raises what that raises."""

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Trials with interval, device and images per second."""
        found = super().get_all_trials(study_id, deepcopy, states)
        return self._with_ledger(study_id, found)

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        """The best with the same."""
        (best,) = self._with_ledger(study_id, [super().get_best_trial(study_id)])
        return best

    def get_all_studies(self) -> list[Any]:
        """Studies with their notes and files, which are made where somebody asks for them."""
        found = super().get_all_studies()
        for study in found:
            attributes = Annotated(study.system_attrs, self._maker(study._study_id, study.study_name))
            study.system_attrs = attributes  # type: ignore[assignment]  # read as a mapping
        return found

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """The attributes with notes and files."""
        stored = super().get_study_system_attrs(study_id)
        made = self._maker(study_id, self.get_study_name_from_id(study_id))
        return dict(Annotated(stored, made).items())

    def _record(self, name: str) -> Study | None:
        """The study in the ledger; None for one that was made by others."""
        try:
            return studies.find(self.engine, name)
        except StudyError:
            return None

    def _with_ledger(self, study_id: int, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        record = self._record(self.get_study_name_from_id(study_id))
        if record is None:
            return list(trials)
        images = StudyConfig.from_record(record.settings).data.validation_images
        rows = {row.number: row for row in candidates.measured(self.engine, record.id)}
        return [_with_row(trial, rows.get(trial.number), images) for trial in trials]

    def _ids(self, study_id: int) -> dict[int, int]:
        """Optuna's ids of the trials by their numbers, without reading the trials, which takes seconds."""
        with database.reading(self.engine) as connection:
            return {int(number): int(key) for number, key in connection.execute(IDS, {"study": study_id})}

    def _maker(self, study_id: int, name: str) -> "Callable[[], dict[str, Any]]":
        def make() -> dict[str, Any]:
            record = self._record(name)
            return {} if record is None else self._made(study_id, record)

        return make

    def _made(self, study_id: int, record: Study) -> dict[str, Any]:
        """Notes and files of a study, under the dashboard's keys."""
        rows = candidates.measured(self.engine, record.id)
        ids = self._ids(study_id)
        images = StudyConfig.from_record(record.settings).data.validation_images
        found: dict[str, Any] = {
            NOTE_VERSION: 1,
            NOTE: study_notes.of_study(self.engine, record)[:LONGEST],
        }
        for row in noted(rows):
            if row.number in ids:
                key = ids[row.number]
                found[TRIAL_NOTE_VERSION.format(key)] = 1
                found[TRIAL_NOTE.format(key)] = study_notes.of_trial(record.name, row, images)[:LONGEST]
        has_best = any(row.is_completed for row in rows)
        for file, kind in FILES.items():
            if has_best or file != "best.json":
                here = artifact_id(record.name, file)
                said = {"artifact_id": here, "filename": file, "mimetype": kind, "encoding": None}
                found[ARTIFACT.format(here)] = json.dumps(said)
        return found


def over(kind: type[PlainStorage]) -> type[PlainStorage]:
    """The view over a kind of storage."""
    return type("LedgerStorage", (LedgerView, kind), {})


def noted(rows: Sequence[Measured]) -> list[Measured]:
    """The trials that have a note: all, or of very many the best and the newest, as many of each."""
    most = max(FEWEST_NOTES, LOOKS // max(1, len(rows)))
    if len(rows) <= most:
        return list(rows)
    best = sorted(rows, key=lambda row: (not row.is_completed, -(row.accuracy or 0.0)))[: most // 2]
    newest = sorted(rows, key=lambda row: -row.number)[: most // 2]
    return list({row.number: row for row in [*best, *newest]}.values())


def _with_row(trial: FrozenTrial, row: Measured | None, images: int) -> FrozenTrial:
    """Another trial with what the ledger knows of it; the one that was read may be in a cache."""
    if row is None:
        return trial
    more: dict[str, Any] = {"device": row.device} if row.device else {}
    if row.accuracy is not None:
        more["interval"] = str(wilson(row.accuracy, images))
    if row.images_per_second is not None:
        more["images_per_second"] = round(row.images_per_second, 1)
    other = copy(trial)
    other.user_attrs = more | trial.user_attrs
    return other


class Annotated(Mapping[str, Any]):
    """Attributes as they are stored, and those that are made, which are made once one of them is asked for.

    A note that a person has written hides the one that is made.
    """

    def __init__(self, stored: Mapping[str, Any], make: Callable[[], dict[str, Any]]) -> None:
        self._stored, self._make = stored, make
        self._all: dict[str, Any] | None = None

    def _whole(self) -> dict[str, Any]:
        if self._all is None:
            versions = {key.removesuffix("note_ver") for key in self._stored if key.endswith("note_ver")}
            made = {
                key: value
                for key, value in self._make().items()
                if not (versions and key.rpartition("note_")[0] in versions)
            }
            self._all = {**made, **self._stored}
        return self._all

    def __getitem__(self, key: str) -> Any:
        return self._whole()[key] if key.startswith(OURS) else self._stored[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._whole())

    def __len__(self) -> int:
        return len(self._whole())

    def items(self) -> Any:
        """Those of a dictionary: the dashboard goes through them once for each trial."""
        return self._whole().items()
