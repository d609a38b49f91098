"""Writes commands.md and recipe.schema.json from what they describe: `make docs`. Tests hold them equal."""

import json
import os
import sys
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).parent.parent))

from search.cli import cli
from trainer.recipe import schema

TARGET = Path(__file__).parent / "commands.md"
SCHEMA = Path(__file__).parent / "recipe.schema.json"
HEAD = """# Commands

What `search COMMAND --help` prints. Written by `make docs`.
"""


def render() -> str:
    """Every command with its help, in Markdown."""
    os.environ["HOME"] = "~"  # the default folders of whoever writes this are not for the page
    parts = [HEAD, _section("search", cli)]
    parts += [_section(f"search {name}", command) for name, command in sorted(cli.commands.items())]
    return "\n".join(parts)


def _section(name: str, command: click.Command) -> str:
    with click.Context(command, info_name=name, max_content_width=100, terminal_width=100) as context:
        text = command.get_help(context).rstrip()
    lines = "\n".join(line.rstrip() for line in text.splitlines())
    return f"## {name}\n\n```\n{lines}\n```\n"


if __name__ == "__main__":
    TARGET.write_text(render())
    SCHEMA.write_text(json.dumps(schema(), indent=1) + "\n")
