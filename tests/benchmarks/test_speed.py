"""The benchmarks of speed run their whole path on tiny cases; how fast anything is, no test judges."""

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from comparison_samples import Trial, add_study
from PIL import Image

from benchmarks import brief
from benchmarks.speed import (
    __main__ as tables,
    gpu,
    gpu_parts,
    limits,
    made_up_pictures,
    plain,
    records,
    scale,
    searches,
    start,
    training,
)
from storage.row_types import State

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
    words = ["--quick", "--folder", tmp_path, "--json", out]
    run("gpu", *words, "--only", "limits")
    assert set(json.loads(out.read_text())) >= {"limits", "verdicts"}
    said = run("gpu", *words, "--only", "training", "search")
    found = json.loads(out.read_text())
    assert {row["name"] for row in found["training"]["summary"]} == set(training.SIDES)
    assert all(row["first_ms"] > 0 and row["steady_ms"] > 0 for row in found["training"]["summary"])
    assert found["search"]["minutes"] > 0 and found["search"]["done"]
    assert len(found["limits"]["rows"]) == 6
    if found["device"] == "cpu":
        assert "no bar is judged" in said


def test_what_waits_for_a_gpu_is_counted_where_warnings_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch warns of the mode itself, in words of its own, when it is switched on: no wait is meant."""
    asked: list[str] = []

    def set_mode(mode: str) -> None:
        asked.append(mode)
        if mode == "warn":
            warnings.warn(
                "Synchronization debug mode is a prototype feature and does not yet detect all synchronizing"
                " operations",
                stacklevel=1,
            )

    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", set_mode)
    with gpu_parts.waits_told(torch.device("cuda")) as waits:
        warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
    assert len(waits) == 1 and waits[0].startswith("test_speed.py:")
    assert asked == ["warn", "default"]


HEAVY = ("captured", "waits", "workers", "tests")  # processes of their own, or torchvision's operations


@pytest.mark.parametrize(
    "part",
    [pytest.param(part, marks=pytest.mark.thorough if part in HEAVY else ()) for part in gpu_parts.PARTS],
)
def test_every_part_of_the_benchmark_of_a_gpu_runs_on_a_cpu(part: str, tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    gpu_parts.main([part, "--quick", "--json", str(out)])
    found = json.loads(out.read_text())
    assert found["seconds"] > 0
    if part == "tests":
        assert found["search_exit_code"] == 0, found["search"]
        return
    rows = found["rows"]
    expected = {"step": 2, "cudnn": 6, "evaluation": 6, "captured": 3, "workers": 2, "waits": 3, "batches": 2}
    expected |= {"profile": 1, "norms": 2, "optimizers": 2}
    assert len(rows) == expected[part]
    if part == "captured":
        assert all(row["difference"] == 0 and len(row["losses"]["plain"]) == 2 for row in rows)
    elif part == "waits":
        assert [row["recipe"] for row in rows] == ["plain", "mixed", "augmix"]
    elif part == "norms":
        assert [row["by"] for row in rows] == ["torch", "cudnn"] and rows[0]["us"] > 0
        assert rows[1].get("us", 1.0) > 0
    elif part == "profile":
        assert rows[0]["kinds"]["convolutions"] > 0 and len(rows[0]["kernels"]) > 5
    else:
        rates = ("images_per_second", "step_ms")
        assert all(row[key] > 0 for row in rows for key in rates if key in row)


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        ("void at::native::batch_norm_collect_statistics_channels_last_kernel<", "norms"),
        ("sm90_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc_nhwc", "convolutions"),
        ("_ZN17cutlass__5x_cudnn6KernelINS_4conv6kernel23ImplicitGemmConvolution", "convolutions"),
        (
            "void at::native::vectorized_elementwise_kernel<8, at::native::GeluCUDA",
            "activations and additions",
        ),
        (
            "void at::native::vectorized_elementwise_kernel<8, at::native::CUDAFunctor_add",
            "activations and additions",
        ),
        ("void at::native::(anonymous namespace)::multi_tensor_apply_kernel<", "optimizer"),
        ("Memset (Device)", "others"),
    ],
)
def test_kernels_are_told_apart_by_what_they_do(kernel: str, kind: str) -> None:
    assert gpu_parts.kind_of(kernel) == kind


def test_what_was_measured_on_a_gpu_can_be_read() -> None:
    found = json.loads((ROOT / "benchmarks" / "results" / "gpu.json").read_text())
    assert found["verdicts"] == gpu.verdicts(found, "001-final")
    assert found["device"] != "cpu"


def measured_by(monkeypatch: pytest.MonkeyPatch, failing: str, *words: object) -> tuple[list[str], int]:
    """The parts that were started, of which one fails, and the exit code of the benchmark."""
    started: list[str] = []

    def benchmark(_module: str, given: list[str]) -> dict[str, Any]:
        started.append(given[0])
        rows = [{"difference": 0.0, "waits": 1}]
        told = {
            "rows": rows,
            "tests": "5 passed",
            "tests_passed": True,
            "search": "done",
            "search_exit_code": 0,
        }
        return {"failed": "RuntimeError: CUDA error"} if given[0] == failing else told

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # else it would be another one when this test has ended
    monkeypatch.setattr(gpu, "benchmark", benchmark)
    monkeypatch.setattr(gpu.sys, "argv", ["gpu", "--quick", *map(str, words)])
    try:
        gpu.main()
    except SystemExit as end:
        return started, int(end.code or 0)
    return started, 0


def test_a_part_that_fails_is_noted_and_the_same_command_goes_on_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--json", tmp_path / "gpu.json", "--folder", tmp_path)
    assert measured_by(monkeypatch, "waits", *words) == (list(gpu.SHORT), 1)
    assert "waits failed: RuntimeError: CUDA error" in capsys.readouterr().out
    assert json.loads((tmp_path / "gpu.json").read_text())["gpus"] == 0
    assert measured_by(monkeypatch, "", *words) == (["waits"], 0)
    assert measured_by(monkeypatch, "", *words) == ([], 0)
    assert measured_by(monkeypatch, "", *words, "--only", "step") == (["step"], 0)


def test_a_search_that_fails_is_noted_and_goes_on_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "data_words", lambda _: ["--data", "nothing-of-this-name"])
    file = tmp_path / "gpu.json"
    words = ("--json", file, "--folder", tmp_path, "--only", "search", "step")
    for _ in range(2):
        assert measured_by(monkeypatch, "", *words) == (["step"], 1)
        assert "search failed: search: unknown data set" in capsys.readouterr().out
    so_far = {"minutes": 3.0, "readings": [], "busy": None, "trials": 2, "done": True}
    found = json.loads(file.read_text()) | {"search": so_far | {"failed": "no memory"}}
    file.write_text(json.dumps(found))
    assert measured_by(monkeypatch, "", *words) == (["step"], 0)
    assert json.loads(file.read_text())["search"] == so_far


def test_what_the_short_parts_found_is_judged_too() -> None:
    found = {
        "device": "a GPU",
        "captured": {"rows": [{"difference": 0.002}, {"difference": 0.03}]},
        "waits": {"rows": [{"waits": 1}, {"waits": 1}]},
        "tests": {"tests": "5 passed", "tests_passed": True, "search": "6 of 6", "search_exit_code": 0},
        "cudnn": {"failed": "out of memory"},
    }
    assert gpu.verdicts(found, "001-final") == [
        "losses of recorded steps differ from plain ones by 3.0e-02: MISSED",
        "an epoch waits for the GPU 1 times: met",
        "tests of a GPU: 5 passed: met",
        "a search: 6 of 6: met",
        "cudnn failed: out of memory: MISSED",
    ]


def test_a_benchmark_that_fails_says_why_and_is_no_result() -> None:
    assert gpu.benchmark("gpu_parts", ["nothing"])["failed"].startswith("gpu_parts.py: error:")


def gpu_results(share: float, steady_ms: float, busy: float) -> dict[str, Any]:
    rows = [
        {"name": name, "network": "001-final", "steady_ms": ms, "first_ms": 4 * ms}
        | {"steady_ms_ratio": ratio, "first_ms_ratio": ratio / 3}
        for name, ms, ratio in (("reference, 2 threads", 1.0, 9.0), ("ours", steady_ms, 1.0))
    ]
    return {
        "device": "a GPU",
        "limits": {"rows": [{"what": "001-final bfloat16", "share": share}]},
        "training": {"summary": rows},
        "search": {"minutes": 12.0, "busy": busy, "trials": 200, "done": True},
    }


def test_a_bar_of_the_gpu_is_met_or_missed() -> None:
    good = gpu.verdicts(gpu_results(0.4, 0.05, 85.0), "001-final")
    assert [line.rsplit(": ", 1)[1] for line in good] == ["met"] * 4
    assert good[0].startswith("001-final: 20,000 images/s (5,000 in the first epoch), 40% of the limit")
    assert good[1].startswith("9.0 times the reference loop (3.0 in the first epoch)")
    bad = gpu.verdicts(gpu_results(0.2, 0.05, 70.0), "001-final")
    assert [line.rsplit(": ", 1)[1] for line in bad] == ["MISSED", "met", "met", "MISSED"]


def test_the_bars_are_those_of_the_card_and_the_network() -> None:
    found = gpu_results(0.4, 0.05, 85.0) | {"device": "NVIDIA H200"}
    found["search"] |= {"flops": 163.4e12, "watts": 512.3}
    slow, busy, work = gpu.verdicts(found, "001-final")[2:]
    assert slow == "200 trials in 12.0 minutes: MISSED" and busy.endswith("met")
    assert work == "163.4 TFLOP/s over the search, 512 W on average: met"
    found["search"] |= {"flops": 149e12, "watts": None}
    assert gpu.verdicts(found, "001-final")[-1] == "149.0 TFLOP/s over the search: MISSED"


def test_what_a_card_does_not_tell_is_left_out() -> None:
    assert gpu.reading("87, 412.55\n12, 100.0\n") == [87.0, 412.55]
    assert gpu.reading("87, [N/A]\n") == [87.0, None]
    assert gpu.reading("") is None and gpu.reading("No devices were found\n") is None
    told = [[80.0, None], [90.0, 400.0], [None, 500.0]]
    assert (gpu.mean(told, 0), gpu.mean(told, 1), gpu.mean([], 0)) == (85.0, 450.0, None)


def test_the_work_of_a_search_is_counted_from_its_ledger(sqlite_url: str) -> None:
    add_study(
        sqlite_url,
        gpu.STUDY,
        [Trial(0.5, macs=1_000_000, epochs=3), Trial(0.4, State.PRUNED, macs=2_000_000, epochs=1)],
    )
    assert gpu.flops_per_second(sqlite_url, minutes=0.5) == 6 * 1_000 * (3e6 + 2e6) / 30


def test_parts_that_are_missing_or_cut_off_are_not_judged_as_met() -> None:
    found = gpu_results(0.4, 0.05, 85.0)
    found["search"]["done"] = False
    assert "12.0 minutes, not done: the same command goes on: MISSED" in gpu.verdicts(found, "001-final")[2]
    only = {"device": "a GPU", "limits": found["limits"]}
    assert gpu.verdicts(only, "001-final") == ["001-final: 40% of the limit: met"]


def test_the_first_epoch_and_those_after_it_are_told_apart() -> None:
    assert training.apart([4.0, 1.0, 3.0], 3_000) == {"first_ms": 4.0, "steady_ms": 2.0}
    assert training.apart([4.0], 1_000) == {"first_ms": 4.0, "steady_ms": None}


def test_results_of_the_same_device_stay_and_others_do_not(tmp_path: Path) -> None:
    path, about = tmp_path / "gpu.json", {"device": "cpu", "torch": "2"}
    limits_found = {"rows": [{"what": "slim bfloat16", "share": 0.5}]}
    gpu.Results(path, dict(about)).add("limits", limits_found, "slim")
    assert json.loads(path.read_text())["limits"] == limits_found
    assert gpu.Results(path, dict(about)).found["limits"] == limits_found
    assert "limits" not in gpu.Results(path, about | {"device": "a GPU"}).found
    assert [one.name for one in tmp_path.iterdir()] == ["gpu.json"]


def test_the_environment_keeps_where_packages_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["/packages", str(ROOT), ""]))
    monkeypatch.setenv("SEARCH_STORAGE", "sqlite:///other.db")
    found = gpu.environment()
    assert found["PYTHONPATH"] == os.pathsep.join([str(ROOT), "/packages"])
    assert "SEARCH_STORAGE" not in found


def launcher(folder: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> argparse.Namespace:
    """A search is a program that says how it was called, takes a moment and ends with this code."""
    program = folder / "python"
    program.write_text(f'#!/bin/sh\necho "$@" >> {folder}/called\nsleep 0.3\nexit {code}\n')
    program.chmod(0o755)
    monkeypatch.setattr(gpu.sys, "executable", str(program))
    monkeypatch.setattr(gpu, "LOOK_SECONDS", 0.05)
    return argparse.Namespace(folder=folder, trials=3, epochs=1, max_macs=None, quick=False, images=1)


TWO_GPUS = """#!/bin/sh
if [ $1 = -L ]; then
    echo "GPU 0: NVIDIA H100 (UUID: GPU-a)"
    echo "GPU 1: NVIDIA H100 (UUID: GPU-b)"
    exit
fi
[ $1 = --id=GPU-b ] || echo "5, 80.0"
[ $1 = --id=GPU-a ] || echo "93, 700.0"
[ -e $0.once ] && touch $0.twice
touch $0.once
"""
UNTIL_ASKED_TWICE = """#!/bin/sh
echo $CUDA_VISIBLE_DEVICES $CUDA_DEVICE_ORDER > $0.pinned
until [ -e {}.twice ]; do sleep 0.02; done
"""


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose nvidia-smi knows two, and tells of both unless it is asked for one.

    It notes that it was asked so once, and twice.
    """
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "nvidia-smi").write_text(TWO_GPUS)
    (folder / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        monkeypatch.setenv(name, "")  # so that they are afterwards what they were before
        monkeypatch.delenv(name)


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("visible", "taken", "there", "busy"),
    [(None, "0", 2, 5.0), ("1", "1", 1, 93.0), ("1,0", "1", 2, 93.0), ("GPU-b", "GPU-b", 1, 93.0)],
)
def test_a_search_is_measured_on_one_gpu_of_several(
    visible: str | None, taken: str, there: int, busy: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bars are those of one card, and so are the trials and what it was busy for."""
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    given = launcher(tmp_path, monkeypatch, 0)
    program = tmp_path / "python"
    program.write_text(UNTIL_ASKED_TWICE.format(tmp_path / "bin" / "nvidia-smi"))
    monkeypatch.setattr(gpu, "flops_per_second", lambda url, minutes: None)
    monkeypatch.setattr(gpu, "READ_SECONDS", 0.01)
    assert gpu.take_one_gpu() == there
    assert gpu.search(given, [], None, lambda _: None)["busy"] == busy
    pinned = (tmp_path / "python.pinned").read_text().split()
    assert pinned == [taken] + ["PCI_BUS_ID"] * (visible is None)


def test_a_search_that_was_cut_off_goes_on_and_counts_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, noted = launcher(tmp_path, monkeypatch, 0), list[dict[str, Any]]()
    monkeypatch.setattr(gpu, "flops_per_second", lambda url, minutes: 1e12)
    before = {"minutes": 7.0, "readings": [[50.0, None]], "done": False, "busy": 50.0, "trials": 3}
    kept = tmp_path / "search" / "search.db"
    kept.parent.mkdir()
    kept.touch()
    found = gpu.search(given, ["--data", "digits"], before, noted.append)
    assert 7.0 < found["minutes"] < 8.0 and found["done"] and found["busy"] == 50.0
    assert (found["watts"], found["flops"]) == (None, 1e12)
    assert noted and not noted[0]["done"]
    assert f"--study {gpu.STUDY} --storage sqlite:///{kept}" in (tmp_path / "called").read_text()
    assert gpu.search(given, [], found, noted.append) is found
    assert kept.exists()
    gpu.search(given, [], None, noted.append)
    assert not kept.exists(), "another measurement begins anew"


def test_a_search_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="the search failed"):
        gpu.search(launcher(tmp_path, monkeypatch, 5), [], None, lambda _: None)


def test_nothing_is_measured_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(gpu.sys, "argv", ["gpu"])
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit, match="torch finds no GPU, and on a CPU this would take hours; --quick"):
        gpu.main()


def test_made_up_pictures_are_written_once_and_can_be_learned(tmp_path: Path) -> None:
    spec = made_up_pictures.folder_of("noise", tmp_path, 40)
    folder = Path(spec.removeprefix("folder:"))
    assert sorted(one.name for one in (folder / "train").iterdir()) == [f"class{i}" for i in range(10)]
    assert len(list(folder.glob("train/*/*.png"))) == 40
    first = next(folder.glob("train/*/*.png"))
    first.unlink()
    assert made_up_pictures.folder_of("noise", tmp_path, 40) == spec and not first.exists()
    images, labels = made_up_pictures.made_up(400)
    blurred = images.reshape(400, -1).astype(float)
    means = np.stack([blurred[:200][labels[:200] == label].mean(0) for label in range(10)])
    nearest = ((blurred[200:, None] - means) ** 2).sum(2).argmin(1)
    assert (nearest == labels[200:]).mean() > 0.3, "even the nearest mean finds much of it"


def test_a_file_of_images_becomes_a_folder(tmp_path: Path) -> None:
    pixels = np.arange(3 * 4 * 4, dtype=np.uint8).reshape(3, 4, 4, 1)
    np.savez(tmp_path / "few.npz", images=pixels, labels=np.array([1, 0, 1]))
    folder = Path(made_up_pictures.folder_of(str(tmp_path / "few.npz"), tmp_path, 0).removeprefix("folder:"))
    assert sorted(str(one.relative_to(folder / "train")) for one in folder.glob("train/*/*")) == [
        "class0/000001.png",
        "class1/000000.png",
        "class1/000002.png",
    ]
    assert np.array_equal(
        np.asarray(Image.open(folder / "train" / "class0" / "000001.png")), pixels[1, :, :, 0]
    )


@pytest.mark.thorough  # a benchmark as a whole
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


@pytest.mark.thorough
def test_workers_on_one_server_are_measured_with_their_real_loop(postgres_url: str, tmp_path: Path) -> None:
    out = tmp_path / "scale.json"
    words = ["--workers", 2, "--seconds", 0.1, "--rounds", 2, "--asks", 5, "--storage", postgres_url]
    said = run("scale", *words, "--json", out)
    (row,) = json.loads(out.read_text())["rows"]
    assert row["trained"] == 4 and row["round_trips"] > 20
    assert row["connections"] == [1.0, 1.0]
    assert all(milliseconds > 0 for milliseconds in row["parts"].values())
    assert "at 2 workers" in said


def test_the_bar_of_many_workers_is_a_share_of_a_trial_of_a_minute() -> None:
    found = [({part: [9_000.0, 100.0] for part in ("claim", "propose", "epochs", "end")}, 60, 1.0)] * 2
    looks = [(2, 0, 0, 0), (3, 1, 0, 0)]
    tally = dict.fromkeys(State, 0) | {State.COMPLETED: 4, State.REPEATED: 1}
    row = scale._summary(2, 2, 1.0, found, looks, tally, 9.0, 0.2)
    assert row["milliseconds"]["mean"] == 400, "the first trial of a worker is not measured"
    assert (row["waiting"], row["repeats"], row["round_trips"]) == (0.25, 0.25, 30)
    assert "met, 0.67%" in scale.table({"rows": [row], "asks": []})
    slower = row | {"milliseconds": {"median": 601.0, "mean": 601.0, "worst": 601.0}}
    assert "missed, 1.00%" in scale.table({"rows": [row, slower], "asks": []})
