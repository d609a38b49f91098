"""The page of the published systems says what was measured."""

import json
from pathlib import Path

from benchmarks import published

ROOT = Path(__file__).parents[2]


def test_the_page_says_what_was_measured() -> None:
    results = json.loads((ROOT / published.RESULTS).read_text())
    page = (ROOT / published.PAGE).read_text()
    assert published.rendered(page, results) == page
    assert len(results["networks"]["rows"]) == 14
    assert len(results["recipes"]["rows"]) == 6
    assert all(len(row["test"]) >= 2 for row in results["networks"]["rows"])
    assert all(len(row["test"]) >= 3 for row in results["recipes"]["rows"])


def test_every_network_within_the_limit_stands_for_itself_once() -> None:
    lines = published.networks()
    assert len({line.network for line in lines}) == len(lines) == 14


def test_recipes_are_compared_seed_by_seed() -> None:
    assert published._against([0.5, 0.6, 0.7], [0.4, 0.5, 0.6]) == "+10.0 ± 0.0"
    assert published._against([0.5], [0.4]) == "-"
