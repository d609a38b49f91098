"""Sources of candidates: widths solved to fit, widths drawn and rejected, or networks dealt from a table.

A simulated search asks one for its next network (simulator.py); suite.py chooses which. The first two ask the
same spaces and functions as a real search.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import optuna

from benchmarks.simulated.worlds import Candidate
from space import sampling
from space.architecture import Architecture
from space.budget import Budget, judge
from space.space import SearchSpace, Task


class Source(Protocol):
    def begin(self, study: optuna.Study) -> None:
        """Before the first proposal: enqueue what a search starts with."""

    def propose(self, trial: optuna.Trial) -> Candidate | None:
        """What this trial means; None where there is nothing more."""


@dataclass(frozen=True)
class Deepest:
    """Answers as a trial does, but every space looks as deep as it can be: all knobs are asked for."""

    trial: optuna.Trial

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        value = self.trial.suggest_int(name, low, high, step=step, log=log)
        return high if name == "depth" else value

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return self.trial.suggest_float(name, low, high, step=step, log=log)

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self.trial.suggest_categorical(name, choices)


def candidate(architecture: Architecture, budget: Budget) -> Candidate:
    verdict = judge(architecture, budget)
    return Candidate(
        architecture, architecture.fingerprint, verdict.parameters, verdict.macs, verdict.violations
    )


@dataclass(frozen=True)
class Fitting:
    """search/worker/trial.py's way: space/sampling.py solves the width."""

    space: SearchSpace
    budget: Budget
    task: Task
    flat: bool = False
    start: Sequence[dict[str, Any]] = ()

    def begin(self, study: optuna.Study) -> None:
        for params in self.start:
            study.enqueue_trial(params)

    def propose(self, trial: optuna.Trial) -> Candidate | None:
        if self.flat:
            sampling.draw(self.space, Deepest(trial))
        return candidate(sampling.propose(self.space, self.budget, self.task, trial), self.budget)


@dataclass(frozen=True)
class Rejecting:
    """The plain way: the width is one more knob, and what exceeds the budget is refused."""

    space: SearchSpace
    budget: Budget
    task: Task

    def begin(self, study: optuna.Study) -> None:
        del study

    def propose(self, trial: optuna.Trial) -> Candidate | None:
        return candidate(sampling.plain(self.space, self.task, trial), self.budget)


@dataclass
class Deck:
    """The table's own networks, each once, in an order of the seed. Trials have no parameters."""

    cards: Sequence[Candidate]
    seed: int
    order: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.order = np.random.default_rng(self.seed).permutation(len(self.cards)).tolist()

    def begin(self, study: optuna.Study) -> None:
        del study

    def propose(self, trial: optuna.Trial) -> Candidate | None:
        del trial
        return self.cards[self.order.pop()] if self.order else None
