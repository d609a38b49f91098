"""The commands export, verify and report: a network or a whole study as a file.

export reads a study and writes one JSON document and, if asked, the kept weights, or a file of another
form, which search/formats/ makes; verify reads such a file; report writes an HTML page, or serves it.
search/cli.py adds them; the documents are made in search/study/, the page in search/report/.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from search import settings
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
              help="Weights to take: a file, or the folder of search train.  [default: of its longest full"
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
    from search.study import export as study_export, files, full_training, standing
    from storage import trainings

    with reader.open_study(storage, study) as view:
        candidate = view.candidate()
        rows = trainings.of_study(view.engine, view.record.name)
        second = view.second_stage()
        confirmed = study_export.confirmation(rows, candidate, view.record, view.config, second)
        baselines = view.baselines()
        document = study_export.export(
            view.record, view.config, candidate, view.trained, confirmed, baselines
        )
        mine = full_training.of_network(rows, candidate, view.record, view.config)
        kept = files.study_folders(data_dir, storage, view.record).kept
    if weights:
        what = study_export.copy_weights(kept, candidate.number, weights)
        click.echo(f"wrote {weights}: {what}", err=True)
    if form == "json":
        _write_document(document, out or Path("best.json"))
    else:
        _write_network(form, out, document, candidate, mine, kept, source, data_dir, data)
    if line := standing.describe(
        baselines, confirmed=bool(second and second.winner), score=view.config.score
    ):
        click.echo(line, err=True)
    study_name = document.origin.study
    brief = f"brief score only: `search confirm {shlex.quote(study_name)}` trains the best to the end"
    if second and not second.is_over:
        brief = f"brief score only: the second stage of {study_name} is not over"
    output.tell(str(confirmed or brief), err=True)


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
    trainings: "Sequence[Finished]",
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
        chosen = choice.given(source, document.data)
    else:
        chosen = choice.choose(
            document.origin.study, candidate, trainings, files.StudyFiles(kept, 0), document.data
        )
    images = open_images(document.data, data_dir, data)
    if images.note:
        click.echo(images.note, err=True)
    if source:
        choice.require_classes(chosen.path, images.dataset.classes, document.data.name)
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
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE",
              help="The page to write.  [default: report.html]")  # fmt: skip
@click.option(
    "--serve",
    is_flag=True,
    help="Serve the page, as new as the study, instead of writing it; without a name the newest study's.",
)
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
    """Serves until Ctrl-C, without a name whichever study is the newest. The study is looked for first: a
    mistake is said here and not in a browser."""
    from search.optuna_adapter import differing, stored
    from search.report.serve import LivePage, serve
    from search.study import web_address
    from search.study.follower import StudyFollower

    follower = StudyFollower(storage, study, goes_on=True)
    with follower.look():
        pass

    def ready(address: str) -> None:
        click.echo(f"{follower.name} at {address}, until Ctrl-C", err=True)
        if not web_address.is_loopback(host):
            click.echo("whoever reaches that address reads the page; there is no login", err=True)

    try:
        live = LivePage(follower, lambda engine, name: name in stored.names(engine), differing.count)
        serve(live, host, port, ready)
    finally:
        follower.close()
