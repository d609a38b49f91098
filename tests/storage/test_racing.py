"""Many workers at one study: the target is exact, nothing is trained twice, nothing is lost twice."""

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from threading import Barrier, Lock
from typing import TypeVar

import racing_worker
from ledger_samples import LEASE_SECONDS, epoch, expire, make_study, outcome, proposal, start, take
from sqlalchemy import Engine

from space.errors import LeaseLostError
from storage import candidates, invariants, leases, studies
from storage.leases import Claim, NoClaim
from storage.row_types import DEDUPLICATED, Candidate, State
from storage.studies import Study

THREADS = 16
Answered = TypeVar("Answered")


def at_once(act: Callable[[int], Answered], times: int = THREADS) -> list[Answered]:
    """Let threads start together and return what each answered."""
    gate = Barrier(times)

    def go(index: int) -> Answered:
        gate.wait(60)
        return act(index)

    with ThreadPoolExecutor(times) as threads:
        return list(threads.map(go, range(times)))


def assert_exact(engine: Engine, study: Study, abandoned: int) -> None:
    rows = candidates.candidates(engine, study.id)
    states = Counter(row.state for row in rows)
    assert states[State.COMPLETED] == study.trials
    assert states[State.LOST] == abandoned
    assert states[State.RUNNING] == 0
    trained = Counter(row.fingerprint for row in rows if row.state in DEDUPLICATED)
    assert max(trained.values()) == 1
    assert leases.running(engine, study.id) == []
    assert invariants.check(engine, study.id) == []


def test_sixteen_claims_at_once_are_no_more_than_the_target(engine: Engine) -> None:
    study = make_study(engine, trials=5)
    answers = at_once(lambda index: leases.claim(engine, study.id, f"worker {index}", LEASE_SECONDS))
    claims = [answer for answer in answers if isinstance(answer, Claim)]
    assert sorted(claim.ordinal for claim in claims) == [1, 2, 3, 4, 5]
    assert answers.count(NoClaim.WAIT) == THREADS - 5


def test_the_target_is_exact_with_sixteen_threads_some_of_which_fall_silent(engine: Engine) -> None:
    study = make_study(engine, trials=40)
    numbers, guard, silent, lost = count(), Lock(), count(), list[Candidate]()

    def one_claim(claim: Claim, index: int) -> None:
        candidate = candidates.propose(
            engine, claim, proposal(next(numbers), fingerprint=f"network-{claim.ordinal // 2}")
        )
        if candidate.state == State.REPEATED:
            candidate = candidates.propose(
                engine, claim, proposal(next(numbers), fingerprint=f"new-{claim.ordinal}")
            )
        if index % 4 == 0 and claim.ordinal % 3 == 0:
            next(silent)
            expire(engine, claim)
        else:
            candidates.save_epoch(engine, claim, candidate.id, epoch(1))
            candidates.finish(engine, claim, candidate.id, State.COMPLETED, outcome=outcome(0.5, epochs=1))

    def work(index: int) -> None:
        while True:
            if index == 1:
                assert invariants.check(engine, study.id) == []  # at every moment
            reaped = leases.reap(engine, study.id)
            with guard:
                lost.extend(reaped)
            answer = leases.claim(engine, study.id, f"worker {index}", LEASE_SECONDS)
            if answer is NoClaim.DONE:
                return
            if isinstance(answer, Claim):
                one_claim(answer, index)

    at_once(work)
    lost += leases.reap(engine, study.id)
    abandoned = next(silent)
    assert_exact(engine, study, abandoned)
    assert len({candidate.id for candidate in lost}) == len(lost) == abandoned


def test_the_target_is_exact_with_processes_some_of_which_are_killed(
    engine: Engine, database_url: str
) -> None:
    study = make_study(engine, trials=24)
    fates = {f"process {index}": "dies" if index % 3 == 0 else "lives" for index in range(6)}
    script = str(Path(racing_worker.__file__))
    children = {
        name: subprocess.Popen(
            [sys.executable, script, database_url, str(study.id), name, fate],
            stderr=subprocess.PIPE,
            env=environment(),
            text=True,
        )
        for name, fate in fates.items()
    }

    def end(name: str) -> list[Candidate]:
        _out, errors = children[name].communicate(timeout=120)
        if children[name].returncode == -signal.SIGKILL:
            return leases.evict(engine, study.id, name)  # at once: the others may wait for what it held
        assert (children[name].returncode, errors) == (0, "")
        return []

    try:
        with ThreadPoolExecutor(len(fates)) as threads:
            lost = [candidate for found in threads.map(end, fates) for candidate in found]
    finally:
        for child in children.values():
            child.kill()
            child.wait()
    assert_exact(engine, study, abandoned=len(lost))
    assert len({candidate.worker for candidate in lost}) == len(lost)


def environment() -> dict[str, str]:
    """Return the environment of a child that finds our packages and those of the tests."""
    folders = [str(Path(racing_worker.__file__).parent), str(Path(studies.__file__).parent.parent)]
    return {"PYTHONPATH": ":".join(folders), "PYTHONWARNINGS": "error"}


def test_of_twins_proposed_at_once_one_runs(engine: Engine) -> None:
    study = make_study(engine, trials=THREADS)
    claims = [take(engine, study, f"worker {index}") for index in range(THREADS)]
    answers = at_once(
        lambda index: candidates.propose(engine, claims[index], proposal(index, fingerprint="twin"))
    )
    assert Counter(answer.state for answer in answers) == {State.RUNNING: 1, State.REPEATED: THREADS - 1}
    (first,) = (answer.number for answer in answers if answer.state == State.RUNNING)
    assert {answer.repeat_of for answer in answers} == {None, first}


def test_a_lost_candidate_is_returned_to_one_reaper_only(engine: Engine) -> None:
    study = make_study(engine, trials=8)
    for number in range(8):
        expire(engine, start(engine, study, number, worker=f"worker {number}")[0])
    reaped = [
        candidate.number
        for answer in at_once(lambda _: leases.reap(engine, study.id))
        for candidate in answer
    ]
    assert sorted(reaped) == list(range(8))


def test_a_result_that_races_with_a_reaper_is_written_or_refused_never_both(engine: Engine) -> None:
    study = make_study(engine, trials=8)
    started = [start(engine, study, number, worker=f"worker {number}") for number in range(8)]
    for claim, _candidate in started:
        expire(engine, claim)

    def act(index: int) -> list[int]:
        if index >= 8:
            return [candidate.number for candidate in leases.reap(engine, study.id)]
        claim, candidate = started[index]
        try:
            candidates.finish(engine, claim, candidate.id, State.COMPLETED, outcome=outcome(0.5))
        except LeaseLostError:
            return []
        return [-1 - index]

    answers = [number for answer in at_once(act) for number in answer]
    written = sorted(-1 - number for number in answers if number < 0)
    lost = sorted(number for number in answers if number >= 0)
    assert sorted(written + lost) == list(range(8))
    assert [
        row.number for row in candidates.candidates(engine, study.id, states=[State.COMPLETED])
    ] == written
    assert [row.number for row in candidates.candidates(engine, study.id, states=[State.LOST])] == lost
