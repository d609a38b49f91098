"""The files of a study that optuna-dashboard offers: its report, and the document of its best network.

Reads the store; returns bytes, which search/optuna_adapter/dashboard.py sends. Called by `search dashboard`.
"""

from sqlalchemy import Engine

from search.optuna_adapter import differing
from search.report import page as report_page
from search.study import export as study_export
from search.study.reader import StudyView
from storage import trainings
from storage.studies import Study


def make(engine: Engine, record: Study, file: str) -> bytes:
    """`report.html`, or `best.json`, as of now. Raises NothingTrainedError for a best that there is not, and
    SQLAlchemy's errors for a database out of reach."""
    if file == "report.html":
        return report_page.of_study(engine, record, differing.count(engine, record.name)).encode()
    view = StudyView(engine, record, None)
    best = view.candidate()
    confirmed = study_export.confirmation(
        trainings.of_study(engine, record.name), best, record, view.config, view.second_stage()
    )
    document = study_export.export(record, view.config, best, view.trained, confirmed, view.baselines())
    return document.model_dump_json(indent=1).encode() + b"\n"
