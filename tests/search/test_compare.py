"""Searches beside each other: who is ahead at equal cost, what is not comparable, and what is refused."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from math import atanh, sqrt, tanh
from pathlib import Path
from statistics import fmean
from typing import Any

import click
import pytest
from browser import open_page
from command import run
from comparison_samples import FINAL_EPOCHS, Trial, add_finals, add_study, config

from search.commands import fields
from search.comparison import studies as comparison, text as comparison_text
from search.comparison.comparability import of_brief_scores, settings_of
from search.comparison.studies import Axis, ComparedStudy, Comparison, labels
from search.report import compare as compare_page
from search.study import reader
from search.study.config import StudyConfig
from search.study.finish_plan import make_plan
from search.study.statistics import correlation, difference, difference_of_means, mean_difference, spread
from space.budget import Budget
from storage.row_types import State

Capture = pytest.CaptureFixture[str]
PRUNED = State.PRUNED


def compared(url: str, *names: str) -> Comparison:
    """These studies of one store."""
    studies = []
    for label, name in zip(labels(len(names)), names, strict=True):
        with reader.open_study(url, name) as view:
            read = (view.record, view.config, view.rows(), view.second_stage())
            studies.append(ComparedStudy.from_rows(label, *read))
    return comparison.compare(studies)


def rows(capsys: Capture, url: str, *names: str) -> list[dict[str, Any]]:
    result = run(capsys, "compare", *names, "--storage", url, "--format", "json")
    assert result.code == 0, result.err
    found: list[dict[str, Any]] = json.loads(result.out)
    return found


def standing(found: Comparison, pair: int = 0) -> list[str]:
    return comparison_text.standing(found, found.pairs[pair])


def test_the_best_is_taken_at_the_smallest_total_that_any_of_them_reached(sqlite_url: str) -> None:
    """A takes twice the time of B a trial and half the epochs: each axis ends elsewhere."""
    add_study(sqlite_url, "a", [Trial(a, epochs=2, seconds=20.0) for a in (0.5, 0.6, 0.7)])
    add_study(sqlite_url, "b", [Trial(b, epochs=4) for b in (0.4, 0.65, 0.66, 0.8)])
    found = compared(sqlite_url, "a", "b")
    assert found.limits == {Axis.TRIALS: 3, Axis.IMAGES: 6_000, Axis.SECONDS: 40.0}
    best = {axis: [found.best(study, axis) for study in found.studies] for axis in Axis}
    scores = {axis: [row.accuracy if row else None for row in both] for axis, both in best.items()}
    assert scores == {Axis.TRIALS: [0.7, 0.66], Axis.IMAGES: [0.7, 0.4], Axis.SECONDS: [0.6, 0.8]}


def test_trials_count_in_the_order_in_which_they_ended(sqlite_url: str) -> None:
    add_study(sqlite_url, "a", [Trial(0.9, end=99.0), Trial(0.5, end=10.0)])
    add_study(sqlite_url, "b", [0.6])
    found = compared(sqlite_url, "a", "b")
    assert [step.best and step.best.accuracy for step in found.studies[0].curve] == [0.5, 0.9]
    assert standing(found)[0] == "at 1 trial: B is ahead by 10.0 points, 95% 8.1 to 11.9: clear"


def test_a_failed_training_costs_and_a_lost_one_is_paid_by_the_next_attempt(sqlite_url: str) -> None:
    trials = [0.5, Trial(None, State.DIVERGED), Trial(None, State.LOST), Trial(0.4, State.CANCELLED)]
    add_study(sqlite_url, "a", [*trials, Trial(None, State.REPEATED, seconds=None, epochs=0), 0.6])
    add_study(sqlite_url, "b", [0.5])
    total = compared(sqlite_url, "a", "b").studies[0].total
    assert (total.trials, total.images, total.seconds) == (2, 9_000, 30.0)


def test_a_pruned_network_counts_as_a_trial_and_is_never_the_best(sqlite_url: str) -> None:
    add_study(sqlite_url, "a", [Trial(0.9, PRUNED, epochs=1), 0.5])
    add_study(sqlite_url, "b", [0.4, 0.45])
    found = compared(sqlite_url, "a", "b")
    assert [study.total.trials for study in found.studies] == [2, 2]
    assert standing(found)[0] == "at 2 trials: A is ahead by 5.0 points, 95% 3.0 to 7.0: clear"


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (0.9, 0.896, "A is ahead by 0.4 points, 95% -0.8 to 1.6: not clear"),
        (0.88, 0.9, "B is ahead by 2.0 points, 95% 0.8 to 3.2: clear"),
        (0.9, 0.8878, "A is ahead by 1.2 points, 95% 0.01 to 2.4: clear"),
        (0.9, 0.9, "A and B are level, 95% -1.2 to 1.2: not clear"),
        (0.9, 0.8998, "A is ahead by 0.02 points, 95% -1.2 to 1.2: not clear"),
    ],
)
def test_a_difference_is_said_with_its_interval_and_whether_it_is_clear(
    sqlite_url: str, one: float, other: float, said: str
) -> None:
    add_study(sqlite_url, "a", [one])
    add_study(sqlite_url, "b", [other])
    assert standing(compared(sqlite_url, "a", "b"))[0] == f"at 1 trial: {said}"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"data": {"digest": "2" * 64, "name": "svhn"}}, "another data set (digits and svhn)"),
        ({"data": {"digest": "2" * 64}}, "another data set (other images under the name digits)"),
        (
            {"data": {"split_seed": 1, "split_digest": "2" * 64}},
            "other validation images (split seed 0 and 1)",
        ),
        ({"data": {"train_images": 500, "limit": 500}}, "other training images (1,000 and 500)"),
        ({"data": {"split_digest": "2" * 64}}, "another split of the images"),
        ({"recipe": {"epochs": 6}}, "other epochs (3 and 6)"),
        ({"recipe": {"learning_rate": 0.2, "ema": 0.9}}, "another recipe (learning_rate, ema)"),
    ],
)
def test_scores_of_other_images_or_trainings_are_not_compared_and_the_reason_is_said(
    sqlite_url: str, capsys: Capture, changed: dict[str, Any], reason: str
) -> None:
    add_study(sqlite_url, "a", [0.5])
    add_study(sqlite_url, "b", [0.9], config(**changed))
    result = run(capsys, "compare", "a", "b", "--storage", sqlite_url)
    assert f"warning: the brief scores of A and B are not comparable: {reason}\n" in result.out
    assert "ahead" not in result.out
    against = rows(capsys, sqlite_url, "a", "b")[0]["against"][0]
    assert (against["comparable"], against["reasons"]) == (False, [reason])
    assert against["at_equal_trials"] is None


def test_validation_images_that_a_folder_brings_are_the_same_whatever_the_seed(sqlite_url: str) -> None:
    """A seed splits none off; where a limit cuts training images by it, the digest of the split says so."""
    own = {"own_validation": True, "split_seed": 1}
    add_study(sqlite_url, "a", [0.5], config(data=own | {"split_seed": 0}))
    add_study(sqlite_url, "b", [0.9], config(data=own))
    add_study(sqlite_url, "c", [0.9], config(data=own | {"split_digest": "2" * 64}))
    (alike,) = compared(sqlite_url, "a", "b").pairs
    assert (alike.reasons, alike.validated_alike) == ((), True)
    (cut,) = compared(sqlite_url, "a", "c").pairs
    assert (cut.reasons, cut.validated_alike) == (("another split of the images",), True)


def test_other_classes_and_a_setting_that_nobody_knows_yet_are_reasons_too() -> None:
    one = {"data.digest": "1", "task.classes": 10, "metric": "accuracy", "seed": 1}
    other = {**one, "task.classes": 100, "metric": "balanced", "seed": 2}
    assert of_brief_scores(one, other) == ("10 and 100 classes", "another metric")


def test_sampler_budget_pruner_seed_and_versions_may_differ(sqlite_url: str, capsys: Capture) -> None:
    add_study(sqlite_url, "a", [0.5])
    changed = config(sampler="tpe", pruner="median", seed=3, budget=Budget(10_000))
    add_study(sqlite_url, "b", [Trial(0.9, device="NVIDIA H100"), 0.5], changed)
    one, other = rows(capsys, sqlite_url, "a", "b")
    assert one["against"][0]["comparable"]
    assert one["settings"] == {
        "budget.max_parameters": 5_000_000, "sampler": "random", "pruner": "none", "seed": 0, "trials": 1,
        "devices": "x86_64 CPU",
    }  # fmt: skip
    assert list(other["settings"].values()) == [10_000, "tpe", "median", 3, 2, "NVIDIA H100, x86_64 CPU"]
    said = run(capsys, "compare", "a", "b", "--storage", sqlite_url).out
    assert "warning: they ran on other devices (x86_64 CPU; NVIDIA H100, x86_64 CPU)" in said


def test_networks_that_both_have_trained_are_compared_by_their_two_scores(sqlite_url: str) -> None:
    scores = (0.5, 0.6, 0.7, 0.8, 0.9)
    add_study(sqlite_url, "a", [*(Trial(s, network=f"n{s}") for s in scores), Trial(0.1, PRUNED, "p"), 0.3])
    add_study(sqlite_url, "b", [*(Trial(s - 0.01, network=f"n{s}") for s in scores), Trial(0.2, network="p")])
    found = compared(sqlite_url, "a", "b")
    assert standing(found)[-1] == (
        "6 networks trained in both A and B, 5 of them to the end in both: on average A scores them 1.0"
        " points higher than B (95% over networks 1.0 to 1.0); Kendall's tau of the scores 1.00"
        " (95% 0.20 to 1.00)"
    )
    assert "; it is the same network" in standing(found)[0]
    assert len(found.studies[0].trained) == 7


def test_winners_of_finals_are_compared_over_seeds(sqlite_url: str, capsys: Capture) -> None:
    """By other brief epochs too: the finals are by one recipe."""
    first = add_study(sqlite_url, "a", [0.5, 0.6])
    second = add_study(sqlite_url, "b", [0.55, 0.5], config(recipe={"epochs": 2}))
    add_finals(sqlite_url, first, 1, (0.90, 0.91, 0.92), (0.88, 0.89, 0.90))
    add_finals(sqlite_url, second, 0, (0.80, 0.80, 0.81, 0.79))
    found = compared(sqlite_url, "a", "b")
    assert standing(found)[0] == (
        "winners of the finals: over 3 seeds and 4 seeds A is ahead by 11.0 points, 95% 8.7 to 13.3: clear"
    )
    one, other = rows(capsys, sqlite_url, "a", "b")
    assert (one["winner"]["trial"], one["winner"]["epochs"], one["winner"]["seeds"]) == (1, FINAL_EPOCHS, 3)
    assert one["winner"]["test_accuracy"] == 0.89 and other["winner"]["test_accuracy"] is None
    assert one["against"][0]["final"]["verdict"] == "ahead"
    assert one["against"][0]["final_test"] is None and not one["against"][0]["comparable"]


def test_finals_of_trials_on_fewer_images_are_compared(sqlite_url: str) -> None:
    """Finals train on all images, whatever trials were limited to, and validate on the same."""
    fewer = config(data={"train_images": 500, "limit": 500, "split_digest": "2" * 64})
    add_finals(sqlite_url, add_study(sqlite_url, "a", [0.5]), 0, (0.90, 0.91, 0.92))
    add_finals(sqlite_url, add_study(sqlite_url, "b", [0.5], fewer), 0, (0.80, 0.81, 0.82))
    assert standing(compared(sqlite_url, "a", "b"))[0].startswith(
        "winners of the finals: over 3 seeds A is ahead by 10.0 points"
    )


@pytest.mark.parametrize(
    ("images", "digest", "reason"),
    [
        (200, "a", None),
        (200, "b", "other test images"),
        (260, "b", "other test images (200 and 260)"),
        (200, None, None),  # of before: nothing more is known
        (260, None, "other test images (200 and 260)"),
    ],
)
def test_accuracies_on_other_test_images_are_not_compared(
    sqlite_url: str, capsys: Capture, images: int, digest: str | None, reason: str | None
) -> None:
    """Pictures came to test/ between two searches, or were cleaned: the training images are the same."""
    first, second = (add_study(sqlite_url, name, [0.5]) for name in ("a", "b"))
    validation, tests = (0.90, 0.91, 0.92), (0.88, 0.89, 0.90)
    add_finals(sqlite_url, first, 0, validation, tests, 200, "a")
    add_finals(sqlite_url, second, 0, validation, [test + 0.05 for test in tests], images, digest)
    said = " ".join(run(capsys, "compare", "a", "b", "--storage", sqlite_url).out.split())
    against = rows(capsys, sqlite_url, "a", "b")[0]["against"][0]
    assert against["final"]["reasons"] == []
    assert against["final_test"]["reasons"] == ([reason] if reason else [])
    assert ("on test images: over 3 seeds B is ahead by 5.0 points" in said) == (reason is None)


VAL = {"own_validation": True, "validation_images": 100}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (VAL, VAL | {"split_seed": 1}),  # the folder's own val/, whatever the seed
        ({}, {"limit": 45_000}),  # as many training images as there are, or more
        ({"fit": "pad"}, {"fit": "crop"}),  # square pictures, which both leave alone
    ],
)
def test_the_same_images_are_comparable_however_they_were_asked_for(
    sqlite_url: str, capsys: Capture, one: dict[str, Any], other: dict[str, Any]
) -> None:
    for name, data in (("a", one), ("b", other)):
        add_finals(sqlite_url, add_study(sqlite_url, name, [0.5], config(data=data)), 0, (0.9, 0.91, 0.92))
    found = compared(sqlite_url, "a", "b").pairs[0]
    assert (found.reasons, found.finals and found.finals.reasons, found.validated_alike) == ((), (), True)
    assert "not comparable" not in run(capsys, "compare", "a", "b", "--storage", sqlite_url).out


def test_a_folders_own_validation_images_are_the_same_where_training_images_are_drawn_by_another_seed(
    sqlite_url: str,
) -> None:
    """Of --train-images each seed draws others: brief scores are not comparable, those of finals are."""
    limited = VAL | {"limit": 500, "train_images": 500}
    other = limited | {"split_seed": 1, "split_digest": "2" * 64}
    for name, data in (("a", limited), ("b", other)):
        add_finals(sqlite_url, add_study(sqlite_url, name, [0.5], config(data=data)), 0, (0.9, 0.91, 0.92))
    found = compared(sqlite_url, "a", "b").pairs[0]
    assert found.reasons == ("another split of the images",)
    assert (found.finals and found.finals.reasons, found.validated_alike) == ((), True)


@pytest.mark.parametrize(
    "changed",
    [
        {"split_seed": 1, "split_digest": "2" * 64},
        {"validation_images": 90, "split_digest": "2" * 64},
        {"own_validation": True, "split_seed": 1, "split_digest": "2" * 64},
        {"digest": "2" * 64},
    ],
)
def test_other_validation_images_are_a_reason_in_finals_too(sqlite_url: str, changed: dict[str, Any]) -> None:
    for name, data in (("a", {}), ("b", changed)):
        add_finals(sqlite_url, add_study(sqlite_url, name, [0.5], config(data=data)), 0, (0.9, 0.91, 0.92))
    found = compared(sqlite_url, "a", "b").pairs[0]
    assert found.reasons and found.finals and found.finals.reasons and not found.validated_alike


def test_finals_that_the_first_seed_chooses_are_said_to_be(sqlite_url: str) -> None:
    record = add_study(sqlite_url, "a", [0.5])
    made = StudyConfig.from_record(record.settings)
    plan = make_plan(made, None, epochs=9, finalists=1, contenders=4)
    stored = replace(record, finish=plan.document())
    found = settings_of(stored, made.model_copy(update={"space_written": made.space}), [])
    assert found["finals"] == "1 of 4, by one seed, for 9 epochs"
    assert not any("_written" in name for name in found)


def test_finals_of_one_seed_have_no_interval_and_nothing_is_clear(sqlite_url: str) -> None:
    for name, score in (("a", 0.7), ("b", 0.9)):
        add_finals(sqlite_url, add_study(sqlite_url, name, [0.5]), 0, (score,))
    assert standing(compared(sqlite_url, "a", "b"))[0] == (
        "winners of the finals: over 1 seed B is ahead by 20.0 points: not clear,"
        " fewer than three seeds give no useful interval"
    )


def test_seeds_that_are_all_equal_have_no_interval_and_nothing_is_clear(
    sqlite_url: str, capsys: Capture
) -> None:
    """Of 288 validation images three seeds often get the same number right."""
    for name, right in (("a", 285), ("b", 284)):
        add_finals(sqlite_url, add_study(sqlite_url, name, [0.5]), 0, (right / 288,) * 3)
    assert standing(compared(sqlite_url, "a", "b"))[0] == (
        "winners of the finals: over 3 seeds A is ahead by 0.3 points: not clear,"
        " equal seeds give no useful interval"
    )
    said = run(capsys, "status", "a", "--storage", sqlite_url).out
    assert "98.96% (3 equal seeds give no useful interval) on validation images" in said
    first, _ = rows(capsys, sqlite_url, "a", "b")
    assert (first["winner"]["low"], first["against"][0]["final"]["verdict"]) == (None, "not clear")


def test_finals_of_two_seeds_show_both_values_in_place_of_an_interval(
    sqlite_url: str, capsys: Capture, tmp_path: Path
) -> None:
    """Student's would be 0-100%."""
    first, second = (add_study(sqlite_url, name, [0.5]) for name in ("a", "b"))
    add_finals(sqlite_url, first, 0, (0.70, 0.75), (0.71, 0.74))
    add_finals(sqlite_url, second, 0, (0.70, 0.71, 0.72))
    both = "70.00% and 75.00%"
    said = run(capsys, "status", "a", "--storage", sqlite_url).out
    tested = "72.50% (71.00% and 74.00%: two seeds give no useful interval) on 10,000 test images, 2 seeds"
    assert f"72.50% ({both}: two seeds give no useful interval) on validation images, {tested}" in said
    (row,) = json.loads(run(capsys, "status", "a", "--storage", sqlite_url, "--format", "json").out)
    assert (row["confirmed_accuracy"], row["confirmed_low"], row["test_high"]) == (0.725, None, None)
    run(capsys, "report", "a", "--storage", sqlite_url, "--out", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert f"<td>{both}" in page and "Two seeds give no useful interval: both values stand" in page
    done = run(capsys, "compare", "a", "b", "--storage", sqlite_url, "--out", tmp_path / "compare.html")
    compared_page = (tmp_path / "compare.html").read_text()
    assert both in done.out and f"<td>{both}" in compared_page and "Two seeds give no" in compared_page
    assert "72.50%</b><span class=note>trained to the end: 2 seeds, test images, 71.00% and" in compared_page
    assert "0.00-100" not in said + done.out + page + compared_page
    exported = run(capsys, "export", "a:0", "--storage", sqlite_url, "--out", tmp_path / "best.json")
    assert "(2 seeds of 20 epochs, 71.00% and 74.00%: two seeds give no useful interval)" in exported.err
    document = json.loads((tmp_path / "best.json").read_text())["confirmation"]
    assert (document["test_interval_95"], document["test_by_seed"]) == (None, [0.71, 0.74])


def test_tests_of_fewer_seeds_than_were_trained_are_counted_as_what_they_are(
    sqlite_url: str, capsys: Capture, tmp_path: Path
) -> None:
    """Pictures came to test/ before the third seed of A was tested."""
    first, second = (add_study(sqlite_url, name, [0.5]) for name in ("a", "b"))
    scores, tests = (0.80, 0.81, 0.82), (0.71, 0.74, 0.10)
    add_finals(sqlite_url, first, 0, scores, tests, 200, ("a", "a", "b"))
    add_finals(sqlite_url, second, 0, scores, (0.60, 0.61, 0.62), 200, "a")
    winner = compared(sqlite_url, "a", "b").studies[0].winner
    assert winner and (winner.seeds, winner.tested_seeds, winner.is_tested) == (3, 2, False)
    one, other = (row["winner"] for row in rows(capsys, sqlite_url, "a", "b"))
    assert (one["seeds"], one["tested_seeds"], one["test_accuracy"]) == (3, 2, pytest.approx(0.725))
    assert (other["seeds"], other["tested_seeds"]) == (3, 3)
    done = run(capsys, "compare", "a", "b", "--storage", sqlite_url, "--out", tmp_path / "compare.html")
    lines = [line.split("│") for line in done.out.splitlines()]
    seeds = [cells[3].strip() for cells in lines if len(cells) > 5 and cells[4].strip() == "81.00%"]
    assert seeds == ["3, 2 tested", "3"], done.out
    said = " ".join(done.out.split())
    assert "winners of the finals: over 3 seeds A and B are level, 95% -2.3 to 2.3: not clear" in said
    lead = "over 2 seeds and 3 seeds A is ahead by 11.5 points: not clear, fewer than three seeds"
    assert f"the same on test images: {lead}" in said
    page = (tmp_path / "compare.html").read_text()
    assert "72.50%</b><span class=note>trained to the end: 2 seeds, test images, 71.00% and 74.00%" in page
    assert "61.00%</b><span class=note>trained to the end: 3 seeds, test images" in page
    assert "<td>3 of 3, 2 tested<td>81.00%" in page and "<td>3 of 3<td>81.00%" in page
    assert "Two seeds give no useful interval: both values stand" in page
    run(capsys, "report", "a", "--storage", sqlite_url, "--out", tmp_path / "report.html")
    report = (tmp_path / "report.html").read_text()
    assert "<td>71.00% and 74.00%<td>3 of 3, 2 tested<td>" in report
    assert "Two seeds give no useful interval: both values stand" in report


def test_a_search_that_pruned_everything_is_shown_without_a_best(sqlite_url: str, capsys: Capture) -> None:
    add_study(sqlite_url, "a", [Trial(0.3, PRUNED), Trial(0.2, PRUNED)])
    add_study(sqlite_url, "b", [0.5])
    result = run(capsys, "compare", "a", "b", "--storage", sqlite_url)
    assert result.code == 0
    assert "at 1 trial: A had not trained a network to the end by then" in result.out
    assert "warning: A has trained no network to the end: it has pruned all of them" in result.out
    one = rows(capsys, sqlite_url, "a", "b")[0]
    assert (one["trials"], one["completed"], one["best"], one["curve"]) == (2, 0, None, [])


def test_programs_get_the_documented_keys_of_three_studies(sqlite_url: str, capsys: Capture) -> None:
    for name, score in (("a", 0.5), ("b", 0.6), ("c", 0.7)):
        add_study(sqlite_url, name, [score, 0.4])
    found = rows(capsys, sqlite_url, "c", "a", "b")
    assert all(list(row) == list(fields.COMPARE) for row in found)
    assert [(row["label"], row["study"]) for row in found] == [("A", "c"), ("B", "a"), ("C", "b")]
    assert [[one["label"] for one in row["against"]] for row in found] == [["B", "C"], ["C"], []]
    assert found[0]["against"][0]["at_equal_trials"]["points"] == pytest.approx(0.2)
    assert found[0]["at_equal_trials"]["best"].keys() == fields.BEST.keys()
    assert "Each of 3 pairs has an interval of its own" in run(
        capsys, "compare", "a", "b", "c", "--storage", sqlite_url
    ).out  # fmt: skip


def test_studies_of_one_name_in_two_stores_are_compared_in_order(
    sqlite_url: str, postgres_url: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_study(sqlite_url, "night", [0.5])
    add_study(postgres_url, "night", [0.9])
    stores = ("--storage", postgres_url, "--storage", sqlite_url)
    result = run(capsys, "compare", "night", "night", *stores, "--format", "json")
    assert [row["best"]["accuracy"] for row in json.loads(result.out)] == [0.9, 0.5]
    monkeypatch.setenv("SEARCH_STORAGE", sqlite_url)
    assert run(capsys, "compare", "night", "night").code == 2


@pytest.mark.parametrize(
    ("names", "code", "complaint"),
    [
        ((), 2, "name two studies or more to compare; `search list` names those there are"),
        (("a",), 2, "name two studies or more to compare; `search list` names those there are"),
        (("a", "a"), 2, "A and B are one study, 'a': name two"),
        (
            ("a", "nobody"),
            2,
            "no study 'nobody'; `search list` names the 2 there are, the newest is 'untrained'",
        ),
        (("a", "a:3"), 2, "'a:3' is a trial; name the study alone"),
        (("a", "untrained"), 3, "study 'untrained': nothing was trained yet"),
        (tuple("abcdefghi"), 2, "9 studies: compare 8 at most"),
    ],
)
def test_what_cannot_be_compared_is_one_line_and_its_exit_code(
    sqlite_url: str, capsys: Capture, names: tuple[str, ...], code: int, complaint: str
) -> None:
    add_study(sqlite_url, "a", [0.5])
    add_study(sqlite_url, "untrained", [Trial(None, State.FAILED, seconds=None)])
    result = run(capsys, "compare", *names, "--storage", sqlite_url)
    complaint = complaint.replace("`search list`", f"`search list --storage {sqlite_url}`")
    assert (result.code, result.one_line, result.out) == (code, f"search: {complaint}", "")


def test_three_studies_and_two_stores_are_refused(sqlite_url: str, capsys: Capture) -> None:
    result = run(capsys, "compare", "a", "b", "c", "--storage", sqlite_url, "--storage", sqlite_url)
    assert result.code == 2
    assert result.one_line == ("search: 2 stores for 3 studies: give --storage once, or once for each study")


def test_no_line_is_wider_than_80_columns(
    sqlite_url: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = config(data={"name": "a-folder-of-pictures-with-a-long-name", "digest": "3" * 64})
    for name, made in (("a", None), ("b" * 100, None), ("c", changed)):
        record = add_study(sqlite_url, name, [Trial(0.5 + i / 100, network=f"n{i}") for i in range(5)], made)
        add_finals(sqlite_url, record, 4, (0.9, 0.91), (0.9, 0.92))
    monkeypatch.setenv("FORCE_COLOR", "1")  # what makes rich take a pipe for a terminal
    monkeypatch.setenv("COLUMNS", "80")
    lines = click.unstyle(
        run(capsys, "compare", "a", "b" * 100, "c", "--storage", sqlite_url).out
    ).splitlines()
    assert lines and max(map(len, lines)) <= 80


def test_a_page_is_written_whole_with_curves_scatter_and_settings(
    sqlite_url: str, capsys: Capture, tmp_path: Path
) -> None:
    add_study(sqlite_url, "a", [Trial(0.5 + i / 100, network=f"n{i}") for i in range(5)])
    changed = config(sampler="tpe", data={"name": "digits <b>&"})
    add_study(sqlite_url, "b", [Trial(0.55 - i / 100, network=f"n{i}") for i in range(5)], changed)
    out = tmp_path / "compare.html"
    result = run(capsys, "compare", "a", "b", "--storage", sqlite_url, "--out", out)
    assert (result.code, result.err) == (0, f"wrote {out}\n")
    page = out.read_text()
    assert page.startswith("<!doctype html>") and len(page) < 6_000_000
    assert "digits &lt;b&gt;&amp;" in page and "digits <b>" not in page
    names = re.findall(r"<button type=button aria-pressed=\w+ data-set='[^']*'>([^<]+)</button>", page)
    assert names == ["trials", "images trained on", "device time"]
    for part in ("B is ahead by", "Kendall", "score in A, %", "<td>sampler", "95% over"):
        assert part in page


@pytest.mark.browser
def test_the_switch_of_the_page_shows_the_curves_over_what_it_says(
    sqlite_url: str, capsys: Capture, tmp_path: Path
) -> None:
    for name, seconds in (("a", 10.0), ("b", 20.0)):
        add_study(
            sqlite_url, name, [Trial(0.5 + i / 100, network=f"{name}{i}", seconds=seconds) for i in range(5)]
        )
    out = tmp_path / "compare.html"
    assert run(capsys, "compare", "a", "b", "--storage", sqlite_url, "--out", out).code == 0
    shown = """() => { const plot = document.querySelector('#curves .plot'); return [
      plot.layout.xaxis.title.text, [...new Set(plot.data.filter(t => t.visible).map(t => t.meta))],
      plot.layout.xaxis.range[1], plot.querySelectorAll('.scatterlayer .point').length]; }"""
    with open_page(390, 800) as (page, failed):
        page.goto(out.as_uri(), wait_until="commit")
        # Before the plots are drawn or after: a switch counts either way.
        page.locator("#curves .switch button", has_text="device time").click()
        page.locator("html[data-drawn]").wait_for(state="attached")
        title, seen, end, points = page.evaluate(shown)
        assert title.startswith("device time") and seen == ["seconds"] and points > 0
        for name, axis, last in (("images trained on", "images", 15_000), ("trials", "trials", 5)):
            page.locator("#curves .switch button", has_text=name).click()
            page.wait_for_function(
                "t => document.querySelector('#curves .plot').layout.xaxis.title.text === t", arg=name
            )
            title, seen, end, points = page.evaluate(shown)
            assert seen == [axis] and points > 0 and last <= end < 1.2 * last, "the axis fits the curves"
        assert page.evaluate("document.documentElement.scrollWidth") == 390, "the page scrolls sideways"
    assert failed == []


def test_ten_thousand_trials_make_a_page_of_less_than_6_mb(
    sqlite_url: str, capsys: Capture, tmp_path: Path
) -> None:
    for name, step in (("a", 7), ("b", 11)):
        scores = (0.3 + 0.5 * ((i * step) % 5_003) / 5_003 for i in range(5_000))
        add_study(sqlite_url, name, [Trial(s, network=f"{i:016x}") for i, s in enumerate(scores)])
    out = tmp_path / "compare.html"
    result = run(capsys, "compare", "a", "b", "--storage", sqlite_url, "--out", out)
    assert result.code == 0 and "5,000 networks trained in both A and B" in result.out
    assert out.stat().st_size < 6_000_000
    assert "3,000 of 5,000 are drawn" in out.read_text()


@pytest.mark.parametrize(("studies", "shared"), [("ab", 31), ("ab", 30), ("ab", 29), ("abc", 21)])
def test_as_many_shared_networks_are_drawn_as_are_said_to_be(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, studies: str, shared: int
) -> None:
    """Of one more than there is room for half were left out, and one was said to be."""
    monkeypatch.setattr(compare_page, "POINTS", 30)
    for name in studies:
        add_study(sqlite_url, name, [Trial(0.5 + i / 100, network=f"n{i}") for i in range(shared)])
    found = compared(sqlite_url, *studies)
    _, *drawn = compare_page._scatter(found.pairs).data
    points, every = sum(len(trace.x) for trace in drawn), len(found.pairs) * shared
    assert points == min(every, 30) and len(drawn) == len(found.pairs)
    said = re.findall(r"(\S+ of \S+ are drawn)", "".join(compare_page._shared(found)))
    assert said == ([f"30 of {every} are drawn"] if every > 30 else [])


def test_a_page_without_a_curve_or_a_shared_network_is_a_page_too(
    sqlite_url: str, capsys: Capture, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        add_study(sqlite_url, name, [Trial(0.3, PRUNED)])
    out = tmp_path / "compare.html"
    assert run(capsys, "compare", "a", "b", "--storage", sqlite_url, "--out", out).code == 0
    assert "no network trained to the end" in out.read_text()


@pytest.mark.parametrize(
    ("one", "other", "freedom"),
    [
        ((0.91, 0.92, 0.905, 0.915), (0.89, 0.90, 0.885, 0.895), 6),
        ((0.91, 0.92, 0.905, 0.915, 0.93, 0.9), (0.80, 0.90, 0.85), 2),  # unlike in spread and number
    ],
)
def test_the_interval_of_two_means_is_welchs(
    one: Sequence[float], other: Sequence[float], freedom: int
) -> None:
    """As scipy has it, but for degrees of freedom that are rounded down."""
    from scipy import stats

    welch = stats.ttest_ind(one, other, equal_var=False)
    assert int(welch.df + 1e-9) == freedom
    apart = fmean(one) - fmean(other)
    half = stats.t.ppf(0.975, freedom) * apart / welch.statistic
    found = difference_of_means(spread(one), len(one), spread(other), len(other))
    assert found == pytest.approx((apart, apart - half, apart + half), rel=1e-4)


def test_of_runs_that_are_too_few_no_interval_of_two_means_is_told() -> None:
    other = (0.89, 0.90, 0.885, 0.895)
    assert difference_of_means(spread([0.9]), 1, spread(other), 4) is None
    assert difference_of_means(spread([0.9, 0.92]), 2, spread(other), 4) is None, "two say too little"
    assert mean_difference([0.9, 0.8], [0.8, 0.7]) is None


def test_other_numbers_of_images_widen_the_interval_of_a_difference() -> None:
    alike, fewer = difference(0.9, 0.8, 5_000), difference(0.9, 0.8, 5_000, 500)
    assert fewer.low < alike.low and fewer.high > alike.high
    assert difference(0.9, 0.8, 5_000, 5_000) == alike


def test_many_networks_have_a_correlation_with_an_interval_at_once() -> None:
    one = [((i * 37) % 1_009) / 1_009 for i in range(1_000)]
    other = [x + ((i * 53) % 997) / 997 for i, x in enumerate(one)]
    found = correlation(one, other)
    assert found
    z, half = atanh(found.tau), 1.96 * sqrt(0.437 / (1_000 - 4))  # Fieller, Hartley and Pearson (1957)
    assert found.interval == pytest.approx((tanh(z - half), tanh(z + half)), abs=1e-5)
    assert (found.networks, correlation(one, one)) == (1_000, (1.0, (1.0, 1.0), 1_000))
