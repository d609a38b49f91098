"""Trains the best networks of a study to the end and ranks them by what it maximises, on validation images,
for `search confirm`.

Reads a study; starts one `search train` for each network (search/training/parallel.py) and reads the
result.json that it leaves; writes confirm.json. The test images of the best are opened once for each seed,
and choose nothing. A sample of the study from best to worst, without test, gives Kendall's tau of brief and
full scores. Called by search/commands/training.py.
"""

import dataclasses
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from search.machine import devices
from search.study import reader
from search.study.console import stderr_console
from search.study.score import FIELDS, ScoreName
from search.study.statistics import Correlation, Spread, correlation, spread
from search.study.text import counted
from search.training import parallel
from search.training.parallel import FinishedProcess, TrainingProcess
from space.errors import NothingTrainedError
from space.files import replace
from storage import trainings
from storage.row_types import Candidate, State

Row = TypeVar("Row")
LOW = 0.5  # a Kendall's tau below it: a pair of networks is in the wrong order more than one time in four


@dataclass(frozen=True)
class Flags:
    """What `search confirm` was given."""

    study: str | None
    storage: str
    data_dir: Path
    top: int
    seeds: int
    epochs: int
    rank_sample: int
    also: tuple[str, ...]
    data: str | None
    out: Path | None
    workers: int | None
    gpus: str
    baseline: bool = True  # the best of the study's baselines is trained too


@dataclass(frozen=True)
class Contender:
    """A network that is trained to the end; `brief` is its score in the study, None for one from outside."""

    name: str
    reference: str
    folder: Path
    brief: float | None
    sealed: bool
    seeds: int
    baseline: str | None = None
    brief_score: float | None = None  # what the study maximises, where that is not accuracy

    @property
    def brief_value(self) -> float | None:
        """What the study maximises."""
        return self.brief if self.brief_score is None else self.brief_score


def confirm(flags: Flags, show: Callable[[list[dict[str, Any]]], None]) -> int:
    """Trains, ranks and reports; `show` is handed a row for each network, the best first.

    Returns the exit code: 1 where a training failed. Raises NothingTrainedError where the study has no
    network that was trained to the end, StudyError and StorageError.
    """
    console = stderr_console()
    slots = devices.slots(flags.gpus, None if flags.workers is None else max(1, flags.workers))
    with reader.open_study(flags.storage, flags.study, whole=True) as view:
        name, recipe_epochs = view.record.name, view.config.recipe.epochs
        own = view.config.score == "own"
        score: ScoreName = "accuracy" if own else view.config.score
        completed = _completed(view.rows(), name)
    out = flags.out or Path(f"confirm-{name}")
    chosen = contenders(flags, name, completed, out)
    if own:
        console.print(f"{name} maximised {view.config.own_score}: full trainings go by accuracy")
        chosen = [dataclasses.replace(contender, brief_score=None) for contender in chosen]
    console.print(
        f"{name}: {sum(not c.sealed for c in chosen)} to confirm, {counted(flags.seeds, 'seed')} each,"
        f" {sum(c.sealed for c in chosen)} more for the order, one seed each;"
        f" {counted(flags.epochs, 'epoch')}, {len(slots)} at a time"
    )
    for line in _opened_before(flags.storage, name, chosen):
        console.print(line)
    works = [_work(contender, flags, name) for contender in chosen]
    count = itertools.count(1)
    ended = parallel.run(
        works, slots, flags.storage, lambda done: _say(console, done, next(count), len(works))
    )
    failed = {done.work.name for done in ended if done.code}
    finished = [contender for contender in chosen if contender.name not in failed]
    ranked = [_row(c, score) for c in finished if not c.sealed]
    ranked.sort(key=lambda row: -row["full_accuracy" if score == "accuracy" else "full_score"])
    tau = _agreement([c for c in finished if c.brief is not None], flags.rank_sample, score)
    replace(out / "confirm.json", (json.dumps(_document(name, flags, ranked, tau), indent=1) + "\n").encode())
    show([{"rank": i, **row} for i, row in enumerate(ranked, 1)])
    for line in describe_agreement(tau, recipe_epochs):
        console.print(line)
    console.print(f"wrote {out}: confirm.json, and a folder for each network")
    return 1 if failed else 0


def _opened_before(storage: str, study: str, chosen: Sequence[Contender]) -> list[str]:
    """A line for each network whose test images were read already, in another folder than it has now."""
    with reader.open_store(storage) as engine:
        rows = [row for row in trainings.of_study(engine, study) if row.test_accuracy is not None]
    found = []
    for contender in (contender for contender in chosen if not contender.sealed):
        elsewhere = {
            row.folder
            for row in rows
            if row.subject == contender.reference and row.folder != str(contender.folder.resolve())
        }
        if elsewhere:
            found.append(
                f"warning: test images were opened for {contender.name} before: {', '.join(elsewhere)}"
            )
    return found


def _completed(rows: Sequence[Candidate], name: str) -> list[Candidate]:
    """Trained to the end, the best first."""
    found = [row for row in rows if row.state == State.COMPLETED and row.accuracy is not None]
    if not found:
        raise NothingTrainedError(f"study {name!r}: nothing was trained to the end yet")
    return sorted(found, key=lambda row: (-(row.value or 0), row.parameters))


def contenders(flags: Flags, name: str, completed: Sequence[Candidate], out: Path) -> list[Contender]:
    """The best, among them the best baseline whatever its rank, those of --also, and of the rest those at
    --rank-sample evenly spaced ranks."""
    top = list(completed[: flags.top])
    baseline = next((row for row in completed if row.baseline), None)
    if flags.baseline and baseline and not any(row.baseline for row in top):
        top.append(baseline)
    best = [_of_study(name, row, out, False, flags.seeds) for row in top]
    beside = [
        Contender(reference, reference, out / Path(reference).stem.replace(":", "-"), None, False,
                  flags.seeds)
        for reference in flags.also
    ]  # fmt: skip
    rest = [row for row in spaced(completed, flags.rank_sample) if row not in top]
    return best + beside + [_of_study(name, row, out, True, 1) for row in rest]


def spaced(rows: Sequence[Row], count: int) -> list[Row]:
    """So many of them from first to last, at even distances."""
    if count < 2 or len(rows) <= count:
        return list(rows) if count >= 2 else []
    return [rows[round(i * (len(rows) - 1) / (count - 1))] for i in range(count)]


def _of_study(name: str, row: Candidate, out: Path, sealed: bool, seeds: int) -> Contender:
    reference = f"{name}:{row.number}"
    folder = out / f"trial-{row.number}"
    return Contender(reference, reference, folder, row.accuracy, sealed, seeds, row.baseline, row.score)


def _work(contender: Contender, flags: Flags, study: str) -> TrainingProcess:
    given = [contender.reference, "--like", study, "--epochs", str(flags.epochs)]
    given += ["--seeds", str(contender.seeds), "--out", str(contender.folder), "--resume"]
    given += ["--data-dir", str(flags.data_dir)]
    given += ["--data", flags.data] if flags.data else []
    given += ["--no-test"] if contender.sealed else []
    return TrainingProcess(contender.name, tuple(given), contender.folder / "log.txt")


def _say(console: Console, done: FinishedProcess, number: int, total: int) -> None:
    how = "done" if done.code == 0 else f"failed (exit code {done.code}): {done.last}"
    console.print(f"{datetime.now():%H:%M:%S} {number}/{total} {done.work.name} {how}")


def _row(contender: Contender, score: ScoreName) -> dict[str, Any]:
    found = _result(contender)
    scores = [row["validation"][FIELDS[score]] for row in found["seeds"]]
    full = spread([row["validation"]["accuracy"] for row in found["seeds"]])
    tests = [row["test"]["accuracy"] for row in found["seeds"] if row["test"]]
    tested = spread(tests) if tests else None
    return {
        "network": contender.name,
        "baseline": contender.baseline,
        "brief_score": contender.brief_score,
        "full_score": None if score == "accuracy" else spread(scores).mean,
        "brief_accuracy": contender.brief,
        "full_accuracy": full.mean,
        "full_interval": _interval(full),
        "test_accuracy": tested.mean if tested else None,
        "test_interval": _interval(tested) if tested else None,
        "parameters": found["parameters"],
        "macs": found["macs"],
    }


def _interval(found: Spread) -> str | None:
    return str(found.interval) if found.interval else None


def _result(contender: Contender) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((contender.folder / "result.json").read_text(encoding="utf-8"))
    return found


def _agreement(finished: Sequence[Contender], rank_sample: int, score: ScoreName) -> Correlation | None:
    """Between brief scores and full ones of the first seed, for all that were trained both ways."""
    if rank_sample < 2:
        return None
    full = [_result(contender)["seeds"][0]["validation"][FIELDS[score]] for contender in finished]
    return correlation([contender.brief_value or 0.0 for contender in finished], full)


def describe_agreement(tau: Correlation | None, epochs: int) -> list[str]:
    """What the agreement of brief and full scores means for the study."""
    if tau is None:
        return ["how far brief and full scores agree is not known: it takes four networks of unlike scores"]
    low, high = tau.interval
    lines = [
        f"brief and full scores: Kendall's tau {tau.tau:.2f} (95% {low:.2f} to {high:.2f},"
        f" {tau.networks} networks)"
    ]
    if tau.tau < LOW or low <= 0:
        lines.append(
            f"warning: trials of {counted(epochs, 'epoch')} say little of the order of full trainings;"
            f" search again with --epochs {2 * epochs} or more"
        )
    return lines


def _document(
    name: str, flags: Flags, ranked: list[dict[str, Any]], tau: Correlation | None
) -> dict[str, Any]:
    agreement = tau and {"tau": tau.tau, "interval_95": tau.interval, "networks": tau.networks}
    return {
        "format": "parsimony.confirm/1",
        "study": name,
        "epochs": flags.epochs,
        "seeds": flags.seeds,
        "ranked": ranked,
        "brief_against_full": agreement,
    }
