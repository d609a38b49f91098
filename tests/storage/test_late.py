import pytest
from ledger_samples import everything, make_study, outcome, start
from sqlalchemy import Engine, text

from space.errors import StudyError
from storage import candidates, database, leases
from storage.row_types import Late, State, TrainingMetrics


def test_a_late_result_is_kept_once_and_changes_nothing(engine: Engine) -> None:
    study = make_study(engine)
    claim, candidate = start(engine, study, 0)
    leases.evict(engine, study.id, claim.worker)
    before = everything(engine)
    for accuracy in (0.75, 0.25):
        candidates.keep_late(engine, claim, candidate.id, State.COMPLETED, outcome(accuracy))
    assert everything(engine) == before
    (kept,) = candidates.late(engine, study.id)
    measured = (0.75, 0.75, 0.5, 8, 12.0, 900.0)
    assert kept == Late(candidate.id, claim.token, "one", State.COMPLETED, *measured, kept.arrived_at)
    lost = candidates.find(engine, study.id, 0).finished_at
    assert lost is not None and lost <= kept.arrived_at


def test_late_results_come_back_in_order_and_by_study(engine: Engine) -> None:
    study, other = make_study(engine, name="a"), make_study(engine, name="b")
    for number in (0, 1):
        claim, candidate = start(engine, study, number)
        leases.evict(engine, study.id, claim.worker)
        candidates.keep_late(engine, claim, candidate.id, State.FAILED, None)
    assert [one.accuracy for one in candidates.late(engine, study.id)] == [None, None]
    tokens = [one.token for one in candidates.late(engine, study.id)]
    assert tokens == sorted(tokens)
    assert candidates.late(engine, other.id) == []


def test_a_late_loss_that_is_no_number_is_kept_without_it(engine: Engine) -> None:
    study = make_study(engine)
    claim, candidate = start(engine, study, 0)
    leases.evict(engine, study.id, claim.worker)
    nan = float("nan")
    candidates.keep_late(
        engine, claim, candidate.id, State.DIVERGED, TrainingMetrics(0.1, 0.1, nan, 1, 2.0, 9.0)
    )
    (kept,) = candidates.late(engine, study.id)
    assert (kept.loss, kept.epochs) == (None, 1)


def test_a_late_result_of_a_trial_that_was_never_its_own_is_not_kept(engine: Engine) -> None:
    study = make_study(engine)
    mine, _candidate = start(engine, study, 0)
    _other, candidate = start(engine, study, 1, worker="two")
    candidates.keep_late(engine, mine, candidate.id, State.COMPLETED, outcome(0.5))
    candidates.keep_late(engine, mine, 4_711, State.COMPLETED, outcome(0.5))
    assert candidates.late(engine, study.id) == []


def test_a_late_result_of_a_deleted_study_is_an_error(engine: Engine) -> None:
    study = make_study(engine)
    claim, candidate = start(engine, study, 0)
    with database.writing(engine) as connection:
        connection.execute(text("DELETE FROM search_studies"))
    with pytest.raises(StudyError, match="was deleted"):
        candidates.keep_late(engine, claim, candidate.id, State.COMPLETED, outcome(0.5))
