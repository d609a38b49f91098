"""The command `search`: the group of all commands, and which error ends it with which exit code.

Reads argv; writes one line to stderr where something is wrong. Run by `python -m search` and by the installed
script. Heavy imports stay inside functions: `search --help` must answer at once, and never loads torch.
"""

import logging
import os
import sys
from contextlib import suppress
from typing import NoReturn, TextIO

import click

from search.commands import (
    explain,
    export,
    inspect,
    launch,
    maintenance,
    services,
    space as spaces,
    status,
    training,
)
from space import errors

EXIT_CODES = """
Exit codes: 0 done; 1 error; 2 usage: a flag or file is wrong; 3 no network: none fits the budget, or
none is trained yet; 4 ended short of the trials asked for; 5 environment: database, GPU or data;
6 verification failed; 130 Ctrl-C; 143 SIGTERM.
"""


CODES = {
    errors.UsageError: 2,
    errors.NothingFitsError: 3,
    errors.NothingTrainedError: 3,
    errors.ExhaustedError: 4,
    errors.EnvironmentProblem: 5,
    errors.VerificationError: 6,
}


def code_of(error: errors.ParsimonyError) -> int:
    """The exit code of a branch of the error tree."""
    return next((code for branch, code in CODES.items() if isinstance(error, branch)), 1)


def main() -> NoReturn:
    """Runs a command; turns whatever goes wrong into one line on stderr and an exit code."""
    # What is below a warning is for the log of a worker, which configures its own (search/worker/log.py).
    logging.basicConfig(level=logging.WARNING, format="search: %(message)s")
    try:
        result = cli.main(standalone_mode=False)
        sys.stdout.flush()  # here, where a reader that has gone is no error
        sys.exit(result if isinstance(result, int) else 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except errors.ParsimonyError as error:
        _fail(str(error), code_of(error))
    except (ReaderGone, BrokenPipeError):
        _forget(sys.stdout)
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


class ReaderGone(Exception):
    """Whoever read the output has gone, as `| head` does; click would end with code 1 and say nothing."""


def _forget(stream: TextIO) -> None:
    """Lets what is still to be written go nowhere, so that the end of the process does not fail over it."""
    with suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:  # noqa: PTH123
        os.dup2(nowhere.fileno(), stream.fileno())


class Commands(click.Group):
    """The group of all commands."""

    def invoke(self, ctx: click.Context) -> object:
        """Runs the command. Raises ReaderGone in place of an error that click would hide."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise ReaderGone from error


@click.group(
    cls=Commands,
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(package_name="parsimony", prog_name="search")
def cli() -> None:
    """Find the most accurate residual network that fits a hard budget of parameters."""


for command in (
    *(launch.launch, services.worker, export.export, export.verify, export.report, services.dashboard),
    *(status.status, status.list_, status.trials, status.best),
    *(inspect.show, explain.explain, inspect.published, inspect.recipe),
    *(services.stop, services.pause, services.resume, services.ps),
    *(training.train, training.confirm, training.trainings, training.predict),
    *(spaces.space, maintenance.db, maintenance.replay, maintenance.gc),
):
    cli.add_command(command)
