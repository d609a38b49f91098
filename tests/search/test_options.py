"""Options that got another name: the old one still means the same, and no help text shows it."""

from pathlib import Path
from typing import Any

import click
import pytest
from command import leaves

from search import settings
from search.cli import cli
from search.commands import options
from space.budget import Budget
from space.errors import UsageError

RENAMED = [
    ("launch", "--database-patience", "--database-timeout", "90s"),
    ("worker", "--database-patience", "--database-timeout", "90s"),
    ("confirm", "--dozen", "--rank-sample", "7"),
    ("confirm", "--beside", "--also", "published:001-final"),
    ("train", "--sealed", "--no-test", None),
]
REQUIRED = {"launch": ["--trials", "1"], "train": ["best.json"]}


def parsed(command: str, *arguments: str) -> dict[str, Any]:
    return cli.commands[command].make_context(command, [*REQUIRED.get(command, []), *arguments]).params


@pytest.mark.parametrize(("command", "old", "new", "value"), RENAMED)
def test_a_renamed_option_is_still_known_by_its_old_name(
    command: str, old: str, new: str, value: str | None
) -> None:
    given = [] if value is None else [value]
    assert parsed(command, old, *given) == parsed(command, new, *given) != parsed(command)


@pytest.mark.parametrize(("command", "old", "new", "value"), RENAMED)
def test_help_shows_the_new_name_alone(command: str, old: str, new: str, value: str | None) -> None:
    context = cli.commands[command].make_context(
        command, [*REQUIRED.get(command, []), old, *filter(None, [value])]
    )
    shown = context.command.get_help(context)
    assert new in shown and old not in shown


def test_a_wrong_value_of_an_old_name_is_answered_by_the_new_one() -> None:
    with pytest.raises(click.BadParameter) as refused:
        parsed("confirm", "--dozen", "many")
    assert "--rank-sample" in refused.value.format_message()


STUDY_COMMANDS = [
    name
    for name, command in cli.commands.items()
    if any(param.envvar == "SEARCH_STUDY" for param in command.params)
]


@pytest.mark.parametrize("command", STUDY_COMMANDS)
def test_a_study_that_is_typed_wins_over_the_environment(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert parsed(command)["study"] is None
    monkeypatch.setenv("SEARCH_STUDY", "first")
    assert parsed(command)["study"] == "first"
    assert parsed(command, "second")["study"] == parsed(command, "--study", "second")["study"] == "second"
    assert parsed(command, "second", "--study", "second")["study"] == "second"


def test_two_studies_that_are_typed_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEARCH_STUDY", "third")
    for typed in (("first", "--study", "second"), ("--study", "second", "first")):
        with pytest.raises(click.UsageError, match="two studies: 'second' and 'first'"):
            parsed("status", *typed)


def test_each_variable_of_the_environment_is_in_help_and_among_what_to_type() -> None:
    tasks = (Path(__file__).parents[2] / "docs/tasks.md").read_text()
    for name, command in leaves(cli):
        context = click.Context(command, info_name=name)
        for option in command.params:
            if option.envvar:
                assert f"env var: {option.envvar}" in " ".join(str(command.get_help(context)).split()), name
                assert f"`{option.envvar}`" in tasks, name


def test_workers_are_a_number_or_auto() -> None:
    assert options.worker_count("auto") is None
    assert options.worker_count("0") == 0 and options.worker_count("12") == 12
    for wrong in ("many", "-1", "1.5", "", "²", "٣", "9" * 5_000):
        with pytest.raises(UsageError, match="give a number, or auto"):
            options.worker_count(wrong)


def test_a_budget_by_itself_has_the_limit_that_the_commands_have() -> None:
    assert Budget().max_parameters == settings.MAX_PARAMETERS  # apart, since help must not load pydantic


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(45.0, "45s"), (90.0, "90s"), (60.0, "1m"), (600.0, "10m"), (7200.0, "2h"), (1e6 + 1, "1000001s")],
)
def test_a_default_time_is_shown_as_it_can_be_given(seconds: float, words: str) -> None:
    assert options.in_words(seconds) == words
    assert options.Duration().convert(words, None, None) == seconds


def test_a_comma_parts_thousands_and_is_no_decimal_point() -> None:
    count = options.Count()
    for taken, number in (("5,000,000", 5_000_000), ("1,500K", 1_500_000), ("12,345.6k", 12_345_600)):
        assert count.convert(taken, None, None) == number
    for refused in ("1,5M", "5,00", "5000,000", ",500", "5,000,", "1,000,5"):
        with pytest.raises(click.UsageError, match=f"'{refused}' is not a number like 5000000"):
            count.convert(refused, None, None)


@pytest.mark.parametrize(
    ("given", "threads"), [("3", 3), ("4,2", 4), (" 4 , 2", 4), ("", 1), ("0", 1), ("-2", 1), ("many", 1)]
)
def test_of_a_list_of_threads_the_first_number_holds(given: str, threads: int) -> None:
    assert settings.threads({"OMP_NUM_THREADS": given}) == threads
    assert settings.threads({}) == 1
