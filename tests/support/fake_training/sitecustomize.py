"""Trainings that cost nothing, for real `search` processes: found on PYTHONPATH, at work under FAKE_TRAINING.

FAKE_TRAINING names a folder. Its `orders.json` says how long a training takes and which of them misbehave;
what was trained is noted in its `trained.log`, one line an end. Without the variable nothing happens at all.
The product has no hook for this: its function that opens torch is replaced after its module is loaded.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from types import ModuleType
from typing import Any

REPLACED = "search.worker.training_function"


class Finder(importlib.abc.MetaPathFinder):
    """Finds that module as everyone else would, and has its trainer replaced once it is loaded."""

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> Any:
        if name != REPLACED:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = Loader(spec.loader)
        return spec


class Loader(importlib.abc.Loader):
    def __init__(self, real: Any) -> None:
        self.real = real

    def create_module(self, spec: Any) -> ModuleType | None:
        found: ModuleType | None = self.real.create_module(spec)
        return found

    def exec_module(self, module: ModuleType) -> None:
        self.real.exec_module(module)
        import fake_trainer

        module.make_training_function = fake_trainer.make_training_function  # type: ignore[attr-defined]


if os.environ.get("FAKE_TRAINING"):
    sys.meta_path.insert(0, Finder())
