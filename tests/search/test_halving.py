"""Who goes on in the second stage of a search, and what is said of it, on rows that are made up."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count

import pytest
from rung_samples import MOMENT, candidate, trained
from worker_samples import make_config

from search.study import finish_plan, halving, second_stage
from search.study.bill import Bill, bill, shrinkage
from search.study.finish_plan import FinishPlan, Rung, make_plan
from search.study.halving import ReachedRung
from search.study.second_stage import SecondStage
from space.baselines import variants
from space.errors import UsageError
from storage.row_types import Candidate, Epoch, RungEntry, RungTraining, Stage, State
from storage.trainings import Finished

Scores = Mapping[tuple[Stage, int, int], float | State]  # by stage, trial and seed; a state: how it failed


class Play:
    """Trains what is missing, rung by rung, to scores that are given; to the brief score where none is."""

    def __init__(self, plan: FinishPlan, rows: Sequence[Candidate], scores: Scores | None = None) -> None:
        self.plan, self.rows, self.scores = plan, rows, scores or {}
        self.trainings: list[RungTraining] = []

    @property
    def rungs(self) -> list[ReachedRung]:
        return halving.reached(self.plan, self.rows, self.trainings)

    def step(self) -> list[RungEntry]:
        """Trains all that is missing now."""
        missing = self.rungs[-1].missing if self.rungs else []
        for entry in missing:
            number = entry.candidate_id - 100
            found = self.scores.get((entry.stage, number, entry.seed))
            brief = next(row.accuracy for row in self.rows if row.number == number)
            failed = isinstance(found, State)
            score = None if failed else brief if found is None else found
            self.trainings.append(trained(entry, score, found if failed else State.COMPLETED))  # type: ignore[arg-type]
        return missing

    def all(self) -> list[list[int]]:
        """Everything; the trials of each step."""
        steps = []
        for _ in count():
            missing = self.step()
            if not missing:
                return steps
            steps.append([entry.candidate_id - 100 for entry in missing])
        raise AssertionError


def plan(finalists: int = 2, epochs: int = 200, seeds: int = 1, contenders: int | None = None) -> FinishPlan:
    return make_plan(make_config(), None, finalists, epochs, seeds, contenders=contenders)


def rising(number: int, **more: object) -> list[Candidate]:
    """Trials of which the later are the better."""
    return [candidate(i, 0.5 + i / 100, **more) for i in range(number)]  # type: ignore[arg-type]


def test_sixteen_then_four_then_two_go_on_each_for_four_times_as_long() -> None:
    found = plan(seeds=3)
    assert [(rung.networks, rung.epochs) for rung in found.rungs] == [(16, 12), (4, 48)]
    assert (found.finals.networks, found.finals.recipe.epochs, found.finals.seeds) == (2, 200, 3)
    play = Play(found, rising(40))
    best = list(range(39, 23, -1))
    assert play.all() == [best, best[:4], best[:2] * 3]
    assert [(rung.stage, rung.epochs) for rung in play.rungs] == [
        (Stage.HALVING, 12), (Stage.HALVING, 48), (Stage.FINALS, 200),
    ]  # fmt: skip
    assert [(one.epochs, one.seed) for one in play.trainings[-6:]] == [
        (200, seed) for seed in (0, 0, 1, 1, 2, 2)
    ]
    winner = halving.winner(play.rungs)
    assert winner and winner.number == 39
    assert halving.is_over(found, play.rows, play.trainings)


def test_the_networks_that_take_longest_are_trained_first_and_who_goes_on_is_the_same() -> None:
    took = {39: 10.0, 30: 500.0, 38: 70.0, 24: None}
    rows = [replace(row, seconds=took.get(row.number, 30.0)) for row in rising(40)]
    alike, best = [n for n in range(39, 23, -1) if n not in took], list(range(39, 23, -1))
    steps = Play(plan(seeds=3), rows).all()
    assert steps == [[24, 30, 38, *alike, 39], [38, 37, 36, 39], [38, 38, 38, 39, 39, 39]]
    assert [row.number for row in Play(plan(), rows).rungs[0].entrants] == best


def test_a_rung_is_chosen_by_the_scores_of_the_rung_before_alone() -> None:
    scores = {(Stage.HALVING, number, 0): 0.99 - number / 100 for number in range(24, 40)}
    play = Play(plan(), rising(40), scores)
    assert play.all()[1:] == [[24, 25, 26, 27], [24, 25]]


def test_of_equal_scores_the_smaller_network_goes_on_and_of_equal_sizes_the_earlier_trial() -> None:
    rows = [candidate(i, 0.5, parameters=100 - i // 2) for i in range(20)]
    assert Play(plan(), rows).all()[0] == [18, 19, 16, 17, 14, 15, 12, 13, 10, 11, 8, 9, 6, 7, 4, 5]


@pytest.mark.parametrize(
    ("trials", "steps"),
    [
        (0, []),
        (1, [[0]]),
        (2, [[1, 0]]),
        (3, [[2, 1, 0], [2, 1]]),
        (4, [[3, 2, 1, 0], [3, 2]]),
        (5, [[4, 3, 2, 1, 0], [4, 3, 2, 1], [4, 3]]),
    ],
)
def test_a_rung_that_would_drop_nobody_is_left_out(trials: int, steps: list[list[int]]) -> None:
    play = Play(plan(), rising(trials))
    assert play.all() == steps
    assert halving.is_over(play.plan, play.rows, play.trainings)
    assert (halving.winner(play.rungs) is None) == (trials == 0)


def test_only_what_was_trained_to_the_end_goes_on() -> None:
    rows = [*rising(6), candidate(6, 0.99, State.PRUNED), candidate(7, None, State.DIVERGED)]
    assert Play(plan(), rows).all()[0] == [5, 4, 3, 2, 1, 0]


def test_the_best_baseline_is_in_the_finals_whatever_its_rank() -> None:
    rows = [candidate(i, 0.1 + i / 1000, baseline=f"guess {i}") for i in range(3)] + [
        candidate(i, 0.5 + i / 100) for i in range(3, 30)
    ]
    play = Play(plan(seeds=2), rows)
    assert play.all()[-1] == [29, 28, 2] * 2, "the third, who was not among the best sixteen"


def test_no_baseline_is_added_where_one_is_among_the_best() -> None:
    rows = [*rising(30), candidate(30, 0.99, baseline="the best")]
    assert Play(plan(), rows).all()[-1] == [30, 29]


def test_the_best_baseline_is_the_best_of_the_last_rung_that_one_came_through() -> None:
    rows = [candidate(0, 0.9, baseline="fast"), candidate(1, 0.8, baseline="slow"), *(
        candidate(i, 0.5 + i / 100) for i in range(2, 12)
    )]  # fmt: skip
    scores: Scores = {(Stage.HALVING, 0, 0): 0.1, (Stage.HALVING, 1, 0): 0.2}
    assert Play(plan(), rows, scores).all()[-1] == [11, 10, 1]
    failed: Scores = {(Stage.HALVING, 0, 0): 0.1, (Stage.HALVING, 1, 0): State.DIVERGED}
    assert Play(plan(), rows, failed).all()[-1] == [11, 10, 0]
    all_failed: Scores = {(Stage.HALVING, number, 0): State.DIVERGED for number in (0, 1)}
    assert Play(plan(), rows, all_failed).all()[-1] == [11, 10, 0], "the best by its brief score"


def test_who_diverges_does_not_go_on() -> None:
    scores = {(Stage.HALVING, number, 0): State.DIVERGED for number in (37, 38, 39)}
    assert Play(plan(), rising(40), scores).all()[1:] == [[36, 35, 34, 33], [36, 35]]


def test_a_rung_that_nobody_came_through_chooses_nobody() -> None:
    scores: Scores = {(Stage.HALVING, number, 0): State.DIVERGED for number in range(40)}
    play = Play(plan(), rising(40), scores)
    assert play.all()[1:] == [[39, 38, 37, 36], [39, 38]]
    assert halving.winner(play.rungs)


def test_finals_in_which_all_fail_have_no_winner() -> None:
    scores: Scores = {(Stage.FINALS, number, 0): State.FAILED for number in range(40)}
    play = Play(plan(), rising(40), scores)
    play.all()
    assert halving.is_over(play.plan, play.rows, play.trainings)
    assert halving.winner(play.rungs) is None


def test_a_finalist_counts_with_the_seeds_that_came_through() -> None:
    scores: Scores = {
        (Stage.FINALS, 39, 0): 0.7, (Stage.FINALS, 39, 1): State.DIVERGED, (Stage.FINALS, 39, 2): 0.9,
        **{(Stage.FINALS, 38, seed): 0.79 for seed in range(3)},
    }  # fmt: skip
    play = Play(plan(seeds=3), rising(40), scores)
    play.all()
    assert play.rungs[-1].scores == {39: pytest.approx(0.8), 38: pytest.approx(0.79)}
    winner = halving.winner(play.rungs)
    assert winner and winner.number == 39
    assert [one.seed for one in play.rungs[-1].completed(winner)] == [0, 2]


def test_the_first_seed_chooses_whose_other_seeds_are_trained() -> None:
    rows = [candidate(0, 0.4, baseline="[1,1,1]"), *(candidate(i, 0.5 + i / 100) for i in range(1, 9))]
    scores: Scores = {(Stage.FINALS, 6, 0): 0.95, (Stage.FINALS, 6, 1): 0.8, (Stage.FINALS, 6, 2): 0.7}
    play = Play(plan(1, epochs=11, seeds=3, contenders=4), rows, scores)
    play.step()
    assert [one.number for one in play.trainings] == [8, 7, 6, 0]
    first, last = play.rungs
    assert (first.is_first_turn, last.is_first_turn) == (True, False)
    assert (first.name, last.name) == ("finals of 11 epochs, first seed", "finals of 11 epochs")
    assert not halving.is_over(play.plan, rows, play.trainings) and halving.winner(play.rungs) is None
    assert [(one.candidate_id - 100, one.seed) for one in last.missing] == [(6, 1), (6, 2)]
    assert play.all() == [[6, 6]]
    winner = halving.winner(play.rungs)
    assert winner and winner.number == 6, "though its mean is less than the one seed of others"
    assert play.rungs[-1].scores == {6: pytest.approx((0.95 + 0.8 + 0.7) / 3)}


def test_who_is_much_slower_than_usual_is_no_contender_of_short_finals() -> None:
    """Twice the median of the best sixteen; a baseline is in them, however slow."""
    took = {8: 60.0, 7: 59.0, 5: None, 3: 6_000.0}
    rows = [replace(row, seconds=took.get(row.number, 30.0)) for row in rising(9)]
    assert sorted(Play(plan(1, epochs=11, seeds=3, contenders=4), rows).all()[0]) == [4, 5, 6, 7]
    assert Play(plan(2, epochs=11), rows).all() == [[8, 7]], "others have time"
    rows[3] = replace(rows[3], baseline="[9,9,9]")
    assert sorted(Play(plan(1, epochs=11, seeds=3, contenders=4), rows).all()[0]) == [3, 5, 6, 7]
    late = [replace(row, seconds=30.0 if row.number < 4 else None) for row in rising(40)]
    assert Play(plan(1, epochs=11, seeds=3, contenders=4), late).all()[0] == [39, 38, 37, 36]
    untimed = [replace(row, seconds=None) for row in rising(9)]
    assert sorted(Play(plan(1, epochs=11, seeds=3, contenders=4), untimed).all()[0]) == [5, 6, 7, 8]


def test_networks_are_as_slow_as_others_on_the_same_device() -> None:
    """What the slower of two machines has trained is no slow network; what is slow for it, is."""
    device = {8: "slow", 7: "slow", 5: "slow", 3: "slow", 2: "slow"}
    took = {"slow": 66.0, None: 30.0}
    rows = [
        replace(row, device=device.get(row.number), seconds=took[device.get(row.number)]) for row in rising(9)
    ]
    short = plan(1, epochs=11, seeds=3, contenders=4)
    assert sorted(Play(short, rows).all()[0]) == [5, 6, 7, 8]
    rows[7] = replace(rows[7], seconds=2.1 * 66.0)
    assert sorted(Play(short, rows).all()[0]) == [4, 5, 6, 8]


@pytest.mark.parametrize(
    "slow",
    ["laptop-cpu1-712-0a1b2c.3", "laptop-worker-cpu1-712-hand-0a1b2c.3", "mine-laptop-712-0a1b2c"],
    ids=["of a launch", "several by hand", "by hand"],
)
def test_networks_are_as_slow_as_others_on_the_same_host(slow: str) -> None:
    """Cores of a laptop have the name of those of a workstation."""
    theirs, quick = {8, 7, 2}, "workstation-cpu0-9-abcdef.1"

    def on(row: Candidate) -> Candidate:
        is_slow = row.number in theirs
        worker, seconds = (slow, 75.0) if is_slow else (quick, 30.0)
        return replace(row, device="x86_64 CPU", worker=worker, seconds=seconds)

    rows = [on(row) for row in rising(9)]
    short = plan(1, epochs=11, seeds=3, contenders=4)
    assert sorted(Play(short, rows).all()[0]) == [5, 6, 7, 8]
    rows[7] = replace(rows[7], seconds=2.1 * 75.0)
    assert sorted(Play(short, rows).all()[0]) == [4, 5, 6, 8]
    theirs = {8, 7}
    rows = [on(row) for row in rising(9)]
    assert sorted(Play(short, rows).all()[0]) == [3, 4, 5, 6], "two may be as slow as each other"


def test_a_baseline_among_the_contenders_takes_no_place_more() -> None:
    rows = [candidate(i, 0.5 + i / 100, baseline="guess" if i == 7 else None) for i in range(9)]
    assert Play(plan(1, epochs=11, seeds=3, contenders=3), rows).all() == [[8, 7, 6], [8, 8]]
    assert Play(plan(1, epochs=11, seeds=1, contenders=3), rows).all() == [[8, 7, 6]]


def test_the_best_variant_of_baselines_is_a_contender_in_any_case() -> None:
    """After three epochs of CIFAR-10 four networks that learn fast were ahead of the one that ends best."""
    fingerprints = {3: "varied", 2: "varied too"}
    rows = [replace(row, fingerprint=fingerprints.get(row.number, str(row.number))) for row in rising(9)]
    rows[5] = replace(rows[5], baseline="guess")
    short = plan(1, epochs=11, seeds=3, contenders=4)
    assert Play(short, rows).all()[0] == [8, 7, 6, 5]
    varied = short.model_copy(
        update={"finals": short.finals.model_copy(update={"variants": ("varied", "varied too")})}
    )
    assert Play(varied, rows).all()[0] == [8, 7, 5, 3], "the baseline keeps its place too"
    rows[3] = replace(rows[3], state=State.PRUNED)
    assert Play(varied, rows).all()[0] == [8, 7, 5, 2]
    diverged: Scores = {(Stage.HALVING, 5, 0): State.DIVERGED, (Stage.HALVING, 2, 0): State.DIVERGED}
    wide = varied.model_copy(update={"rungs": (Rung(networks=7, epochs=9),)})
    assert Play(wide, rows, diverged).all()[:2] == [[8, 7, 6, 5, 4, 2, 1], [8, 7, 6, 5]], (
        "a baseline comes in any case, a variant that came to nothing in a rung does not"
    )
    after = varied.model_copy(update={"rungs": (Rung(networks=5, epochs=9),)})
    assert Play(after, rows).all()[:2] == [[8, 7, 6, 5, 4], [8, 7, 5, 2]], "nor does a rung before the finals"
    rows[8] = replace(rows[8], fingerprint="varied")
    assert Play(varied, rows).all()[0] == [8, 7, 6, 5], "one that is among the best takes no place more"


def test_variants_are_those_that_the_search_tries_first() -> None:
    short = plan(1, epochs=11, seeds=3, contenders=4)
    config = make_config()
    known = {one.architecture.fingerprint for one in variants(config.space, config.budget, config.task)}
    assert set(short.finals.variants) == known and known
    assert FinishPlan.from_record(short.document()) == short
    older = short.model_copy(update={"finals": short.finals.model_copy(update={"variants": ()})})
    assert "variants" not in older.document()["finals"]
    assert make_plan(config, older, epochs=12).finals.variants == (), "a study goes on as it was made"
    assert plan(2, epochs=200).finals.variants == ()


def test_where_no_first_seed_comes_through_the_best_by_its_trial_has_the_others() -> None:
    scores: Scores = {(Stage.FINALS, number, 0): State.DIVERGED for number in range(9)}
    play = Play(plan(1, epochs=11, seeds=3, contenders=3), rising(9), scores)
    assert play.all() == [[8, 7, 6], [8, 8]]
    winner = halving.winner(play.rungs)
    assert winner and winner.number == 8


def test_who_has_all_seeds_from_before_is_measured_by_them_beside_whom_a_later_turn_chose() -> None:
    """A trial that was added has the better first seed, and ends lower."""
    rows = rising(4)
    scores: Scores = {(Stage.FINALS, 3, seed): 0.9 for seed in range(3)} | {(Stage.FINALS, 4, 0): 0.95}
    play = Play(plan(1, epochs=11, seeds=3, contenders=3), rows, scores)
    play.all()
    play.rows = [*rows, candidate(4, 0.6)]
    assert play.rungs[-1].is_first_turn
    stage = SecondStage(play.plan, play.rows, play.trainings, (), 5)
    assert stage.has_all_seeds(rows[3], 11), "nothing more of it will be trained"
    assert not stage.has_all_seeds(rows[2], 11), "it may be chosen now"
    assert play.all() == [[4], [4, 4]]
    winner = halving.winner(play.rungs)
    assert winner and winner.number == 3, "0.90 of three seeds, before 0.72"
    stage = SecondStage(play.plan, play.rows, play.trainings, (), 5)
    assert [(one.candidate.number, one.seeds) for one in stage.finalists] == [(3, 3), (4, 3), (2, 1)]


def test_trials_that_are_added_later_throw_no_finalist_away() -> None:
    """Better rungs put two others into the finals, whose means are lower than that of who has been there."""
    scores: Scores = {(Stage.FINALS, 19, seed): 0.95 for seed in range(3)}
    play = Play(plan(seeds=3), rising(20), scores)
    play.all()
    play.rows = [*play.rows, *(candidate(20 + i, 0.92 - i / 100) for i in range(3))]
    assert play.all() == [[20, 21, 22], [20, 21, 22], [20, 21] * 3], "of the others nothing is trained again"
    winner = halving.winner(play.rungs)
    assert winner and winner.number == 19
    last = play.rungs[-1]
    assert ([one.number for one in last.entrants], last.total) == ([20, 21], 6)
    assert last.scores[19] == last.accuracies[19] == pytest.approx(0.95)
    stage = SecondStage(play.plan, play.rows, play.trainings, (), 23)
    assert stage.is_over and stage.winner == winner
    assert [(one.candidate.number, one.seeds, one.of) for one in stage.finalists] == [
        (19, 3, 3), (20, 3, 3), (21, 3, 3), (18, 3, 3),
    ]  # fmt: skip
    assert second_stage.progress(stage) == "finals of 200 epochs: 6 of 6 trained"


def test_trials_that_are_added_later_throw_no_winner_of_two_turns_away() -> None:
    scores: Scores = {(Stage.FINALS, 3, seed): 0.9 for seed in range(3)}
    play = Play(plan(1, 11, 3, contenders=3), rising(4), scores)
    play.all()
    full = [of_finals(play.rows[3], seed, 0.9, 11) for seed in range(3)]
    of_one = SecondStage(play.plan, play.rows, play.trainings, full, 4)
    assert any(
        line.startswith("the first seed, on validation images, chose") for line in second_stage.lines(of_one)
    )
    play.rows = rising(7)
    assert play.all() == [[6, 5, 4], [6, 6]]
    winner = halving.winner(play.rungs)
    assert winner and winner.number == 3
    stage = SecondStage(play.plan, play.rows, play.trainings, full, 7)
    assert [(one.candidate.number, one.seeds) for one in stage.finalists] == [(3, 3), (6, 3), (5, 1), (4, 1)]
    assert "validation images chose the winner; test images were read once, and chose nothing" in (
        second_stage.lines(stage)
    ), "it has the best mean of all its seeds"


def test_finals_of_another_length_or_with_seeds_to_come_are_no_part_of_these() -> None:
    play = Play(plan(seeds=2), rising(4))
    play.all()
    play.rows = [*play.rows, *(candidate(4 + i, 0.9) for i in range(2))]
    assert [row.number for row in play.rungs[-1].from_before] == []
    play.all()
    assert [row.number for row in play.rungs[-1].from_before] == [2, 3]
    play.plan = plan(seeds=3)
    play.all()
    assert [row.number for row in play.rungs[-1].from_before] == []
    play.plan = plan(epochs=300, seeds=2)
    play.all()
    assert [row.number for row in play.rungs[-1].from_before] == []


def test_finals_of_one_seed_have_no_second_turn() -> None:
    play = Play(plan(1, epochs=11, seeds=1, contenders=3), rising(9))
    assert play.all() == [[8, 7, 6]]
    (only,) = play.rungs
    assert (only.name, only.is_first_turn) == ("finals of 11 epochs", False)
    assert finish_plan.describe(play.plan) == (
        "finals of 11 epochs: one seed of the best 3, with the best baseline and variant"
    )


def test_rungs_before_two_turns_drop_down_to_their_contenders() -> None:
    play = Play(plan(1, epochs=40, seeds=3, contenders=3), rising(40))
    assert [(rung.networks, rung.epochs) for rung in play.plan.rungs] == [(16, 12)]
    assert [len(step) for step in play.all()] == [16, 3, 2]
    few = Play(plan(1, epochs=40, seeds=3, contenders=3), rising(3))
    assert few.all() == [[2, 1, 0], [2, 2]], "a rung that would drop nobody is left out"


def test_nothing_is_chosen_while_a_training_waits_or_runs() -> None:
    play = Play(plan(), rising(40))
    play.step()
    for state in (None, State.RUNNING):
        *others, last = play.trainings
        under_way = [*others, trained(last.entry, 0.99, state)]
        (rung,) = halving.reached(play.plan, play.rows, under_way)
        assert (rung.missing, rung.is_over) == ([], False)
        assert not halving.is_over(play.plan, play.rows, under_way)


def test_trials_that_are_added_later_and_seeds_make_only_what_is_missing() -> None:
    play = Play(plan(), rising(40))
    play.all()
    play.rows = [*play.rows, candidate(40, 0.95)]
    assert play.all() == [[40], [40], [40]]
    winner = halving.winner(play.rungs)
    assert winner and winner.number == 40
    play.plan = plan(seeds=3)
    assert play.all() == [[40, 39, 40, 39]]
    play.plan = plan(epochs=300, seeds=1)
    assert play.all() == [[40, 39]], "other finals, and the rungs are those of before"


@pytest.mark.parametrize(
    ("finalists", "epochs", "rungs"),
    [
        (2, 49, [(16, 12), (4, 48)]),
        (2, 48, [(16, 12)]),
        (2, 12, []),
        (4, 200, [(16, 12)]),
        (16, 200, []),
        (1, 5_000, [(16, 12), (4, 48)]),
    ],
)
def test_rungs_end_below_the_finals_and_where_nobody_would_be_dropped(
    finalists: int, epochs: int, rungs: list[tuple[int, int]]
) -> None:
    found = plan(finalists, epochs)
    assert [(rung.networks, rung.epochs) for rung in found.rungs] == rungs


def test_finals_as_short_as_a_trial_are_refused() -> None:
    with pytest.raises(UsageError, match="--final-epochs 3: finals are longer than the 3 epochs of a trial"):
        plan(epochs=3)


def test_what_flags_leave_open_comes_from_the_stored_plan() -> None:
    stored = make_plan(make_config(), None, 3, 90, 5)
    found = make_plan(make_config(), stored, seeds=2)
    assert (found.finals.networks, found.finals.recipe.epochs, found.finals.seeds) == (3, 90, 2)
    assert FinishPlan.from_record(found.document()) == found
    assert FinishPlan.from_record(None) is None
    assert "contenders" not in found.document()["finals"], "as it was before there were two turns"
    turns = plan(1, 11, 3, contenders=3)
    assert FinishPlan.from_record(turns.document()) == turns
    assert make_plan(make_config(), turns, epochs=12).finals.contenders == 3


def test_the_plan_says_what_it_costs() -> None:
    found, config = plan(seeds=3), make_config()
    assert finish_plan.describe(found) == (
        "the best 16 for 12 epochs, the best 4 of these for 48 epochs,"
        " finals of 2 and the best baseline for 200 epochs with 3 seeds"
    )
    assert finish_plan.describe(plan(1, 11, 3, contenders=4)) == (
        "finals of 11 epochs: one seed of the best 4, with the best baseline and variant,"
        " 3 seeds of the best one"
    )
    assert plan(1, 11, 3, contenders=4).finals_epochs() == (4 + 2) * 11
    cost = "at most 384 epochs of halving and 1,800 of finals beside 600 of the trials, 78% of all"
    assert finish_plan.describe_cost(found, config, 200, []) == cost
    paced = finish_plan.describe_cost(found, config, 200, rising(3))  # 10 s an epoch
    assert paced == f"{cost}; about 6 h 4 min of one worker by the trials so far"
    limited = config.model_copy(update={"data": config.data.model_copy(update={"limit": 900})})
    assert finish_plan.describe_cost(found, limited, 200, rising(3)) == (
        f"{cost}; finals train on all images, trials on 900"
    )


def test_the_bill_names_every_part() -> None:
    play = Play(plan(), rising(40))
    play.all()
    found = bill(play.rows, play.trainings, {})
    assert (found.brief, found.halving, found.finals) == (1200.0, 3840.0, 4000.0)
    assert str(found) == "brief 13%, halving 42%, finals 44% of 2 h 31 min of training"
    assert str(Bill(3.0, 1.0, 0.0)) == "brief 75%, halving 25%, finals 0% of 4 s of training"
    assert str(Bill(0.0, 0.0, 0.0)) == "brief 0%, halving 0%, finals 0% of 0 s of training"


def test_an_attempt_that_was_told_to_end_is_billed_once() -> None:
    """The next one goes on from its checkpoint, and its seconds hold those of the epochs before."""
    cancelled = replace(candidate(0, 0.4, State.CANCELLED), epochs=7, seconds=28.0)
    completed = replace(candidate(1, 0.5), epochs=8, seconds=32.0, fingerprint=cancelled.fingerprint)
    epochs = {
        row.id: [Epoch(i, 1.0, 1.0, 0.5, 0.1, 4.0) for i in range(1, 8)] for row in (cancelled, completed)
    }
    assert bill([cancelled, completed], (), epochs) == Bill(32.0, 0.0, 0.0)
    anew = {**epochs, completed.id: [Epoch(i, 1.0, 1.0, 0.5, 0.1, 4.1) for i in range(1, 8)]}
    assert bill([cancelled, completed], (), anew) == Bill(60.0, 0.0, 0.0)
    assert bill([cancelled], (), epochs) == Bill(28.0, 0.0, 0.0), "nobody has gone on from it"


def test_how_far_the_lead_of_the_picked_shrinks_is_the_leads_of_the_same_networks_twice() -> None:
    """Four of sixteen are 12.5 points above the mean, and 2 when all are trained again."""
    rows = [candidate(i, 0.9 if i < 4 else 0.7 + 0.4 / 12) for i in range(16)]
    scores = {(Stage.HALVING, i, 0): 0.85 if i < 4 else 0.85 - 0.02 * 16 / 12 for i in range(16)}
    play = Play(plan(), rows, scores)
    assert shrinkage(play.rungs) is None, "before the rung is over"
    play.step()
    found = shrinkage(play.rungs)
    assert found and (found.best, found.networks, found.epochs) == (4, 16, 12)
    assert (found.lead, found.left) == (pytest.approx(0.125), pytest.approx(0.02))
    assert str(found) == (
        "picking: the 4 best brief scores were 12.50 points above the mean of 16 networks,"
        " 2.00 when all were trained again for 12 epochs: 16% of the lead was left"
    )


def test_of_few_networks_nothing_is_said_of_shrinkage() -> None:
    play = Play(plan(), rising(3))
    play.all()
    assert shrinkage(play.rungs) is None


def of_finals(row: Candidate, seed: int, accuracy: float, epochs: int = 200) -> Finished:
    """What a seed of the finals leaves among the full trainings."""
    return Finished(
        run="finals-1", seed=seed, subject="s", study="s", trial=row.number, fingerprint=row.fingerprint,
        parameters=row.parameters, macs=row.macs, architecture={}, recipe={}, data={}, epochs=epochs,
        accuracy=accuracy, best_accuracy=accuracy, best_epoch=1, loss=0.5, test_accuracy=accuracy,
        test_loss=0.5, test_images=10_000, seconds=1.0, device="cpu", versions={}, folder="",
        finished_at=MOMENT,
    )  # fmt: skip


def lines(play: Play) -> list[str]:
    play.all()
    return second_stage.lines(SecondStage(play.plan, play.rows, play.trainings, (), len(play.rows)))


def test_the_winner_is_set_against_the_baseline_that_was_trained_in_the_same_way() -> None:
    """Welch's interval of 0.90, 0.91, 0.92 less 0.88, 0.89, 0.90: 2 points, 2.78 times 0.82 each way."""
    rows = [candidate(0, 0.7, baseline="[1,1,1]"), candidate(1, 0.8), candidate(2, 0.75)]
    scores = {(Stage.FINALS, 0, seed): 0.88 + seed / 100 for seed in range(3)}
    scores |= {(Stage.FINALS, 1, seed): 0.90 + seed / 100 for seed in range(3)}
    said = lines(Play(plan(finalists=1, seeds=3), rows, scores))
    assert "the winner is 2.0 points ahead of the baseline of the finals on validation images" \
        " (95% interval -0.3 to 4.3)" in said  # fmt: skip
    assert second_stage.WITHOUT_TEST in said
    assert any(
        line.startswith("picking: how much of a lead by brief scores is luck was not") for line in said
    )


def test_a_baseline_that_the_first_seed_left_behind_is_compared_by_that_seed() -> None:
    """On test images with Newcombe's interval of 10,000; without them nothing more is known of one seed."""
    rows = [candidate(0, 0.7, baseline="[1,1,1]"), candidate(1, 0.8), candidate(2, 0.75)]
    scores: Scores = {(Stage.FINALS, 0, 0): 0.88, (Stage.FINALS, 2, 0): 0.6} | {
        (Stage.FINALS, 1, seed): 0.90 - seed / 10 for seed in range(3)
    }
    played = Play(plan(1, epochs=11, seeds=3, contenders=3), rows, scores)
    played.all()
    bare = SecondStage(played.plan, rows, played.trainings, (), 3)
    assert [(one.candidate.number, one.seeds, one.of) for one in bare.finalists] == [
        (1, 3, 3), (0, 1, 1), (2, 1, 1),
    ]  # fmt: skip
    said = second_stage.lines(bare)
    assert (
        "the winner is 2.0 points ahead of the baseline of the finals on validation images,"
        " first seed of both" in said
    )
    full = [of_finals(rows[1], seed, 0.90 - seed / 10, 11) for seed in (2, 1, 0)]
    full.append(of_finals(rows[0], 0, 0.88, 11))
    said = second_stage.lines(SecondStage(played.plan, rows, played.trainings, full, 3))
    assert (
        "the winner is 2.0 points ahead of the baseline of the finals on test images, first seed of both"
        " (95% interval 1.1 to 2.9)" in said
    )
    chose = "the first seed, on validation images, chose the winner; test images were read once,"
    assert f"{chose} and chose nothing" in said
    assert second_stage.progress(SecondStage(played.plan, rows, played.trainings[:2], (), 3)) == (
        "finals of 11 epochs, first seed: 2 of 3 trained"
    )


def test_a_lead_of_accuracy_is_called_that_where_another_score_has_chosen() -> None:
    """Macro F1 made the less accurate one the winner."""
    rows = [candidate(0, 0.7, baseline="[1,1,1]", score=0.5), candidate(1, 0.8, score=0.7)]
    played = Play(plan(finalists=1, seeds=3), rows, {(Stage.FINALS, 0, seed): 0.95 for seed in range(3)})
    played.all()
    known = {0: 0.4, 1: 0.6}
    trainings = [replace(one, score=known[one.number] + one.seed / 100) for one in played.trainings]
    stage = SecondStage(played.plan, rows, trainings, (), 2, "macro-f1")
    assert "the winner is 15.0 points of accuracy behind the baseline of the finals on validation images," \
        " 20.0 points of macro F1 ahead" in second_stage.lines(stage)  # fmt: skip


def test_a_baseline_of_the_first_turn_is_behind_by_that_seed_of_another_score_too() -> None:
    """Accuracies and scores of the same trainings: not the first seed of one and the mean of the other."""
    rows = [candidate(0, 0.7, baseline="[1,1,1]", score=0.5), candidate(1, 0.8, score=0.7)]
    played = Play(plan(1, epochs=11, seeds=3, contenders=3), rows)
    played.all()
    trainings = [
        replace(one, score=0.4 if one.number == 0 else 0.6 - one.seed / 10) for one in played.trainings
    ]
    stage = SecondStage(played.plan, rows, trainings, (), 2, "macro-f1")
    assert "the winner is 10.0 points of accuracy ahead of the baseline of the finals on validation images," \
        " first seed of both, 20.0 points of macro F1 ahead" in second_stage.lines(stage)  # fmt: skip


def test_equal_means_are_level() -> None:
    rows = [candidate(0, 0.7, baseline="[1,1,1]", parameters=9), candidate(1, 0.8, parameters=8)]
    scores = {(Stage.FINALS, number, 0): 0.9 for number in (0, 1)}
    said = lines(Play(plan(finalists=1), rows, scores))
    assert "the winner is level with the baseline of the finals on validation images" in said


def test_tests_of_fewer_seeds_than_were_trained_count_as_what_they_are() -> None:
    """Of two tested seeds nothing is known of their spread, whatever number was trained."""
    rows = [candidate(0, 0.7, baseline="[1,1,1]"), candidate(1, 0.8)]
    played = Play(
        plan(finalists=1, seeds=3), rows, {(Stage.FINALS, 1, seed): 0.9 + seed / 100 for seed in range(3)}
    )
    played.all()
    full = [of_finals(row, seed, 0.9 + row.number / 20 + seed / 1_000) for row in rows for seed in (0, 1)]
    said = second_stage.lines(SecondStage(played.plan, rows, played.trainings, full, 2))
    assert "the winner is 5.0 points ahead of the baseline of the finals on test images" in said


def test_tests_on_two_sets_of_test_images_are_in_no_mean_and_no_lead_together() -> None:
    """Pictures came to test/ while the finals were trained: two seeds of each network have the old 200."""
    rows = [candidate(0, 0.7, baseline="[1,1,1]"), candidate(1, 0.8)]
    scores = {(Stage.FINALS, 1, seed): 0.9 + seed / 100 for seed in range(3)}
    played = Play(plan(finalists=1, seeds=3), rows, scores)
    played.all()
    sets = {"old": {"test_images": 200, "data": {"test_digest": "a" * 64}},
            "new": {"test_images": 260, "data": {"test_digest": "b" * 64}}}  # fmt: skip

    def stage(*of_winner: str) -> SecondStage:
        full = [
            replace(of_finals(rows[1], seed, (0.90, 0.92, 0.10)[seed]), **sets[name])
            for seed, name in enumerate(of_winner)
        ]
        full += [replace(of_finals(rows[0], seed, 0.85), **sets["old"]) for seed in range(3)]
        return SecondStage(played.plan, rows, played.trainings, full, 2)

    first = stage("old", "old", "new").finalists[0]
    assert first.test and first.test.values == (0.90, 0.92) and first.test_images == 200
    assert "91.00% (90.00% and 92.00%: two seeds give no useful interval) on 200 test images (of 2 seeds)" \
        ", 3 seeds" in str(first)  # fmt: skip
    lead = "the winner is {} points ahead of the baseline of the finals on {} images"
    assert lead.format("6.0", "test") in " ".join(second_stage.lines(stage("old", "old", "new")))
    assert lead.format("6.0", "test") not in " ".join(second_stage.lines(stage("new", "new", "old")))
    assert "baseline of the finals on validation images" in " ".join(
        second_stage.lines(stage("new", "new", "old"))
    )


def test_a_baseline_that_wins_is_said_to() -> None:
    rows = [candidate(0, 0.7, baseline="[1,1,1]"), candidate(1, 0.8)]
    scores = {(Stage.FINALS, 0, 0): 0.9, (Stage.FINALS, 1, 0): 0.8}
    said = lines(Play(plan(finalists=1), rows, scores))
    assert "the winner is a baseline: the search is not ahead of a first guess" in said


def test_without_a_baseline_in_the_finals_nothing_is_said_of_one() -> None:
    assert not any("baseline" in line for line in lines(Play(plan(finalists=1), rising(3))))
