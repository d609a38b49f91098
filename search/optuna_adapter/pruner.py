"""Pruners, and what they are asked of one trial."""

from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial

from search.optuna_adapter.ask import CachedTrials
from search.optuna_adapter.storage import Storage
from search.study.config import PrunerName

STARTUP_TRIALS = 10


def make_pruner(name: PrunerName, epochs: int) -> optuna.pruners.BasePruner:
    """Pruners that leave the first third of a training alone: what starts slowly may end well."""
    warm_up = epochs // 3 + 1
    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=warm_up)
    if name == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=warm_up, max_resource=epochs)
    if name == "asha":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=warm_up)
    return optuna.pruners.NopPruner()


class Pruning:
    """Whether the study's pruner stops a trial: its answer, without reading what it does not look at.

    The median is not asked in the epochs in which it never stops a trial; afterwards it compares with
    finished trials, which are read again only when there are more of them.
    """

    def __init__(self, study: optuna.Study, trial: Trial) -> None:
        self.study, self.trial, self.seen = study, trial, study
        self.trials: list[FrozenTrial] = []
        self.unfinished: list[int] | None = None  # ids; None before the trials were read

    @property
    def steps(self) -> dict[int, float]:
        """The values that were reported, which Optuna's trial keeps for its pruner."""
        steps: dict[int, float] = self.trial._cached_frozen_trial.intermediate_values
        return steps

    def stops(self) -> bool:
        """After the epoch that was reported last. Raises what the storage does."""
        pruner = self.study.pruner
        if isinstance(pruner, optuna.pruners.NopPruner):
            return False
        if not isinstance(pruner, optuna.pruners.MedianPruner):
            return self.trial.should_prune()
        trial = self.trial._get_latest_trial()
        if trial.last_step is None or trial.last_step < pruner._n_warmup_steps:
            return False
        storage: Any = self.study._storage
        if self._news(getattr(storage, "_backend", storage)):
            self.trials = self.study.get_trials(deepcopy=False)
            self.unfinished = [one._trial_id for one in self.trials if not one.state.is_finished()]
            aside: Any = CachedTrials(storage, self.study._study_id, self.trials)
            self.seen = optuna.Study(self.study.study_name, aside, self.study.sampler, pruner)
        return pruner.prune(self.seen, trial)

    def _news(self, storage: Any) -> bool:
        if self.unfinished is None or not isinstance(storage, Storage):
            return True
        last = max((one._trial_id for one in self.trials), default=0)
        return storage.has_news(self.study._study_id, self.unfinished, last)
