"""Loads samplers of OptunaHub, which are no part of this project: strategies of the benchmark alone.

Asks the package optunahub, which people install for themselves (it brings a dozen others), for its registry
over the network, or for a folder that holds a copy of it. Called by __main__.py and strategies.py; writes
nothing but what optunahub caches.
"""

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from optuna import Study
from optuna.samplers import BaseSampler, TPESampler
from optuna.samplers._tpe.sampler import _split_trials
from optuna.trial import FrozenTrial

GONE = "categorical_distance_func"  # an argument that Optuna 5.0 took from TPESampler


def modules(names: Sequence[str], folder: Path | None = None) -> tuple[dict[str, ModuleType], str]:
    """Packages of the registry by name, and in a line what is not there and why; "" where all are.

    `folder` is what holds `package/` of a copy of the registry.
    """
    try:
        import optunahub
    except ImportError:
        return {}, f"left out, as optunahub is not installed: {', '.join(names)}"
    found, missing = dict[str, ModuleType](), list[str]()
    for name in names:
        try:
            found[name] = _loaded(optunahub, name, folder)
        except Exception as error:  # the network's, GitHub's, and whatever a package raises
            missing.append(
                f"{name} ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
            )
    return found, f"left out: {', '.join(missing)}" if missing else ""


def _loaded(optunahub: Any, name: str, folder: Path | None) -> ModuleType:
    if folder is None:
        return optunahub.load_module(name)  # type: ignore[no-any-return]
    return optunahub.load_local_module(name, registry_root=str(folder / "package"))  # type: ignore[no-any-return]


class Tolerant(TPESampler):
    """Optuna 5.0's, which bears what a sampler made for 4.8 asks of it."""

    def __init__(self, **options: Any) -> None:
        if options.pop(GONE, None) is not None:
            raise TypeError(f"Optuna has no {GONE} any more")
        super().__init__(**options)

    def _get_params(self, trial: FrozenTrial, study: Study | None = None) -> dict[str, Any]:
        """Trials are stored whole here: none has parameters that stand elsewhere."""
        del study
        return trial.params


def hierarchical(module: ModuleType, seed: int) -> BaseSampler:
    """The sampler of samplers/hierarchical_tpe, whose parent and whose private functions of Optuna are those
    of 4.8. Where two answers each decide what else is asked, it takes values that some candidates have for
    values of all, and fails: it is shown those alone that every candidate has."""
    inner: Any = sys.modules[module.HierarchicalTPESampler.__module__]
    inner.TPESampler = Tolerant
    inner._split_trials = lambda study, trials, below, *_constrained: _split_trials(study, trials, below)

    class Hierarchical(module.HierarchicalTPESampler, Tolerant):  # type: ignore[name-defined,misc]
        def _get_hierarchical_child_samples(
            self, study: Study, hierarchy: Any, groups: Any, trials: Any, mask: Any, samples: Any,
            delta_ll: Any, parent_group_index: int, ancestor_params: Any,
        ) -> None:  # fmt: skip
            shown = {name: values for name, values in samples.items() if len(values) == len(delta_ll)}
            super()._get_hierarchical_child_samples(
                study, hierarchy, groups, trials, mask, shown, delta_ll, parent_group_index, ancestor_params
            )
            samples |= shown

    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # it hands on arguments of old
        made: BaseSampler = Hierarchical(seed=seed, n_startup_trials=10, warn_independent_sampling=False)
    return made


def union(module: ModuleType, seed: int) -> BaseSampler:
    """The sampler of samplers/tpe_union_multivariate, which fails where its good trials lack a choice that
    all the bad ones have made: then parameters are chosen one by one, as it does where it knows nothing."""

    class Union(module.TPEUnionMultivariateSampler):  # type: ignore[name-defined,misc]
        def sample_relative(self, study: Study, trial: FrozenTrial, search_space: Any) -> dict[str, Any]:
            try:
                with np.errstate(invalid="ignore"):
                    return dict(super().sample_relative(study, trial, search_space))
            except IndexError:  # NaN, for a choice that is not made, looked up among the choices
                return {}

    made: BaseSampler = Union(seed=seed, n_startup_trials=10)
    return made
