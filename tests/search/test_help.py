"""How the command presents itself: help, names, complaints, and what a shell completes."""

import shlex
import unicodedata
from pathlib import Path

import click
import pytest
from command import finish, leaves, run, start
from worker_samples import make_config, make_study

from search.cli import cli
from search.commands import exit_codes, inspect, options
from search.commands.help import EXAMPLES
from space import errors


@pytest.mark.parametrize(("path", "command"), list(leaves(cli)))
def test_a_command_has_two_examples_that_parse_and_ends_its_help_with_them(
    path: str, command: click.Command
) -> None:
    assert len(EXAMPLES[path]) == 2
    for line in EXAMPLES[path]:
        words = shlex.split(line.split(" > ")[0].removeprefix('eval "$(').removesuffix(')"'))
        assert words[: len(path.split()) + 1] == ["search", *path.split()]
        command.make_context(path, words[len(path.split()) + 1 :], resilient_parsing=False)
    with click.Context(command, info_name=path) as context:
        last = command.get_help(context).splitlines()[-3:]
    assert [line.strip() for line in last] == ["Examples:", *EXAMPLES[path]]


def test_no_example_is_of_a_command_that_there_is_not() -> None:
    assert set(EXAMPLES) == {path for path, _ in leaves(cli)}


def test_commands_are_listed_in_the_order_of_use(capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, "--help").out.split("Commands:")[1]
    listed = [line.split()[0] for line in text.splitlines() if line.startswith("  ") and line[2] != " "]
    assert listed[:6] == ["data", "launch", "status", "list", "trials", "best"]
    assert listed.index("stop") < listed.index("train") < listed.index("gc")


def test_launch_has_its_options_in_groups(capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, "launch", "--help").out
    places = [text.index(f"\n{title}:\n") for title in ("What to find", "Training", "Second stage", "Search",
                                                        "Machines", "Safety", "Output")]  # fmt: skip
    assert places == sorted(places)
    assert text.index("\n  --max-params") < places[1] < text.index("\n  --recipe") < places[2]
    rest = text.split("\nOther options:\n")[1].split("\n\n")[0]
    assert rest.count("\n") == 0 and "--help  Show this message" in rest, "an option is in no group"


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("हिन्दी", "हिन्दी"),
        (unicodedata.normalize("NFD", "Überraschung"), "Überraschung"),
        ("x" * 200, "x" * 200),
        ("night 5+a@b", "night 5+a@b"),
        ("x" * 201, None),
        ("ü" * 101, None),
        (" night", None),
        ("night ", None),
        ("-night", None),
        ("\u0301night", None),
        ("night\n", None),
        ("a/b", None),
        ("..", None),
        ("", None),
    ],
)
def test_a_study_has_a_name_that_can_be_typed_and_stand_in_a_path(given: str, stored: str | None) -> None:
    if stored is None:
        with pytest.raises(ValueError, match="is no name for a study: up to 200 bytes"):
            options.study_name(given)
    else:
        assert options.study_name(given) == stored


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("lunch",), "No such command 'lunch'. Did you mean 'launch'? (see `search --help`)"),
        (("status", "--formt", "json"), "(see `search status --help`)"),
        (("trials", "--limit", "0"), "(see `search trials --help`)"),
        (("launch",), "(see `search launch --help`)"),
    ],
)
def test_a_mistake_of_usage_is_one_line_with_the_way_to_help(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], line: str
) -> None:
    result = run(capsys, *arguments)
    assert result.code == 2
    assert result.err.count("\n") == 1
    assert result.err.startswith("search: ") and line in result.err


def test_a_fault_of_the_program_is_one_line_and_a_file_with_the_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(_: object) -> None:
        raise ZeroDivisionError("in postgresql://me:secret@db/x\nand more")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(inspect, "layer_rows", fail)
    result = run(capsys, "show", "published:001-final")
    assert result.code == 1
    line = result.one_line
    assert "unexpected ZeroDivisionError: in postgresql://me:***@db/x; this is a fault of the program" in line
    told = Path(line.rpartition(" in ")[2])
    assert told.parent == tmp_path
    assert "layer_rows" in told.read_text() and "secret" not in told.read_text()


def test_a_folder_of_nobody_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    more = ("--gpus", "none", "--workers", "1", "--data", "folder:~nosuchuser/x")
    result = run(capsys, "launch", "--trials", "1", *more)
    assert result.code == 2
    assert "there is no such home folder: give whole paths" in result.one_line
    assert list(tmp_path.iterdir()) == []


def test_without_a_home_what_needs_none_works_and_the_rest_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("SEARCH_DATA_DIR", raising=False)

    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)
    assert run(capsys, "published").code == 0
    result = run(capsys, "gc")
    assert result.code == 2
    assert "there is no such home folder" in result.one_line


def test_a_shell_completes_the_names_of_studies(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'parsimony.db'}"
    for name in ("night", "noon"):
        engine, _ = make_study(url, make_config(), 1, name)
        engine.dispose()
    asked = {"_SEARCH_COMPLETE": "bash_complete", "COMP_WORDS": "search status n", "COMP_CWORD": "2"}
    done = finish(start(cwd=tmp_path, **asked, SEARCH_STORAGE=url))
    assert done.out.split() == ["plain,noon", "plain,night"]
    nothing = finish(start(cwd=tmp_path, **asked, SEARCH_STORAGE="postgresql://nobody@127.0.0.1:1/x"))
    assert (nothing.out.strip(), nothing.err) == ("", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed_for_each_shell(capsys: pytest.CaptureFixture[str], shell: str) -> None:
    result = run(capsys, "completion", shell)
    assert result.code == 0
    assert f"_SEARCH_COMPLETE={shell}_complete" in result.out


def test_every_branch_of_the_errors_that_has_a_code_of_its_own_is_known() -> None:
    assert exit_codes.code_of(errors.NothingTrainedError("none")) == 3
