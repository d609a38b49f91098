"""Trainings of the second stage: asked for once, claimed by one worker, taken back from the dead."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from ledger_samples import LEASE_SECONDS, epoch, expire, make_study, outcome, start, take, train
from sqlalchemy import Engine, text

from space.errors import LeaseLostError, StudyError
from storage import candidates, database, invariants, leases, rungs, studies
from storage.leases import Claim, NoClaim
from storage.row_types import RungEntry, RungTraining, Stage, State
from storage.studies import Control, Study


def finished_study(engine: Engine, trials: int = 2) -> Study:
    """A study whose trials are done."""
    study = make_study(engine, trials=trials)
    for number in range(trials):
        claim, candidate = start(engine, study, number)
        epochs = [epoch(n) for n in range(1, 9)]
        trained = outcome(0.5 + number / 10)
        candidates.finish(engine, claim, candidate.id, State.COMPLETED, outcome=trained, epochs=epochs)
    return study


def entries(engine: Engine, study: Study, seed: int = 0) -> list[RungEntry]:
    rows = candidates.candidates(engine, study.id)
    return [RungEntry(row.id, Stage.HALVING, 32, seed) for row in rows]


def claim(engine: Engine, study: Study, worker: str = "one") -> tuple[Claim, RungTraining]:
    answer = rungs.claim(engine, study.id, worker, LEASE_SECONDS, "cpu")
    assert isinstance(answer, tuple), answer
    return answer


def rows(engine: Engine, study: Study) -> list[RungTraining]:
    assert invariants.check(engine, study.id) == []
    return rungs.of_study(engine, study.id)


def test_a_plan_is_replaced_only_where_neither_it_nor_what_was_asked_for_has_changed(engine: Engine) -> None:
    study, plan, other = finished_study(engine), {"finals": 1}, {"finals": 2}
    replaced = partial(studies.replace_finish, engine, study.id, other)
    assert not replaced(by=plan, entered=0)
    studies.set_finish(engine, study.id, plan)
    rungs.enter(engine, study.id, entries(engine, study), by=plan)
    assert not replaced(by=plan, entered=0)
    assert studies.get(engine, study.id).finish == plan
    assert replaced(by=plan, entered=2)
    assert studies.get(engine, study.id).finish == other
    with pytest.raises(StudyError, match="id 77"):
        studies.replace_finish(engine, 77, other, by=None, entered=0)


def test_what_is_asked_for_twice_is_entered_once(engine: Engine) -> None:
    study = finished_study(engine)
    assert rungs.enter(engine, study.id, entries(engine, study)) == 2
    assert rungs.enter(engine, study.id, entries(engine, study)) == 0
    assert rungs.enter(engine, study.id, entries(engine, study, seed=1)) == 2
    assert [one.entry for one in rows(engine, study)] == entries(engine, study) + entries(engine, study, 1)
    assert [one.number for one in rows(engine, study)] == [0, 1, 0, 1]


def test_nothing_is_entered_while_trials_are_owed(engine: Engine) -> None:
    study = finished_study(engine)
    studies.set_trials(engine, study.id, 3)
    assert rungs.enter(engine, study.id, entries(engine, study)) == 0
    assert rungs.claim(engine, study.id, "one", LEASE_SECONDS) is NoClaim.DONE


def test_what_was_chosen_by_a_plan_that_is_no_more_is_not_entered(engine: Engine) -> None:
    study = finished_study(engine)
    first, second = {"finals": {"epochs": 9, "until": 1764201600.123456}}, {"finals": {"epochs": 12}}
    studies.set_finish(engine, study.id, first)
    known = studies.get(engine, study.id).finish
    assert rungs.enter(engine, study.id, entries(engine, study), by=known, instead=second) == 2
    assert studies.get(engine, study.id).finish == second
    assert rungs.enter(engine, study.id, entries(engine, study, seed=1), by=known, instead=first) == 0
    assert studies.get(engine, study.id).finish == second
    assert rungs.enter(engine, study.id, entries(engine, study, seed=1), by=second) == 2


def test_workers_that_enter_and_claim_at_once_share_the_trainings(engine: Engine) -> None:
    study = finished_study(engine, trials=4)

    def work(name: str) -> list[int]:
        rungs.enter(engine, study.id, entries(engine, study))
        mine = []
        while isinstance(answer := rungs.claim(engine, study.id, name, LEASE_SECONDS), tuple):
            mine.append(answer[1].number)
            rungs.finish(engine, answer[0], answer[1].id, State.COMPLETED, outcome=outcome(0.5, epochs=32))
        return mine

    with ThreadPoolExecutor(4) as threads:
        trained = [number for found in threads.map(work, "abcd") for number in found]
    assert sorted(trained) == [0, 1, 2, 3]
    assert [one.state for one in rows(engine, study)] == [State.COMPLETED] * 4


def test_a_training_is_kept_from_its_claim_to_its_end(engine: Engine) -> None:
    study = finished_study(engine)
    rungs.enter(engine, study.id, entries(engine, study))
    held, training = claim(engine, study)
    assert (training.number, training.state, training.device) == (0, State.RUNNING, "cpu")
    rungs.save_epoch(engine, held, training.id, epoch(3, 0.25))
    (running,) = leases.running(engine, study.id)
    assert (running.number, running.epoch, running.epochs, running.accuracy) == (0, 3, 32, 0.25)
    rungs.finish(engine, held, training.id, State.COMPLETED, outcome=outcome(0.75, epochs=32))
    ended = rows(engine, study)[0]
    assert (ended.state, ended.epoch, ended.accuracy, ended.seconds) == (State.COMPLETED, 32, 0.75, 12.0)
    assert leases.running(engine, study.id) == []
    second, other = claim(engine, study)
    assert other.number == 1
    assert rungs.claim(engine, study.id, "two", LEASE_SECONDS) is NoClaim.WAIT
    rungs.finish(engine, second, other.id, State.DIVERGED, reason="nan")
    assert rungs.claim(engine, study.id, "two", LEASE_SECONDS) is NoClaim.DONE
    assert rows(engine, study)[1].reason == "nan"


def test_an_answer_that_was_lost_is_given_again(engine: Engine) -> None:
    study = finished_study(engine)
    rungs.enter(engine, study.id, entries(engine, study))
    assert claim(engine, study) == claim(engine, study)
    held, training = claim(engine, study)
    done = outcome(0.5, epochs=32)
    rungs.finish(engine, held, training.id, State.COMPLETED, outcome=done)
    rungs.finish(engine, held, training.id, State.COMPLETED, outcome=done)
    assert claim(engine, study)[1].number == 1


def test_a_dead_workers_training_waits_for_another_one_until_its_attempts_are_used(engine: Engine) -> None:
    study = finished_study(engine, trials=1)
    rungs.enter(engine, study.id, entries(engine, study))
    held, training = claim(engine, study)
    expire(engine, held)
    assert leases.reap(engine, study.id) == [], "no trial is lost by it, so Optuna is told nothing"
    with pytest.raises(LeaseLostError):
        rungs.save_epoch(engine, held, training.id, epoch(1))
    with pytest.raises(LeaseLostError):
        rungs.finish(engine, held, training.id, State.COMPLETED, outcome=outcome(0.5, epochs=32))
    (waiting,) = rows(engine, study)
    assert (waiting.state, waiting.attempt) == (None, 2)
    assert "was silent for" in (waiting.reason or "")
    for attempt in (2, 3):
        assert claim(engine, study, "two")[1].attempt == attempt
        assert leases.evict(engine, study.id, "two") == []
    (lost,) = rows(engine, study)
    assert (lost.state, lost.attempt, lost.reason) == (State.LOST, 3, "worker two died")
    assert rungs.claim(engine, study.id, "three", LEASE_SECONDS) is NoClaim.DONE
    (candidate,) = candidates.candidates(engine, study.id)
    assert candidate.state == State.COMPLETED, "what the brief training came to stays"


def test_a_training_that_was_told_to_end_waits_and_that_is_no_attempt(engine: Engine) -> None:
    study = finished_study(engine, trials=1)
    rungs.enter(engine, study.id, entries(engine, study))
    held, training = claim(engine, study)
    rungs.finish(engine, held, training.id, State.CANCELLED, reason="the worker was told to end")
    (waiting,) = rows(engine, study)
    assert (waiting.state, waiting.attempt, waiting.finished_at) == (None, 1, None)
    assert claim(engine, study, "two")[1].id == training.id


@pytest.mark.parametrize("order", sorted(set(Control) - {Control.RUN}))
def test_a_study_that_does_not_run_gives_nothing_and_takes_back_what_was_never_heard(
    engine: Engine, order: Control
) -> None:
    study = finished_study(engine)
    rungs.enter(engine, study.id, entries(engine, study))
    claim(engine, study)
    studies.set_control(engine, study.id, order)
    assert rungs.claim(engine, study.id, "one", LEASE_SECONDS) is NoClaim.STOPPED
    assert leases.running(engine, study.id) == []
    assert [one.state for one in rows(engine, study)] == [None, None]


def test_trials_that_are_given_up_leave_the_trainings_of_their_workers(engine: Engine) -> None:
    study = finished_study(engine)
    rungs.enter(engine, study.id, entries(engine, study))
    held, training = claim(engine, study, "slow")
    assert leases.give_up_trials(engine, study.id, ["slow"], "worker {worker} was slow") == []
    leases.renew(engine, held, LEASE_SECONDS)
    rungs.finish(engine, held, training.id, State.COMPLETED, outcome=outcome(0.5, epochs=32))
    assert [one.state for one in rows(engine, study)] == [State.COMPLETED, None]


def test_claims_of_the_second_stage_take_no_trial_from_those_asked_for_later(engine: Engine) -> None:
    study = finished_study(engine, trials=1)
    rungs.enter(engine, study.id, entries(engine, study))
    claim(engine, study)
    studies.set_trials(engine, study.id, 2)
    assert studies.find(engine, study.name).trials == 2
    assert isinstance(leases.claim(engine, study.id, "two", LEASE_SECONDS), Claim)
    assert rows(engine, study)[0].state == State.RUNNING


def test_what_the_finals_store_beside_is_in_the_same_transaction(engine: Engine) -> None:
    study = finished_study(engine, trials=1)
    rungs.enter(engine, study.id, entries(engine, study))
    held, training = claim(engine, study)

    def fail(_connection: object) -> None:
        raise RuntimeError("for the test")

    with pytest.raises(RuntimeError):
        rungs.finish(engine, held, training.id, State.COMPLETED, in_transaction=fail)
    assert rows(engine, study)[0].state == State.RUNNING


CHANGE = "UPDATE search_rung_trainings SET {} WHERE epoch IS NOT NULL".format
VIOLATIONS = {
    CHANGE("attempt = 4"): "is attempt 4, and there are 3 at most",
    CHANGE("accuracy = NULL"): "is completed without an accuracy after its last epoch",
    CHANGE("epoch = 31"): "is completed without an accuracy after its last epoch",
    CHANGE("finished_at = NULL"): "is completed and has no finished_at",
    CHANGE("state = 'running', finished_at = NULL"): "has 0 claims, where one that runs has one",
    "UPDATE search_rung_trainings SET state = NULL WHERE state = 'running'": "has 1 claims, where one",
}


@pytest.mark.parametrize("statement", VIOLATIONS)
def test_what_is_wrong_in_the_second_stage_is_named(engine: Engine, statement: str) -> None:
    study = finished_study(engine)
    rungs.enter(engine, study.id, entries(engine, study))
    held, training = claim(engine, study)
    rungs.finish(engine, held, training.id, State.COMPLETED, outcome=outcome(0.75, epochs=32))
    claim(engine, study)
    assert invariants.check(engine, study.id) == []
    with database.writing(engine) as connection:
        connection.execute(text(statement))
    (line,) = invariants.check(engine, study.id)
    assert line.startswith("the training of 32 epochs, seed 0, of trial") and VIOLATIONS[statement] in line


def test_a_training_of_a_network_that_was_not_trained_to_the_end_is_a_violation(engine: Engine) -> None:
    study = finished_study(engine)
    rungs.enter(engine, study.id, entries(engine, study)[:1])
    with database.writing(engine) as connection:
        connection.execute(text("UPDATE search_candidates SET state = 'pruned' WHERE number = 0"))
    (line,) = invariants.check(engine, study.id)
    assert "is of a network that was not trained to the end in this study" in line


def test_the_plan_of_the_second_stage_is_kept_with_the_study(engine: Engine) -> None:
    study = make_study(engine)
    assert study.finish is None
    studies.set_finish(engine, study.id, {"rungs": []})
    assert studies.find(engine, study.name).finish == {"rungs": []}
    train(engine, study, 0, 0.5)
    assert isinstance(take(engine, study), Claim)
