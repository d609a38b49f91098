"""Gives a sampler of Optuna the weights of a search space's choices: the prior of which a search starts.

Optuna's categorical distribution has no weights, and what it stores is the choice itself, which people read.
So the weights are given to the sampler, by the name of the parameter: draws at random (the first trials of
every sampler, all of the random one) follow them exactly, and in TPE they take the place of the even prior
that is mixed into the densities of good and bad trials (Bergstra et al. 2011, section 4: trials move the
prior, however it is shaped). A choice repeated in the list instead would be two to TPE: trials count for the
first, and the others stay new for ever. Called by search/worker/trial.py for each proposal; reads and writes
nothing.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers._tpe.parzen_estimator import _ParzenEstimator
from optuna.trial import FrozenTrial

Weights = Mapping[str, Mapping[Any, float]]  # parameter, choice, how likely: space.sampling.prior


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
        shares = _shares(self._weights, param_name, param_distribution)
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
        sampler._parzen_estimator_cls = _estimator(weights)
    if isinstance(sampler, optuna.samplers.GPSampler):
        first = sampler._independent_sampler
        assert isinstance(first, optuna.samplers.RandomSampler)
        sampler._independent_sampler = WeightedRandomSampler(first, weights)
    return sampler


def _estimator(weights: Weights) -> type[_ParzenEstimator]:
    class WeightedParzenEstimator(_ParzenEstimator):
        """Optuna's, but for the prior of a choice: its weight times the number of choices, 1 on average."""

        def _calculate_categorical_distributions(
            self, observations: Any, param_name: str, search_space: CategoricalDistribution, parameters: Any
        ) -> Any:
            found: Any = super()._calculate_categorical_distributions(
                observations, param_name, search_space, parameters
            )
            shares = _shares(weights, param_name, search_space)
            if shares is None:
                return found
            kernels, choices = found.weights.shape
            smooth = parameters.prior_weight / kernels * choices * np.array(shares)
            table = np.tile(smooth, (kernels, 1))
            table[np.arange(len(observations)), observations.astype(int)] += 1.0
            return found._replace(weights=table / table.sum(axis=1, keepdims=True))

    return WeightedParzenEstimator


def _shares(weights: Weights, name: str, distribution: BaseDistribution) -> list[float] | None:
    """How likely each choice is, in the distribution's order; None where nothing is said of all of them."""
    known = weights.get(name)
    if known is None or not isinstance(distribution, CategoricalDistribution):
        return None
    if any(choice not in known for choice in distribution.choices):
        return None
    found = [known[choice] for choice in distribution.choices]
    return [share / sum(found) for share in found]
