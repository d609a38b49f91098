"""Tables on terminals of any width: no number is broken, and nothing is lost."""

from io import StringIO

import click
import pytest
from rich.console import Console

from search.commands import table

ROWS = [
    {"part": "stage 1", "built": "2x64/k3", "parameters": 8_393_728, "parameter_share": 0.7512, "epochs": 3},
    {
        "part": "stage 2 of more words",
        "built": "x" * 12,
        "parameters": 7,
        "parameter_share": None,
        "epochs": 0,
    },
]


def shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int) -> str:
    monkeypatch.setenv("FORCE_COLOR", "1")  # what makes rich take a pipe for a terminal
    monkeypatch.setenv("COLUMNS", str(columns))
    table.show(ROWS, "Parts")
    return click.unstyle(capsys.readouterr().out)


@pytest.mark.parametrize("columns", [20, 40, 50, 60, 70, 80, 200])
def test_numbers_stay_whole_on_a_terminal_of_any_width(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    text = shown(capsys, monkeypatch, columns)
    assert "8,393,728" in text and "75.12%" in text and "Parts" in text
    lines = [line.rstrip() for line in text.splitlines()]
    assert max(map(len, lines)) <= max(columns, 40)


def test_a_wide_terminal_has_headings_in_one_line_and_a_narrow_one_in_two(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "parameter share" in shown(capsys, monkeypatch, 90)
    assert "parameter share" not in shown(capsys, monkeypatch, 72)


def test_where_no_table_fits_each_row_is_a_block_without_what_it_does_not_have(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = shown(capsys, monkeypatch, 40)
    assert "part             stage 1\n" in text and "parameter share  75.12%\n" in text
    assert text.count("parameter share") == 1 and "epochs           0\n" in text


def test_a_pipe_gets_a_table_whatever_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "30")
    table.show(ROWS)
    assert "parameter share" in capsys.readouterr().out


def test_no_rows_are_said_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    table.show([])
    assert capsys.readouterr() == ("", "none\n")


@pytest.mark.parametrize("title", ["", "Parts"])
def test_a_pipe_gets_what_rich_draws_without_waiting_for_it(title: str) -> None:
    rows = [
        {**ROWS[0], "built": "2x64 漢字 é", "other": {"a": [1]}, "is_best": True},
        {**ROWS[1], "other": None, "is_best": False},
    ]
    console = Console(file=StringIO(), width=table.BEYOND)
    console.print(table._table(rows, title))
    lines = table._drawn(rows, title, console)
    assert lines is not None
    assert "\n".join(lines) + "\n" == console.file.getvalue()  # type: ignore[attr-defined]


def test_what_only_rich_can_draw_is_left_to_it() -> None:
    console = Console(file=StringIO(), width=table.BEYOND)
    assert table._drawn([{"text": "two\nlines"}], "", console) is None
    assert table._drawn([{"text": "x" * table.BEYOND}], "", console) is None
    assert table._drawn([{"text": "a"}], "a title that is wider than the table", console) is None
