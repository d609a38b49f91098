"""The exported file: believed in nothing, and each thing that is wrong with it named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from command import run
from report_samples import config, study, trial
from sqlalchemy import text
from worker_samples import FakeTraining, make_config, make_context, make_study

from search.optuna_adapter import study as optuna_study
from search.study import export as study_export, verification
from search.study.statistics import difference, spread, wilson
from search.worker import trial as worker_trial
from space import cost
from space.architecture import Architecture
from space.files import write_whole
from storage import candidates, database, leases
from storage.leases import Claim

Document = dict[str, Any]


def test_a_file_says_of_a_folders_own_validation_images_that_they_were_not_split_off() -> None:
    own = config().data.model_copy(update={"spec": "folder:pets", "name": "pets", "own_validation": True})
    document = study_export.export(study(), config().model_copy(update={"data": own}), trial(0), 2)
    assert document.metrics.measured_on.startswith("100 validation images of pets, the folder's own (val/); ")


@pytest.fixture
def exported(sqlite_url: str, tmp_path: Path) -> Path:
    """The best of two networks, as a file."""
    config = make_config(max_parameters=100_000)
    engine, record = make_study(sqlite_url, config, 2)
    with optuna_study.open_study(sqlite_url, record.name, config) as opened:
        context = make_context(opened, engine, record, FakeTraining(), config, tmp_path)
        while isinstance(claim := leases.claim(engine, record.id, "one", 60.0), Claim):
            worker_trial.run(context, claim)
    document = study_export.export(record, config, candidates.best(engine, record.id)[0], 2)
    engine.dispose()
    path = tmp_path / "best.json"
    write_whole(document.model_dump_json(), path)
    return path


def test_a_true_file_passes_every_check(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, "verify", exported, "--format", "json")
    assert result.code == 0
    checks = [row["check"] for row in json.loads(result.out)]
    assert checks == ["schema", "count", "budget", "fingerprint", "forward pass"]


def test_a_file_says_all_that_it_takes_to_judge_it(exported: Path) -> None:
    document = json.loads(exported.read_text())
    assert document["parameters"] == sum(row["parameters"] for row in document["layers"])
    assert document["macs"] == sum(row["macs"] for row in document["layers"])
    accuracy = document["metrics"]["validation_accuracy"]
    assert document["metrics"]["interval_95"] == pytest.approx(wilson(accuracy, 100)), "of 100 images"
    said = document["metrics"]["measured_on"]
    assert said.startswith("100 validation images of digits, split from its training images; chosen among 2")
    assert said.endswith("test images not read")
    assert document["metrics"]["standing"] == "brief score only"
    assert {"study", "trial", "seed", "versions"} <= document["origin"].keys()
    assert document["data"]["split_digest"] and document["recipe"]["epochs"]


def widen(document: Document) -> None:
    document["architecture"]["stages"][0]["width"] += 8


def over_budget(document: Document) -> None:
    document["budget"]["max_parameters"] = document["parameters"] - 1


def one_row_wrong(document: Document) -> None:
    document["layers"][0]["parameters"] += 1
    document["layers"][1]["parameters"] -= 1


def of_full_trainings(document: Document) -> None:
    document["confirmation"] = {
        "epochs": 9, "seeds": 2, "validation_accuracy": 0.9, "validation_interval_95": None,
        "test_accuracy": 0.8, "test_interval_95": None, "test_images": 100, "folder": "",
        "validation_by_seed": [0.89, 0.91], "test_by_seed": [0.8, 0.9],
    }  # fmt: skip


def confirmed(document: Document, **changes: Any) -> None:
    """Full trainings of three seeds, whose figures are right but for the changes."""
    seeds = {"validation": (0.87, 0.9, 0.91), "test": (0.84, 0.85, 0.86)}
    found: Document = {"epochs": 9, "seeds": 3, "test_images": 100, "folder": ""}
    for name, values in seeds.items():
        whole = spread(values)
        found |= {f"{name}_accuracy": whole.mean, f"{name}_interval_95": whole.interval,
                  f"{name}_by_seed": values}  # fmt: skip
    document["confirmation"] = found | changes


def ahead(document: Document, **changes: Any) -> None:
    """A baseline of 70%, by which the network is ahead as it is but for the changes."""
    points, low, high = difference(
        document["metrics"]["validation_accuracy"], 0.7, document["data"]["validation_images"]
    )
    document["against"] = {"baseline": "resnet", "trial": 0, "validation_accuracy": 0.7, "ahead": points,
                           "ahead_interval_95": (low, high)} | changes  # fmt: skip


@pytest.mark.parametrize(
    "add",
    [
        confirmed,
        ahead,
        lambda d: confirmed(d, validation_by_seed=[], test_by_seed=[]),
        lambda d: confirmed(d, test_accuracy=None, test_interval_95=None, test_by_seed=[], test_images=0),
        lambda d: confirmed(d, test_interval_95=None, test_accuracy=0.85, test_by_seed=[0.85] * 3),
        lambda d: confirmed(d, seeds=2, test_interval_95=None, test_accuracy=0.85, test_by_seed=[0.84, 0.86],
                            validation_accuracy=0.85, validation_by_seed=[0.84, 0.86],
                            validation_interval_95=None),
    ],
)  # fmt: skip
def test_figures_of_full_trainings_and_baselines_that_are_right_pass(
    exported: Path, capsys: pytest.CaptureFixture[str], add: Callable[[Document], object]
) -> None:
    """Those of documents of before too, which do not have all of them."""
    document = json.loads(exported.read_text())
    add(document)
    exported.write_text(json.dumps(document))
    result = run(capsys, "verify", exported)
    assert result.code == 0, result.err


@pytest.mark.parametrize(
    ("spoil", "check"),
    [
        (lambda d: d["metrics"].update(validation_accuracy=0.999), "schema: metrics: 0.999 is not"),
        (lambda d: d["metrics"].update(validation_accuracy=7.5), "schema: metrics: 7.5 is not"),
        (lambda d: d["data"].update(validation_images=0), "schema: metrics: "),
        (of_full_trainings, "schema: confirmation: 0.8 is no mean of the test accuracies of its seeds"),
        (
            lambda d: confirmed(d, test_interval_95=[0.849, 0.851]),
            "schema: confirmation: the test accuracies of its seeds do not have the interval 0.849 to 0.851",
        ),
        (
            lambda d: confirmed(d, validation_interval_95=None),
            "schema: confirmation: the validation accuracies of its seeds do not have the interval none",
        ),
        (
            lambda d: confirmed(d, test_accuracy=0.9, test_interval_95=[0.89, 0.91], test_by_seed=[0.9] * 3),
            "schema: confirmation: the test accuracies of its seeds do not have the interval 0.89 to 0.91",
        ),
        (
            lambda d: confirmed(d, test_accuracy=0.999, validation_by_seed=[], test_by_seed=[]),
            "schema: confirmation: the test accuracies of its seeds do not have the interval",
        ),
        (
            lambda d: confirmed(d, test_accuracy=0.999, test_by_seed=[]),
            "schema: confirmation: the test accuracies of its seeds are left out",
        ),
        (
            lambda d: confirmed(d, test_accuracy=7.5, test_by_seed=[]),
            "schema: confirmation: test accuracy: 7.5 is not between 0 and 1",
        ),
        (
            lambda d: confirmed(d, seeds=30),
            "schema: confirmation: it says 30 seeds and has the validation accuracies of 3 and the test",
        ),
        (lambda d: ahead(d, ahead=0.9), "schema: against: 0.9, "),
        (lambda d: ahead(d, ahead_interval_95=[0.89, 0.91]), "schema: against: "),
        (lambda d: ahead(d, ahead=0.9, ahead_interval_95=[0.89, 0.91]), "schema: against: 0.9, 0.89 to 0.91"),
        (lambda d: d["metrics"].update(validation_score=7.0), "schema: metrics: validation_score: 7 is not"),
        (lambda d: d["metrics"].update(best_epoch_accuracy=-1.0), "schema: metrics: best_epoch_accuracy: -1"),
        (lambda d: d.pop("recipe"), "schema: recipe"),
        (lambda d: d.update(format="other/1"), "schema: format"),
        (lambda d: d.update(extra=1), "schema: extra: unknown field"),
        (lambda d: d["architecture"].update(stages=[]), "schema: architecture.stages"),
        (lambda d: d.update(parameters=d["parameters"] - 1), "count: the file says"),
        (lambda d: d.update(macs=1), "count: the file says"),
        (widen, "count: the file says"),
        (one_row_wrong, "count: the layer table"),
        (over_budget, "budget: "),
        (lambda d: d.update(fingerprint="0" * 16), "fingerprint: the file says"),
    ],
)
def test_a_spoiled_file_fails_and_says_in_what(
    exported: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Document], object],
    check: str,
) -> None:
    document = json.loads(exported.read_text())
    spoil(document)
    exported.write_text(json.dumps(document))
    result = run(capsys, "verify", exported)
    assert result.code == 6
    assert result.one_line.startswith(f"search: {check}")
    assert result.out == ""


def test_a_network_that_cannot_run_fails_the_forward_pass(
    exported: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for built, reason in (
        ((1, (2, 10)), "the built network has 1 parameters"),
        ((json.loads(exported.read_text())["parameters"], (2, 9)), "the output has shape (2, 9)"),
    ):
        monkeypatch.setattr(verification, "shapes", lambda _, built=built: built)
        result = run(capsys, "verify", exported)
        assert result.code == 6
        assert f"forward pass: {reason}" in result.one_line


def test_a_network_whose_scores_are_no_numbers_fails_the_forward_pass(
    exported: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "randn", lambda *size: torch.full(size, torch.nan))
    result = run(capsys, "verify", exported)
    assert result.code == 6
    assert "forward pass: the output is not finite" in result.one_line


def rewritten(path: Path, **changes: int) -> None:
    """The same file of a wider network, true in every figure."""
    document = json.loads(path.read_text())
    document["architecture"]["stages"][0].update(changes)
    network = Architecture.parse(document["architecture"])
    spent, rows = cost.total(network), cost.layers(network)
    layers = [row._asdict() for row in rows]
    document |= {"fingerprint": network.fingerprint, "layers": layers, **spent._asdict()}
    document["budget"] = {"max_parameters": spent.parameters, "max_macs": None}
    path.write_text(json.dumps(document))


def test_a_network_of_billions_of_parameters_is_verified_without_the_memory_for_them(
    exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewritten(exported, width=65_536)
    result = run(capsys, "verify", exported)
    assert result.code == 0, result.err
    last = result.out.splitlines()[-1]
    assert "parameters built; of shapes alone, not of values: " in last
    assert "over 100,000,000" in last


def test_a_network_within_the_bound_is_run_on_values(
    exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewritten(exported, width=24)
    last = run(capsys, "verify", exported).out.splitlines()[-1]
    assert last.startswith("ok  forward pass: 2 images in, scores of 10 classes out, ")
    assert last.endswith("parameters built")


def test_verify_says_of_an_architecture_file_what_it_is(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "net.json"
    path.write_text('{"stem": {"width": 8}, "stages": [{"blocks": 1, "width": 8}]}')
    result = run(capsys, "verify", path)
    assert result.code == 6
    assert f"{path} is an architecture file, which states no figures to verify" in result.one_line
    assert f"`search show {path}` counts it" in result.one_line


def test_books_that_were_tampered_with_are_named(
    exported: Path, sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = ("--storage", sqlite_url)
    assert run(capsys, "db", "check", *store).code == 0
    engine = database.connect(sqlite_url)
    with engine.execution_options(writes=True).begin() as connection:
        connection.execute(text("UPDATE search_candidates SET accuracy = 0.999 WHERE number = 0"))
    engine.dispose()
    result = run(capsys, "db", "check", *store)
    assert result.code == 1
    assert "trial 0 has accuracy 0.999" in result.out


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = tmp_path / "best.json"
    kept.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_whole("new \ud800", kept)  # half way through, what cannot be encoded
    assert kept.read_text() == "old"
    assert list(tmp_path.iterdir()) == [kept]
