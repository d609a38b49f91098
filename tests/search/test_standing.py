"""How far a winner is ahead of the best baseline, with the interval of the difference."""

from dataclasses import replace

import pytest
from comparison_samples import add_study
from ledger_samples import make_study, outcome, proposal, take
from report_samples import trial
from sqlalchemy import Engine, update

from search.study import reader, run_state, standing, state_text
from search.study.statistics import difference, wilson
from storage import candidates, database, tables
from storage.row_types import Candidate, State

GUESS = "[3,3,3] at full budget"


def trained(engine: Engine, scores: list[tuple[float, str | None]]) -> list[Candidate]:
    """The rows of a study in which these were trained to the end, and one baseline diverged."""
    study = make_study(engine, len(scores) + 1)
    ends = [(State.COMPLETED, *score) for score in scores] + [
        (State.DIVERGED, 0.99, "[1,1,1] at full budget")
    ]
    for number, (state, accuracy, baseline) in enumerate(ends):
        claim = take(engine, study)
        row = candidates.propose(engine, claim, proposal(number, baseline=baseline))
        candidates.finish(engine, claim, row.id, state, outcome=outcome(accuracy))
    return candidates.yardstick(engine, study.id)


def said(engine: Engine, scores: list[tuple[float, str | None]], images: int = 3_000) -> str | None:
    return standing.describe(standing.standing(trained(engine, scores), images))


@pytest.mark.parametrize(("right", "images"), [(0, 10), (10, 10), (90, 100), (4_567, 5_000)])
def test_the_interval_of_an_accuracy_is_wilsons(right: int, images: int) -> None:
    from scipy import stats

    expected = stats.binomtest(right, images).proportion_ci(method="wilson")
    assert wilson(right / images, images) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_the_interval_of_a_difference_is_newcombes() -> None:
    """Table II of his paper, method 10: 9/10 less 3/10, 6/7 less 2/7, and 10/10 less 0/10."""
    for one, other, images, low, high in (
        (0.9, 0.3, 10, 0.1705, 0.8090),
        (6 / 7, 2 / 7, 7, 0.0582, 0.8062),
        (1.0, 0.0, 10, 0.6075, 1.0),
    ):
        found = difference(one, other, images)
        assert (round(found.low, 4), round(found.high, 4)) == (low, high)
        back = difference(other, one, images)
        assert (back.points, back.low, back.high) == pytest.approx((-found.points, -found.high, -found.low))


def test_a_winner_that_is_ahead_is_said_to_be_with_the_interval(engine: Engine) -> None:
    scores = [(0.85, "[2,2,2] at full budget"), (0.889, GUESS), (0.91, None), (0.8, None)]
    assert said(engine, scores) == (
        "the best baseline [3,3,3] at full budget: 88.90%; the winner is 2.1 points ahead"
        " (95% interval 0.6 to 3.6)"
    )


def test_a_lead_within_its_interval_may_be_luck(engine: Engine) -> None:
    assert said(engine, [(0.889, GUESS), (0.895, None)]) == (
        "the best baseline [3,3,3] at full budget: 88.90%; the winner is 0.6 points ahead"
        " (95% interval -1.0 to 2.2; that may be luck)"
    )


def test_a_lead_that_one_of_so_many_has_by_chance_may_be_luck_though_its_interval_is_clear() -> None:
    """Of 200 networks as good as the baseline the best is ahead by an interval that excludes 0 in half of all
    searches, where luck is independent."""
    rows = [trial(0, accuracy=0.889, baseline=GUESS), trial(1, accuracy=0.907)]
    few, many = (standing.standing(rows, 3_000, completed=n) for n in (3, 201))
    ahead = (
        "the best baseline [3,3,3] at full budget: 88.90%; the winner is 1.8 points ahead"
        " (95% interval 0.3 to 3.3"
    )
    assert standing.describe(few) == f"{ahead})"
    assert standing.describe(many) == f"{ahead}; as the best of 200 that may be luck)"
    others = [trial(n, accuracy=0.5) for n in range(2, 201)]
    assert standing.describe(standing.standing([*rows, *others], 3_000)) == standing.describe(many)
    clear = standing.standing([rows[0], trial(1, accuracy=0.95)], 3_000, completed=201)
    assert "luck" not in (standing.describe(clear) or "luck"), "luck of 200 does not do that"


def test_of_a_store_all_that_were_trained_to_the_end_are_counted(sqlite_url: str) -> None:
    """Rows are read of the baselines and of the best alone."""
    add_study(sqlite_url, "s", [0.6, *(0.4 for _ in range(200))])
    with reader.open_study(sqlite_url, "s") as view:
        with database.writing(view.engine) as connection:
            guess = tables.candidates.c.number == 1
            connection.execute(update(tables.candidates).where(guess).values(baseline=GUESS, accuracy=0.58))
        found = view.baselines()
        state = run_state.load(view.engine, view.record, has_optuna=False, whole=True)
        lines = state_text.lines(view.engine, state, view.config)
    said = standing.describe(found)
    assert said and "(95% interval 0.1 to 3.9; as the best of 200 that may be luck)" in said
    assert said in lines


def test_a_search_that_is_behind_is_said_to_be(engine: Engine) -> None:
    assert said(engine, [(0.906, GUESS), (0.889, None)]) == (
        "the best baseline [3,3,3] at full budget: 90.60%; the search is not ahead: the best network that it"
        " proposed is 1.7 points behind (95% interval -3.2 to -0.2)"
    )


def test_without_a_baseline_that_was_trained_to_the_end_nothing_is_compared(engine: Engine) -> None:
    assert said(engine, [(0.9, None)]) == "of 1 baseline none was trained to the end yet"
    assert standing.describe(standing.NO_BASELINES) is None


def test_of_equal_scores_the_smaller_is_the_best_baseline_and_the_best_proposal(engine: Engine) -> None:
    """Networks of before have more parameters here than those after them."""
    study = make_study(engine, 4)
    for number, baseline in enumerate(["[1,1,1] at full budget", GUESS, None, None]):
        claim = take(engine, study)
        network = replace(proposal(number, baseline=baseline), parameters=9_000 - number)
        row = candidates.propose(engine, claim, network)
        candidates.finish(engine, claim, row.id, State.COMPLETED, outcome=outcome(0.9))
    known = candidates.yardstick(engine, study.id)
    assert [row.number for row in known] == [0, 1, 3]
    for rows in (known, candidates.candidates(engine, study.id)):
        found = standing.standing(rows, 3_000).standing
        assert found and found.proposed
        assert (found.baseline.number, found.proposed.number) == (1, 3)


def test_a_baseline_alone_is_no_yardstick_yet(engine: Engine) -> None:
    assert said(engine, [(0.9, GUESS)]) == (
        "the best baseline [3,3,3] at full budget: 90.00%; no other network was trained to the end yet"
    )


def test_beside_a_winner_of_finals_the_lead_is_the_best_proposals(engine: Engine) -> None:
    found = standing.standing(trained(engine, [(0.889, GUESS), (0.91, None)]), 3_000)
    assert standing.describe(found, confirmed=True) == (
        "by brief scores: the best baseline [3,3,3] at full budget: 88.90%; the best proposal is 2.1 points"
        " ahead (95% interval 0.6 to 3.6)"
    )
