"""The report of a study: right of any study, of honest figures, and alive in a browser."""

import json
import re
from collections import Counter
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from random import Random
from statistics import fmean, median
from typing import Any

import pytest
from browser import open_page
from command import run
from comparison_samples import Trial, add_finals, add_study
from report_samples import BEGAN, EPOCHS, config, mixture, network, report_data, study, trial
from sqlalchemy import insert
from worker_samples import make_study

from search.report import (
    choice_plots,
    choices,
    fates,
    made,
    page as report_page,
    progress,
    size,
    stages,
    trials,
)
from search.report.curves import curves
from search.report.network_parts import part_costs, parts
from search.report.parts import script_data
from search.study import export, finish_plan, halving
from search.study.bill import bill
from search.study.second_stage import SecondStage
from space import cost
from storage import candidates, database, tables
from storage.row_types import Candidate, Epoch, RungTraining, State
from storage.trainings import Finished

EVIL = "<script>alert('x')</script> \"night\" & day"


def page_of(rows: list[Candidate], name: str = "night") -> str:
    data = report_data(rows, name)
    return report_page.page(data.record, data.config, rows, data.epochs)


def sections(page: str) -> list[str]:
    return re.findall(r"<section id=([\w-]+)>", page)


def test_a_report_of_a_finished_search_has_every_section_and_a_link_to_each() -> None:
    page = page_of(mixture(60))
    names = ["winner", "search", "size", "curves", "choices", "compute", "fates", "trials", "made"]
    assert sections(page) == names
    assert re.findall(r"<a href=#([\w-]+)>", page) == names
    assert "<script src" not in page and "<link" not in page, "the page must stand alone"


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([], "No network was trained to the end yet"),
        ([trial(0)], "The winner: trial 0"),
        ([trial(0, State.RUNNING)], "No network was trained to the end yet"),
        ([trial(i, State.PRUNED, 0.3, 4) for i in range(12)], "12 networks were pruned, and none trained"),
        ([trial(i, State.FAILED, reason="no memory") for i in range(12)], "no memory"),
        ([trial(i, State.OVER_BUDGET) for i in range(3)], "3 proposals = 3 over budget; 0 of 200 asked for"),
        ([trial(i, State.LOST, seconds=None) for i in range(3)], "no reason stored"),
        ([trial(i, accuracy=0.5) for i in range(12)], "none of the choices that vary explains"),
        ([trial(i, accuracy=1.0) for i in range(12)], "100.00%"),
        ([trial(0, State.PRUNED, 0.0, 1), trial(1, accuracy=0.0)], "0.00%"),
    ],
    ids=["nothing", "one", "running", "pruned", "failed", "none-fits", "lost", "alike", "perfect", "zero"],
)
def test_a_report_is_right_of_a_search_that_came_to_little(rows: list[Candidate], says: str) -> None:
    page = page_of(rows)
    assert says in page
    assert "NaN" not in re.sub(
        r"<script( type='text/plain' id=plotly)?>.*?</script>", "", page, flags=re.DOTALL
    )
    assert sections(page)[-1] == "made"


def test_names_and_reasons_cannot_write_into_the_page() -> None:
    rows = [trial(0, worker=EVIL), trial(1, State.FAILED, reason=EVIL, device=EVIL, worker=EVIL)]
    page = page_of([*rows, *(trial(i, baseline=EVIL) for i in range(2, 12))], EVIL)
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert") >= 4


def test_json_in_the_page_ends_no_element_and_stays_the_same_value() -> None:
    found = script_data({"name": EVIL}, "trials-data")
    assert found.count("</script>") == 1
    assert json.loads(re.sub(r"<.*?>", "", found)) == {"name": EVIL}


def test_the_ledger_of_a_report_adds_up() -> None:
    rows = mixture(120)
    said = re.search(r"<p>(\d+) proposals = (.*?);", fates.fates(report_data(rows)))
    assert said is not None
    counts = [int(number) for number in re.findall(r"\d+", said[2])]
    assert sum(counts) == int(said[1]) == 120
    assert sorted(counts) == sorted(Counter(row.state for row in rows).values())


def test_parts_of_a_network_have_all_of_its_parameters_and_compute() -> None:
    for number in range(20):
        spent, found = cost.total(network(number)), part_costs(network(number)).values()
        assert sum(part.parameters for part in found) == spent.parameters
        assert sum(part.macs for part in found) == spent.macs
        assert [part.name for part in parts(network(number))] == list(part_costs(network(number)))


def test_the_pareto_front_has_what_nothing_as_small_beats() -> None:
    sizes = {0: (100, 0.5), 1: (200, 0.4), 2: (200, 0.6), 3: (300, 0.6), 4: (400, 0.7)}
    rows = [trial(n, accuracy=accuracy, parameters=p) for n, (p, accuracy) in sizes.items()]
    assert [row.number for row in size.pareto(rows, lambda row: row.parameters)] == [0, 2, 4]


def test_the_budget_curve_gains_only_where_the_best_changes() -> None:
    shares = {0: (0.25, 0.6), 1: (0.45, 0.5), 2: (0.65, 0.8)}
    limit = config().budget.max_parameters
    rows = [trial(n, accuracy=a, parameters=round(share * limit)) for n, (share, a) in shares.items()]
    steps = size.budget_steps(report_data(rows))
    assert [round(10 * step.share) for step in steps] == [3, 4, 5, 6, 7, 8, 9, 10]
    assert [step.best.number for step in steps] == [0, 0, 0, 0, 2, 2, 2, 2]
    assert [step.networks for step in steps] == [1, 1, 2, 2, 3, 3, 3, 3]
    gains = [step.gain for step in steps]
    assert [gain is not None for gain in gains] == [False] * 4 + [True] + [False] * 3
    assert gains[4] is not None and gains[4].points == pytest.approx(0.2)


def test_pruning_saved_the_epochs_that_pruned_trials_did_not_train() -> None:
    rows = [trial(0), trial(1, State.PRUNED, 0.3, 2), trial(2, State.PRUNED, 0.3, 6)]
    shown = curves(report_data(rows))
    saved = 2 * EPOCHS - 8
    assert f"<b>{saved} epochs</b>not trained, {100 * saved / (3 * EPOCHS):.0f}% of the {3 * EPOCHS}" in shown
    assert f"<b>{3.75 * saved:.0f} s</b>" in shown


def test_a_choice_that_says_it_all_explains_all_and_one_at_random_nothing() -> None:
    assert choices.epsilon_squared([(i % 2, float(i % 2)) for i in range(20)]) == pytest.approx(1)
    assert choices.epsilon_squared([(i % 2, float(i // 2 % 2)) for i in range(20)]) == pytest.approx(
        0, abs=0.1
    )
    assert choices.epsilon_squared([(0, 0.5), (1, 0.5)]) is None
    assert choices.epsilon_squared([]) is None


def test_what_chance_alone_makes_of_the_largest_share_is_said() -> None:
    """Of some twenty choices of a few networks one explains a quarter of pure noise, and more."""
    largest, chances = list[float](), list[float]()
    for seed in range(10):
        noise = Random(seed)
        data = report_data([trial(i, accuracy=0.9 + noise.gauss(0, 0.005)) for i in range(20)])
        found = choices.varying(data)
        chance = choices.by_chance(found, data)
        assert chance is not None and 0.3 < chance < 0.6
        chances.append(chance)
        largest.append(found[0].importance or 0.0)
    assert median(largest) > 0.2
    assert sum(share < chance for share, chance in zip(largest, chances, strict=True)) >= 9
    shown = choice_plots.choices(data)
    assert f"the largest bar would end below {100 * chance:.0f}% in 95 of 100 cases" in shown
    assert choices.by_chance(found, report_data([trial(i, accuracy=0.5) for i in range(20)])) is None


def test_a_choice_that_matters_is_above_what_chance_makes_of_any() -> None:
    data = report_data(mixture(120))
    found = choices.varying(data)
    stages = next(choice for choice in found if choice.name == "stages")
    chance = choices.by_chance(found, data)
    assert stages.importance is not None and chance is not None and stages.importance > chance


def test_choices_are_those_of_the_networks_that_were_trained() -> None:
    data = report_data(mixture(120))
    stages = next(choice for choice in choices.varying(data) if choice.name == "stages")
    for row in data.trained:
        assert stages.values[stages.of[row.number]] == str(len(network(row.number % 40).stages))
    assert stages.importance is not None and stages.importance > 0.5, "the accuracy was made of the stages"
    by_value = [
        [row.accuracy or 0 for row in data.completed if stages.of[row.number] == i]
        for i in range(len(stages.values))
    ]
    means = [fmean(scores) for scores in by_value if scores]
    assert means == sorted(means)


def test_early_scores_hold_all_that_were_trained_after_the_same_epoch() -> None:
    data = report_data(mixture(30))
    epoch, found = choices.early_scores(data)
    assert (epoch, len(found)) == (4, len(data.trained))


def test_an_outage_is_when_nothing_ran_for_long() -> None:
    late = timedelta(minutes=20)
    rows = [trial(i) for i in range(4)]
    rows += [trial(i, proposed_at=BEGAN + late, finished_at=BEGAN + late * 2) for i in (4, 5)]
    ((start, end),) = fates.outages(fates.spans(report_data(rows)))
    assert (start - BEGAN, end - BEGAN) == (timedelta(seconds=90), late)
    assert fates.outages(fates.spans(report_data(rows[:4]))) == []


def hours_of(worker: str, start: float, end: float) -> list[Candidate]:
    """Trials of six minutes that a worker trains one after the other, almost without a pause."""
    minutes = range(round(60 * start), round(60 * end), 6)
    return [
        trial(
            i, State.COMPLETED, worker=worker, proposed_at=BEGAN + timedelta(minutes=at),
            finished_at=BEGAN + timedelta(minutes=at + 5.95),
        )
        for i, at in enumerate(minutes)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("hours", "share"),
    [
        ({"a": (0, 5), "b": (0, 5)}, 99),
        ({"a": (0, 10), "b": (0, 5)}, 74),  # it waited until the other had ended
        ({"a.1": (0, 5), "b.1": (0, 5), "a.2": (5, 10), "b.2": (5, 10)}, 99),
        ({"a.1": (0, 5), "b.1": (0, 5), "a.2": (20, 25), "b.2": (20, 25)}, 99),
        ({"a": (0, 10), "b.1": (0, 4), "b.2": (4, 10)}, 99),  # started again beside another
        ({"a": (0, 10), "b": (5, 10)}, 99),  # it joined
    ],
    ids=["one launch", "one ended early", "two launches", "a night between", "started again", "joined"],
)
def test_workers_were_busy_for_their_share_of_the_time_of_their_own_launch(
    hours: dict[str, tuple[float, float]], share: int
) -> None:
    rows = [row for worker, (start, end) in hours.items() for row in hours_of(worker, start, end)]
    assert f" {share}% of the time that they were there for" in fates.fates(report_data(rows))


def test_very_many_trainings_of_a_worker_are_drawn_as_pieces_of_the_same_length() -> None:
    rows = [trial(i, finished_at=BEGAN + timedelta(seconds=20 * i + 15)) for i in range(3_000)]
    later = timedelta(days=1)
    rows += [
        replace(row, proposed_at=row.proposed_at + later, finished_at=BEGAN + later * 2) for row in rows[:1]
    ]
    found = fates.spans(report_data(rows))
    pieces = fates.merged(found)
    ends = {
        worker: max(one.end for one in found if one.worker == worker) for worker in ("worker-0", "worker-1")
    }
    assert len(pieces) == 3, "the day without a training stays a gap"
    assert {one.worker: one.end for one in pieces} == ends
    assert "drawn as one piece" in fates.fates(report_data(rows))


def test_a_page_of_very_many_trials_says_what_it_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "BYTES", 3_000)
    monkeypatch.setattr(trials, "CURVES", 5)
    data = report_data(mixture(60))
    shown = trials.trials(data)
    (embedded,) = re.findall(r"id=trials-data>(.*?)</script>", shown)
    document = json.loads(embedded)
    kept = document["columns"]["number"]
    assert len(embedded) <= 3_000 and 5 < len(kept) < len(data.completed)
    assert sorted(kept) == sorted(row.number for row in data.completed[: len(kept)]), "the best"
    assert f"{60 - len(kept)} trials of 60 are left out, those without an accuracy first" in shown
    assert "curves are kept of the best 5" in shown and len(document["curves"]) == 5


def second_stage(rows: list[Candidate]) -> SecondStage:
    """Halving and finals that are over: what is trained longer is better, by the same for all."""
    plan, trainings = finish_plan.make_plan(config(), None, epochs=64), list[RungTraining]()
    while missing := [one for rung in halving.reached(plan, rows, trainings) for one in rung.missing]:
        for entry in missing:
            row = next(row for row in rows if row.id == entry.candidate_id)
            trainings.append(
                RungTraining(
                    **asdict(entry), id=len(trainings), study_id=1, number=row.number, attempt=1,
                    state=State.COMPLETED, reason=None, epoch=entry.epochs, best_accuracy=None, loss=0.1,
                    accuracy=(row.accuracy or 0) + entry.epochs / 1000 + entry.seed / 10_000, seconds=60.0,
                    images_per_second=None, batch_size=None, device="cpu", worker="worker-0",
                    entered_at=BEGAN + timedelta(hours=1), finished_at=BEGAN + timedelta(hours=2),
                )
            )  # fmt: skip
    return SecondStage(plan, rows, trainings, [], len(rows))


def test_a_second_stage_is_told_from_the_brief_scores_to_the_finals() -> None:
    rows = [trial(i, accuracy=0.5 + i / 100, baseline="plain" if i == 3 else None) for i in range(20)]
    data = report_data(rows)
    page = report_page.page(data.record, data.config, rows, data.epochs, 0, second_stage(rows))
    assert "stages" in sections(page)
    assert "The winner: trial 19" in page
    assert "Winner of the finals of 64 epochs, trial 19: 75.41% (95% 75.39-75.43%)" in page
    for heading in ("8 epochs<br>17 networks", "32 epochs<br>16 networks", "64 epochs<br>3 networks"):
        assert heading.replace("<", "\\u003c") in page, "a place on the chart"
    assert "trial 3 (baseline)" in page, "the best baseline is in the finals"
    assert "second stage" in fates.fates(replace(data, second=second_stage(rows))), "on the timeline"


def full(row: Candidate, seed: int, accuracy: float, **more: Any) -> Finished:
    """A training of 200 epochs that was asked for by hand, an hour after the study began."""
    given: dict[str, Any] = {
        "run": "one", "seed": seed, "subject": f"night:{row.number}", "study": "night", "trial": row.number,
        "fingerprint": row.fingerprint, "parameters": row.parameters, "macs": row.macs, "architecture": {},
        "recipe": {"epochs": 200}, "data": config().data.model_dump(mode="json"), "epochs": 200,
        "accuracy": accuracy, "best_accuracy": accuracy, "best_epoch": 1, "loss": 0.5, "test_accuracy": None,
        "test_loss": None, "test_images": None, "seconds": 1.0, "device": "cpu", "versions": {}, "folder": "",
        "finished_at": BEGAN + timedelta(hours=1),
    }  # fmt: skip
    return Finished(**given | more)


def test_a_report_says_where_the_validation_images_are_from() -> None:
    data = report_data([trial(0)])
    own = config().data.model_copy(update={"spec": "folder:pets", "own_validation": True})
    of_folder = replace(data, config=config().model_copy(update={"data": own}))
    for found, said in ((data, "10% split off by seed 0"), (of_folder, "the folder&#x27;s own (val/)")):
        assert f"<td>100, {said}<" in made.made(found)


def test_the_time_of_a_report_has_the_second_stage() -> None:
    """An hour of trials, then two hours of finals on another machine."""
    hour = timedelta(hours=1)
    rows = [
        trial(i, seconds=1_800.0, proposed_at=BEGAN + i * hour / 2, finished_at=BEGAN + (i + 1) * hour / 2)
        for i in range(2)
    ]
    said = "1 h 0 min from the first proposal to the last end, 1 h 0 min of device time"
    assert f"{said}<" in made.made(report_data(rows))
    second = second_stage(rows)
    trainings = [
        replace(one, seconds=7_200.0 / len(second.trainings), finished_at=BEGAN + 3 * hour, device="H200",
                worker="other")
        for one in second.trainings
    ]  # fmt: skip
    page = made.made(replace(report_data(rows), second=replace(second, trainings=trainings)))
    assert (
        "3 h 0 min from the first proposal to the last end, 3 h 0 min of device time, 2 h 0 min of it in the"
        " second stage" in page
    )
    facts = dict(re.findall(r"<t[hd][^>]*>([^<]+)<td[^>]*>([^<]*)", page))
    assert (facts["devices"], facts["workers"]) == ("H200, cpu", "3")


def test_the_time_of_an_attempt_that_another_goes_on_from_counts_once() -> None:
    """Seven epochs of 4 s until Ctrl-C, and the eighth by the attempt that has all of them in its seconds."""
    told = replace(trial(0, State.CANCELLED, seconds=28.0, fingerprint="same"), epochs=7)
    night = BEGAN + timedelta(hours=12)
    lost = trial(1, State.LOST, fingerprint="other", finished_at=night)
    found = report_data([told, lost, trial(2, State.RUNNING, fingerprint="same")])
    assert list(found.seconds.values()) == [28.0, 0.0, 0.0], "as long as the next one has no seconds"
    rows = [told, lost, trial(2, epochs=8, seconds=32.0, fingerprint="same")]
    data = report_data(rows)
    assert list(data.seconds.values()) == [0.0, 0.0, 32.0]
    assert "32 s of device time" in made.made(data) and "100% of 32 s of device time" in progress.progress(
        data
    )
    epochs = {**data.epochs, lost.id: [Epoch(i, 1.0, 1.0, 0.5, 0.1, 4.0) for i in (1, 2)]}
    assert list(replace(data, epochs=epochs).seconds.values()) == [0.0, 8.0, 32.0], "lost for good after two"
    again = trial(3, State.PRUNED, 0.3, 3, seconds=12.0, fingerprint="other")
    of_again = {again.id: [Epoch(i, 1.0, 1.0, 0.5, 0.1, 4.0) for i in (1, 2, 3)]}
    both = replace(data, rows=[*rows, again], epochs={**epochs, **of_again})
    assert list(both.seconds.values()) == [0.0, 0.0, 32.0, 12.0]


@pytest.mark.parametrize(("first", "counted"), [(4.0, 0.0), (4.000001, 8.0)])
def test_an_attempt_that_was_trained_anew_on_another_machine_costs_beside_it(
    first: float, counted: float
) -> None:
    """A worker died after two epochs. Who finds its checkpoint stores the same epochs again, as long as they
    took to the last digit; on a machine that has none the first epoch is another."""
    lost = trial(0, State.LOST, fingerprint="same", finished_at=BEGAN + timedelta(hours=12))
    completed = trial(1, epochs=3, seconds=12.0, fingerprint="same")
    spans = {lost.id: (4.0, 4.0), completed.id: (first, 4.0, 4.0)}
    epochs = {
        key: [Epoch(i, 1.0, 1.0, 0.5, 0.1, one) for i, one in enumerate(each, 1)]
        for key, each in spans.items()
    }
    data = replace(report_data([lost, completed]), epochs=epochs)
    assert data.seconds == {lost.id: counted, completed.id: 12.0}
    assert f"{12 + counted:.0f} s of device time" in made.made(data)
    assert bill([lost, completed], (), epochs).brief == 12.0 + counted


@pytest.mark.parametrize(("first", "minutes"), [(600.0, 60), (601.0, 110)])
def test_status_and_report_agree_on_what_trials_have_cost(
    sqlite_url: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, first: float, minutes: int
) -> None:
    """A worker was lost after five epochs of ten minutes; finals of one seed took 100 s."""
    attempts = [Trial(None, State.LOST, "same", seconds=None), Trial(0.5, network="same", seconds=3_600.0)]
    record = add_study(sqlite_url, "night", attempts)
    add_finals(sqlite_url, record, 1, (0.9,))
    engine = database.connect(sqlite_url)
    spans = zip(candidates.candidates(engine, record.id), ((600.0,) * 5, (first, *[600.0] * 5)), strict=True)
    stored = [
        {"candidate_id": row.id, "epoch": i, "learning_rate": 0.1, "seconds": one}
        for row, each in spans
        for i, one in enumerate(each, 1)
    ]
    with database.writing(engine) as connection:
        connection.execute(insert(tables.epochs), stored)
    engine.dispose()
    said = run(capsys, "status", "night", "--storage", sqlite_url).out
    run(capsys, "report", "night", "--storage", sqlite_url, "--out", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    spent = finish_plan.duration(60.0 * minutes + 100.0)
    assert f"of {spent} of training" in said and f"of {spent} of training" in page
    assert f"{spent} of device time" in page


def test_an_attempt_that_ended_in_its_first_epoch_left_nothing_to_go_on_from() -> None:
    """Half a minute of an epoch, then Ctrl-C."""
    told, completed = trial(0, State.CANCELLED, fingerprint="same"), trial(1, fingerprint="same")
    assert report_data([told, completed]).seconds == {told.id: 30.0, completed.id: 30.0}


def test_a_seed_that_was_trained_twice_is_one_seed_and_other_trainings_are_others() -> None:
    """On a CPU the second is the same to the bit: as two they would have an interval, and a narrower one."""
    row = trial(0)
    twice = [full(row, seed, 0.8 + seed / 100, run=run) for run in ("one", "two") for seed in (0, 1)]
    before = BEGAN - timedelta(days=1)
    by_another_seed = {"split_seed": 1, "split_digest": "2" * 64}  # on what validated the brief trainings
    others = [
        full(row, 2, 0.1, finished_at=before),
        full(row, 3, 0.2, fingerprint="of a study of this name that was deleted"),
        full(row, 4, 0.3, data=config().data.model_dump(mode="json") | {"digest": "other images"}),
        full(row, 6, 0.4, data=config().data.model_dump(mode="json") | by_another_seed),
        full(row, 5, 0.4, recipe={"epochs": 200, "batch_size": 7}),
    ]
    shown = "".join(stages._confirmed(replace(report_data([row]), full=[*others, *twice])))
    assert "<td>0<td>80.50%<td>80.00% and 81.00%<td>2<td>" in shown
    assert stages._confirmed(replace(report_data([row]), full=others[:4])) == []


@pytest.mark.parametrize("epochs", [200, 400])
@pytest.mark.parametrize("recipe", [{"epochs": 200}, {"epochs": 200, "batch_size": 7}])
def test_a_full_training_on_a_part_of_the_images_takes_the_place_of_none_on_all(
    epochs: int, recipe: dict[str, Any]
) -> None:
    """Three networks are confirmed, then the best is tried on a fifth of the images, as long or longer."""
    rows = [trial(i, accuracy=0.5 + i / 100) for i in range(3)]
    whole = [full(row, seed, 0.8 + row.number / 100 + seed / 1_000) for row in rows for seed in range(3)]
    fewer = config().data.model_dump(mode="json")
    fewer["train_images"] //= 5
    part = full(rows[2], 0, 0.1, run="two", epochs=epochs, data=fewer, recipe=recipe)
    data = report_data(rows)
    confirmed = stages._confirmed(replace(data, full=whole))
    assert "<td>2<td>82.10%<td>" in "".join(confirmed) and "200 epochs" in "".join(confirmed)
    shown = stages._confirmed(replace(data, full=[*whole, part]))
    assert shown[1:] == confirmed[1:] and "10.00%" not in "".join(shown)
    of_another = full(trial(3), 0, 0.1, run="two", epochs=20 * epochs, data=fewer, recipe=recipe)
    beside = stages._confirmed(replace(report_data([*rows, trial(3)]), full=[*whole, of_another]))
    assert beside[1:] == confirmed[1:]
    best = export.confirmation(
        [replace(one, test_accuracy=0.7) for one in (*whole, part)], rows[2], study(), config(), None
    )
    assert best and (best.validation_accuracy, best.seeds) == (pytest.approx(0.821), 3)
    assert "<td>2<td>10.00%<td>-<td>1<td>" in "".join(stages._confirmed(replace(data, full=[part])))


def test_one_seed_by_another_recipe_does_not_take_the_place_of_three() -> None:
    """The winner's figures and best.json are of the three."""
    row = trial(0)
    three = [full(row, seed, 0.8 + seed / 100) for seed in range(3)]
    other = full(row, 0, 0.1, run="two", recipe={"epochs": 200, "batch_size": 7})
    again = [replace(other, seed=seed, accuracy=0.6 + seed / 100, run="three") for seed in range(3)]
    for found, said in (([*three, other], "81.00%"), ([*three, other, *again], "61.00%")):
        shown = "".join(stages._confirmed(replace(report_data([row]), full=found)))
        assert f"<td>0<td>{said}<td>" in shown
        best = export.confirmation(
            [replace(one, test_accuracy=0.7) for one in found], row, study(), config(), None
        )
        assert best and f"{100 * best.validation_accuracy:.2f}%" == said


def test_a_network_is_confirmed_on_one_set_of_test_images_and_on_the_validation_images_of_the_study() -> None:
    """Seeds 3 and 4 were added after pictures had come to test/; a longer run is by another study's split."""
    row, data = trial(0), config().data.model_dump(mode="json")
    old, new = (
        {"test_images": images, "data": data | {"test_digest": digest * 64}}
        for images, digest in ((200, "a"), (260, "b"))
    )
    run = [full(row, seed, 0.8, test_accuracy=0.7 + seed / 100, **old) for seed in range(3)]
    run += [full(row, seed, 0.8, test_accuracy=0.1, **new) for seed in (3, 4)]
    split = data | {"split_seed": 1, "split_digest": "2" * 64}
    longer = full(row, 0, 0.99, run="two", epochs=2_000, test_accuracy=0.99, test_images=200, data=split)
    found = export.confirmation([longer, *run], row, study(), config(), None)
    assert found and found.test_by_seed == pytest.approx((0.70, 0.71, 0.72))
    assert (found.seeds, found.test_images, found.validation_accuracy) == (5, 200, pytest.approx(0.8))
    assert str(found).startswith("confirmed: 71.00% on 200 test images (3 seeds of 200 epochs, ")
    assert export.confirmation([longer], row, study(), config(), None) is None


def test_finals_that_another_score_has_ordered_show_it() -> None:
    rows = [trial(i, accuracy=0.5 + i / 100) for i in range(20)]
    stage = second_stage(rows)
    scored = [replace(one, score=(one.accuracy or 0) - 0.3) for one in stage.trainings]
    text = stages._finals(replace(stage, trainings=scored, score="macro-f1"))
    assert "<th>macro F1<th>validation" in text and "45.41%" in text and "75.41%" in text
    assert "macro F1" not in stages._finals(stage)


@pytest.mark.thorough
def test_the_page_of_ten_thousand_trials_is_below_six_megabytes() -> None:
    assert len(page_of(mixture(10_000)).encode()) < 6_000_000


def test_the_command_writes_the_page_of_a_store(
    sqlite_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_study(sqlite_url, config(), 3, "night")[0].dispose()
    result = run(capsys, "report", "night", "--storage", sqlite_url, "--out", tmp_path / "report.html")
    assert (result.code, result.err) == (0, f"wrote {tmp_path / 'report.html'}\n")
    assert "No network was trained to the end yet" in (tmp_path / "report.html").read_text()


WITHOUT_POINTS = """() => [...document.querySelectorAll('.plot')].filter(plot => !plot.querySelector(
  '.scatterlayer path, .barlayer path, .boxlayer path, .sankey path')).length"""


@pytest.mark.browser
def test_every_plot_of_a_report_has_points_and_the_table_answers(tmp_path: Path) -> None:
    rows = mixture(60)
    (tmp_path / "report.html").write_text(page_of(rows, EVIL))
    with open_page(390, 800, color_scheme="dark") as (page, failed):
        page.on("request", lambda asked: failed.append(asked.url) if "report.html" not in asked.url else None)
        page.goto((tmp_path / "report.html").as_uri(), wait_until="commit")
        page.wait_for_function("document.documentElement.dataset.drawn === 'yes'", timeout=120_000)
        assert page.evaluate(WITHOUT_POINTS) == 0, "a plot without a point"
        assert page.evaluate("document.documentElement.scrollWidth") == 390, "the page scrolls sideways"
        page.locator("#search .switch button", has_text="wall time").click()
        page.wait_for_function(
            "document.querySelector('#search .plot').layout.xaxis.title.text.includes('wall')"
        )
        accuracies = page.locator("#trials-table tr.trial td:nth-child(3)").all_inner_texts()
        assert accuracies == sorted(accuracies, reverse=True) and len(accuracies) == 25
        page.locator("#trials-state").select_option(label="pruned")
        assert set(page.locator("#trials-table tr.trial td:nth-child(2)").all_inner_texts()) == {"pruned"}
        page.evaluate("document.dispatchEvent(new CustomEvent('trial', {detail: 9}))")
        opened = page.locator("tr.opened").inner_text()
    assert failed == []
    assert "repeated <b>it</b>" in opened and "search replay" in opened


@pytest.mark.browser
def test_a_report_can_be_read_before_its_plots_are_drawn_and_prints_all_of_them(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(page_of(mixture(60)))
    with open_page() as (page, failed):
        page.add_init_script("window.requestIdleCallback = () => {}")  # a browser that is never idle
        page.goto((tmp_path / "report.html").as_uri(), wait_until="commit")
        page.locator("html[data-opened]").wait_for(state="attached")
        assert page.evaluate("window.Plotly === undefined"), "nothing in view is to be drawn"
        assert page.locator("#trials-table tr.trial").count() == 25
        page.locator("#curves .plot").scroll_into_view_if_needed()
        page.locator("#curves .plot .scatterlayer path").first.wait_for(state="attached")
        assert page.evaluate(WITHOUT_POINTS) > 0, "what is far away is not drawn"
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        page.wait_for_function(f"({WITHOUT_POINTS})() === 0")
    assert failed == []
