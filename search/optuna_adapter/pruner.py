"""Makes the study's pruner, and asks it after each epoch whether it stops a trial.

Reads the study's trials through Optuna; writes nothing itself. study.py makes pruners, recording/writer.py
asks.
"""

from types import SimpleNamespace
from typing import Any

import optuna
from optuna.trial import Trial, TrialState, create_trial

from search.optuna_adapter import shortcuts
from search.study.config import PrunerName

# Finished trials before the median stops one and TPE proposes by what it knows; until then trials are random.
STARTUP_TRIALS = 10


class Median(optuna.pruners.MedianPruner):
    """The median of the finished trials at the same epoch, which stops none before the epoch `warm_up`."""

    def __init__(self, warm_up: int) -> None:
        super().__init__(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=warm_up)
        self.warm_up = warm_up


def make_pruner(name: PrunerName, epochs: int) -> optuna.pruners.BasePruner:
    """Pruners that leave the first third of a training of so many epochs alone: what starts slowly may end
    well."""
    warm_up = epochs // 3 + 1
    if name == "median":
        return Median(warm_up)
    if name == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=warm_up, max_resource=epochs)
    if name == "asha":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=warm_up)
    return optuna.pruners.NopPruner()


class Pruning:
    """Whether the study's pruner stops a trial after an epoch: the answer of Trial.should_prune().

    The median is not asked in the epochs in which it never stops a trial, and not about the trial's row: it
    looks at nothing but the values that were reported, which are here, and those of completed trials after
    the same epoch, which are one statement. Other pruners are asked about the
    trial as it is stored, since they keep notes in it.
    """

    def __init__(self, study: optuna.Study, trial: Trial) -> None:
        self.study, self.trial = study, trial
        self.steps: dict[int, float] = {}  # what is maximised, by epoch; whoever reports one enters it here

    def stops(self) -> bool:
        """After the last of `steps`, which are stored. Raises what the storage does."""
        pruner = self.study.pruner
        if isinstance(pruner, optuna.pruners.NopPruner):
            return False
        if isinstance(pruner, Median) and shortcuts.enabled():
            if max(self.steps, default=-1) < pruner.warm_up:
                return False
            asked = create_trial(state=TrialState.RUNNING, intermediate_values=self.steps)
            return pruner.prune(self._completed(), asked)
        return pruner.prune(self.study, self.trial.storage.get_trial(self.trial._trial_id))

    def _completed(self) -> Any:
        """What the median looks at of a study, in its place: its direction, and of the completed trials the
        values after the step that is asked about."""
        storage: Any = self.study._storage
        if hasattr(storage, "_backend"):  # Optuna's cache, before ours
            storage = storage._backend
        if not hasattr(storage, "completed_at"):
            return self.study
        step = max(self.steps)
        values = storage.completed_at(self.study._study_id, step)
        trials = [SimpleNamespace(intermediate_values={} if one is None else {step: one}) for one in values]
        return SimpleNamespace(direction=self.study.direction, get_trials=lambda **_: trials)
