"""The command `search`: the group of all commands, and which error ends it with which exit code.

Reads argv; writes one line to stderr where something is wrong. Run by `python -m search` and by the installed
script. Heavy imports stay inside functions: `search --help` must answer at once, and never loads torch.
"""

import logging
import sys
from typing import NoReturn

import click

from search.commands import (
    data,
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
    # What is below a warning is for the log of a worker, which configures its own (search/worker/log.py).
    logging.basicConfig(level=logging.WARNING, format="search: %(message)s")
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


for command in (
    *(
        data.data,
        launch.launch,
        services.worker,
        export.export,
        export.verify,
        export.report,
        services.dashboard,
    ),
    *(status.status, status.list_, status.trials, status.best),
    *(inspect.show, explain.explain, inspect.published, inspect.recipe),
    *(services.stop, services.pause, services.resume, services.ps),
    *(training.train, training.confirm, training.trainings, training.predict),
    *(spaces.space, maintenance.db, maintenance.replay, maintenance.gc),
):
    cli.add_command(command)
