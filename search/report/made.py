"""How a study was made: what was asked for, on which images, by which recipe, with which versions.

Reads the report's data; returns HTML. Called by search/report/page.py.
"""

import json
import shlex
from html import escape
from typing import Any

from search.report.data import ReportData, ended
from search.report.parts import facts, section
from search.study import finish_plan
from search.study.config import DataConfig
from search.study.finish_plan import FinishPlan, duration
from search.study.score import WORDS
from search.study.text import counted
from search.study.versions import HOST
from storage.row_types import Candidate, RungTraining
from trainer.data.images import FITTED
from trainer.recipe import augmentations
from trainer.recipe.document import Recipe


def made(data: ReportData) -> str:
    """The section."""
    tables = {
        "The search": _search(data),
        "Images": _images(data.config.data),
        "Training": _recipe(data.config.recipe),
        "Versions": {name: str(value) for name, value in data.record.versions.items() if name != HOST},
    }
    said = [f"<h3>{name}</h3>{facts(rows)}" for name, rows in tables.items() if rows]
    documents = {
        "The search space in full": data.config.space.model_dump(mode="json", exclude_defaults=True),
        "The recipe in full": data.config.recipe.model_dump(mode="json"),
    }
    said += [_document(name, document) for name, document in documents.items()]
    return section("made", "How it was made", said)


def _search(data: ReportData) -> dict[str, str]:
    record, config = data.record, data.config
    every: list[Candidate | RungTraining] = [*data.rows, *data.trainings]
    devices = sorted({one.device for one in every if one.device})
    workers = {one.worker for one in every if one.worker}
    plan = FinishPlan.from_record(record.finish)
    return {
        "study": record.name,
        "begun": f"{record.created_at:%Y-%m-%d %H:%M} UTC",
        "launched on": str(record.versions.get(HOST, "")),
        "trials asked for": _asked_for(record.trials, plan),
        "budget": str(config.budget),
        "sampler": f"{config.sampler}, seed {config.seed}"
        + (", widths as drawn (--sampling reject)" if config.sampling == "reject" else ""),
        "pruner": config.pruner,
        "maximised": f"{config.own_score or WORDS[config.score]} of validation images",
        "second stage": _second_stage(plan) if plan else "none",
        "time": _time(data),
        "devices": ", ".join(devices[:8]) + (", ..." if len(devices) > 8 else ""),
        "workers": f"{len(workers):,}" if workers else "",
        "go on with": f"search launch {shlex.quote(record.name)} --trials {record.trials + 100}",
    }


def _time(data: ReportData) -> str:
    """From the first proposal to the last end, and what devices were busy for; with the second stage."""
    ends = [*map(ended, data.rows), *(one.finished_at for one in data.trainings if one.finished_at)]
    wall = (max(ends, default=data.began) - data.began).total_seconds()
    later = sum(one.seconds or 0.0 for one in data.trainings)
    spent = sum(data.seconds.values()) + later
    said = f"{duration(wall)} from the first proposal to the last end, {duration(spent)} of device time"
    return f"{said}, {duration(later)} of it in the second stage" if later else said


def _asked_for(trials: int, plan: FinishPlan | None) -> str:
    closed = finish_plan.describe_closing(plan, trials) if plan else ""
    return f"{plan.closed_from:,}; {closed}" if plan and closed else f"{trials:,}"


def _second_stage(plan: FinishPlan) -> str:
    said = finish_plan.describe(plan)
    if plan.wanted:
        said += f"; shortened to the time there was, from: {finish_plan.describe(plan.wanted)}"
    return said


def _images(data: DataConfig) -> dict[str, str]:
    split = f"{100 * data.validation_share:.0f}% split off by seed {data.split_seed}"
    is_folder = data.spec.startswith("folder:")
    return {
        "data": f"{data.name} (--data {data.spec})",
        "size": f"{data.image_size}×{data.image_size} pixels"
        + (f"; pictures that are not square {FITTED[data.fit]} (--fit {data.fit})" if is_folder else ""),
        "damaged pictures": "left out (--skip-damaged)" if data.skip_damaged else "",
        "training images": f"{data.train_images:,}" + (f" (at most {data.limit:,})" if data.limit else ""),
        "validation images": f"{data.validation_images:,}, {data.own_part or split}",
        "test images": "sealed; read by full trainings and finals alone, once each",
        "digest of the images": data.digest[:16],
        "digest of the split": data.split_digest[:16],
    }


def _recipe(recipe: Recipe) -> dict[str, str]:
    weighed = ", class weights balanced" if recipe.class_weights != "none" else ""
    return {
        "length": f"{counted(recipe.epochs, 'epoch')}, batch {recipe.batch_size}",
        "optimizer": f"{recipe.optimizer}, learning rate {recipe.learning_rate:g},"
        f" {recipe.planned.name.replace('_', '-')}{weighed}",
        "augmentation": augmentations.described(recipe),
    }


def _document(name: str, document: dict[str, Any]) -> str:
    text = escape(json.dumps(document, indent=1))
    return f"<details><summary>{name}</summary><pre>{text}</pre></details>"
