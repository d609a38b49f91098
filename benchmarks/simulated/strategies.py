"""The strategies that are compared: sampler, pruner, way to fit the budget, and what a repeat is answered.

Frozen records over Optuna's samplers and pruners, in lists by question. Read by suite.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import ModuleType
from typing import Any, Literal

import optuna
from optuna import pruners, samplers

from benchmarks.simulated import hub
from benchmarks.simulated.worlds import Reading
from search.optuna_adapter.cached_tpe import CachedTPESampler

Sampler = Callable[[int], samplers.BaseSampler]
Pruner = Callable[[int], pruners.BasePruner]


@dataclass(frozen=True)
class Rungs:
    """Successive promotion: every training pauses after `first` epochs (a share of all, rounded up) and again
    after `factor` times as many; whenever a worker is free, the best paused one that belongs to the best
    1/factor of its rung goes on from its checkpoint, and only if there is none something new begins."""

    first: float
    factor: int = 3

    def epochs(self, last: int) -> tuple[int, ...]:
        rungs, epoch = [], max(1, round(self.first * last))
        while epoch < last:
            rungs.append(epoch)
            epoch *= self.factor
        return tuple(rungs)


@dataclass(frozen=True)
class Screen:
    """Propose `candidates` networks and train the one with the highest cost; the others are told FAIL, which
    Optuna ignores."""

    candidates: int
    by: Literal["macs", "parameters"]


@dataclass(frozen=True)
class Strategy:
    """`flat`: knobs of all stages are asked for at any depth, so that every trial has the same parameters.
    `weighted`: the space's weights of choices are its prior. `settled`: what is stored is what was trained.
    `repeats`: what Optuna hears of a network that the study already has; FAIL is what samplers leave out.
    `widen_after`: so many repeats in a row, then proposals are random. `first`: what a search begins with;
    baselines are trained to the end, whatever the pruner says. `hears`: what is reported after each epoch
    and told at the end; `chosen_by`: of which the best is the search's winner."""

    name: str
    sampler: Sampler
    pruner: Pruner
    sampling: Literal["fit", "reject", "deck"] = "fit"
    flat: bool = False
    weighted: bool = True
    settled: bool = True
    repeats: Literal["value", "pruned", "fail"] = "fail"
    widen_after: int = 20
    rungs: Rungs | None = None
    screen: Screen | None = None
    first: Literal["nothing", "published", "baselines"] = "nothing"
    hears: Reading = "accuracy"
    chosen_by: Reading = "accuracy"


def tpe(seed: int, **options: Any) -> samplers.BaseSampler:
    """A search's own where nothing is said: the answers of Optuna's, sooner."""
    if not options:
        return CachedTPESampler(seed=seed, n_startup_trials=10)
    return samplers.TPESampler(seed=seed, **{"n_startup_trials": 10, **options})


def uniform(seed: int) -> samplers.BaseSampler:
    return samplers.RandomSampler(seed=seed)


def never(_epochs: int) -> pruners.BasePruner:
    return pruners.NopPruner()


def median(epochs: int, *, start_up: int, warm_up: float) -> pruners.BasePruner:
    """Warm-up as a share of the epochs; the first decision comes one epoch later.

    As in search/optuna_adapter/pruner.py."""
    steps = int(epochs * warm_up) + 1 if warm_up else 0
    return pruners.MedianPruner(n_startup_trials=start_up, n_warmup_steps=steps)


def percentile(epochs: int, *, kept: float, warm_up: float) -> pruners.BasePruner:
    steps = int(epochs * warm_up) + 1
    return pruners.PercentilePruner(kept, n_startup_trials=10, n_warmup_steps=steps)


def asha(epochs: int, *, warm_up: float, factor: int = 3) -> pruners.BasePruner:
    return pruners.SuccessiveHalvingPruner(
        min_resource=max(1, int(epochs * warm_up) + 1 if warm_up else 1), reduction_factor=factor
    )


def hyperband(epochs: int, *, warm_up: float) -> pruners.BasePruner:
    return pruners.HyperbandPruner(
        min_resource=max(1, int(epochs * warm_up) + 1 if warm_up else 1), max_resource=epochs
    )


def wilcoxon(epochs: int, *, warm_up: float) -> pruners.BasePruner:
    """Made for losses on the same problem instances, not for epochs, which come in order and resemble each
    other: here it asks whether a curve lies below the best one's so far."""
    return pruners.WilcoxonPruner(p_threshold=0.1, n_startup_steps=int(epochs * warm_up) + 1)


# Packages of OptunaHub, for spaces in which one answer decides what else is asked.
HUB = HIERARCHICAL, UNION = "samplers/hierarchical_tpe", "samplers/tpe_union_multivariate"
Modules = Mapping[str, ModuleType]  # those that are there, by these names: benchmarks/simulated/hub.py

BASE = Strategy("tpe", tpe, never)
THIRD = 1 / 3


def sampler_arms() -> list[Strategy]:
    """Samplers, and what they are told and start from, without pruning."""
    return [
        Strategy("random", uniform, never),
        Strategy("random, even prior", uniform, never, weighted=False),
        BASE,
        replace(BASE, name="tpe, even prior", weighted=False),
        replace(BASE, name="tpe, as drawn", settled=False),
        replace(BASE, name="tpe, even prior, as drawn", weighted=False, settled=False),
        replace(BASE, name="tpe, 30 start-up", sampler=partial(tpe, n_startup_trials=30)),
        replace(BASE, name="tpe, univariate", sampler=partial(tpe, multivariate=False)),
        replace(BASE, name="tpe, group", sampler=partial(tpe, group=True)),
        replace(BASE, name="tpe, no constant liar", sampler=partial(tpe, constant_liar=False)),
        replace(BASE, name="tpe, flat", flat=True),
        Strategy("nsga-ii, population 50", lambda s: samplers.NSGAIISampler(seed=s), never),
        Strategy(
            "nsga-ii, population 20", lambda s: samplers.NSGAIISampler(population_size=20, seed=s), never
        ),
        Strategy(
            "cma-es, flat",
            lambda s: samplers.CmaEsSampler(seed=s, n_startup_trials=10, warn_independent_sampling=False),
            never,
            flat=True,
        ),
    ]


def hub_arms(modules: Modules) -> list[Strategy]:
    """OptunaHub's TPE over the union of all trials' parameters, where it is there."""
    package = modules.get(UNION)
    return [Strategy("optunahub union tpe", partial(hub.union, package), never)] if package else []


def slow_arms(modules: Modules) -> list[Strategy]:
    """The Gaussian process, and OptunaHub's hierarchical TPE where it is there: seconds for a proposal."""
    gaussian = Strategy(
        "gp, flat",
        lambda s: samplers.GPSampler(seed=s, n_startup_trials=10, warn_independent_sampling=False),
        never,
        flat=True,
    )
    package = modules.get(HIERARCHICAL)
    if package is None:
        return [gaussian]
    return [gaussian, Strategy("optunahub hierarchical tpe", partial(hub.hierarchical, package), never)]


def way_arms() -> list[Strategy]:
    """How proposals come to fit, what a repeat is told, and where a search begins."""
    macs = Screen(2, "macs")
    return [
        replace(BASE, name="random, reject", sampler=uniform, sampling="reject"),
        replace(BASE, name="tpe, reject", sampling="reject"),
        replace(BASE, name="tpe, repeats told PRUNED", repeats="pruned"),
        replace(BASE, name="tpe, pre-screen of 2 by MACs", screen=macs),
        replace(BASE, name="tpe, published first", first="published"),
        replace(BASE, name="tpe, baselines first", first="baselines"),
        replace(
            BASE,
            name="tpe, baselines first + median, third, 10 start-up",
            pruner=partial(median, start_up=10, warm_up=THIRD),
            first="baselines",
        ),
    ]


def stopping() -> dict[str, tuple[Pruner, Rungs | None]]:
    """Every way to end a hopeless training before its last epoch."""
    return {
        "median, third, 10 start-up": (partial(median, start_up=10, warm_up=THIRD), None),
        "median, half, 10 start-up": (partial(median, start_up=10, warm_up=0.5), None),
        "median, third, 30 start-up": (partial(median, start_up=30, warm_up=THIRD), None),
        "median, no warm-up, 5 start-up": (partial(median, start_up=5, warm_up=0.0), None),
        "percentile 75, third": (partial(percentile, kept=75.0, warm_up=THIRD), None),
        "percentile 25, third": (partial(percentile, kept=25.0, warm_up=THIRD), None),
        "asha, third": (partial(asha, warm_up=THIRD), None),
        "asha, third, halving": (partial(asha, warm_up=THIRD, factor=2), None),
        "asha, from the first epoch": (partial(asha, warm_up=0.0), None),
        "hyperband, third": (partial(hyperband, warm_up=THIRD), None),
        "hyperband, from the first epoch": (partial(hyperband, warm_up=0.0), None),
        "wilcoxon, third": (partial(wilcoxon, warm_up=THIRD), None),
        "promotion, third": (never, Rungs(THIRD)),
        "promotion, third, halving": (never, Rungs(THIRD, 2)),
        "promotion, from a tenth": (never, Rungs(0.1)),
    }


def pruner_arms() -> list[Strategy]:
    """Ways to stop, under TPE."""
    return [
        replace(BASE, name=f"tpe + {name}", pruner=pruner, rungs=rungs)
        for name, (pruner, rungs) in stopping().items()
    ]


SOME = (
    "median, third, 10 start-up",
    "median, half, 10 start-up",
    "median, no warm-up, 5 start-up",
    "asha, third",
    "promotion, third",
)
CORE = (  # where a search is slow to simulate, and no landscape is better known than to others
    "random",
    "random, even prior",
    "tpe",
    "tpe, even prior",
    "tpe, as drawn",
    "tpe, 30 start-up",
    "tpe, flat",
    "nsga-ii, population 20",
    "optunahub union tpe",
    "tpe, reject",
    "tpe, baselines first",
    "tpe + median, third, 10 start-up",
    "tpe + asha, third",
)


def some_pruner_arms() -> list[Strategy]:
    """The main ways to stop, where a search is slow to simulate."""
    return [arm for arm in pruner_arms() if arm.name.removeprefix("tpe + ") in SOME]


def deck_arms() -> list[Strategy]:
    """Ways to stop, on the table's own networks in random order: nothing is modelled."""
    deck = Strategy("none", uniform, never, sampling="deck")
    return [
        deck,
        *(
            replace(deck, name=name, pruner=pruner, rungs=rungs)
            for name, (pruner, rungs) in stopping().items()
        ),
    ]


def reading_arms() -> list[Strategy]:
    """What the pruner hears and what the winner is chosen by, on the table's own networks: for tables that
    have the losses."""
    deck = Strategy("none", uniform, never, sampling="deck")
    ways = stopping()
    heard: list[tuple[str, Reading, Reading]] = [
        ("none", "accuracy", "cross-entropy"),
        ("none", "accuracy", "both losses"),
        ("median, third, 10 start-up", "accuracy", "cross-entropy"),
        ("median, third, 10 start-up", "cross-entropy", "accuracy"),
        ("median, third, 10 start-up", "cross-entropy", "cross-entropy"),
        ("median, third, 10 start-up", "training loss", "accuracy"),
        ("median, third, 10 start-up", "training loss", "cross-entropy"),
        ("median, third, 10 start-up", "both losses", "both losses"),
        ("median, no warm-up, 5 start-up", "training loss", "accuracy"),
        ("median, no warm-up, 5 start-up", "training loss", "cross-entropy"),
        ("median, no warm-up, 5 start-up", "both losses", "both losses"),
    ]
    return [
        replace(
            deck,
            name=f"{name}; hears {hears}, chosen by {chosen}"
            if name != "none"
            else f"none; chosen by {chosen}",
            pruner=ways[name][0] if name != "none" else never,
            hears=hears,
            chosen_by=chosen,
        )
        for name, hears, chosen in heard
    ]


def quiet() -> None:
    """Optuna's own log lines are not what is measured."""
    import warnings

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
