"""Weights in a file: what was saved classifies as what was trained, and what is no such file is refused."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from training_samples import NETWORK, Training, digits, no_file_larger_than

from space.architecture import Architecture, Block, SqueezeExcitation, Stage, Stem
from space.errors import CheckpointError, EnvironmentProblem
from trainer import loop, model, weights
from trainer.data.batches import Normalisation
from trainer.data.images import Scaling


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> loop.Fitted:
    return Training(tmp_path_factory.mktemp("data"), None).run()


@pytest.fixture
def path(tmp_path: Path, fitted: loop.Fitted) -> Path:
    path = tmp_path / "made" / "7.safetensors"
    keep(path, fitted)
    return path


def keep(path: Path, fitted: loop.Fitted) -> None:
    weights.save(
        path, fitted.model, NETWORK, [str(i) for i in range(10)], fitted.normalisation, {"epochs": 4}
    )


def test_a_network_read_from_its_file_answers_as_the_one_that_was_trained(
    path: Path, fitted: loop.Fitted, tmp_path: Path
) -> None:
    found = weights.load(path)
    assert (found.architecture, found.classes[3], found.about) == (NETWORK, "3", {"epochs": 4})
    dataset, _ = digits(tmp_path)
    images = torch.from_numpy(dataset.images[:50].copy()).permute(0, 3, 1, 2)
    x = found.normalisation.apply(images)
    fitted.model.eval()
    with torch.inference_mode():
        assert torch.equal(found.network()(x), fitted.model(x))


def test_how_pictures_were_scaled_is_kept_with_the_weights(path: Path, fitted: loop.Fitted) -> None:
    assert weights.load(path).scaling == Scaling("crop", 16), "where nothing is said, as before"
    written = (fitted.model, NETWORK, "0123456789", fitted.normalisation, {}, Scaling("stretch", 12))
    weights.save(path, *written)
    assert weights.load(path).scaling == Scaling("stretch", 12)


def test_weights_of_every_kind_of_block_are_read_again(tmp_path: Path) -> None:
    stages = (Stage(blocks=2, width=8), Stage(blocks=2, width=14, stride=2, growth="linear"))
    for block in (
        Block(kind="bottleneck", expansion=2, groups=2, preactivation=True),
        Block(kind="inverted", shortcut="identity", squeeze_excitation=SqueezeExcitation(reduction=4)),
        Block(shortcut="padding"),
    ):
        network = Architecture(image_size=9, stem=Stem(width=8), stages=stages, block=block)
        built, x = model.build(network).eval(), torch.rand(2, 3, 9, 9)
        weights.save(tmp_path / "kept", built, network, "abcdefghij", Normalisation((0.0,), (1.0,)))
        found = weights.load(tmp_path / "kept")
        assert found.architecture == network
        with torch.inference_mode():
            assert torch.equal(found.network()(x), built(x))


def test_a_file_that_is_cut_off_absent_or_something_else_is_refused(path: Path) -> None:
    whole = path.read_bytes()
    for contents, reason in ((whole[:-100], "cannot read weights"), (b"no", "cannot read weights")):
        path.write_bytes(contents)
        with pytest.raises(CheckpointError, match=reason):
            weights.load(path)
    path.unlink()
    with pytest.raises(CheckpointError, match="cannot read weights"):
        weights.load(path)


@pytest.mark.parametrize(
    ("part", "value", "words"),
    [
        ("classes", ["a", "b"], "not the names of 10 classes"),
        ("classes", list(range(10)), "not the names of 10 classes"),
        ("normalisation", {"mean": ["x"], "deviation": [1.0]}, "mean is no number for each of 1 channels"),
        ("normalisation", {"mean": [1.0], "deviation": [1.0, 2.0]}, "deviation is no number for each"),
        ("normalisation", {"mean": [1.0], "deviation": [0.0]}, "a deviation is not above 0"),
        ("scaling", {"fit": "zoom"}, "fit is one of pad, crop, stretch"),
        ("scaling", {"bits": "x"}, "bits a number"),
        ("about", [1], "about: no table"),
    ],
)
def test_a_header_that_does_not_go_with_its_network_is_refused(
    path: Path, part: str, value: object, words: str
) -> None:
    with safe_open(path, "pt") as file:
        header = {**file.metadata(), part: json.dumps(value)}
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    save_file(state, path, header)
    with pytest.raises(CheckpointError, match=f"the header is damaged: .*{words}"):
        weights.load(path)


def test_weights_of_another_network_are_refused(path: Path) -> None:
    found = weights.load(path)
    state = dict(found.state)
    del state[next(iter(state))]
    with pytest.raises(CheckpointError, match="do not match"):
        weights.Weights(found.architecture, found.classes, found.normalisation, {}, state).network()


def test_a_full_disk_leaves_the_file_that_was_there(path: Path, fitted: loop.Fitted) -> None:
    before = path.read_bytes()
    with no_file_larger_than(1_000), pytest.raises(EnvironmentProblem, match="cannot write"):
        keep(path, fitted)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
