"""Rows of simulated searches to one results document: means, intervals, differences by seed from a baseline.

Reads the rows that suite.py wrote; the document becomes benchmarks/results/search.json and, by document.py,
the tables of docs/search.md. Called by __main__.py.
"""

import math
import platform
from collections import defaultdict
from collections.abc import Sequence
from importlib.metadata import version
from statistics import mean
from typing import Any

from benchmarks.simulated.forest import quality
from benchmarks.simulated.machine import machine
from benchmarks.simulated.measure import COST_GRID, holm, interval, p_value, scaled
from benchmarks.simulated.suite import Stage
from benchmarks.simulated.worlds import Dealt, Replay

Row = dict[str, Any]
COUNTS = ("cost", "hours", "trials", "epochs", "asks", "repeated", "over", "pruned", "promoted")
PACKAGES = ("optuna", "cmaes", "numpy", "scipy", "scikit-learn", "torch")


def report(stages: Sequence[Stage], rows: Sequence[Row]) -> dict[str, Any]:
    """The document that docs/search.md is drawn from."""
    shown = [stage for stage in stages if any(row["stage"] == stage.key for row in rows)]
    return {
        "conditions": conditions(),
        "stages": {stage.key: _stage(stage, [r for r in rows if r["stage"] == stage.key]) for stage in shown},
    }


def conditions() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "machine": machine(),
        "workers": 8,
    }


def _stage(stage: Stage, rows: list[Row]) -> dict[str, Any]:
    by_arm: dict[str, dict[int, Row]] = defaultdict(dict)
    for row in rows:
        by_arm[row["arm"]][row["seed"]] = row
    cost = stage.equal_cost
    arms = {arm.name: _arm(by_arm[arm.name], cost) for arm in stage.arms if by_arm[arm.name]}
    for reading in ("at_trials", "at_cost"):
        finals = {
            name: {seed: final(row, reading, cost) for seed, row in found.items()}
            for name, found in by_arm.items()
        }
        _compare(stage.baseline, finals, arms, reading)
    return {
        "world": stage.world.name,
        "epochs": stage.world.epochs,
        "budget": str(stage.world.budget),
        "trials": stage.trials,
        "trials_grid": scaled(stage.trials),
        "cost_grid": list(COST_GRID),
        "equal_cost": stage.equal_cost,
        "reference_hours": round(stage.reference / 3600, 2),
        "baseline": stage.baseline,
        "facts": facts(stage),
        "arms": arms,
    }


def _arm(rows: dict[int, Row], cost: float) -> dict[str, Any]:
    found = list(rows.values())
    return {
        "seeds": len(found),
        "at_trials": _interval([final(row, "at_trials", cost) for row in found]),
        "at_cost": _interval([final(row, "at_cost", cost) for row in found]),
        "by_trials": _curve([row["by_trials"] for row in found]),
        "by_cost": _curve([row["by_cost"] for row in found]),
        **{name: round(mean(row[name] for row in found), 3) for name in COUNTS},
        "finals": {
            reading: {str(seed): _short(final(row, reading, cost)) for seed, row in rows.items()}
            for reading in ("at_trials", "at_cost")
        },
    }


def final(row: Row, reading: str, cost: float) -> float | None:
    """What a search had chosen when its trials were done, or when the equal cost was spent."""
    values: list[float | None] = row["by_trials"] if reading == "at_trials" else row["by_cost"]
    return values[-1 if reading == "at_trials" else COST_GRID.index(cost)]


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 5)


def _interval(values: Sequence[float | None]) -> dict[str, float | int] | None:
    known = [value for value in values if value is not None]
    if len(known) < max(1, 0.9 * len(values)):
        return None  # most searches never came so far: a mean of the others would be of the lucky ones
    found = interval(known)
    return {"mean": round(found.mean, 5), "half": _finite(found.half), "count": found.count}


def _finite(value: float) -> float:
    return round(value, 5) if math.isfinite(value) else 0.0


def _curve(rows: Sequence[Sequence[float | None]]) -> list[dict[str, float | int] | None]:
    return [_interval(column) for column in zip(*rows, strict=True)]


def _compare(
    baseline: str, finals: dict[str, dict[int, float | None]], arms: dict[str, dict[str, Any]], reading: str
) -> None:
    """Differences from the baseline in the same seeds, with Holm's correction over the arms of the stage."""
    p_values, base = {}, finals[baseline]
    for name, values in finals.items():
        pairs = [(value, base.get(seed)) for seed, value in values.items()]
        differences = [a - b for a, b in pairs if a is not None and b is not None]
        if name == baseline or len(differences) < max(2, 0.9 * len(values)):
            continue
        found = interval(differences)
        arms[name][f"versus_{reading}"] = {"mean": _finite(found.mean), "half": _finite(found.half)}
        p_values[name] = p_value(differences)
    for name, p in holm(p_values).items():
        arms[name][f"versus_{reading}"]["p"] = float(f"{p:.2g}")


def facts(stage: Stage) -> dict[str, Any]:
    """What is to be known of a world of real curves."""
    if not isinstance(stage.world, (Replay, Dealt)):
        return {}
    from scipy.stats import kendalltau

    table = stage.world.table
    truth = table.targets[:, -2]
    ranks = [float(kendalltau(table.targets[:, e], truth).statistic) for e in range(table.epochs)]
    drawn = [entry.truth for entry in table.entries]
    found = {
        "networks": len(table.entries),
        "repeated": len({index for index, _ in table.repeats}),
        "truth": {"lowest": min(drawn), "median": sorted(drawn)[len(drawn) // 2], "highest": max(drawn)},
        "kendall_by_epoch": [round(rank, 3) for rank in ranks],
        "kendall_parameters": _kendall([entry.parameters for entry in table.entries], truth),
        "kendall_macs": _kendall([entry.macs for entry in table.entries], truth),
        "luck_points": round(100 * _luck(stage.world), 2),
    }
    if isinstance(stage.world, Replay):
        errors = quality(truth, stage.world.expected)
        top = truth >= sorted(truth)[len(truth) // 2]
        upper = quality(truth[top], stage.world.expected[top])
        found["surrogate"] = {key: round(value, 3) for key, value in errors.items()}
        found["surrogate_upper_half"] = {key: round(value, 3) for key, value in upper.items()}
    return found


def _kendall(costs: Sequence[int], truth: Any) -> float:
    from scipy.stats import kendalltau

    return round(float(kendalltau(costs, truth).statistic), 3)


def _luck(world: Replay | Dealt) -> float:
    """Standard deviation of the truth of one network over training seeds: the median over the networks."""
    table = world.table
    spreads = [interval_spread(entry.truths) for entry in table.entries if len(entry.truths) > 1]
    return sorted(spreads)[len(spreads) // 2] if spreads else float("nan")


def interval_spread(values: Sequence[float]) -> float:
    centre = mean(values)
    return math.sqrt(sum((value - centre) ** 2 for value in values) / (len(values) - 1))
