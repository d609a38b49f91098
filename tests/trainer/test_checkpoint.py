"""The file of a checkpoint: whole or not at all, and refused with the reason when it is not the right one."""

import dataclasses
import hashlib
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from training_samples import NETWORK, RECIPE, STEPS, Training, digits, identified, no_file_larger_than

from space import files
from space.errors import CheckpointError, EnvironmentProblem
from trainer import checkpoint
from trainer.checkpoint import Identity


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


def test_a_training_is_known_by_its_own_images_split_seed_and_recipe(folder: Path) -> None:
    dataset, split = digits(folder)
    recipe = RECIPE.model_copy(update={"precision": "bfloat16"})
    found = Identity.of(NETWORK, recipe, dataset, split, 8, torch.device("cpu"))
    assert (found.architecture, found.seed) == (NETWORK.fingerprint, 8)
    assert (found.data, found.split) == (dataset.digest, split.digest) != (split.digest, dataset.digest)
    assert (found.device, found.precision) == ("cpu", "bfloat16")
    assert found.recipe == recipe.model_dump(mode="json")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"architecture": "0123456789abcdef"},
            f"architecture is {NETWORK.fingerprint}, here 0123456789abcdef",
        ),
        ({"seed": 4}, "seed is 3, here 4"),
        ({"split": "ab" * 32}, "split is .*, here abababababab..."),
        ({"data": "cd" * 32}, "data is .*, here cdcdcdcdcdcd..."),
        ({"device": "cuda"}, "device is cpu, here cuda"),
        ({"precision": "bfloat16"}, "precision is float32, here bfloat16"),
        (
            {"recipe": {**RECIPE.model_dump(mode="json"), "epochs": 9, "warm_up": 0.5}},
            "recipe.epochs is 4, here 9; recipe.warm_up is 0.25, here 0.5$",
        ),
    ],
)
def test_a_checkpoint_of_another_training_is_refused_with_what_differs(
    changes: dict[str, Any], expected: str, kept: bytes, identity: Identity, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint"
    path.write_bytes(kept)
    with pytest.raises(CheckpointError, match=f"checkpoint is of another training: {expected}"):
        checkpoint.load(path, dataclasses.replace(identity, **changes))


def resealed(contents: bytes) -> bytes:
    return checkpoint.FORMAT + hashlib.sha256(contents).hexdigest().encode() + b"\n" + contents


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("code from a checkpoint was run",)


def archive(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda kept: b"",
        lambda kept: kept[:20],
        lambda kept: kept[: len(kept) // 2],
        lambda kept: kept[:-1],
        lambda kept: kept + b"more",
        lambda kept: kept[:5000] + bytes([kept[5000] ^ 1]) + kept[5001:],
        lambda kept: b"epochs = 3\n",
        lambda kept: kept[kept.index(b"\n") + 1 :],
        lambda kept: resealed(b""),
        lambda kept: resealed(b"PK\3\4 nothing of the kind"),
        lambda kept: resealed(archive(Harmful())),
        lambda kept: resealed(pickle.dumps(Harmful(), protocol=2)),
        lambda kept: resealed(archive([1, 2])),
        lambda kept: resealed(archive({"identity": {"seed": 3}})),
    ],
)
def test_a_file_that_is_no_whole_checkpoint_is_refused_in_one_line(
    spoil: Callable[[bytes], bytes], kept: bytes, identity: Identity, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint"
    path.write_bytes(spoil(kept))
    with pytest.raises(CheckpointError, match=r"checkpoint is (damaged or|not a checkpoint)") as caught:
        checkpoint.load(path, identity)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_read_is_named(tmp_path: Path, identity: Identity) -> None:
    with pytest.raises(CheckpointError, match=r"cannot read .*absent: No such file"):
        checkpoint.load(tmp_path / "absent", identity)
    with pytest.raises(CheckpointError, match=r"cannot read .*: Is a directory"):
        checkpoint.load(tmp_path, identity)


def test_a_failed_write_leaves_the_last_checkpoint_and_nothing_else(
    kept: bytes, path: Path, identity: Identity
) -> None:
    path.parent.mkdir()
    path.write_bytes(kept)
    found = checkpoint.load(path, identity)
    with (
        no_file_larger_than(10_000),
        pytest.raises(EnvironmentProblem, match=f"cannot write {path}: File too"),
    ):
        checkpoint.save(path, found)
    assert path.read_bytes() == kept
    assert list(path.parent.iterdir()) == [path]


def test_what_is_discarded_leaves_nothing_behind(kept: bytes, path: Path) -> None:
    files.discard(path)
    path.parent.mkdir()
    other = path.with_name("70.checkpoint")
    for file in (path, other, path.with_name(f".{path.name}.0a1b2c3d")):
        file.write_bytes(kept)
    files.discard(path)
    assert list(path.parent.iterdir()) == [other]


def test_a_checkpoint_is_of_the_state_when_it_was_saved(kept: bytes, path: Path, identity: Identity) -> None:
    path.parent.mkdir()
    path.write_bytes(kept)
    found = checkpoint.load(path, identity)
    assert found.identity == identity
    assert (found.step, [report.epoch for report in found.reports]) == (STEPS, [1])
    assert found.seconds >= found.reports[0].seconds


@pytest.mark.parametrize(("at_once", "offers"), [(True, 1), (False, 0)])
def test_a_first_checkpoint_is_written_at_once_where_that_is_asked_for(
    at_once: bool, offers: int, kept: bytes, path: Path, identity: Identity
) -> None:
    path.parent.mkdir()
    path.write_bytes(kept)
    found, made = checkpoint.load(path, identity), list[Identity]()

    def make(of: Identity) -> checkpoint.Checkpoint:
        made.append(of)
        return found

    writer = checkpoint.CheckpointWriter(checkpoint.CheckpointOptions(path, 1e6, at_once), identity)
    for _ in range(3):
        writer.offer(make)
    assert len(made) == offers
