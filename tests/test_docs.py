"""The documents say what the program does."""

import ast
import importlib
import re
import shlex
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

import click
import pytest

from search.cli import cli
from search.commands.exit_codes import CODES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
TASKS = (ROOT / "docs/tasks.md").read_text()
GUIDE = README + TASKS + (ROOT / "docs/training.md").read_text()  # what one reads to use it
DESIGN = (ROOT / "docs/design.md").read_text()


def test_the_page_of_commands_is_what_the_commands_say() -> None:
    script = "import sys; sys.path.insert(0, 'docs'); import render; sys.stdout.write(render.render())"
    rendered = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert rendered.stdout == (ROOT / "docs/commands.md").read_text(), "run `make docs`"


def test_the_page_of_output_is_what_the_commands_give() -> None:
    script = "import sys; sys.path.insert(0, 'docs'); import render; sys.stdout.write(render.render_output())"
    rendered = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert rendered.stdout == (ROOT / "docs/output.md").read_text(), "run `make docs`"


def test_every_command_is_among_what_to_type() -> None:
    assert [name for name in cli.commands if f"search {name}" not in TASKS] == []


def test_every_option_has_a_help_text() -> None:
    silent = [
        f"{name} {option.opts[0]}"
        for name, command in cli.commands.items()
        for option in command.params
        if isinstance(option, click.Option) and not option.hidden and not option.help
    ]
    assert silent == []


def commands_of_the_guide() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", GUIDE, flags=re.DOTALL)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    spans = re.findall(r"`(search [^`…]+)`", GUIDE)
    return [line for line in lines + spans if line.startswith("search ")]


@pytest.mark.parametrize("line", commands_of_the_guide())
def test_a_command_of_the_guide_parses(line: str) -> None:
    """Names and values of every flag exist; the command itself is not run."""
    name, *arguments = line.replace("postgresql://…", "postgresql://db/x").split()[1:]
    command = cli.commands[name.split(",")[0]]
    command.make_context(name, arguments)


def said_to_go_on() -> list[tuple[str, str]]:
    """Where a page says that the same command goes on: the words, and the command that stands before them."""
    pages = [README, *(page.read_text() for page in sorted((ROOT / "docs").glob("*.md")))]
    found = list[tuple[str, str]]()
    for page in pages:
        text = " ".join(page.split())
        for words in re.finditer(r"the same (?:command|launch|`search launch)\b.{0,60}?goes on", text, re.I):
            commands = re.findall(r"(?:search launch|python -m) [^`#…]+", text[: words.start()])
            found.append((words[0], commands[-1] if commands else ""))
    return found


@pytest.mark.parametrize(("words", "command"), said_to_go_on())
def test_a_command_that_is_said_to_go_on_names_its_study(words: str, command: str) -> None:
    """An unnamed launch begins a new search each time."""
    if "--study" in words or command.startswith("python"):  # a benchmark, which knows its own file
        return
    assert command, f"{words}: no command stands before it"
    name, *arguments = command.split()[1:]
    given = cli.commands[name].make_context(name, arguments).params
    assert given["name"] or given["study"], f"{command!r}: {words}"


def commands_of_benchmarks() -> list[str]:
    """`python -m benchmarks...` with its arguments, wherever a document says it."""
    pages = [README, *(page.read_text() for page in sorted((ROOT / "docs").glob("*.md")))]
    text = "\n".join(pages).replace("\\\n", " ")
    return sorted({" ".join(found.split()) for found in re.findall(r"python -m (benchmarks[^`\n#]*)", text)})


@pytest.mark.parametrize("line", commands_of_benchmarks())
def test_a_command_of_a_benchmark_is_accepted_by_its_parser(
    line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes no further than its arguments."""
    name, *arguments = shlex.split(line)
    original = ArgumentParser.parse_args

    def parse_only(parser: ArgumentParser, words: Sequence[str] | None = None) -> None:
        original(parser, words)
        raise InterruptedError(line)

    monkeypatch.setattr(sys, "argv", [name, *arguments])
    monkeypatch.setattr(ArgumentParser, "parse_args", parse_only)
    is_package = (ROOT / name.replace(".", "/")).is_dir()
    module = importlib.import_module(f"{name}.__main__" if is_package else name)
    with pytest.raises(InterruptedError):
        module.main()


def test_every_exit_code_is_documented() -> None:
    documented = set(re.findall(r"^\| (\d+)", TASKS, flags=re.MULTILINE))
    assert {str(code) for code in CODES.values()} | {"0", "1"} <= documented


def test_the_two_commands_of_the_readme_are_targets_of_make() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)


def steps_of_a_trial() -> list[tuple[str, str]]:
    """File and function of each step in the design's table."""
    rows = re.findall(r"^\| [^|]+ \| `([\w/]+\.py)` \| ([^|]+) \|$", DESIGN, flags=re.MULTILINE)
    return [(path, name) for path, names in rows for name in re.findall(r"`(\w+)`", names)]


@pytest.mark.parametrize(("path", "name"), steps_of_a_trial())
def test_each_step_of_a_trials_life_is_where_the_design_says(path: str, name: str) -> None:
    defined = [
        node for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, ast.FunctionDef)
    ]
    assert name in {node.name for node in defined}


def test_the_rooms_of_the_design_are_those_of_the_package() -> None:
    _, section = DESIGN.split("### The rooms of search/\n")
    rooms = re.findall(r"^\| `(\w+)/` \|", section.split("\n#")[0], flags=re.MULTILINE)
    assert sorted(rooms) == sorted(path.parent.name for path in (ROOT / "search").glob("*/__init__.py"))
    assert len(steps_of_a_trial()) > 15, "else the test above reads nothing"


def walked() -> list[tuple[str, str]]:
    """Each file of the walk by names, with the function that is named after it."""
    section = DESIGN.split("## A walk by names\n")[1].split("\n## ")[0]
    return re.findall(r"`([\w/]+\.py)`(?: `(\w+)`)?", section)


@pytest.mark.parametrize(("path", "name"), walked())
def test_each_answer_of_the_walk_is_where_the_design_says(path: str, name: str) -> None:
    tree = ast.parse((ROOT / path).read_text())
    assert not name or name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_the_walk_answers_its_five_questions() -> None:
    assert len({path for path, name in walked() if name}) >= 5, "else the test above reads nothing"
