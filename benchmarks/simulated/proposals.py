"""Sources of candidates: widths solved to fit, widths drawn and rejected, or networks dealt from a table.

A simulated search asks one for its next network (simulator.py); suite.py chooses which. The first two ask the
same spaces and functions as a real search.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Protocol

import numpy as np
import optuna

from benchmarks.simulated.worlds import Candidate
from space import effective, sampling
from space.architecture import Architecture
from space.budget import Budget, judge
from space.sampling import Proposal, Suggest
from space.space import SearchSpace, Task

MOST = ("depth", "blocks")  # stages, and blocks of them: with more of these, more knobs are asked for


class Source(Protocol):
    def begin(self, study: optuna.Study) -> None:
        """Before the first proposal: enqueue what a search starts with."""

    def propose(self, trial: optuna.Trial) -> Candidate | None:
        """What this trial means; None where there is nothing more."""


@dataclass(frozen=True)
class Deepest:
    """Asks a trial, but answers so that a space looks as deep as it can be and more is asked for; over all
    kinds of blocks, shared or not, every knob is."""

    trial: optuna.Trial
    kind: str
    shared: bool

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        value = self.trial.suggest_int(name, low, high, step=step, log=log)
        return high if name.startswith(MOST) else value

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return self.trial.suggest_float(name, low, high, step=step, log=log)

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        value = self.trial.suggest_categorical(name, choices)
        if name == "block_kind":
            return self.kind
        if name.startswith("same_"):
            return self.shared
        if name.startswith(MOST):
            return max(choices)
        return "projection" if name == "shortcut" and "projection" in choices else value


def candidate(architecture: Architecture, budget: Budget) -> Candidate:
    verdict = judge(architecture, budget)
    return Candidate(
        architecture, architecture.fingerprint, verdict.parameters, verdict.macs, verdict.violations
    )


@dataclass(frozen=True)
class Proposer:
    """What search/optuna_adapter/ask.py asks of a study's plan: how a network is drawn, and what is stored of
    it."""

    space: SearchSpace
    budget: Budget
    task: Task

    def draw(self, suggest: Suggest) -> Proposal:
        return sampling.proposal(self.space, self.budget, self.task, suggest)

    def settle(
        self, parameters: Mapping[str, Any], drawn: Proposal
    ) -> tuple[Mapping[str, Any], tuple[str, ...]]:
        found = effective.effective(self.space, self.budget, self.task, parameters, drawn)
        return found.answers, found.differs

    def ask(self, suggest: Suggest) -> None:
        sampling.draw(self.space, suggest)
        sampling.ask_share(self.space, suggest)


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
            for kind, shared in product(self.space.block.kind, (True, False)):
                sampling.draw(self.space, Deepest(trial, kind, shared))
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
