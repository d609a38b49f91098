"""Asks Optuna for the parameters of a network in one transaction, not in one for each of thirty parameters.

Reads the study's trials once and writes one running trial. The sampler answers for a draft, in memory; once
all is chosen the trial is stored at once, and no other worker ever sees half of it. The answers are those of
study.ask(), which a test holds and which is asked where shortcuts are off. What is stored is not what was
drawn but what was made of it, so that the sampler, importances and the dashboard learn from networks that
were trained. Called by worker/trial.py.
"""

from collections.abc import Callable, Container, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeVar

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from search.optuna_adapter import shortcuts
from search.optuna_adapter.differing import DIFFERS
from space.sampling import Suggest
from storage.row_types import Candidate, State

Drawn = TypeVar("Drawn")


# User attributes of a trial that say what its network is: the next attempt at it has them too.
KEPT = ("fingerprint", "network", "baseline", "started_from", DIFFERS)

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


class Suggestions:
    """Parameters as they are asked for, and their ranges; suggests as optuna.Trial does."""

    def __init__(self) -> None:
        self.trial = _empty()

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
        raise NotImplementedError


class GivenSuggestions(Suggestions):
    """Suggests what is given."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        super().__init__()
        self.given = given

    def _choose(self, name: str, distribution: BaseDistribution) -> Any:
        del distribution
        return self.given[name]


class PendingTrial(Suggestions):
    """A trial whose parameters are being chosen, after these trials."""

    def __init__(self, study: optuna.Study, trials: list[FrozenTrial]) -> None:
        super().__init__()
        aside: Any = CachedTrials(study._storage, study._study_id, trials)
        self.study = optuna.Study(study.study_name, aside, sampler=study.sampler)
        self.kept = study
        study.sampler.before_trial(self.study, self.trial)
        self.space = study.sampler.infer_relative_search_space(self.study, self.trial)
        self.relative = study.sampler.sample_relative(self.study, self.trial, self.space)

    def _choose(self, name: str, distribution: BaseDistribution) -> Any:
        if name in self.relative:
            value = self.relative[name]
            if distribution._contains(distribution.to_internal_repr(value)):
                return value
        if distribution.single():
            return distribution.to_external_repr(_only(distribution))
        return self.study.sampler.sample_independent(self.study, self.trial, name, distribution)

    def keep(self, attributes: Mapping[str, Any], settled: Suggestions | None = None) -> Trial:
        """Stores it, running, with these user attributes, and returns the trial that it is now. Its
        parameters are those of `settled`, else those that were chosen."""
        template, chosen = _empty(), (settled or self).trial
        template.params, template.distributions = chosen.params, chosen.distributions
        template.user_attrs = dict(attributes)
        storage, study_id = self.kept._storage, self.kept._study_id
        return Trial(self.kept, storage.create_new_trial(study_id, template_trial=template))


class UnstoredParameters:
    """A storage that is written through, but for parameters: optuna.Trial remembers them itself."""

    def __init__(self, storage: Any) -> None:
        self._storage = storage

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def set_trial_param(self, *_: Any) -> None:
        """A stored parameter could not be changed any more."""


class Proposer(Protocol[Drawn]):
    """What is proposed, by parameters of Optuna; search/study/config.py is one. All raise what they like."""

    def draw(self, suggest: Suggest) -> Drawn:
        """Asks for the parameters, and makes something of them."""

    def settle(self, parameters: Mapping[str, Any], drawn: Drawn) -> tuple[Mapping[str, Any], Any]:
        """The parameters to store for what was made of these, and what is still to be said of them."""

    def ask(self, suggest: Suggest) -> None:
        """Asks for the parameters and makes nothing."""


def ask(
    study: optuna.Study, proposer: Proposer[Drawn], describe: Callable[[Drawn, Any], Mapping[str, Any]]
) -> tuple[Trial, Drawn]:
    """The next trial, with all of its parameters, and what they mean: one that is queued, else what the
    sampler chooses.

    Parameters are stored as the proposer settles them. describe(drawn, said) returns the attributes of the
    trial, of what was drawn and what the proposer says of it. Raises what they and the storage do; ValueError
    where a categorical parameter has other choices than in the study.
    """
    trials = study.get_trials(deepcopy=False)
    waiting = any(trial.state == TrialState.WAITING for trial in trials)  # its parameters are fixed
    if waiting or not can_draft(study):
        return _ask_optuna(study, proposer, describe)
    draft = PendingTrial(study, trials)
    drawn = proposer.draw(draft)
    settled, said = _settled(proposer, draft.trial.params, drawn)
    return draft.keep(describe(drawn, said), settled), drawn


def _ask_optuna(
    study: optuna.Study, proposer: Proposer[Drawn], describe: Callable[[Drawn, Any], Mapping[str, Any]]
) -> tuple[Trial, Drawn]:
    """The same by study.ask(), where there is no draft; parameters are stored one by one at the end."""
    storage: Any = UnstoredParameters(study._storage)
    aside = optuna.Study(study.study_name, storage, sampler=study.sampler, pruner=study.pruner).ask()
    drawn = proposer.draw(aside)
    settled, said = _settled(proposer, aside.params, drawn)
    for name, value in settled.trial.params.items():
        distribution = settled.trial.distributions[name]
        study._storage.set_trial_param(
            aside._trial_id, name, distribution.to_internal_repr(value), distribution
        )
    trial = Trial(study, aside._trial_id)
    for name, value in describe(drawn, said).items():
        trial.set_user_attr(name, value)
    return trial, drawn


def _settled(
    proposer: Proposer[Drawn], parameters: Mapping[str, Any], drawn: Drawn
) -> tuple[Suggestions, Any]:
    """The parameters to store, with their ranges."""
    answers, said = proposer.settle(parameters, drawn)
    settled = GivenSuggestions(answers)
    proposer.ask(settled)
    return settled, said


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
