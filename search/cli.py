"""The command line: the group, its errors and exit codes, and the commands that do something.

Commands that only look are in `search/commands/status.py`. Heavy imports stay inside the commands:
`search --help` must answer at once, and never loads torch.
"""

import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from search import settings
from search.commands import (
    explain,
    inspect,
    maintenance,
    options,
    services,
    status,
)
from search.commands import (
    space as space_commands,
)
from search.commands import (
    training as training_commands,
)
from space import errors

EXIT_CODES = """
Exit codes: 0 done; 1 error; 2 usage: a flag or file is wrong; 3 ended with no candidate in the budget;
4 ended short of the trials asked for; 5 environment: database, GPU or data; 6 verification failed;
130 Ctrl-C; 143 SIGTERM.
"""

CODES = {
    errors.UsageError: 2,
    errors.NothingFitsError: 3,
    errors.ExhaustedError: 4,
    errors.EnvironmentProblem: 5,
    errors.VerificationError: 6,
}


def code_of(error: errors.ParsimonyError) -> int:
    """The exit code of a branch of the error tree."""
    return next((code for branch, code in CODES.items() if isinstance(error, branch)), 1)


def main() -> NoReturn:
    """Runs a command; turns whatever goes wrong into one line on stderr and an exit code."""
    try:
        result = cli.main(standalone_mode=False)
        sys.exit(result if isinstance(result, int) else 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except errors.ParsimonyError as error:
        _fail(str(error), code_of(error))
    except BrokenPipeError:
        sys.stderr.close()  # the reader has gone, as `| head` does
        sys.exit(0)
    except Exception as error:
        if type(error).__module__.startswith("sqlalchemy.") or type(error).__name__ == "StorageInternalError":
            _fail(f"database: {str(error).splitlines()[0]}", 5)
        if isinstance(error, OSError):
            _fail(str(error), 1)
        raise


def _fail(message: str, code: int) -> NoReturn:
    click.echo(f"search: {message}", err=True)
    sys.exit(code)


@click.group(
    epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(package_name="parsimony", prog_name="search")
def cli() -> None:
    """Find the most accurate residual network that fits a hard budget of parameters."""


@cli.command()
@click.option("--trials", type=click.IntRange(1), required=True, envvar="SEARCH_TRIALS", show_envvar=True,
              help="Networks to train, to the end or until pruned; nothing else counts.")  # fmt: skip
@click.option(
    "--study",
    type=settings.StudyName(),
    metavar="NAME",
    help="Name of the study; goes on with it if it exists.",
)
@options.storage
@options.data_dir
@click.option("--data", envvar="SEARCH_DATA", show_envvar=True, metavar="SPEC",
              help="cifar10, digits or folder:PATH.  [default: cifar10]")  # fmt: skip
@click.option(
    "--image-size", type=click.IntRange(4, 512), metavar="PIXELS", help="Side that images are scaled to."
)
@click.option("--train-images", type=settings.Count(), metavar="N", help="Train on so many images only.")
@click.option(
    "--max-params",
    "max_parameters",
    type=settings.Count(),
    metavar="N",
    help="Hard limit of trainable parameters.  [default: 5_000_000]",
)
@click.option(
    "--max-macs",
    type=settings.Count(),
    metavar="N",
    help="Hard limit of multiply-accumulates of one image.  [default: none]",
)
@click.option(
    "--epochs", type=click.IntRange(1), help="Epochs of the brief training.  [default: by data set]"
)
@click.option("--recipe", type=click.Path(path_type=Path), metavar="FILE", help="How to train, TOML or JSON.")
@click.option(
    "--space",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The search space, TOML or JSON.  [default: space/default.toml]",
)
@click.option("--start-from", multiple=True, metavar="published|FILE|STUDY:TRIAL",
              help="Known networks to try first; may be given again.")  # fmt: skip
@click.option("--sampler", type=click.Choice(["tpe", "gp", "random"]), help="Who proposes.  [default: tpe]")
@click.option("--sampling", type=click.Choice(["fit", "reject"]),
              help="Solve widths to fit, or draw them and prune what exceeds.  [default: fit]")  # fmt: skip
@click.option(
    "--pruner",
    type=click.Choice(["median", "hyperband", "asha", "none"]),
    help="Who stops the hopeless.  [default: median]",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    help="Of split, sampler and trainings.  [default: 0]",
)
@click.option(
    "--workers",
    default="auto",
    show_default=True,
    envvar="SEARCH_WORKERS",
    show_envvar=True,
    help="Worker processes: auto is one a core, or as many a GPU as pay, which is measured; 0: others do it.",
)
@click.option(
    "--gpus",
    default="all",
    show_default=True,
    envvar="SEARCH_GPUS",
    show_envvar=True,
    help="0,1 or all or none.",
)
@click.option("--timeout", type=settings.Duration(), metavar="TIME", help="End after 90s, 15m, 2h...")
@click.option(
    "--max-gpu-hours",
    type=click.FloatRange(0, min_open=True),
    help="End when the workers here have used so many hours of their devices.",
)
@options.lease
@options.stall
@options.patience
@options.trial_timeout
@options.trial_memory
@options.grace
@options.keep_weights
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE", help="Export the best network here at the end."
)
@click.option(
    "--report", type=click.Path(path_type=Path), metavar="FILE", help="Write an HTML report here at the end."
)
@click.option("--dry-run", is_flag=True, help="Check all and show the plan; start and store nothing.")
def launch(
    workers: str, gpus: str, out: Path | None, report: Path | None, dry_run: bool, **given: Any
) -> int:
    """Search: sample, train and prune networks until the trials asked for are done."""
    from search.commands import launch_session
    from search.launcher.prepare import Flags

    return launch_session.launch(Flags(**given), workers, gpus, out, report, dry_run)


@cli.command()
@options.study
@options.storage
@options.data_dir
@click.option(
    "--data",
    envvar="SEARCH_DATA",
    show_envvar=True,
    metavar="SPEC",
    help="Where the study's images lie on this machine, if elsewhere.",
)
@options.lease
@options.stall
@options.patience
@options.trial_timeout
@options.trial_memory
@options.grace
@options.keep_weights
@click.option("--name", metavar="NAME", help="Of this worker.  [default: host and process]")
@click.option(
    "--follow", is_flag=True, help="Wait for studies and work on one after another, until told to end."
)
@click.option("--parent", type=int, hidden=True, help="The launcher that started it: end when it does.")
@click.option(
    "--make-room", is_flag=True, hidden=True, help="End where memory is short beside other workers."
)
def worker(study: str | None, follow: bool, parent: int | None, **given: Any) -> int:
    """Work on a study that was launched, here or on another machine."""
    from search.worker import worker as workers
    from search.worker.context import Assignment

    if parent is None:  # a launcher knows its workers by the names it gave them
        given["name"] = "-".join(filter(None, (given["name"], workers.unique_name())))
    return workers.main(Assignment(**given), study, follow, parent)


@cli.command()
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
    from search.study import export as study_export
    from search.worker import context
    from storage import trainings

    with status.opened(storage, study) as view:
        candidate = view.candidate()
        confirmed = study_export.confirmation(trainings.of_study(view.engine, view.record.name), candidate)
        document = study_export.export(view.record, view.plan, candidate, view.trained, confirmed)
        kept = context.shelves(data_dir) / context.identity(storage, view.record)
    if weights:
        study_export.copy_weights(kept, candidate.number, weights)
        click.echo(f"wrote {weights}", err=True)
    study_export.write(document.model_dump_json(indent=1) + "\n", out)
    click.echo(
        f"wrote {out}: {document.parameters:,} parameters, fingerprint {document.fingerprint}", err=True
    )
    brief = f"brief score only: `search confirm {document.origin.study}` trains the best to the end"
    click.echo(confirmed or brief, err=True)


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@options.format_
def verify(file: Path, form: str) -> None:
    """Rebuild the network of an exported FILE: schema, count, budget, fingerprint, forward pass."""
    from search.study import export as study_export

    _, checks = study_export.verify(file)
    if form == "table":
        for line in checks:
            click.echo(f"ok  {line}")
        return
    status.emit([dict(zip(("check", "found"), line.split(": ", 1), strict=True)) for line in checks], form)


@cli.command()
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
    from search.study import export as study_export
    from search.study import report as study_report

    with status.opened(storage, study, whole=True) as view:
        page = study_report.page(view.record, view.plan, view.rows(), view.epochs())
    study_export.write(page, out)
    click.echo(f"wrote {out}", err=True)


@cli.command()
@options.storage
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=8080, show_default=True, help="0 takes a free one."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--allow-remote", is_flag=True, help="Let --host be an address that others reach: there is no login."
)
def dashboard(storage: str, port: int, host: str, allow_remote: bool) -> None:
    """Serve optuna-dashboard for the store, on this machine alone."""
    from search.optuna_adapter import dashboard as boards

    boards.serve(storage, host, port, allow_remote, lambda at: click.echo(f"dashboard at {at}", err=True))


for command in (
    *(status.status, status.list_, status.trials, status.best),
    *(inspect.show, explain.explain, inspect.published, inspect.recipe),
    *(services.stop, services.pause, services.resume, services.ps),
    *(
        training_commands.train,
        training_commands.confirm,
        training_commands.trainings,
        training_commands.predict,
    ),
    *(space_commands.space, maintenance.db, maintenance.replay, maintenance.gc),
):
    cli.add_command(command)
