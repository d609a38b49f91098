"""The commands export, verify and report: a network or a whole study as a file.

export reads a study and writes one JSON document and, if asked, the kept weights, or a file of another
form, which search/formats/ makes; verify reads such a file; report writes an HTML page, or serves it.
search/cli.py adds them; the documents are made in search/study/, the page in search/report/.
"""

import shlex
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from search import settings
from search.commands import fields, options, output
from search.study import reader

if TYPE_CHECKING:
    from search.formats.choice import ChosenWeights
    from search.study.config import Images
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
    help="Write its weights too, as safetensors, if some are on this machine.",
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
    from search.study import config as study_config, export as study_export, files, full_training, standing
    from storage import trainings

    path = _checked(form, out, weights, source)
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
    images = cache(partial(study_config.open_images, document.data, data_dir, data))
    if weights or form != "json":
        chosen = _choose(document, candidate, mine, kept, source, images)
        if weights:
            _copy_weights(weights, chosen)
        if form != "json":
            _write_network(form, path, document, chosen, images())
    if form == "json":
        _write_document(document, path)
    if line := standing.describe(
        baselines, confirmed=bool(second and second.confirmed), score=view.config.score
    ):
        click.echo(line, err=True)
    study_name = document.origin.study
    brief = f"brief score only: `search confirm {shlex.quote(study_name)}` trains the best to the end"
    owed = f"the second stage of {study_name} is not over" if second and not second.is_over else ""
    if owed:
        brief = f"brief score only: {owed}"
    output.tell(str(confirmed or brief), err=True)
    if confirmed and owed:
        output.tell(f"{owed}, and may find a better one", err=True)


def _checked(form: str, out: Path | None, weights: Path | None, source: Path | None) -> Path:
    """The file to write, once the flags are known to fit together. Raises UsageError where they do not,
    EnvironmentProblem for a place that cannot be written."""
    from search.formats import endings
    from space.errors import UsageError
    from space.files import require_writable

    path = out or Path(f"best{endings.EVERY_ENDING[form]}")
    if form == "json":
        endings.require_json("--out", path, "add --format {form}")
        require_writable(path)
    else:
        from search.formats import write

        write.require_name(write.form_of(form), path)
    if weights:
        endings.require_weights("--weights", weights)
        endings.require_two(("--out", path), ("--weights", weights))
        require_writable(weights)
    elif source and form == "json":
        raise UsageError("--from: a file of format json holds no weights; add --weights FILE or --format")
    return path


def _choose(
    document: "Export",
    candidate: "Candidate",
    trainings: "Sequence[Finished]",
    kept: Path,
    source: Path | None,
    images: "Callable[[], Images]",
) -> "ChosenWeights":
    """The weights of the network: those of `source`, if somebody named some, else what choice.choose() says.

    Raises UsageError for named ones of another network or of other classes than those of `images`, and where
    there are none; CheckpointError for what is no file of weights, DataError for images that are not here.
    """
    from search.formats import choice, write
    from search.study import files

    if source is None:
        return choice.choose(
            document.origin.study, candidate, trainings, files.StudyFiles(kept, 0), document.data
        )
    chosen = choice.given(source, document.data)
    write.load_weights(document, chosen)
    choice.require_classes(chosen.path, images().dataset.classes, document.data.name)
    return chosen


def _copy_weights(out: Path, chosen: "ChosenWeights") -> None:
    """Raises EnvironmentProblem for a file that cannot be read or written."""
    from space.errors import EnvironmentProblem
    from space.files import replace

    try:
        contents = chosen.path.read_bytes()
    except OSError as error:
        raise EnvironmentProblem(f"cannot read {chosen.path}: {error.strerror or error}") from error
    replace(out, contents)
    click.echo(f"wrote {out}: weights of {chosen.training.what}{chosen.training.how}", err=True)


def _write_document(document: "Export", out: Path) -> None:
    from space.files import write_whole

    write_whole(document.model_dump_json(indent=1) + "\n", out)
    click.echo(
        f"wrote {out}: {document.parameters:,} parameters, fingerprint {document.fingerprint}", err=True
    )


def _write_network(
    form: str, path: Path, document: "Export", chosen: "ChosenWeights", images: "Images"
) -> None:
    from search.formats import write

    if images.note:
        click.echo(images.note, err=True)
    written = write.write(write.form_of(form), path, document, chosen, images)
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
    from search.formats import endings
    from search.optuna_adapter import differing
    from search.report import page as report_page
    from space.files import write_whole

    target = out or Path("report.html")
    endings.require_page("--out", target)
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
