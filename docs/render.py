"""Writes commands.md, output.md and recipe.schema.json from what they describe: `make docs`.

Tests hold them equal.
"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).parent.parent))

from search.cli import cli
from search.commands.fields import BY_COMMAND
from trainer.recipe.document import schema

TARGET = Path(__file__).parent / "commands.md"
SCHEMA = Path(__file__).parent / "recipe.schema.json"
HEAD = """# Commands

What `search COMMAND --help` prints. Written by `make docs`.
"""


OUTPUT = Path(__file__).parent / "output.md"
OUTPUT_HEAD = """# Output for programs

What `--format json` and `--format csv` write to stdout. Written by `make docs` from
[search/commands/fields.py](../search/commands/fields.py); a test holds the commands to it.

JSON is a list of objects, with all keys in each, for `status` too; an empty list where there is nothing.
`explain` and `space check` give one object; these two and `space sample` have no CSV.
Numbers are numbers, of ten significant digits; shares and accuracies are 0 to 1. Times are ISO 8601 with
their zone. What is not known or does not apply is `null`, in CSV an empty field. CSV has its header without
rows too, and objects and lists as JSON in one field. Keys may be added; none is renamed or taken away.
`--columns KEY,KEY` picks and orders them, in tables too.

"Nothing trained yet" is an empty list and exit code 0 where a list is asked for, exit code 3 where one
network is needed (`export`, `show`, `explain`, `replay`, `train`, `confirm`).
"""


def render_output() -> str:
    """The keys of each command, in Markdown."""
    parts = [OUTPUT_HEAD]
    for command, keys in BY_COMMAND.items():
        rows = "\n".join(f"| `{key}` | {meaning} |" for key, meaning in keys.items())
        parts.append(f"## search {command}\n\n| Key | Is |\n| --- | --- |\n{rows}\n")
    return "\n".join(parts)


def render() -> str:
    """Every command with its help, in Markdown."""
    os.environ["HOME"] = "~"  # the default folders of whoever writes this are not for the page
    return "\n".join([HEAD, *_sections("search", cli)])


def _sections(name: str, command: click.Command) -> Iterator[str]:
    yield _section(name, command)
    for below, one in sorted(command.commands.items()) if isinstance(command, click.Group) else ():
        yield from _sections(f"{name} {below}", one)


def _section(name: str, command: click.Command) -> str:
    with click.Context(command, info_name=name, max_content_width=100, terminal_width=100) as context:
        text = command.get_help(context).rstrip()
    lines = "\n".join(line.rstrip() for line in text.splitlines())
    return f"## {name}\n\n```\n{lines}\n```\n"


if __name__ == "__main__":
    TARGET.write_text(render())
    OUTPUT.write_text(render_output())
    SCHEMA.write_text(json.dumps(schema(), indent=1) + "\n")
