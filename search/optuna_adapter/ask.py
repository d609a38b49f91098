"""Asks Optuna for the parameters of a network in one transaction, not in one for each of thirty parameters.

Reads the study's trials once and writes one running trial. The sampler answers for a draft of it, in memory;
once all is chosen the trial is stored at once, and no other worker ever sees half of it. The answers are
those of study.ask(), which a test holds and which is asked where shortcuts are off. Called by
worker/trial.py.
"""

from collections.abc import Callable, Container, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from search.optuna_adapter import shortcuts
from space.sampling import Suggest
from storage.records import Candidate, State

Drawn = TypeVar("Drawn")


# User attributes of a trial that say what its network is: the next attempt at it has them too.
KEPT = ("fingerprint", "network", "baseline", "started_from")

DRAFT = -1  # number and id of a trial that is not stored yet


# Samplers that write nothing of a trial which its parameters do not say as well.
DRAFTING = (optuna.samplers.TPESampler, optuna.samplers.GPSampler, optuna.samplers.RandomSampler)


class CachedTrials:
    """A storage that is read through; what a sampler notes about a draft is dropped.

    The trials are read once: a sampler that asks for them anew for each parameter would see no more than
    what others did in these milliseconds.
    """

    def __init__(self, storage: Any, study_id: int, trials: list[FrozenTrial]) -> None:
        self._storage, self._study_id, self._trials = storage, study_id, trials

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def get_study_id_from_name(self, study_name: str) -> int:
        del study_name
        return self._study_id

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        if study_id != self._study_id or deepcopy:
            return list(self._storage.get_all_trials(study_id, deepcopy=deepcopy, states=states))
        return [trial for trial in self._trials if states is None or trial.state in states]

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        if trial_id != DRAFT:
            self._storage.set_trial_system_attr(trial_id, key, value)


class PendingTrial:
    """A trial whose parameters are being chosen, after these trials; suggests as optuna.Trial does."""

    def __init__(self, study: optuna.Study, trials: list[FrozenTrial]) -> None:
        aside: Any = CachedTrials(study._storage, study._study_id, trials)
        self.study = optuna.Study(study.study_name, aside, sampler=study.sampler)
        self.kept = study
        self.trial = _empty()
        study.sampler.before_trial(self.study, self.trial)
        self.space = study.sampler.infer_relative_search_space(self.study, self.trial)
        self.relative = study.sampler.sample_relative(self.study, self.trial, self.space)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return int(self._suggest(name, IntDistribution(low, high, log, step)))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return float(self._suggest(name, FloatDistribution(low, high, log, step)))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._suggest(name, CategoricalDistribution(choices))

    def _suggest(self, name: str, distribution: BaseDistribution) -> Any:
        if name not in self.trial.params:
            self.trial.params = {**self.trial.params, name: self._choose(name, distribution)}
            self.trial.distributions = {**self.trial.distributions, name: distribution}
        return self.trial.params[name]

    def _choose(self, name: str, distribution: BaseDistribution) -> Any:
        if name in self.relative:
            value = self.relative[name]
            if distribution._contains(distribution.to_internal_repr(value)):
                return value
        if distribution.single():
            return distribution.to_external_repr(_only(distribution))
        return self.study.sampler.sample_independent(self.study, self.trial, name, distribution)

    def keep(self, attributes: Mapping[str, Any]) -> Trial:
        """Stores it, running, with these user attributes, and returns the trial that it is now."""
        template = _empty()
        template.params, template.distributions = self.trial.params, self.trial.distributions
        template.user_attrs = dict(attributes)
        storage, study_id = self.kept._storage, self.kept._study_id
        return Trial(self.kept, storage.create_new_trial(study_id, template_trial=template))


def ask(
    study: optuna.Study, draw: Callable[[Suggest], Drawn], describe: Callable[[Drawn], Mapping[str, Any]]
) -> tuple[Trial, Drawn]:
    """The next trial, with all of its parameters, and what they mean: one that is queued, else what the
    sampler chooses.

    draw(suggest) asks for the parameters, and describe(drawn) returns the attributes of the trial. Raises
    what they and the storage do; ValueError where a categorical parameter has other choices than in the
    study.
    """
    trials = study.get_trials(deepcopy=False)
    waiting = any(trial.state == TrialState.WAITING for trial in trials)  # its parameters are fixed
    if waiting or not can_draft(study):
        trial = study.ask()
        drawn = draw(trial)
        for name, value in describe(drawn).items():
            trial.set_user_attr(name, value)
        return trial, drawn
    draft = PendingTrial(study, trials)
    drawn = draw(draft)
    return draft.keep(describe(drawn)), drawn


def can_draft(study: optuna.Study) -> bool:
    """Whether shortcuts are on and a draft gets the answers that a stored trial would: Hyperband shows a
    sampler one bracket, by the trial's number."""
    hyperband = isinstance(study.pruner, optuna.pruners.HyperbandPruner)
    return shortcuts.enabled() and isinstance(study.sampler, DRAFTING) and not hyperband


def _empty() -> FrozenTrial:
    return FrozenTrial(
        number=DRAFT,
        trial_id=DRAFT,
        state=TrialState.RUNNING,
        value=None,
        datetime_start=datetime.now(),
        datetime_complete=None,
        params={},
        distributions={},
        user_attrs={},
        system_attrs={},
        intermediate_values={},
    )


def _only(distribution: BaseDistribution) -> float:
    """The one value of a distribution that has no other, as it is stored."""
    return 0.0 if isinstance(distribution, CategoricalDistribution) else float(distribution.low)  # type: ignore[attr-defined]


def ask_again(study: optuna.Study, broken: Candidate) -> Trial:
    """A trial of the network of one that broke off: the next attempt at a lost one, else the same.

    Raises StopIteration where Optuna does not have the one that broke off.
    """
    dead = trial_of(study, broken.number)
    attempt = broken.attempt + 1 if broken.state == State.LOST else broken.attempt
    again = create_trial(
        state=TrialState.RUNNING,
        params=dead.params,
        distributions=dead.distributions,
        user_attrs={
            "parameters": broken.parameters,
            "macs": broken.macs,
            "retry_of": broken.number,
            "attempt": attempt,
        }
        | {name: dead.user_attrs[name] for name in KEPT if name in dead.user_attrs},
    )
    # Study.add_trial does this and keeps the id to itself.
    return Trial(study, study._storage.create_new_trial(study._study_id, template_trial=again))


def trial_of(study: optuna.Study, number: int) -> FrozenTrial:
    """Optuna's trial of this number. Raises StopIteration where there is none."""
    return next(trial for trial in study.get_trials(deepcopy=False) if trial.number == number)
