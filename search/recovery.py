"""Takes back what dead workers held, for whoever looks at a study. Loads Optuna only where one did."""

from sqlalchemy import Engine

from storage import leases
from storage.studies import Study


def recover(engine: Engine, url: str, record: Study) -> int:
    """Returns how many trials were found lost and are to be run again."""
    lost = leases.reap(engine, record.id)
    if lost:
        from search import study
        from search.plan import Plan

        study.quiet()
        with study.opened(url, record.name, Plan.of(record.settings)) as opened:
            study.recover(opened, lost)
    return len(lost)
