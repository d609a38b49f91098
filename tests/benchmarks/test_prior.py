"""The comparison of the draws of two spaces, but for the training: who draws what, and what is said of it."""

from argparse import Namespace
from pathlib import Path
from random import Random
from statistics import median

import pytest

from benchmarks import prior
from space import cost
from space.budget import Budget
from space.space import Task

ROOT = Path(prior.__file__).parents[1]
SPACE = ROOT / "space" / "default.toml"
TASK, BUDGET = Task(channels=1, image_size=14, classes=10), Budget(200_000, 1_500_000)


def test_draws_are_the_same_whenever_they_are_asked_for_none_twice_and_within_the_budget() -> None:
    six = prior.networks(SPACE, 6, BUDGET, TASK)
    assert six[:3] == prior.networks(SPACE, 3, BUDGET, TASK)
    assert len({one.fingerprint for one in six}) == 6
    assert all(BUDGET.allows(cost.total(one)) for one in six)


def test_parts_side_by_side_have_every_draw_once() -> None:
    draws = [draw for text in ("1/3", "2/3", "3/3") for draw in prior.draws_of(prior.part_of(text), 8)]
    assert sorted(draws) == list(range(8))


@pytest.mark.parametrize("text", ["0/2", "3/2", "2", "1/x", ""])
def test_what_is_no_part_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        prior.part_of(text)


def test_luck_is_a_permutation_test() -> None:
    dice = Random(1)
    alike = [dice.gauss(0, 1) for _ in range(20)], [dice.gauss(0, 1) for _ in range(20)]
    apart = alike[0], [value + 3 for value in alike[1]]
    assert prior.luck(*alike, median) > 0.05 > 0.001 > prior.luck(*apart, median)


def test_the_summary_is_by_space_against_the_first() -> None:
    rows = [
        {"space": name, "accuracy": at + draw / 100, "macs": 10 * draw, "cpu_seconds": 2.0}
        for name, at in (("old", 0.5), ("new", 0.7))
        for draw in range(5)
    ]
    old, new = prior.summary(rows, ["old", "new"])
    assert (old["networks"], old["best"], old["median"], old["worst"]) == (5, 0.54, 0.52, 0.5)
    assert (new["median_macs"], new["cpu_seconds"], old["p_median"]) == (20, 10.0, None)
    assert new["p_median"] < 0.05
    assert "| old | 5 | 54.0% |" in prior.table([old, new])


def test_the_table_of_the_documents_is_that_of_the_rows() -> None:
    rows = prior.read(ROOT / "benchmarks" / "results" / "prior.jsonl")
    assert {row["draw"] for row in rows} == set(range(40)) and len(rows) == 80
    found = prior.table(prior.summary(rows, ["default-2026-11", "default-relu"]))
    said = found.replace("| default-2026-11 |", "| old |").replace("| default-relu |", "| weighted |")
    assert said in (ROOT / "docs" / "space.md").read_text()


def test_the_rows_are_of_the_spaces_as_they_are() -> None:
    rows = prior.read(ROOT / "benchmarks" / "results" / "prior.jsonl")
    limits = Budget(300_000, 20_000_000), Task(channels=1, image_size=28)
    for name in ("default-relu", "default-2026-11"):
        space = ROOT / "benchmarks" / "spaces" / f"{name}.toml"
        drawn = [row["architecture"] for row in rows if row["space"] == space.stem]
        assert [one.document() for one in prior.networks(space, 40, *limits)] == drawn


def test_a_data_set_of_too_few_images_is_one_line(tmp_path: Path) -> None:
    given = Namespace(
        data="digits", data_dir=tmp_path, image_size=None, train_images=12_000, max_params=10, max_macs=None
    )
    with pytest.raises(
        SystemExit, match=r"^digits has 1,438 training images, and this takes 12,000 of them,"
    ):
        prior.ground(given)
