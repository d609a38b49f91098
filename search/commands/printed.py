"""Commands that are printed to be copied, with the store and the folder that were typed for the present one.

A message says `search resume night`, wherever it comes from: lower layers know no flags. Where it is printed
the command gets the --storage (or --storage-file) and the --data-dir that were typed, if it takes them; what
came from the environment holds in the same shell without. Reads click's context, where options.py notes what
was typed; writes nothing. Called where lines for people and errors are printed: output.py, launch_session.py,
plan.py, board.py, search/cli.py. What is stored, exported, a page, or for programs does not come by here.
"""

import re
import shlex
from collections.abc import Sequence

import click

from search.commands import options

QUOTED = re.compile(r"`(search [^`\n]*)`")
TAKEN_AS = {"--storage": {"storage", "storages"}, "--data-dir": {"data_dir"}}  # by a command's parameters


def completed(text: str) -> str:
    """A text with all commands in backticks whole, as complete() makes them. One that takes arguments and
    stands there with flags alone, `search stop --now`, is spoken of and not to be typed: it stays."""

    def whole(found: re.Match[str]) -> str:
        named = _named(found[1])
        return found[0] if named is None or _is_spoken_of(*named) else f"`{complete(found[1])}`"

    return QUOTED.sub(whole, text)


def complete(command: str) -> str:
    """One command with the places that were typed, if it takes them and names none. Without a command that
    runs, as in Python, it stays as it is."""
    named = _named(command)
    if named is None:
        return command
    takes, words = named
    parameters = {parameter.name for parameter in takes.params}
    for option, typed in options.typed_places().items():
        if parameters & TAKEN_AS[option] and not any(word.startswith(option) for word in words):
            command += f" {shlex.join(typed)}"
    return command


def _named(command: str) -> tuple[click.Command, Sequence[str]] | None:
    """What is run by a command line, and the words after its name; None for what is none of ours."""
    context = click.get_current_context(silent=True)
    try:
        _, *words = shlex.split(command)
    except ValueError:  # of a text, where a quote is an apostrophe
        return None
    found = context.find_root().command if context else None
    while isinstance(found, click.Group) and words:
        found, words = found.commands.get(words[0]), words[1:]
    return (found, words) if found and not isinstance(found, click.Group) else None


def _is_spoken_of(command: click.Command, words: Sequence[str]) -> bool:
    takes_arguments = any(isinstance(one, click.Argument) for one in command.params)
    return takes_arguments and all(word.startswith("-") for word in words)
