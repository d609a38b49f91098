"""Which strategies run in which worlds, from which seeds; runs them and appends one row for each search.

Reads the tables in benchmarks/curves; writes the file of rows, and does not run again what it holds. Called
by __main__.py.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean
from typing import Any

import optuna

from benchmarks.simulated import strategies, table
from benchmarks.simulated.measure import figures_of
from benchmarks.simulated.proposals import Deck, Source, candidate, first_guesses, fitting, rejecting
from benchmarks.simulated.simulator import Search
from benchmarks.simulated.strategies import Strategy
from benchmarks.simulated.swift import hastened
from benchmarks.simulated.worlds import Candidate, Dealt, Formula, Replay, World
from search.optuna_adapter.weights import weigh
from space import sampling, space as spaces
from space.budget import Budget

CURVES = Path(__file__).parent.parent / "curves"
TABLE = "fashion-mnist"  # of the default space
OLD_TABLES = ("cifar10-jpeg", "digits")  # of the default space until November 2026: no weights, basic blocks
FIRST_SHARE = 3  # one trial in so many may be a baseline, as in search/launcher/enqueue.py


@dataclass(frozen=True)
class Stage:
    """One world and what is compared there. `trials` as --trials counts them; `equal_cost` is a share of what
    so many uniform networks cost, trained to the end."""

    key: str
    world: World
    arms: tuple[Strategy, ...]
    baseline: str
    seeds: int
    trials: int = 100
    equal_cost: float = 0.5
    cards: tuple[Candidate, ...] = ()
    published: tuple[dict[str, Any], ...] = ()

    @cached_property
    def reference(self) -> float:
        """Seconds of training that `trials` draws of the space cost, trained to the end."""
        if self.cards:
            seconds = [self.world.learn(card, 0).seconds for card in self.cards]
        else:
            space = self.world.space
            source = fitting(space, self.world.budget, self.world.task)
            random = weigh(optuna.samplers.RandomSampler(seed=0), sampling.prior(space))
            study = optuna.create_study(sampler=random)
            drawn = [source.ask(study)[1] for _ in range(200)]
            seconds = [self.world.learn(one, 0).seconds for one in drawn if one]
        return mean(seconds) * self.world.epochs * self.trials

    def source(self, arm: Strategy, seed: int) -> Source:
        world = self.world
        where = (world.space, world.budget, world.task)
        if arm.sampling == "deck":
            return Deck(self.cards, seed)
        if arm.sampling == "reject":
            return rejecting(*where)
        start: tuple[dict[str, Any], ...] = ()
        if arm.first == "published":
            start = self.published
        elif arm.first == "baselines":
            start = first_guesses(*where)[: self.trials // FIRST_SHARE]
        spared = arm.first == "baselines"
        return fitting(*where, flat=arm.flat, settled=arm.settled, start=start, spared=spared)

    def run(self, arm: Strategy, seed: int) -> dict[str, Any]:
        cost = self.equal_cost * self.reference
        search = Search(self.world, arm, self.source(arm, seed), seed, self.trials, cost)
        with hastened():
            search.run()
        return {"stage": self.key, "arm": arm.name, **figures_of(search, self.reference).document()}


def stages(
    seeds: int = 30, trials: int = 100, curves: Path = CURVES, hub: strategies.Modules | None = None
) -> list[Stage]:
    """Everything that is compared, with samplers of OptunaHub where they are there. Worlds whose table of
    curves is not there are left out."""
    arms = every(hub or {})
    found: list[Stage] = []
    if (path := curves / f"{TABLE}.json.gz").exists():
        newest = table.load(path)
        usual = tuple(arms if newest.published else [arm for arm in arms if arm.first != "published"])
        found += [
            Stage(TABLE, Replay(newest), usual, "tpe", seeds, trials, published=newest.published),
            Stage(
                f"{TABLE}, few seeds",
                Replay(newest),
                few(hub or {}),
                "tpe",
                max(2, seeds // 4),
                min(trials, 60),
            ),
            dealt(TABLE, newest, seeds, trials),
        ]
    formula = Formula(spaces.default(), Budget(5_000_000, 1_000_000_000))
    core = tuple(arm for arm in arms if arm.name in strategies.CORE)
    found.append(Stage("formula", formula, core, "tpe", seeds, trials))
    for key in OLD_TABLES:
        if (path := curves / f"{key}.json.gz").exists():
            found.append(dealt(key, table.load(path), seeds, trials, strategies.SOME))
    return found


def every(hub: strategies.Modules) -> list[Strategy]:
    """Samplers, ways to fit, first trials, and ways to stop under TPE."""
    return [
        *strategies.sampler_arms(),
        *strategies.hub_arms(hub),
        *strategies.way_arms(),
        *strategies.some_pruner_arms(),
    ]


def few(hub: strategies.Modules) -> tuple[Strategy, ...]:
    """The samplers that cost seconds a proposal, beside two that they are compared with."""
    others = [arm for arm in strategies.sampler_arms() if arm.name in ("random", "tpe")]
    return (*others, *strategies.slow_arms(hub))


def dealt(key: str, curves: table.Table, seeds: int, trials: int, only: Sequence[str] | None = None) -> Stage:
    """A table's own networks, dealt in random order: half of them, as the other half is for those who stop
    early, at equal cost. `only`: these ways to stop."""
    cards = tuple(candidate(entry.architecture, curves.budget) for entry in curves.entries)
    half = min(2 * trials, len(cards) // 2)
    arms = tuple(arm for arm in strategies.deck_arms() if only is None or arm.name in ("none", *only))
    if all(entry.training_loss for entry in curves.entries if entry.loss):
        arms += tuple(strategies.reading_arms())
    return Stage(f"{key}, dealt", Dealt(curves), arms, "none", 2 * seeds, half, 0.2, cards)


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
