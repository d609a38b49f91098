"""What `search confirm` shows: a board while it trains, lines where nobody looks at a terminal, a page."""

import io
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
from comparison_samples import add_finals, add_study
from rich.console import Console
from sqlalchemy import text

from search.commands import training
from search.training import confirm, confirm_page, contenders, parallel, progress_file
from search.training.confirm_board import Board
from search.training.contenders import ConfirmedNetwork, Contender
from search.training.parallel import FinishedProcess, TrainingProcess
from search.training.progress_file import TrainingMoment
from space.errors import UsageError
from storage import database
from storage.studies import Study

NETWORK = {
    "channels": 1,
    "image_size": 8,
    "stem": {"width": 4},
    "stages": [{"blocks": 1, "width": 4}, {"blocks": 1, "width": 8, "stride": 2}],
}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def contender(folder: Path, number: int, **more: Any) -> Contender:
    brief = 0.5 + number / 100
    given = {"sealed": False, "seeds": 2, "number": number, "macs": 1_000, **more}
    return Contender(f"s:{number}", f"s:{number}", folder / f"trial-{number}", brief, **given)


def result(*accuracies: float, tests: tuple[float, ...] = ()) -> dict[str, Any]:
    """What `search train` leaves, as far as it is read."""
    return {
        "architecture": NETWORK, "parameters": 1_000, "macs": 20_000, "recipe": RECIPE, "data": DATA,
        "seeds": [
            {"seed": seed, "validation": {"accuracy": accuracy, "seconds": 60.0},
             "test": {"accuracy": tests[seed]} if tests else None,
             "epochs": [{"epoch": n, "validation_accuracy": accuracy * n / 8} for n in range(1, 9)]}
            for seed, accuracy in enumerate(accuracies)
        ],
    }  # fmt: skip


RECIPE = {"epochs": 8, "batch_size": 64, "optimizer": "sgd", "learning_rate": 0.1}
DATA = {"name": "digits <b>", "spec": "digits", "digest": "0" * 64, "train_images": 900,
        "validation_images": 100}  # fmt: skip


def write(one: Contender, moment: TrainingMoment) -> None:
    one.folder.mkdir(parents=True, exist_ok=True)
    progress_file.write(one.folder, moment)


def finish(board: Board, one: Contender, *accuracies: float) -> None:
    one.folder.mkdir(parents=True, exist_ok=True)
    (one.folder / "result.json").write_text(json.dumps(result(*accuracies)))
    board.end(FinishedProcess(TrainingProcess(one.name, (), one.folder / "log.txt"), 0, ""))


def lines(file: io.StringIO) -> list[str]:
    """Without the time of day before each."""
    return [line[9:] for line in file.getvalue().splitlines()]


def test_in_a_log_a_network_has_a_line_for_each_quarter_and_one_at_its_end(tmp_path: Path) -> None:
    file, clock = io.StringIO(), Clock()
    first, second = contender(tmp_path, 3), contender(tmp_path, 4, baseline="[1,1,1] at full budget")
    with Board(Console(file=file, width=200), "s", [first, second], clock) as board:
        for epoch in range(9):
            clock.now = 10.0 * epoch
            accuracy = 0.9 if epoch else None
            write(first, TrainingMoment(0, 1, 2, epoch, 8, accuracy, epoch / 8))
            board.look([first.name])
        clock.now = 160.0
        finish(board, first, 0.9, 0.92)
        clock.now = 320.0
        finish(board, second, 0.8)
    assert lines(file) == [
        "trial 3 seed 0 (1 of 2) epoch 1/8 90.00%",
        "trial 3 seed 0 (1 of 2) epoch 2/8 90.00%, ETA 2:20",
        "trial 3 seed 0 (1 of 2) epoch 4/8 90.00%, ETA 2:00",
        "trial 3 seed 0 (1 of 2) epoch 6/8 90.00%, ETA 1:40",
        "trial 3 seed 0 (1 of 2) epoch 8/8 90.00%, ETA 1:20",
        "1/2 trial 3 done: 91.00%, mean of 2 seeds, 2:40; ETA 2:50",
        "2/2 trial 4 (baseline) done: 80.00%, 5:20",
    ]


@pytest.mark.parametrize("width", [120, 80, 40])
def test_the_board_names_network_seed_epoch_and_time_left_in_any_width(tmp_path: Path, width: int) -> None:
    clock = Clock()
    chosen = [contender(tmp_path, number) for number in range(100, 105)]
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    board = Board(console, "a-study-with-a-long-name-of-its-own", chosen, clock)
    running = [chosen[0].name, chosen[1].name]
    board.look(running)
    for seconds, part in ((1.0, 0.0), (101.0, 0.25)):
        clock.now = seconds
        write(chosen[0], TrainingMoment(1, 1, 2, round(200 * part), 200, part or None, part))
        board.look(running)
    with console.capture() as shown:
        console.print(board.board())
    found = shown.get().splitlines()
    assert max(map(len, found)) <= width
    assert "0/5" in found[0] and any("ETA" in line for line in found[:2])
    named = "trial {}" if width > 40 else "{} "
    row = next(line for line in found if named.format(100) in line)
    for part in ("seed 1, 1/2", "50/200", "25.00%", "11:40"):
        assert part in row, row
    assert any(named.format(101) in line and "starts" in line for line in found)
    assert found[-1].startswith("3 networks wait")


def test_a_training_that_failed_is_named_with_its_reason(tmp_path: Path) -> None:
    file, one = io.StringIO(), contender(tmp_path, 3)
    board = Board(Console(file=file, width=200), "s", [one], Clock())
    board.end(FinishedProcess(TrainingProcess(one.name, (), one.folder / "log.txt"), 5, "search: no GPU"))
    assert lines(file) == ["1/1 trial 3 failed (exit code 5): search: no GPU, 0:00"]


def test_a_training_that_failed_early_makes_nobody_faster(tmp_path: Path) -> None:
    """A tenth of a training took 100 s: of another whole one 1,000 s are left, not the time of the failed."""
    clock, chosen = Clock(), [contender(tmp_path, number, seeds=1) for number in (3, 4)]
    board = Board(Console(file=io.StringIO(), width=200), "s", chosen, clock)
    for seconds, part in ((0.0, 0.0), (100.0, 0.1)):
        clock.now = seconds + 1.0
        write(chosen[0], TrainingMoment(0, 1, 1, round(10 * part), 10, None, part))
        board.look([chosen[0].name])
    board.end(FinishedProcess(TrainingProcess(chosen[0].name, (), chosen[0].folder / "log.txt"), 5, "no GPU"))
    assert board.eta() == "16:50", "101 s for a tenth"


def test_how_far_a_training_is_can_be_read_while_it_runs_and_not_afterwards(tmp_path: Path) -> None:
    moment = TrainingMoment(4, 2, 3, 7, 20, 0.5, 0.35)
    progress_file.write(tmp_path, moment)
    assert progress_file.read(tmp_path) == moment and moment.position == 1.35
    (tmp_path / progress_file.NAME).write_text('{"seed": 1}')
    assert progress_file.read(tmp_path) is None
    progress_file.remove(tmp_path)
    assert not list(tmp_path.iterdir())
    progress_file.write(tmp_path / "gone", moment)


def test_the_page_ranks_the_networks_with_both_values_of_two_seeds(tmp_path: Path) -> None:
    best = ConfirmedNetwork(contender(tmp_path, 3), result(0.95, 0.97, tests=(0.9, 0.94)))
    other = ConfirmedNetwork(contender(tmp_path, 4, baseline="plain"), result(0.92, 0.93, tests=(0.91, 0.92)))
    sample = ConfirmedNetwork(contender(tmp_path, 5, sealed=True, seeds=1), result(0.7))
    page = confirm_page.page("s <i>", [best, other], [best, other, sample], ["agreement <u>"])
    assert "<title>s &lt;i&gt; on digits &lt;b&gt;: the best, trained to the end</title>" in page
    for part in ("95.00% and 97.00%", "90.00% and 94.00%", "Two seeds give no useful interval",
                 "trial 4 (baseline)", "href='trial-3/report.html'", "Agreement &lt;u&gt;"):  # fmt: skip
        assert part in page, part
    for bad in ("<b>, <i>", "s <i>", "digits <b>", "0.0-100"):
        assert bad not in page
    assert "<script src" not in page
    assert page.index(">trial 3<") < page.index(">trial 4 (baseline)<"), "the best first"
    assert "2 to confirm, 1 more for the order, one seed each and without test images" in page
    sample = replace(sample, result=result(0.7, 0.8, tests=(0.6, 0.7)))  # it was among the best before
    page = confirm_page.page("s", [best, other], [best, other, sample], [])
    assert "2 to confirm, 1 more for the order, one seed each or all that they have" in page


def test_the_page_of_a_study_that_maximises_another_score_says_by_what_it_ranks(tmp_path: Path) -> None:
    found = []
    for number, accuracies, score in ((3, (0.90, 0.92), 0.83), (4, (0.95, 0.97), 0.71)):
        made = result(*accuracies)
        for seed in made["seeds"]:
            seed["validation"]["macro_f1"] = score
        by = contender(tmp_path, number, score="macro-f1", brief_score=score - 0.1)
        found.append(ConfirmedNetwork(by, made))
    page = confirm_page.page("s", found, found, [])
    assert "ranked by the mean macro F1 on 100 validation images" in page
    assert "the best by its mean validation macro F1" in page
    assert "<th>macro F1<" in page and "<td>1<td>trial 3<td>83.00%<td>91.00%" in page
    assert "<th>brief macro F1<" in page and "<td>73.00%" in page
    assert "mean accuracy" not in page and "brief score<" not in page


def opened_before(url: str, record: Study, number: int, folder: Path) -> None:
    """The test images were read for this trial, by a training that lies in this folder."""
    add_finals(url, record, number, [0.9], [0.9])
    engine = database.connect(url)
    with database.writing(engine) as connection:
        mine = {"place": str(folder), "trial": number}
        connection.execute(text("UPDATE search_trainings SET folder = :place WHERE trial = :trial"), mine)
    engine.dispose()


def test_test_images_are_opened_for_the_best_alone_rank_nobody_and_whoever_saw_them_before_is_told(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the two best the second is ahead by validation images, and far behind by test images."""
    record = add_study(sqlite_url, "night", [0.5, 0.8, 0.7, 0.6])
    out, shown, asked = tmp_path / "out", list[dict[str, Any]](), dict[str, tuple[str, ...]]()
    opened_before(sqlite_url, record, 1, tmp_path / "elsewhere")
    opened_before(sqlite_url, record, 2, out / "trial-2")  # which goes on
    left = {
        "night:1": result(0.90, 0.91, tests=(0.99, 0.98)),
        "night:2": result(0.95, 0.94, tests=(0.80, 0.81)),
        "night:0": result(0.97),
    }

    def train(works: Sequence[TrainingProcess], *_: object) -> list[FinishedProcess]:
        for work in works:
            asked[work.name] = work.arguments
            folder = Path(work.arguments[work.arguments.index("--out") + 1])
            folder.mkdir(parents=True)
            (folder / "result.json").write_text(json.dumps(left[work.name]))
        return [FinishedProcess(work, 0, "") for work in works]

    monkeypatch.setattr(parallel, "run", train)
    flags = contenders.Flags(
        study="night", storage=sqlite_url, data_dir=tmp_path, top=2, seeds=2, epochs=8, rank_sample=2,
        also=(), data=None, out=out, workers=1, gpus="none",
    )  # fmt: skip
    assert confirm.confirm(flags, shown.extend) == 0
    assert [(row["network"], row["test_by_seed"]) for row in shown] == [
        ("night:2", [0.80, 0.81]),
        ("night:1", [0.99, 0.98]),
    ]
    assert {name for name, given in asked.items() if "--no-test" in given} == {"night:0"}
    assert {name: given[given.index("--seeds") + 1] for name, given in asked.items()} == {
        "night:1": "2", "night:2": "2", "night:0": "1",
    }  # fmt: skip
    said = "".join(capsys.readouterr().err.split())  # which is folded
    assert f"testimageswereopenedfornight:1before:{tmp_path / 'elsewhere'}" in said
    assert "openedfornight:2" not in said
    assert "2toconfirm,2seedseach,1morefortheorder,oneseedeach;8epochs" in said


def flags(url: str, out: Path, epochs: int) -> contenders.Flags:
    return contenders.Flags(
        study="night", storage=url, data_dir=out.parent, top=2, seeds=2, epochs=epochs, rank_sample=0,
        also=(), data=None, out=out, workers=1, gpus="none",
    )  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_confirmation_of_other_epochs_in_the_folder_of_one_is_refused_before_anything_starts(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_study(sqlite_url, "night", [0.5, 0.8, 0.7])
    out, started = tmp_path / "out", list[str]()

    def train(works: Sequence[TrainingProcess], *_: object) -> list[FinishedProcess]:
        for work in works:
            started.append(work.name)
            folder = Path(work.arguments[work.arguments.index("--out") + 1])
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "training.json").write_text(json.dumps({"recipe": RECIPE}))
            (folder / "result.json").write_text(json.dumps(result(0.9, 0.9)))
        return [FinishedProcess(work, 0, "") for work in works]

    monkeypatch.setattr(parallel, "run", train)
    assert confirm.confirm(flags(sqlite_url, out, 8), lambda _: None) == 0
    before = contents(out)
    assert set(before) == {"confirm.html", "confirm.json"} and started == ["night:1", "night:2"]
    with pytest.raises(UsageError, match=r"trial-1 holds trainings of 8 epochs: go on by --epochs 8, or"):
        confirm.confirm(flags(sqlite_url, out, 100), lambda _: None)
    assert (contents(out), len(started)) == (before, 2)
    assert confirm.confirm(flags(sqlite_url, out, 8), lambda _: None) == 0


def test_a_confirmation_of_which_nothing_came_to_its_end_leaves_the_ranking_of_before(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add_study(sqlite_url, "night", [0.5, 0.8, 0.7])
    out, codes = tmp_path / "out", [0, 0]

    def train(works: Sequence[TrainingProcess], *_: object) -> list[FinishedProcess]:
        for work in works:
            folder = Path(work.arguments[work.arguments.index("--out") + 1])
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "result.json").write_text(json.dumps(result(0.9, 0.9)))
        return [FinishedProcess(work, code, "") for work, code in zip(works, codes, strict=True)]

    monkeypatch.setattr(parallel, "run", train)
    assert confirm.confirm(flags(sqlite_url, out, 8), lambda _: None) == 0
    before, codes[:], shown = contents(out), [2, 2], [{"network": "of before"}]
    capsys.readouterr()
    assert confirm.confirm(flags(sqlite_url, out, 8), lambda rows: shown.__setitem__(slice(None), rows)) == 1
    assert (contents(out), shown) == (before, [])
    said = " ".join(capsys.readouterr().err.split())
    assert "no training of the best came to its end:" in said and "wrote" not in said
    codes[0] = 0
    assert confirm.confirm(flags(sqlite_url, out, 8), lambda _: None) == 1
    assert len(json.loads((out / "confirm.json").read_text())["ranked"]) == 1


def test_names_of_files_in_the_figures_of_the_page_are_no_markup(tmp_path: Path) -> None:
    other = Contender("my <b>net.json", "my <b>net.json", tmp_path / "own", 0.8, sealed=False, seeds=2)
    found = [
        ConfirmedNetwork(contender(tmp_path, 3), result(0.95, 0.97)),
        ConfirmedNetwork(other, result(0.9, 0.9)),
    ]
    page = confirm_page.page("s", found, found, [])
    plots = "".join(re.findall(r'<script type="application/json">(.*?)</script>', page))
    assert plots.count("my &lt;b&gt;net.json") >= 3
    assert "my \\u003cb>" not in plots, "Plotly takes <b> for bold"


def test_the_page_of_trainings_that_all_failed_is_a_page_too() -> None:
    assert "No training of the best networks came to its end" in confirm_page.page("s", [], [], [])


def test_a_result_is_read_from_its_folder(tmp_path: Path) -> None:
    one = contender(tmp_path, 3)
    one.folder.mkdir()
    (one.folder / "result.json").write_text(json.dumps(result(0.9, tests=(0.8,))))
    found = contenders.read(one)
    assert (found.validation.values, found.test and found.test.mean) == ((0.9,), 0.8)


def test_a_row_of_the_ranking_is_a_line_on_a_terminal_of_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {
        "rank": 1, "network": "a-study-with-a-long-name:137", "baseline": "[1,1,1] at full budget",
        "brief_score": None, "full_score": None,
        "brief_accuracy": 0.5, "full_accuracy": 0.96355, "full_interval": None,
        "full_by_seed": [0.9618, 0.9653], "test_accuracy": 0.971, "test_interval": None,
        "test_by_seed": [0.961, 0.9805], "parameters": 19_810, "macs": 193_344,
    }  # fmt: skip
    monkeypatch.setenv("FORCE_COLOR", "1")  # what makes rich take a pipe for a terminal
    monkeypatch.setenv("COLUMNS", "80")
    training._emit_confirmed([row], "table")
    lines = click.unstyle(capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= 80
    (line,) = [line for line in lines if "96.36%" in line]
    for part in ("96.18, 96.53%", "97.10%", "96.10, 98.05%"):
        assert part in line
