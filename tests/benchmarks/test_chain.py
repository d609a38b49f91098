"""The whole chain at equal time: its table compares round by round, and a tiny run of it goes through."""

import json
from pathlib import Path

import pytest

from benchmarks import chain


def row(side: str, at: int, *test: float) -> dict[str, object]:
    return {"side": side, "round": at, "test": list(test), "wall": 60.0, "trained": 4, "parameters": 1_000}


def test_sides_are_compared_round_by_round() -> None:
    ours = [row("ours", at, 0.90 + at / 100, 0.92 + at / 100) for at in range(3)]
    hand = [row("hand", at, 0.90 + at / 100) for at in range(3)]
    first, second = chain.summary([*ours, *hand, row("hand", 3, 0.5)])
    assert first["test"].mean == pytest.approx(0.92) and first["ahead"] is None
    assert second["ahead"] == pytest.approx(0.01), "the round that ours has not is in no difference"
    assert second["interval"].low == pytest.approx(0.01) and second["rounds"] == 4
    said = chain.table([first, second])
    assert "| ours | 3 | 4 | 1.0 | 1,000 | 92.00% (" in said and "| +1.00 points (1.00 to 1.00) |" in said


def test_two_rounds_have_no_interval() -> None:
    rows = [row(side, at, score) for side, score in (("ours", 0.9), ("plain", 0.8)) for at in range(2)]
    assert "+10.00 points (no interval of fewer than 3 rounds)" in chain.table(chain.summary(rows))


def test_rows_that_were_measured_otherwise_are_not_added_to(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps(row("ours", 0, 0.9) | {"conditions": {"minutes": 5}}) + "\n")
    given = chain.arguments(["--rows", str(rows), "--data-dir", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"was measured otherwise: \{'minutes': 5\}"):
        chain.measure(given)


@pytest.mark.thorough  # a benchmark as a whole
@pytest.mark.slow
def test_every_side_ends_with_a_network_that_was_tested(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    words = ["--data", "digits", "--train-images", "200", "--max-params", "5000", "--max-macs", "300000"]
    words += [
        "--epochs",
        "1",
        "--minutes",
        "1.5",
        "--searches",
        "1",
        "--workers",
        "1",
        "--final-epochs",
        "20",
    ]
    given = chain.arguments(["--rows", str(rows), "--data-dir", str(tmp_path / "data"), *words])
    chain.measure(given)
    found = chain.read(rows)
    assert [one["side"] for one in found] == list(chain.SIDES)
    assert all(len(one["test"]) == 3 and one["epochs"] == found[0]["epochs"] for one in found[:1] + found[2:])
    assert all(one["parameters"] <= 5_000 and one["macs"] <= 300_000 for one in found)
    chain.measure(given)
    assert chain.read(rows) == found, "a second call has nothing to do"
