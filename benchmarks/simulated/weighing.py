"""Gives the samplers of the benchmark the weights of a space's choices, each by what it can.

search/optuna_adapter/weights.py does it for the samplers that a search has. Others draw their first trials,
what they change at random and what they cannot model by a random sampler or another TPE of their own: these
get the weights. Called by simulator.py; reads and writes nothing.
"""

import optuna

from search.optuna_adapter.choice_shares import Weights
from search.optuna_adapter.weights import WeightedRandomSampler, weigh

# NSGA-II; CMA-ES and OptunaHub's hierarchical TPE; OptunaHub's TPE over the union of all parameters
INNER = ("_random_sampler", "_independent_sampler", "_independent_fallback_sampler")


def weighed(sampler: optuna.samplers.BaseSampler, weights: Weights) -> optuna.samplers.BaseSampler:
    """The sampler with these weights, where it draws at random and in what it starts from; itself, to the
    bit, where there are none."""
    if not weights:
        return sampler
    sampler = weigh(sampler, weights)
    for name in INNER:
        inner = getattr(sampler, name, None)
        if isinstance(inner, optuna.samplers.BaseSampler) and not isinstance(inner, WeightedRandomSampler):
            setattr(sampler, name, weighed(inner, weights))
    return sampler
