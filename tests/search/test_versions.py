"""Versions are told of whatever is installed, and of a source tree that is not."""

from importlib.metadata import PackageNotFoundError

import pytest

from search.study import versions


def test_a_tree_that_is_not_installed_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(package: str) -> str:
        if package == "parsimony":
            raise PackageNotFoundError(package)
        return "7.1"

    monkeypatch.setattr(versions, "version", version)
    found = versions.installed_versions(("parsimony", "torch"))
    assert (found["parsimony"], found["torch"]) == ("not installed", "7.1")
    assert found["python"].startswith("3.")
