import math
import re
from dataclasses import replace
from datetime import UTC

import pytest
from ledger_samples import epoch, make_study, outcome, proposal, start, take, train
from sqlalchemy import Engine, text

from space.errors import StudyError
from storage import candidates, database, leases, tables
from storage.row_types import DEDUPLICATED, MAX_ATTEMPTS, Epoch, State, TrainingMetrics
from storage.studies import Study


def ask(engine: Engine, question: str) -> list[tuple[object, ...]]:
    with database.reading(engine) as connection:
        return [tuple(row) for row in connection.execute(text(question))]


def test_a_candidate_comes_back_with_everything_that_was_proposed(engine: Engine) -> None:
    study = make_study(engine)
    _claim, candidate = start(engine, study, 4, worker="host:1")
    assert candidates.find(engine, study.id, 4) == candidate
    assert (candidate.state, candidate.worker, candidate.device) == (State.RUNNING, "host:1", "cpu")
    assert candidate.architecture == {"stages": 3}
    assert candidate.macs == 5_000_000_000
    assert candidate.proposed_at.tzinfo is UTC
    assert candidate.finished_at is None


def test_an_over_budget_candidate_is_kept_with_its_reason_and_never_runs(engine: Engine) -> None:
    study = make_study(engine)
    claim = take(engine, study)
    candidate = candidates.propose(engine, claim, proposal(0, over_budget="5,000,001 parameters"))
    assert (candidate.state, candidate.reason) == (State.OVER_BUDGET, "5,000,001 parameters")
    assert candidate.finished_at is not None
    again = candidates.propose(engine, claim, proposal(1, fingerprint="network-0"))
    assert again.state == State.RUNNING  # the same claim goes on, and what never ran is no twin


@pytest.mark.parametrize(
    "state", sorted(candidates.TRAINED | {State.DIVERGED, State.FAILED, State.OUT_OF_MEMORY})
)
def test_a_network_that_was_tried_is_a_repeat(engine: Engine, state: State) -> None:
    study = make_study(engine)
    claim, candidate = start(engine, study, 0)
    candidates.finish(engine, claim, candidate.id, state, reason="for the test")
    repeat = candidates.propose(engine, take(engine, study), proposal(1, fingerprint="network-0"))
    assert (repeat.state, repeat.repeat_of) == (State.REPEATED, 0)
    assert repeat.reason == f"the same network as trial 0, which is {state}"


def test_a_cancelled_network_may_be_trained_again(engine: Engine) -> None:
    study = make_study(engine)
    claim, candidate = start(engine, study, 0)
    candidates.finish(engine, claim, candidate.id, State.CANCELLED)
    assert (
        candidates.propose(engine, take(engine, study), proposal(1, fingerprint="network-0")).state
        == State.RUNNING
    )


def test_another_study_may_train_the_same_network(engine: Engine) -> None:
    start(engine, make_study(engine, name="a"), 0)
    assert start(engine, make_study(engine, name="b"), 0)[1].state == State.RUNNING


def test_an_outcome_is_written_whole(engine: Engine) -> None:
    study = make_study(engine)
    claim, candidate = start(engine, study, 0)
    measured = TrainingMetrics(0.875, 0.9, 0.5, 8, 12.0, 900.0)
    candidates.finish(engine, claim, candidate.id, State.PRUNED, reason="median", outcome=measured)
    row = candidates.find(engine, study.id, 0)
    assert (row.state, row.reason) == (State.PRUNED, "median")
    assert (
        TrainingMetrics(*(getattr(row, field) for field in TrainingMetrics.__dataclass_fields__)) == measured
    )
    assert row.finished_at is not None
    assert row.finished_at >= row.proposed_at


def test_a_call_repeated_after_a_broken_connection_writes_nothing_twice(engine: Engine) -> None:
    study = make_study(engine)
    claim, candidate = start(engine, study, 0)
    assert candidates.propose(engine, claim, proposal(0)) == candidate
    for _ in range(2):
        candidates.save_epoch(engine, claim, candidate.id, epoch(1))
    for _ in range(2):
        candidates.finish(engine, claim, candidate.id, State.COMPLETED, outcome=outcome(0.5))
    assert candidates.tally(engine, study.id)[State.COMPLETED] == 1
    assert candidates.epochs(engine, study.id) == {candidate.id: [epoch(1)]}


def test_epochs_come_back_in_order_with_what_was_not_a_number(engine: Engine) -> None:
    study = make_study(engine)
    claim, candidate = start(engine, study, 0)
    _other, second = start(engine, study, 1)
    candidates.save_epoch(engine, claim, candidate.id, Epoch(2, math.nan, math.inf, 0.1, 0.05, 1.0))
    candidates.save_epoch(engine, claim, candidate.id, epoch(1))
    first, diverged = candidates.epochs(engine, study.id, [candidate.id])[candidate.id]
    assert first == epoch(1)
    assert (diverged.epoch, diverged.validation_accuracy) == (2, 0.1)
    assert math.isnan(diverged.train_loss)
    assert math.isnan(diverged.validation_loss)
    assert candidates.epochs(engine, study.id, [second.id]) == {}


def test_the_best_is_the_most_accurate_and_of_equals_the_smaller(engine: Engine) -> None:
    study = make_study(engine, trials=9)
    for number, accuracy in enumerate([0.5, 0.9, 0.7, 0.9, 0.9]):
        smaller = replace(proposal(number), parameters=[900, 1_200, 900, 1_100, 1_100][number])
        claim = take(engine, study)
        made = candidates.propose(engine, claim, smaller)
        candidates.finish(engine, claim, made.id, State.COMPLETED, outcome=outcome(accuracy))
    claim, pruned = start(engine, study, 5)
    candidates.finish(engine, claim, pruned.id, State.PRUNED, outcome=outcome(0.99))
    assert [one.number for one in candidates.best(engine, study.id, 4)] == [3, 4, 1, 2]
    assert [one.number for one in candidates.best(engine, study.id)] == [3]


def test_there_is_no_best_where_nothing_was_trained(engine: Engine) -> None:
    assert candidates.best(engine, make_study(engine).id) == []


def test_candidates_are_filtered_sorted_and_cut(engine: Engine) -> None:
    study = make_study(engine, trials=9)
    for number, accuracy in enumerate([0.5, 0.9, 0.7]):
        train(engine, study, number, accuracy)
    start(engine, study, 3)

    def numbers(**how: object) -> list[int]:
        return [one.number for one in candidates.candidates(engine, study.id, **how)]  # type: ignore[arg-type]

    assert numbers() == [0, 1, 2, 3]
    assert numbers(sort="accuracy", descending=True) == [1, 2, 0, 3]
    assert numbers(sort="accuracy") == [0, 2, 1, 3]
    assert numbers(states=[State.RUNNING]) == [3]
    assert numbers(descending=True, limit=2) == [3, 2]
    with pytest.raises(StudyError, match="'colour'; choose one of accuracy"):
        numbers(sort="colour")


def test_an_unknown_number_is_named(engine: Engine) -> None:
    with pytest.raises(StudyError, match="no trial 137"):
        candidates.find(engine, make_study(engine).id, 137)


def test_the_tally_has_every_state(engine: Engine) -> None:
    study = make_study(engine)
    train(engine, study, 0, 0.5)
    tally = candidates.tally(engine, study.id)
    assert set(tally) == set(State)
    assert {state: count for state, count in tally.items() if count} == {State.COMPLETED: 1}


def test_plain_sql_answers_what_people_ask(engine: Engine) -> None:
    study = make_study(engine, trials=20)
    for number in range(12):
        train(engine, study, number, accuracy=number / 16, depth=2 + number % 2)
    claim, hopeless = start(engine, study, 12)
    candidates.finish(engine, claim, hopeless.id, State.PRUNED, reason="below the median at epoch 2")
    assert ask(
        engine,
        "SELECT number FROM search_candidates WHERE state = 'completed' ORDER BY accuracy DESC LIMIT 10",
    ) == [(number,) for number in range(11, 1, -1)]
    assert ask(
        engine,
        "SELECT depth, avg(accuracy) FROM search_candidates WHERE state = 'completed'"
        " GROUP BY depth ORDER BY depth",
    ) == [(2, 5 / 16), (3, 6 / 16)]
    assert ask(
        engine,
        "SELECT c.number, c.reason FROM search_candidates c JOIN search_studies s ON s.id = c.study_id"
        " WHERE s.name = 'digits' AND c.state = 'pruned'",
    ) == [(12, "below the median at epoch 2")]


def test_what_broke_off_is_owed_until_it_is_tried_again(engine: Engine) -> None:
    study = make_study(engine, trials=9)
    assert candidates.next_retry(engine, study.id) is None
    _, lost = start(engine, study, 0, worker="dead")
    leases.evict(engine, study.id, "dead")
    claim, cancelled = start(engine, study, 1)
    candidates.finish(engine, claim, cancelled.id, State.CANCELLED)
    assert owed(engine, study) == (State.LOST, lost.id)
    again = replace(proposal(2, fingerprint=lost.fingerprint), attempt=2)
    candidates.propose(engine, take(engine, study, "other"), again)
    assert owed(engine, study) == (State.CANCELLED, cancelled.id)
    leases.evict(engine, study.id, "other")
    assert owed(engine, study) == (State.CANCELLED, cancelled.id)  # the older goes first
    train(engine, study, 3, 0.5)
    last = replace(proposal(4, fingerprint=cancelled.fingerprint), attempt=1)
    candidates.propose(engine, take(engine, study, "third"), last)
    assert owed(engine, study)[0] == State.LOST
    candidates.propose(engine, take(engine, study, "fourth"), replace(again, number=5, attempt=MAX_ATTEMPTS))
    leases.evict(engine, study.id, "fourth")
    assert candidates.next_retry(engine, study.id) is None


def owed(engine: Engine, study: Study) -> tuple[State, int]:
    found = candidates.next_retry(engine, study.id)
    assert found is not None
    return found.state, found.id


def test_an_earlier_network_is_found_by_the_index_of_its_states(sqlite_url: str) -> None:
    assert set(re.findall(r"'(\w+)'", tables.DEDUPLICATED)) == set(DEDUPLICATED)
    engine = database.connect(sqlite_url)
    database.prepare(engine)
    statement = candidates._twin().compile(engine, compile_kwargs={"render_postcompile": True})
    with database.reading(engine) as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", (1, "x")).all()
    assert "search_candidates_fingerprint" in str(plan)
    engine.dispose()


def test_a_study_has_the_times_of_its_first_proposal_and_of_its_last_end(engine: Engine) -> None:
    study = make_study(engine)
    assert candidates.times(engine, study.id) is None
    _, running = start(engine, study, 0)
    assert candidates.times(engine, study.id) == (running.proposed_at, running.proposed_at)
    ended = train(engine, study, 1, 0.5)
    assert candidates.times(engine, study.id) == (running.proposed_at, ended.finished_at)


def test_what_was_measured_is_read_without_the_networks(engine: Engine) -> None:
    study = make_study(engine)
    train(engine, study, 0, 0.5)
    start(engine, study, 1)
    found = candidates.measured(engine, study.id)
    assert [(row.number, row.state, row.accuracy, row.is_completed) for row in found] == [
        (0, State.COMPLETED, 0.5, True), (1, State.RUNNING, None, False),
    ]  # fmt: skip
    assert (found[0].images_per_second, found[0].device) == (900.0, "cpu")
