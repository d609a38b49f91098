"""Takes back what dead workers held, and first takes in what they had trained and this machine still owes.

Called by the commands status, rename and db repair, and where a worker of `search worker --workers N` died.
Reads DATA_DIR/spool, writes the ledger and Optuna's tables. Loads Optuna only where it has something to hear.
"""

from contextlib import suppress
from pathlib import Path

from sqlalchemy import Engine

from search.study import files
from space.errors import AccessError, StudyError
from storage import database, leases
from storage.row_types import Candidate
from storage.studies import Study


def recover(engine: Engine, url: str, record: Study, data_dir: Path) -> int:
    """Returns how many trials were found lost and are to be run again; 0 for who may only look.

    Raises as take_in() does.
    """
    try:
        with database.translated(engine):
            take_in(engine, url, record, data_dir)
            lost = leases.reap(engine, record.id)
    except AccessError:
        return 0
    if lost:
        tell_lost(engine, url, record, lost)
    return len(lost)


def evict(engine: Engine, url: str, record: Study, data_dir: Path, worker: str) -> None:
    """Takes back what a worker held that is known to be dead, once what it had trained is written down.

    Where Optuna's part of the study is gone nobody is told. Raises StudyError where the study is, and
    OUT_OF_REACH's errors.
    """
    with suppress(StudyError):
        take_in(engine, url, record, data_dir)
    lost = leases.evict(engine, record.id, worker)
    if lost:
        with suppress(StudyError):
            tell_lost(engine, url, record, lost)


def take_in(engine: Engine, url: str, record: Study, data_dir: Path) -> None:
    """Writes down what dead workers of this machine had trained while the database was away, as long as it
    counts: once their claims are taken back it is late.

    Raises StudyError where Optuna's part of the study is gone, and OUT_OF_REACH's errors.
    """
    folder = files.study_folders(data_dir, url, record).spool
    if not any(folder.glob("*.json")):
        return
    from search.optuna_adapter import study as optuna_study
    from search.recording import spool
    from search.study.config import StudyConfig

    optuna_study.quiet()
    config = StudyConfig.from_record(record.settings)
    with optuna_study.open_study(url, record.name, config, engine) as opened:
        spool.take_in(folder, opened, engine, record.id)


def tell_lost(engine: Engine, url: str, record: Study, lost: list[Candidate]) -> None:
    """Tells Optuna that these trials ended with their workers. Raises StudyError where its part of the study
    is gone, and OUT_OF_REACH's errors."""
    from search.optuna_adapter import study as optuna_study
    from search.recording import reconcile as reconciling
    from search.study.config import StudyConfig

    optuna_study.quiet()
    config = StudyConfig.from_record(record.settings)
    with optuna_study.open_study(url, record.name, config, engine) as opened:
        reconciling.tell_lost(opened, lost)
