"""Compares what to do with repeats, from one worker to hundreds that propose at once.

    python -m benchmarks.simulated.crowd [--workers 1 8 64] [--seeds 4] [--trials 400] [--rows FILE]
        [--worlds wide narrow] [--arms ...]

Searches of the formula's world and the default space as `search launch` runs them: baselines first, the
median pruner, TPE. `wide` are images of 32 pixels and 5 million parameters, `narrow` those of 8 pixels and 4
million multiply-accumulates of the README's search, where few networks fit. Each search appends one line to
--rows, and one that is there is not run again. Prints repeats for each trained network beside the truth of
the network that the search would choose. Its tables stand in docs/search.md.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.simulated import strategies
from benchmarks.simulated.proposals import first_guesses, fitting
from benchmarks.simulated.simulator import Search
from benchmarks.simulated.strategies import THIRD, Strategy, median
from benchmarks.simulated.swift import hastened
from benchmarks.simulated.worlds import Formula
from space import space as spaces
from space.budget import Budget
from space.space import Task

FIRST_SHARE = 3  # one trial in so many may be a baseline, as in search/launcher/enqueue.py
ROWS = Path("build/crowd.jsonl")

USUAL = replace(
    strategies.BASE, pruner=partial(median, start_up=10, warm_up=THIRD), first="baselines", name="usual"
)
ARMS = {
    arm.name: arm
    for arm in (
        replace(USUAL, name="told the value, random after 20", repeats="value"),
        replace(USUAL, name="told the value, random after 3", repeats="value", widen_after=3),
        replace(USUAL, name="told PRUNED, random after 3", repeats="pruned", widen_after=3),
        replace(USUAL, name="told PRUNED, random after 20", repeats="pruned"),
        replace(USUAL, name="left out, random after 20", repeats="fail"),
        replace(USUAL, name="left out, random after 3", repeats="fail", widen_after=3),
        replace(USUAL, name="random", sampler=strategies.uniform),
    )
}


SMALL = Task(channels=1, image_size=8, classes=10)
WORLDS = {
    "wide": Formula(spaces.default(), Budget(5_000_000, 1_000_000_000)),
    "narrow": Formula(spaces.default().for_images(8), Budget(5_000_000, 4_000_000), SMALL),
}


def run(name: str, arm: Strategy, workers: int, seed: int, trials: int) -> dict[str, Any]:
    """One search in the world of this name: what it found, and what it spent on repeats."""
    world = WORLDS[name]
    where = (world.space, world.budget, world.task)
    start = first_guesses(*where)[: trials // FIRST_SHARE]
    begun = time.perf_counter()
    with hastened():
        search = Search(
            world, arm, fitting(*where, start=start, spared=True), seed, trials, cost=0.0, workers=workers
        ).run()
    chosen = max(search.finished, key=lambda one: one.observed)
    return {
        "world": name,
        "arm": arm.name,
        "workers": workers,
        "seed": seed,
        "trials": trials,
        "trained": search.trained,
        "asks": search.tally["asks"],
        "repeats": search.tally["repeated"],
        "chosen": chosen.truth,
        "best": max(one.truth for one in search.finished),
        "seconds": round(time.perf_counter() - begun, 1),
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A line for each arm, for each number of workers repeats a trained network, the truth of what was chosen
    in percent, and its difference to the first arm's, by seeds, with its standard error."""
    workers = sorted({row["workers"] for row in rows})
    heads = "".join(f" {count:,}: repeats | accuracy, % | against the first |" for count in workers)
    lines = [f"| Workers at once |{heads}", "|---|" + "---|" * (3 * len(workers))]
    found = {(row["arm"], row["workers"], row["seed"]): row for row in rows}
    arms = [name for name in ARMS if any(row["arm"] == name for row in rows)]
    for name in arms:
        cells = []
        for count in workers:
            mine = {seed: row for (arm, n, seed), row in found.items() if (arm, n) == (name, count)}
            first = {seed: row for (arm, n, seed), row in found.items() if (arm, n) == (arms[0], count)}
            cells.append(_cells(mine, {} if name == arms[0] else first))
        lines.append(f"| {name} |{''.join(cells)}")
    return "\n".join(lines)


def _cells(rows: Mapping[int, dict[str, Any]], first: Mapping[int, dict[str, Any]]) -> str:
    """The three cells of one arm and number of workers, rows by their seed."""
    if not rows:
        return " | | |"
    repeats = mean(row["repeats"] / row["trained"] for row in rows.values())
    apart = [100 * (rows[seed]["chosen"] - first[seed]["chosen"]) for seed in rows.keys() & first.keys()]
    spread = f" ± {stdev(apart) / len(apart) ** 0.5:.2f}" if len(apart) > 1 else ""
    against = f"{mean(apart):+.2f}{spread}" if apart else ""
    return f" {repeats:.2f} | {mean(100 * row['chosen'] for row in rows.values()):.2f} | {against} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--worlds", nargs="+", choices=list(WORLDS), default=list(WORLDS))
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--rows", type=Path, default=ROWS)
    given = parser.parse_args()
    strategies.quiet()
    given.rows.parent.mkdir(parents=True, exist_ok=True)
    text = given.rows.read_text() if given.rows.exists() else ""
    rows = [json.loads(line) for line in text.splitlines()]
    there = {(row["world"], row["arm"], row["workers"], row["seed"], row["trials"]) for row in rows}
    for seed, workers, world, name in product(range(given.seeds), given.workers, given.worlds, given.arms):
        if (world, name, workers, seed, given.trials) in there:
            continue
        rows.append(run(world, ARMS[name], workers, seed, given.trials))
        with given.rows.open("a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
        print(rows[-1], flush=True)
    for world in given.worlds:
        print(f"\n{world}\n{table([row for row in rows if row['world'] == world])}")


if __name__ == "__main__":
    main()
