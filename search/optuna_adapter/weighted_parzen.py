"""Optuna's density estimator of TPE with the weights of a space's choices in place of its even prior.

Loaded by search/optuna_adapter/weights.py alone, where Optuna has the class; reads and writes nothing.
"""

from typing import Any, ClassVar

import numpy as np
from optuna.distributions import CategoricalDistribution
from optuna.samplers._tpe.parzen_estimator import _ParzenEstimator

from search.optuna_adapter.choice_shares import Weights, shares_of


class WeightedParzenEstimator(_ParzenEstimator):
    """Optuna's, but for the prior of a choice: its weight times the number of choices, 1 on average."""

    choice_weights: ClassVar[Weights] = {}

    def _calculate_categorical_distributions(
        self, observations: Any, param_name: str, search_space: CategoricalDistribution, parameters: Any
    ) -> Any:
        found: Any = super()._calculate_categorical_distributions(
            observations, param_name, search_space, parameters
        )
        shares = shares_of(self.choice_weights, param_name, search_space)
        if shares is None:
            return found
        kernels, choices = found.weights.shape
        smooth = parameters.prior_weight / kernels * choices * np.array(shares)
        table = np.tile(smooth, (kernels, 1))
        table[np.arange(len(observations)), observations.astype(int)] += 1.0
        return found._replace(weights=table / table.sum(axis=1, keepdims=True))
