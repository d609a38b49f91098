"""Which strategies run in which worlds, from which seeds; runs them and appends one row for each search.

Reads the tables in benchmarks/curves; writes the file of rows, and does not run again what it holds. Called
by __main__.py.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import mean
from typing import Any

import optuna

from benchmarks.simulated import strategies, table
from benchmarks.simulated.measure import figures_of
from benchmarks.simulated.proposals import Deck, Fitting, Rejecting, Source, candidate
from benchmarks.simulated.simulator import Search
from benchmarks.simulated.strategies import Strategy
from benchmarks.simulated.swift import hastened
from benchmarks.simulated.worlds import Candidate, Dealt, Formula, Replay, World
from space import space as spaces

CURVES = Path(__file__).parent.parent / "curves"
TABLES = ("cifar10-jpeg", "digits")


@dataclass(frozen=True)
class Stage:
    """One world and what is compared there. `trials` as --trials counts them; `equal_cost` is a share of what
    so many uniform networks cost, trained to the end."""

    key: str
    world: World
    arms: tuple[Strategy, ...]
    baseline: str
    seeds: int
    trials: int = 200
    equal_cost: float = 0.5
    cards: tuple[Candidate, ...] = ()
    start: tuple[dict[str, Any], ...] = ()

    @cached_property
    def reference(self) -> float:
        """Seconds of training that `trials` uniform networks cost, trained to the end."""
        if self.cards:
            seconds = [self.world.learn(card, 0).seconds for card in self.cards]
        else:
            source = Fitting(self.world.space, self.world.budget, self.world.task)
            study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
            drawn = [source.propose(study.ask()) for _ in range(200)]
            seconds = [self.world.learn(one, 0).seconds for one in drawn if one]
        return mean(seconds) * self.world.epochs * self.trials

    def source(self, arm: Strategy, seed: int) -> Source:
        world = self.world
        if arm.sampling == "deck":
            return Deck(self.cards, seed)
        if arm.sampling == "reject":
            return Rejecting(world.space, world.budget, world.task)
        start = self.start if arm.published else ()
        return Fitting(world.space, world.budget, world.task, arm.flat, start)

    def run(self, arm: Strategy, seed: int) -> dict[str, Any]:
        cost = self.equal_cost * self.reference
        search = Search(self.world, arm, self.source(arm, seed), seed, self.trials, cost)
        with hastened():
            search.run()
        return {"stage": self.key, "arm": arm.name, **figures_of(search, self.reference).document()}


def stages(seeds: int = 30, trials: int = 200, curves: Path = CURVES) -> list[Stage]:
    """Everything that is compared. Worlds whose table of curves is not there are left out."""
    formula = Formula(spaces.default())
    found = [
        Stage(
            "formula",
            formula,
            (*strategies.sampler_arms(), *strategies.way_arms(), *strategies.some_pruner_arms()),
            "tpe",
            seeds,
            trials,
        ),
        Stage("formula, few seeds", formula, few(), "tpe", max(2, seeds // 5), min(trials, 60)),
    ]
    for key in TABLES:
        path = curves / f"{key}.json.gz"
        if path.exists():
            found += list(replayed(key, table.load(path), seeds, trials))
    return found


def few() -> tuple[Strategy, ...]:
    """The samplers that cost seconds a proposal, beside two that they are compared with."""
    others = [arm for arm in strategies.sampler_arms() if arm.name in ("random", "tpe")]
    return (*others, *strategies.slow_arms())


def replayed(key: str, curves: table.Table, seeds: int, trials: int) -> Iterator[Stage]:
    """A table's own networks, dealt; and the surrogate that continues it to the whole space."""
    dealt = Dealt(curves)
    cards = tuple(candidate(entry.architecture, curves.budget) for entry in curves.entries)
    half = min(trials, len(cards) // 2)  # the other half is for those who stop early, at equal cost
    yield Stage(f"{key}, dealt", dealt, tuple(strategies.deck_arms()), "none", 2 * seeds, half, 0.2, cards)
    every = [*strategies.sampler_arms(), *strategies.way_arms(), *strategies.pruner_arms()]
    chosen = strategies.CORE if key == TABLES[0] else strategies.FEWER
    arms = [arm for arm in every if arm.name in chosen]
    if curves.published:
        arms.append(replace(strategies.BASE, name="tpe, published first", published=True))
    # A table of some 300 networks tells no more than so many trials can ask; and half of them take a quarter
    # of the time.
    world = Replay(curves)
    yield Stage(key, world, tuple(arms), "tpe", seeds, min(trials, 100), start=curves.published)


def run(stage: Stage, rows: Path, only: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """Runs what the file of rows lacks, seed by seed so that a broken-off run is even, and yields each."""
    had = {(row["stage"], row["arm"], row["seed"]) for row in read(rows)}
    for seed in range(stage.seeds):
        for arm in stage.arms:
            if (stage.key, arm.name, seed) in had or (only and arm.name not in only):
                continue
            row = stage.run(arm, seed)
            with rows.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            yield row


def read(rows: Path) -> list[dict[str, Any]]:
    """What was run before; a line that a kill cut short is left out."""
    found = []
    for line in rows.read_text(encoding="utf-8").splitlines() if rows.exists() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found
