"""The commands export, verify and report: a network or a whole study as a file.

export reads a study and writes one JSON document and, if asked, the kept weights; verify reads such a
document; report writes an HTML page. search/cli.py adds them; the documents are made in search/study/, the
page in search/report/.
"""

from pathlib import Path

import click

from search.commands import fields, options, output
from search.study import reader


@click.command()
@options.study
@options.storage
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("best.json"),
    show_default=True,
    metavar="FILE",
    help="The file to write, whole or not at all.",
)
@options.data_dir
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write its weights too, as safetensors, if they were kept on this machine.",
)
def export(study: str | None, storage: str, out: Path, data_dir: Path, weights: Path | None) -> None:
    """Write the best network of a study, or the trial STUDY:137, as JSON that anyone can rebuild."""
    from search.study import export as study_export, files, standing
    from space.files import write_whole
    from storage import trainings

    with reader.open_study(storage, study) as view:
        candidate = view.candidate()
        confirmed = study_export.confirmation(trainings.of_study(view.engine, view.record.name), candidate)
        baselines = view.baselines()
        document = study_export.export(
            view.record, view.config, candidate, view.trained, confirmed, baselines
        )
        second = view.second_stage()
        kept = files.kept_folder(data_dir) / files.study_identity(storage, view.record)
    if weights:
        what = study_export.copy_weights(kept, candidate.number, weights)
        click.echo(f"wrote {weights}: {what}", err=True)
    write_whole(document.model_dump_json(indent=1) + "\n", out)
    click.echo(
        f"wrote {out}: {document.parameters:,} parameters, fingerprint {document.fingerprint}", err=True
    )
    if line := standing.describe(
        baselines, confirmed=bool(second and second.winner), score=view.config.score
    ):
        click.echo(line, err=True)
    study_name = document.origin.study
    brief = f"brief score only: `search confirm {study_name}` trains the best to the end"
    if second and not second.is_over:
        brief = f"brief score only: the second stage of {study_name} is not over"
    click.echo(confirmed or brief, err=True)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@options.format_
def verify(file: Path, form: str) -> None:
    """Rebuild the network of an exported FILE: schema, count, budget, fingerprint, forward pass."""
    from search.study import verification

    _, checks = verification.verify(file)
    if form == "table":
        for line in checks:
            click.echo(f"ok  {line}")
        return
    rows = [dict(zip(("check", "found"), line.split(": ", 1), strict=True)) for line in checks]
    output.emit(rows, form, fields.VERIFY)


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
