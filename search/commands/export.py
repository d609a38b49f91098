"""The commands export, verify and report: a network or a whole study as a file.

export reads a study and writes one JSON document and, if asked, the kept weights; verify reads such a
document; report writes an HTML page, or serves it. search/cli.py adds them; the documents are made in
search/study/, the page in search/report/.
"""

from pathlib import Path

import click

from search import settings
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
        study_export.copy_weights(kept, candidate.number, weights)
        click.echo(f"wrote {weights}", err=True)
    write_whole(document.model_dump_json(indent=1) + "\n", out)
    click.echo(
        f"wrote {out}: {document.parameters:,} parameters, fingerprint {document.fingerprint}", err=True
    )
    if line := standing.describe(baselines, confirmed=bool(second and second.winner)):
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
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE",
              help="The page to write.  [default: report.html]")  # fmt: skip
@click.option("--serve", is_flag=True, help="Serve the page, as new as the study, instead of writing it.")
@click.option("--port", type=click.IntRange(0, 65_535), metavar="N",
              help=f"Of --serve; 0 takes a free one.  [default: {settings.REPORT_PORT}]")  # fmt: skip
@click.option("--host", metavar="ADDRESS",
              help="Of --serve: whoever reaches this address reads the page; there is no login."
              "  [default: 127.0.0.1, this machine alone]")  # fmt: skip
def report(
    study: str | None, storage: str, out: Path | None, serve: bool, port: int | None, host: str | None
) -> None:
    """Write a study as one HTML page to show around, or serve it while it runs."""
    if serve:
        if out is not None:
            raise click.UsageError("--serve and --out: one of the two")
        _serve(study, storage, host or "127.0.0.1", settings.REPORT_PORT if port is None else port)
        return
    if port is not None or host is not None:
        raise click.UsageError("--port and --host are of --serve")
    from search.optuna_adapter import differing
    from search.report import page as report_page
    from space.files import write_whole

    target = out or Path("report.html")
    with reader.open_study(storage, study, whole=True) as view:
        page = report_page.of_study(view.engine, view.record, differing.count(view.engine, view.record.name))
    write_whole(page, target)
    click.echo(f"wrote {target}", err=True)


def _serve(study: str | None, storage: str, host: str, port: int) -> None:
    """Serves until Ctrl-C. The study is looked for first: a mistake is said here and not in a browser."""
    from search.optuna_adapter import differing, stored
    from search.report.serve import LivePage, is_loopback, serve
    from search.study.follower import StudyFollower

    follower = StudyFollower(storage, study)
    with follower.look():
        pass

    def ready(address: str) -> None:
        click.echo(f"{follower.name} at {address}, until Ctrl-C", err=True)
        if not is_loopback(host):
            click.echo("whoever reaches that address reads the page; there is no login", err=True)

    try:
        live = LivePage(follower, lambda engine, name: name in stored.names(engine), differing.count)
        serve(live, host, port, ready)
    finally:
        follower.close()
