"""Finals that were over before more trials were asked for: whom they confirmed stays the best until the new
ones are over."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from command import run
from comparison_samples import BEGIN, FINAL_EPOCHS, add_finals, add_study
from rung_samples import MOMENT, candidate, trained
from sqlalchemy import Engine, insert, update
from worker_samples import make_config

from search.commands import at_end, launch_session
from search.launcher.snapshots import Snapshots
from search.report import page
from search.study import halving, reader, run_state, second_stage, state_text
from search.study.config import StudyConfig
from search.study.console import SteadyConsole
from search.study.finish_plan import FinishPlan, make_plan
from storage import candidates, database, studies, tables
from storage.row_types import Candidate, RungEntry, RungTraining, Stage, State
from storage.studies import Study

OVER = [0.5, 0.6, 0.7, 0.65, 0.4]  # of the trials whose finals trial 2 has won
EARLIER = (
    "best of earlier finals of 20 epochs, trial 2: 85.00% (80.00% and 90.00%: two seeds give no useful"
    " interval) on validation images, 83.50% (79.00% and 88.00%: two seeds give no useful interval) on 10,000"
    " test images, 2 seeds; the second stage is not over, and may find a better one"
)


def study(url: str, added: Sequence[float] = (), later: bool = True) -> Study:
    """Its finals were won by trial 2, then ten more trials were asked for, of which these have ended;
    `later`: they were proposed after the finals."""
    record = add_study(url, "night", [*OVER, *added])
    add_finals(url, record, 2, (0.8, 0.9), (0.79, 0.88))
    engine = database.connect(url)
    studies.set_trials(engine, record.id, len(OVER) + 10)
    with database.writing(engine) as connection:
        newest = tables.candidates.c.number >= len(OVER)
        moment = BEGIN + timedelta(hours=1 if later else 0)
        connection.execute(update(tables.candidates).where(newest).values(proposed_at=moment))
    record = studies.find(engine, "night")
    engine.dispose()
    return record


@pytest.fixture
def engine(sqlite_url: str) -> Iterator[Engine]:
    engine = database.connect(sqlite_url)
    yield engine
    engine.dispose()


def leave(engine: Engine, record: Study, out: Path) -> None:
    """As a launch ends that was interrupted now."""
    config = StudyConfig.from_record(record.settings)
    snapshot = Snapshots(engine, record, config).take()
    assert snapshot.second is None and not snapshot.is_done
    launch_session._leave(SteadyConsole(), engine, record, config, snapshot, out, None, {})


@pytest.mark.parametrize("added", [[], [0.75, 0.8]])
def test_the_winner_of_finals_stays_confirmed_while_trials_that_were_added_are_owed(
    engine: Engine, sqlite_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], added: list[float]
) -> None:
    record, out = study(sqlite_url, added), tmp_path / "best.json"
    leave(engine, record, out)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("best network: trial 2,") and EARLIER in said
    assert not any("the best of" in line and "expect somewhat less" in line for line in said)
    document = json.loads(out.read_text())
    assert (document["metrics"]["standing"], document["origin"]["trial"]) == ("confirmed", 2)
    assert document["confirmation"]["test_accuracy"] == pytest.approx(0.835)
    with reader.open_study(sqlite_url, "night") as view:
        assert view.candidate().number == 2
    told = at_end.facts(engine, record, "short", 130, {})
    assert (told["best"], told["confirmed_accuracy"]) == ("night:2", pytest.approx(0.85))
    assert told["test_accuracy"] == pytest.approx(0.835)
    assert "The winner: trial 2" in page.of_study(engine, record, 0)
    state = run_state.load(engine, record, has_optuna=True, whole=True)
    assert EARLIER in state_text.lines(engine, state, StudyConfig.from_record(record.settings))
    assert not state.is_done and state.second and not state.second.is_over
    exported = run(capsys, "export", "night", "--storage", sqlite_url, "--out", tmp_path / "again.json")
    *_, confirmed, owed = exported.err.splitlines()
    assert confirmed.startswith("confirmed: 83.50% on 10,000 test images (2 seeds of 20 epochs")
    assert owed == "the second stage of night is not over, and may find a better one"


def test_finals_that_were_cut_off_have_no_winner(
    engine: Engine, sqlite_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All trials were there before the first of them ended: trial 2 is just the first that was trained."""
    record, out = study(sqlite_url, [0.75], later=False), tmp_path / "best.json"
    leave(engine, record, out)
    document = json.loads(out.read_text())
    assert (document["metrics"]["standing"], document["origin"]["trial"]) == ("brief score only", 5)
    with reader.open_study(sqlite_url, "night") as view:
        stage = view.second_stage()
        assert view.candidate().number == 5 and stage and stage.confirmed is None


def test_finals_of_another_length_confirm_too_with_their_own_tests(engine: Engine, sqlite_url: str) -> None:
    """The second launch asks for longer finals, which all networks have yet to be given."""
    record = study(sqlite_url)
    longer = make_plan(StudyConfig.from_record(record.settings), None, 1, 2 * FINAL_EPOCHS, 2, first=0)
    studies.set_finish(engine, record.id, longer.document())
    stage = second_stage.load(engine, studies.find(engine, "night"))
    assert stage and stage.winner is None and second_stage.describe_earlier(stage) == EARLIER


def test_where_all_longer_finals_failed_the_network_that_earlier_ones_confirmed_stays(
    engine: Engine, sqlite_url: str
) -> None:
    record = add_study(sqlite_url, "night", OVER)
    add_finals(sqlite_url, record, 2, (0.8, 0.9), (0.79, 0.88))
    longer = make_plan(StudyConfig.from_record(record.settings), None, 1, 2 * FINAL_EPOCHS, 2, first=0)
    studies.set_finish(engine, record.id, longer.document())
    with database.writing(engine) as connection:
        for seed in range(2):
            key = {
                "study_id": record.id,
                "candidate_id": candidates.find(engine, record.id, 2).id,
                "seed": seed,
            }
            told = {"stage": Stage.FINALS, "epochs": 2 * FINAL_EPOCHS, "attempt": 5, "state": State.FAILED}
            moments = {"entered_at": BEGIN, "finished_at": BEGIN}
            connection.execute(insert(tables.rung_trainings).values(**key, **told, **moments))
    stage = second_stage.load(engine, studies.find(engine, "night"))
    assert stage and stage.is_over and stage.winner is None
    assert stage.confirmed and stage.confirmed.candidate.number == 2
    first, said, *_ = second_stage.lines(stage)
    assert first == f"finals of {2 * FINAL_EPOCHS} epochs: no training came to its end"
    assert said == EARLIER.removesuffix("; the second stage is not over, and may find a better one")


def final(row: Candidate, accuracy: float, epochs: int = 20, hours: int = 0) -> RungTraining:
    one = trained(RungEntry(row.id, Stage.FINALS, epochs, 0), accuracy)
    return replace(one, finished_at=MOMENT + timedelta(hours=hours))


def plan(epochs: int) -> FinishPlan:
    return make_plan(make_config(), None, 2, epochs, 1, first=0)


def earlier(epochs: int, rows: Sequence[Candidate], trainings: Sequence[RungTraining]) -> list[int] | None:
    """The networks of earlier finals, the best first; the plan's are of so many epochs."""
    found = halving.earlier_finals(plan(epochs), rows, trainings)
    return found and [row.number for row in found.ranked]


def test_the_longest_finals_count_and_in_them_who_has_come_through_since() -> None:
    rows = [candidate(number, 0.5) for number in range(5)]
    rows[4] = replace(rows[4], proposed_at=MOMENT + timedelta(hours=1))
    short = [final(rows[0], 0.99, 10), final(rows[3], 0.98, 10)]
    long = [final(rows[1], 0.7), final(rows[2], 0.8)]
    assert earlier(20, rows, [*short, *long]) == earlier(30, rows, [*short, *long]) == [2, 1]
    assert earlier(20, rows, [*short, *long, final(rows[4], 0.75, hours=2)]) == [2, 4, 1]
    assert earlier(20, rows[:4], [*short, *long]) == [0, 3], "the long ones are under way for the first time"
    assert earlier(20, rows[:4], long) is None


def test_finals_that_a_baseline_alone_has_come_through_choose_nobody() -> None:
    rows = [candidate(0, 0.5, baseline="[1,1,1]"), candidate(1, 0.6)]
    rows[1] = replace(rows[1], proposed_at=MOMENT + timedelta(hours=1))
    assert earlier(20, rows, [final(rows[0], 0.7)]) is None
    assert earlier(20, rows, [final(rows[0], 0.7), final(rows[1], 0.6)]) == [0, 1]
