from datetime import UTC, datetime, timedelta

import pytest
from ledger_samples import make_study
from sqlalchemy import Engine

from space.errors import StudyError
from storage import studies
from storage.studies import Control


def test_a_study_comes_back_as_it_was_created(engine: Engine) -> None:
    made = make_study(engine, trials=5, name="digits-1")
    assert studies.find(engine, "digits-1") == made
    assert made.settings == {"data": "digits", "epochs": [1, 2]}
    assert (made.trials, made.max_macs, made.order) == (5, None, Control.RUN)
    assert abs(datetime.now(UTC) - made.created_at) < timedelta(days=1)
    assert made.created_at.tzinfo is UTC


def test_without_a_name_the_newest_study_is_meant(engine: Engine) -> None:
    first, second = make_study(engine, name="b"), make_study(engine, name="a")
    assert studies.find(engine) == second
    assert studies.all_studies(engine) == [first, second]


def test_a_name_is_taken_once(engine: Engine) -> None:
    make_study(engine, name="digits")
    with pytest.raises(StudyError, match="'digits' already"):
        make_study(engine, name="digits")


def test_an_empty_store_says_how_to_launch(engine: Engine) -> None:
    with pytest.raises(StudyError, match="search launch --trials 200"):
        studies.find(engine)


def test_an_unknown_name_is_answered_with_those_that_come_close(engine: Engine) -> None:
    make_study(engine, name="digits-small")
    make_study(engine, name="cifar")
    with pytest.raises(StudyError, match="did you mean 'digits-small'"):
        studies.find(engine, "digit-smal")
    with pytest.raises(StudyError, match="search list"):
        studies.find(engine, "zzz")


def test_the_target_and_the_order_can_change(engine: Engine) -> None:
    study = make_study(engine, trials=3)
    studies.set_trials(engine, study.id, 9)
    assert studies.find(engine).trials == 9
    for order in Control:
        studies.set_control(engine, study.id, order)
        assert studies.find(engine).order is order


def test_a_study_that_was_deleted_is_named(engine: Engine) -> None:
    with pytest.raises(StudyError, match="id 77"):
        studies.set_trials(engine, 77, 9)
    with pytest.raises(StudyError, match="id 77"):
        studies.set_control(engine, 77, Control.STOP)


def test_the_id_of_a_study_that_was_deleted_is_given_to_no_other(engine: Engine) -> None:
    """Its workers know it by that number alone: they would train by its settings into the other."""
    had = [make_study(engine, name="first").id]
    for name in ("second", "third", "fourth"):
        studies.delete(engine, had[-1], lambda _: None)
        had.append(make_study(engine, name=name).id)
    assert had == sorted(set(had))
    studies.delete(engine, had[-1], lambda _: None)
    kept = make_study(engine, name="kept")
    studies.delete(engine, make_study(engine, name="newest").id, lambda _: None)
    studies.delete(engine, kept.id, lambda _: None)
    assert make_study(engine, name="last").id > kept.id + 1, "the newest had gone before it"
