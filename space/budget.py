"""The one place that judges a candidate: does it fit the budget, and if not, by how much.

It judges what a network costs, never how it came about: a sampler's proposal, a user's file and an
enqueued network all pass here before anything is built.
"""

from dataclasses import dataclass

from space import cost
from space.architecture import Architecture
from space.errors import UsageError


@dataclass(frozen=True)
class Budget:
    """Hard limits, inclusive: trainable parameters, and multiply-accumulates of one image if bounded."""

    max_parameters: int = 5_000_000
    max_macs: int | None = None

    def __post_init__(self) -> None:
        for name, limit in (("--max-params", self.max_parameters), ("--max-macs", self.max_macs)):
            if limit is not None and limit < 1:
                raise UsageError(f"{name} {limit}: give a positive number")

    def allows(self, spent: cost.Cost, share: float = 1.0) -> bool:
        """Whether `spent` stays within `share` (0 to 1) of every limit; a whole share is exact."""
        limits = ((spent.parameters, self.max_parameters), (spent.macs, self.max_macs))
        return all(limit is None or (x <= limit and x / limit <= share) for x, limit in limits)

    def used(self, spent: cost.Cost) -> float:
        """The share of the limit that `spent` comes nearest to: the smallest that allows() it, to the bit."""
        limits = ((spent.parameters, self.max_parameters), (spent.macs, self.max_macs))
        return max(x / limit for x, limit in limits if limit is not None)

    def __str__(self) -> str:
        macs = f" and {self.max_macs:,} multiply-accumulates" if self.max_macs else ""
        return f"{self.max_parameters:,} parameters{macs}"


@dataclass(frozen=True)
class Verdict:
    """`violations`: relative excess by limit, as Optuna's constraints want it (<= 0 is feasible)."""

    parameters: int
    macs: int
    violations: dict[str, float]
    excess: str | None

    @property
    def fits(self) -> bool:
        return self.excess is None


def judge(architecture: Architecture, budget: Budget) -> Verdict:
    """What the network costs, whether that fits, and the excess in words."""
    spent = cost.total(architecture)
    limits = [("parameters", spent.parameters, budget.max_parameters)]
    if budget.max_macs is not None:
        limits.append(("multiply-accumulates", spent.macs, budget.max_macs))
    over = [f"{x:,} {name}, {x - limit:,} over {limit:,}" for name, x, limit in limits if x > limit]
    return Verdict(
        spent.parameters,
        spent.macs,
        {name: (x - limit) / limit for name, x, limit in limits},
        "; ".join(over) or None,
    )
