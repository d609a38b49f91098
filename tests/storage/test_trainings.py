"""Full trainings are stored whole, and a run that is stored again replaces itself."""

from dataclasses import asdict, replace

from ledger_samples import make_study
from sqlalchemy import Engine

from storage import studies, trainings
from storage.trainings import Training

ONE = Training(
    run="r1",
    seed=0,
    subject="night:7",
    study="night",
    trial=7,
    fingerprint="f",
    parameters=10,
    macs=5_000_000_000,
    architecture={"a": [1]},
    recipe={"epochs": 2},
    data={"spec": "digits"},
    epochs=2,
    accuracy=0.5,
    best_accuracy=0.6,
    best_epoch=1,
    loss=1.5,
    test_accuracy=0.55,
    test_loss=1.4,
    test_images=100,
    seconds=3.0,
    device="cpu",
    versions={"torch": "2"},
    folder="there",
)


def test_what_was_stored_is_found_again(engine: Engine) -> None:
    untested = replace(ONE, seed=1, test_accuracy=None, test_loss=None, test_images=None)
    trainings.save(engine, [ONE, untested])
    found = trainings.of_study(engine, "night")
    assert [{**asdict(row), "finished_at": None} for row in found] == [
        {**asdict(row), "finished_at": None} for row in (ONE, untested)
    ]
    assert all(row.finished_at.tzinfo for row in found)


def test_a_run_that_is_stored_again_is_there_once(engine: Engine) -> None:
    trainings.save(engine, [ONE])
    trainings.save(engine, [replace(ONE, accuracy=0.7), replace(ONE, seed=1)])
    assert [(row.seed, row.accuracy) for row in trainings.of_study(engine, "night")] == [(0, 0.7), (1, 0.5)]


def test_trainings_of_other_studies_and_of_none_are_told_apart(engine: Engine) -> None:
    trainings.save(engine, [ONE, replace(ONE, run="r2", study=None, trial=None)])
    assert len(trainings.of_study(engine, "night")) == 1
    assert trainings.of_study(engine, "day") == []
    assert len(trainings.of_study(engine, None)) == 2


def test_trainings_of_one_trial_are_those_of_its_study_alone(engine: Engine) -> None:
    more = [replace(ONE, run="r2", trial=8), replace(ONE, run="r3", study="day")]
    trainings.save(engine, [ONE, *more])
    assert [row.run for row in trainings.of_study(engine, "night", 7)] == ["r1"]


def test_full_trainings_are_known_by_the_name_that_their_study_is_given(engine: Engine) -> None:
    study = make_study(engine, name="night")
    trainings.save(engine, [ONE, replace(ONE, run="r2", study="day")])
    studies.rename(engine, study.id, "monday", lambda _: None)
    assert [row.run for row in trainings.of_study(engine, "monday")] == ["r1"]
    assert trainings.of_study(engine, "night") == []
    assert [row.run for row in trainings.of_study(engine, "day")] == ["r2"]


def test_finals_of_a_study_that_was_deleted_stay_where_another_gets_its_number(engine: Engine) -> None:
    """As SQLite does it: the next study has the number of the last one that was deleted."""
    study = make_study(engine)
    run = trainings.run_of_finals(study.id, 7, 200)
    elsewhere = trainings.run_of_finals(10 * study.id, 7, 200)
    trainings.save(
        engine, [replace(ONE, run=run), replace(ONE, run=run, seed=1), replace(ONE, run=elsewhere)]
    )
    studies.delete(engine, study.id, lambda _: None)
    trainings.save(engine, [replace(ONE, run=run, accuracy=0.9)])
    found = trainings.of_study(engine, "night")
    assert [row.accuracy for row in found] == [0.5, 0.5, 0.5, 0.9]
    assert found[0].run == found[1].run != run and found[2].run == elsewhere
