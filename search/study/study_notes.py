"""What optuna-dashboard shows beside a study and beside each trial, as Markdown.

Reads rows of the ledger; writes nothing. Called by search/optuna_adapter/ledger_view.py.
"""

import re
import shlex

from sqlalchemy import Engine

from search.study import run_state, state_text
from search.study.config import StudyConfig
from search.study.short_form import LEGEND
from search.study.statistics import wilson
from search.study.text import counted, percent
from storage.candidates import Measured
from storage.row_types import TRAINED
from storage.studies import Study
from trainer.recipe import augmentations

SLOW = 1_000  # proposals, of more the dashboard's answers take seconds


def of_study(engine: Engine, record: Study) -> str:
    """Settings, ledger and winner. Raises SQLAlchemy's errors for a database out of reach."""
    config = StudyConfig.from_record(record.settings)
    state = run_state.load(engine, record, has_optuna=True, whole=True)
    stands = [line for line in state_text.lines(engine, state, config) if line != LEGEND]
    name = shlex.quote(record.name)
    proposals = sum(state.tally.values())
    slow = (
        f"optuna-dashboard sends all of the {proposals:,} proposals at once, tens of megabytes: that is why"
        " this page takes its time, and why not every trial has a note. The report takes none."
    )
    lines = [
        "### How it stands",
        *(f"- {_plain(line)}" for line in stands),
        "### How it was made",
        *(f"- {_plain(line)}" for line in _settings(config)),
        "### More",
        f"`search report {name} --serve` shows the search as it goes; `report.html` and `best.json`, among"
        " the artifacts, are made as you open them.",
        *([slow] if proposals > SLOW else ()),
    ]
    return "\n".join(lines)


def _settings(config: StudyConfig) -> list[str]:
    data, recipe = config.data, config.recipe
    return [
        f"{data.name}: {data.train_images:,} training and {data.validation_images:,} validation images of"
        f" {data.image_size}x{data.image_size}",
        f"budget: {config.budget}",
        f"each trial: {counted(recipe.epochs, 'epoch')}, batch {recipe.batch_size}, {recipe.optimizer} at"
        f" {recipe.learning_rate:g}; augmentation: {augmentations.described(recipe)}",
        f"sampler {config.sampler}, pruner {config.pruner}, seed {config.seed}",
    ]


def of_trial(study: str, row: Measured, images: int) -> str:
    """What became of it, and the commands that show, train, export and replay its network."""
    trial = shlex.quote(f"{study}:{row.number}")
    said = str(row.state).replace("_", " ")
    if row.accuracy is not None:
        said += (
            f": {percent(row.accuracy)} of {images:,} validation images, 95% {wilson(row.accuracy, images)}"
        )
    commands = [f"search show {trial}"]
    if row.state in TRAINED:
        commands.append(f"search train {trial}")
    if row.is_completed:
        commands += [f"search export {trial} --out trial-{row.number}.json", f"search replay {trial}"]
    block = "\n".join(commands)
    return f"{said}\n\n```sh\n{block}\n```"


def _plain(text: str) -> str:
    """A text of which nothing is Markdown."""
    return re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", text)
