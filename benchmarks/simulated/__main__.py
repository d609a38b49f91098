"""Runs thousands of simulated searches: which sampler, which pruner, which way to fit the budget.

    python -m benchmarks.simulated [--quick] [--seeds 30] [--trials 100] [--rows FILE] [--out FILE]
                                   [--optunahub DIR]

One process, one core. What the file of rows already holds is not run again, so that a run that was broken
off goes on. Without --out the tables are printed and nothing is kept.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from benchmarks.simulated import hub, strategies, suite
from benchmarks.simulated.document import summary
from benchmarks.simulated.report import report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="3 seeds of 40 trials: two minutes")
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--trials", type=int, default=100, help="a table of 300 networks tells of no more")
    parser.add_argument("--rows", type=Path, help="one line a search; goes on where it ends")
    parser.add_argument("--out", type=Path, help="where the results are written, as JSON")
    parser.add_argument("--only", action="append", default=[], help="a stage by name; again for more")
    parser.add_argument("--curves", type=Path, default=suite.CURVES, help="the folder of packed curves")
    parser.add_argument(
        "--optunahub", type=Path, help="a copy of OptunaHub's registry, in place of the one on the network"
    )
    arguments = parser.parse_args()
    seeds, trials = (3, 40) if arguments.quick else (arguments.seeds, arguments.trials)
    strategies.quiet()
    modules, missing = hub.modules(strategies.HUB, arguments.optunahub)
    if missing:
        print(missing, flush=True)
    stages = suite.stages(max(2, seeds), max(10, trials), arguments.curves, modules)
    stages = [stage for stage in stages if not arguments.only or stage.key in arguments.only]
    with tempfile.TemporaryDirectory() as folder:
        rows = arguments.rows or Path(folder) / "rows.jsonl"
        for stage in stages:
            started = time.perf_counter()
            count = sum(1 for _ in suite.run(stage, rows))
            print(f"{stage.key}: {count} searches in {time.perf_counter() - started:.0f} s", flush=True)
        document = report(stages, suite.read(rows))
    print(summary(document))
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
