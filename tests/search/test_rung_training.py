"""The second stage in one worker: what is trained after the trials, with what, and what it leaves."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from sqlalchemy import event, text
from training_samples import NETWORK
from worker_samples import FakeTraining, make_config, make_context, make_study

from search.formats import choice
from search.launcher import prepare
from search.launcher.prepare import Flags
from search.machine.device_lock import DeviceLock
from search.optuna_adapter import study as optuna_study
from search.recording import reconcile as reconciling
from search.study import export as study_export, run_state, second_stage
from search.study.config import Images, StudyConfig
from search.study.finish_plan import FinishPlan, Limit, make_plan
from search.study.reader import StudyView
from search.training import weights_reference
from search.worker import rung_training, trial as worker_trial, worker
from search.worker.context import WorkerContext
from search.worker.presence import WorkerPresence
from search.worker.training_function import FinalScore, make_training_function
from space import space as spaces
from space.architecture import Architecture
from space.errors import DivergedError, ExhaustedError
from space.space import SearchSpace
from storage import candidates, database, invariants, leases, rungs, studies, trainings, workers
from storage.leases import NoClaim
from storage.row_types import RungTraining, Stage, State
from storage.trainings import Finished
from storage.workers import Doing
from trainer import loop
from trainer.callbacks import TrainingCallbacks
from trainer.data import dataset as datasets
from trainer.evaluation import scores
from trainer.outcome import EpochReport, Outcome
from trainer.recipe.document import Recipe

TRIALS = 6


@dataclass(frozen=True)
class Asked:
    """One training that was asked for."""

    fingerprint: str
    seed: int
    recipe: Recipe
    checkpoint: str
    tests: bool


@dataclass
class Longer(FakeTraining):
    """A training that takes the epochs of its recipe, keeps weights, and is tested where it is a final."""

    calls: list[Asked] = field(default_factory=list)

    def __call__(
        self, architecture: Architecture, seed: int, *, callbacks: TrainingCallbacks, **others: Any
    ) -> Outcome:
        recipe, checkpoint, on_test = others["recipe"], others["checkpoint"], others["on_test"]
        self.calls.append(Asked(architecture.fingerprint, seed, recipe, checkpoint.name, bool(on_test)))
        self.epochs = recipe.epochs
        outcome = super().__call__(architecture, seed, callbacks=callbacks)
        if callbacks.on_trained:
            callbacks.on_trained(outcome, lambda path: path.write_bytes(b"weights"))
        if on_test:
            on_test(FinalScore(outcome.accuracy - 0.01 * (seed + 1), 1.0, 500))
        return outcome


@contextmanager
def context_of(
    url: str,
    train: FakeTraining,
    folder: Path,
    plan: FinishPlan | None = None,
    space: SearchSpace | None = None,
) -> Iterator[WorkerContext]:
    """A study that has its plan, unless it is to have none."""
    config = make_config(space)
    engine, record = make_study(url, config, TRIALS)
    if plan:
        studies.set_finish(engine, record.id, plan.document())
    with optuna_study.open_study(url, record.name, config) as opened:
        context = make_context(opened, engine, record, train, config, folder)
        (folder / "kept").mkdir()
        yield context
        assert invariants.check(engine, record.id) == []
        rows = candidates.candidates(engine, record.id)
        assert reconciling.disagreements(opened, rows) == [], "Optuna is told of trials alone"
        assert len(opened.get_trials(deepcopy=False)) == len(rows)
    engine.dispose()


def work(context: WorkerContext) -> list[State]:
    """All that a worker does, until there is nothing more."""
    ended = []
    while not isinstance(state := worker.work_on_one(context), NoClaim):
        if state is not None:
            ended.append(state)
    assert state is NoClaim.DONE
    return ended


def plan(**more: int) -> FinishPlan:
    return make_plan(make_config(), None, **{"epochs": 13, "seeds": 3, **more})


def stage_of(context: WorkerContext) -> second_stage.SecondStage:
    found = second_stage.load(context.engine, studies.find(context.engine, context.study.study_name))
    assert found
    return found


def trained(context: WorkerContext, stage: Stage) -> list[RungTraining]:
    return [one for one in rungs.of_study(context.engine, context.study_id) if one.stage == stage]


def test_a_study_without_a_plan_ends_with_its_trials(sqlite_url: str, tmp_path: Path) -> None:
    with context_of(sqlite_url, Longer(), tmp_path) as context:
        assert work(context) == [State.COMPLETED] * TRIALS
        assert rungs.of_study(context.engine, context.study_id) == []


def test_the_best_are_trained_again_for_longer_and_the_last_few_to_the_end(
    database_url: str, tmp_path: Path
) -> None:
    train = Longer()
    with context_of(database_url, train, tmp_path, plan()) as context:
        assert work(context) == [State.COMPLETED] * (TRIALS + 6 + 2 * 3)
        best = candidates.best(context.engine, context.study_id, 6)
        by_number = {row.number: row for row in best}
        halving, finals = trained(context, Stage.HALVING), trained(context, Stage.FINALS)
        assert [one.number for one in halving] == [row.number for row in best]
        assert [one.number for one in finals] == [row.number for row in best[:2]] * 3
        assert {one.state for one in [*halving, *finals]} == {State.COMPLETED}
        calls = train.calls[TRIALS:]
        brief, full = context.config.recipe, plan().finals.recipe
        assert [call.recipe for call in calls] == [brief.for_epochs(12)] * 6 + [full] * 6
        assert [call.fingerprint for call in calls[:6]] == [row.fingerprint for row in best]
        seeds = [call.seed for call in calls[:6]]
        assert len(set(seeds)) == 6
        assert not set(seeds) & {row.seed for row in best}, "the luck of the brief trial is not drawn again"
        again = [worker_trial.training_seed(0, f"{row.fingerprint}:12") for row in best]
        assert seeds == again, "as ever since: a study that is gone on with draws no other luck"
        assert [call.seed for call in calls[6:]] == [0, 0, 1, 1, 2, 2], "as `search train` counts them"
        assert [call.checkpoint for call in calls] == [f"{one.key}.checkpoint" for one in [*halving, *finals]]
        stage = stage_of(context)
        assert stage.is_over and stage.winner == best[0]
        assert by_number[best[0].number].accuracy == best[0].accuracy


def test_test_images_are_read_once_by_each_final_and_by_nothing_else(sqlite_url: str, tmp_path: Path) -> None:
    train = Longer()
    with context_of(sqlite_url, train, tmp_path, plan()) as context:
        work(context)
        assert [call.tests for call in train.calls] == [False] * (TRIALS + 6) + [True] * 6
        winner, other = stage_of(context).finalists
        assert winner.test and winner.test.mean == pytest.approx(winner.validation.mean - 0.02)
        assert (winner.seeds, winner.of, winner.test_images) == (3, 3, 500)
        assert other.validation.mean <= winner.validation.mean


def test_the_finals_are_full_trainings_by_which_an_export_is_confirmed(
    sqlite_url: str, tmp_path: Path
) -> None:
    with context_of(sqlite_url, Longer(), tmp_path, plan()) as context:
        work(context)
        record = studies.find(context.engine, context.study.study_name)
        stored = trainings.of_study(context.engine, record.name)
        assert len(stored) == 6 and {one.epochs for one in stored} == {13}
        view = StudyView(context.engine, record, None)
        winner = view.candidate()
        assert winner == stage_of(context).winner
        confirmed = study_export.confirmation(stored, winner, record, context.config, view.second_stage())
        assert confirmed and (confirmed.seeds, confirmed.test_images) == (3, 500)
        document = study_export.export(record, context.config, winner, TRIALS, confirmed)
        assert document.metrics.standing == "confirmed"
        mine = next(one for one in reversed(stored) if one.trial == winner.number)
        briefly = replace(mine, run="later", seed=0, epochs=2, accuracy=0.3, test_accuracy=0.3)
        longer = replace(briefly, epochs=100)

        def confirmed_with(more: Finished) -> int | None:
            found = study_export.confirmation(
                [*stored, more], winner, record, context.config, view.second_stage()
            )
            return found and found.epochs

        assert (confirmed_with(briefly), confirmed_with(longer)) == (13, 100), "a short try replaces nothing"
        weights = context.files.finals(winner.number)
        assert [path.name for path in weights] == [
            f"final-{winner.number}-13-{seed}.safetensors" for seed in range(3)
        ]
        assert weights_reference.of_kept(context.files, winner.number) == weights[0]
        chosen = choice.choose("night", winner, stored, context.files, context.config.data)
        assert (chosen.path, chosen.training.what) == (weights[0], "the finals of the search")
        assert chosen.path.read_bytes() == b"weights"
        assert second_stage.lines(stage_of(context))[0].startswith(
            f"winner of the finals of 13 epochs, trial {winner.number}: "
        )


def test_the_best_epoch_of_a_final_is_the_first_of_several(sqlite_url: str, tmp_path: Path) -> None:
    class Levelling(Longer):
        """After its fifth epoch it learns nothing more, and forgets some at its end."""

        def __call__(
            self, architecture: Architecture, seed: int, *, callbacks: TrainingCallbacks, **calls: Any
        ) -> Outcome:
            hear = callbacks.on_epoch
            assert hear

            def levelled(report: EpochReport) -> None:
                accuracy = 0.1 * min(report.epoch, 5) - 0.05 * (report.epoch == 13)
                hear(replace(report, validation_accuracy=accuracy))

            return super().__call__(
                architecture, seed, callbacks=replace(callbacks, on_epoch=levelled), **calls
            )

    with context_of(sqlite_url, Levelling(), tmp_path, plan(seeds=1)) as context:
        while not any(one.has_ended for one in trained(context, Stage.FINALS)):
            worker.work_on_one(context)
        (stored,) = trainings.of_study(context.engine, context.study.study_name)
        assert (stored.epochs, stored.best_epoch) == (13, 5)


def test_the_end_of_a_final_is_written_on_one_connection(sqlite_url: str, tmp_path: Path) -> None:
    """It holds the lock of its study, and a pooler may have no other connection for it meanwhile."""
    together = []
    with context_of(sqlite_url, Longer(), tmp_path, plan()) as context:
        pool = context.engine.pool

        @event.listens_for(pool, "checkout")
        def count(*_: object) -> None:
            together.append(pool.checkedout())  # type: ignore[attr-defined]

        work(context)
        assert len(trained(context, Stage.FINALS)) > 0
    assert max(together) == 1


def test_where_there_are_no_test_images_validation_images_confirm(sqlite_url: str, tmp_path: Path) -> None:
    class Untested(Longer):
        def __call__(self, architecture: Architecture, seed: int, **calls: Any) -> Outcome:
            on_test = calls.pop("on_test")
            outcome = super().__call__(architecture, seed, **calls, on_test=None)
            if on_test:
                on_test(None)
            return outcome

    with context_of(sqlite_url, Untested(), tmp_path, plan()) as context:
        work(context)
        winner = stage_of(context).finalists[0]
        assert winner.test is None
        record = studies.find(context.engine, context.study.study_name)
        stored = trainings.of_study(context.engine, record.name)
        confirmed = study_export.confirmation(
            stored, winner.candidate, record, context.config, stage_of(context)
        )
        assert confirmed and confirmed.test_accuracy is None
        assert "on validation images (3 seeds of 13 epochs" in str(confirmed)


def test_a_search_that_is_cut_off_in_its_finals_confirms_nothing(sqlite_url: str, tmp_path: Path) -> None:
    with context_of(sqlite_url, Longer(), tmp_path, plan(seeds=2)) as context:
        while not (of_finals := trained(context, Stage.FINALS)) or not of_finals[1].has_ended:
            worker.work_on_one(context)
        record = studies.find(context.engine, context.study.study_name)
        first = candidates.find(context.engine, record.id, of_finals[0].number)

        def confirmed(of: StudyConfig) -> study_export.Confirmation | None:
            stored = trainings.of_study(context.engine, record.name)
            return study_export.confirmation(stored, first, record, of, stage_of(context))

        config = context.config
        assert len(trainings.of_study(context.engine, record.name)) == 2
        assert confirmed(config) is None, "one seed of two"
        work(context)
        found = confirmed(config)
        assert found and found.seeds == 2
        document = study_export.export(record, config, first, TRIALS, found)
        said = document.metrics.measured_on
        assert said.endswith(" one of 6 networks that were trained briefly"), "the finals chose"
        other = config.model_copy(update={"data": config.data.model_copy(update={"digest": "9" * 64})})
        assert confirmed(other) is None, "trained on other images"


def two_networks() -> SearchSpace:
    """A space of no more."""
    return spaces.parse(
        {
            "depth": [3],
            "width": {"low": 16, "high": 16},
            "budget_share": {"low": 1, "high": 1},
            "stage": {"blocks": [1], "kernel": [3, 5], "shortcut_kernel": [1]},
            "same": {"kernel": [True]},
        }
    )


def test_a_search_of_an_exhausted_space_goes_on_to_its_second_stage_and_says_so(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker_trial, "GIVE_UP_AFTER", 30)
    train = Longer()
    with context_of(database_url, train, tmp_path, plan(seeds=2), two_networks()) as context:
        with caplog.at_level("INFO", "search.worker"):
            assert work(context) == [State.COMPLETED] * (2 + 2 * 2)
        said = "no network is left: 30 proposals in a row were networks that the study already has"
        assert said in caplog.text
        record, stage = studies.find(context.engine, context.study.study_name), stage_of(context)
        assert stage.is_over and stage.winner and len(stage.finalists) == 2
        assert (record.trials, stage.plan.closed_from) == (2, TRIALS)
        assert stage.plan.whole == plan(seeds=2)
        assert f"the space is exhausted: trials ended after 2 of {TRIALS}" in second_stage.lines(stage)
        assert run_state.load(context.engine, record, has_optuna=True).code == 0
        assert candidates.tally(context.engine, context.study_id)[State.REPEATED] >= 30
        flags = Flags(database_url, tmp_path, TRIALS, record.name, finish=True)
        assert prepare.with_trials(flags) == flags, "it is over: the same command looks for more once more"
        prepare._go_on(context.engine, record, flags)
        again = prepare.plan_of(flags, record, context.config)
        assert again == plan(seeds=2)
        prepare._planned(context.engine, record, again)
        assert work(context) == [], "and trains nothing twice"
        assert stage_of(context).plan.exhausted and len(train.calls) == 6


def test_who_has_no_network_left_waits_for_those_that_hold_a_trial(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_trial, "GIVE_UP_AFTER", 30)
    with context_of(database_url, Longer(), tmp_path, plan(seeds=2), two_networks()) as context:
        monkeypatch.setattr(worker, "POLL_SECONDS", 0.0)
        engine, study_id = context.engine, context.study_id
        other = leases.claim(engine, study_id, "two", 600)
        assert isinstance(other, leases.Claim)
        while context.exhausted is None:
            worker.work_on_one(context)
        repeats = candidates.tally(engine, study_id)[State.REPEATED]
        for _ in range(3):
            assert worker.run_next(context) is NoClaim.WAIT
        studies.set_control(engine, study_id, studies.Control.STOP)
        assert worker.run_next(context) is NoClaim.STOPPED
        studies.set_control(engine, study_id, studies.Control.RUN)
        assert candidates.tally(engine, study_id)[State.REPEATED] == repeats, "nothing is proposed meanwhile"
        assert studies.get(engine, study_id).trials == TRIALS
        leases.release(engine, other)
        assert work(context) == [State.COMPLETED] * 4
        assert stage_of(context).plan.closed_from == TRIALS


def test_a_network_that_is_to_be_tried_again_is_left_in_an_exhausted_space(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By who waits for the worker that had it, and lost it."""
    monkeypatch.setattr(worker_trial, "GIVE_UP_AFTER", 30)
    with context_of(sqlite_url, Longer(), tmp_path, plan(seeds=2), two_networks()) as context:
        other = replace(context, options=replace(context.options, name="two"))
        claim = leases.claim(context.engine, context.study_id, "two", 600)
        assert isinstance(claim, leases.Claim)
        worker_trial.propose_new(other, claim)
        while context.exhausted is None:
            worker.work_on_one(context)
        assert worker.run_next(context) is NoClaim.WAIT
        reconciling.tell_lost(context.study, leases.evict(context.engine, context.study_id, "two"))
        assert work(context) == [State.COMPLETED] * (1 + 4)
        tally = candidates.tally(context.engine, context.study_id)
        assert (tally[State.COMPLETED], tally[State.LOST]) == (2, 1)


def test_a_lone_worker_of_an_exhausted_space_has_its_row_throughout_the_second_stage(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gives a claim back and lives on; between two trainings its row alone says that it is there."""
    monkeypatch.setattr(worker_trial, "GIVE_UP_AFTER", 30)
    train, seen = Longer(), list[tuple[str, Doing, int]]()
    with (
        context_of(database_url, train, tmp_path, plan(seeds=2), two_networks()) as context,
        WorkerPresence(context.engine, context.study_id, "one", 0.0) as presence,
    ):
        context.say = presence.say

        def takes_long(_: Architecture) -> None:
            seen.extend((one.name, one.state, one.pid) for one in rows())
            with database.writing(context.engine) as connection:
                connection.execute(text("UPDATE search_workers SET heard_at = heard_at - 7200"))

        def rows() -> list[workers.Presence]:
            return workers.of_study(context.engine, context.study_id)

        train.before = takes_long
        while not isinstance(worker.work_on_one(context), NoClaim):
            (row,) = rows()
            assert row.silence < 600, "it was heard of when its claim was over"
        assert stage_of(context).is_over
    assert seen == [("one", Doing.WORKING, os.getpid())] * (2 + 2 * 2)


def test_who_was_taken_for_dead_has_its_row_again_with_its_next_training(
    sqlite_url: str, tmp_path: Path
) -> None:
    train, seen = Longer(), list[workers.Presence]()
    with context_of(sqlite_url, train, tmp_path, plan()) as context:
        for _ in range(TRIALS):
            assert worker.work_on_one(context) == State.COMPLETED
        assert worker.work_on_one(context) is None, "the trainings of the first rung are asked for"
        train.before = lambda _: seen.extend(workers.of_study(context.engine, context.study_id))
        with WorkerPresence(context.engine, context.study_id, "one", 0.0) as presence:
            context.say = presence.say
            workers.leave(context.engine, context.study_id, "one")
            assert worker.work_on_one(context) == State.COMPLETED
        assert [(one.name, one.state) for one in seen] == [("one", Doing.WORKING)]


def test_an_exhausted_space_of_which_nothing_is_trained_ends_the_search(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_trial, "GIVE_UP_AFTER", 30)
    train = Longer()

    def diverge(_: Architecture) -> None:
        raise DivergedError("training loss is nan in epoch 1")

    train.before = diverge
    with context_of(sqlite_url, train, tmp_path, plan(seeds=2), two_networks()) as context:
        with pytest.raises(ExhaustedError, match="30 proposals in a row"):
            work(context)
        assert studies.get(context.engine, context.study_id).trials == TRIALS


def test_finals_of_two_turns_confirm_their_winner_once_all_its_seeds_have_ended(
    database_url: str, tmp_path: Path
) -> None:
    short = make_plan(make_config(), None, 1, 11, 3, first=0, contenders=3)
    with context_of(database_url, Longer(), tmp_path, short) as context:
        record = studies.find(context.engine, context.study.study_name)
        seen = []
        while not isinstance(worker.work_on_one(context), NoClaim):
            seen.append((trainings.of_study(context.engine, record.name), stage_of(context)))
        ended = trained(context, Stage.FINALS)
        assert [one.seed for one in ended] == [0, 0, 0, 1, 2] and len({one.number for one in ended[3:]}) == 1
        stage = stage_of(context)
        assert stage.is_over and stage.winner and stage.winner.number == ended[-1].number
        assert [(one.seeds, one.of) for one in stage.finalists] == [(3, 3), (1, 1), (1, 1)]
        *before, last = (
            study_export.confirmation(stored, stage.winner, record, context.config, then)
            for stored, then in seen
        )
        assert len(before) > TRIALS and set(before) == {None} and last and last.seeds == 3


def test_full_trainings_of_a_study_that_was_deleted_confirm_none_of_its_name(
    sqlite_url: str, tmp_path: Path
) -> None:
    with context_of(sqlite_url, Longer(), tmp_path, plan(seeds=2)) as context:
        work(context)
        record, winner = studies.find(context.engine, context.study.study_name), stage_of(context).winner
        assert winner
        stored = trainings.of_study(context.engine, record.name)
        later = replace(record, created_at=stored[-1].finished_at + timedelta(seconds=1))
        assert study_export.confirmation(stored, winner, later, context.config, stage_of(context)) is None


def test_trainings_that_wait_are_not_asked_for_by_another_plan(sqlite_url: str, tmp_path: Path) -> None:
    train = Longer()
    with context_of(sqlite_url, train, tmp_path, plan(seeds=2)) as context:
        while not trained(context, Stage.FINALS):
            worker.work_on_one(context)
        worker.work_on_one(context)  # one final
        studies.set_finish(context.engine, context.study_id, plan(epochs=15, seeds=2).document(), anew=True)
        work(context)
        assert [one.epochs for one in trained(context, Stage.FINALS)] == [13] + [15] * 4
        assert sum(call.tests for call in train.calls) == 5


def test_finals_that_wait_are_not_trained_where_trials_that_are_added_choose_others(
    database_url: str, tmp_path: Path
) -> None:
    scores = iter(range(1_000))
    train = Longer(accuracy=lambda _: next(scores) / 1_000)  # each network better than all before it
    with context_of(database_url, train, tmp_path, plan(seeds=2)) as context:
        while not trained(context, Stage.FINALS):
            worker.work_on_one(context)
        worker.work_on_one(context)  # one final
        before = {one.number for one in trained(context, Stage.FINALS)}
        record = studies.get(context.engine, context.study_id)
        more = TRIALS + 20
        prepare._go_on(context.engine, record, Flags(database_url, tmp_path, more, record.name))
        work(context)
        stage = stage_of(context)
        assert stage.is_over and len(stage.finalists) == 2
        winners = {one.candidate.number for one in stage.finalists}
        assert not winners & before
        done = [one.number for one in trained(context, Stage.FINALS)]
        assert sorted(number for number in done if number in before) == done[:1], "what was trained counts"
        assert len(done) == 1 + 2 * 2


def test_a_final_of_another_plan_has_the_recipe_of_its_own_length(sqlite_url: str, tmp_path: Path) -> None:
    with context_of(sqlite_url, Longer(), tmp_path, plan(seeds=1)) as context:
        while not trained(context, Stage.FINALS):
            worker.work_on_one(context)
        final = trained(context, Stage.FINALS)[0]
        other = plan(epochs=40)
        assert rung_training.recipe_of(context, other, final) == plan().finals.recipe
        assert rung_training.recipe_of(context, plan(), final) == plan().finals.recipe


def test_a_plan_that_comes_later_just_adds_the_second_stage(sqlite_url: str, tmp_path: Path) -> None:
    train = Longer()
    with context_of(sqlite_url, train, tmp_path) as context:
        work(context)
        studies.set_finish(context.engine, context.study_id, plan(seeds=1).document())
        assert work(context) == [State.COMPLETED] * 8
        studies.set_finish(context.engine, context.study_id, plan(seeds=2).document())
        assert work(context) == [State.COMPLETED] * 2, "a second seed of both, and nothing twice"
        assert len({(call.fingerprint, call.seed, call.recipe.epochs) for call in train.calls}) == len(
            train.calls
        )


def test_finals_that_have_time_for_more_epochs_than_their_plan_says_get_them(
    database_url: str, tmp_path: Path
) -> None:
    wanted = plan(epochs=40, seeds=2)
    with context_of(database_url, Longer(), tmp_path, wanted) as context:
        limit = Limit(until=studies.clock(context.engine) + 1e6, workers=1)
        short = plan(seeds=2).with_wanted(wanted, 50, limit)
        studies.set_finish(context.engine, context.study_id, short.document())
        work(context)
        assert [one.epochs for one in trained(context, Stage.HALVING)] == [12] * 6
        assert [one.epochs for one in trained(context, Stage.FINALS)] == [40] * 4
        stage = stage_of(context)
        assert stage.plan.whole == wanted and stage.plan.closed_from == 50
        assert stage.is_over and stage.winner


def test_the_pace_of_finals_is_that_of_the_epochs_of_their_trials(sqlite_url: str, tmp_path: Path) -> None:
    """The process of the best trial was stopped for an hour in one of them."""
    wanted = plan(epochs=40, seeds=2, first=0)
    with context_of(sqlite_url, Longer(), tmp_path, wanted) as context:
        for _ in range(TRIALS):
            worker.work_on_one(context)
        (best,) = candidates.best(context.engine, context.study_id)
        of_best = {"id": best.id}
        with database.writing(context.engine) as connection:
            for words in (
                "UPDATE search_candidates SET seconds = seconds + 3600 WHERE id = :id",
                "UPDATE search_epochs SET seconds = seconds + 3600 WHERE candidate_id = :id AND epoch = 2",
            ):
                connection.execute(text(words), of_best)
        limit = Limit(until=studies.clock(context.engine) + 200, workers=1)
        limited = wanted.with_wanted(wanted, None, limit)
        studies.set_finish(context.engine, context.study_id, limited.document())
        assert worker.work_on_one(context) is None, "the finals are entered"
        assert [one.epochs for one in trained(context, Stage.FINALS)] == [40] * 4
        work(context)


@pytest.mark.parametrize("seconds", [1e6, 1e-3])
def test_finals_that_were_trained_already_in_the_length_that_was_asked_for_are_not_trained_again(
    database_url: str, tmp_path: Path, seconds: float
) -> None:
    """More trials were asked for, with a limit of time, and none of them came into the finals: workers asked
    for nothing, again and again, until so little time was left that all were trained in another length."""
    train = Longer()
    with context_of(database_url, train, tmp_path, plan(epochs=40, seeds=2)) as context:
        work(context)
        wanted, calls = stage_of(context).plan, len(train.calls)
        limit = Limit(until=studies.clock(context.engine) + seconds, workers=1)
        short = plan(seeds=2).with_wanted(wanted, 50, limit)
        studies.set_finish(context.engine, context.study_id, short.document())
        assert worker.work_on_one(context) is None, "the plan says by now what is trained"
        assert worker.work_on_one(context) is NoClaim.DONE
        assert len(train.calls) == calls
        stage = stage_of(context)
        assert stage.is_over and stage.winner
        assert (stage.plan.finals, stage.plan.closed_from, stage.plan.limit) == (wanted.finals, 50, limit)


def test_who_is_told_to_end_leaves_a_training_that_the_next_one_takes(
    sqlite_url: str, tmp_path: Path
) -> None:
    train = Longer()
    with context_of(sqlite_url, train, tmp_path, plan(seeds=1)) as context:
        for _ in range(TRIALS):
            worker.work_on_one(context)
        assert worker.work_on_one(context) is None, "the rung is entered"
        context.cancelled = lambda: True
        checkpoint = context.files.checkpoint(trained(context, Stage.HALVING)[0].key)
        checkpoint.touch()
        assert worker.work_on_one(context) is NoClaim.STOPPED
        assert [one.state for one in trained(context, Stage.HALVING)] == [None] * 6
        assert checkpoint.exists()
        context.cancelled = lambda: False
        assert work(context) == [State.COMPLETED] * 8
        assert not checkpoint.exists()
        assert {one.attempt for one in rungs.of_study(context.engine, context.study_id)} == {1}


def test_who_shares_a_gpu_that_trains_leaves_the_next_training_to_a_gpu_that_does_not(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with context_of(sqlite_url, Longer(), tmp_path, plan(seeds=1)) as context:
        for _ in range(TRIALS):
            worker.work_on_one(context)
        assert worker.work_on_one(context) is None, "the rung is entered"
        elsewhere = replace(
            context,
            options=replace(context.options, name="two"),
            device_lock=DeviceLock(tmp_path / "slots", "other"),
        )
        order = list[str]()

        def meanwhile(seconds: float) -> None:
            assert seconds >= 2 * worker.POLL_SECONDS, "they ask twice"
            worker.work_on_one(elsewhere)
            order.extend(str(one.worker) for one in trained(context, Stage.HALVING) if one.has_ended)

        monkeypatch.setattr(rung_training.time, "sleep", meanwhile)
        for context.shares_gpu in (False, True):
            assert worker.work_on_one(context) == State.COMPLETED, "nobody is on its GPU, or it is none"
        with context.device_lock.shared(lambda: None):
            context.shares_gpu = False
            assert worker.work_on_one(context) == State.COMPLETED, "a core is not shared"
            context.shares_gpu = True
            assert order == []
            assert worker.work_on_one(context) == State.COMPLETED, "nobody took this one"
        assert order == ["one"] * 3 + ["two"]
        assert [one.worker for one in trained(context, Stage.HALVING)] == [*order, "one", None]


def test_a_training_that_diverges_ends_its_network_and_not_the_stage(sqlite_url: str, tmp_path: Path) -> None:
    train = Longer()

    def diverge(_: Architecture) -> None:
        if train.calls[-1].tests:
            raise DivergedError("training loss is nan in epoch 1")

    train.before = diverge
    with context_of(sqlite_url, train, tmp_path, plan(seeds=1)) as context:
        assert work(context)[TRIALS:] == [State.COMPLETED] * 6 + [State.DIVERGED] * 2
        stage = stage_of(context)
        assert stage.is_over and stage.winner is None
        assert second_stage.lines(stage)[0] == "finals of 13 epochs: no training came to its end"
        assert trainings.of_study(context.engine, context.study.study_name) == []
        record = studies.find(context.engine, context.study.study_name)
        assert (
            StudyView(context.engine, record, None).candidate()
            == candidates.best(context.engine, context.study_id)[0]
        )


def test_one_without_enough_memory_is_tried_at_half_the_batch(sqlite_url: str, tmp_path: Path) -> None:
    train = Longer()

    def fill(_: Architecture) -> None:
        if train.calls[-1].tests and train.calls[-1].recipe.batch_size == 128:
            raise MemoryError("too large")

    train.before = fill
    with context_of(sqlite_url, train, tmp_path, plan(seeds=1)) as context:
        work(context)
        finals = trained(context, Stage.FINALS)
        assert [one.batch_size for one in finals] == [64, 64]
        assert [one.reason for one in finals] == ["out of memory at batch 128, trained alone at 64"] * 2
        asked = plan().finals.recipe
        assert asked.batch_size == 128
        stored = trainings.of_study(context.engine, context.study.study_name)
        assert [one.recipe for one in stored] == [asked.halved().model_dump(mode="json")] * 2, (
            "who trains it again trains it as it was trained"
        )


def test_a_limit_for_trials_does_not_hold_for_longer_trainings(sqlite_url: str, tmp_path: Path) -> None:
    with context_of(sqlite_url, Longer(), tmp_path, plan(seeds=1)) as context:
        for _ in range(TRIALS):
            worker.work_on_one(context)
        context.options = replace(context.options, trial_seconds=0.0)
        assert work(context) == [State.COMPLETED] * 8


def test_the_test_images_are_opened_once_by_a_final_and_never_by_a_trial(
    digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By real trainings; and a final trains on all images that its study does not validate on."""
    dataset, opened, splits = datasets.load("digits", digits), list[str](), list[datasets.Split]()
    test = dataset.images[:60], dataset.labels[:60]
    fit = loop.fit

    def open_test(self: datasets.Dataset) -> tuple[Any, Any]:
        opened.append(self.name)
        return test

    def noted(*given: Any, **more: Any) -> loop.Fitted:
        splits.append(given[3])
        fitted.append(fit(*given, **more))
        return fitted[-1]

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(datasets.Dataset, "open_test", open_test)
    monkeypatch.setattr(loop, "fit", noted)
    fitted, heard = list[loop.Fitted](), list[FinalScore | None]()
    few = datasets.split(dataset, 5, 0.2, 128)
    data = make_config().data.model_copy(update={"limit": 128, "split_seed": 5, "validation_share": 0.2})
    _, train = make_training_function(
        make_config(epochs=1).model_copy(update={"data": data}), Images(dataset, few)
    )
    train(NETWORK, 0, callbacks=TrainingCallbacks())
    assert opened == []
    train(NETWORK, 0, callbacks=TrainingCallbacks(), on_test=heard.append)
    assert opened == ["digits"]
    assert splits == [few, datasets.split(dataset, 5, 0.2)]
    guesses = scores(fitted[1].model, torch.from_numpy(test[0]), fitted[1].normalisation).argmax(1)
    hits = int((guesses == torch.from_numpy(test[1])).sum())
    assert heard[0] and (heard[0].accuracy, heard[0].images) == (pytest.approx(hits / 60), 60)


def test_a_final_training_without_an_accuracy_on_test_images_says_why_in_the_log(
    digits: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = datasets.load("digits", digits)
    assert not list(dataset.cache.glob("test-*"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(loop, "fit", lambda *_, **__: SimpleNamespace(outcome="trained"))
    images, heard = Images(dataset, datasets.split(dataset, 0)), list[FinalScore | None]()
    _, train = make_training_function(make_config(), images)
    with caplog.at_level("WARNING", "search.worker"):
        train(None, 0, callbacks=TrainingCallbacks(), on_test=heard.append)  # type: ignore[arg-type]
    assert heard == [None]
    assert "a final training has no accuracy on test images: digits has no test images" in caplog.text
