"""The command `search`: the group of all commands, and which error ends it with which exit code.

Reads argv; writes one line to stderr where something is wrong. Run by `python -m search` and by the installed
script. Heavy imports stay inside functions: `search --help` must answer at once, and never loads torch.
"""

import logging
import re
import shlex
import sys
import tempfile
import traceback
from typing import NoReturn

import click

from search.commands import (
    care,
    compare,
    data,
    enqueue,
    exit_codes,
    explain,
    export,
    help as helping,
    inspect,
    launch,
    logs,
    maintenance,
    options,
    printed,
    services,
    space as spaces,
    status,
    training,
    watch,
)
from search.study import streams
from space import errors, parser

EXIT_CODES = """
Exit codes: 0 done; 1 error; 2 usage: a flag or file is wrong; 3 no network: none fits the budget, or
none is trained yet; 4 ended short of the trials asked for; 5 environment: database, GPU or data;
6 verification failed; 130 Ctrl-C; 143 SIGTERM.
"""


LONGEST = 300  # characters of what a library has to say
LONG_WORD = re.compile(r"\S{1000,}")  # an argument that nobody has typed: no name, number or usual path


def main() -> NoReturn:
    """Runs a command; turns whatever goes wrong into one line on stderr and an exit code."""
    streams.hold_numbers()
    # What is below a warning is for the log of a worker, which configures its own (search/worker/log.py).
    logging.basicConfig(level=logging.WARNING, format="search: %(message)s")
    try:
        result = cli.main(prog_name="search", standalone_mode=False)
        if sys.stdout:  # None where it was closed before the start
            sys.stdout.flush()  # here, where a reader that has gone is no error
        sys.exit(result if isinstance(result, int) else 0)
    except click.ClickException as error:
        _fail(_usage(error), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except errors.ParsimonyError as error:
        _fail(_said(error), exit_codes.code_of(error))
    except (ReaderGone, BrokenPipeError):
        streams.forget(sys.stdout)
        sys.exit(0)
    except Exception as error:
        if type(error).__module__.startswith("sqlalchemy.") or type(error).__name__ == "StorageInternalError":
            from storage.database import reason

            _fail(f"database: {reason(error)[:LONGEST]}", 5)
        if isinstance(error, OSError):
            _fail(str(error), 1)
        if isinstance(error, RuntimeError) and "home directory" in str(error):  # pathlib's words
            _fail("there is no such home folder: give whole paths (--data-dir DIR, folder:/PATH)", 2)
        if sys.argv[1:2] == ["worker"]:
            raise  # its log is the file
        _fail(_unexpected(error), 1)


def _said(error: errors.ParsimonyError) -> str:
    """What an error says, after its class for a caller that raises it anew (parsimony/searching.py)."""
    return f"{type(error).__name__}: {error}" if sys.argv[1:2] == [exit_codes.ERROR_CLASS] else str(error)


def _usage(error: click.ClickException) -> str:
    """What click complains about in one line, with the command that would have said how."""
    message = " ".join(error.format_message().split())
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"{message} (see `{context.command_path} --help`)" if context else message


def _unexpected(error: Exception) -> str:
    """One line for a fault of this program, and the file that now holds all there is to know of it."""
    from storage.url import redacted

    text = "".join(traceback.format_exception(error))
    what = f"{type(error).__name__}: {parser.one_line(redacted(str(error)), LONGEST)}"
    try:
        with tempfile.NamedTemporaryFile("w", prefix="search-error-", suffix=".txt", delete=False) as file:
            file.write(f"{shlex.join(sys.argv[:2])} ...\n{redacted(text)}")
    except OSError:
        return f"unexpected {what}; this is a fault of the program"
    return f"unexpected {what}; this is a fault of the program, told in {file.name}"


def _fail(message: str, code: int) -> NoReturn:
    shown = LONG_WORD.sub(lambda word: f"{word[0][:40]}...{word[0][-40:]}", message)
    try:
        click.echo(f"search: {shown}", err=True)
    except OSError:  # nobody reads it; the code says it still
        streams.forget(sys.stderr)
    sys.exit(code)


class ReaderGone(Exception):
    """Whoever read the output has gone, as `| head` does; click would end with code 1 and say nothing."""


class Commands(click.Group):
    """The group of all commands, which lists them in the order in which they were added."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The names of all commands."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> object:
        """Runs the command. Raises ReaderGone in place of an error that click would hide, and what is wrong
        with the commands in it whole, which only the context knows of which store they speak."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise ReaderGone from error
        except errors.ParsimonyError as error:
            error.args = (printed.completed(str(error)),)
            raise


@click.group(
    cls=Commands,
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(package_name="parsimony", prog_name="search")
@click.option(exit_codes.ERROR_CLASS, is_flag=True, hidden=True, expose_value=False)
@options.printed_storage
def cli() -> None:
    """Find the most accurate residual network that fits a hard budget of parameters."""


for command in (  # in the order of use
    *(data.data, launch.launch, status.status, status.list_, status.trials, status.best),
    *(services.ps, watch.wait, logs.logs, services.pause, services.resume, services.stop),
    *(services.worker, enqueue.enqueue),
    *(inspect.show, explain.explain, export.export, export.verify, export.report),
    *(compare.compare, services.dashboard),
    *(training.train, training.confirm, training.trainings, training.predict),
    *(spaces.space, inspect.recipe, inspect.published),
    *(care.rename, care.delete, maintenance.replay, maintenance.gc, maintenance.db, helping.completion),
):
    cli.add_command(command)
    helping.with_examples(command, command.name or "")
