"""The benchmarks of speed run their whole path on tiny cases; how fast anything is, no test judges."""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks import brief
from benchmarks.speed import __main__ as tables, gpu, limits, plain, records, searches, start, training

ROOT = Path(__file__).parents[2]


def run(module: str, *words: object, timeout: float = 300) -> str:
    full = "benchmarks.brief" if module == "brief" else f"benchmarks.speed.{module}"
    command = [sys.executable, "-m", full, *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_says_what_was_measured() -> None:
    page = (ROOT / tables.PAGE).read_text()
    assert tables.rendered(page, json.loads((ROOT / tables.RESULTS).read_text())) == page
    for name in tables.TABLES:
        assert f"<!-- {name} -->" in page


@pytest.mark.thorough
def test_the_benchmark_of_a_gpu_runs_its_whole_path_on_a_cpu(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    said = run("gpu", "--quick", "--data", "digits", "--data-dir", tmp_path, "--json", out)
    found = json.loads(out.read_text())
    assert {row["name"] for row in found["training"]["summary"]} == set(training.SIDES)
    assert found["search"]["minutes"] > 0
    assert len(found["limits"]["rows"]) == 6
    if found["device"] == "cpu":
        assert "no bar is judged" in said


def gpu_results(share: float, wall_ms: float, busy: float) -> dict[str, Any]:
    rows = [
        {"name": "reference, 2 threads", "wall_ms_ratio": 9.0, "wall_ms": 1.0},
        {"name": "ours", "wall_ms_ratio": 1.0, "wall_ms": wall_ms},
    ]
    return {
        "device": "a GPU",
        "limits": {"rows": [{"what": "001-final bfloat16", "share": share}]},
        "training": {"summary": rows},
        "search": {"minutes": 12.0, "busy": busy, "trials": 200},
    }


def test_a_bar_of_the_gpu_is_met_or_missed() -> None:
    good = gpu.verdicts(gpu_results(0.4, 0.05, 85.0), "001-final")
    assert [line.rsplit(": ", 1)[1] for line in good] == ["met"] * 4
    bad = gpu.verdicts(gpu_results(0.2, 0.05, 70.0), "001-final")
    assert [line.rsplit(": ", 1)[1] for line in bad] == ["MISSED", "met", "met", "MISSED"]


def test_the_plain_script_trains_prunes_and_counts(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/plain.db"
    assert plain.results(url) == []
    parser = argparse.ArgumentParser()
    plain.arguments(parser)
    words = ["--data", "digits", "--data-dir", str(tmp_path), "--train-images", "200"]
    given = parser.parse_args([*words, "--max-macs", "300000", "--epochs", "1"])
    plain.work(given, url, 0, time.time() + 600, trials=2)
    found = plain.results(url)
    assert len(found) == 2
    assert all(0 <= one["accuracy"] <= 1 for one in found)


def test_only_what_ended_in_time_counts() -> None:
    found = [
        {"ended": 104.0, "accuracy": 0.5},
        {"ended": 109.0, "accuracy": None},
        {"ended": 111.0, "accuracy": 0.9},
    ]
    counted = searches._counted("ours", found, began=100.0, seconds=10.0)
    assert counted["trained"] == 2
    assert counted["to_the_end"] == 1
    assert counted["best"] == 0.5
    assert counted["per_minute"] == 12
    assert counted["first_result"] == 4
    other = counted | {"name": "plain", "per_minute": 4.0, "best": 0.4}
    found_summary = searches.summary([counted, other, counted, other | {"per_minute": 3.0}])
    assert found_summary["ratio"] == pytest.approx(3.5)
    assert found_summary["points"] == pytest.approx(10)
    assert "3.50 times the candidates" in searches.table([counted, other], found_summary)


def test_shares_of_the_limit_are_of_the_larger_one_in_the_same_turn() -> None:
    turns = [
        {"product float32": 10.0, "convolution float32": 20.0, "slim float32": 5.0},
        {"product float32": 40.0, "convolution float32": 20.0, "slim float32": 5.0},
        {"product float32": 10.0, "convolution float32": 10.0, "slim float32": 5.0},
    ]
    rows = {row["what"]: row for row in limits.summary(turns)}
    assert rows["slim float32"] == {"what": "slim float32", "flops": 5.0, "share": 0.25}


@pytest.mark.thorough
def test_what_a_brief_score_is_worth_runs_and_goes_on_where_it_was_broken_off(tmp_path: Path) -> None:
    out, found = tmp_path / "brief.jsonl", tmp_path / "brief.json"
    words = ["brief", "--data", "digits", "--data-dir", tmp_path, "--networks", 4, "--epochs", 2]
    words += ["--train-images", 200, "--max-macs", 300_000, "--image-size", 6, "--processes", 2]
    run(*words, "--out", out, "--json", found)
    lines = out.read_text().splitlines()
    out.write_text("\n".join(lines[:-1]) + '\n{"key": "half a li')
    first = json.loads(found.read_text())["rows"]
    run(*words, "--out", out, "--json", found)
    again = json.loads(found.read_text())["rows"]
    assert len(first) == len(lines) == 4 * len(brief.settings(2, 6))
    assert [(row["validation"], row["test"]) for row in again] == [
        (row["validation"], row["test"]) for row in first
    ]
    assert sum(row["test"] is not None for row in first) == 4


def test_a_brief_score_is_judged_by_what_the_long_training_gave() -> None:
    truth = [0.4, 0.5, 0.6, 0.7]
    rows = [
        {
            "index": i,
            "setting": {"epochs": 8, "share": 1.0, "side": None},
            "validation": t,
            "test": t,
            "cpu_seconds": 10,
        }
        for i, t in enumerate(truth)
    ]
    brief_rows = [
        {
            "index": i,
            "setting": {"epochs": 2, "share": 0.5, "side": 16},
            "validation": v,
            "test": None,
            "cpu_seconds": 1,
        }
        for i, v in enumerate([0.3, 0.2, 0.5, 0.4])
    ]
    long, short = brief.summary(rows + brief_rows)
    assert (long["tau"], long["lost"]) == (1, 0)
    assert short["tau"] == pytest.approx(1 / 3)
    assert short["lost"] == pytest.approx(10)
    assert short["setting"] == "2 epochs, 50% of the images, 16 x 16 pixels"


@pytest.mark.thorough
def test_a_start_is_timed_and_its_memory_weighed(tmp_path: Path) -> None:
    out = tmp_path / "start.json"
    words = ["--data", "digits", "--data-dir", tmp_path, "--rounds", "1", "--seconds", "20"]
    said = run("start", *words, "--max-macs", "300000", "--json", out)
    found = json.loads(out.read_text())
    study, claim, epoch = (found["seconds"][moment][0] for moment in start.MOMENTS)
    assert 0 < found["seconds"][start.HELP][0] < study < claim < epoch
    assert 100 < found["memory"]["own"] < found["memory"]["resident"]
    assert all(moment in said for moment in start.MOMENTS)


@pytest.mark.thorough
def test_habits_are_compared_by_pairs_with_the_default(tmp_path: Path) -> None:
    out, found = tmp_path / "records.jsonl", tmp_path / "records.json"
    words = ["--data", "digits", "--data-dir", tmp_path, "--networks", 2, "--seeds", 1, "--epochs", 1]
    words += ["--train-images", 520, "--validation-images", 60, "--max-macs", 300_000, "--processes", 1]
    said = run("records", *words, "--out", out, "--json", found)
    rows = json.loads(found.read_text())["rows"]
    assert len(rows) == 2 * len(records.HABITS) == len(out.read_text().splitlines())
    assert all(habit in said for habit in records.HABITS)
    assert {row["habit"] for row in rows} == set(records.HABITS)


def test_points_of_a_habit_are_those_above_the_same_network_and_seed() -> None:
    def row(index: int, habit: str, accuracy: float) -> dict[str, Any]:
        return {"index": index, "seed": 0, "habit": habit, "validation": accuracy, "cpu_seconds": 1.0}

    rows = [row(i, habit, 0.5 + i / 10) for i in (0, 0, 1, 1) for habit in records.HABITS]
    for one in rows:
        if one["habit"] == "label smoothing 0.2":
            one["validation"] += 0.01 * (1 + one["index"])
    found = {one["habit"]: one for one in records.summary(rows)}
    assert found["label smoothing 0.2"]["points"] == pytest.approx(1.5)
    assert found["label smoothing 0.2"]["better"] == 2
    assert found["no label smoothing"]["points"] == 0
