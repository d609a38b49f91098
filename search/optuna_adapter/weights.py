"""Gives a sampler of Optuna the weights of a search space's choices: the prior of which a search starts.

Optuna's categorical distribution has no weights, and what it stores is the choice itself, which people read.
So the weights are given to the sampler, by the name of the parameter: draws at random (the first trials of
every sampler, all of the random one) follow them exactly, and in TPE they take the place of the even prior
that is mixed into the densities of good and bad trials (Bergstra et al. 2011, section 4: trials move the
prior, however it is shaped). A choice repeated in the list instead would be two to TPE: trials count for the
first, and the others stay new for ever. Called by search/worker/trial.py for each proposal; reads and writes
nothing.
"""

import logging
from functools import cache
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from search.optuna_adapter.choice_shares import Weights, shares_of


class WeightedRandomSampler(optuna.samplers.RandomSampler):
    """Draws a choice by its weight, and all that has no weights as Optuna's own random sampler does."""

    def __init__(self, plain: optuna.samplers.RandomSampler, weights: Weights) -> None:
        self._rng = plain._rng
        self._weights = weights

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        shares = shares_of(self._weights, param_name, param_distribution)
        if shares is None:
            return super().sample_independent(study, trial, param_name, param_distribution)
        index = self._rng.rng.choice(len(shares), p=shares)
        return param_distribution.to_external_repr(index)


def weigh(sampler: optuna.samplers.BaseSampler, weights: Weights) -> optuna.samplers.BaseSampler:
    """The sampler with these weights; itself, to the bit, where there are none."""
    if not weights:
        return sampler
    if isinstance(sampler, optuna.samplers.RandomSampler):
        return WeightedRandomSampler(sampler, weights)
    if isinstance(sampler, optuna.samplers.TPESampler):
        sampler._random_sampler = WeightedRandomSampler(sampler._random_sampler, weights)
        if estimator := _estimator(weights):
            sampler._parzen_estimator_cls = estimator
    if isinstance(sampler, optuna.samplers.GPSampler):
        first = sampler._independent_sampler
        assert isinstance(first, optuna.samplers.RandomSampler)
        sampler._independent_sampler = WeightedRandomSampler(first, weights)
    return sampler


def _estimator(weights: Weights) -> Any:
    """Density estimators with these weights; None, and said once, where Optuna has no such class."""
    try:
        from search.optuna_adapter.weighted_parzen import WeightedParzenEstimator
    except ImportError:
        _say_even_prior()
        return None
    return type("WeightedParzenEstimator", (WeightedParzenEstimator,), {"choice_weights": weights})


@cache
def _say_even_prior() -> None:
    logging.getLogger(__name__).warning(
        "Optuna %s was not tested: TPE starts from an even prior, the first trials from the space's weights",
        optuna.__version__,
    )
