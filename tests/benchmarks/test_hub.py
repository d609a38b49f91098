"""Samplers of OptunaHub are strategies of the benchmark where they are there; elsewhere it does without."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

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
