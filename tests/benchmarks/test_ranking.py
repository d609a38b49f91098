"""Which reading of a short training ranks networks best: tau and its intervals are the textbook's."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from lazily import Lazily

from benchmarks.simulated import curves, ranking, suite, table
from benchmarks.simulated.ranking import (
    ACCURACY,
    ALL,
    BOTH,
    LAST,
    LAST_THREE,
    LOSS,
    Curves,
    readings,
    taus,
)

stats = Lazily("scipy.stats")


def made(**changed: object) -> Curves:
    """Three networks of four epochs; the second is the best, the third is slow."""
    parts = {
        "accuracy": np.array([[0.1, 0.5, 0.6, 0.7], [0.3, 0.4, 0.8, 0.9], [0.2, 0.3, 0.4, 0.8]]),
        "loss": np.array([[2.0, 1.0, 0.9, 0.8], [1.0, 1.5, 0.5, 0.3], [1.5, 1.2, 1.1, 0.5]]),
        "training": np.array([[2.0, 1.5, 1.0, 0.1], [2.1, 1.2, 0.8, 0.5], [2.2, 1.9, 1.6, 0.9]]),
        "seconds": np.array([1.0, 2.0, 8.0]),
        "truth": np.array([0.7, 0.9, 0.8]),
    }
    return Curves(**(parts | changed))


def test_each_reading_ranks_by_what_it_says() -> None:
    found = readings(made(), np.array([2, 2, 2]))
    assert list(found[ACCURACY]) == [3, 2, 1]
    assert list(found[LOSS]) == [3, 1, 2]  # of losses the lowest is best
    assert list(found[LAST]) == [2, 3, 1]
    four = readings(made(), np.array([4, 4, 4]))
    assert list(four[LAST]) == [3, 2, 1]
    assert list(four[LAST_THREE]) == [2, 3, 1]  # sums of 2.6, 2.5 and 4.4
    assert list(four[ALL]) == [2.5, 2.5, 1]  # 4.6, 4.6 and 6.6
    assert list(found[f"{ACCURACY} and {LOSS}"]) == [3, 1.5, 1.5]
    assert list(four[BOTH]) == [2, 3, 1]  # 0.9, 0.8 and 1.4
    assert len(found) == 9


def test_after_equal_seconds_each_network_has_as_many_epochs_as_it_had_time_for() -> None:
    curves_, half = made(), made().after_seconds(0.5)  # 4 seconds: half of what the median takes
    assert list(half) == [4, 2, 0]
    assert list(curves_.after_seconds(1.0)) == [4, 4, 1]
    assert list(readings(curves_, half)[ACCURACY]) == [3, 2, 1]  # who has nothing to show is last


def test_a_table_without_training_losses_is_read_without_them() -> None:
    found = readings(made(training=np.zeros((3, 0))), np.array([1, 1, 1]))
    assert list(found) == [ACCURACY, LOSS, f"{ACCURACY} and {LOSS}"]


def test_tau_is_scipys_also_where_networks_are_drawn_twice() -> None:
    generator = np.random.default_rng(3)
    x, y = generator.integers(0, 6, 40).astype(float), generator.integers(0, 9, 40).astype(float)
    weights = ranking.resampled(40)[:5]
    for row, tau in zip(weights, taus(x, y, weights), strict=True):
        again = np.repeat(np.arange(40), row.astype(int))
        assert tau == pytest.approx(stats.kendalltau(x[again], y[again]).statistic)
    assert weights[0].tolist() == [1.0] * 40


def test_what_a_reading_puts_first_is_worth_its_truth_and_of_equals_the_mean() -> None:
    ranks, truth = np.array([2.5, 1.0, 2.5]), np.array([0.7, 0.9, 0.8])
    weights = np.array([[1, 1, 1], [2, 0, 1], [0, 3, 0]])
    assert ranking._first(ranks, truth, weights) == pytest.approx([0.75, (2 * 0.7 + 0.8) / 3, 0.9])
    found = ranking.chosen(made())
    assert (found[ACCURACY]["truth"][0], found[LAST]["truth"][0]) == (0.9, 0.7)
    assert found[LAST]["ahead"][0] == pytest.approx(-0.2)
    assert found[LAST]["ahead"][1] < 0 <= found[LAST]["ahead"][2]
    assert f"| {LAST} | 70.00 | -20.00 (" in ranking.choices(found)


def test_the_best_half_is_of_the_truth() -> None:
    assert list(made().of_best_half().truth) == [0.9, 0.8]


def test_training_losses_are_packed_and_read(tmp_path: Path) -> None:
    stored = json.loads(gzip.decompress((suite.CURVES / "digits.json.gz").read_bytes()))
    rows = [{**row, "seed": 0} for row in stored["networks"][:3]]
    for row in rows[:2]:
        row["training_loss"] = [1.23456] * len(row["accuracy"])
    lines = [json.dumps({"conditions": stored["conditions"]}), *map(json.dumps, rows)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    curves.pack(tmp_path / "rows.jsonl", tmp_path / "packed.json.gz")
    entries = table.load(tmp_path / "packed.json.gz").entries
    assert [set(entry.training_loss) for entry in entries] == [{1.235}, {1.235}, set()]
    assert all(len(entry.loss) == len(entry.curve) for entry in entries)


def test_a_report_of_the_stored_curves_becomes_a_table() -> None:
    found = table.load(suite.CURVES / "cifar10-jpeg.json.gz")
    document = ranking.report({"cifar10-jpeg": found})
    group = document["tables"]["cifar10-jpeg"]["all"]
    last = group["by_epoch"][-1][ACCURACY]
    of_curves = Curves.of(found)
    assert last["tau"][0] == pytest.approx(
        stats.kendalltau(of_curves.accuracy[:, -1], of_curves.truth).statistic, abs=1e-4
    )
    assert last["tau"][1] < last["tau"][0] < last["tau"][2]
    assert last["ahead"] == [0.0, 0.0, 0.0]
    assert "| epoch 8 |" in ranking.rendered(group, document["shares"])
