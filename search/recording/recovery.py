"""Takes back what dead workers held. Called by the command status, the only one that looks and does so. Loads
Optuna only where one did."""

from sqlalchemy import Engine

from space.errors import AccessError
from storage import database, leases
from storage.studies import Study


def recover(engine: Engine, url: str, record: Study) -> int:
    """Returns how many trials were found lost and are to be run again; 0 for who may only look."""
    try:
        with database.translated(engine):
            lost = leases.reap(engine, record.id)
    except AccessError:
        return 0
    if lost:
        from search.optuna_adapter import study as optuna_study
        from search.recording import reconcile as reconciling
        from search.study.config import StudyConfig

        optuna_study.quiet()
        config = StudyConfig.from_record(record.settings)
        with optuna_study.open_study(url, record.name, config, engine) as opened:
            reconciling.tell_lost(opened, lost)
    return len(lost)
