"""Full training from the command line: what it leaves, how it goes on, what it refuses."""

import json
import signal
from pathlib import Path
from statistics import fmean
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from command import Result, finish, run, start
from PIL import Image
from safetensors.torch import load_file

from search.commands import fields
from search.study.statistics import spread
from search.training import run as training_run
from search.training.report import describe_spread
from space.errors import EnvironmentProblem
from storage import database, trainings
from trainer import loop, weights
from trainer.data import dataset as datasets, tensor_files
from trainer.data.contents import Part
from trainer.evaluation import scores

NETWORK = {
    "channels": 1,
    "image_size": 8,
    "stem": {"width": 4},
    "block": {"dropout": 0.1},
    "stages": [{"blocks": 1, "width": 4}, {"blocks": 1, "width": 8, "stride": 2}],
}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def network(tmp_path: Path) -> Path:
    path = tmp_path / "net.json"
    path.write_text(json.dumps(NETWORK))
    return path


def arguments(network: Path, data_dir: Path, *more: object) -> list[object]:
    folder = network.parent
    images = ("--data", "digits", "--data-dir", data_dir, "--train-images", 200)
    store = ("--storage", f"sqlite:///{folder / 'search.db'}", "--out", folder / "out", "--device", "cpu")
    return ["train", network, *images, *store, *more]


@pytest.fixture
def trained(capsys: pytest.CaptureFixture[str], network: Path, data_dir: Path) -> Result:
    result = run(capsys, *arguments(network, data_dir, "--epochs", 2, "--seeds", 2, "--format", "json"))
    assert result.code == 0, result.err
    return result


def test_a_training_gives_a_row_a_seed_to_programs(trained: Result, tmp_path: Path) -> None:
    rows = json.loads(trained.out)
    assert [(row["network"], row["seed"], row["epochs"]) for row in rows] == [("net", 0, 2), ("net", 1, 2)]
    assert all(list(row) == list(fields.TRAININGS) for row in rows)
    measured = [seed["test"]["accuracy"] for seed in result_of(tmp_path)["seeds"]]
    assert [row["test_accuracy"] for row in rows] == pytest.approx(measured)


def result_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "out" / "result.json").read_text())
    return found


def test_a_training_leaves_weights_figures_a_page_and_rows(trained: Result, tmp_path: Path) -> None:
    found = result_of(tmp_path)
    assert [row["seed"] for row in found["seeds"]] == [0, 1]
    for row in found["seeds"]:
        confusion = np.array(row["test"]["confusion"])
        assert confusion.sum() == row["test"]["images"] == 359
        assert row["test"]["accuracy"] == pytest.approx(confusion.trace() / 359)
        assert row["test"]["by_class"] == pytest.approx(confusion.diagonal() / confusion.sum(1))
        assert [epoch["epoch"] for epoch in row["epochs"]] == [1, 2]
        assert row["validation"]["accuracy"] == row["epochs"][-1]["validation_accuracy"]
        assert (tmp_path / "out" / row["weights"]).is_file()
    accuracies = [row["test"]["accuracy"] for row in found["seeds"]]
    assert found["summary"]["test accuracy"]["mean"] == pytest.approx(fmean(accuracies))
    engine = database.connect(f"sqlite:///{tmp_path / 'search.db'}")
    rows = trainings.of_study(engine, None)
    engine.dispose()
    assert [(row.seed, row.test_accuracy) for row in rows] == list(enumerate(accuracies))
    assert rows[0].fingerprint == found["fingerprint"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Who is taken for whom" in page
    assert "<script src" not in page, "it needs nothing from elsewhere"
    assert not list((tmp_path / "out").glob("*.checkpoint"))


def test_a_device_with_too_little_memory_is_told_and_is_no_fault_of_the_program(
    network: Path, data_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(*_: object, **__: object) -> NoReturn:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee the docs.")

    monkeypatch.setattr(loop, "fit", fit)
    result = run(capsys, *arguments(network, data_dir, "--epochs", 2, "--seeds", 1))
    assert result.code == 5
    assert result.err.splitlines()[-1].startswith(
        "search: too little memory on cpu for net in batches of 64 (CUDA out of memory. Tried to allocate"
    )
    assert "fault of the program" not in result.err


def test_the_weights_are_those_that_were_tested(trained: Result, tmp_path: Path) -> None:
    from search.training.predict import classify
    from trainer.data import dataset as datasets

    images, labels = datasets.load("digits", tmp_path / "digits").open_test()
    paths = []
    for i, image in enumerate(images):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(image[..., 0]).save(paths[-1])
    rows = classify(tmp_path / "out" / "seed-0.safetensors", paths, 1).rows
    confusion = np.zeros((10, 10), int)
    for row, label in zip(rows, labels, strict=True):
        confusion[label, int(str(row["class"]))] += 1
    assert confusion.tolist() == result_of(tmp_path)["seeds"][0]["test"]["confusion"]


def test_what_is_done_is_not_done_again_and_seeds_may_be_added(
    capsys: pytest.CaptureFixture[str], trained: Result, network: Path, data_dir: Path, tmp_path: Path
) -> None:
    before = result_of(tmp_path)
    again = run(capsys, *arguments(network, data_dir, "--epochs", 2, "--seeds", 3, "--resume"))
    assert again.code == 0
    assert "seed 0 epoch" not in again.err
    assert "seed 2 epoch 2/2" in again.err
    after = result_of(tmp_path)
    assert after["seeds"][:2] == before["seeds"]
    assert after["run"] == before["run"]


def test_a_seed_that_is_added_and_not_tested_takes_nobody_elses_test(
    capsys: pytest.CaptureFixture[str], trained: Result, network: Path, data_dir: Path, tmp_path: Path
) -> None:
    tested = {row["seed"]: row["test"] for row in result_of(tmp_path)["seeds"]}
    more = ("--epochs", 2, "--seed", 1, "--seeds", 2, "--resume", "--no-test", "--format", "json")
    again = run(capsys, *arguments(network, data_dir, *more))
    assert again.code == 0, again.err
    assert [(row["seed"], row["test"]) for row in result_of(tmp_path)["seeds"]] == [(1, tested[1]), (2, None)]
    rows = {row["seed"]: row["test_accuracy"] for row in json.loads(again.out)}
    assert rows[1] == pytest.approx(tested[1]["accuracy"]) and rows[2] is None


def test_weights_that_were_trained_anew_are_tested_anew(
    capsys: pytest.CaptureFixture[str], trained: Result, network: Path, data_dir: Path, tmp_path: Path
) -> None:
    stored = result_of(tmp_path)
    for row in stored["seeds"]:
        row["test"]["accuracy"] = 0.001  # none that a test gives
    (tmp_path / "out" / "result.json").write_text(json.dumps(stored))
    (tmp_path / "out" / "seed-0.json").unlink()
    more = ("--epochs", 2, "--seeds", 2, "--resume", "--format", "json")
    again = run(capsys, *arguments(network, data_dir, *more))
    assert again.code == 0, again.err
    found = [row["test"]["accuracy"] for row in result_of(tmp_path)["seeds"]]
    assert found[0] > found[1] == 0.001, "that of the other seed is taken over"
    assert [row["test_accuracy"] for row in json.loads(again.out)] == pytest.approx(found)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (("--epochs", 2), "holds a training; go on with it by --resume, or name another --out"),
        (("--epochs", 3, "--resume"), "recipe.epochs is 2, here 3; name another --out"),
        (("--epochs", 2, "--resume", "--train-images", 100), "data.limit is 200, here 100"),
    ],
)
def test_a_folder_of_another_training_is_left_alone(
    capsys: pytest.CaptureFixture[str],
    trained: Result,
    network: Path,
    data_dir: Path,
    more: tuple[object, ...],
    expected: str,
) -> None:
    result = run(capsys, *arguments(network, data_dir, *more))
    assert result.code == 2
    assert expected in result.one_line


def interrupted(network: Path, data_dir: Path, code: int = signal.SIGINT) -> Result:
    """A training that is told to end after its second epoch, of so many that a busy machine is in time."""
    more = ("--recipe", recipe_file(network), "--seeds", 1)
    process = start(*arguments(network, data_dir, *more), cwd=network.parent)
    assert process.stderr
    said = ""
    while "epoch 2/" not in said:  # by then the checkpoint of the first is there
        said = process.stderr.readline()
        assert said, "it ended before its second epoch"
    process.send_signal(code)
    return finish(process)


def recipe_file(network: Path) -> Path:
    path = network.parent / "recipe.toml"
    path.write_text(
        'epochs = 30\nprecision = "float32"\nema = 0.9\npolicy = "trivialaugment"\nbatch_size = 50'
    )
    return path


@pytest.mark.thorough  # trainer/test_continued.py and test_any_recipe.py hold it
def test_a_training_that_was_ended_goes_on_to_the_same_weights(
    network: Path, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = interrupted(network, data_dir)
    assert result.code == 130, result.err
    assert "goes on from its last checkpoint" in result.err
    out = tmp_path / "out"
    assert [path.name for path in out.glob("seed-0.*")] == ["seed-0.checkpoint"]
    more = ("--recipe", recipe_file(network), "--seeds", 1)
    resumed = run(capsys, *arguments(network, data_dir, *more, "--resume"))
    assert resumed.code == 0, resumed.err
    assert "seed 0 goes on after epoch" in resumed.err
    whole = run(capsys, *arguments(network, data_dir, *more, "--out", tmp_path / "whole"))
    assert whole.code == 0, whole.err
    weights = [load_file(folder / "seed-0.safetensors") for folder in (out, tmp_path / "whole")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])


@pytest.mark.thorough  # trainer/test_continued.py spoils one
def test_a_checkpoint_that_cannot_be_gone_on_with_is_named_and_left(
    capsys: pytest.CaptureFixture[str], network: Path, data_dir: Path
) -> None:
    ended = interrupted(network, data_dir, signal.SIGTERM)
    assert ended.code == 143, ended.err
    path = network.parent / "out" / "seed-0.checkpoint"
    whole = path.read_bytes()
    more = ("--recipe", recipe_file(network), "--seeds", 1, "--resume")
    harms = {whole[:-9]: "is damaged or cut off; delete it", b"none": "is not a checkpoint of this version"}
    for contents, expected in harms.items():
        path.write_bytes(contents)
        result = run(capsys, *arguments(network, data_dir, *more))
        assert result.code == 2
        assert expected in result.err.splitlines()[-1]
        assert path.read_bytes() == contents


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ("batch_size = 500", "batch_size 500 is more than the 200 training images; lower it"),
        ("jensen_shannon = 12", 'jensen_shannon 12 needs AugMix: add policy = "augmix"'),
        ("learning_rate = -0.1", "learning_rate: Input should be greater than 0 (found -0.1)"),
        ("crop_paddding = 4", "crop_paddding: unknown field; did you mean crop_padding?"),
        ("crop_padding = 8", "crop_padding 8 does not fit images of 8 pixels; lower it"),
        ('optimizer = "adam"\nlearning_rate = 0.1\nweight_decay = 0.1', 'add accept = ["coupled_decay"]'),
    ],
)
def test_a_recipe_that_is_wrong_is_one_line_before_anything_is_made(
    capsys: pytest.CaptureFixture[str], network: Path, data_dir: Path, recipe: str, expected: str
) -> None:
    path = network.parent / "recipe.toml"
    path.write_text(recipe)
    result = run(capsys, *arguments(network, data_dir, "--recipe", path))
    assert result.code == 2
    assert expected in result.one_line
    assert not (network.parent / "out").exists()


def test_softmax_before_the_loss_is_refused_unless_it_is_meant(
    capsys: pytest.CaptureFixture[str], network: Path, data_dir: Path
) -> None:
    network.write_text(json.dumps(NETWORK | {"head": {"softmax": True}}))
    assert 'add accept = ["softmax"]' in run(capsys, *arguments(network, data_dir)).one_line
    recipe = network.parent / "recipe.toml"
    recipe.write_text('accept = ["softmax"]\nepochs = 1')
    result = run(capsys, *arguments(network, data_dir, "--recipe", recipe, "--seeds", 1))
    assert result.code == 0
    assert "warning  head.softmax true" in result.err
    test = json.loads((network.parent / "out/result.json").read_text())["seeds"][0]["test"]
    found = weights.load(network.parent / "out/seed-0.safetensors")
    images, labels = map(torch.from_numpy, datasets.load("digits", data_dir).open_test())
    shares = scores(found.network(), images, found.normalisation)
    sure = sum(count * confidence for count, confidence, _ in test["calibration"]) / len(images)
    assert sure == pytest.approx(float(shares.max(1).values.mean())), "what it says is shares already"
    number, label, taken, surest = test["mistakes"][0]
    assert (label, surest) == (int(labels[number]), pytest.approx(float(shares[number, taken])))


def test_a_published_recipe_is_stretched_to_the_epochs_and_trains(
    capsys: pytest.CaptureFixture[str], network: Path, data_dir: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('epochs = 200\nschedule = {name = "cosine", length = 200, unit = "epoch"}')
    more = ("--recipe", recipe, "--epochs", 4, "--seeds", 1)
    assert run(capsys, *arguments(network, data_dir, *more)).code == 0
    rates = [epoch["learning_rate"] for epoch in result_of(tmp_path)["seeds"][0]["epochs"]]
    assert rates[2] == pytest.approx(rates[0] / 2), "half-way down after half of the epochs"


def test_pictures_are_classified_from_the_file_alone(
    capsys: pytest.CaptureFixture[str], trained: Result, tmp_path: Path
) -> None:
    weights, picture = tmp_path / "out" / "seed-0.safetensors", tmp_path / "a.png"
    Image.fromarray(np.full((30, 20, 3), 90, np.uint8)).save(picture)
    rows = json.loads(run(capsys, "predict", weights, picture, "--top", 3, "--format", "json").out)
    assert len(rows) == 3
    assert rows[0]["probability"] >= rows[1]["probability"] >= rows[2]["probability"] > 0
    picture.write_text("no picture")
    assert "its content is of no known image format" in run(capsys, "predict", weights, picture).one_line
    result = run(capsys, "predict", picture, picture)
    assert (result.code, "cannot read weights from" in result.one_line) == (2, True)
    assert "No such file" in run(capsys, "predict", weights, tmp_path / "absent.png").one_line


def test_images_of_five_channels_are_trained_and_shown(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    parts = {
        name: Part(random.integers(0, 256, (count, 8, 8, 5), np.uint8), np.arange(count) % 2)
        for name, count in (("train", 60), ("test", 20))
    }
    spec = tensor_files.store(tmp_path, "bands", parts, ("a", "b"))
    Path("net.json").write_text(json.dumps(NETWORK | {"channels": 5, "classes": 2}))
    images = ("--data", spec, "--data-dir", tmp_path, "--storage", f"sqlite:///{tmp_path / 'search.db'}")
    result = run(capsys, "train", "net.json", *images, "--epochs", 1, "--seeds", 1, "--device", "cpu")
    assert result.code == 0, result.err
    page = Path("training-net/report.html").read_text()
    assert "as it sees them: of 5 channels the first, in grey" in page
    assert run(capsys, "data", spec, "--data-dir", tmp_path).code == 0
    assert (
        "mixing of two images is not shown; of 5 channels the first, in grey" in Path("data.html").read_text()
    )


def test_the_interval_of_a_mean_is_students(tmp_path: Path) -> None:
    from scipy import stats

    for count in (*range(3, 34), 60):  # each quantile of the table, and two that are reckoned
        values = list(np.random.default_rng(count).normal(0.9, 0.01, count))
        found = spread(values)
        expected = stats.t.interval(0.95, count - 1, loc=np.mean(values), scale=stats.sem(values))
        assert found.interval == pytest.approx(expected, rel=1e-4)
        assert found.deviation == pytest.approx(np.std(values, ddof=1))
    assert spread([0.5]) == (0.5, None, None, (0.5,))
    level = spread([0.5, 0.5, 0.5])
    assert level.interval is None, "a point would claim that seeds do not matter"
    assert describe_spread(level) == "3 equal seeds give no useful interval"


def test_two_seeds_have_both_values_in_place_of_an_interval() -> None:
    found = spread([0.963, 0.968])
    assert found.interval is None and found.deviation == pytest.approx(0.0035355, rel=1e-4)
    assert describe_spread(found) == "96.30% and 96.80%: two seeds give no useful interval"
    assert "95% interval of the mean 95.80-97.60%" in describe_spread(spread([0.963, 0.968, 0.97]))
    assert describe_spread(spread([0.9])) == "one seed: how much a seed matters is not known"


def test_a_disk_too_small_for_the_weights_is_told_before_the_training(
    capsys: pytest.CaptureFixture[str], network: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.training.run.free_bytes", lambda _: 500_000)
    refused = run(capsys, *arguments(network, data_dir, "--epochs", 2))
    assert refused.code == 5
    assert "out: 0.5 MB free, and checkpoint and weights of 3 trainings take 1.1 MB" in refused.one_line
    assert not (network.parent / "out").exists()


def test_weights_that_find_the_disk_full_at_the_end_are_written_once_there_is_space(
    capsys: pytest.CaptureFixture[str], network: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    real, full = training_run.weights.save, iter([True, True])

    def save(path: Path, *given: Any) -> None:
        if next(full, False):
            raise EnvironmentProblem(f"cannot write {path}: No space left on device")
        real(path, *given)

    monkeypatch.setattr("search.training.run.weights.save", save)
    monkeypatch.setattr("search.training.run.sleep", waits.append)
    done = run(capsys, *arguments(network, data_dir, "--epochs", 1, "--seeds", 1))
    assert done.code == 0, done.err
    assert waits == [30.0, 30.0]
    assert (network.parent / "out" / "seed-0.safetensors").exists()


def test_a_disk_that_stays_full_ends_a_training_after_an_hour_and_its_checkpoint_stays(
    capsys: pytest.CaptureFixture[str], network: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(path: Path, *_: Any) -> None:
        raise EnvironmentProblem(f"cannot write {path}: No space left on device")

    waits: list[float] = []
    monkeypatch.setattr("search.training.run.weights.save", save)
    monkeypatch.setattr("search.training.run.sleep", waits.append)
    ended = run(capsys, *arguments(network, data_dir, "--epochs", 2, "--seeds", 1))
    assert ended.code == 5
    assert sum(waits) == pytest.approx(3600, rel=0.01)
    assert (network.parent / "out" / "seed-0.checkpoint").exists()


def test_a_training_that_is_stopped_names_its_folder_as_a_shell_takes_it(
    network: Path,
    data_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setattr(training_run, "train", stopped)
    folder = tmp_path / "training-my night-12"
    result = run(capsys, *arguments(network, data_dir, "--epochs", 1, "--seeds", 1, "--out", folder))
    assert result.code == 130
    assert f"stopped: with --resume --out '{folder}' seed 0 goes on from its start" in result.err
