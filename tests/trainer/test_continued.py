"""A training that was ended goes on to the same bits, whatever ended it and whatever became of its file."""

import dataclasses
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import training_samples
from training_samples import (
    EPOCHS,
    NETWORK,
    RECIPE,
    STEPS,
    Stop,
    Training,
    digits,
    identified,
    no_file_larger_than,
    same,
    stop,
    timeless,
)

from trainer import checkpoint, loop
from trainer.callbacks import TrainingCallbacks
from trainer.checkpoint import CheckpointOptions, Identity
from trainer.outcome import EpochReport


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kept" / "7.checkpoint"


@pytest.fixture(scope="module")
def kept(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The checkpoint of RECIPE and seed 3 after an epoch."""
    path = tmp_path_factory.mktemp("kept") / "checkpoint"
    Training(folder, path).run_until(STEPS + 1)
    return path.read_bytes()


@pytest.fixture
def identity(folder: Path) -> Identity:
    return identified(folder)


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def whole(request: pytest.FixtureRequest, folder: Path) -> tuple[Training, loop.Fitted]:
    """A training that nothing disturbed."""
    training = Training(folder, None, RECIPE.model_copy(update={"precision": request.param}))
    return training, training.run()


@pytest.mark.parametrize("steps", [(3 * STEPS,), (STEPS + 1, 1 + 2 * STEPS, 2 + 3 * STEPS)])
def test_a_training_that_was_ended_goes_on_to_the_same_bits(
    steps: tuple[int, ...], whole: tuple[Training, loop.Fitted], path: Path
) -> None:
    undisturbed, expected = whole
    reports: list[EpochReport] = []
    for step in steps:
        part = dataclasses.replace(undisturbed, path=path, told=[], before=[])
        part.run_until(step)
        reports += part.told
    last = dataclasses.replace(undisturbed, path=path, told=[], before=[])
    assert same(last.run(), expected)
    assert last.before == reports, "what was told before is told as such"
    assert [timeless(x) for x in reports + last.told] == [timeless(x) for x in undisturbed.told]
    assert last.said == []


def test_the_outcome_of_a_continued_training_is_of_all_its_epochs(folder: Path, path: Path) -> None:
    first, second = Training(folder, path), Training(folder, path)
    first.run_until(1 + 2 * STEPS)
    outcome = second.run().outcome
    reports = first.told + second.told
    assert [report.epoch for report in reports] == [1, 2, 3, 4]
    assert outcome.epochs == EPOCHS
    assert outcome.seconds >= sum(report.seconds for report in reports)
    assert outcome.best_accuracy == max(report.validation_accuracy for report in reports)


def test_an_epoch_whose_callback_raised_is_in_no_checkpoint(
    folder: Path, path: Path, identity: Identity
) -> None:
    with pytest.raises(Stop):
        loop.fit(
            NETWORK,
            RECIPE,
            *digits(folder),
            seed=3,
            callbacks=TrainingCallbacks(on_epoch=lambda report: stop(report.epoch == 3)),
            checkpoint=CheckpointOptions(path, seconds=0),
        )
    found = checkpoint.load(path, identity)
    assert (found.step, len(found.reports)) == (2 * STEPS, 2)


def test_a_brief_training_writes_nothing(folder: Path, path: Path) -> None:
    Training(folder, path, seconds=3600).run()
    assert not path.parent.exists()


def test_the_last_epoch_is_not_saved(folder: Path, path: Path, identity: Identity) -> None:
    Training(folder, path).run()
    assert len(checkpoint.load(path, identity).reports) == EPOCHS - 1
    assert list(path.parent.iterdir()) == [path]


def unfit(kept: bytes, path: Path, identity: Identity) -> None:
    """A checkpoint of this very training whose weights are those of some other network."""
    path.write_bytes(kept)
    found = checkpoint.load(path, identity)
    weights = {name: tensor + 1 for name, tensor in found.state["weights"].items()}
    weights["head.classifier.bias"] = torch.zeros(3)
    checkpoint.save(path, dataclasses.replace(found, state={**found.state, "weights": weights}))


def test_a_training_is_not_stopped_by_a_checkpoint_that_it_cannot_use(
    kept: bytes, folder: Path, tmp_path: Path, identity: Identity
) -> None:
    expected = Training(folder, None).run()
    for number, prepare in enumerate(
        [
            lambda path: path.write_bytes(kept[:-9]),
            lambda path: Training(folder, path, seed=4).run_until(STEPS + 1),
            lambda path: unfit(kept, path, identity),
        ]
    ):
        path = tmp_path / str(number)
        prepare(path)
        training = Training(folder, path)
        assert same(training.run(), expected)
        assert training.before == []
        assert len(training.said) == 1 and training.said[0].startswith("starts from the beginning: ")
        assert len(checkpoint.load(path, identity).reports) == EPOCHS - 1, "and it is replaced"


def test_a_training_goes_on_when_its_checkpoint_cannot_be_written(folder: Path, path: Path) -> None:
    first, second = Training(folder, path), Training(folder, path)
    first.run_until(STEPS + 1)
    held = path.read_bytes()
    with no_file_larger_than(10_000):
        outcome = second.run().outcome
    assert outcome.epochs == EPOCHS
    assert len(second.said) == 2
    assert all(line.startswith("goes on without a new checkpoint: cannot write") for line in second.said)
    assert path.read_bytes() == held


def test_a_folder_that_cannot_be_made_is_said_too(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    training = Training(folder, tmp_path / "file" / "checkpoint")
    assert training.run().outcome.epochs == EPOCHS
    assert "Not a directory" in training.said[0]
    assert training.said[-1].startswith("goes on without a new checkpoint: cannot write")


CHILD = """
import sys, time
from pathlib import Path
sys.path[:0] = sys.argv[3:]
from training_samples import Training
training = Training(Path(sys.argv[1]), Path(sys.argv[2]))
class Out(list):
    def append(self, report):
        print(report.epoch, flush=True)
        if report.epoch == 3:
            time.sleep(600)
training.told = Out()
training.run()
"""


def test_a_killed_process_is_continued_by_another(folder: Path, path: Path) -> None:
    here = Path(training_samples.__file__).parent
    command = [sys.executable, "-c", CHILD, str(folder), str(path), str(here.parents[1]), str(here)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert [child.stdout.readline().strip() for _ in range(3)] == ["1", "2", "3"]
        child.send_signal(signal.SIGKILL)
    training = Training(folder, path)
    assert same(training.run(), Training(folder, None).run())
    assert [report.epoch for report in training.told] == [3, 4], (
        "an epoch may be told twice, never not at all"
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_training_on_a_gpu_is_continued_too(folder: Path, path: Path) -> None:
    expected = Training(folder, None, device="cuda").run().outcome
    Training(folder, path, device="cuda").run_until(2 + 2 * STEPS)
    training = Training(folder, path, device="cuda")
    outcome = training.run().outcome
    assert [report.epoch for report in training.before] == [1, 2]
    assert training.said == []
    assert outcome.loss == pytest.approx(expected.loss, rel=0.05)
