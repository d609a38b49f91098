"""Measures what many workers cost each other on one PostgreSQL: `make bench-scale`.

    python -m benchmarks.speed.scale --storage postgresql://... [--workers 1 8 64] [--seconds 20] [--rounds 3]
        [--asks 1000 10000 50000] [--json FILE]

Each worker is a process with the real loop of search/worker/worker.py: it claims, proposes, records, reports
eight epochs, finishes. Its training sleeps for about --seconds instead. Beside them the server is looked at
ten times a second: who is connected, and who waits for whose lock. Workers start one after another within the
time of a training, as those of a long search end one after another. What a trial costs outside of its
training is given as a share of a trial of 60 s. Then one worker is asked for networks in studies of many
trials.

    connections   held at the middle of all looks and at most, a worker
    round trips   messages to the server that were waited for, a trial
    coordination  milliseconds of a trial outside of its training, median and mean, without a worker's first
    waiting       share of the workers' time in which the server had them wait for a lock
    repeats       for each network that was trained
    server        milliseconds of processor time of the server, a trial
"""

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

os.environ.setdefault("OMP_NUM_THREADS", "1")

import psycopg

from benchmarks.speed.coordination import CONFIG, EPOCHS, Instant, context_of, curve, fill, store
from benchmarks.speed.server import server
from search.machine.signals import ShutdownRequest
from search.optuna_adapter import study as optuna_study
from search.worker import trial as worker_trial, worker as working
from space.architecture import Architecture
from storage import candidates, database, leases, studies
from storage.leases import Claim
from storage.postgres import BoundedConnection
from storage.row_types import TRAINED, State
from trainer.outcome import EpochReport, Outcome

TRIAL_SECONDS = 60.0  # of the trial whose share is given
LOOK_SECONDS = 0.1
START_SECONDS = 120.0  # until all workers are connected; broken where one is not
BAR = 0.01  # of that trial
ASKS = 6  # networks asked for in a large study, after one to warm up

LOOK = """
SELECT count(*), count(*) FILTER (WHERE wait_event_type = 'Lock'),
    count(*) FILTER (WHERE wait_event_type = 'Lock' AND query LIKE '%%FROM studies%%'),
    count(*) FILTER (WHERE state LIKE 'idle in transaction%%')
FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()
"""


@dataclass
class Sleeping(Instant):
    """A training that sleeps for about so many seconds, and reports its epochs on the way."""

    seconds: float = 0.0

    def __call__(self, architecture: Architecture, seed: int, **calls: Any) -> Outcome:
        del seed
        share = 0.5 + int(architecture.fingerprint[:4], 16) / 0xFFFF
        self.began = time.perf_counter()
        reporting, scores = 0.0, curve(architecture)
        try:
            for epoch, score in enumerate(scores, start=1):
                time.sleep(self.seconds * share / EPOCHS)
                report = time.perf_counter()
                calls["callbacks"].on_epoch(EpochReport(epoch, EPOCHS, 1.0, 1.0, score, 0.1, 0.1, 1.0))
                reporting += time.perf_counter() - report
        finally:
            self.ended = time.perf_counter()
            self.spans["epochs"].append(1_000 * reporting)
        return Outcome(scores[-1], scores[-1], 1.0, EPOCHS, 0.8, 1.0, 5_000)


class Counted:
    """How often this process waited for an answer of the server."""

    def __init__(self) -> None:
        self.trips = 0
        wait = BoundedConnection.wait

        def counting(connection: BoundedConnection, gen: Any, *arguments: Any, **named: Any) -> Any:
            return wait(connection, self._counted(gen), *arguments, **named)

        BoundedConnection.wait = counting  # type: ignore[method-assign]

    def _counted(self, gen: Any) -> Any:
        """The generator; what needs no answer never asks to wait."""
        try:
            wanted = next(gen)
            self.trips += 1
            while True:
                wanted = gen.send((yield wanted))
        except StopIteration as stop:
            return stop.value


def work(url: str, name: str, worker: str, seconds: float, delay: float, together: Any, answers: Any) -> None:
    """One worker until the study has its number: milliseconds of each trial by part, and what it cost. It
    begins when all are there, and stays connected until all are done: looks at the server count all."""
    os.setsid()  # Linux shares a processor out by session: as workers elsewhere have one of their own
    optuna_study.quiet()
    counted, train = Counted(), Sleeping(seconds=seconds)
    claimed: list[float] = []
    usual_claim, usual_run = leases.claim, worker_trial.run

    def claim(*arguments: Any) -> Any:
        begun = time.perf_counter()
        found = usual_claim(*arguments)
        if isinstance(found, Claim):
            claimed.append(time.perf_counter())
            train.spans["claim"].append(1_000 * (claimed[-1] - begun))
        return found

    def run(*arguments: Any) -> State:
        state = usual_run(*arguments)
        train.spans["propose"].append(1_000 * (train.began - claimed[-1]))
        train.spans["end"].append(1_000 * (time.perf_counter() - train.ended))
        return state

    leases.claim, worker_trial.run = claim, run
    engine = working._connect(url)
    with (
        tempfile.TemporaryDirectory() as folder,
        optuna_study.open_study(url, name, CONFIG, engine) as opened,
    ):
        context = context_of(opened, engine, studies.find(engine, name).id, train, Path(folder))
        context.options = replace(context.options, name=worker)
        together.wait(START_SECONDS)
        time.sleep(delay)
        counted.trips, before = 0, time.process_time()
        working._work_in(context, ShutdownRequest(60.0, None))
        answers.put((train.spans, counted.trips, time.process_time() - before))
        together.wait()
    engine.dispose()


class Looks:
    """Looks at a server's list of connections until it is told to end."""

    def __init__(self, url: str) -> None:
        self.url, self.over = url, threading.Event()
        self.rows: list[tuple[int, int, int, int]] = []
        self.thread = threading.Thread(target=self._look)

    def __enter__(self) -> "Looks":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()

    def _look(self) -> None:
        with psycopg.connect(self.url.replace("+psycopg", ""), autocommit=True) as connection:
            name = connection.info.dbname
            while not self.over.wait(LOOK_SECONDS):
                row: Any = connection.execute(LOOK, [name]).fetchone()
                self.rows.append(row)


def measure(url: str, workers: int, seconds: float, rounds: int) -> dict[str, Any]:
    """So many workers at a new study of `rounds` trials a worker."""
    name = f"scale-{uuid4().hex[:8]}"
    engine = fill(url, name, 0)
    record = studies.find(engine, name)
    studies.set_trials(engine, record.id, workers * rounds)
    engine.dispose()  # what is forked has no connection
    fork = multiprocessing.get_context("fork")
    answers, together = fork.Queue(), fork.Barrier(workers + 1)
    processes = [
        fork.Process(
            target=work,
            args=(url, name, f"worker-{i}", seconds, i * seconds / workers, together, answers),
            daemon=True,
        )
        for i in range(workers)
    ]
    for process in processes:
        process.start()
    together.wait(START_SECONDS)
    begun, server = time.perf_counter(), server_seconds(url)
    with Looks(url) as looks:
        found = [answers.get() for _ in processes]
    together.wait()
    for process in processes:
        process.join()
    elapsed, server = time.perf_counter() - begun, server_seconds(url) - server
    engine = database.connect(url)
    tally = candidates.tally(engine, record.id)
    engine.dispose()
    return _summary(workers, rounds, seconds, found, looks.rows, tally, elapsed, server)


def _summary(
    workers: int,
    rounds: int,
    seconds: float,
    found: Sequence[Any],
    looks: Sequence[tuple[int, int, int, int]],
    tally: dict[State, int],
    elapsed: float,
    server: float,
) -> dict[str, Any]:
    trained = sum(tally[state] for state in TRAINED)
    parts = ("claim", "propose", "epochs", "end")
    trials = [
        dict(zip(parts, spans, strict=True))
        for one, _, _ in found
        for spans in list(zip(*(one[part] for part in parts), strict=True))[1:]
    ] or [dict.fromkeys(parts, 0.0)]
    totals = [sum(trial.values()) for trial in trials]
    some = [row for row in looks if row[0]]
    counts = [row[0] for row in some]
    return {
        "workers": workers,
        "rounds": rounds,
        "seconds": seconds,
        "trained": trained,
        "elapsed": elapsed,
        "connections": [statistics.median(counts) / workers, max(counts) / workers],
        "round_trips": sum(trips for _, trips, _ in found) / trained,
        "milliseconds": {
            "median": statistics.median(totals),
            "mean": statistics.mean(totals),
            "worst": max(totals),
        },
        "parts": {part: statistics.mean(trial[part] for trial in trials) for part in parts},
        "waiting": sum(row[1] for row in some) / (workers * len(some)),
        "waiting_for_optuna": sum(row[2] for row in some) / (workers * len(some)),
        "most_waiting": max(row[1] for row in some),
        "repeats": tally[State.REPEATED] / trained,
        "processor": 1_000 * sum(seconds for _, _, seconds in found) / trained,
        "server": 1_000 * server / trained,
    }


def server_seconds(url: str) -> float:
    """Processor time of a server on this machine and of all its processes so far; 0 where it is elsewhere."""
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        row: Any = connection.execute("SELECT pg_backend_pid()").fetchone()
    try:
        postmaster = _stat(row[0])[1]
        children = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
        stats = [stat for pid in children if (stat := _stat(pid)) and stat[1] == postmaster]
        own = _stat(postmaster)
        ticks = sum(own[11:15]) + sum(sum(stat[11:13]) for stat in stats)
    except (OSError, IndexError):
        return 0.0
    return float(ticks / os.sysconf("SC_CLK_TCK"))


def _stat(pid: int) -> list[int]:
    """The numbers of /proc/PID/stat after the name: the second is the parent, from the twelfth on times."""
    try:
        after = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
    return [0, *(int(value) for value in after[1:])]


def ask(url: str, trials: int) -> dict[str, Any]:
    """One worker that proposes in a study of so many finished trials: milliseconds a network, and how much of
    them is its processor's."""
    name = f"asks-{uuid4().hex[:8]}"
    fill(url, name, trials).dispose()
    engine, train = working._connect(url), Instant()
    spent, busy = [], []
    with (
        tempfile.TemporaryDirectory() as folder,
        optuna_study.open_study(url, name, CONFIG, engine) as opened,
    ):
        context = context_of(opened, engine, studies.find(engine, name).id, train, Path(folder))
        for _ in range(ASKS + 1):
            claim = leases.claim(engine, context.study_id, "asker", 60.0)
            assert isinstance(claim, Claim)
            begun, worked = time.perf_counter(), time.process_time()
            worker_trial.run(context, claim)
            spent.append(1_000 * (train.began - begun))
            busy.append(1_000 * (train.began_processor - worked))
    engine.dispose()
    return {
        "trials": trials,
        "first": spent[0],
        "milliseconds": statistics.median(spent[1:]),
        "processor": statistics.median(busy[1:]),
    }


def table(result: dict[str, Any]) -> str:
    """The figures as text."""
    rows = result["rows"]
    lines = [
        f"{'workers':>8}{'connections':>13}{'round trips':>13}{'coordination, ms':>18}{'of 60 s':>9}"
        f"{'claim':>7}{'propose':>9}{'epochs':>8}{'end':>6}{'waiting':>9}{'repeats':>9}{'server, ms':>12}"
    ]
    for row in rows:
        spent, parts = row["milliseconds"], row["parts"]
        connections = "{:.1f}-{:.1f}".format(*row["connections"])
        both = f"{spent['median']:.0f} / {spent['mean']:.0f}"
        share = spent["mean"] / 1_000 / TRIAL_SECONDS
        lines.append(
            f"{row['workers']:>8}{connections:>13}{row['round_trips']:>13.0f}{both:>18}{share:>9.2%}"
            f"{parts['claim']:>7.0f}{parts['propose']:>9.0f}{parts['epochs']:>8.0f}{parts['end']:>6.0f}"
            f"{row['waiting']:>9.2%}{row['repeats']:>9.2f}{row['server']:>12.0f}"
        )
    if result["asks"]:
        lines += [
            "",
            f"{'finished trials':>16}{'a network is proposed in, ms':>30}{'processor, ms':>15}"
            f"{'the first, ms':>15}",
        ]
        lines += [
            f"{a['trials']:>16,}{a['milliseconds']:>30.0f}{a['processor']:>15.0f}{a['first']:>15,.0f}"
            for a in result["asks"]
        ]
    most = rows[-1]
    share = most["milliseconds"]["mean"] / 1_000 / TRIAL_SECONDS
    met = "met" if share < BAR else "missed"
    lines += ["", f"bar: under {BAR:.0%} of a trial of 60 s at {most['workers']} workers: {met}, {share:.2%}"]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--seconds", type=float, default=20.0, help="of a training, about")
    parser.add_argument(
        "--rounds", type=int, default=3, help="trials a worker, the first of them not measured"
    )
    parser.add_argument(
        "--asks", type=int, nargs="*", default=[1_000, 10_000, 50_000], help="finished trials"
    )
    parser.add_argument(
        "--storage", help="postgresql://..., whose server can make databases; else one is made"
    )
    parser.add_argument("--json", type=Path, help="write the figures here")
    given = parser.parse_args()
    optuna_study.quiet()
    result: dict[str, Any] = {
        "python": platform.python_version(), "cores": os.cpu_count(), "rows": [], "asks": []
    }  # fmt: skip
    with server(given.storage) as where, store(where) as url:
        for workers in given.workers:
            result["rows"].append(measure(url, workers, given.seconds, given.rounds))
            print(json.dumps(result["rows"][-1]), flush=True)
        result["asks"] = [ask(url, trials) for trials in given.asks]
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()
