from dataclasses import replace

import pytest
from ledger_samples import epoch, expire, make_study, outcome, proposal, start, take
from sqlalchemy import Engine, text

from storage import candidates, database, invariants, leases
from storage.row_types import State
from storage.studies import Study

# One trial of each kind, in this order.
COMPLETED, REPEATED, OVER_BUDGET, LOST, RETRY, PRUNED = range(6)


@pytest.fixture
def study(engine: Engine) -> Study:
    """A study with a trial of each kind, one of which runs, a late result, and a claim not used yet."""
    study = make_study(engine, trials=4)
    claim, candidate = start(engine, study, COMPLETED)
    for number in (1, 2):
        candidates.save_epoch(engine, claim, candidate.id, epoch(number))
    candidates.finish(engine, claim, candidate.id, State.COMPLETED, outcome=outcome(0.5, epochs=2))
    claim = take(engine, study)
    candidates.propose(engine, claim, proposal(REPEATED, fingerprint="network-0"))
    candidates.propose(engine, claim, proposal(OVER_BUDGET, over_budget="too big"))
    candidate = candidates.propose(engine, claim, proposal(LOST))
    expire(engine, claim)
    leases.reap(engine, study.id)
    candidates.keep_late(engine, claim, candidate.id, State.COMPLETED, outcome(0.5))
    retry = replace(proposal(RETRY), fingerprint=candidate.fingerprint, seed=candidate.seed, attempt=2)
    candidates.propose(engine, take(engine, study), retry)
    claim, candidate = start(engine, study, PRUNED, worker="two")
    candidates.finish(engine, claim, candidate.id, State.PRUNED, outcome=outcome(0.5))
    take(engine, study, "two")
    return study


def change(engine: Engine, *statements: str) -> None:
    with database.writing(engine) as connection:
        for statement in statements:
            connection.execute(text(statement))


def test_books_that_are_right_give_nothing_to_say(engine: Engine, study: Study) -> None:
    assert len(candidates.candidates(engine, study.id)) == 6
    assert invariants.check(engine, study.id) == []


def test_an_empty_study_is_right(engine: Engine) -> None:
    assert invariants.check(engine, make_study(engine).id) == []


TRIAL = "UPDATE search_candidates SET {} WHERE number = {}".format
POINT = "UPDATE search_claims SET candidate_id = {} WHERE candidate_id IS NULL"
VIOLATIONS = {
    TRIAL("state = 'asleep'", OVER_BUDGET): "trial 2 is 'asleep': the states do not add up to the proposals",
    TRIAL("accuracy = NULL", COMPLETED): "trial 0 is completed and has no accuracy",
    TRIAL("epochs = NULL", COMPLETED): "trial 0 is completed and has no epochs",
    TRIAL("finished_at = NULL", COMPLETED): "trial 0 is completed and has no finished_at",
    TRIAL("finished_at = NULL", LOST): "trial 3 is lost and has no finished_at",
    TRIAL("repeat_of = NULL", REPEATED): "trial 1 repeats trial None, which is not an earlier one",
    TRIAL("repeat_of = 77", REPEATED): "trial 1 repeats trial 77, which is not an earlier one",
    TRIAL("repeat_of = 4, fingerprint = 'network-3'", REPEATED): "trial 1 repeats trial 4, which is not an",
    TRIAL("repeat_of = 5", REPEATED): "trial 1 repeats trial 5, which is not an earlier one of the same",
    TRIAL("attempt = 0", COMPLETED): "trial 0 is attempt 0, and there are 3 at most",
    TRIAL("seed = 99", RETRY): "trial 4 is attempt 2, and none before it had this network and seed",
    TRIAL("fingerprint = 'new'", RETRY): "trial 4 is attempt 2, and none before it had this network and seed",
    TRIAL("attempt = 3", RETRY): "trial 4 is attempt 3, and none before it had this network and seed",
    TRIAL("attempt = 2", PRUNED): "trial 5 is attempt 2, and none before it had this network and seed",
    TRIAL("epochs = 3", COMPLETED): "trial 0 is completed after 3 epochs, and not these but 2 are stored",
    "UPDATE search_epochs SET epoch = 3 WHERE epoch = 1": "trial 0 is completed after 2 epochs, and not",
    "DELETE FROM search_epochs": "trial 0 is completed after 2 epochs, and not these but 0 are stored",
    "UPDATE search_studies SET trials = 3": "2 claims are held and 2 are trained, and 3 were asked for",
    "UPDATE search_claims SET candidate_id = NULL": "trial 4 is running and has 0 claims, not one",
    POINT.format(
        "(SELECT max(candidate_id) FROM search_claims)"
    ): "trial 4 is running and has 2 claims, not one",
    POINT.format(
        f"(SELECT id FROM search_candidates WHERE number = {PRUNED})"
    ): "claim 5 of worker 'two' holds the candidate with the id 6, which is pruned",
    "UPDATE search_late SET token = 4711": "worker 'one' was late with trial 3, which its claim",
}


@pytest.mark.parametrize("statement", VIOLATIONS)
def test_a_violation_is_named_alone(engine: Engine, study: Study, statement: str) -> None:
    change(engine, statement)
    (line,) = invariants.check(engine, study.id)
    assert line.startswith(VIOLATIONS[statement])


def test_more_attempts_than_there_are_is_a_violation(engine: Engine, study: Study) -> None:
    change(engine, TRIAL("attempt = 3", LOST), TRIAL("attempt = 4", RETRY))
    assert "trial 4 is attempt 4, and there are 3 at most" in invariants.check(engine, study.id)


def test_more_trained_than_asked_for_is_a_violation(engine: Engine, study: Study) -> None:
    change(engine, "UPDATE search_studies SET trials = 1")
    assert invariants.check(engine, study.id) == [
        "2 are trained, and 1 were asked for",
        "2 claims are held and 2 are trained, and 1 were asked for",
    ]


def test_what_runs_cannot_have_ended(engine: Engine, study: Study) -> None:
    change(engine, TRIAL("finished_at = '2026-01-02 03:04:05'", RETRY))
    (line,) = invariants.check(engine, study.id)
    assert line.startswith("trial 4 is running and has finished at 2026-01-02 03:04:05")


def test_a_network_that_ran_twice_is_a_violation(engine: Engine, study: Study) -> None:
    change(engine, "DROP INDEX search_candidates_fingerprint", TRIAL("fingerprint = 'network-0'", PRUNED))
    assert invariants.check(engine, study.id) == ["2 trials, 0 and 5 among them, ran the network network-0"]


def test_a_claim_on_a_trial_of_another_study_is_a_violation(engine: Engine, study: Study) -> None:
    other = make_study(engine, name="other")
    start(engine, other, 7)
    change(
        engine,
        POINT.format("(SELECT id FROM search_candidates WHERE number = 7)"),
    )
    (line,) = invariants.check(engine, study.id)
    assert line == "claim 5 of worker 'two' holds the candidate with the id 7, which is of another study"
    assert invariants.check(engine, other.id) == ["trial 7 is running and has 2 claims, not one"]


def test_what_is_wrong_in_one_study_is_not_held_against_another(engine: Engine, study: Study) -> None:
    other = make_study(engine, name="other")
    change(engine, TRIAL("accuracy = NULL", COMPLETED), "UPDATE search_late SET token = 4711")
    assert len(invariants.check(engine, study.id)) == 2
    assert invariants.check(engine, other.id) == []
