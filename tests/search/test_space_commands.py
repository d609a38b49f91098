"""The commands about a search space: what they print and write, and what they say of a bad file."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from command import run
from picture_samples import folder_of, noise
from worker_samples import make_config

from parsimony.data import Data
from search.commands import forecast_text, plan, space_work
from search.launcher import prepare
from search.launcher.prepare import Flags
from search.study import duration
from search.study.duration import Point
from space import architecture, cost, space as spaces, traits
from space.budget import Budget
from space.space import Task
from trainer import step_graph, throughput
from trainer.data.catalogue import DATASETS, KnownDataset
from trainer.recipe.defaults import brief_recipe
from trainer.throughput import Pace

Capture = pytest.CaptureFixture[str]
QUICK = ("--no-minutes", "--data", "digits", "--max-params", "200k")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(
        "depth = [1, 2]\nwidth = {low = 8, high = 64}\n"
        "[stage]\nblocks = {low = 1, high = 2}\nkernel = [1, 3, 3]\n"
    )
    return path


def test_every_knob_of_a_space_is_shown_with_its_values_and_how_they_are_drawn(
    capsys: Capture, small: Path
) -> None:
    rows = {
        row["knob"]: row for row in json.loads(run(capsys, "space", "show", small, "--format", "json").out)
    }
    assert rows["depth"] == {"knob": "depth", "values": "1, 2", "drawn": "one of these"}
    assert rows["stage.blocks"] == {"knob": "stage.blocks", "values": "1 to 2", "drawn": "evenly"}
    assert rows["stage.kernel"]["values"] == "1, 3 (2x)"
    assert rows["stages.1.stride"] == {"knob": "stages.1.stride", "values": "1", "drawn": "fixed"}
    assert rows["width"]["values"] == "8 to 64"


def test_the_default_space_is_shown_whole(capsys: Capture) -> None:
    out = run(capsys, "space", "show").out
    default = spaces.default()
    for section in ("stem", "stage", "same", "pool", "head", "block"):
        assert all(f"{section}.{field} " in out for field in type(getattr(default, section)).model_fields)
    assert "linear (19), hidden (1)" in out and "one of these, by weight" in out
    assert re.search(r"stages\.2\.stride\W+1 \(1\), 2 \(14\)", out)
    assert "over 64 pixels: stem.stride" in out


def test_the_space_of_published_networks_has_a_name_and_a_repeated_choice_its_count(capsys: Capture) -> None:
    out = run(capsys, "space", "show", "published").out
    assert "0 to 0.5 in steps of 0.1" in out and "linear (17x)" in out


def test_the_json_schema_of_a_space_is_printed(capsys: Capture) -> None:
    assert "StageKnobs" in json.loads(run(capsys, "space", "schema").out)["$defs"]


def test_a_forecast_is_a_block_of_lines(capsys: Capture, small: Path) -> None:
    result = run(capsys, "space", "check", small, *QUICK, "--trials", "50")
    assert result.code == 0 and result.err == ""
    for name in ("draws that fit", "over half of it", "smallest network", "largest possible", "misses have"):
        assert re.search(f"^{name} ", result.out, flags=re.MULTILINE)
    assert re.search(
        r"^for 50 trials +50 proposals by fit, about \d+ by reject", result.out, flags=re.MULTILINE
    )
    assert "time, estimated" not in result.out


def test_a_forecast_as_json_says_the_same(capsys: Capture, small: Path) -> None:
    told = json.loads(run(capsys, "space", "check", small, *QUICK, "--format", "json", "--trials", "50").out)
    assert told["fit"]["low"] < told["fit"]["share"] < told["fit"]["high"]
    assert told["proposals_by_reject"] == pytest.approx(50 / told["fit"]["share"])
    assert told["smallest"]["parameters"] <= told["largest_drawn"]["parameters"]
    assert told["largest_drawn"]["parameters"] <= told["largest"]["parameters"]
    assert (told["time"], told["warning"], told["max_params"]) == (None, None, 200_000)
    assert isinstance(told["networks"], int)


@pytest.mark.parametrize("gpus", ["", "0"])
def test_a_forecast_has_the_limit_that_a_launch_would_take_unless_it_is_lifted(
    capsys: Capture, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    flags = Flags("sqlite://", tmp_path, trials=3, data="digits", space=small, on_cpu=not gpus, epochs=4)
    launched = prepare.make_config(flags, None)
    check = ("space", "check", small, "--no-minutes", "--data", "digits")
    told = json.loads(run(capsys, *check, "--epochs", "4", "--format", "json").out)
    assert told["max_macs"] == launched.budget.max_macs
    assert (launched.data.train_images, told["max_macs_default"] is not None) == (1_150, True)
    printed = run(capsys, *check, "--epochs", "4").out
    assert f"--max-macs {told['max_macs']:,} is the default: {told['max_macs_default']}" in printed
    lifted = json.loads(run(capsys, *check, "--max-macs", "none", "--format", "json").out)
    said = json.loads(run(capsys, *check, "--max-macs", "3M", "--format", "json").out)
    assert (lifted["max_macs"], lifted["max_macs_default"]) == (None, None)
    assert (said["max_macs"], said["max_macs_default"]) == (3_000_000, None)
    assert lifted["largest"] == told["largest"]


@pytest.mark.parametrize(("limit", "trained"), [(None, 45_000), (60_000, 45_000), (44_000, 44_000)])
def test_a_trial_trains_on_no_more_images_than_there_are(limit: int | None, trained: int) -> None:
    """A launch has 45,000 of CIFAR-10 beside those it validates on, whatever --train-images says."""
    facts = dict.fromkeys(("channels", "image_size", "classes")) | {"data": "cifar10"}
    work = space_work.work_of(facts, limit)
    assert (work.images, work.validated) == (trained, 5_000)
    assert limit == 44_000 or work.recipe == space_work.work_of(facts).recipe


def test_samples_are_those_of_a_launch_too(
    capsys: Capture, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    ask = ("space", "sample", small, "-n", "20", "--image-size", "64", "--format", "json")
    drawn = run(capsys, *ask)
    assert all(row["macs"] <= 32_000_000 for row in json.loads(drawn.out))
    assert drawn.err.startswith("note: --max-macs 32,000,000 is the default: the least that tells")
    assert run(capsys, *ask, "--max-macs", "none").err == ""


def test_the_time_is_estimated_with_what_it_takes_for_granted(capsys: Capture, small: Path) -> None:
    flags = (*QUICK[1:], "--minutes", "--trials", "50", "--workers", "3", "--epochs", "2")
    out = run(capsys, "space", "check", small, *flags).out
    assert re.search(r"time, estimated +about [\d.,]+ (seconds?|minutes) for 50 trials of .*, 3 workers", out)
    assert "1,150 images, 2 epochs, none pruned or repeated" in out


def test_minutes_grow_with_trials_and_shrink_with_workers() -> None:
    work = duration.Workload(brief_recipe("digits"), images=100, validated=30)
    space, task = spaces.default(), Task(channels=1, image_size=8)
    found = duration.estimate(space, Budget(100_000, 1_000_000), task, work, trials=60, workers=4)
    assert found.minutes == pytest.approx(found.trial_seconds * 60 / 4 / 60)
    assert len(found.points) == 3 and all(point.seconds > 0 for point in found.points)
    assert found.points[0].macs < found.points[2].macs


def test_minutes_are_of_plain_steps_where_trials_make_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []

    def measure(*_: object, device: object, make_recorder: object) -> Pace:
        made.append(make_recorder)
        return Pace(1.0, 128, "cuda")

    monkeypatch.setattr(throughput, "measure", measure)
    work = duration.Workload(brief_recipe("digits"), images=100, validated=30)
    for value in ("0", "1"):
        monkeypatch.setenv("SEARCH_PLAIN_STEPS", value)
        duration.estimate(spaces.default(), Budget(100_000), Task(channels=1, image_size=8), work, 1, 1)
    assert made == [step_graph.cuda_recorder] * 3 + [step_graph.plain_steps] * 3


def test_minutes_of_workers_on_cores_are_timed_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--gpus none` on a machine with a GPU."""
    timed: list[torch.device] = []

    def measure(*_: object, device: torch.device, **__: object) -> Pace:
        timed.append(device)
        return Pace(1.0, 128, device.type)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(throughput, "measure", measure)
    assert " on cuda, none pruned" in plan.minutes(make_config(), 10, 2)
    assert " with 2 workers on cpu, none pruned" in plan.minutes(make_config(), 10, 2, on_cpu=True)
    assert timed == [torch.device("cuda", 0)] * 3 + [torch.device("cpu")] * 3


def test_the_pace_of_a_network_lies_between_those_of_its_neighbours() -> None:
    points = [Point(100, 1.0, 2), Point(10_000, 4.0, 2)]
    assert duration.seconds(points, 50) == 1.0
    assert duration.seconds(points, 1_000) == pytest.approx(2.0)
    assert duration.seconds(points, 20_000) == pytest.approx(8.0)


def test_samples_fit_the_budget_and_are_written_as_files_that_can_be_read(
    capsys: Capture, small: Path, tmp_path: Path
) -> None:
    out = tmp_path / "nets"
    flags = (*QUICK[1:], "-n", "4", "--format", "json", "--out", out)
    result = run(capsys, "space", "sample", small, *flags)
    drawn = json.loads(result.out)
    assert [row["sample"] for row in drawn] == [1, 2, 3, 4]
    for row in drawn:
        network = architecture.load(out / f"{row['sample']}.json")
        assert network.document() == row["architecture"] and network.fingerprint == row["fingerprint"]
        assert cost.total(network).parameters == row["parameters"] <= 200_000
        assert (network.channels, network.image_size) == (1, 8)
    assert sorted(path.name for path in out.iterdir()) == ["1.json", "2.json", "3.json", "4.json"]
    assert run(capsys, "space", "sample", small, *flags).out == result.out, "the same seed, the same networks"
    assert run(capsys, "space", "sample", small, *flags, "--seed", "1").out != result.out


@pytest.mark.parametrize(
    ("text", "flags", "complaint"),
    [
        ("depht = [2]", (), r"bad\.toml: depht: unknown field"),
        ("[stage]\nkernle = [3]", (), r"bad\.toml: stage\.kernle: unknown field"),
        ("[stage]\nkernel = []", (), r"bad\.toml: stage\.kernel: .*at least 1"),
        ("[stage]\nblocks = {low = 5, high = 2}", (), r"stage\.blocks: empty range: low 5 is above high 2"),
        ("[width]\nlow = 9\nhigh = 15", (), r"bad\.toml: width: no multiple of 8 from 9 to 15"),
        ("[stage]\nkernel = [3, 63]", (), r"bad\.toml: stage\.kernel: 63 is larger than its feature map"),
        ("[pool]\nsize = [64]", (), r"bad\.toml: pool\.size: 64 is larger than the last map"),
        ("[stem]\nkernel = [9]", ("--image-size", "4"), r"bad\.toml: stem\.kernel: 9 is larger than .* 4x4"),
        ("depth = ", (), r"bad\.toml: not TOML"),
    ],
)
@pytest.mark.parametrize("command", [("check", "--no-minutes"), ("sample",)])
def test_a_bad_space_is_one_line_that_names_the_place_in_the_file(
    capsys: Capture,
    tmp_path: Path,
    text: str,
    flags: tuple[str, ...],
    complaint: str,
    command: tuple[str, ...],
) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    result = run(capsys, "space", command[0], path, *command[1:], *flags)
    assert result.code == 2
    assert re.search(complaint, result.one_line)


def test_a_file_that_is_not_there_is_one_line(capsys: Capture) -> None:
    result = run(capsys, "space", "show", "absent.toml")
    assert (result.code, result.one_line) == (2, "search: absent.toml: No such file or directory")


@pytest.mark.parametrize("command", [("check", "--no-minutes"), ("sample",)])
def test_a_budget_below_the_smallest_network_ends_with_3(
    capsys: Capture, small: Path, command: tuple[str, ...]
) -> None:
    result = run(
        capsys, "space", command[0], small, *command[1:], "--max-params", "100", "--max-macs", "none"
    )
    assert result.code == 3
    assert re.search("nothing fits 100 parameters: the smallest network of the space has", result.one_line)


def test_where_hardly_a_draw_fits_reject_is_refused_and_fit_is_warned(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traits, "DRAWS", 20)  # to shrink each to fit takes long, and nothing is said of them
    flags = ("--no-minutes", "--max-params", "3000")
    warned = run(capsys, "space", "check", *flags)
    assert warned.code == 0
    assert warned.one_line.startswith("warning: under 1% of plain draws fit")
    refused = run(capsys, "space", "check", *flags, "--sampling", "reject")
    assert refused.code == 2
    assert re.search(r"of the draws fit 3,000 parameters .* under 1%: use --sampling fit", refused.one_line)


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (0, "0"),
        (12_345, "12,345"),
        (1_500_000, "about 1.5e6"),
        (41 * 10**30, "about 4.1e31"),
        (10**300, "about 1e300"),
    ],
)
def test_a_count_of_any_size_is_told_in_a_few_characters(count: int, told: str) -> None:
    assert forecast_text.about(count) == told


@pytest.mark.parametrize(
    ("minutes", "told"),
    [
        (0.0026, "1 second"), (0.5, "30 seconds"), (1.04, "62 seconds"), (2, "2 minutes"), (90, "90 minutes"),
        (600, "10 hours"), (4_320, "3 days"),
    ],
)  # fmt: skip
def test_a_time_is_told_in_a_unit_that_people_use(minutes: float, told: str) -> None:
    assert forecast_text.in_minutes(minutes) == told


@pytest.mark.parametrize("known", DATASETS.values(), ids=list(DATASETS))
def test_a_data_set_that_is_named_brings_its_channels_size_and_classes(
    capsys: Capture, small: Path, known: KnownDataset
) -> None:
    out = run(capsys, "space", "sample", small, "--data", known.name, "-n", "1", "--format", "json").out
    network = json.loads(out)[0]["architecture"]
    facts = (known.channels, known.image_size, known.classes)
    assert (network["channels"], network["image_size"], network["classes"]) == facts


def test_a_folder_brings_its_channels_size_and_classes_too(
    capsys: Capture, small: Path, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path / "pets", 10, classes=("cat", "dog", "emu"))
    images = ("--data", f"folder:{folder}", "--data-dir", tmp_path / "data")
    out = run(capsys, "space", "sample", small, *images, "-n", "1", "--format", "json").out
    network = json.loads(out)[0]["architecture"]
    assert (network["channels"], network["image_size"], network["classes"]) == (3, 12, 3)
    checked = run(capsys, "space", "check", small, *images, "--no-minutes", "--max-params", "200k")
    assert checked.code == 0, checked.err


def test_stored_tensors_bring_their_channels_size_and_classes_too(
    capsys: Capture, small: Path, tmp_path: Path
) -> None:
    drawn = np.random.default_rng(0).integers(0, 256, (60, 2, 12, 12), dtype=np.uint8)
    spec = Data((drawn, np.arange(60) % 3)).store(tmp_path)
    images = ("--data", spec, "--data-dir", tmp_path)
    out = run(capsys, "space", "sample", small, *images, "-n", "1", "--format", "json").out
    network = json.loads(out)[0]["architecture"]
    assert (network["channels"], network["image_size"], network["classes"]) == (2, 12, 3)
    checked = run(capsys, "space", "check", small, *images, "--no-minutes", "--max-params", "200k")
    assert checked.code == 0, checked.err


def test_a_folder_is_split_as_a_launch_splits_it(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    folder = folder_of(tmp_path / "pets", 20)
    for i in range(60):
        noise(folder / "val" / ("cat", "dog")[i % 2] / f"{i}.png", 9_000 + i)
    spec, data_dir = f"folder:{folder}", tmp_path / "data"
    flags = Flags("sqlite://", data_dir, trials=3, data=spec, space=small, on_cpu=True, epochs=2_000)
    launched = prepare.make_config(flags, None)
    asked = ("channels", "image_size", "classes", "max_macs", "skip_damaged")
    facts = dict.fromkeys(asked) | {"data": spec, "data_dir": data_dir, "max_parameters": 1_000_000}
    work = space_work.work_of(facts, epochs=2_000)
    assert (work.images, work.validated) == (40, 60)
    assert work.recipe == launched.recipe
    space = spaces.load(small).for_images(work.task.image_size)
    assert space_work.budget_of(facts, space, work)[0].max_macs == launched.budget.max_macs == 5_000_000


@pytest.mark.parametrize(
    ("spec", "code", "words"),
    [("folder:nowhere", 5, "no folder"), ("tensors:nowhere", 5, "no tensors"), ("cats", 2, "use cifar10")],
)
def test_what_is_no_data_set_is_one_line(
    capsys: Capture, small: Path, spec: str, code: int, words: str
) -> None:
    result = run(capsys, "space", "sample", small, "--data", spec)
    assert (result.code, words in result.one_line) == (code, True), result.err
