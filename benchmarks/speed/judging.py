"""Measures how fast candidates are judged, and what is saved by not building them. One process, one core.

    python -m benchmarks.speed.judging [--json] [--networks 500] [--rounds 7]

Proposals of the default space for CIFAR-10 under 5,000,000 parameters are judged, fingerprinted and proposed,
several rounds each; then each of some networks is counted in closed form and by building it, in turn.
Seconds are those of the processor, so that what else runs on the machine counts as little as can be.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded

from space import cost, sampling, space
from space.architecture import Architecture
from space.budget import Budget, judge
from space.random_suggest import RandomSuggest
from space.space import Task

TARGET = 10_000  # judged per second
BUDGET, TASK = Budget(5_000_000), Task()


def proposals(count: int) -> list[Architecture]:
    default = space.default()
    return [sampling.propose(default, BUDGET, TASK, RandomSuggest(seed)) for seed in range(count)]


def per_second(action: Callable[[], object], count: int) -> float:
    start = time.process_time()
    action()
    return count / (time.process_time() - start)


def summary(rates: Sequence[float]) -> dict[str, float]:
    low, middle, high = statistics.quantiles(rates, n=4)
    return {"median": middle, "low_quartile": low, "high_quartile": high}


def rates(networks: list[Architecture], rounds: int) -> dict[str, dict[str, float]]:
    """Each action over all networks, `rounds` times in turn, so that a slow moment hits all alike."""
    actions: dict[str, Callable[[], object]] = {
        "judged": lambda: [judge(network, BUDGET) for network in networks],
        "fingerprinted": lambda: [network.fingerprint for network in networks],
        "judged and fingerprinted": lambda: [(judge(n, BUDGET), n.fingerprint) for n in networks],
        "proposed": lambda: proposals(len(networks)),
    }
    seen: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(rounds):
        for name, action in actions.items():
            seen[name].append(per_second(action, len(networks)))
    return {name: summary(values) for name, values in seen.items()}


def against_building(networks: list[Architecture]) -> dict[str, dict[str, float]]:
    """Milliseconds to count each network in closed form, built, and built without weights; and the ratios."""
    import torch

    from trainer import model

    def without_weights(network: Architecture) -> int:
        with torch.device("meta"):
            return model.count(model.Network(network))

    ways: dict[str, Callable[[Architecture], int]] = {
        "closed form": lambda network: cost.total(network).parameters,
        "built": lambda network: model.count(model.build(network)),
        "built without weights": without_weights,
    }
    torch.set_num_threads(1)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for network in networks:
        counts = set()
        for name, count in ways.items():
            start = time.process_time()
            counts.add(count(network))
            times[name].append(1_000 * (time.process_time() - start))
        assert len(counts) == 1, "the ways of counting must agree"
    pairs = {name: zip(times[name], times["closed form"], strict=True) for name in times}
    return {
        name: {
            "milliseconds": statistics.median(times[name]),
            "ratio": statistics.median(built / closed for built, closed in pairs[name]),
        }
        for name in times
    }


def measure(count: int, rounds: int) -> dict[str, Any]:
    networks = proposals(count)
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "networks": count,
        "stages": statistics.mean(len(network.stages) for network in networks),
        "rounds": rounds,
        "target_judged_per_second": TARGET,
        "per_second": rates(networks, rounds),
        "counting": against_building(networks[:40]),
    }


def table(result: dict[str, Any]) -> str:
    lines = [f"{result['networks']} networks of {result['stages']:.1f} stages, {result['rounds']} rounds", ""]
    lines.append(f"{'per second on one core':28}{'median':>10}{'quartiles':>20}")
    for name, rate in result["per_second"].items():
        quartiles = f"{rate['low_quartile']:,.0f}-{rate['high_quartile']:,.0f}"
        lines.append(f"{name:28}{rate['median']:>10,.0f}{quartiles:>20}")
    lines += ["", f"{'to count one network':28}{'ms':>10}{'closed form x':>20}"]
    for name, spent in result["counting"].items():
        lines.append(f"{name:28}{spent['milliseconds']:>10.3f}{spent['ratio']:>20,.0f}")
    judged = result["per_second"]["judged"]["median"]
    verdict = "met" if judged >= TARGET else "MISSED"
    lines += ["", f"target: {TARGET:,} judged per second: {verdict}"]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--networks", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    arguments = parser.parse_args()
    result = measure(max(1, arguments.networks), max(2, arguments.rounds))
    print(json.dumps(result, indent=2) if arguments.json else table(result))


if __name__ == "__main__":
    main()
