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
from search.optuna_adapter import ask as optuna_ask
from space import baselines, effective, membership, sampling
from space.architecture import Architecture
from space.budget import Budget, judge
from space.sampling import Proposal, Suggest
from space.space import SearchSpace, Task

MOST = ("depth", "blocks")  # stages, and blocks of them: with more of these, more knobs are asked for


class Source(Protocol):
    def begin(self, study: optuna.Study) -> int:
        """Before the first proposal: enqueues what a search starts with. Returns how many of the first trials
        no pruner may stop."""

    def ask(self, study: optuna.Study) -> tuple[optuna.Trial, Candidate | None]:
        """The study's next trial, and what it means; None where there is nothing more."""


@dataclass(frozen=True)
class Deepest:
    """Asks another, but answers so that a space looks as deep as it can be and more is asked for; over all
    kinds of blocks, shared or not, every knob is."""

    suggest: Suggest
    kind: str
    shared: bool

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        value = self.suggest.suggest_int(name, low, high, step=step, log=log)
        return high if name.startswith(MOST) else value

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return self.suggest.suggest_float(name, low, high, step=step, log=log)

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        value = self.suggest.suggest_categorical(name, choices)
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
    it.

    `flat`: knobs of all stages and kinds are asked for, so that every trial has the same parameters; those
    without effect are stored as they were drawn. `settled`: what is stored is what was trained, as in a real
    search, not what was drawn.
    """

    space: SearchSpace
    budget: Budget
    task: Task
    flat: bool = False
    settled: bool = True

    def draw(self, suggest: Suggest) -> Proposal:
        self._ask_all(suggest)
        return sampling.proposal(self.space, self.budget, self.task, suggest)

    def settle(
        self, parameters: Mapping[str, Any], drawn: Proposal
    ) -> tuple[Mapping[str, Any], tuple[str, ...]]:
        if not self.settled:
            return parameters, ()
        found = effective.effective(self.space, self.budget, self.task, parameters, drawn)
        return ({**parameters, **found.answers} if self.flat else found.answers), found.differs

    def ask(self, suggest: Suggest) -> None:
        self._ask_all(suggest)
        sampling.draw(self.space, suggest)
        sampling.ask_share(self.space, suggest)

    def _ask_all(self, suggest: Suggest) -> None:
        if self.flat:
            for kind, shared in product(self.space.block.kind, (True, False)):
                sampling.draw(self.space, Deepest(suggest, kind, shared))


@dataclass(frozen=True)
class PlainProposer:
    """The same where the width is one more knob and no budget holds a proposal (`--sampling reject`)."""

    space: SearchSpace
    task: Task

    def draw(self, suggest: Suggest) -> Proposal:
        return sampling.plain_proposal(self.space, self.task, suggest)

    def settle(
        self, parameters: Mapping[str, Any], drawn: Proposal
    ) -> tuple[Mapping[str, Any], tuple[str, ...]]:
        found = effective.plain_effective(self.space, self.task, parameters, drawn)
        return found.answers, found.differs

    def ask(self, suggest: Suggest) -> None:
        sampling.draw(self.space, suggest)
        sampling.ask_width(self.space, suggest)


def nothing(*_: Any) -> dict[str, Any]:
    """What a simulated trial has to say beside its parameters."""
    return {}


@dataclass(frozen=True)
class Proposing:
    """Networks of a proposer, which a budget judges; first those of `start`, given by their answers. Where
    they are `spared`, no pruner stops these, as a real search does with its baselines."""

    proposer: optuna_ask.Proposer[Proposal]
    budget: Budget
    start: Sequence[dict[str, Any]] = ()
    spared: bool = False

    def begin(self, study: optuna.Study) -> int:
        for params in self.start:
            study.enqueue_trial(params)
        return len(self.start) if self.spared else 0

    def ask(self, study: optuna.Study) -> tuple[optuna.Trial, Candidate | None]:
        trial, made = optuna_ask.ask(study, self.proposer, nothing)
        return trial, candidate(made.architecture, self.budget)


def fitting(space: SearchSpace, budget: Budget, task: Task, **more: Any) -> Proposing:
    """search/worker/trial.py's way: space/sampling.py solves the width."""
    ways = {key: more.pop(key) for key in ("flat", "settled") if key in more}
    return Proposing(Proposer(space, budget, task, **ways), budget, **more)


def rejecting(space: SearchSpace, budget: Budget, task: Task) -> Proposing:
    """The plain way: the width is one more knob, and what exceeds the budget is refused."""
    return Proposing(PlainProposer(space, task), budget)


def first_guesses(space: SearchSpace, budget: Budget, task: Task) -> tuple[dict[str, Any], ...]:
    """The answers that make the baselines of a space, in order, as search/launcher/enqueue.py has them."""
    found = [guess for guess in baselines.baselines(space, budget, task) if not guess.reason]
    answers = [membership.suggestions_of(space, budget, task, guess.architecture) for guess in found]
    return tuple(answer for answer in answers if isinstance(answer, dict))


@dataclass
class Deck:
    """The table's own networks, each once, in an order of the seed. Trials have no parameters."""

    cards: Sequence[Candidate]
    seed: int
    order: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.order = np.random.default_rng(self.seed).permutation(len(self.cards)).tolist()

    def begin(self, study: optuna.Study) -> int:
        del study
        return 0

    def ask(self, study: optuna.Study) -> tuple[optuna.Trial, Candidate | None]:
        return study.ask(), self.cards[self.order.pop()] if self.order else None
