"""Our shortcuts around Optuna give Optuna's answers: the sampler, the pruner's questions, the storage."""

import math
import random
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.samplers._tpe.sampler import _split_trials, default_gamma
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import event
from worker_samples import accuracy_of, make_config

from search.optuna_adapter import (
    sampler as samplers,
    statements,
    storage as optuna_storage,
    study as optuna_study,
)
from search.optuna_adapter.ask import PendingTrial
from search.optuna_adapter.cached_tpe import CachedTPESampler, Ranking
from search.optuna_adapter.fast_storage import FastStorage
from search.optuna_adapter.pruner import Pruning, make_pruner
from search.recording import reconcile as reconciling
from space.sampling import propose
from storage import database
from storage.row_types import State, TrainingMetrics

CONFIG = make_config()


def ask(study: optuna.Study) -> optuna.Trial:
    trial = study.ask()
    trial.set_user_attr("parameters", propose(CONFIG.space, CONFIG.budget, CONFIG.task, trial).fingerprint)
    return trial


def searched(ours: bool, trials: int, kept: bool) -> list[FrozenTrial]:
    """A search of trials that end in every way, by one sampler or each proposal by a sampler of its own."""
    study = optuna.create_study(direction="maximize")
    sampler: optuna.samplers.TPESampler | None = None
    for number in range(trials):
        if sampler is None or not kept:
            if ours:
                sampler = CachedTPESampler(seed=number, n_startup_trials=5, after=sampler)
            else:
                sampler = optuna.samplers.TPESampler(seed=number, n_startup_trials=5)
        study.sampler = sampler
        trial = ask(study)
        value = accuracy_of(propose(CONFIG.space, CONFIG.budget, CONFIG.task, trial))
        if number % 7 == 3:
            study.tell(trial, state=TrialState.FAIL)
        elif number % 7 == 4:
            trial.report(value, 1 + number % 3)
            study.tell(trial, state=TrialState.PRUNED)
        elif number % 7 == 5:
            trial.set_constraint("parameters", 1.0)
            study.tell(trial, state=TrialState.PRUNED)
        elif number % 7 != 6:  # that one runs on
            study.tell(trial, value)
    return study.get_trials(deepcopy=False)


@pytest.mark.parametrize(
    "kept",
    [pytest.param(False, marks=pytest.mark.thorough), True],
    ids=["a sampler a trial", "one kept sampler"],
)
def test_the_sampler_proposes_what_optunas_does(kept: bool) -> None:
    optuna_study.quiet()
    ours, theirs = searched(True, 60, kept), searched(False, 60, kept)
    assert len({str(trial.params) for trial in ours}) > 40
    assert [trial.params for trial in ours] == [trial.params for trial in theirs]


def test_a_parameter_that_some_trials_lack_is_read_where_it_is() -> None:
    optuna_study.quiet()
    found = []
    for kind in (CachedTPESampler, optuna.samplers.TPESampler):
        study, sampler = optuna.create_study(), None
        for number in range(30):
            after = {"after": sampler} if kind is CachedTPESampler else {}
            sampler = study.sampler = kind(seed=number, n_startup_trials=3, **after)
            trial = study.ask()
            value = trial.suggest_float("rate", 1e-3, 1.0, log=True)
            if number % 3:
                value += trial.suggest_categorical("odd", (1, 3, 5))
                value += trial.suggest_int(f"width_{number % 2}", 8, 64, step=8)
            study.tell(trial, value)
        found.append([trial.params for trial in study.trials])
    assert found[0] == found[1]


@pytest.fixture(params=[pytest.param("UTC", marks=pytest.mark.thorough), "America/New_York"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Optuna keeps times in UTC and shows them in local time."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def both(database_url: str, zone: str) -> Any:
    """The same database by our storage and by Optuna's."""
    del zone
    optuna_study.quiet()
    with optuna_storage.open_storage(database_url) as ours:
        url = database.normalise(database_url)
        theirs = optuna.storages.RDBStorage(url, engine_kwargs=database.engine_options(database_url))
        yield ours, theirs
        theirs.remove_session()
        theirs.engine.dispose()


def fill(storage: optuna.storages.BaseStorage, trials: int = 9) -> optuna.Study:
    """Trials of all states, with all that a trial can have."""
    study = optuna.create_study(storage=storage, direction="maximize")
    study.enqueue_trial({"depth": 2})
    for number in range(trials):
        trial = ask(study)
        trial.report(0.1 * number, 1)
        trial.report(float("nan") if number == 3 else float("-inf"), 2)
        storage.set_trial_intermediate_value(trial._trial_id, 1, 0.2 * number)  # in place of the first
        trial.set_user_attr("versions", {"torch": "2"})
        if number % 4 == 0:
            study.tell(trial, number / 10)
        elif number % 4 == 1:
            study.tell(trial, state=TrialState.PRUNED)
        elif number % 4 == 2:
            study.tell(trial, state=TrialState.FAIL)
    study.enqueue_trial({"depth": 3})
    return study


def stated(trials: list[FrozenTrial]) -> list[str]:
    """All of every trial; text, because NaN is not equal to itself."""
    return [repr(sorted((key, str(value)) for key, value in vars(trial).items())) for trial in trials]


def test_trials_are_read_as_optuna_reads_them(both: tuple[FastStorage, optuna.storages.RDBStorage]) -> None:
    ours, theirs = both
    study_id = fill(theirs)._study_id
    everything = theirs.get_all_trials(study_id)
    assert len(everything) == 10
    assert stated(ours.get_all_trials(study_id)) == stated(everything)
    assert stated([ours.get_trial(one._trial_id) for one in everything]) == stated(everything)
    for states in ((TrialState.COMPLETE,), (TrialState.PRUNED, TrialState.FAIL), (TrialState.WAITING,)):
        assert stated(ours.get_all_trials(study_id, states=states)) == stated(
            theirs.get_all_trials(study_id, states=states)
        )
    ids = [one._trial_id for one in everything]
    for older, last in (({ids[3], ids[7]}, ids[5]), (set(), ids[8]), ({ids[0]}, ids[-1]), (set(), ids[-1])):
        asked = (study_id, None, older, last)
        assert stated(ours._get_trials(*asked)) == stated(theirs._get_trials(*asked))


def test_what_is_written_is_what_optuna_would_write(
    both: tuple[FastStorage, optuna.storages.RDBStorage],
) -> None:
    ours, theirs = both
    studies_of = [fill(storage)._study_id for storage in (ours, theirs)]
    written, expected = (theirs.get_all_trials(study_id) for study_id in studies_of)
    for mine, other in zip(written, expected, strict=True):
        assert (mine.number, mine.state, mine.user_attrs["versions"] if mine.user_attrs else None) == (
            other.number,
            other.state,
            other.user_attrs["versions"] if other.user_attrs else None,
        )
        assert str(mine.intermediate_values) == str(other.intermediate_values)
        for moment in (mine.datetime_start, mine.datetime_complete):
            assert moment is None or abs((moment - datetime.now()).total_seconds()) < 300


def test_a_trial_that_is_stored_whole_is_what_optuna_would_store(
    both: tuple[FastStorage, optuna.storages.RDBStorage],
) -> None:
    ours, theirs = both
    trials = []
    for storage in (ours, theirs):
        study = optuna.create_study(storage=storage)
        for number in range(3):  # from the second on all ranges are known
            study.sampler = samplers.make_sampler("random", number)
            draft = PendingTrial(study, study.get_trials(deepcopy=False))
            propose(CONFIG.space, CONFIG.budget, CONFIG.task, draft)
            trial = draft.keep({"parameters": 1, "note": "é"})
            study.tell(trial, 0.5)
        trials.append(theirs.get_all_trials(study._study_id))
    for mine, other in zip(*trials, strict=True):
        for name in ("number", "state", "params", "distributions", "user_attrs", "values"):
            assert getattr(mine, name) == getattr(other, name)
        assert [type(value) for value in mine.params.values()] == [
            type(value) for value in other.params.values()
        ]
        assert abs(mine.datetime_start - other.datetime_start).total_seconds() < 300
        assert 0 <= mine.duration.total_seconds() < 300


def test_a_finished_trial_takes_no_more_values_and_an_absent_one_is_named(database_url: str) -> None:
    optuna_study.quiet()
    with optuna_storage.open_storage(database_url) as storage:
        study = optuna.create_study(storage=storage)
        trial = study.ask()
        study.tell(trial, 0.5)
        with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
            storage.set_trial_intermediate_value(trial._trial_id, 1, 0.5)
        with pytest.raises(KeyError):
            storage.set_trial_intermediate_value(trial._trial_id + 1, 1, 0.5)
        with pytest.raises(KeyError):
            storage.get_trial(trial._trial_id + 1)
        with pytest.raises(KeyError):
            storage.get_all_trials(study._study_id + 1)


@pytest.mark.parametrize("pruner", ["median", "none"])
def test_a_trial_is_stopped_where_optuna_would_stop_it(pruner: Any, faulty_url: str) -> None:
    """Others finish while it runs, and it hears of them."""
    optuna_study.quiet()
    epochs, stopped = 6, 0
    with optuna_storage.open_storage(faulty_url) as storage:
        study = optuna.create_study(storage=storage, direction="maximize", pruner=make_pruner(pruner, epochs))
        running = [(number, study.ask()) for number in range(24)]
        questions = {number: Pruning(study, trial) for number, trial in running}
        for epoch in range(1, epochs + 1):
            for number, trial in list(running):
                if number % 2 and epoch > 1 and number > 11:
                    continue  # these rest after their first epoch, and are met by all that finished
                value = (number * 7 % 24) / 24 + epoch / 100
                trial.report(value, epoch)
                questions[number].steps[epoch] = value
                expected = trial.should_prune()
                assert questions[number].stops() == expected
                if expected:
                    stopped += 1
                    study.tell(trial, state=TrialState.PRUNED)
                    running.remove((number, trial))
                elif epoch == epochs:
                    study.tell(trial, (number * 7 % 24) / 24)
        for number, trial in running:
            if number % 2 and number > 11:
                for epoch in range(2, epochs):
                    trial.report(0.3, epoch)
                    questions[number].steps[epoch] = 0.3
                    expected = trial.should_prune()
                    assert questions[number].stops() == expected
                    stopped += expected
    assert (stopped > 0) == (pruner != "none")


ENDS = ("completed", "pruned", "diverged", "failed", "cancelled", "lost")
STEPS: tuple[list[float], ...] = ([], [0.25, 0.5], [0.5, math.nan])


@pytest.mark.parametrize(
    ("state", "steps"),
    [
        # Each end and each kind of steps, and every pair of them under --thorough.
        pytest.param(state, steps, marks=() if end % len(STEPS) == kind else pytest.mark.thorough)
        for end, state in enumerate(ENDS)
        for kind, steps in enumerate(STEPS)
    ],
)
def test_a_trial_ends_in_the_ledgers_transaction_as_optuna_would_end_it(
    state: str, steps: list[float], both: tuple[FastStorage, optuna.storages.RDBStorage]
) -> None:
    """One is told by Optuna; of the other, which lost its steps, all is stored again with its end."""
    _, theirs = both
    study = optuna.create_study(storage=theirs)
    told, ended = study.ask(), study.ask()
    values = dict(enumerate(steps, start=1))
    for step, value in values.items():
        told.report(value, step)
    outcome = TrainingMetrics(
        accuracy=0.75, best_accuracy=0.75, loss=1.0, epochs=2, seconds=1.0, images_per_second=1.0
    )
    said, value = reconciling.optuna_outcome(State(state), outcome, values)
    study.tell(told, 0.75 if said == TrialState.COMPLETE else None, state=said)
    with theirs.engine.begin() as connection:
        assert statements.end(connection, ended._trial_id, said, value, values)
        assert not statements.end(connection, ended._trial_id, said, 0.1, values)
    expected, found = study.get_trials()
    assert (found.state, found.values) == (expected.state, expected.values)
    assert str(found.intermediate_values) == str(expected.intermediate_values)
    assert abs((found.datetime_complete - expected.datetime_complete).total_seconds()) < 300


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_trials_rank_as_optuna_sorts_them(direction: str) -> None:
    """With ties, values that are none, pruned ones without a step, and excess over a constraint."""
    study = optuna.create_study(direction=direction)
    ranking, dice = Ranking(study.direction), random.Random(0)
    trials: list[FrozenTrial] = []
    for number in range(300):
        kind = dice.choice(["complete", "complete", "pruned", "over"])
        state = TrialState.COMPLETE if kind == "complete" else TrialState.PRUNED
        values = [0.25, 0.5, math.nan, 0.75, math.inf]
        steps = (
            {} if dice.random() < 0.2 else {step: dice.choice(values) for step in range(dice.randint(1, 3))}
        )
        trial = optuna.trial.create_trial(
            state=state,
            value=dice.choice([0.1, 0.2, 0.3, dice.random()]) if kind == "complete" else None,
            intermediate_values=steps,
        )
        trial.number = number
        if kind == "over":
            trial.set_constraint("parameters", dice.choice([-1.0, 2.0, 5.0]))
        trials.append(trial)
        if number % 10 == 0:
            running = optuna.trial.create_trial(state=TrialState.RUNNING)
            running.number = 1_000 + number
            seen = [*trials, running]
            finished = len(trials)
            assert ranking.split(seen) == _split_trials(study, seen, default_gamma(finished))


def test_the_median_does_not_read_the_trials_that_run(database_url: str) -> None:
    """Of hundreds of workers each would read all others' parameters, after each epoch."""
    optuna_study.quiet()
    with optuna_storage.open_storage(database_url) as storage:
        study = optuna.create_study(storage=storage, direction="maximize", pruner=make_pruner("median", 3))
        for number in range(12):
            ended = study.ask()
            for step in (1, 2):
                ended.report(number / 12, step)
            study.tell(ended, number / 12)
        question = Pruning(study, study.ask())
        question.steps = {1: 0.01, 2: 0.02}
        said: list[str] = []
        event.listen(storage.engine, "before_cursor_execute", lambda *call: said.append(call[2]))
        assert question.stops()
        assert len(said) == 1 and "trial_params" not in said[0]


def test_parameters_of_a_trial_that_runs_are_read_once_and_all_else_anew(
    both: tuple[FastStorage, optuna.storages.RDBStorage],
) -> None:
    """Each proposal reads all trials that run: among hundreds of workers that was most of what it cost."""
    ours, theirs = both
    study_id = theirs.create_new_study([optuna.study.StudyDirection.MAXIMIZE])
    depth, width = IntDistribution(1, 4), IntDistribution(8, 64)
    whole = template(depth=depth)
    whole.set_user_attr("fingerprint", "f")
    settled = theirs.create_new_trial(study_id, whole)
    growing = theirs.create_new_trial(study_id, template(depth=depth))

    def read() -> list[str]:
        mine = ours.get_all_trials(study_id)
        assert stated(mine) == stated(theirs.get_all_trials(study_id))
        for trial in mine:
            trial.params.clear()  # whoever does so changes nobody else's trial
        return said

    said: list[Any] = []
    event.listen(ours.engine, "before_cursor_execute", lambda *told: said.append((told[2], told[3])))
    read()
    theirs.set_trial_intermediate_value(settled, 1, 0.5)
    theirs.set_trial_user_attr(settled, "versions", {"torch": "2"})
    theirs.set_trial_param(growing, "width", 16.0, width)
    said.clear()
    order = [words.partition("FROM ")[2].split()[0] for words, _ in read() if "FROM trial_" in words]
    assert order.index("trial_user_attributes") < order.index("trial_params")  # or some would be missed
    said.clear()
    asked = [values for words, values in read() if "FROM trial_params" in words]
    assert len(asked) == 1 and settled not in _values(asked[0]) and growing in _values(asked[0])
    theirs.set_trial_state_values(settled, TrialState.COMPLETE, [0.5])
    said.clear()
    asked = [values for words, values in read() if "FROM trial_params" in words]
    assert settled not in _values(asked[0])
    ours.set_trial_param(growing, "height", 16.0, width)  # as optuna.Trial does while it asks
    read()


def _values(given: Any) -> list[Any]:
    """What a statement was given, on either database."""
    return list(given.values() if isinstance(given, dict) else given)


def template(**ranges: optuna.distributions.BaseDistribution) -> FrozenTrial:
    """A running trial whose parameters have the lowest value, or the first choice, of these ranges."""
    params = {name: kind.to_external_repr(getattr(kind, "low", 0)) for name, kind in ranges.items()}
    return create_trial(state=TrialState.RUNNING, params=params, distributions=ranges)


def test_a_worker_stores_its_first_trial_in_few_statements_too(database_url: str) -> None:
    """Whatever others have stored before: also parameters that it never saw, or that nobody has."""
    optuna_study.quiet()
    depth, width = IntDistribution(1, 4), IntDistribution(8, 64)
    kinds = {f"kernel_{i}": CategoricalDistribution((1, 3, 5)) for i in range(30)}
    with optuna_storage.open_storage(database_url) as first:
        study_id = optuna.create_study(storage=first)._study_id
        first.create_new_trial(study_id, template(depth=depth))
        with optuna_storage.open_storage(database_url) as second:
            assert isinstance(second, FastStorage)
            said: list[str] = []
            event.listen(second.engine, "before_cursor_execute", lambda *told: said.append(told[2]))
            made = second.create_new_trial(study_id, template(depth=depth, width=width, **kinds))
            assert len([words for words in said if "BEGIN" not in words and "PRAGMA" not in words]) <= 4
            trial = first.get_trial(made)
            assert trial.number == 1
            assert trial.distributions == {"depth": depth, "width": width, **kinds}


def test_a_first_trial_with_another_kind_of_range_is_refused_as_by_optuna(database_url: str) -> None:
    optuna_study.quiet()
    with optuna_storage.open_storage(database_url) as first:
        study_id = optuna.create_study(storage=first)._study_id
        first.create_new_trial(study_id, template(depth=IntDistribution(1, 4)))
    with optuna_storage.open_storage(database_url) as second:
        with pytest.raises(ValueError, match="distribution kind"):
            second.create_new_trial(study_id, template(depth=CategoricalDistribution((1, 2))))
        assert len(second.get_all_trials(study_id)) == 1
