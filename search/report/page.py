"""A study as one self-contained HTML page: the best network, how it was found, what became of the rest.

Reads rows of the ledger; returns text. Called by `search report` and at the end of a launch. Each group of
sections is a module of this folder; here is their order.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from html import escape

from sqlalchemy import Engine

from search.report.choice_plots import choices
from search.report.compute import compute
from search.report.curves import curves
from search.report.data import ReportData
from search.report.fates import fates
from search.report.made import made
from search.report.parts import contents, html, own_script, paragraph
from search.report.progress import progress
from search.report.size import size
from search.report.stages import stages
from search.report.trials import trials
from search.report.winner import winner
from search.study import second_stage
from search.study.config import StudyConfig
from search.study.second_stage import SecondStage
from search.study.text import counts
from storage import candidates, trainings
from storage.row_types import Candidate, Epoch, State
from storage.studies import Study
from storage.trainings import Finished

SECTIONS: tuple[Callable[[ReportData], str], ...] = (
    winner, progress, size, curves, choices, compute, stages, fates, trials, made,
)  # fmt: skip


def of_study(engine: Engine, record: Study, differing: int = 0) -> str:
    """The page of a study, all of which is read from its store. `differing` as for page()."""
    return _page(read(engine, record, differing))


def read(engine: Engine, record: Study, differing: int = 0) -> ReportData:
    """What the page of a study is made from. `differing` as for page(). Raises SQLAlchemy's errors for a
    database out of reach."""
    rows, epochs = candidates.candidates(engine, record.id), candidates.epochs(engine, record.id)
    return ReportData(
        record,
        StudyConfig.from_record(record.settings),
        rows,
        epochs,
        differing,
        second_stage.load(engine, record, rows, epochs),
        trainings.of_study(engine, record.name),
    )


def page(
    record: Study,
    config: StudyConfig,
    rows: Sequence[Candidate],
    epochs: Mapping[int, Sequence[Epoch]],
    differing: int = 0,
    second: SecondStage | None = None,
    full: Sequence[Finished] = (),
) -> str:
    """The page as text. `differing`: trials of which Optuna holds a parameter that is not the network's;
    `second`: halving and finals, where the search has them; `full`: full trainings of its networks."""
    return _page(ReportData(record, config, rows, epochs, differing, second, full))


def _page(data: ReportData) -> str:
    sections = sections_of(data)
    parts = [head(data), contents(sections), *sections, own_script("trials.js")]
    return html(escape(data.record.name), parts)


def sections_of(data: ReportData) -> list[str]:
    """All sections that there is something for, in their order."""
    return [made for make in SECTIONS if (made := make(data))]


def head(data: ReportData) -> str:
    """The name of the study, and in one line what it is."""
    record, config = data.record, data.config
    tally = {state: sum(row.state == state for row in data.rows) for state in State}
    said = (
        f"{record.created_at:%Y-%m-%d %H:%M} UTC · {config.data.name}, {config.data.train_images:,} training"
        f" and {config.data.validation_images:,} validation images · {config.recipe.epochs} epochs ·"
        f" budget {config.budget} · {counts(tally)}"
    )
    return f"<h1>{escape(record.name)}</h1>{paragraph(said, note=True)}"


def name_of(section: str) -> str:
    """The id of a section, to which the contents link."""
    found = re.match(r"<section id=([\w-]+)>", section)
    assert found is not None, section[:80]
    return found[1]
