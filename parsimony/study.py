"""A study of a store, to be read: its trials as frozen records, its best network, its learning curves.

Opens the store for each question and closes it again; writes nothing. pandas is loaded by frame() alone.
"""

from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parsimony.network import Network
from search import settings
from search.study import files, reader
from space.architecture import Architecture
from space.budget import Budget
from space.errors import EnvironmentProblem, NothingTrainedError
from storage.row_types import Candidate, Epoch

if TYPE_CHECKING:
    import pandas

    from search.study.reader import StudyView


@dataclass(frozen=True)
class Trial:
    """One proposal and what became of it; None for what is not known or does not apply.

    state: completed, pruned, running, over_budget, repeated, lost, out_of_memory, timed_out, diverged, failed
    or cancelled. accuracy: validation accuracy 0..1 after the last epoch. score: what the search maximises,
    0..1, where that is not accuracy. loss: mean cross-entropy in nats. macs: multiply-accumulates of one
    image. depth: stages.
    """

    number: int
    state: str
    accuracy: float | None
    score: float | None
    best_accuracy: float | None
    loss: float | None
    parameters: int
    macs: int
    depth: int
    fingerprint: str
    epochs: int | None
    seconds: float | None
    images_per_second: float | None
    batch_size: int | None
    seed: int
    device: str | None
    baseline: str | None
    reason: str | None
    proposed_at: datetime
    finished_at: datetime | None
    network: Network


@dataclass(frozen=True)
class Study:
    """A study by its name in a store; open_study() and search() make one. repr() leaves the store out, whose
    URL may hold a password."""

    storage: str = field(repr=False)
    name: str
    data_dir: Path

    def trials(self) -> tuple[Trial, ...]:
        """Every proposal, by number. Raises StorageError where the store is out of reach."""
        with reader.open_study(self.storage, self.name, whole=True) as view:
            return tuple(self._trial(view, row) for row in view.rows())

    def best(self) -> Trial:
        """The winner of its finals, else the trial with the best brief score, whose network has its weights
        where this machine keeps them.

        Raises NothingTrainedError where none was trained to the end.
        """
        with reader.open_study(self.storage, self.name, whole=True) as view:
            return self._trial(view, view.candidate())

    def curves(self) -> dict[int, tuple[Epoch, ...]]:
        """The epochs of each trial that has some, by its number.

        Each has epoch (from 1), train_loss and validation_loss (nats), validation_accuracy (0..1),
        learning_rate and seconds.
        """
        with reader.open_study(self.storage, self.name, whole=True) as view:
            epochs = view.epochs()
            return {row.number: tuple(epochs[row.id]) for row in view.rows() if epochs.get(row.id)}

    def frame(self) -> "pandas.DataFrame":
        """The trials as a table, indexed by number; the network is a column of text.

        Raises EnvironmentProblem where pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise EnvironmentProblem("frame() needs pandas: pip install 'parsimony[notebook]'") from error
        rows = [_row(trial) for trial in self.trials()]
        names = [one.name for one in fields(Trial)]
        return pandas.DataFrame(rows, columns=names).set_index("number")

    @property
    def trained(self) -> int:
        """Networks trained to the end, or pruned while training."""
        with reader.open_study(self.storage, self.name, whole=True) as view:
            return view.trained

    @property
    def budget(self) -> Budget:
        """Its limits: max_parameters, and max_macs or None."""
        with reader.open_study(self.storage, self.name, whole=True) as view:
            return view.config.budget

    def _repr_html_(self) -> str:
        """What a notebook shows: its name, how far it is, and the leader."""
        from html import escape

        try:
            best = self.best()
            leader = f"trial {best.number}, {100 * (best.accuracy or 0):.2f}%, {best.network}"
        except NothingTrainedError:
            leader = "nothing was trained to the end yet"
        return f"<b>{escape(self.name)}</b>: {self.trained} trained; {escape(leader)}"

    def _trial(self, view: "StudyView", row: Candidate) -> Trial:
        folder = files.study_folders(self.data_dir, self.storage, view.record).kept
        shelf = files.StudyFiles(folder, 0)
        kept = next(iter(shelf.finals(row.number)), shelf.weights(row.number))
        network = Network(
            f"{self.name}:{row.number}",
            Architecture.parse(row.architecture),
            kept if kept.is_file() else None,
            Budget(view.record.max_parameters, view.record.max_macs),
        )
        names = [one.name for one in fields(Trial) if one.name != "network"]
        values: dict[str, Any] = {name: getattr(row, name) for name in names}
        return Trial(**values | {"state": row.state.value, "network": network})


def _row(trial: Trial) -> dict[str, Any]:
    row = {one.name: getattr(trial, one.name) for one in fields(trial)}
    return row | {"network": str(trial.network)}


def open_study(
    storage: str | None = None, name: str | None = None, data_dir: str | Path | None = None
) -> Study:
    """A study of a store, to be read.

    storage: a URL as --storage takes it (SQLite, PostgreSQL); without one that of SEARCH_STORAGE, or of the
    file that SEARCH_STORAGE_FILE names, or sqlite:///parsimony.db. name: of the study; the newest without
    one. data_dir: where this machine keeps weights.

    Raises StorageError where there is no store, StudyError where there is no study of that name.
    """
    url = storage or settings.storage()
    with reader.open_study(url, name, whole=True) as view:
        return Study(url, view.record.name, folder_of(data_dir))


def folder_of(data_dir: str | Path | None) -> Path:
    """The folder of data and weights: what was given, else what the commands take."""
    return Path(data_dir).expanduser() if data_dir is not None else settings.data_folder()
