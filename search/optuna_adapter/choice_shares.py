"""How likely each choice of a distribution is by the weights of a space. Reads and writes nothing.

Called by the weighted samplers and density estimators of this room.
"""

from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution

Weights = Mapping[str, Mapping[Any, float]]  # parameter, choice, how likely: space.sampling.prior


def shares_of(weights: Weights, name: str, distribution: BaseDistribution) -> list[float] | None:
    """How likely each choice is, in the distribution's order; None where nothing is said of all of them."""
    known = weights.get(name)
    if known is None or not isinstance(distribution, CategoricalDistribution):
        return None
    if any(choice not in known for choice in distribution.choices):
        return None
    found = [known[choice] for choice in distribution.choices]
    return [share / sum(found) for share in found]
