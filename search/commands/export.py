"""The commands export, verify and report: a network or a whole study as a file.

export reads a study and writes one JSON document and, if asked, the kept weights, or a file of another
form, which search/formats/ makes; verify reads such a file; report writes an HTML page. search/cli.py adds
them; the documents are made in search/study/, the page in search/report/.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from search.commands import fields, options, output
from search.study import reader

if TYPE_CHECKING:
    from search.study.export import Export
    from storage.row_types import Candidate
    from storage.trainings import Finished


FORMS = ("json", "onnx", "pt2", "python", "safetensors")


@click.command()
@options.study
@options.storage
@click.option("--format", "form", type=click.Choice(FORMS), default="json", show_default=True,
              help="json: the network and its figures. The others hold its weights too, are compared with"
              " the original on images before they are written, and have a model card beside.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE",
              help="The file to write, whole or not at all.  [default: best.json, best.onnx, best.pt2,"
              " best.py or best.safetensors]")  # fmt: skip
@options.data_dir
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write its weights too, as safetensors, if they were kept on this machine.",
)
@click.option("--from", "source", metavar="FILE|DIR", type=click.Path(path_type=Path),
              help="Weights to take: a file, or the folder of search train.  [default: of its newest full"
              " training, else of the brief one]")  # fmt: skip
@options.elsewhere
def export(
    study: str | None,
    storage: str,
    form: str,
    out: Path | None,
    data_dir: Path,
    weights: Path | None,
    source: Path | None,
    data: str | None,
) -> None:
    """Write the best network of a study, or the trial STUDY:137: as JSON that anyone can rebuild, or with its
    weights as a file that is used elsewhere."""
    from search.study import export as study_export, files, standing
    from storage import trainings

    with reader.open_study(storage, study) as view:
        candidate = view.candidate()
        rows = trainings.of_study(view.engine, view.record.name)
        confirmed = study_export.confirmation(rows, candidate)
        baselines = view.baselines()
        document = study_export.export(
            view.record, view.config, candidate, view.trained, confirmed, baselines
        )
        second = view.second_stage()
        kept = files.kept_folder(data_dir) / files.study_identity(storage, view.record)
    if weights:
        what = study_export.copy_weights(kept, candidate.number, weights)
        click.echo(f"wrote {weights}: {what}", err=True)
    if form == "json":
        _write_document(document, out or Path("best.json"))
    else:
        _write_network(form, out, document, candidate, rows, kept, source, data_dir, data)
    if line := standing.describe(
        baselines, confirmed=bool(second and second.winner), score=view.config.score
    ):
        click.echo(line, err=True)
    study_name = document.origin.study
    brief = f"brief score only: `search confirm {study_name}` trains the best to the end"
    if second and not second.is_over:
        brief = f"brief score only: the second stage of {study_name} is not over"
    click.echo(confirmed or brief, err=True)


def _write_document(document: "Export", out: Path) -> None:
    from space.files import write_whole

    write_whole(document.model_dump_json(indent=1) + "\n", out)
    click.echo(
        f"wrote {out}: {document.parameters:,} parameters, fingerprint {document.fingerprint}", err=True
    )


def _write_network(
    form: str,
    out: Path | None,
    document: "Export",
    candidate: "Candidate",
    rows: "Sequence[Finished]",
    kept: Path,
    source: Path | None,
    data_dir: Path,
    data: str | None,
) -> None:
    from search.formats import choice, write
    from search.study import files
    from search.study.config import open_images

    wanted = write.form_of(form)
    path = out or Path(f"best{write.ENDING[wanted]}")
    write.require_name(wanted, path)
    if source:
        chosen = choice.given(source)
    else:
        chosen = choice.choose(document.origin.study, candidate, rows, files.StudyFiles(kept, 0))
    images = open_images(document.data, data_dir, data)
    written = write.write(wanted, path, document, chosen, images)
    names = ", ".join(map(str, written.files))
    click.echo(
        f"wrote {names}: {document.parameters:,} parameters, of {chosen.training.what};"
        f" on {written.images:,} validation images its scores differ from the original's by"
        f" {written.difference:.1g} at most",
        err=True,
    )


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@options.format_
def verify(file: Path, form: str) -> None:
    """Rebuild the network of an exported FILE: schema, count, budget, fingerprint, forward pass.

    Of .onnx, .pt2, .py and .safetensors weights and scores are checked too. Nothing that a stranger may have
    written into a file is run.
    """
    checks = _checks(file)
    if form == "table":
        for line in checks:
            click.echo(f"ok  {line}")
        return
    rows = [dict(zip(("check", "found"), line.split(": ", 1), strict=True)) for line in checks]
    output.emit(rows, form, fields.VERIFY)


def _checks(file: Path) -> list[str]:
    if file.suffix.lower() in (".onnx", ".pt2", ".py", ".safetensors"):
        from search.formats import check

        return check.verify(file)
    from search.study import verification

    return verification.verify(file)[1]


@click.command()
@options.study
@options.storage
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("report.html"),
    show_default=True,
    metavar="FILE",
    help="The page to write.",
)
def report(study: str | None, storage: str, out: Path) -> None:
    """Write a study as one HTML page to show around."""
    from search.optuna_adapter import differing
    from search.report import page as report_page
    from space.files import write_whole

    with reader.open_study(storage, study, whole=True) as view:
        page = report_page.of_study(view.engine, view.record, differing.count(view.engine, view.record.name))
    write_whole(page, out)
    click.echo(f"wrote {out}", err=True)
