"""A search that maximises another score than accuracy: Optuna hears it, and all that is said names it."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import pytest
from command import run
from comparison_samples import Trial, add_study, config
from optuna.trial import TrialState
from report_samples import BEGAN, report_data, trial
from sqlalchemy import text
from worker_samples import FakeTraining, accuracy_of, make_config, make_context, make_study

from search.commands import fields
from search.comparison import studies as comparison, text as comparison_text
from search.comparison.studies import ComparedStudy
from search.launcher.prepare import Flags, make_config as config_of
from search.optuna_adapter import study as optuna_study
from search.recording import reconcile
from search.report import page as report_page
from search.report.data import ReportData
from search.study import halving, reader, score as scores, standing
from search.study.config import StudyConfig
from search.study.text import best_line
from search.training import confirm, contenders
from search.worker import trial as worker_trial
from search.worker.context import WorkerContext
from space.architecture import Architecture
from space.errors import StudyError
from storage import candidates, database, invariants, leases
from storage.leases import Claim
from storage.row_types import Candidate, RungTraining, Stage, State
from trainer.outcome import EpochReport

Capture = pytest.CaptureFixture[str]
F1 = make_config(score="macro-f1")


def test_every_score_that_a_study_can_have_is_told_to_programs() -> None:
    words = set(re.findall(r"[\w-]+", fields.STATUS["score"]))
    assert set(get_args(scores.ScoreName)) <= words


def against_accuracy(architecture: Architecture) -> float:
    """The more accurate, the worse."""
    return 1.0 - accuracy_of(architecture)


@contextmanager
def searched(url: str, settings: StudyConfig, trials: int = 6) -> Iterator[WorkerContext]:
    """A study of which all trials are trained, where macro F1 falls as accuracy rises."""
    engine, record = make_study(url, settings, trials)
    train = FakeTraining(macro_f1=against_accuracy)
    with optuna_study.open_study(url, record.name, settings) as opened, TemporaryDirectory() as folder:
        context = make_context(opened, engine, record, train, settings, Path(folder))
        while isinstance(claim := leases.claim(engine, record.id, "one", 60.0), Claim):
            worker_trial.run(context, claim)
        yield context
    engine.dispose()


def test_optuna_hears_the_score_after_each_epoch_and_at_the_end_and_accuracy_stays_beside_it(
    database_url: str,
) -> None:
    with searched(database_url, F1) as context:
        rows = candidates.candidates(context.engine, context.study_id)
        curves = candidates.epochs(context.engine, context.study_id)
        for row, told in zip(rows, context.study.get_trials(deepcopy=False), strict=True):
            assert row.accuracy == accuracy_of(Architecture.parse(row.architecture))
            assert told.value == row.score == pytest.approx(1 - (row.accuracy or 0.0))
            assert list(told.intermediate_values.values()) == [epoch.score for epoch in curves[row.id]]
            assert curves[row.id][-1].validation_accuracy == row.accuracy
        assert context.study.metric_names == ["validation macro F1"]
        assert reconcile.disagreements(context.study, rows) == []
        (best,) = candidates.best(context.engine, context.study_id)
        assert best.accuracy == min(row.accuracy or 0.0 for row in rows)
        with database.reading(context.engine) as connection:
            view = connection.execute(text("SELECT trial, score, accuracy FROM search_best")).one()
        assert tuple(view) == (best.number, best.score, best.accuracy)


def test_a_search_for_accuracy_keeps_no_other_score(sqlite_url: str) -> None:
    with searched(sqlite_url, make_config(), 2) as context:
        rows = candidates.candidates(context.engine, context.study_id)
        assert [row.score for row in rows] == [None, None]
        assert context.study.best_value == max(row.accuracy or 0.0 for row in rows)


def test_the_pruner_stops_by_the_score(sqlite_url: str) -> None:
    """Every later network is more accurate than all before, and has a lower score."""
    turn = iter(range(100))

    def rising(_: Architecture) -> float:
        return 0.5 + next(turn) / 1_000

    train = FakeTraining(accuracy=rising, macro_f1=lambda _: 0.5 - next(turn) / 1_000)
    settings = make_config(score="macro-f1", pruner="median")
    engine, record = make_study(sqlite_url, settings, 12)
    with optuna_study.open_study(sqlite_url, record.name, settings) as opened, TemporaryDirectory() as folder:
        context = make_context(opened, engine, record, train, settings, Path(folder))
        states = []
        while isinstance(claim := leases.claim(engine, record.id, "one", 60.0), Claim):
            states.append(worker_trial.run(context, claim))
        assert states == [State.COMPLETED] * 10 + [State.PRUNED] * 2
        pruned = opened.get_trials(deepcopy=False, states=(TrialState.PRUNED,))
        assert all((one.value or 1.0) < 0.5 for one in pruned), "the score of its last epoch"
    engine.dispose()


def test_the_score_is_of_the_study_and_another_is_refused(tmp_path: Path, digits: Path) -> None:
    flags = Flags(f"sqlite:///{tmp_path / 's.db'}", digits, 3, "night", data="digits", score="macro-f1")
    stored = config_of(flags, None)
    assert stored.score == "macro-f1"
    assert config_of(replace(flags, score=None), stored) == stored
    assert StudyConfig.from_record(json.loads(json.dumps(stored.document()))) == stored
    from search.study.config import require_same

    with pytest.raises(StudyError, match=r"with another --score \(macro-f1, not accuracy\)"):
        require_same("night", stored, config_of(replace(flags, score="accuracy"), stored))


def test_a_study_of_before_maximises_accuracy() -> None:
    document = make_config().document()
    del document["score"]
    assert StudyConfig.from_record(document).score == "accuracy"


def test_a_plan_says_what_is_maximised_where_that_is_not_accuracy(
    capsys: Capture, tmp_path: Path, digits: Path
) -> None:
    dry = ("launch", "--trials", 3, "--data", "digits", "--gpus", "none", "--workers", 0, "--dry-run",
           "--storage", f"sqlite:///{tmp_path / 'p.db'}", "--data-dir", digits)  # fmt: skip
    line = "score    the search maximises balanced accuracy of validation images, not accuracy"
    assert line in run(capsys, *dry, "--score", "balanced-accuracy").err.splitlines()
    assert "score   " not in run(capsys, *dry).err
    assert run(capsys, *dry, "--score", "kappa").code == 2


def test_status_best_trials_and_export_show_score_and_accuracy(
    capsys: Capture, sqlite_url: str, tmp_path: Path
) -> None:
    with searched(sqlite_url, F1) as context:
        (best,) = candidates.best(context.engine, context.study_id)
    store = ("--storage", sqlite_url)
    both = f"macro F1 {100 * (best.score or 0):.2f}%, accuracy {100 * (best.accuracy or 0):.2f}%"
    said = run(capsys, "status", *store).out
    assert said.splitlines()[0].endswith(", maximises macro F1")
    assert f"best so far: {both} (95% " in said
    assert f"6 of 6 trained, best {both} (trial {best.number})" in run(capsys, "wait", *store).out
    row = json.loads(run(capsys, "status", *store, "--format", "json").out)[0]
    assert row["score"] == "macro-f1"
    assert row["best"]["score"] == pytest.approx(best.score)
    assert row["best"]["accuracy"] == pytest.approx(best.accuracy)
    sorted_ = json.loads(run(capsys, "trials", *store, "--sort", "score", "--format", "json").out)
    assert [one["score"] for one in sorted_] == sorted((one["score"] for one in sorted_), reverse=True)
    assert sorted_[0]["trial"] == best.number
    assert f"{100 * (best.score or 0):.2f}%" in run(capsys, "best", *store).out
    out = tmp_path / "best.json"
    assert run(capsys, "export", "--out", out, *store).code == 0
    metrics = json.loads(out.read_text())["metrics"]
    assert (metrics["score"], metrics["validation_score"]) == ("macro-f1", best.score)
    assert metrics["validation_accuracy"] == best.accuracy
    assert "chosen among 6 trained networks by its macro F1" in metrics["measured_on"]
    assert run(capsys, "verify", out).code == 0


def test_a_table_of_a_search_for_accuracy_has_no_column_of_scores(capsys: Capture, sqlite_url: str) -> None:
    with searched(sqlite_url, make_config(), 2):
        pass
    assert "score" not in run(capsys, "trials", "--storage", sqlite_url).out
    assert "score" not in run(capsys, "best", "--storage", sqlite_url).out


def test_a_lead_over_baselines_is_in_the_score_and_the_interval_is_of_accuracy() -> None:
    rows = [
        trial(0, accuracy=0.90, score=0.50, baseline="[3,3,3] at full budget"),
        trial(1, accuracy=0.89, score=0.62),
        trial(2, accuracy=0.95, score=0.40),
    ]
    found = standing.standing(rows, 1_000)
    assert standing.describe(found, score="macro-f1") == (
        "the best baseline [3,3,3] at full budget: macro F1 50.00%, accuracy 90.00%; the winner is 12.0"
        " points of macro F1 ahead (-1.0 of accuracy, 95% interval -3.7 to 1.7)"
    )
    assert found.standing and found.standing.is_ahead
    assert best_line(rows[1], 1_000, "macro-f1").startswith("best so far: macro F1 62.00%, accuracy 89.00% (")


def test_a_report_names_the_score_on_its_axes_and_in_its_table() -> None:
    rows = [trial(i, accuracy=0.9 - i / 100, score=0.5 + i / 100) for i in range(6)]
    rows[2] = replace(rows[2], baseline="[3,3,3] at full budget")
    plain = report_data(rows)
    data = ReportData(plain.record, plain.config.model_copy(update={"score": "macro-f1"}), rows, plain.epochs)
    made = report_page.page(data.record, data.config, rows, data.epochs)
    assert data.winner is not None and data.winner.number == 5, "the least accurate"
    assert "55.00% macro F1" in made and "85.00%" in made
    assert "<b class=long>-3.0 points</b>best proposal against the best baseline, of accuracy, 95%" in made
    assert '"validation macro F1, %"' in made
    assert "by its macro F1" in made
    assert '"score":[5000,' in made
    assert "data-column=score" in made
    assert "macro F1 of validation images" in made
    of_accuracy = report_page.page(plain.record, plain.config, [trial(0)], {})
    assert "macro F1" not in of_accuracy and "data-column=score" not in of_accuracy


def training_of(row: Candidate, stage_epochs: int, accuracy: float, score: float) -> RungTraining:
    return RungTraining(
        id=row.id, study_id=1, candidate_id=row.id, number=row.number, stage=Stage.HALVING,
        epochs=stage_epochs, seed=0, attempt=1, state=State.COMPLETED, reason=None, epoch=stage_epochs,
        accuracy=accuracy, best_accuracy=accuracy, loss=1.0, seconds=1.0, images_per_second=1.0,
        batch_size=None, device="cpu", worker="one", entered_at=BEGAN, finished_at=BEGAN, score=score,
    )  # fmt: skip


def test_halving_and_finals_go_by_the_score() -> None:
    rows = [trial(i, accuracy=0.9 - i / 100, score=0.5 + i / 100) for i in range(20)]
    from search.study.finish_plan import make_plan

    plan = make_plan(make_config(), None, 2, 200, 1)
    first = halving.reached(plan, rows, [])[0]
    assert [row.number for row in first.entrants] == list(range(19, 3, -1))
    trained = [training_of(row, first.epochs, 0.5 + row.number / 100, 0.9 - row.number / 100)
               for row in first.entrants]  # fmt: skip
    second = halving.reached(plan, rows, trained)[1]
    assert [row.number for row in second.entrants] == [4, 5, 6, 7]


def compared(url: str) -> comparison.Comparison:
    studies = []
    for label, name in (("A", "a"), ("B", "b")):
        with reader.open_study(url, name) as view:
            read = (view.record, view.config, view.rows(), view.second_stage())
            studies.append(ComparedStudy.from_rows(label, *read))
    return comparison.compare(studies)


def test_searches_for_other_scores_are_not_comparable(sqlite_url: str) -> None:
    add_study(sqlite_url, "a", [0.5])
    add_study(sqlite_url, "b", [Trial(0.6, score=0.4)], config(score="macro-f1"))
    (pair,) = compared(sqlite_url).pairs
    assert pair.reasons == ("they maximise other scores (accuracy and macro-f1)",)
    assert not pair.leads and not pair.gaps


def test_searches_for_the_same_score_are_compared_by_it_with_the_interval_of_accuracy(
    capsys: Capture, sqlite_url: str, tmp_path: Path
) -> None:
    for name, best in (("a", (0.90, 0.60)), ("b", (0.88, 0.65))):
        made = [Trial(best[0], score=best[1]), Trial(0.95, score=0.1)]
        add_study(sqlite_url, name, made, config(score="macro-f1"))
    found = compared(sqlite_url)
    assert comparison_text.standing(found, found.pairs[0])[0] == (
        "at 2 trials: A has a macro F1 5.0 points lower than the other; of accuracy, A is ahead by 2.0"
        " points, 95% 0.8 to 3.2: clear"
    )
    assert any("The best is that by macro F1" in line for line in comparison_text.notes(found))
    page = tmp_path / "c.html"
    result = run(capsys, "compare", "a", "b", "--storage", sqlite_url, "--format", "json", "--out", page)
    assert result.code == 0, result.err
    one = json.loads(result.out)[0]
    assert (one["best"]["score"], one["best"]["accuracy"]) == (0.6, 0.9)
    assert "The best is that by macro F1" in page.read_text()


def test_confirm_takes_and_ranks_by_the_score(tmp_path: Path) -> None:
    rows = [trial(i, accuracy=0.9 - i / 10, score=0.5 + i / 10) for i in range(3)]
    assert [row.number for row in contenders.completed(rows, "s")] == [2, 1, 0]
    flags = contenders.Flags(
        study="s", storage="", data_dir=tmp_path, top=1, seeds=2, epochs=1, rank_sample=0, also=(), data=None,
        out=None, workers=None, gpus="none",
    )  # fmt: skip
    ranked = contenders.completed(rows, "s")
    (contender,) = contenders.choose(flags, "s", ranked, tmp_path, "macro-f1")
    (by_accuracy,) = contenders.choose(flags, "s", ranked, tmp_path, "accuracy")
    contender.folder.mkdir()
    seeds = [{"validation": {"accuracy": 0.7, "macro_f1": f1}, "test": None} for f1 in (0.5, 0.6)]
    result = {"seeds": seeds, "parameters": 1, "macs": 1}
    (contender.folder / "result.json").write_text(json.dumps(result))
    row = confirm._row(contenders.read(contender))
    assert (row["brief_score"], row["full_score"]) == (0.7, pytest.approx(0.55))
    assert (row["brief_accuracy"], row["full_accuracy"]) == (pytest.approx(0.7), 0.7)
    row = confirm._row(contenders.read(by_accuracy))
    assert (row["brief_score"], row["full_score"]) == (None, None)


def test_the_ledger_of_a_search_for_a_score_keeps_its_rules(sqlite_url: str) -> None:
    with searched(sqlite_url, F1, 2) as context:
        assert invariants.check(context.engine, context.study_id) == []


def test_each_score_is_the_one_of_its_name() -> None:
    report = EpochReport(
        1, 1, 1.0, 1.0, 0.9, 0.1, 1.0, 1.0, balanced_accuracy=0.8, macro_f1=0.7, own_score=0.6
    )
    found = {name: scores.beside_accuracy(name, report) for name in scores.WORDS}
    assert found == {"accuracy": None, "balanced-accuracy": 0.8, "macro-f1": 0.7, "own": 0.6}


def test_a_score_survives_a_database_that_is_away() -> None:
    """What is spooled to a file comes back with it."""
    from search.recording.spool import SpooledTrial, TrialEnd
    from storage.row_types import Epoch, TrainingMetrics

    outcome = TrainingMetrics(0.9, 0.9, 1.0, 1, 1.0, 1.0, score=0.4)
    owed = SpooledTrial(
        Claim(1, 1, 1, "one"), 1, 0, (Epoch(1, 1.0, 1.0, 0.9, 0.1, 1.0, 0.4),),
        TrialEnd(State.COMPLETED, None, outcome),
    )  # fmt: skip
    back = SpooledTrial.parse(owed.text())
    assert back == owed and back.epochs[0].value == 0.4
