"""A plan is a promise: --dry-run makes the checks of a launch, and says what a launch would do."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from command import Result, finish, run, start
from worker_samples import make_study

from search.commands import plan
from search.launcher import prepare
from search.launcher.prepare import Flags

Ask = Callable[..., Result]
DRY = ("launch", "--data", "digits", "--gpus", "none", "--workers", 1, "--epochs", 1, "--max-macs", "300k")


@pytest.fixture
def flags(tmp_path: Path, digits: Path) -> Flags:
    url = f"sqlite:///{tmp_path / 'plan.db'}"
    return Flags(url, digits, 3, "night", data="digits", epochs=1, max_macs=300_000)


@pytest.fixture
def ask(flags: Flags, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Ask:
    def dry(*more: object) -> Result:
        given = ("--storage", flags.storage, "--data-dir", flags.data_dir, "--dry-run")
        return run(capsys, *DRY, *given, *more)

    return dry


def made(flags: Flags) -> None:
    """The study of these flags, of which nothing is trained."""
    config = prepare.make_config(replace(flags, on_cpu=True), None)
    engine, _ = make_study(flags.storage, config, 3, "night")
    engine.dispose()


def test_a_plan_of_a_new_study_says_all_and_makes_nothing(ask: Ask, flags: Flags, tmp_path: Path) -> None:
    result = ask("night", "--trials", 4, "--timeout", 10, "--trial-timeout", "90")
    assert result.code == 0, result.err
    lines = result.err.splitlines()
    assert lines[0] == "study    night, new: to be 4 trained"
    assert lines[1] == f"stored   {flags.storage}, to be made"
    assert "augment  shifted by up to 1 pixels (off: crop_padding = 0); not mirrored" in result.err
    assert "limits   the search ends after 10s; a trial takes 90s at most" in lines
    assert lines[-1].startswith("time     about ") and " for 4 trials with 1 worker on " in lines[-1]
    assert not (tmp_path / "plan.db").exists()


def test_a_plan_of_a_study_that_exists_says_how_far_it_is(ask: Ask, flags: Flags) -> None:
    made(flags)
    result = ask("night", "--trials", 5)
    assert result.code == 0, result.err
    assert result.err.startswith("study    night exists: 0 of 3 trained, to be 5\n")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--sampler", "random"), "was made with another --sampler (tpe, not random)"),
        (("--epochs", 2), "was made with another --recipe, --epochs or --class-weights"),
        (("--max-params", "1M"), "was made with another --max-params or --max-macs"),
    ],
)
def test_a_plan_refuses_what_the_launch_would_refuse(
    ask: Ask, flags: Flags, more: tuple[object, ...], words: str
) -> None:
    made(flags)
    result = ask("night", "--trials", 5, *more)
    assert result.code == 2
    assert words in result.one_line


def test_a_plan_for_a_folder_that_is_not_there_is_refused(ask: Ask) -> None:
    result = ask("night", "--trials", 3, "--storage", "sqlite:////nowhere/x.db")
    assert result.code == 5
    assert "no folder '/nowhere'" in result.one_line


def test_two_names_are_refused(ask: Ask) -> None:
    result = ask("night", "--study", "noon", "--trials", 3)
    assert result.code == 2
    assert "two studies: 'night' and 'noon'" in result.one_line


def test_a_hint_is_the_whole_command_without_the_password(flags: Flags) -> None:
    there = replace(flags, storage="postgresql://me:secret@db/x")
    assert plan.again(there, "my night", 9, "2", "0,1") == (
        "search launch 'my night' --trials 9 --storage 'postgresql://me:***@db/x'"
        f" --data-dir {flags.data_dir} --workers 2 --gpus 0,1"
    )


def test_a_command_at_the_end_is_told_how_it_ended(flags: Flags, tmp_path: Path) -> None:
    told = tmp_path / "told.txt"
    command = f'echo "$SEARCH_STUDY $SEARCH_END $SEARCH_STORAGE" > {told}'
    assert plan.run_at_end(command, flags.storage, "night", "short", None) is None
    assert told.read_text() == f"night short {flags.storage}\n"
    failed = plan.run_at_end("exit 7", flags.storage, "night", "done", None)
    assert failed == "--on-end exit 7: ended with code 7"


def test_a_search_runs_the_command_at_its_end(flags: Flags, tmp_path: Path) -> None:
    more = ("--storage", flags.storage, "--data-dir", flags.data_dir, "--timeout", "1s", "--on-end")
    (tmp_path / "here").mkdir()
    done = finish(
        start(*DRY, "night", "--trials", 99, *more, "echo $SEARCH_END > told", cwd=tmp_path / "here")
    )
    assert "go on with `search launch night --trials 99 --storage " in done.err
    assert (tmp_path / "here" / "told").read_text() == "short\n"
