"""What becomes of a proposal, with a real study and ledger and a training that costs nothing."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import optuna
import pytest
from optuna.trial import FixedTrial, TrialState
from sqlalchemy import Engine, text
from worker_samples import FakeTraining, make_config, make_context, make_study

from search.machine.device_lock import DeviceLock
from search.optuna_adapter import ask as optuna_ask, differing, stored, study as optuna_study
from search.recording import reconcile as reconciling
from search.report import page as report_page
from search.study.config import PrunerName, SamplerName, StudyConfig
from search.study.score import ScoreName
from search.study.short_form import short_form
from search.worker import trial as worker_trial
from search.worker.callbacks import Cancelled
from search.worker.context import WorkerContext
from space import sampling, space as spaces
from space.architecture import Architecture
from space.budget import Budget
from space.errors import DivergedError, ExhaustedError, LeaseLostError
from space.random_suggest import RandomSuggest
from space.space import Task
from storage import candidates, invariants, leases, studies
from storage.leases import Claim, NoClaim
from storage.row_types import TRAINED, Candidate, State
from trainer.callbacks import TrainingCallbacks
from trainer.outcome import EpochReport, Outcome


@contextmanager
def context_of(url: str, train: FakeTraining, config: StudyConfig, trials: int) -> Iterator[WorkerContext]:
    engine, record = make_study(url, config, trials)
    with optuna_study.open_study(url, record.name, config) as opened, TemporaryDirectory() as folder:
        yield make_context(opened, engine, record, train, config, Path(folder))
    engine.dispose()


def take(context: WorkerContext) -> Claim:
    claim = leases.claim(context.engine, context.study_id, "one", 60.0)
    assert isinstance(claim, Claim)
    return claim


def run_all(context: WorkerContext) -> list[State]:
    states = []
    while isinstance(claim := leases.claim(context.engine, context.study_id, "one", 60.0), Claim):
        states.append(worker_trial.run(context, claim))
    return states


def test_every_trained_trial_is_in_both_books_with_its_cost(database_url: str) -> None:
    with context_of(database_url, FakeTraining(), make_config(), 5) as context:
        assert run_all(context) == [State.COMPLETED] * 5
        rows = candidates.candidates(context.engine, context.study_id)
        trials = context.study.get_trials(deepcopy=False)
        assert [row.number for row in rows] == [trial.number for trial in trials]
        for row, trial in zip(rows, trials, strict=True):
            assert trial.user_attrs["parameters"] == row.parameters <= 5_000_000
            assert trial.user_attrs["macs"] == row.macs
            assert trial.value == row.accuracy
            assert len(trial.intermediate_values) == row.epochs == 3
        assert len(candidates.epochs(context.engine, context.study_id)) == 5


def test_parameters_and_macs_are_there_from_the_moment_of_the_proposal(sqlite_url: str) -> None:
    seen = []

    def look(_: Architecture) -> None:
        running = context.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        seen.append(sorted(running[0].user_attrs))

    with context_of(sqlite_url, FakeTraining(before=look), make_config(), 1) as context:
        run_all(context)
    assert seen == [["fingerprint", "macs", "network", "parameters"]]


def test_optuna_alone_says_which_network_a_trial_is(sqlite_url: str) -> None:
    with context_of(sqlite_url, FakeTraining(), make_config(), 2) as context:
        run_all(context)
        for row, trial in zip(rows_of(context), context.study.get_trials(deepcopy=False), strict=True):
            assert trial.user_attrs["fingerprint"] == row.fingerprint
            assert trial.user_attrs["network"] == short_form(Architecture.parse(row.architecture))


GUESS = "[3,3,3] at full budget"


def rows_of(context: WorkerContext) -> list[Candidate]:
    return candidates.candidates(context.engine, context.study_id)


def enqueue_baseline(context: WorkerContext) -> None:
    context.study.enqueue_trial({"depth": 3}, user_attrs={"baseline": GUESS})


@pytest.mark.parametrize(
    "pruner",
    ["median", *(pytest.param(name, marks=pytest.mark.thorough) for name in ("asha", "hyperband"))],
)
def test_a_baseline_is_trained_to_the_end_where_any_other_network_is_pruned(
    sqlite_url: str, pruner: PrunerName
) -> None:
    train = FakeTraining(epochs=9, accuracy=lambda _: next(scores))
    scores = iter([0.9] * 12 + [0.1, 0.1])
    with context_of(sqlite_url, train, make_config(pruner=pruner, epochs=9), 14) as context:
        for _ in range(12):
            worker_trial.run(context, take(context))
        enqueue_baseline(context)
        states = run_all(context)
        guess, other = rows_of(context)[-2:]
        assert (states, guess.epochs, guess.baseline) == ([State.COMPLETED, State.PRUNED], 9, GUESS)
        assert other.baseline is None
        assert context.study.get_trials(deepcopy=False)[guess.number].value == 0.1


def test_the_next_attempt_at_a_baseline_is_one_too(sqlite_url: str) -> None:
    with context_of(sqlite_url, FakeTraining(), make_config(), 1) as context:
        enqueue_baseline(context)
        trial, candidate, _ = worker_trial.propose_new(context, take(context))
        reconciling.tell_lost(context.study, leases.evict(context.engine, context.study_id, "one"))
        assert run_all(context) == [State.COMPLETED]
        lost, again = rows_of(context)
        assert (lost.number, lost.baseline, again.baseline) == (candidate.number, GUESS, GUESS)
        kept = context.study.get_trials(deepcopy=False)[again.number].user_attrs
        assert {name: kept[name] for name in trial.user_attrs} == trial.user_attrs


def test_an_oversized_candidate_is_never_trained(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard does not trust the sampling: here it is told to propose something too large once."""
    train, config, real = FakeTraining(), make_config(max_parameters=100_000), sampling.proposal
    asked = iter([10_000_000])

    def too_large_once(space, budget, task, suggest):  # type: ignore[no-untyped-def]
        larger = next(asked, None)
        return real(space, replace(budget, max_parameters=larger) if larger else budget, task, suggest)

    monkeypatch.setattr(sampling, "proposal", too_large_once)
    with context_of(sqlite_url, train, config, 1) as context:
        context.study.enqueue_trial({"budget_share": 1.0})
        assert run_all(context) == [State.COMPLETED]
        first, second = candidates.candidates(context.engine, context.study_id)
        assert first.state == State.OVER_BUDGET
        assert "over 100,000" in str(first.reason)
        assert [fingerprint for fingerprint, _ in train.asked] == [second.fingerprint]
        guarded = context.study.get_trials(deepcopy=False)[0]
        assert guarded.state == TrialState.PRUNED
        assert guarded.constraints["parameters"] > 0
        assert guarded.system_attrs["constraints"][0] > 0  # the form that optuna-dashboard reads
        assert context.study.best_trial.number == second.number


TWO_NETWORKS = {
    "depth": [2],
    "width": {"low": 8, "high": 8},
    "stem": {"width_ratio": [1.0]},
    "stage": {"blocks": [1], "kernel": [1, 3], "width_ratio": [1.0], "stride": [2]},
    "stages": {"2": {"kernel": [3]}},
    "budget_share": {"low": 1.0, "high": 1.0},
}


def test_a_repeated_network_is_answered_from_the_ledger(sqlite_url: str) -> None:
    train = FakeTraining()
    with context_of(sqlite_url, train, make_config(spaces.parse(TWO_NETWORKS)), 2) as context:
        run_all(context)
        rows = candidates.candidates(context.engine, context.study_id)
        repeats = [row for row in rows if row.state == State.REPEATED]
        assert len(train.asked) == len(set(train.asked)) == 2
        assert repeats, "two networks in random order without a repeat: choose another seed"
        trials = context.study.get_trials(deepcopy=False)
        for row in repeats:
            assert row.repeat_of is not None
            assert trials[row.number].user_attrs["repeat_of"] == row.repeat_of


def test_the_weights_of_a_trial_that_is_about_to_end_stay(sqlite_url: str) -> None:
    """They are kept before its end is written: another worker that tidies up meanwhile leaves them."""
    with context_of(sqlite_url, FakeTraining(), make_config(), 3) as context:
        context.files.best = 1
        context.files.folder.mkdir()
        _, about_to_end, _ = worker_trial.propose_new(context, take(context))
        ended_unkept = about_to_end.number + 7
        for number in (about_to_end.number, ended_unkept):
            context.files.weights(number).touch()
        claim = leases.claim(context.engine, context.study_id, "another", 60.0)
        assert isinstance(claim, Claim)
        worker_trial.run(context, claim)
        assert context.files.weights(about_to_end.number).exists()
        assert not context.files.weights(ended_unkept).exists()


class Weighty(FakeTraining):
    """A training that has weights to keep; `saved` are the files that it was asked for."""

    saved: list[str]

    def __call__(
        self, architecture: Architecture, seed: int, *, callbacks: TrainingCallbacks, **others: Any
    ) -> Outcome:
        outcome = super().__call__(architecture, seed, callbacks=callbacks, **others)
        assert callbacks.on_trained
        callbacks.on_trained(outcome, self._save)
        return outcome

    def _save(self, path: Path) -> None:
        path.touch()
        self.saved.append(path.name)


@pytest.mark.parametrize("score", ["accuracy", "macro-f1"])
def test_the_weights_of_the_best_by_what_is_maximised_are_kept_and_no_others_are_written(
    sqlite_url: str, score: ScoreName
) -> None:
    values = [0.5, 0.4, 0.6, 0.6, 0.1]
    by_trial, others = iter(values), iter([0.1, 0.9, 0.2, 0.3, 0.8])  # which would keep other ones
    train = Weighty(accuracy=lambda _: next(by_trial), macro_f1=lambda _: next(others))
    if score != "accuracy":
        train.accuracy, train.macro_f1 = train.macro_f1, train.accuracy
    train.saved = []
    with context_of(sqlite_url, train, make_config(score=score), 5) as context:
        context.files.best = 1
        context.files.folder.mkdir()
        run_all(context)
        (best,) = candidates.best(context.engine, context.study_id)
        assert best.value == 0.6 and best.number in (2, 3)
        assert train.saved == [context.files.weights(number).name for number in (0, 2, 3)]
        assert [path.name for path in context.files.folder.iterdir()] == [
            context.files.weights(best.number).name
        ]


@pytest.mark.parametrize("said", ["bad bytes: \0", "no file r\udcfcck.png"])
def test_what_a_failed_training_says_is_stored_whatever_is_in_it(said: str, database_url: str) -> None:
    def fail(_: Architecture) -> None:
        raise ValueError(said)

    with context_of(database_url, FakeTraining(before=fail), make_config(), 3) as context:
        assert worker_trial.run(context, take(context)) == State.FAILED
        (row,) = candidates.candidates(context.engine, context.study_id)
        assert (row.reason or "").endswith(said.encode("unicode-escape").decode())


def test_the_sampler_learns_nothing_from_a_repeat(sqlite_url: str) -> None:
    """Told the value of its original it would count as one more good trial, and be proposed once more."""
    config = make_config(spaces.parse(TWO_NETWORKS), sampler="tpe")
    with context_of(sqlite_url, FakeTraining(), config, 2) as context:
        run_all(context)
        trials = context.study.get_trials(deepcopy=False)
        repeats = [trial for trial in trials if "repeat_of" in trial.user_attrs]
        assert repeats, "two networks in random order without a repeat: choose another seed"
        assert {trial.state for trial in repeats} == {TrialState.FAIL}
        assert all(trial.value is None and not trial.intermediate_values for trial in repeats)
        wrong = reconciling.compare(
            stored.ends(context.engine, context.study.study_name) or {},
            candidates.ended(context.engine, context.study_id),
        )
        assert wrong == [], "db check holds what a repeat was told for right"


DIGITS = Task(channels=1, image_size=8, classes=10)


def digits(**changes: Any) -> StudyConfig:
    """The README's own search: most of its draws have a kernel that is larger than a map."""
    update = {"task": DIGITS, "budget": Budget(5_000_000, 4_000_000), **changes}
    return make_config(sampler="tpe").model_copy(update=update)


def assert_stored_as_trained(context: WorkerContext) -> None:
    """The parameters of every trial make the network in the ledger, and settled again stay as they are."""
    rows = candidates.candidates(context.engine, context.study_id)
    trials = context.study.get_trials(deepcopy=False)
    assert len(rows) == len(trials)
    for row, trial in zip(rows, trials, strict=True):
        fixed = FixedTrial(trial.params)
        drawn = context.config.draw(fixed)
        assert drawn.architecture.fingerprint == row.fingerprint == trial.user_attrs["fingerprint"]
        assert fixed.distributions == trial.distributions
        assert context.config.settle(trial.params, drawn) == (trial.params, ())
        assert "differs" not in trial.user_attrs
        for i, stage in enumerate(Architecture.parse(row.architecture).stages, start=1):
            assert trial.params.get(f"kernel_{i}", trial.params.get("kernel")) == stage.kernel


@pytest.mark.parametrize("plain", [False, True], ids=["shortcuts", "plain-optuna"])
def test_what_is_stored_is_what_was_trained(
    plain: bool, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the sampler's random start, of two enqueued trials too: one whole, one that says little."""
    if plain:
        monkeypatch.setenv("SEARCH_PLAIN_OPTUNA", "1")
    config = digits()
    with context_of(sqlite_url, FakeTraining(), config, 13) as context:
        dice = RandomSuggest(3)
        config.propose(dice)
        context.study.enqueue_trial(dice.answers | {"same_kernel": True, "kernel": 7})
        context.study.enqueue_trial({"same_kernel": True, "kernel": 5})
        run_all(context)
        assert_stored_as_trained(context)
        assert differing.count(context.engine, "bench") == 0


def test_a_trial_that_is_begun_again_is_stored_as_it_was(sqlite_url: str) -> None:
    with context_of(sqlite_url, FakeTraining(), digits(), 3) as context:
        claim = take(context)
        trial, _, _ = worker_trial.propose_new(context, claim)
        reconciling.tell_lost(context.study, leases.evict(context.engine, context.study_id, "one"))
        run_all(context)
        first, again = context.study.get_trials(deepcopy=False)[:2]
        assert again.user_attrs["retry_of"] == first.number == trial.number
        assert (again.params, again.distributions) == (first.params, first.distributions)
        assert again.user_attrs["fingerprint"] == first.user_attrs["fingerprint"]


def test_a_trial_without_parameters_is_begun_again_with_its_network(sqlite_url: str) -> None:
    """As `search db repair` stores those of which the space has no answers: drawn anew they were another
    network, and the one that was owed stayed so for ever."""
    with context_of(sqlite_url, FakeTraining(), digits(), 3) as context:
        trial, lost, _ = worker_trial.propose_new(context, take(context))
        reconciling.tell_lost(context.study, leases.evict(context.engine, context.study_id, "one"))
        with context.engine.begin() as connection:
            connection.execute(text("DELETE FROM trial_params"))
        assert not optuna_ask.trial_of(context.study, trial.number).params
        run_all(context)
        rows = candidates.candidates(context.engine, context.study_id)
        assert (rows[1].fingerprint, rows[1].attempt) == (lost.fingerprint, 2)
        assert candidates.next_retry(context.engine, context.study_id) is None


def test_a_plain_draw_is_stored_with_the_width_that_it_got(sqlite_url: str) -> None:
    with context_of(sqlite_url, FakeTraining(), digits(sampling="reject"), 4) as context:
        run_all(context)
        assert_stored_as_trained(context)
        rows = candidates.candidates(context.engine, context.study_id)
        widths = [Architecture.parse(row.architecture).stages[0].width for row in rows]
        assert [trial.params["width"] for trial in context.study.get_trials(deepcopy=False)] == widths


def test_what_no_parameter_can_say_is_an_attribute_and_counted(sqlite_url: str) -> None:
    space = spaces.parse({"depth": [3], "stage": {"kernel": [3, 5]}, "same": {"kernel": [True]}})
    config = digits(space=space)
    assert set(config.expected_to_differ(20)) == {"kernel"}
    with context_of(sqlite_url, FakeTraining(), config, 4) as context:
        context.study.enqueue_trial({"kernel": 5})
        run_all(context)
        trials = context.study.get_trials(deepcopy=False)
        assert trials[0].user_attrs["differs"] == ["kernel"]
        for trial in trials:
            assert trial.user_attrs.get("differs", []) == ["kernel"] * (trial.params["kernel"] == 5)
        count = differing.count(context.engine, "bench")
        assert count == sum("differs" in trial.user_attrs for trial in trials) >= 1
        record, rows = studies.find(context.engine, "bench"), candidates.candidates(context.engine, 1)
        assert f"Of {count} of {len(rows)} proposals" in report_page.page(record, config, rows, {}, count)
        assert "something else" not in report_page.page(record, config, rows, {})


def test_plain_sampling_prunes_what_exceeds_and_reaches_its_number(sqlite_url: str) -> None:
    config = make_config(max_parameters=1_000_000).model_copy(update={"sampling": "reject"})
    with context_of(sqlite_url, FakeTraining(), config, 5) as context:
        assert run_all(context) == [State.COMPLETED] * 5
        tally = candidates.tally(context.engine, context.study_id)
        assert tally[State.OVER_BUDGET] > 0
        for row, trial in zip(
            candidates.candidates(context.engine, context.study_id),
            context.study.get_trials(deepcopy=False),
            strict=True,
        ):
            assert (row.parameters > 1_000_000) == (row.state == State.OVER_BUDGET)
            assert (trial.state == TrialState.PRUNED) == (row.state == State.OVER_BUDGET)
            assert "width" in trial.params and "budget_share" not in trial.params


def test_plain_sampling_that_never_fits_ends_the_search(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_trial, "GIVE_UP_OVER_BUDGET", 30)
    config = make_config(max_parameters=1_000).model_copy(update={"sampling": "reject"})
    with context_of(sqlite_url, FakeTraining(), config, 1) as context:
        with pytest.raises(ExhaustedError, match="of 30 proposals none was new and within 1,000 parameters"):
            run_all(context)
        assert candidates.tally(context.engine, context.study_id)[State.OVER_BUDGET] == 30


def test_an_exhausted_space_ends_the_search_and_says_so(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_trial, "GIVE_UP_AFTER", 30)
    with context_of(sqlite_url, FakeTraining(), make_config(spaces.parse(TWO_NETWORKS)), 3) as context:
        with pytest.raises(ExhaustedError, match="30 proposals in a row"):
            run_all(context)
        tally = candidates.tally(context.engine, context.study_id)
        assert tally[State.COMPLETED] == 2
        assert tally[State.REPEATED] >= 30


def test_after_twenty_repeats_in_a_row_proposals_are_random(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_trial, "GIVE_UP_AFTER", 23)
    make, asked = worker_trial.samplers.make_sampler, []

    def noted(name: SamplerName, *seed: int, **more: Any) -> optuna.samplers.BaseSampler:
        asked.append(name)
        return make("random", *seed, **more)

    config = make_config(spaces.parse(TWO_NETWORKS), sampler="tpe")
    with context_of(sqlite_url, FakeTraining(), config, 3) as context:
        for _ in range(2):
            worker_trial.run(context, take(context))
        asked.clear()
        monkeypatch.setattr(worker_trial.samplers, "make_sampler", noted)
        with pytest.raises(ExhaustedError, match="23 proposals in a row"):
            worker_trial.run(context, take(context))
    assert asked == ["tpe"] * 20 + ["random"] * 3


def test_a_proposal_over_the_budget_begins_the_count_of_repeats_anew(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is none: a search of plain draws ends by what never fits, not as a space that is exhausted."""
    monkeypatch.setattr(worker_trial, "GIVE_UP_AFTER", 2)
    monkeypatch.setattr(worker_trial, "GIVE_UP_OVER_BUDGET", 5)
    found = iter([State.REPEATED, State.OVER_BUDGET] * 3)
    enter = worker_trial.record

    def record(*given: Any) -> Candidate:
        state = next(found)
        repeats = 0 if state == State.REPEATED else None
        return replace(enter(*given), state=state, repeat_of=repeats)

    with context_of(sqlite_url, FakeTraining(), make_config(), 1) as context:
        monkeypatch.setattr(worker_trial, "record", record)
        monkeypatch.setattr(reconciling, "tell_untrained", lambda *_: None)
        with pytest.raises(ExhaustedError, match="of 5 proposals none was new and within"):
            worker_trial.run(context, take(context))


class Panic(BaseException):
    """As those of libraries in Rust are: no Exception."""


@pytest.mark.parametrize(
    ("error", "state", "told"),
    [
        (DivergedError("the loss is not a number in epoch 1"), State.DIVERGED, TrialState.PRUNED),
        (ValueError("a bug"), State.FAILED, TrialState.FAIL),
        (SystemExit("a score of the user's own that ends"), State.FAILED, TrialState.FAIL),
        (Panic("of a library in another language"), State.FAILED, TrialState.FAIL),
    ],
)
def test_a_training_that_ends_badly_is_written_down_and_does_not_count(
    sqlite_url: str, error: BaseException, state: State, told: TrialState
) -> None:
    errors = iter([error])

    def fail_once(_: Architecture) -> None:
        if problem := next(errors, None):
            raise problem

    with context_of(sqlite_url, FakeTraining(before=fail_once), make_config(), 2) as context:
        assert run_all(context) == [state, State.COMPLETED, State.COMPLETED]
        first = candidates.candidates(context.engine, context.study_id)[0]
        assert str(error) in str(first.reason)
        assert context.study.get_trials(deepcopy=False)[0].state == told


def test_a_trial_without_enough_memory_is_trained_once_more_alone_at_half_the_batch(sqlite_url: str) -> None:
    with context_of(sqlite_url, Hungry(128), make_config(), 1) as context:
        context.train_network.context = context
        assert run_all(context) == [State.COMPLETED]
        first = candidates.candidates(context.engine, context.study_id)[0]
        assert (first.batch_size, first.attempt) == (64, 1)
        assert first.reason == "out of memory at batch 128, trained alone at 64"
        assert context.train_network.batches == [128, 64]
        assert context.train_network.company == [True, False]
        assert context.study.get_trials(deepcopy=False)[0].value == first.accuracy


def test_a_shortage_of_memory_is_the_neighbours_only_where_there_are_some(sqlite_url: str) -> None:
    with context_of(sqlite_url, Hungry(128), make_config(), 2) as context:
        context.train_network.context = context
        assert worker_trial.run(context, take(context)) == State.COMPLETED
        assert context.out_of_memory_beside_others == 0
        neighbour = ExitStack()
        neighbour.enter_context(context.device_lock.shared(lambda: None))
        context.cancelled = lambda: bool(neighbour.close())  # asked while one waits to be alone
        assert worker_trial.run(context, take(context)) == State.COMPLETED
        assert context.out_of_memory_beside_others == 1


def test_a_trial_that_half_the_batch_is_too_much_for_ends_out_of_memory(sqlite_url: str) -> None:
    with context_of(sqlite_url, Hungry(64), make_config(), 1) as context:
        context.train_network.context = context
        assert worker_trial.run(context, take(context)) == State.OUT_OF_MEMORY
        first = candidates.candidates(context.engine, context.study_id)[0]
        assert first.reason == "out of memory at batch 128, and alone at 64: no more"
        assert context.train_network.batches == [128, 64]
        assert context.study.get_trials(deepcopy=False)[0].state == TrialState.PRUNED


def test_epochs_before_a_shortage_of_memory_do_not_count(database_url: str) -> None:
    """Trained again from the first epoch, and stopped after it: nothing is left of the two before."""

    class Late(FakeTraining):
        def __call__(self, architecture: Architecture, seed: int, **calls: Any) -> Outcome:
            small = calls["recipe"].batch_size < 128
            for epoch in range(1, 3):
                reached = epoch / 10 + 0.5 * small
                calls["callbacks"].on_epoch(EpochReport(epoch, 3, 1.0, 1.0, reached, 0.1, 0.5, 100.0))
                if small:
                    raise DivergedError("enough")
            raise MemoryError("no more")

    with context_of(database_url, Late(), make_config(), 1) as context:
        assert worker_trial.run(context, take(context)) == State.DIVERGED
        (stored,) = candidates.epochs(context.engine, context.study_id).values()
        assert [(epoch.epoch, epoch.validation_accuracy) for epoch in stored] == [(1, 0.6)]
        (told,) = context.study.get_trials(deepcopy=False)
        assert (told.state, told.value, told.intermediate_values) == (TrialState.PRUNED, 0.6, {1: 0.6})


class Hungry(FakeTraining):
    """Has not enough memory for batches of so many; sees whether another one could train beside it."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit, self.batches, self.company = limit, list[int](), list[bool]()
        self.context: WorkerContext

    def __call__(self, architecture: Architecture, seed: int, **others: Any) -> Outcome:
        self.batches.append(others["recipe"].batch_size)
        self.company.append(self._another_comes_in())
        if others["recipe"].batch_size >= self.limit:
            raise MemoryError("no more")
        return super().__call__(architecture, seed, **others)

    def _another_comes_in(self) -> bool:
        def refuse() -> None:
            raise BlockingIOError

        try:
            with DeviceLock(self.context.device_lock.folder, self.context.device_lock.device).shared(refuse):
                return True
        except BlockingIOError:
            return False


def test_a_worker_told_to_end_leaves_no_running_trial(sqlite_url: str) -> None:
    with context_of(sqlite_url, FakeTraining(), make_config(), 2) as context:
        context.cancelled = lambda: True
        with pytest.raises(Cancelled):
            worker_trial.run(context, take(context))
        assert candidates.candidates(context.engine, context.study_id)[0].state == State.CANCELLED
        states = [trial.state for trial in context.study.get_trials(deepcopy=False)]
        assert states == [TrialState.FAIL]
        assert leases.running(context.engine, context.study_id) == []


def test_a_cancelled_trial_is_the_next_to_be_trained(sqlite_url: str) -> None:
    with context_of(sqlite_url, FakeTraining(), make_config(), 2) as context:
        context.cancelled = lambda: True
        with pytest.raises(Cancelled):
            worker_trial.run(context, take(context))
        context.cancelled = lambda: False
        assert run_all(context) == [State.COMPLETED] * 2
        first, again, _ = candidates.candidates(context.engine, context.study_id)
        assert (first.fingerprint, first.seed, first.attempt) == (
            again.fingerprint,
            again.seed,
            again.attempt,
        )
        assert invariants.check(context.engine, context.study_id) == []


def test_a_pruned_trial_says_when_and_keeps_its_epochs(sqlite_url: str) -> None:
    scores = iter([0.9] * 10 + [0.1])
    train = FakeTraining(epochs=6, accuracy=lambda _: next(scores))
    with context_of(sqlite_url, train, make_config(pruner="median", epochs=6), 11) as context:
        states = run_all(context)
        assert states == [State.COMPLETED] * 10 + [State.PRUNED]
        last = candidates.candidates(context.engine, context.study_id)[-1]
        assert last.reason == "median after epoch 3 of 6"
        assert last.epochs == len(candidates.epochs(context.engine, context.study_id)[last.id]) == 3


def test_a_late_worker_changes_nothing_and_its_trial_is_run_again(database_url: str) -> None:
    """The lease runs out in the middle of a training: the trial is another's, with the same network."""
    late = []

    def expire(_: Architecture) -> None:
        if not late:
            late.append(True)
            reap_as_another(context.engine, context)

    train = FakeTraining(before=expire)
    with context_of(database_url, train, make_config(), 1) as context:
        with pytest.raises(LeaseLostError):
            worker_trial.run(context, take(context))
        assert run_all(context) == [State.COMPLETED]
        lost, retried = candidates.candidates(context.engine, context.study_id)
        assert (lost.state, lost.accuracy) == (State.LOST, None)
        assert (retried.fingerprint, retried.seed, retried.attempt) == (lost.fingerprint, lost.seed, 2)
        assert train.asked[0] == train.asked[1]
        states = [trial.state for trial in context.study.get_trials(deepcopy=False)]
        assert states == [TrialState.FAIL, TrialState.COMPLETE]
        assert leases.claim(context.engine, context.study_id, "one", 60.0) is NoClaim.DONE


def reap_as_another(engine: Engine, context: WorkerContext) -> None:
    with engine.execution_options(writes=True).begin() as connection:
        connection.execute(text("UPDATE search_claims SET expires_at = 0, lease_seconds = 0"))
    lost = leases.reap(engine, context.study_id)
    assert len(lost) == 1
    reconciling.tell_lost(context.study, lost)


def test_one_seed_and_one_worker_give_the_same_sequence_and_another_seed_another(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    sequences = []
    for seed in (0, 0, 1):
        url = f"sqlite:///{tmp_path_factory.mktemp('same') / 'search.db'}"
        train = FakeTraining()
        config = make_config(sampler="tpe").model_copy(update={"seed": seed})
        with context_of(url, train, config, 16 if seed == 0 else 3) as context:
            run_all(context)
        sequences.append(train.asked)
    assert sequences[0] == sequences[1]
    assert len(set(sequences[0])) == 16
    for one, other in zip(sequences[0], sequences[2], strict=False):
        assert one[0] != other[0] and one[1] != other[1], "neither networks nor the seeds of their trainings"


def test_a_network_is_trained_from_the_seed_that_it_has_had_ever_since() -> None:
    """A study that is gone on with, and `search replay`, train as before: same seed, same numbers."""
    fingerprint = "0123456789abcdef"
    assert worker_trial.training_seed(0, fingerprint) == 469_633_075
    assert worker_trial.training_seed(7, fingerprint) == 302_593_204


@pytest.mark.thorough  # storage/test_racing.py races processes
def test_the_number_is_exact_with_workers_that_race_and_fail(faulty_url: str, tmp_path: Path) -> None:
    lock, count = threading.Lock(), [0]

    def sometimes(_: Architecture) -> None:
        with lock:
            count[0] += 1
            broken = count[0] % 5 == 0
        if broken:
            raise RuntimeError("every fifth training breaks")

    config = make_config()
    engine, record = make_study(faulty_url, config, 20)
    given = (faulty_url, engine, record, config, sometimes, tmp_path)
    threads = [threading.Thread(target=race, args=(*given, i)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tally = candidates.tally(engine, record.id)
    with optuna_study.open_study(faulty_url, record.name, config) as opened:
        known = len(opened.get_trials(deepcopy=False))
    assert sum(tally[state] for state in TRAINED) == 20
    assert tally[State.FAILED] >= 4
    assert tally[State.RUNNING] == 0
    assert sum(tally.values()) == known
    engine.dispose()


def race(url, engine, record, config, sometimes, folder, i):  # type: ignore[no-untyped-def]
    with optuna_study.open_study(url, record.name, config) as opened:
        context = make_context(opened, engine, record, FakeTraining(before=sometimes), config, folder)
        while (answer := leases.claim(engine, record.id, f"worker-{i}", 60.0)) is not NoClaim.DONE:
            if isinstance(answer, Claim):
                worker_trial.run(context, answer)


def test_a_training_that_hangs_is_written_down_and_given_up(sqlite_url: str) -> None:
    """It never calls back: another thread ends the trial, and then the process (here: lets it go on)."""
    hung, let_go = [], threading.Event()

    def hang(_: Architecture) -> None:
        if not hung:
            hung.append(True)
            assert let_go.wait(60)

    with context_of(sqlite_url, FakeTraining(before=hang), make_config(), 1) as context:
        plain, context.abandon = context.options, let_go.set
        context.options = replace(plain, stall_seconds=0.2)
        with pytest.raises(LeaseLostError):
            worker_trial.run(context, take(context))
        context.options = plain
        assert run_all(context) == [State.COMPLETED]
        first = candidates.candidates(context.engine, context.study_id)[0]
        assert (first.state, first.reason) == (State.TIMED_OUT, "no batch for 0 s, --stall-timeout")
        assert context.study.get_trials(deepcopy=False)[0].state == TrialState.PRUNED


def test_a_trial_may_not_take_longer_than_it_may(sqlite_url: str) -> None:
    with context_of(sqlite_url, FakeTraining(), make_config(), 1) as context:
        context.options = replace(context.options, trial_seconds=0.0)
        assert worker_trial.run(context, take(context)) == State.TIMED_OUT
        assert "--trial-timeout" in str(candidates.candidates(context.engine, context.study_id)[0].reason)


def test_a_slow_training_keeps_its_lease(sqlite_url: str) -> None:
    """Between two batches the lease is renewed, often enough for the shortest of leases."""
    with context_of(sqlite_url, FakeTraining(), make_config(), 1) as context:
        renewals, renewed = [], threading.Event()
        context.options = replace(context.options, lease_seconds=0.4)
        real = leases.renew

        def count(*arguments: Any) -> studies.Control:
            order = real(*arguments)
            renewals.append(True)
            if len(renewals) == 3:
                renewed.set()
            return order

        context.train_network = FakeTraining(before=lambda _: assert_(renewed.wait(60)))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(leases, "renew", count)
            assert worker_trial.run(context, take(context)) == State.COMPLETED
        assert len(renewals) >= 3


def test_a_proposal_over_budget_whose_worker_died_before_optuna_heard_of_it_keeps_the_sampler_away(
    sqlite_url: str,
) -> None:
    """As it would have been told: never FAIL, of which a sampler learns nothing."""
    with context_of(sqlite_url, FakeTraining(), make_config(max_parameters=10_000), 1) as context:
        claim = take(context)
        trial = context.study.ask()
        network = Architecture.model_validate(
            {"stem": {"width": 512}, "stages": [{"blocks": 1, "width": 512}]}
        )
        row = worker_trial.record(context, claim, trial, network)
        assert row.state == State.OVER_BUDGET
        leases.evict(context.engine, context.study_id, "one")
        reconciling.reconcile(context.study, context.engine, context.study_id)
        assert [one.state for one in context.study.trials] == [TrialState.PRUNED]


class Killed(BaseException):
    """What ends a worker where nobody catches it."""


def die_before_it_enters_its_network(context: WorkerContext, worker: str) -> None:
    """A worker that has a trial of Optuna's, and dies before the ledger hears of it."""

    def kill(*_: object) -> None:
        raise Killed

    claim = leases.claim(context.engine, context.study_id, worker, 60.0)
    assert isinstance(claim, Claim)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "propose", kill)
        with pytest.raises(Killed):
            worker_trial.propose_new(context, claim)


@pytest.mark.parametrize("by_launch", [False, True])
def test_a_queued_network_whose_worker_dies_before_it_enters_it_is_queued_again(
    by_launch: bool, database_url: str
) -> None:
    """Between the queue of Optuna's and our row nobody else knows of it."""
    with context_of(database_url, FakeTraining(), make_config(), 2) as context:
        enqueue_baseline(context)
        die_before_it_enters_its_network(context, "another")
        leases.evict(context.engine, context.study_id, "another")
        if by_launch:
            reconciling.reconcile(context.study, context.engine, context.study_id)
        assert run_all(context) == [State.COMPLETED] * 2
        assert [row.baseline for row in rows_of(context)] == [GUESS, None]
        taken, again, _ = context.study.get_trials(deepcopy=False)
        assert (taken.state, again.state) == (TrialState.FAIL, TrialState.COMPLETE)
        assert reconciling.disagreements(context.study, rows_of(context)) == []


def test_a_queued_network_that_somebody_may_be_about_to_enter_is_left_to_him(database_url: str) -> None:
    with context_of(database_url, FakeTraining(), make_config(), 3) as context:
        enqueue_baseline(context)
        die_before_it_enters_its_network(context, "another")
        assert worker_trial.run(context, take(context)) == State.COMPLETED
        assert [row.baseline for row in rows_of(context)] == [None]
        leases.evict(context.engine, context.study_id, "another")
        assert worker_trial.run(context, take(context)) == State.COMPLETED
        assert [row.baseline for row in rows_of(context)] == [None, GUESS]


def assert_(condition: bool) -> None:
    assert condition


def test_a_retry_whose_worker_dies_before_it_enters_it_is_still_owed(sqlite_url: str) -> None:
    """Between Optuna's answer and our row nobody knows of it: the ledger still says what is to be done."""
    with context_of(sqlite_url, FakeTraining(), make_config(), 2) as context:
        claim = take(context)
        trial = context.study.ask()
        lost = worker_trial.record(context, claim, trial, context.config.propose(trial))
        reconciling.tell_lost(context.study, leases.evict(context.engine, context.study_id, "one"))
        assert (
            worker_trial.propose(context)[0].user_attrs["retry_of"] == lost.number
        )  # and then that worker dies too
        assert run_all(context) == [State.COMPLETED] * 2
        retried = candidates.candidates(context.engine, context.study_id)[1]
        assert (retried.fingerprint, retried.seed, retried.attempt) == (lost.fingerprint, lost.seed, 2)
        reconciling.reconcile(context.study, context.engine, context.study_id)
        assert (
            reconciling.disagreements(context.study, candidates.candidates(context.engine, context.study_id))
            == []
        )
