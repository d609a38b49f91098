"""What the order of the trainings in a rung is worth: when it ends, by the best first and the slowest first.

    python -m benchmarks.rung_order [--table benchmarks/curves/fashion-mnist.json.gz] [--searches 400]

Simulated searches of 40 networks, drawn from a table of real trainings: the best 16 by the last accuracy go
into a rung, the best 3 into finals of 3 seeds, each trained for as long as the table says. Workers take the
trainings in the order of search/study/halving.py, or the best first, seed by seed. Reads the table; prints
the median of how much earlier the last training ends. Seconds; the same figures each time.
"""

import argparse
import heapq
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from statistics import median

from benchmarks.simulated import table
from benchmarks.simulated.table import Entry
from search.study.halving import ReachedRung
from storage.row_types import Candidate, Stage, State

SIZES = {"rung of 16": (Stage.HALVING, 16, 1), "finals, 3 of 3 seeds": (Stage.FINALS, 3, 3)}
WORKERS, TRIALS = (2, 3, 4, 6, 8), 40


def trial(number: int, entry: Entry) -> Candidate:
    """A network of the table as a trial that was trained to the end."""
    moment = datetime(2026, 11, 27, tzinfo=UTC)
    return Candidate(
        id=number, study_id=1, number=number, state=State.COMPLETED, reason=None, architecture={},
        fingerprint="", parameters=entry.parameters, macs=entry.macs, depth=0, accuracy=entry.curve[-1],
        best_accuracy=None, loss=None, epochs=len(entry.curve), seconds=entry.seconds * len(entry.curve),
        images_per_second=None, device=None, worker=None, seed=0, attempt=1, repeat_of=None, versions=None,
        proposed_at=moment, finished_at=moment,
    )  # fmt: skip


def ends(seconds: Sequence[float], workers: int) -> float:
    """When the last training ends, where each worker that is free takes the next one."""
    busy = [0.0] * workers
    for one in seconds:
        heapq.heapreplace(busy, busy[0] + one)
    return max(busy)


def earlier(entries: Sequence[Entry], size: str, workers: int, searches: int) -> float:
    """The median share of the time by which a rung ends earlier than in the order of the best first."""
    stage, networks, seeds = SIZES[size]
    random, found = Random(0), list[float]()
    for _ in range(searches):
        drawn = [trial(number, one) for number, one in enumerate(random.sample(entries, TRIALS))]
        best = sorted(drawn, key=lambda one: -(one.accuracy or 0.0))[:networks]
        took = {one.id: one.seconds or 0.0 for one in best}
        rung = ReachedRung(stage, 1, tuple(range(seeds)), tuple(best), ())
        # of equal times the order is kept: with every network as fast as the others it is the best first
        alike = replace(rung, entrants=tuple(replace(one, seconds=1.0) for one in best))
        now, before = (
            ends([took[entry.candidate_id] for entry in one.missing], workers) for one in (rung, alike)
        )
        found.append(1 - now / before)
    return median(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--table", type=Path, default=Path(__file__).parent / "curves" / "fashion-mnist.json.gz"
    )
    parser.add_argument("--searches", type=int, default=400)
    given = parser.parse_args()
    entries = table.load(given.table).entries
    print(f"{'workers':22}" + "".join(f"{workers:>8}" for workers in WORKERS))
    for size in SIZES:
        shares = [earlier(entries, size, workers, given.searches) for workers in WORKERS]
        print(f"{size:22}" + "".join(f"{share:8.1%}" for share in shares))


if __name__ == "__main__":
    main()
