"""Writes commands.md and recipe.schema.json from what they describe: `make docs`. Tests hold them equal."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).parent.parent))

from search.cli import cli
from trainer.recipe.document import schema

TARGET = Path(__file__).parent / "commands.md"
SCHEMA = Path(__file__).parent / "recipe.schema.json"
HEAD = """# Commands

What `search COMMAND --help` prints. Written by `make docs`.
"""


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
    SCHEMA.write_text(json.dumps(schema(), indent=1) + "\n")
