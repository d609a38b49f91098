"""Each kind of block from a space file to the end: proposed, built, trained, exported, verified, explained,
repaired."""

import json
from pathlib import Path
from typing import Any

import pytest
from command import run
from worker_samples import FakeTraining, make_config, make_context, make_study

from search.optuna_adapter import study as optuna_study
from search.study import export as study_export, verification
from search.worker import trial as worker_trial
from space import architecture, space as spaces
from space.budget import Budget, judge
from space.files import write_whole
from space.membership import contains
from storage import candidates, leases
from storage.leases import Claim

KINDS: dict[str, dict[str, Any]] = {
    "basic": {"kind": ["basic"], "shortcut": ["padding"]},
    "bottleneck": {"kind": ["bottleneck"], "expansion": [2, 4], "groups": {"2": 1, "4": 3}},
    "inverted": {"kind": ["inverted"], "expansion": [3, 6], "shortcut": ["identity"]},
}


@pytest.mark.parametrize("growth", ["step", "linear"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_proposed_built_exported_verified_explained_and_repaired(
    kind: str, growth: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, sqlite_url: str
) -> None:
    space = spaces.parse(
        {"depth": [2], "stage": {"blocks": [2, 3], "growth": [growth]}, "block": KINDS[kind]}
    )
    config = make_config(space=space, max_parameters=60_000)
    engine, record = make_study(sqlite_url, config, 3)
    with optuna_study.open_study(sqlite_url, record.name, config) as opened:
        context = make_context(opened, engine, record, FakeTraining(), config, tmp_path)
        while isinstance(claim := leases.claim(engine, record.id, "one", 60.0), Claim):
            worker_trial.run(context, claim)
    best = candidates.best(engine, record.id)[0]
    document = study_export.export(record, config, best, 3)
    engine.dispose()
    network = architecture.Architecture.parse(best.architecture)
    assert network.block.kind == kind and {stage.growth for stage in network.stages} == {growth}
    assert contains(space, network) == []

    path = tmp_path / "best.json"
    write_whole(document.model_dump_json(), path)
    checks = json.loads(run(capsys, "verify", path, "--format", "json").out)
    assert [row["check"] for row in checks] == ["schema", "count", "budget", "fingerprint", "forward pass"]

    told = json.loads(run(capsys, "explain", path, "--max-params", "30000", "--format", "json").out)
    assert (told["fits"], told["parameters"]) == (False, best.parameters) and told["repairs"]
    out = tmp_path / "smaller.json"
    assert run(capsys, "explain", path, "--max-params", "30000", "--repair", out).code == 0
    repaired = architecture.load(out)
    assert repaired.block.kind == kind
    assert judge(repaired, Budget(30_000)).fits and verification.shapes(repaired)[0] <= 30_000
