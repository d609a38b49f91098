"""A draft gets the answers that Optuna's own ask would have got."""

from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from worker_samples import accuracy_of, make_config

from search.optuna_adapter import sampler as samplers, storage as optuna_storage, study as optuna_study
from search.optuna_adapter.ask import PendingTrial, can_draft
from search.optuna_adapter.cached_tpe import CachedTPESampler
from search.study.config import SamplerName
from space.architecture import Architecture
from space.sampling import propose

CONFIG = make_config()


def network(suggest: Any) -> Architecture:
    return propose(CONFIG.space, CONFIG.budget, CONFIG.task, suggest)


def run(storage: Any, name: str, sampler: SamplerName, drafted: bool) -> list[FrozenTrial]:
    """Fourteen trials of which the first two still run, beyond the sampler's random start."""
    study = optuna.create_study(storage=storage, study_name=name, direction="maximize")
    for i in range(14):
        study.sampler = samplers.make_sampler(sampler, 7, i, after=study.sampler if drafted else None)
        if drafted:
            draft = PendingTrial(study, study.get_trials(deepcopy=False))
            found = network(draft)
            trial = draft.keep({"parameters": 1})
        else:
            trial = study.ask()
            found = network(trial)
        if i > 1:
            study.tell(trial, accuracy_of(found))
    return study.get_trials(deepcopy=False)


@pytest.mark.parametrize("sampler", ["random", "tpe", pytest.param("gp", marks=pytest.mark.thorough)])
def test_the_same_seeds_give_the_same_trials(sampler: SamplerName, sqlite_url: str) -> None:
    optuna_study.quiet()
    with optuna_storage.open_storage(sqlite_url) as storage:
        asked = run(storage, "asked", sampler, drafted=False)
        drafted = run(storage, "drafted", sampler, drafted=True)
    assert [trial.params for trial in drafted] == [trial.params for trial in asked]
    assert [trial.distributions for trial in drafted] == [trial.distributions for trial in asked]
    assert [trial.values for trial in drafted] == [trial.values for trial in asked]
    assert [trial.state for trial in drafted[:3]] == [TrialState.RUNNING] * 2 + [TrialState.COMPLETE]


def test_a_kept_sampler_looks_at_the_trials_again_for_each_draft() -> None:
    """Drafts all have one number: what was divided for the last must not be taken for the next."""
    optuna_study.quiet()
    found = []
    for drafted in (True, False):
        sampler = optuna.samplers.TPESampler(seed=3, n_startup_trials=4)
        if drafted:
            sampler = CachedTPESampler(seed=3, n_startup_trials=4)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for _ in range(16):
            if drafted:
                draft = PendingTrial(study, study.get_trials(deepcopy=False))
                value = accuracy_of(network(draft))
                study.tell(draft.keep({}), value)
            else:
                trial = study.ask()
                study.tell(trial, accuracy_of(network(trial)))
        found.append([trial.params for trial in study.trials])
    assert found[0] == found[1]


def test_a_trial_is_stored_whole(database_url: str) -> None:
    optuna_study.quiet()
    with (
        optuna_storage.open_storage(database_url) as storage,
        optuna_storage.open_storage(database_url) as other,
    ):
        study = optuna.create_study(storage=storage, sampler=samplers.make_sampler("tpe", 0))
        draft = PendingTrial(study, study.get_trials(deepcopy=False))
        found = network(draft)
        assert study.get_trials() == []
        trial = draft.keep({"parameters": 12, "macs": 34})
        again = optuna.load_study(study_name=study.study_name, storage=other).get_trials()
        trial.report(0.5, 1)
        study.tell(trial, 0.5)
        assert study.best_value == 0.5
    assert (again[0].number, again[0].state) == (trial.number, TrialState.RUNNING) == (0, TrialState.RUNNING)
    assert again[0].user_attrs == {"parameters": 12, "macs": 34}
    assert network(optuna.trial.FixedTrial(again[0].params)) == found


def test_a_pruner_that_divides_the_trials_needs_their_numbers() -> None:
    optuna_study.quiet()
    study = optuna.create_study(sampler=samplers.make_sampler("tpe", 0))
    assert can_draft(study)
    study.pruner = optuna.pruners.HyperbandPruner()
    assert not can_draft(study)
    study.pruner, study.sampler = optuna.pruners.NopPruner(), optuna.samplers.NSGAIISampler()
    assert not can_draft(study)


def test_a_parameter_with_another_range_is_still_refused(sqlite_url: str) -> None:
    optuna_study.quiet()
    with optuna_storage.open_storage(sqlite_url) as storage:
        study = optuna.create_study(storage=storage, sampler=samplers.make_sampler("random", 0))
        for _ in range(2):  # the second time its range is known
            draft = PendingTrial(study, study.get_trials(deepcopy=False))
            draft.suggest_categorical("pool", ("avg", "max"))
            draft.keep({})
        draft = PendingTrial(study, study.get_trials(deepcopy=False))
        draft.suggest_categorical("pool", ("avg", "none"))
        with pytest.raises(ValueError, match="CategoricalDistribution does not support dynamic value space"):
            draft.keep({})
        assert len(study.get_trials()) == 2
