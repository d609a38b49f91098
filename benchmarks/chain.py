"""The whole chain at equal wall time: from a command to a network that was trained to the end, in four ways.

    python -m benchmarks.chain --rows build/chain.jsonl [--minutes 60] [--searches 5] [--data fashion-mnist]
        [--max-params 300000] [--max-macs 20000000] [--epochs N] [--train-images N] [--workers auto]
        [--final-epochs 200] [--sides ours,random,plain,hand] [--images N --image-size PIXELS]

- ours: `search launch --finish --timeout MINUTES`, all else by default.
- random: the same with `--sampler random --no-baselines`.
- plain: the script of benchmarks/chain_script.py (the space drawn with its widths, what does not fit refused,
  Optuna's TPE and median pruner, our trainer and brief recipe, trials as long as ours, the best by
  validation), for as long as ours took less the final training, which follows.
- hand: what a person would take, [3,3,3] as wide as the budget lets it be; only its final training.

The final training of plain and hand has the epochs, recipe and three seeds that ours came to in the same
round, on all images, a seed in a process; each process of each side has a core or a GPU of its own, but that
workers of ours share a GPU where that is faster. Test images are read once for each final training, and
choose nothing. One round is one search of each side from one seed, in turns; rows are appended as they
finish, and a second call goes on where the first one ended. A table ends it: means of the test accuracies
with 95% intervals over rounds (Student's t), and the difference of ours from each other side, round by round.

With --images or --image-size the data set is written as a folder beside the rows, of so many training images
and all test images, of so many pixels a side; all sides are given that, a case for a machine of few cores.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from statistics import fmean
from typing import Any

from benchmarks import chain_script
from benchmarks.speed import folder
from search import settings
from search.machine.devices import Slot
from search.study.config import StudyConfig
from search.study.second_stage import Finalist
from search.study.statistics import LEAST_RUNS, mean_difference, spread
from storage.row_types import RungTraining, Stage
from trainer.data import dataset as datasets

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded, here and in children

SIDES = ("ours", "random", "plain", "hand")
TRIALS = 100_000  # more than there is time for: the limit of time ends them
STUDY = "chain"
Row = dict[str, Any]


def as_folder(given: argparse.Namespace) -> str:
    """The smaller data set as a folder, made where it is not there yet; what --data then says."""
    name = Path(given.data.removeprefix("folder:")).name
    place = given.rows.parent / f"{name}-{given.images or 'all'}-{given.image_size or 'whole'}"
    folder.write(given.data, given.data_dir, place, given.image_size, given.images)
    return f"folder:{place.resolve()}"


def measured(given: argparse.Namespace, side: str, seed: int, ours: Row | None) -> Row:
    """One way, once. `ours` is the row of our search in the same round, whose finals the others follow."""
    with tempfile.TemporaryDirectory(prefix="chain-") as place:
        began = time.monotonic()
        if side in ("ours", "random"):
            found = searched(given, Path(place), side, seed)
        else:
            assert ours
            network = by_hand(given) if side == "hand" else by_script(given, Path(place), seed, ours)
            found = network | final(given, Path(place), network["architecture"], ours)
        wall = round(time.monotonic() - began, 1)
    return {"side": side, "round": seed, "wall": wall, **found}


def searched(given: argparse.Namespace, place: Path, side: str, seed: int) -> Row:
    """Our search to its winner. Raises SystemExit where it ended without one."""
    from search.optuna_adapter import study as optuna_study
    from search.study import second_stage
    from storage import candidates, database, studies
    from storage.row_types import TRAINED

    url = f"sqlite:///{place}/search.db"
    words = ["launch", STUDY, "--trials", TRIALS, "--finish", "--timeout", f"{60 * given.minutes:.0f}s",
             "--final-epochs", given.final_epochs, "--storage", url, "--workers", given.workers]  # fmt: skip
    words += ["--sampler", "random", "--no-baselines"] if side == "random" else []
    words += ["--epochs", given.epochs] if given.epochs else []
    command(given, *words, "--seed", seed, *limits(given))
    optuna_study.quiet()
    engine = database.connect(url, create=False)
    record = studies.find(engine, STUDY)
    tally = candidates.tally(engine, record.id)
    stage = second_stage.load(engine, record)
    engine.dispose()
    if stage is None or not stage.finalists:
        raise SystemExit(f"{side}, round {seed}: no winner within {given.minutes:g} minutes; give it more")
    best = stage.finalists[0]
    assert best.test, "measure() asked for test images"
    seconds = [one.seconds for one in stage.trainings if one.candidate_id == best.candidate.id]
    return {
        "trained": sum(tally[state] for state in TRAINED),
        "trial_epochs": StudyConfig.from_record(record.settings).recipe.epochs,
        "epochs": stage.plan.finals.recipe.epochs,
        "test": list(best.test.values),
        "validation": list(best.validation.values),
        "final_seconds": max(one for one in seconds if one is not None),  # one may have been lost
        "baseline": best.candidate.baseline,
        "architecture": best.candidate.architecture,
        "parameters": best.candidate.parameters,
        "macs": best.candidate.macs,
        "finalists": [finalist(one, stage.trainings) for one in stage.finalists],
    }


def finalist(one: Finalist, trainings: Sequence[RungTraining]) -> Row:
    """A network of the finals, the winner too: what choosing by validation images was worth, and how well its
    trial said how long its finals take."""
    return {
        "trial": one.candidate.number,
        "trial_seconds": one.candidate.seconds,
        "seconds": [
            training.seconds
            for training in trainings
            if training.candidate_id == one.candidate.id and training.stage == Stage.FINALS
        ],
        "baseline": one.candidate.baseline,
        "parameters": one.candidate.parameters,
        "macs": one.candidate.macs,
        "validation": list(one.validation.values),
        "test": list(one.test.values) if one.test else None,
    }


def by_script(given: argparse.Namespace, place: Path, seed: int, ours: Row) -> Row:
    """The best of the plain script, which has the time that our search took less the final training."""
    last = math.ceil(settings.FINAL_SEEDS / len(slots(given))) * ours["final_seconds"]
    seconds, database = max(60.0, ours["wall"] - last), place / "plain.db"
    words = [database, "--seconds", f"{seconds:.0f}", "--workers", given.workers, "--seed", seed]
    words += ["--epochs", given.epochs or ours["trial_epochs"], *common(given)]
    run([sys.executable, "-m", "benchmarks.chain_script", *words])
    return {"trained": len(chain_script.finished(database))} | described(chain_script.best(database))


def by_hand(given: argparse.Namespace) -> Row:
    """[3,3,3], 3x3 kernels, the width doubled at each halving, as wide as the budget lets it be; the next
    smaller baseline where the budget is too small for it. Raises SystemExit where none fits."""
    from space import baselines

    found = baselines.baselines(*chain_script.ground(given))
    network = next((one for one in found if not one.reason), None)
    if network is None:
        raise SystemExit("hand: no plain network of three stages fits this budget")
    return {"trained": 0, "baseline": network.name} | described(network.architecture.document())


def described(document: dict[str, Any]) -> Row:
    from space import cost
    from space.architecture import Architecture

    spent = cost.total(Architecture.parse(document))
    return {"architecture": document, "parameters": spent.parameters, "macs": spent.macs}


def final(given: argparse.Namespace, place: Path, architecture: dict[str, Any], ours: Row) -> Row:
    """The final training of a network that was made elsewhere, as many seeds beside each other as there are
    places for workers. A store of its own takes the rows, and goes with the folder."""
    (place / "network.json").write_text(json.dumps(architecture))
    free = SimpleQueue[Slot]()
    for slot in slots(given):
        free.put(slot)

    def trained(seed: int) -> Row:
        out, slot = place / f"seed-{seed}", free.get()
        words = ["train", place / "network.json", "--epochs", ours["epochs"], "--seeds", 1, "--seed", seed]
        words += ["--storage", f"sqlite:///{out}.db", "--out", out, "--data", given.data]
        try:
            command(given, *words, pinned=slot.environment)
        finally:
            free.put(slot)
        (one,) = json.loads((out / "result.json").read_text())["seeds"]
        return dict(one)

    with ThreadPoolExecutor(len(slots(given))) as pool:
        seeds = list(pool.map(trained, range(settings.FINAL_SEEDS)))
    return {
        "epochs": ours["epochs"],
        "test": [one["test"]["accuracy"] for one in seeds],
        "validation": [one["validation"]["accuracy"] for one in seeds],
    }


def slots(given: argparse.Namespace) -> list[Slot]:
    """Where processes of the sides that are not ours run."""
    return list(chain_script.slots(given.workers))


def limits(given: argparse.Namespace) -> Iterator[object]:
    yield from ("--data", given.data, "--max-params", given.max_params, "--max-macs", given.max_macs)
    if given.train_images:
        yield from ("--train-images", given.train_images)


def common(given: argparse.Namespace) -> list[object]:
    return [*limits(given), "--data-dir", given.data_dir]


def command(given: argparse.Namespace, *words: object, pinned: Mapping[str, str] | None = None) -> None:
    """Our command line in a process of its own. Raises SystemExit with what it said, where it fails."""
    run([sys.executable, "-m", "search", *words, "--data-dir", given.data_dir], pinned)


def run(words: Sequence[object], pinned: Mapping[str, str] | None = None) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SEARCH_")}
    environment |= pinned or {}
    done = subprocess.run([*map(str, words)], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, words))}: ended with {done.returncode}\n{done.stderr[-2_000:]}")


def read(rows: Path) -> list[Row]:
    """The rows of earlier calls."""
    lines = rows.read_text(encoding="utf-8").splitlines() if rows.exists() else []
    return [json.loads(line) for line in lines if line.strip()]


def measure(given: argparse.Namespace) -> None:
    """Appends what has no row yet. Raises SystemExit for rows that were measured otherwise, and DataError for
    a data set that has no test images to say how good a network is."""
    datasets.load(given.data, given.data_dir).open_test()
    given = argparse.Namespace(**vars(given))
    conditions = {
        key: value for key, value in vars(given).items() if key not in ("rows", "searches", "sides")
    }
    conditions |= {"data_dir": None, "sides": None}
    done = read(given.rows)
    if done and done[0]["conditions"] != conditions:
        raise SystemExit(f"{given.rows} was measured otherwise: {done[0]['conditions']}")
    given.rows.parent.mkdir(parents=True, exist_ok=True)
    if given.images or given.image_size:
        given.data = as_folder(given)
    for seed in range(given.searches):
        had = {row["side"]: row for row in done if row["round"] == seed}
        for side in (side for side in SIDES if side in given.sides and side not in had):
            if side in ("plain", "hand") and "ours" not in had:
                raise SystemExit(f"{side} follows ours, which round {seed} has not")
            row = measured(given, side, seed, had.get("ours")) | {"conditions": conditions}
            had[side] = row
            with given.rows.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")


def summary(rows: Sequence[Row]) -> list[Row]:
    """A row a side: the mean test accuracy over rounds, and how far ours is ahead, round by round."""
    means = {
        side: {row["round"]: fmean(row["test"]) for row in rows if row["side"] == side} for side in SIDES
    }
    ours, found = means["ours"], list[Row]()
    for side, mine in means.items():
        if not mine:
            continue
        both = sorted(ours.keys() & mine.keys()) if side != "ours" else []
        ahead = [ours[at] - mine[at] for at in both]
        chosen = [row for row in rows if row["side"] == side]
        found.append(
            {
                "side": side,
                "rounds": len(mine),
                "test": spread(list(mine.values())),
                "wall": fmean(row["wall"] for row in chosen),
                "trained": fmean(row["trained"] for row in chosen),
                "parameters": fmean(row["parameters"] for row in chosen),
                "ahead": fmean(ahead) if ahead else None,
                "interval": mean_difference([ours[at] for at in both], [mine[at] for at in both]),
            }
        )
    return found


def table(found: Sequence[Row]) -> str:
    """Markdown. An interval needs at least three rounds."""
    lines = [
        "| Side | Rounds | Networks tried | Minutes | Parameters | Test (95%) | Ours ahead by (95%) |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in found:
        accuracy = f"{100 * row['test'].mean:.2f}%"
        if row["test"].interval:
            accuracy += f" ({row['test'].interval})"
        ahead = "" if row["ahead"] is None else f"{100 * row['ahead']:+.2f} points"
        if row["interval"]:
            ahead += f" ({100 * row['interval'].low:.2f} to {100 * row['interval'].high:.2f})"
        elif ahead:
            ahead += f" (no interval of fewer than {LEAST_RUNS} rounds)"
        lines.append(
            f"| {row['side']} | {row['rounds']} | {row['trained']:.0f} | {row['wall'] / 60:.1f} |"
            f" {row['parameters']:,.0f} | {accuracy} | {ahead} |"
        )
    return "\n".join(lines)


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--searches", type=int, default=5)
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--data-dir", type=Path, default=settings.data_dir())
    parser.add_argument("--train-images", type=int, help="of the trials; finals train on all")
    parser.add_argument("--images", type=int, help="training images of a smaller data set, a folder")
    parser.add_argument("--image-size", type=int, help="pixels a side of that folder's images")
    parser.add_argument("--max-params", type=int, default=300_000)
    parser.add_argument("--max-macs", type=int, default=20_000_000)
    parser.add_argument("--epochs", type=int, help="of the trials; else what a search takes in this time")
    parser.add_argument("--final-epochs", type=int, default=settings.FULL_EPOCHS)
    parser.add_argument("--workers", default="auto")
    parser.add_argument("--sides", type=lambda text: text.split(","), default=SIDES)
    return parser.parse_args(words)


def main() -> None:
    given = arguments()
    measure(given)
    print(table(summary(read(given.rows))))


if __name__ == "__main__":
    main()
