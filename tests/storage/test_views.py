"""The views for readers of SQL: the same figures on both databases, of real networks."""

from dataclasses import replace
from typing import Any

import pytest
from ledger_samples import epoch, make_study, outcome, proposal, take
from sqlalchemy import Engine, text

from space.baselines import plain
from space.space import Task
from storage import candidates, database
from storage.row_types import State

DIGITS = Task(channels=1, image_size=8, classes=10)


def ask(engine: Engine, question: str) -> list[dict[str, Any]]:
    with database.reading(engine) as connection:
        return [dict(row) for row in connection.execute(text(question)).mappings()]


@pytest.fixture
def searched(engine: Engine) -> Engine:
    """Two studies; in the first, networks of one stage and two, and a pruned one that was ahead."""
    study = make_study(engine, trials=9, name="night")
    scores = {0: 0.80, 1: 0.90, 2: 0.90, 3: 0.95}
    for number, accuracy in scores.items():
        network = plain(DIGITS, 8 + 4 * number, (1, 1) if number else (1,))
        claim = take(engine, study)
        asked = replace(proposal(number), architecture=network.document(), parameters=1_000 - number)
        found = candidates.propose(engine, claim, asked)
        for row in (epoch(1, accuracy - 0.1), epoch(2, accuracy)):
            candidates.save_epoch(engine, claim, found.id, row)
        state = State.PRUNED if number == 3 else State.COMPLETED
        candidates.finish(engine, claim, found.id, state, outcome=outcome(accuracy))
    make_study(engine, name="nothing yet")
    return engine


def test_the_best_of_a_study_is_the_smaller_of_two_that_are_equal_and_none_that_was_pruned(
    searched: Engine,
) -> None:
    (best,) = ask(searched, "SELECT * FROM search_best")
    assert (best["study"], best["trial"], best["accuracy"]) == ("night", 2, 0.90)


def test_a_curve_has_a_row_an_epoch_of_every_network(searched: Engine) -> None:
    rows = ask(searched, "SELECT * FROM search_curves WHERE study = 'night' ORDER BY trial, epoch")
    assert [(row["trial"], row["epoch"]) for row in rows] == [(n, e) for n in range(4) for e in (1, 2)]
    assert rows[-1]["state"] == "pruned"
    assert rows[-1]["validation_accuracy"] == pytest.approx(0.95)


def test_a_choice_is_what_was_trained_to_the_end_with_it(searched: Engine) -> None:
    rows = ask(searched, "SELECT * FROM search_effects WHERE choice IN ('stages', 'stem width', 'block')")
    found = {(row["choice"], row["value"]): (row["trials"], row["mean_accuracy"]) for row in rows}
    assert found == {
        ("stages", "1"): (1, pytest.approx(0.8)),
        ("stages", "2"): (2, pytest.approx(0.9)),
        ("stem width", "8"): (1, pytest.approx(0.8)),
        ("stem width", "12"): (1, pytest.approx(0.9)),
        ("stem width", "16"): (1, pytest.approx(0.9)),
        ("block", "basic"): (3, pytest.approx(0.8667, abs=1e-4)),
    }


def test_a_switch_reads_alike_on_both_databases(searched: Engine) -> None:
    rows = ask(searched, "SELECT value FROM search_effects WHERE choice = 'preactivation'")
    assert [row["value"] for row in rows] == ["false"]
