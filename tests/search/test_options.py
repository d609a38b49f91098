"""Options that got another name: the old one still means the same, and no help text shows it."""

from typing import Any

import click
import pytest

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


def test_workers_are_a_number_or_auto() -> None:
    assert options.worker_count("auto") is None
    assert options.worker_count("0") == 0 and options.worker_count("12") == 12
    for wrong in ("many", "-1", "1.5", ""):
        with pytest.raises(UsageError, match="give a number, or auto"):
            options.worker_count(wrong)


def test_a_budget_by_itself_has_the_limit_that_the_commands_have() -> None:
    assert Budget().max_parameters == settings.MAX_PARAMETERS  # apart, since help must not load pydantic


@pytest.mark.parametrize(
    ("seconds", "words"), [(45.0, "45s"), (90.0, "90s"), (60.0, "1m"), (600.0, "10m"), (7200.0, "2h")]
)
def test_a_default_time_is_shown_as_it_can_be_given(seconds: float, words: str) -> None:
    assert options.in_words(seconds) == words
    assert options.Duration().convert(words, None, None) == seconds
