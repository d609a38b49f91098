"""The commands of full training: train, trainings, confirm, predict.

Options in, rows out; the work is in search/training/, which is loaded when a command runs. search/cli.py
adds them.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from search import settings
from search.commands import fields, options, output
from search.study import reader
from search.study.network_reference import METAVAR
from trainer.data.catalogue import FOLDER_NOTE, SPECS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine

    from storage.trainings import Finished


@click.command()
@click.argument("network", metavar=METAVAR)
@click.option(
    "--recipe",
    metavar="FILE|published:NAME",
    help="How to train.  [default: the study's, else by data set]",
)
@click.option(
    "--epochs",
    type=click.IntRange(1, 10_000),
    help="A schedule is stretched to it.  [default: the recipe's, 200]",
)
@click.option("--seeds", type=click.IntRange(1, 100), default=3, show_default=True, help="Trainings to make.")
@click.option(
    "--seed", "first_seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="The first."
)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    help="Folder of weights, figures and checkpoints.  [default: training-NETWORK]")  # fmt: skip
@click.option("--data", envvar="SEARCH_DATA", show_envvar=True, metavar="SPEC",
              help=f"{SPECS}. {FOLDER_NOTE}  [default: the study's, else {settings.DATA}]")  # fmt: skip
@options.fit
@options.skip_damaged
@options.class_weights
@click.option("--train-images", type=options.Count(), metavar="N", help="Train on so many images only.")
@click.option("--device", metavar="NAME", help="cpu, cuda or cuda:N.  [default: the first GPU, else cpu]")
@click.option("--like", metavar="STUDY", help="Recipe, images and validation part are those of this study.")
@click.option("--no-test", is_flag=True, cls=options.RenamedOption, was="--sealed",
              help="Leave the test images sealed: validation figures only.")  # fmt: skip
@click.option("--resume", is_flag=True, help="Go on with the training that is in --out.")
@options.storage
@options.data_dir
@options.format_
def train(form: str, **given: Any) -> int:
    """Train a network to the end with several seeds, then test it once."""
    from search.training import train as training_train

    return training_train.train_network(
        training_train.Flags(**given), lambda rows: _emit_trainings(rows, form, None)
    )


@click.command()
@options.study_or_all
@options.storage
@options.format_
@options.columns
def trainings(study: str | None, storage: str, form: str, columns: tuple[str, ...] | None) -> None:
    """The full trainings of the store, a study or the trial STUDY:137: a row a seed."""
    with reader.open_store(storage) as engine:
        rows = _of_reference(engine, study)
    _emit_trainings(rows, form, columns)


def _of_reference(engine: "Engine", reference: str | None) -> "Sequence[Finished]":
    """Those of a deleted study are found too. Raises StudyError where there is none, and no such study or
    trial either."""
    from storage import candidates, studies, trainings as stored

    name, number = reader.split_reference(reference)
    if name is None and number is not None:
        name = studies.find(engine).name
    rows = stored.of_study(engine, name, number)
    if name is not None and not rows:
        record = studies.find(engine, name)
        if number is not None:
            candidates.find(engine, record.id, number)
    return rows


TABLE = ("network", "seed", "data", "epochs", "validation_accuracy", "test_accuracy", "parameters", "seconds",
         "folder")  # fmt: skip


def _emit_trainings(rows: "Sequence[Finished]", form: str, columns: "Sequence[str] | None") -> None:
    found = [
        {
            "network": row.subject,
            "study": row.study,
            "trial": row.trial,
            "seed": row.seed,
            "data": row.data["name"],
            "epochs": row.epochs,
            "validation_accuracy": row.accuracy,
            "best_accuracy": row.best_accuracy,
            "best_epoch": row.best_epoch,
            "loss": row.loss,
            "test_accuracy": row.test_accuracy,
            "test_loss": row.test_loss,
            "test_images": row.test_images,
            "parameters": row.parameters,
            "macs": row.macs,
            "fingerprint": row.fingerprint,
            "seconds": row.seconds,
            "device": row.device,
            "finished": row.finished_at,
            "folder": row.folder,
        }
        for row in rows
    ]
    drop = ("folder", "data", "seconds", "parameters")
    output.emit(found, form, fields.TRAININGS, columns=columns, table=TABLE, drop=drop, cut=("network",))


@click.command()
@click.argument("weights", metavar="WEIGHTS|DIR|STUDY:TRIAL|best.json")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="IMAGE|DIR...")
@click.option("--top", type=click.IntRange(1), default=1, show_default=True, help="Classes to name for each.")
@options.storage
@options.data_dir
@options.format_
def predict(weights: str, images: tuple[Path, ...], top: int, storage: str, data_dir: Path, form: str) -> int:
    """Classify pictures, or all of a folder, with weights that search train or a search have left.

    Weights are a file, the folder of a training (its first seed), a trial whose weights are kept, or what
    search export wrote. Of a folder of class folders the accuracy is said.
    """
    from search.study.text import percent
    from search.training import predict as training_predict, weights_reference

    held = weights_reference.find(weights, storage, data_dir)
    found = training_predict.classify(held.path, images, top)
    rows = found.rows
    if form == "table":
        rows = [{**row, "probability": percent(row["probability"])} for row in rows]
    if rows or form != "table":
        output.emit(rows, form, fields.PREDICT)
    for line in found.failures:
        click.echo(f"search: {line}", err=True)
    if found.accuracy:
        click.echo(found.accuracy, err=True)
    if held.path != Path(weights) and held.path.parent != Path(weights):  # what was named does not say which
        click.echo(f"weights: {held.path}" + (f" ({held.note})" if held.note else ""), err=True)
    return 5 if found.failures else 0


@click.command()
@options.study
@options.storage
@options.data_dir
@click.option("--top", type=click.IntRange(1), default=5, show_default=True, metavar="K",
              help="So many of the best.")  # fmt: skip
@click.option("--seeds", type=click.IntRange(1, 100), default=3, show_default=True, help="Trainings of each.")
@click.option("--epochs", type=click.IntRange(1, 10_000), default=200, show_default=True, help="Of each.")
@click.option(
    "--rank-sample", type=click.IntRange(0), default=12, show_default=True, metavar="N",
    cls=options.RenamedOption, was="--dozen",
    help="Networks, best to worst, on which brief and full scores are compared; 0: do not.")  # fmt: skip
@click.option("--also", multiple=True, metavar="FILE|published:NAME", cls=options.RenamedOption,
              was="--beside", help="Train this one too, for scale.")  # fmt: skip
@click.option("--baseline/--no-baseline", default=True, show_default=True,
              help="Train the study's best baseline too, whatever its rank.")  # fmt: skip
@options.elsewhere
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
              help="Folder for all; what is done is not done again.  [default: confirm-STUDY]")  # fmt: skip
@click.option(
    "--workers", default="auto", show_default=True, help="At a time: auto is one a GPU, else one a core."
)
@click.option("--gpus", default="all", show_default=True, help="0,1 or UUIDs, all or none.")
@options.format_
def confirm(form: str, **given: Any) -> int:
    """Train the best of a study to the end, rank them by their mean, and open the test set once for each."""
    from search.training import confirm as training_confirm, contenders

    given["workers"] = options.worker_count(given["workers"])
    return training_confirm.confirm(contenders.Flags(**given), lambda rows: _emit_confirmed(rows, form))


CONFIRM_TABLE = ("rank", "network", "baseline", "brief_score", "full_score", "brief_accuracy",
                 "full_accuracy", "full_interval", "test_accuracy", "test_interval", "parameters",
                 "macs")  # fmt: skip


CONFIRM_DROPPED = ("macs", "parameters", "baseline", "brief_accuracy", "rank")


def _emit_confirmed(rows: "Sequence[dict[str, Any]]", form: str) -> None:
    """The networks, the best first; in a table two seeds have both values where others have an interval."""
    found = list(rows)
    if form == "table":
        for name in ("full", "test"):
            values = f"{name}_by_seed"
            found = [
                {**row, f"{name}_interval": "{:.2f}, {:.2f}%".format(*(100 * one for one in row[values]))}
                if row[values] and len(row[values]) == 2
                else row
                for row in found
            ]
    seldom = ("baseline", "brief_score", "full_score")
    names = [
        name for name in CONFIRM_TABLE
        if name not in seldom or any(row[name] is not None for row in found)
    ]  # fmt: skip
    output.emit(found, form, fields.CONFIRM, table=names, drop=CONFIRM_DROPPED, cut=("network",))
