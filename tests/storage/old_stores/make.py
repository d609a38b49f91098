# ruff: noqa: E402, E501
"""Writes the store of each revision of the tables as it was made at its time: python make.py 0009.

A released one is never written anew: what it holds is what a program of that time has left. Each is a dump of
SQLite with a study, three candidates (the best, a pruned one, one that was lost), their epochs and, from the
revision that has them, a full training and the trainings of the second stage.
"""

import json
import sqlite3
import sys
import tempfile
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, MetaData, Table, create_engine, insert, inspect

sys.path[:0] = [str(Path(__file__).parents[3]), str(Path(__file__).parents[2] / "support")]

from worker_samples import make_config

from space import published
from storage import migrations

HERE = Path(__file__).parent
WHEN = "2026-11-20 12:00:00"


def rows(config: dict[str, object], network: dict[str, object]) -> dict[str, list[dict[str, object]]]:
    """What a program has left, in each table; columns that a revision does not have are left out."""
    study = {"id": 1, "name": "old", "created_at": WHEN, "trials": 3, "max_parameters": 5_000_000, "seed": 0,
             "settings": json.dumps(config), "versions": json.dumps({"python": "3.11"}),
             "standing_order": "run", "claims_made": 3}  # fmt: skip
    common = {"study_id": 1, "architecture": json.dumps(network), "parameters": 1_000, "macs": 2_000,
              "depth": 3, "seed": 7, "attempt": 1, "proposed_at": WHEN, "finished_at": WHEN}  # fmt: skip
    measured = {"loss": 0.5, "epochs": 2, "seconds": 3.5, "images_per_second": 100.0, "device": "cpu",
                "worker": "w", "batch_size": 128}  # fmt: skip
    found = [
        {"id": 1, "number": 0, "state": "completed", "accuracy": 0.75, "best_accuracy": 0.8, "fingerprint": "a",
         "token": 1, "baseline": "[1,1,1] at full budget", **common, **measured},
        {"id": 2, "number": 1, "state": "pruned", "accuracy": 0.25, "best_accuracy": 0.25, "fingerprint": "b",
         "token": 2, **common, **measured},
        {"id": 3, "number": 2, "state": "lost", "reason": "worker w died", "fingerprint": "c", "token": 3, **common},
    ]  # fmt: skip
    epoch = {
        "candidate_id": 1,
        "train_loss": 1.0,
        "validation_loss": 0.5,
        "learning_rate": 0.1,
        "seconds": 1.5,
    }
    epochs = [epoch | {"epoch": n, "validation_accuracy": n * 0.375} for n in (1, 2)]
    training = {"id": 1, "run": "r", "seed": 0, "subject": "old:0", "study": "old", "trial": 0, "fingerprint": "a",
                "parameters": 1_000, "macs": 2_000, "architecture": json.dumps(network), "recipe": "{}",
                "data": "{}", "epochs": 20, "accuracy": 0.9, "best_accuracy": 0.9, "best_epoch": 20, "loss": 0.1,
                "test_accuracy": 0.875, "test_loss": 0.2, "test_images": 359, "seconds": 60.0, "device": "cpu",
                "versions": "{}", "folder": "training", "finished_at": WHEN}  # fmt: skip
    rung = {"id": 1, "study_id": 1, "candidate_id": 1, "stage": "halving", "epochs": 8, "seed": 1, "attempt": 1,
            "state": "completed", "epoch": 8, "accuracy": 0.8, "best_accuracy": 0.8, "loss": 0.3, "seconds": 9.0,
            "images_per_second": 100.0, "device": "cpu", "worker": "w", "entered_at": WHEN,
            "finished_at": WHEN}  # fmt: skip
    return {"search_studies": [study], "search_candidates": found, "search_epochs": epochs,
            "search_trainings": [training], "search_rung_trainings": [rung]}  # fmt: skip


def fill(connection: Connection, revision: str) -> None:
    """Makes the tables of a revision by its migrations, and puts the rows into them."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
    settings = make_config().document()
    settings = {name: value for name, value in settings.items() if name not in ("score", "own_score")}
    network = published.everything()[0].architecture.document()
    there = set(inspect(connection).get_table_names())
    for name, wanted in rows(settings, network).items():
        if name in there:
            table = Table(name, MetaData(), *_columns(connection, name))
            for row in wanted:
                connection.execute(insert(table).values({k: v for k, v in row.items() if k in table.c}))


def _columns(connection: Connection, name: str) -> list:  # type: ignore[type-arg]
    """Its columns without types: values go in as they are."""
    from sqlalchemy import Column

    return [Column(column["name"]) for column in inspect(connection).get_columns(name)]


def main(revision: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "s.db")
        engine = create_engine(f"sqlite:///{file}")
        with engine.begin() as connection:
            fill(connection, revision)
        engine.dispose()
        with sqlite3.connect(file) as dumped:
            (HERE / f"{revision}.sql").write_text("\n".join(dumped.iterdump()) + "\n")


if __name__ == "__main__":
    for wanted in sys.argv[1:]:
        main(wanted)
