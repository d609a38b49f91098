"""A trial that broke off goes on from its checkpoint, in another worker, to the very same numbers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from worker_samples import make_config, make_context, make_study

from search.optuna_adapter import study as optuna_study
from search.recording import reconcile as reconciling
from search.study import device_time
from search.study.config import Images, StudyConfig, split_images
from search.study.files import StudyFiles
from search.worker import trial as worker_trial
from search.worker.callbacks import Cancelled
from search.worker.context import WorkerContext
from search.worker.training_function import make_training_function
from space.errors import LeaseLostError
from space.space import Task, parse
from storage import candidates, invariants, leases
from storage.leases import Claim
from storage.row_types import Candidate, State
from trainer import weights
from trainer.data import dataset as datasets
from trainer.recipe.document import Recipe

EPOCHS = 4
SLIM = parse({"depth": [1], "width": {"low": 8, "high": 8}, "stage": {"blocks": [1]}, "pool": {"size": [1]}})
SIX = parse({"depth": [1], "width": {"low": 8, "high": 8}, "stage": {"blocks": [1, 2, 3], "kernel": [1, 3]}})


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    dataset = datasets.load("digits", tmp_path_factory.mktemp("digits"))
    return Images(dataset, datasets.split(dataset, 0, 0.1, 256))


def plan_of(images: Images, space: Any = SLIM) -> StudyConfig:
    recipe = Recipe(epochs=EPOCHS, batch_size=64, crop_padding=1, flip=False, precision="float32")
    config = make_config(space)
    return config.model_copy(
        update={
            "recipe": recipe,
            "task": Task(channels=1, image_size=8, classes=10),
            "data": split_images(images.dataset, 256, 0.1, 0)[0],
        }
    )


@contextmanager
def context_of(
    url: str, images: Images, config: StudyConfig, trials: int, folder: Path
) -> Iterator[WorkerContext]:
    engine, record = make_study(url, config, trials)
    with optuna_study.open_study(url, record.name, config) as opened:
        _, train = make_training_function(config, images, checkpoint_seconds=0.0)
        context = make_context(opened, engine, record, train, config, folder)
        yield replace(context, files=StudyFiles(folder / "kept", 2))
    engine.dispose()


def one(context: WorkerContext, worker: str = "one") -> State:
    claim = leases.claim(context.engine, context.study_id, worker, 60.0)
    assert isinstance(claim, Claim)
    return worker_trial.run(context, claim)


def after(batches: int) -> Callable[[], bool]:
    """Says yes from this many batches on."""
    seen = iter(range(1, 1_000_000))
    return lambda: next(seen) > batches


def curve(context: WorkerContext, candidate: Candidate) -> list[tuple[float, ...]]:
    epochs = candidates.epochs(context.engine, context.study_id)[candidate.id]
    return [
        (e.epoch, e.train_loss, e.validation_loss, e.validation_accuracy, e.learning_rate) for e in epochs
    ]


@pytest.fixture
def undisturbed(images: Images, tmp_path: Path) -> tuple[list[tuple[float, ...]], float | None]:
    """Curve and accuracy of the one network of SLIM, trained in one go."""
    url = f"sqlite:///{tmp_path / 'undisturbed.db'}"
    with context_of(url, images, plan_of(images), 1, tmp_path / "undisturbed") as context:
        assert one(context) == State.COMPLETED
        (only,) = candidates.candidates(context.engine, context.study_id)
        return curve(context, only), only.accuracy


def test_a_trial_that_was_cancelled_goes_on_where_it_was(
    sqlite_url: str,
    images: Images,
    tmp_path: Path,
    undisturbed: tuple[list[tuple[float, ...]], float | None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with context_of(sqlite_url, images, plan_of(images), 1, tmp_path / "own") as context:
        steps = len(images.split.train) // 64
        with pytest.raises(Cancelled):
            one(replace(context, cancelled=after(2 * steps + 1)))
        caplog.set_level("INFO", "search")
        assert one(context, "another") == State.COMPLETED
        broken, whole = candidates.candidates(context.engine, context.study_id)
        assert (broken.state, broken.attempt, whole.attempt) == (State.CANCELLED, 1, 1)
        assert "trial 1 goes on after epoch 2, from a checkpoint" in caplog.messages
        assert (curve(context, whole), whole.accuracy) == undisturbed
        assert len(context.study.get_trials(deepcopy=False)[1].intermediate_values) == EPOCHS
        assert invariants.check(context.engine, context.study_id) == []
        assert not list((tmp_path / "own").rglob("*.checkpoint"))


def test_a_trial_whose_worker_was_taken_for_dead_is_gone_on_with_by_another(
    sqlite_url: str, images: Images, tmp_path: Path, undisturbed: tuple[list[tuple[float, ...]], float | None]
) -> None:
    """The first worker is silent, not dead: it notices at its next epoch that the trial is not its own."""
    with context_of(sqlite_url, images, plan_of(images), 1, tmp_path / "own") as context:
        steps, seen = len(images.split.train) // 64, iter(range(1, 1_000_000))

        def evicted() -> bool:
            if next(seen) == 2 * steps + 1:
                lost = leases.evict(context.engine, context.study_id, "one")
                reconciling.tell_lost(context.study, lost)
                assert one(context, "another") == State.COMPLETED
            return False

        with pytest.raises(LeaseLostError):
            one(replace(context, cancelled=evicted))
        lost, whole = candidates.candidates(context.engine, context.study_id)
        assert (lost.state, whole.state, whole.attempt) == (State.LOST, State.COMPLETED, 2)
        assert (curve(context, whole), whole.accuracy) == undisturbed
        assert context.study.get_trials(deepcopy=False)[0].state == optuna.trial.TrialState.FAIL
        assert invariants.check(context.engine, context.study_id) == []


@pytest.mark.parametrize("elsewhere", [False, True])
def test_the_time_of_a_trial_that_was_cancelled_counts_once_and_where_it_is_trained_anew_too(
    sqlite_url: str, images: Images, tmp_path: Path, elsewhere: bool
) -> None:
    """On the machine that has its checkpoint, and on one that has not."""
    with context_of(sqlite_url, images, plan_of(images), 1, tmp_path / "own") as context:
        steps = len(images.split.train) // 64
        with pytest.raises(Cancelled):
            one(replace(context, cancelled=after(2 * steps + 1)))
        files = StudyFiles(tmp_path / "other", 2) if elsewhere else context.files
        assert one(replace(context, files=files), "another") == State.COMPLETED
        rows = candidates.candidates(context.engine, context.study_id)
        epochs = candidates.epochs(context.engine, context.study_id, device_time.needed(rows))
        broken, whole = rows
        assert broken.seconds and whole.seconds
        counted = broken.seconds if elsewhere else 0.0
        assert device_time.spent(rows, epochs) == {broken.id: counted, whole.id: whole.seconds}


def test_the_weights_of_the_best_are_kept_and_no_others(
    sqlite_url: str, images: Images, tmp_path: Path
) -> None:
    with context_of(sqlite_url, images, plan_of(images, SIX), 4, tmp_path / "own") as context:
        for _ in range(4):
            one(context)
        best = candidates.best(context.engine, context.study_id, 2)
        kept = {path.name for path in (tmp_path / "own" / "kept").iterdir()}
        assert kept == {f"{row.number}.safetensors" for row in best}
        found = weights.load(context.files.weights(best[0].number))
        assert found.architecture.fingerprint == best[0].fingerprint
        assert found.network() is not None
