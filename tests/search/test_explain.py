"""The command explain, as typed: what it prints, what it writes, and what it says of bad input."""

import json
from dataclasses import replace
from pathlib import Path

import click
import pytest
from command import run
from ledger_samples import proposal, take
from worker_samples import make_config, make_study

from space import architecture
from space.budget import Budget, judge
from storage import candidates

SMALL = {"stem": {"width": 12}, "stages": [{"blocks": 1, "width": 12}, {"blocks": 1, "width": 12}]}
NETWORK = "published:001-resnet18"
Captured = pytest.CaptureFixture[str]


def test_an_oversized_network_is_explained_by_part_and_with_what_fits(capsys: Captured) -> None:
    result = run(capsys, "explain", NETWORK)
    assert result.code == 0
    assert "published:001-resnet18: 11,173,962 parameters, 6,173,962 over 5,000,000" in result.out
    stage = next(line for line in result.out.splitlines() if "stage 4" in line)
    assert "2x512/k3" in stage and "8,393,728" in stage and "75.12%" in stage
    repair = next(line for line in result.out.splitlines() if "base width 64 to 42 " in line)
    assert "4,815,940" in repair and "96.32%" in repair
    assert "stages.3.1.conv2" not in result.out


def test_a_network_that_fits_is_said_to_fit_and_needs_no_file(capsys: Captured, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    result = run(capsys, "explain", "published:001-final", "--repair", out)
    assert result.code == 0
    assert "published:001-final fits: 4,697,162 parameters" in result.out
    assert "nearest" not in result.out
    assert "it fits already" in result.err and not out.exists()


def test_a_smaller_budget_makes_it_exceed(capsys: Captured) -> None:
    result = run(capsys, "explain", "published:001-final", "--max-params", "4M", "--max-macs", "400M")
    assert "697,162 over 4,000,000; " in result.out and "over 400,000,000" in result.out


def test_layers_are_those_of_show(capsys: Captured) -> None:
    shown = json.loads(run(capsys, "show", NETWORK, "--format", "json").out)
    explained = json.loads(run(capsys, "explain", NETWORK, "--layers", "--format", "json").out)
    assert explained["layers"] == shown
    assert "stages.3.1.conv2" in run(capsys, "explain", NETWORK, "--layers").out


def test_json_has_parts_that_add_up_and_every_repair_in_full(capsys: Captured) -> None:
    found = json.loads(run(capsys, "explain", NETWORK, "--format", "json").out)
    *parts, whole = found["parts"]
    for key in ("parameters", "macs"):
        assert sum(part[key] for part in parts) == whole[key] == found[key]
    assert sum(part["parameter_share"] for part in parts) == pytest.approx(1)
    assert (found["fits"], found["max_params"], found["max_macs"]) == (False, 5_000_000, None)
    assert "layers" not in found
    for repair in found["repairs"]:
        network = architecture.Architecture.parse(repair["architecture"])
        verdict = judge(network, Budget())
        assert verdict.fits and verdict.parameters == repair["parameters"]
        assert network.fingerprint == repair["fingerprint"]


def test_a_trial_is_held_to_the_budget_of_its_study(capsys: Captured, sqlite_url: str) -> None:
    network = architecture.Architecture.parse(SMALL)
    engine, record = make_study(sqlite_url, make_config(max_parameters=2_000), trials=1)
    offered = replace(proposal(0, network.fingerprint), architecture=network.document())
    candidates.propose(engine, take(engine, record), offered)
    engine.dispose()
    trial = ("explain", "bench:0", "--storage", sqlite_url)
    assert "3,758 over 2,000" in run(capsys, *trial).out
    assert "1,758 over 4,000" in run(capsys, *trial, "--max-params", 4_000).out
    missing = run(capsys, "explain", "bench:7", "--storage", sqlite_url)
    assert missing.code == 2 and "7" in missing.one_line


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("001-final", ["stem", "stage 1", "stage 2", "stage 3", "head", "all"]),
        ("000-tail", ["stem", "stage 1", "stage 2", "stage 3", "stage 4", "tail", "head", "all"]),
    ],
)
def test_parts_are_named_in_order(capsys: Captured, name: str, parts: list[str]) -> None:
    found = json.loads(run(capsys, "explain", f"published:{name}", "--format", "json").out)
    assert [part["part"] for part in found["parts"]] == parts


@pytest.mark.parametrize(
    ("block", "said", "kind"),
    [
        (
            {"kind": "bottleneck", "expansion": 2, "groups": 4},
            "bottleneck/2 in 4 groups",
            "conv 3x3 in 4 groups",
        ),
        ({"kind": "inverted"}, "inverted x6", "conv 3x3 depthwise"),
    ],
)
def test_kinds_of_blocks_are_told_and_mended(
    capsys: Captured, tmp_path: Path, block: dict[str, object], said: str, kind: str
) -> None:
    file, out = tmp_path / "net.json", tmp_path / "out.json"
    stages = [{"blocks": 2, "width": 24, "growth": "linear"}, {"blocks": 2, "width": 48, "stride": 2}]
    file.write_text(json.dumps({"stem": {"width": 16}, "stages": stages, "block": block}))
    result = run(capsys, "explain", file, "--max-params", 8_000, "--repair", out)
    assert result.code == 0 and f"2x..24/k3 {said}" in " ".join(result.out.split()), result.out
    assert kind in {row["kind"] for row in json.loads(run(capsys, "show", file, "--format", "json").out)}
    assert "fits:" in run(capsys, "explain", out, "--max-params", 8_000).out


def test_a_folder_gets_a_file_for_each_repair_that_show_reads(capsys: Captured, tmp_path: Path) -> None:
    found = json.loads(run(capsys, "explain", NETWORK, "--format", "json").out)["repairs"]
    out = tmp_path / "made" / "here"
    result = run(capsys, "explain", NETWORK, "--repair", out)
    assert result.code == 0
    assert sorted(path.name for path in out.iterdir()) == sorted(repair["file"] for repair in found)
    assert f"wrote {out / 'base-width-42.json'}: base width 64 to 42, 4,815,940 parameters" in result.err
    for repair in found:
        shown = run(capsys, "show", out / repair["file"])
        assert shown.code == 0
        assert f"{repair['parameters']:,} parameters" in shown.out and repair["fingerprint"] in shown.out
        assert "fits:" in run(capsys, "explain", out / repair["file"]).out


def test_a_file_gets_the_nearest_and_what_it_replaced_is_said(capsys: Captured, tmp_path: Path) -> None:
    out = tmp_path / "net.json"
    assert f"wrote {out}: width 512 to 243 in stage 4" in run(capsys, "explain", NETWORK, "--repair", out).err
    assert architecture.load(out).stages[3].width == 243
    again = run(capsys, "explain", NETWORK, "--repair", out, "--max-params", "4M")
    assert f"replaced {out}: " in again.err
    assert judge(architecture.load(out), Budget(4_000_000)).fits
    assert [path.name for path in tmp_path.iterdir()] == ["net.json"]


def test_a_file_where_a_folder_belongs_is_left_alone(capsys: Captured, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("mine")
    result = run(capsys, "explain", NETWORK, "--repair", taken)
    assert result.code == 2 and "is a file, not a folder" in result.one_line
    assert taken.read_text() == "mine"


def test_what_nothing_mends_is_said_and_writes_nothing(capsys: Captured, tmp_path: Path) -> None:
    result = run(capsys, "explain", NETWORK, "--max-params", 10)
    assert result.code == 0
    assert "no change of widths, blocks, kernels or stages makes it fit" in result.out
    asked = run(capsys, "explain", NETWORK, "--max-params", 10, "--repair", tmp_path / "none")
    assert asked.code == 3 and "raise the limit" in asked.one_line
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "JSON"), ("{}", "stem"), ('{"stem": {"width": 0}, "stages": []}', "stem.width")],
)
def test_a_bad_file_is_one_line(capsys: Captured, tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "net.json"
    path.write_text(text)
    result = run(capsys, "explain", path)
    assert result.code == 2 and said in result.one_line and str(path) in result.one_line


def test_bad_flags_are_one_line(capsys: Captured, tmp_path: Path) -> None:
    assert "absent.json" in run(capsys, "explain", tmp_path / "absent.json").one_line
    result = run(capsys, "explain", NETWORK, "--max-params", "many")
    assert result.code == 2 and "'many' is not a number like 5000000, 5_000_000 or 5M" in result.one_line
    lost = run(capsys, "explain", NETWORK, "--repair", tmp_path / "no" / "net.json")
    assert lost.code == 2 and "there is no folder" in lost.one_line


@pytest.mark.parametrize("columns", [80, 120])
def test_the_tables_fit_a_terminal(capsys: Captured, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    out = click.unstyle(run(capsys, "explain", NETWORK).out)
    assert max(map(len, out.splitlines())) <= columns
    assert "base width 64 to 40 (multiples of 8)" in out
