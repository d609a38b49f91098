"""A search that goes on to halving and finals, and what befalls it: each training is made once."""

import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from fault_killer import slot_of, worker_of
from faults import Figures, Search, Started, require_equal_results, wait_until

from search.study import second_stage
from search.study.second_stage import SecondStage
from storage import rungs, studies
from storage.row_types import RungTraining, Stage, State

pytestmark = pytest.mark.faults

TRIALS = 8
FINISH = ("--finish", "--final-epochs", 13, "--final-seeds", 2)  # 8 networks for 12 epochs, then finals


def trainings(search: Search) -> list[RungTraining]:
    if not search.study():
        return []
    found: list[RungTraining] = search.ask(rungs.of_study)
    return found


def stage_of(search: Search) -> SecondStage:
    found = search.ask(lambda engine, _: second_stage.load(engine, studies.find(engine, search.name)))
    assert isinstance(found, SecondStage)
    return found


def under_way(search: Search, stage: Stage = Stage.HALVING) -> bool:
    """Whether a training of this stage has stored an epoch and is still at it."""
    return any(one.stage == stage and one.state == State.RUNNING and one.epoch for one in trainings(search))


def halving_is_under_way(search: Search) -> bool:
    """Whether each of its trainings has stored an epoch: what is ordered from now on is for the finals."""
    found = trainings(search)
    return len(found) > TRIALS or (len(found) == TRIALS and all(one.epoch for one in found))


def kill_one_in_training(search: Search, launcher: Started) -> None:
    """Kills a worker that the ledger holds to be in a training. It is stopped first and looked at again once
    what it had sent has arrived: one that was just done with a training would cost nobody an attempt."""

    def killed() -> bool:
        busy = {one.worker for one in trainings(search) if one.state == State.RUNNING and one.epoch}
        for pid in (pid for pid in launcher.children() if slot_of(pid) and worker_of(pid) in busy):
            os.kill(pid, signal.SIGSTOP)
            threading.Event().wait(0.5)
            if any(one.worker == worker_of(pid) and one.state == State.RUNNING for one in trainings(search)):
                os.kill(pid, signal.SIGKILL)
                return True
            os.kill(pid, signal.SIGCONT)
        return False

    wait_until(killed, "a worker in training to kill")


def require_all_trained_once(search: Search) -> SecondStage:
    """Who is in which rung is what the scores of the rung before say, and nothing was trained to its end
    twice."""
    stage = stage_of(search)
    assert stage.is_over and stage.winner
    halving, finals = stage.rungs
    assert [len(halving.entrants), halving.epochs] == [TRIALS, 12]
    wanted = halving.ranked[:2]
    beaten = [row for row in halving.ranked if row.baseline][:1]
    if not any(row.baseline for row in wanted):
        wanted += beaten
    assert list(finals.entrants) == wanted
    assert all(one.state == State.COMPLETED for one in stage.trainings)
    log = (search.place / "training" / "trained.log").read_text().splitlines()
    made = Counter(line.split()[1] for line in log if line.startswith("trained "))
    assert made == Counter(
        [row.fingerprint for row in stage.rows if row.state == State.COMPLETED]
        + [row.fingerprint for row in halving.entrants]
        + [row.fingerprint for row in finals.entrants for _ in finals.seeds]
    )
    tested = Counter(line.split()[1] for line in log if line.startswith("tested "))
    assert tested == Counter(row.fingerprint for row in finals.entrants for _ in finals.seeds)
    return stage


def test_a_worker_and_a_launcher_killed_in_the_halving_cost_no_training_and_make_none_twice(
    faulty_url: str,
    search_on: Callable[..., Search],
    check: Callable[..., Any],
    keep: Callable[[Figures], None],
) -> None:
    search = search_on(faulty_url)
    launcher = search.launch(TRIALS, *FINISH)
    wait_until(lambda: search.trained() >= TRIALS // 2, "half of the trials")
    search.orders(seconds=0.1)  # so that the halving is met
    wait_until(lambda: under_way(search), "a training of the first rung")
    kill_one_in_training(search, launcher)
    search.fault()
    wait_until(lambda: any(one.attempt == 2 for one in trainings(search)), "a second attempt")
    wait_until(lambda: under_way(search), "a training under way")
    launcher.process.kill()
    launcher.code()
    search.fault()
    search.orders(seconds=0.005)
    search.launch(TRIALS).require(0)  # the plan is the study's: --finish need not be said again
    wait_until(lambda: not search.processes(), "the end of the first one's workers")
    keep(search.settle(check, "SIGKILL of a worker, then of the launcher, in the halving", TRIALS))
    require_equal_results(search)
    require_all_trained_once(search)


@pytest.mark.thorough  # a signal ends it as it ends trials
def test_a_second_ctrl_c_in_the_finals_leaves_what_the_next_launch_goes_on_with(
    sqlite_url: str, search_on: Callable[..., Search], check: Callable[..., Any]
) -> None:
    search = search_on(sqlite_url)
    launcher = search.launch(TRIALS, *FINISH)
    wait_until(lambda: halving_is_under_way(search), "the last of the halving")
    short = {one.id for one in trainings(search) if one.state == State.RUNNING}
    search.orders(batches=1_000)

    def long() -> set[int]:
        return {one.id for one in trainings(search) if one.state == State.RUNNING} - short

    wait_until(long, "a long final under way")
    met = long()
    launcher.process.send_signal(signal.SIGINT)
    wait_until(lambda: "stopping: " in launcher.said(), "an answer to the first signal")
    launcher.process.send_signal(signal.SIGINT)
    assert launcher.code() == 130, launcher.said()
    assert f"go on with `search launch {search.name} --trials {TRIALS}" in launcher.said()
    assert not any(one.state == State.RUNNING for one in trainings(search))
    assert not any(one.has_ended for one in trainings(search) if one.id in met)
    search.settle(check, "", TRIALS)
    search.orders(seconds=0.005)
    again = search.launch(TRIALS)
    again.require(0)
    assert "winner of the finals of 13 epochs, trial" in again.said()
    assert "bill: brief" in again.said()
    require_all_trained_once(search)
    assert {one.attempt for one in trainings(search)} == {1}, "to be told to end is no attempt"


@pytest.mark.thorough  # an order stops it as it stops trials
def test_a_pause_in_the_halving_is_waited_out_and_resumed(
    sqlite_url: str, search_on: Callable[..., Search], check: Callable[..., Any]
) -> None:
    search = search_on(sqlite_url)
    launcher = search.launch(TRIALS, *FINISH)
    wait_until(lambda: search.trained() >= TRIALS // 2, "half of the trials")
    search.orders(seconds=0.1)  # so that the halving is met
    wait_until(lambda: under_way(search), "a training under way")
    store = ("--storage", search.url)
    paused = check("pause", search.name, *store)
    assert paused.code == 0 and "wait after their trial" in paused.out
    wait_until(
        lambda: not any(one.state == State.RUNNING for one in trainings(search)), "the end of what runs"
    )
    ended = [one.id for one in trainings(search) if one.has_ended]
    status = check("status", search.name, *store)
    assert "halving of 12 epochs: " in status.out and "paused by `search pause`" in status.out
    assert [one.id for one in trainings(search) if one.has_ended] == ended
    assert not launcher.ended()
    search.orders(seconds=0.005)
    resumed = check("resume", search.name, *store, "--data-dir", search.place / "data")
    assert "the workers that waited go on" in resumed.out, resumed.err
    launcher.require(0)
    search.settle(check, "", TRIALS)
    require_all_trained_once(search)
    said = check("stop", search.name, *store)
    assert "nobody works on it" in said.out


@pytest.mark.thorough  # the path of the test above, from another start
def test_finish_added_to_a_search_that_is_done_trains_the_second_stage_alone(
    sqlite_url: str, search_on: Callable[..., Search], check: Callable[..., Any]
) -> None:
    search = search_on(sqlite_url)
    search.orders(seconds=0.005)
    search.launch(TRIALS).require(0)
    assert trainings(search) == []
    looked = search.launch(TRIALS, *FINISH, "--dry-run")
    looked.require(0)
    assert "the best 16 for 12 epochs, finals of 2 and the best baseline for 13 epochs" in looked.said()
    assert "at most 192 epochs of halving and 78 of finals beside 24 of the trials" in looked.said()
    assert trainings(search) == [] and search.ask(lambda engine, _: studies.find(engine)).finish is None
    done = search.launch(TRIALS, *FINISH, "--out", "best.json", "--report", "report.html")
    done.require(0)
    stage = require_all_trained_once(search)
    assert f"best network: trial {stage.winner and stage.winner.number}," in done.said()
    search.settle(check, "", TRIALS)
    document = json.loads((search.place / "best.json").read_text())
    assert document["metrics"]["standing"] == "confirmed"
    assert document["origin"]["trial"] == (stage.winner and stage.winner.number)
    assert document["confirmation"]["seeds"] == 2
    assert "Halving and finals" in (search.place / "report.html").read_text()
    (row,) = json.loads(check("status", search.name, "--storage", search.url, "--format", "json").out)
    assert (row["second_stage"], row["winner"]) == ("over", document["origin"]["trial"])
    assert row["confirmed_accuracy"] == pytest.approx(document["confirmation"]["validation_accuracy"])


@pytest.mark.thorough  # a minute, half of which is trials; search/test_closing.py has what is decided when
def test_a_search_with_little_time_ends_its_trials_and_then_confirmed(
    faulty_url: str, search_on: Callable[..., Search]
) -> None:
    search = search_on(faulty_url)
    search.orders(seconds=0.05)
    launched = search.launch(5_000, *FINISH, "--timeout", "60s")
    launched.require(0)
    said = launched.said()
    assert "trials were closed in time after" in said and "to leave time for" in said
    stage = stage_of(search)
    assert stage.is_over and stage.winner and stage.trials < 5_000
    assert stage.trials == search.ask(lambda engine, _: len(stage.rows))
