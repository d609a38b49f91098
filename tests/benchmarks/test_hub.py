"""Samplers of OptunaHub are strategies of the benchmark where they are there; elsewhere it does without."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest

from benchmarks.simulated import hub, strategies, suite


def test_without_optunahub_its_arms_are_left_out_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optunahub", None)
    found, line = hub.modules(strategies.HUB)
    assert found == {}
    assert line == f"left out, as optunahub is not installed: {', '.join(strategies.HUB)}"
    assert not [arm.name for arm in (*suite.every({}), *suite.few({})) if "optunahub" in arm.name]


def test_what_the_registry_has_is_compared_and_what_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, registry_root: str) -> ModuleType:
        assert registry_root == "copy/package"
        if name == strategies.HIERARCHICAL:
            raise ModuleNotFoundError("no such package\nin this copy")
        return ModuleType(name)

    monkeypatch.setitem(sys.modules, "optunahub", SimpleNamespace(load_local_module=load))
    found, line = hub.modules(strategies.HUB, Path("copy"))
    assert list(found) == [strategies.UNION]
    assert line == f"left out: {strategies.HIERARCHICAL} (ModuleNotFoundError: no such package)"
    assert [arm.name for arm in suite.every(found) if "optunahub" in arm.name] == ["optunahub union tpe"]


def test_the_registry_on_the_network_is_asked_where_no_copy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optunahub", SimpleNamespace(load_module=ModuleType))
    found, line = hub.modules(strategies.HUB)
    assert (tuple(found), line) == (strategies.HUB, "")


def test_a_sampler_that_fails_chooses_one_by_one() -> None:
    class Failing(optuna.samplers.RandomSampler):
        def __init__(self, seed: int, n_startup_trials: int) -> None:
            super().__init__(seed)

        def sample_relative(self, study, trial, search_space):  # type: ignore[no-untyped-def]
            raise IndexError("index -9223372036854775808 is out of bounds for axis 2 with size 4")

    sampler = hub.union(SimpleNamespace(TPEUnionMultivariateSampler=Failing), seed=1)  # type: ignore[arg-type]
    study = optuna.create_study(sampler=sampler)
    assert 0 <= study.ask().suggest_float("x", 0, 1) <= 1


def test_a_sampler_of_optuna_4_8_is_made_in_5_0(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old(optuna.samplers.TPESampler):
        def __init__(self, *, seed: int, n_startup_trials: int, warn_independent_sampling: bool) -> None:
            super().__init__(seed=seed, categorical_distance_func=None)
            trial = optuna.trial.create_trial(params={}, value=0.0)
            self.read = self._get_params(trial)

        def _get_hierarchical_child_samples(self, *arguments: Any) -> None:
            samples, rows = arguments[5], arguments[6]
            assert list(samples) == ["of all"] and len(samples["of all"]) == len(rows)
            samples["child"] = np.zeros(1)

    module = ModuleType("old_package")
    Old.__module__, module.HierarchicalTPESampler = "old_package", Old  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "old_package", module)
    sampler = hub.hierarchical(module, seed=1)
    assert isinstance(sampler, optuna.samplers.TPESampler)
    assert sampler.read == {}  # type: ignore[attr-defined]
    samples = {"of all": np.zeros(3), "of some": np.zeros(2)}
    sampler._get_hierarchical_child_samples(None, [], [], [], {}, samples, np.zeros(3), 0, {})  # type: ignore[attr-defined]
    assert list(samples) == ["of all", "of some", "child"]
    assert module._split_trials is not None and module.TPESampler is hub.Tolerant
