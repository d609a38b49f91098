"""The benchmark of search: its clock and counts are those of a real study, and a small run goes through."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from benchmarks.simulated import measure, ranking, report, strategies, suite, table
from benchmarks.simulated.document import RESULTS, percent, rendered
from benchmarks.simulated.features import features
from benchmarks.simulated.proposals import Deck, candidate, first_guesses, fitting, rejecting
from benchmarks.simulated.simulator import Finish, Search
from benchmarks.simulated.strategies import BASE, Rungs, Screen, Strategy
from benchmarks.simulated.swift import hastened
from benchmarks.simulated.weighing import weighed
from benchmarks.simulated.worlds import Candidate, Formula, Learning, Replay
from search.optuna_adapter.ask import DRAFT
from space import architecture, baselines, sampling, space as spaces
from space.budget import Budget
from space.membership import Answers
from space.space import SearchSpace, Task

ROOT = Path(__file__).parents[2]
DECK = Strategy("deck", strategies.uniform, strategies.never, sampling="deck", weighted=False)


@dataclass(frozen=True)
class Slow:
    """A world in which network number i takes i + 1 seconds an epoch, and later ones are better."""

    cards: Sequence[Candidate]
    name: str = "slow"
    epochs: int = 6
    space: SearchSpace = field(default_factory=spaces.default)
    budget: Budget = field(default_factory=Budget)
    task: Task = field(default_factory=Task)

    def learn(self, candidate: Candidate, seed: int) -> Learning:
        del seed
        number = [card.fingerprint for card in self.cards].index(candidate.fingerprint)
        final = 0.5 + number / 1_000
        return Learning(tuple(final * (e + 1) / self.epochs for e in range(self.epochs)), final, number + 1.0)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(level)


@pytest.fixture(scope="module")
def cards() -> list[Candidate]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=5))
    source = fitting(spaces.default(), Budget(), Task())
    return [source.ask(study)[1] for _ in range(40)]


def dealt(cards: Sequence[Candidate], strategy: Strategy = DECK, trials: int = 20, **more: object) -> Search:
    search = Search(Slow(cards), strategy, Deck(cards, seed=1), seed=1, trials=trials, cost=0.0)
    return replace(search, **more).run()


def test_exactly_as_many_trials_are_trained_as_were_asked_for(cards: list[Candidate]) -> None:
    for workers in (1, 3, 8):
        search = dealt(cards, workers=workers)
        assert search.trained == len(search.finished) == 20
        assert len(search.study.trials) == 20


def test_a_training_takes_its_seconds_and_workers_share_the_time(cards: list[Candidate]) -> None:
    alone = dealt(cards, workers=1)
    assert alone.time == pytest.approx(alone.spent)
    together = dealt(cards, workers=8)
    assert together.spent == pytest.approx(alone.spent)
    assert alone.spent / 8 <= together.time < alone.spent / 4


def test_a_result_is_known_only_when_its_training_is_over(cards: list[Candidate]) -> None:
    seen: list[int] = []

    class Watching(optuna.samplers.RandomSampler):
        def before_trial(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
            seen.append(sum(other.state.is_finished() for other in study.get_trials(deepcopy=False)))

    dealt(cards, replace(DECK, sampler=lambda _seed: Watching()), workers=8)
    assert seen[:8] == [0] * 8
    assert seen[8:] == list(range(1, 13))


def test_a_stopped_trial_costs_the_epochs_that_it_had(cards: list[Candidate]) -> None:
    class Third(optuna.pruners.BasePruner):
        def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
            return trial.last_step == 2 and trial.number % 2 == 1

    search = dealt(cards, replace(DECK, pruner=lambda _epochs: Third()), workers=1)
    assert search.tally["pruned"] == 10
    assert search.epochs == 10 * 6 + 10 * 2
    world, order = Slow(cards), list(reversed(Deck(cards, seed=1).order))
    seconds = [world.learn(cards[i], 1).seconds for i in order[:20]]
    assert search.spent == pytest.approx(sum(s * (2 if i % 2 else 6) for i, s in enumerate(seconds)))
    assert search.trained == 20


@dataclass(frozen=True)
class Contrary(Slow):
    """The better the network, the higher its losses; network 7 diverges."""

    def learn(self, candidate: Candidate, seed: int) -> Learning:
        learning = super().learn(candidate, seed)
        if learning.seconds == 8.0:
            return learning
        loss = tuple(learning.seconds / (epoch + 1) for epoch in range(self.epochs))
        return replace(learning, loss=loss, training_loss=tuple(2 * value for value in loss))


def test_a_winner_is_chosen_by_its_reading_and_the_pruner_hears_its_own(cards: list[Candidate]) -> None:
    def searched(**changes: Any) -> Search:
        strategy = replace(DECK, pruner=lambda _: optuna.pruners.MedianPruner(5), **changes)
        return Search(Contrary(cards), strategy, Deck(cards, seed=1), seed=1, trials=40, cost=0.0).run()

    by_accuracy = searched()
    assert by_accuracy.tally["pruned"] and measure.winners(by_accuracy.finished)[-1] == 0.539
    told = {trial.value for trial in by_accuracy.study.trials if trial.state == TrialState.COMPLETE}
    assert told == {finish.observed for finish in by_accuracy.finished}
    heard = searched(hears="training loss")
    assert heard.tally["pruned"] and 0.539 not in {finish.truth for finish in heard.finished}
    assert heard.study.best_trial.value == pytest.approx(-2 * 1 / 6)
    both = searched(hears="training loss", chosen_by="cross-entropy")
    assert measure.winners(both.finished)[-1] == 0.5
    assert max(finish.observed for finish in both.finished) == pytest.approx(-1 / 6)
    assert Contrary(cards).learn(cards[3], 1).read("both losses")[1] == pytest.approx(-4 / 2 - 2 * 4 / 2)
    assert Contrary(cards).learn(cards[7], 1).read("cross-entropy") == (-1e3,) * 6
    assert Contrary(cards).learn(cards[7], 1).read("both losses") == (-1e3,) * 6


def test_a_search_goes_on_until_the_cost_is_spent_too(cards: list[Candidate]) -> None:
    search = dealt(cards, trials=5, cost=300.0)
    assert search.spent >= 300.0
    assert search.trained > 5
    assert search.cost_at_trials is not None and search.cost_at_trials < search.spent


def test_rejected_proposals_cost_nothing_and_do_not_count() -> None:
    world = Formula(spaces.default(), epochs=3)
    source = rejecting(world.space, world.budget, world.task)
    strategy = replace(BASE, sampler=strategies.uniform, sampling="reject")
    search = Search(world, strategy, source, seed=2, trials=15, cost=0.0).run()
    over = [t for t in search.study.trials if any(v > 0 for v in t.constraints.values())]
    assert search.trained == 15
    assert search.epochs == 45
    assert search.tally["over"] == len(over) > 0
    assert search.tally["asks"] == len(search.study.trials) == 15 + len(over) + search.tally["repeated"]
    assert all(trial.state == TrialState.PRUNED for trial in over)


class Twice(optuna.samplers.RandomSampler):
    """Proposes each network twice."""

    asked = -1

    def before_trial(self, study, trial):  # type: ignore[no-untyped-def]
        self.asked += trial.number == DRAFT  # once more when it is stored

    def sample_independent(self, study, trial, name, distribution):  # type: ignore[no-untyped-def]
        self._rng.rng.seed(self.asked // 2 * 1_000 + sum(map(ord, name)))
        return super().sample_independent(study, trial, name, distribution)


@pytest.mark.parametrize(("told", "state"), [("value", "COMPLETE"), ("pruned", "PRUNED"), ("fail", "FAIL")])
def test_a_repeat_is_told_and_not_trained(told: Any, state: str) -> None:
    world = Formula(spaces.default(), epochs=2)
    source = fitting(world.space, world.budget, world.task)
    strategy = replace(BASE, sampler=lambda _seed: Twice(), weighted=False, repeats=told)
    search = Search(world, strategy, source, seed=0, trials=6, cost=0.0, workers=1).run()
    states = [trial.state.name for trial in search.study.trials]
    assert search.tally["repeated"] == 5
    assert states == ["COMPLETE", state] * 5 + ["COMPLETE"]
    if told == "value":
        assert search.study.trials[0].value == search.study.trials[1].value


def test_what_is_paused_at_a_rung_goes_on_from_there(cards: list[Candidate]) -> None:
    rungs = Rungs(1 / 3)
    assert rungs.epochs(6) == (2,)
    assert rungs.epochs(30) == (10,)
    assert Rungs(0.1).epochs(30) == (3, 9, 27)
    search = dealt(cards, replace(DECK, rungs=rungs), trials=30, workers=4)
    assert search.trained == 30
    assert 0 < search.promoted <= 10 + 4
    assert len(search.finished) == search.promoted
    assert search.epochs == 30 * 2 + search.promoted * 4  # the first two epochs were not done again
    completed = [trial for trial in search.study.trials if trial.state == TrialState.COMPLETE]
    assert {trial.value for trial in completed} == {finish.observed for finish in search.finished}


def test_a_pre_screen_trains_the_costlier_of_two() -> None:
    world = Formula(spaces.default(), epochs=2)
    source = fitting(world.space, world.budget, world.task)
    strategy = replace(BASE, sampler=strategies.uniform, screen=Screen(2, "macs"))
    search = Search(world, strategy, source, seed=0, trials=5, cost=0.0, workers=1).run()
    trials = search.study.trials
    macs = []
    for trial in trials:
        fixed = optuna.trial.FixedTrial(trial.params)
        macs.append(
            candidate(sampling.propose(world.space, world.budget, world.task, fixed), world.budget).macs
        )
    for i in range(0, 10, 2):
        kept = i if trials[i].value is not None else i + 1
        assert macs[kept] == max(macs[i : i + 2])
        assert trials[i + (kept == i)].state == TrialState.FAIL


def test_flat_trials_all_have_the_same_parameters() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    names = set()
    for _ in range(12):
        trial, _ = fitting(spaces.default(), Budget(), Task(), flat=True).ask(study)
        names.add(frozenset(name for name in trial.params if not name.startswith("hidden")))
    assert len(names) == 1


def made_of(params: dict[str, object], world: Formula) -> str:
    """The fingerprint of the network that these stored answers make."""
    answers = Answers(dict(params), {})
    return sampling.propose(world.space, world.budget, world.task, answers).fingerprint


@dataclass
class Scripted:
    """Deals these, and notes who would have proposed each."""

    cards: Sequence[Candidate]
    usual: list[bool] = field(default_factory=list)

    def begin(self, study: optuna.Study) -> int:
        return 0

    def ask(self, study: optuna.Study) -> tuple[optuna.Trial, Candidate | None]:
        self.usual.append(isinstance(study.sampler, optuna.samplers.TPESampler))
        return study.ask(), self.cards[len(self.usual) - 1]


def test_repeats_in_a_row_make_a_search_propose_at_random_and_refusals_do_not(cards: list[Candidate]) -> None:
    over = replace(cards[0], fingerprint="over", violations={"parameters": 1.0})
    repeated, refused = [cards[0], *[cards[0]] * 25, cards[1]], [cards[0], *[over] * 25, cards[1]]
    for dealt_, usual in ((repeated, 1 + 20), (refused, 1 + 26)):
        source = Scripted(dealt_)
        Search(Slow(cards), BASE, source, seed=1, trials=2, cost=0.0, workers=1).run()
        assert source.usual == [True] * usual + [False] * (27 - usual)


@pytest.mark.parametrize("flat", [False, True])
def test_what_a_simulated_trial_stores_is_the_network_that_was_trained(flat: bool) -> None:
    world = Formula(spaces.default(), Budget(60_000, 20_000_000))  # so little that shapes are shrunk
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=4))
    settled = fitting(world.space, world.budget, world.task, flat=flat)
    for _ in range(25):
        trial, card = settled.ask(study)
        assert card is not None and made_of(trial.params, world) == card.fingerprint


def test_a_sampler_that_is_told_what_was_drawn_learns_of_blocks_that_nobody_trained() -> None:
    world = Formula(spaces.default(), Budget(60_000, 20_000_000))

    def blocks(settled: bool) -> list[tuple[float, int]]:
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=4))
        source = fitting(world.space, world.budget, world.task, settled=settled)
        asked = [source.ask(study) for _ in range(25)]
        told = [sum(v for k, v in t.params.items() if k.startswith("blocks")) for t, _ in asked]
        shared = [t.params.get("same_blocks", False) for t, _ in asked]
        trained = [sum(stage.blocks for stage in card.architecture.stages) for _, card in asked]
        return [(a, b) for a, b, same in zip(told, trained, shared, strict=True) if not same]

    assert all(told == trained for told, trained in blocks(settled=True))
    assert any(told > trained for told, trained in blocks(settled=False))


@pytest.mark.parametrize(
    "sampler",
    [
        optuna.samplers.RandomSampler(seed=1),
        optuna.samplers.NSGAIISampler(seed=1),
        optuna.samplers.CmaEsSampler(seed=1, warn_independent_sampling=False),
        optuna.samplers.TPESampler(seed=1),
    ],
)
def test_first_draws_of_every_sampler_follow_the_weights(sampler: optuna.samplers.BaseSampler) -> None:
    study = optuna.create_study(sampler=weighed(sampler, {"kind": {"basic": 0.9, "odd": 0.1, "rare": 0.0}}))
    drawn = [study.ask().suggest_categorical("kind", ["basic", "odd", "rare"]) for _ in range(60)]
    assert drawn.count("rare") == 0
    assert 45 <= drawn.count("basic") <= 59


def test_a_search_begins_with_its_baselines_and_trains_them_to_the_end() -> None:
    class Always(optuna.pruners.BasePruner):
        def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
            return True

    world = Formula(spaces.default(), Budget(5_000_000, 1_000_000_000), epochs=3)
    where = (world.space, world.budget, world.task)
    start = first_guesses(*where)
    assert len(start) == 6
    source = fitting(*where, start=start, spared=True)
    search = Search(world, replace(BASE, pruner=lambda _epochs: Always()), source, 0, 12, 0.0).run()
    states = [trial.state.name for trial in search.study.trials if trial.state.name != "FAIL"]
    assert states == ["COMPLETE"] * 6 + ["PRUNED"] * 6
    assert made_of(search.study.trials[0].params, world) == plain_network(world, (3, 3, 3))


def plain_network(world: Formula, blocks: tuple[int, ...]) -> str:
    guesses = baselines.baselines(world.space, world.budget, world.task)
    return next(g.architecture.fingerprint for g in guesses if len(g.architecture.stages) == len(blocks))


def test_blocks_of_every_kind_are_told_apart_and_none_is_a_free_lunch() -> None:
    world = Formula(spaces.default(), Budget(), epochs=2)
    plain = architecture.Architecture(
        stem=architecture.Stem(width=32),
        stages=tuple(architecture.Stage(blocks=4, width=32 * 2**i, stride=min(2, i + 1)) for i in range(3)),
    )
    kinds = [
        architecture.Block(),
        architecture.Block(preactivation=True),
        architecture.Block(shortcut="padding"),
        architecture.Block(kind="bottleneck"),
        architecture.Block(kind="bottleneck", expansion=2),
        architecture.Block(kind="bottleneck", groups=4),
        architecture.Block(kind="inverted"),
    ]
    cards = [candidate(plain.model_copy(update={"block": block}), world.budget) for block in kinds]
    rows = [tuple(features(card.architecture, 1_000, 1_000)) for card in cards]
    assert len(set(rows)) == len(rows)  # though their costs are said to be alike
    alike = [replace(card, parameters=5_000_000, macs=600_000_000) for card in cards]
    truths = [[world.learn(card, seed).truth for card in alike] for seed in range(60)]
    winners = {row.index(max(row)) for row in truths}
    assert winners == {
        0,
        1,
        2,
        3,
        6,
    }  # the landscape's kind is ahead; of bottlenecks alike the first is named
    assert all(row[3] == row[4] == row[5] for row in truths)


def test_the_winner_is_what_a_ranking_would_name() -> None:
    rows = [(0.7, 0.71, 9), (0.9, 0.8, 9), (0.8, 0.99, 9), (0.9, 0.85, 5), (0.9, 0.1, 7)]
    finished = [Finish(i + 1, 10.0 * i, seen, truth, size) for i, (seen, truth, size) in enumerate(rows)]
    assert measure.winners(finished) == [0.71, 0.8, 0.8, 0.85, 0.85]


def test_intervals_and_corrections_are_the_textbook_ones() -> None:
    found = measure.interval([1.0, 2.0, 3.0, 4.0])
    assert (found.mean, round(found.half, 4)) == (2.5, 2.0543)  # t(3) = 3.1824, s = 1.2910
    corrected = measure.holm({"a": 0.01, "b": 0.04, "c": 0.03})
    assert corrected == pytest.approx({"a": 0.03, "c": 0.06, "b": 0.06})


def test_a_single_seed_has_no_interval() -> None:
    """It was shown as one of no width."""
    assert percent(report._interval([0.91234])) == "91.23"
    assert percent(report._interval([0.9, 0.9])) == "90.00 ± 0.00"


def test_the_swifter_sampler_proposes_the_same_networks() -> None:
    world = Formula(spaces.default(), epochs=2)

    def search() -> list[float]:
        source = fitting(world.space, world.budget, world.task)
        return [f.observed for f in Search(world, BASE, source, seed=3, trials=25, cost=0.0).run().finished]

    own = search()
    with hastened():
        assert search() == own


@pytest.mark.parametrize(
    "key", [path.name.removesuffix(".json.gz") for path in sorted(suite.CURVES.iterdir())]
)
def test_the_curves_in_the_repository_are_real_and_whole(key: str) -> None:
    assert key in (suite.TABLE, *suite.OLD_TABLES)
    curves = table.load(suite.CURVES / f"{key}.json.gz")
    assert len(curves.entries) == len({entry.architecture.fingerprint for entry in curves.entries}) >= 300
    for entry in curves.entries[::20]:
        again = candidate(entry.architecture, curves.budget)
        assert again.fits
        assert (again.parameters, again.macs) == (entry.parameters, entry.macs)
        assert len(entry.curve) == curves.epochs


def test_a_surrogate_tells_a_network_of_the_table_about_what_it_was() -> None:
    curves = table.load(suite.CURVES / "digits.json.gz")
    world = Replay(curves)
    pairs = [
        (world.learn(candidate(entry.architecture, curves.budget), seed).truth, entry.truth)
        for seed, entry in enumerate(curves.entries[::10])
    ]
    error = sorted(abs(told - was) for told, was in pairs)
    assert error[len(error) // 2] < 0.1
    one = candidate(curves.entries[0].architecture, curves.budget)
    assert world.learn(one, 1) == world.learn(one, 1)
    assert world.learn(one, 1).curve != world.learn(one, 2).curve


def test_a_small_run_goes_from_searches_to_tables_and_plots(tmp_path: Path) -> None:
    from benchmarks.simulated.document import images, summary
    from benchmarks.simulated.report import report

    stages = suite.stages(seeds=2, trials=10)
    rows = tmp_path / "rows.jsonl"
    for stage in stages:
        if stage.key in ("formula", "digits, dealt"):
            list(suite.run(stage, rows, only=("tpe", "random", "none", "median, third, 10 start-up")))
    count = len(rows.read_text().splitlines())
    formula = next(stage for stage in stages if stage.key == "formula")
    assert not list(suite.run(formula, rows, only=("tpe", "random")))  # nothing is run twice
    assert len(rows.read_text().splitlines()) == count
    document = json.loads(json.dumps(report(stages, suite.read(rows))))
    assert set(document["stages"]) == {"formula", "digits, dealt"}
    assert document["stages"]["formula"]["arms"]["tpe"]["trials"] >= 10
    assert "| random |" in summary(document)
    drawn = images(document)
    assert all(text.startswith("<svg") and text.endswith("</svg>\n") for text in drawn.values())


def test_the_page_holds_what_was_measured() -> None:
    document, ranked = (json.loads((ROOT / path).read_text()) for path in (RESULTS, ranking.RESULTS))
    page = (ROOT / "docs" / "search.md").read_text()
    assert rendered(page, document, ranked) == page


def test_the_command_tells_what_it_takes() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.simulated", "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert ran.returncode == 0
    assert "--quick" in ran.stdout
