"""`search predict`: whatever holds weights or pictures; the good ones are never lost for a bad one."""

import json
import os
import shutil
from pathlib import Path

import exported_samples
import numpy as np
import pytest
from command import Result, run
from exported_samples import Sample
from picture_samples import noise
from PIL import ExifTags, Image

import parsimony
from search.training import weights_reference
from search.training.predict import Predictions
from space.errors import CheckpointError
from trainer import weights

NETWORK = {
    "channels": 3,
    "image_size": 12,
    "classes": 2,
    "stem": {"width": 4},
    "stages": [{"blocks": 1, "width": 4}, {"blocks": 1, "width": 8, "stride": 2}],
}


def shade(path: Path, level: int, size: tuple[int, int] = (12, 12)) -> Path:
    """A picture that is dark or bright all over, and a little coloured."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (level, level, level + 5)).save(path)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of dark and bright pictures, and a training on it."""
    from search.training import train as training_train

    root = tmp_path_factory.mktemp("made")
    for part, count in (("train", 30), ("test", 5)):
        for i in range(count):
            shade(root / "shades" / part / "dark" / f"{i:02}.png", i + (part == "test") * 40)
            shade(root / "shades" / part / "light" / f"{i:02}.png", 245 - i - (part == "test") * 40)
    (root / "net.json").write_text(json.dumps(NETWORK))
    (root / "recipe.toml").write_text("epochs = 8\nbatch_size = 8")
    flags = training_train.Flags(
        network=str(root / "net.json"),
        storage=f"sqlite:///{root / 's.db'}",
        data_dir=root / "data",
        data=f"folder:{root / 'shades'}",
        recipe=str(root / "recipe.toml"),
        seeds=1,
        out=root / "out",
        device="cpu",
    )
    assert training_train.train_network(flags, lambda _: None) == 0
    return root


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """A study of digits, the brief weights of whose trial 0 are kept."""
    folder = tmp_path_factory.mktemp("sample")
    return exported_samples.make_sample(f"sqlite:///{folder / 's.db'}", folder / "data")


def rows(capsys: pytest.CaptureFixture[str], *given: object) -> list[dict[str, object]]:
    result = run(capsys, "predict", *given, "--format", "json")
    assert result.code == 0, result.err
    found: list[dict[str, object]] = json.loads(result.out)
    return found


def test_the_folder_of_a_training_stands_for_its_first_seed(
    capsys: pytest.CaptureFixture[str], made: Path
) -> None:
    picture = made / "shades/test/dark/00.png"
    by_file = rows(capsys, made / "out/seed-0.safetensors", picture)
    assert rows(capsys, made / "out", picture) == by_file
    assert by_file[0]["class"] == "dark"


def test_of_a_folder_of_class_folders_the_accuracy_is_said(
    capsys: pytest.CaptureFixture[str], made: Path
) -> None:
    result = run(capsys, "predict", made / "out", made / "shades" / "test")
    assert result.code == 0
    assert "accuracy 100.00% of 10 pictures, balanced over 2 classes 100.00%" in result.err
    assert result.out.count(".png") == 10


def test_a_folder_of_pictures_without_classes_is_classified(
    capsys: pytest.CaptureFixture[str], made: Path, tmp_path: Path
) -> None:
    for i in range(3):
        shade(tmp_path / f"{i}.png", 20 * i)
    (tmp_path / "notes.txt").write_text("no picture")
    found = run(capsys, "predict", made / "out", tmp_path, "--format", "json")
    assert [Path(row["image"]).name for row in json.loads(found.out)] == ["0.png", "1.png", "2.png"]
    assert "accuracy" not in found.err


@pytest.mark.parametrize("form", ["json", "csv", "table"])
def test_pictures_whose_names_are_no_text_are_classified_like_others(
    capsys: pytest.CaptureFixture[str], made: Path, tmp_path: Path, form: str
) -> None:
    for name in (b"a.png", b"caf\xe9.png"):
        shade(tmp_path / os.fsdecode(name), 10)
    found = run(capsys, "predict", made / "out", tmp_path, "--format", form)
    assert found.code == 0, found.err
    assert "a.png" in found.out and "caf\ufffd.png" in found.out


def test_percentages_have_two_digits(capsys: pytest.CaptureFixture[str], made: Path, tmp_path: Path) -> None:
    picture = noise(tmp_path / "a.png", 5)
    exact = rows(capsys, made / "out", picture, "--top", 2)
    table = run(capsys, "predict", made / "out", picture, "--top", 2).out
    for row in exact:
        assert f"{100 * float(str(row['probability'])):.2f}%" in table


def test_bad_pictures_among_good_ones_are_a_line_each(
    capsys: pytest.CaptureFixture[str], made: Path, tmp_path: Path
) -> None:
    good = [shade(tmp_path / name, level) for name, level in (("a.png", 10), ("c.png", 240))]
    (tmp_path / "b.png").write_text("no picture")
    result = run(
        capsys, "predict", made / "out", good[0], tmp_path / "b.png", tmp_path / "absent.png", good[1]
    )
    assert result.code == 5
    assert "a.png" in result.out and "c.png" in result.out
    assert result.err.splitlines() == [
        f"search: cannot read the image {tmp_path / 'b.png'}: its content is of no known image format;"
        " replace it or take it away",
        f"search: cannot read the image {tmp_path / 'absent.png'}: No such file or directory;"
        " replace it or take it away",
    ]


def test_what_is_classified_is_scaled_as_what_was_trained(
    capsys: pytest.CaptureFixture[str], made: Path, tmp_path: Path
) -> None:
    wide = Image.new("RGB", (120, 12), (10, 10, 15))
    wide.paste((250, 250, 255), (50, 0, 70, 12))
    wide.save(tmp_path / "wide.png")
    assert rows(capsys, made / "out", tmp_path / "wide.png")[0]["class"] == "dark", (
        "whole, and not its middle"
    )


def test_an_upright_picture_and_one_that_says_how_it_is_turned_are_classified_alike(
    capsys: pytest.CaptureFixture[str], made: Path, tmp_path: Path
) -> None:
    upright = noise(tmp_path / "upright.png", 5)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    with Image.open(upright) as image:
        image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "tagged.png", exif=exif)
        image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png")
    given = (tmp_path / name for name in ("upright.png", "tagged.png", "turned.png"))
    first, second, third = (row["probability"] for row in rows(capsys, made / "out", *given))
    assert first == second != third


def test_a_picture_of_16_bits_is_classified_as_the_same_of_8(
    capsys: pytest.CaptureFixture[str], made: Path, tmp_path: Path
) -> None:
    with Image.open(noise(tmp_path / "a.png", 5, colour=False)) as image:
        levels = np.asarray(image).astype(np.uint16)
    Image.fromarray(levels * 257).save(tmp_path / "b.png")
    one, other = (
        row["probability"] for row in rows(capsys, made / "out", tmp_path / "a.png", tmp_path / "b.png")
    )
    assert one == other


@pytest.mark.parametrize(
    ("argument", "code", "words"),
    [
        ("absent.safetensors", 2, "cannot read weights from absent.safetensors"),
        ("empty", 2, "empty holds no seed-N.safetensors; name the folder of a finished training"),
        ("net.json", 2, "net.json is not what search export writes"),
        ("nowhere:3", 5, "search launch"),
    ],
)
def test_what_holds_no_weights_is_one_line(
    capsys: pytest.CaptureFixture[str],
    made: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    argument: str,
    code: int,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    shutil.copy(made / "net.json", "net.json")
    picture = shade(tmp_path / "a.png", 10)
    result: Result = run(capsys, "predict", argument, picture)
    assert (result.code, words in result.one_line) == (code, True), result.err


def test_an_exported_file_stands_for_the_weights_beside_it(made: Path, tmp_path: Path) -> None:
    (tmp_path / "best.json").write_text(json.dumps({"origin": {"study": "night", "trial": 7}}))
    store = f"sqlite:///{tmp_path / 'none.db'}"
    with pytest.raises(CheckpointError, match=r"those of trial night:7 kept here .*search export --weights"):
        weights_reference.find(str(tmp_path / "best.json"), store, tmp_path)
    beside = shutil.copy(made / "out/seed-0.safetensors", tmp_path / "best.safetensors")
    assert weights_reference.find(str(tmp_path / "best.json"), store, tmp_path).path == beside


def test_weights_of_another_network_beside_an_exported_file_are_not_taken(made: Path, tmp_path: Path) -> None:
    beside = shutil.copy(made / "out/seed-0.safetensors", tmp_path / "best.safetensors")
    origin = {"study": "night", "trial": 7}
    own = weights.load(beside).architecture.fingerprint
    (tmp_path / "best.json").write_text(json.dumps({"origin": origin, "fingerprint": own}))
    store = f"sqlite:///{tmp_path / 'none.db'}"
    assert weights_reference.find(str(tmp_path / "best.json"), store, tmp_path).path == beside
    (tmp_path / "best.json").write_text(json.dumps({"origin": origin, "fingerprint": "0123456789abcdef"}))
    with pytest.raises(
        CheckpointError, match=r"best\.safetensors is of another network and those of trial night:7"
    ):
        weights_reference.find(str(tmp_path / "best.json"), store, tmp_path)


def test_of_a_confirmed_document_the_weights_are_taken_that_were_confirmed(
    capsys: pytest.CaptureFixture[str], sample: Sample, tmp_path: Path
) -> None:
    store = ("--storage", sample.url, "--data-dir", sample.data_dir)
    digest, picture = sample.images.dataset.digest, noise(tmp_path / "cat.png", 3)
    written = ("--format", "python", "--out", tmp_path / "best.py")
    assert run(capsys, "export", "bench", *store, *written).code == 0
    brief = ("predict", tmp_path / "best.json", picture, *store)
    document = sample.document.model_dump(mode="json")
    confirmed = {"epochs": 20, "seeds": 2, "validation_accuracy": 0.85, "validation_by_seed": [0.8, 0.9],
                 "validation_interval_95": None, "test_accuracy": None, "test_interval_95": None,
                 "test_images": 0, "folder": str(sample.weights.parent)}  # fmt: skip
    (tmp_path / "best.json").write_text(json.dumps(document))
    assert run(capsys, *brief).err == f"weights: {tmp_path / 'best.safetensors'}\n"
    (tmp_path / "best.json").write_text(json.dumps(document | {"confirmation": confirmed}))
    final = sample.weights.with_name("final-0-20-1.safetensors")
    network = (sample.document.architecture, sample.images)
    about = weights.trained_on(digest, 1, 20, 0.9)
    exported_samples.save_weights(final, *network, **about)
    found = run(capsys, *brief)
    epochs = weights.load(tmp_path / "best.safetensors").about["epochs"]
    beside = f"of another training ({epochs} epoch{'s' * (epochs != 1)}) than the one it states"
    assert found.err == f"weights: {final} ({tmp_path / 'best.safetensors'} is {beside})\n"
    final.unlink()
    elsewhere = ("--storage", sample.url, "--data-dir", tmp_path / "elsewhere")
    assert run(capsys, *brief[:3], *elsewhere).err == (
        f"weights: {tmp_path / 'best.safetensors'} ({beside}, whose weights are not here)\n"
    )
    with pytest.raises(CheckpointError, match=r"best\.safetensors holds the weights of another training"):
        parsimony.load(tmp_path / "best.json").trained()


def test_weights_of_other_images_beside_a_document_are_not_taken(
    capsys: pytest.CaptureFixture[str], sample: Sample, tmp_path: Path
) -> None:
    (tmp_path / "best.json").write_text(sample.document.model_dump_json())
    network = (sample.document.architecture, sample.images)
    beside, picture = tmp_path / "best.safetensors", noise(tmp_path / "cat.png", 3)
    exported_samples.save_weights(beside, *network, **weights.trained_on("0" * 64, 0, 3, 0.5))
    store = ("--storage", sample.url, "--data-dir", sample.data_dir)
    found = run(capsys, "predict", tmp_path / "best.json", picture, *store)
    silent = "it does not say on which images it was trained"
    assert found.err == f"weights: {sample.weights} ({silent}; {beside} is of other images)\n"
    with pytest.raises(CheckpointError, match=r"best\.safetensors holds the weights of other images"):
        parsimony.load(tmp_path / "best.json").classes()
    store = ("--storage", sample.url, "--data-dir", tmp_path / "elsewhere")
    found = run(capsys, "predict", tmp_path / "best.json", picture, *store)
    assert found.code == 2
    assert f"{beside} is of other images and those of trial bench:0 are not kept here" in found.one_line
    own = weights.trained_on(sample.document.data.digest, 0, 3, 0.5)
    exported_samples.save_weights(beside, *network, **own)
    found = run(capsys, "predict", tmp_path / "best.json", picture, *store)
    assert found.err == f"weights: {beside}\n"


def test_kept_weights_of_a_network_of_the_same_name_that_is_another_are_not_taken(
    capsys: pytest.CaptureFixture[str], sample: Sample, tmp_path: Path
) -> None:
    document = sample.document.model_dump(mode="json")
    (tmp_path / "best.json").write_text(json.dumps(document | {"fingerprint": "0123456789abcdef"}))
    store = ("--storage", sample.url, "--data-dir", sample.data_dir)
    found = run(capsys, "predict", tmp_path / "best.json", noise(tmp_path / "cat.png", 3), *store)
    assert found.code == 2
    assert "those of trial bench:0 that are kept here are of another network" in found.one_line


def test_an_exported_python_file_stands_for_its_weights_and_what_carries_its_own_is_refused(
    made: Path, tmp_path: Path
) -> None:
    for name in ("best.py", "best.onnx", "best.pt2"):
        (tmp_path / name).write_text("")
    with pytest.raises(CheckpointError, match=r"best\.py is run without this program"):
        weights_reference.find(str(tmp_path / "best.py"), "", tmp_path)
    beside = shutil.copy(made / "out/seed-0.safetensors", tmp_path / "best.safetensors")
    assert weights_reference.find(str(tmp_path / "best.py"), "", tmp_path).path == beside
    for name in ("best.onnx", "best.pt2"):
        with pytest.raises(CheckpointError, match=f"{name} is run without .* --format safetensors writes"):
            weights_reference.find(str(tmp_path / name), "", tmp_path)


def test_folders_that_are_links_are_looked_into_as_in_training_and_each_folder_once(
    capsys: pytest.CaptureFixture[str], made: Path, tmp_path: Path
) -> None:
    shutil.copytree(made / "shades/test/dark", tmp_path / "test/dark")
    (tmp_path / "test/light").mkdir()
    (tmp_path / "test/light/linked").symlink_to(made / "shades/test/light")
    (tmp_path / "test/dark/again").symlink_to(tmp_path / "test")
    shutil.copytree(made / "shades/test/light", tmp_path / "test/light/inside")
    (tmp_path / "test/dark/light").symlink_to(tmp_path / "test/light/inside")
    result = run(capsys, "predict", made / "out", tmp_path / "test")
    assert "accuracy 100.00% of 15 pictures, balanced over 2 classes 100.00%" in result.err
    assert result.out.count(".png") == 15


def test_accuracy_is_of_all_and_of_classes_alike() -> None:
    found = Predictions([], [], [("a", "a")] * 8 + [("b", "a")] * 1 + [("b", "b")] * 1)
    assert found.accuracy == "accuracy 90.00% of 10 pictures, balanced over 2 classes 75.00%"
    assert Predictions([], [], []).accuracy is None
    alone = Predictions([], [], [("a", "a")])
    assert alone.accuracy == "accuracy 100.00% of 1 picture, balanced over 1 class 100.00%"
