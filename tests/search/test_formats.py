"""A network taken along: the same scores in every form, and each thing that is wrong with a file named."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import exported_samples
import numpy as np
import onnxruntime
import pytest
import torch
from command import ROOT, Result, run
from exported_samples import Sample
from hypothesis import given
from picture_samples import noise
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from space_samples import CALM, architectures
from torch import nn

from benchmarks import forms
from search.formats import (
    carried,
    check,
    choice,
    deployed,
    model_card,
    onnx_file,
    pt2_file,
    python_source,
    safetensors_file,
    standalone,
    standing_alone,
    write,
)
from search.formats.write import FORMS
from search.study import export as study_export, reader
from search.study.export import Confirmation, LayerRow
from search.study.files import StudyFiles
from space import cost
from space.architecture import (
    Architecture,
    Block,
    Head,
    MaxPool,
    Pool,
    SqueezeExcitation,
    Stage,
    Stem,
    TailConvolution,
)
from space.errors import UsageError
from storage import database, trainings
from storage.trainings import Finished, Training, run_of_finals
from trainer import model, weights
from trainer.data import images as image_files
from trainer.data.batches import Normalisation
from trainer.data.images import Scaling

ENDINGS = {"onnx": ".onnx", "pt2": ".pt2", "python": ".py", "safetensors": ".safetensors"}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    folder = tmp_path_factory.mktemp("sample")
    return exported_samples.make_sample(f"sqlite:///{folder / 's.db'}", folder / "data")


@pytest.fixture(scope="module")
def written(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the network in every form."""

    folder = tmp_path_factory.mktemp("written")
    chosen = choice.ChosenWeights(sample.weights, choice._brief(sample.candidate))
    for form in FORMS:
        path = folder / form / f"best{ENDINGS[form]}"
        path.parent.mkdir()
        write.write(form, path, sample.document, chosen, sample.images)
    return folder


def export(capsys: pytest.CaptureFixture[str], sample: Sample, *given: object) -> Result:
    store = ("--storage", sample.url, "--data-dir", sample.data_dir)
    return run(capsys, "export", "bench", *store, *given)


def digits(sample: Sample, count: int = 50) -> np.ndarray:
    """Validation images, (N, 1, 8, 8) bytes."""
    chosen = sample.images.split.validation[:count]
    return np.ascontiguousarray(sample.images.dataset.images[chosen].transpose(0, 3, 1, 2))


def original(sample: Sample, images: np.ndarray) -> np.ndarray:
    found = weights.load(sample.weights)
    return deployed.scores(deployed.Deployed(found.network(), found.normalisation), images)


def alone(folder: Path, *arguments: str) -> str:
    """Python in a folder, with torch and Pillow and without this project."""
    blocked = "import sys; sys.meta_path.insert(0, type('No', (), {'find_spec': staticmethod(block)}))"
    code = (
        "import runpy, sys\n"
        "OURS = {'search', 'space', 'storage', 'trainer', 'parsimony', 'safetensors'}\n"
        "def block(name, *_):\n"
        "    if name.partition('.')[0] in OURS: raise ImportError(name + ' is of the project')\n"
        f"{blocked}\n"
        "sys.path.insert(0, '.')\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


USE = """
import contextlib, io, json, runpy, sys
import numpy, torch, best
network = best.load()
with torch.inference_mode():
    scores = network(torch.from_numpy(numpy.load("images.npy")))
example = io.StringIO()
with contextlib.redirect_stdout(example):
    runpy.run_path("example.py")
command = io.StringIO()
sys.argv = ["best.py", "cat.png"]
with contextlib.redirect_stdout(command):
    runpy.run_path("best.py", run_name="__main__")
count = sum(x.numel() for x in network.parameters())
print(json.dumps([count, best.CLASSES, scores.tolist(), example.getvalue(), command.getvalue()]))
"""


def test_a_python_file_stands_alone_and_says_what_the_original_and_predict_say(
    capsys: pytest.CaptureFixture[str], sample: Sample, written: Path, tmp_path: Path
) -> None:
    away = tmp_path / "away"
    shutil.copytree(written / "python", away)
    picture, images = noise(away / "cat.png", 3), digits(sample)
    np.save(away / "images.npy", images)
    example = (away / "best.py").read_text().split("12 lines):\n\n")[1].split('\n"""')[0]
    assert len(example.splitlines()) <= 12
    (away / "example.py").write_text(example.replace("\n    ", "\n").removeprefix("    "))
    (away / "use.py").write_text(USE)
    count, classes, scores, shown, command = json.loads(alone(away, "use.py"))
    assert count == sample.document.parameters
    assert classes == list("0123456789")
    assert np.abs(np.array(scores) - original(sample, images)).max() < 1e-5
    found = run(capsys, "predict", sample.weights, picture, "--top", 3, "--format", "json")
    rows = json.loads(found.out)
    assert [line.split()[0] for line in shown.splitlines()] == [rows[0]["class"], *(x["class"] for x in rows)]
    for line, row in zip(command.splitlines(), rows, strict=True):
        name, share = line.removeprefix("cat.png: ").split()
        assert name == row["class"]
        assert abs(float(share.rstrip("%")) / 100 - row["probability"]) < 2e-4


def test_onnxruntime_gives_the_scores_of_the_original_for_any_number_of_images(
    sample: Sample, written: Path
) -> None:
    session = onnxruntime.InferenceSession(str(written / "onnx" / "best.onnx"))
    for count in (1, 3, 50):
        images = digits(sample, count)
        (scores,) = session.run(["scores"], {"images": images})
        assert np.abs(scores - original(sample, images)).max() < 1e-4
    classes = session.get_modelmeta().custom_metadata_map["classes"]
    assert classes.split("\n") == list("0123456789")


def test_a_class_of_two_lines_is_one_line_in_an_onnx_file(sample: Sample, written: Path) -> None:
    path = written / "safetensors" / "best.safetensors"
    found = carried.parse(safetensors_file.document_of(path), path)
    named = found.model_copy(update={"classes": ("a\nb", *found.classes[1:])})
    held = weights.load(sample.weights)
    network = deployed.Deployed(held.network(), held.normalisation)
    given = onnx_file.contents(network, named, digits(sample, 2))
    session = onnxruntime.InferenceSession(given)
    classes = session.get_modelmeta().custom_metadata_map["classes"].split("\n")
    assert classes == ["a b", *found.classes[1:]]


def test_a_pt2_file_gives_the_scores_of_the_original_for_any_number_of_images(
    sample: Sample, written: Path
) -> None:
    network = torch.export.load(written / "pt2" / "best.pt2").module()
    for count in (1, 3, 50):
        images = digits(sample, count)
        assert np.abs(deployed.scores(network, images) - original(sample, images)).max() < 1e-4


def test_a_safetensors_file_is_what_predict_reads(
    capsys: pytest.CaptureFixture[str], sample: Sample, written: Path, tmp_path: Path
) -> None:
    picture = noise(tmp_path / "a.png", 4)
    rows = [
        run(capsys, "predict", path, picture, "--format", "json").out
        for path in (sample.weights, written / "safetensors" / "best.safetensors")
    ]
    assert rows[0] == rows[1]
    assert json.loads(rows[0])


@pytest.mark.parametrize("form", FORMS)
def test_verify_says_what_it_checked_of_each_form(
    capsys: pytest.CaptureFixture[str], written: Path, form: str
) -> None:
    result = run(capsys, "verify", written / form / f"best{ENDINGS[form]}")
    assert result.code == 0, result.err
    checks = [line.split()[1].rstrip(":") for line in result.out.splitlines()]
    own = {
        "onnx": ["graph", "forward"],
        "python": ["source", "weights", "forward"],
        "pt2": ["weights", "forward"],
        "safetensors": ["weights", "forward"],
    }
    assert checks == ["schema", "count", "budget", "fingerprint", *own[form]]
    assert "4 images of noise, scores differ by" in result.out


@pytest.mark.parametrize("form", FORMS)
def test_a_file_names_no_folder_of_the_machine_that_wrote_it(
    sample: Sample, written: Path, form: str
) -> None:
    for path in (written / form).iterdir():
        given = path.read_bytes()
        for folder in (ROOT, sample.data_dir, written, Path(torch.__file__).parent):
            assert str(folder).encode() not in given, (path.name, folder)


@pytest.mark.parametrize("form", FORMS)
def test_the_model_card_says_data_split_budget_scores_and_limits(
    sample: Sample, written: Path, form: str
) -> None:
    card = (written / form / f"best{ENDINGS[form]}.md").read_text()
    data = sample.document.data
    for words in (
        data.split_digest,
        data.digest,
        "Budget of the search | 20,000 parameters",
        "95% interval",
        "What it must not be used for",
        "`search train bench:0` trains it to the end",
    ):
        assert words in card
    low, high = sample.document.metrics.interval_95
    assert f"{100 * low:.1f}-{100 * high:.1f}%" in card


@pytest.mark.parametrize("form", ["python", "safetensors"])
def test_export_writes_a_form_and_says_how_far_it_is_from_the_original(
    capsys: pytest.CaptureFixture[str], sample: Sample, tmp_path: Path, form: str
) -> None:
    path = tmp_path / f"best{ENDINGS[form]}"
    result = export(capsys, sample, "--format", form, "--out", path)
    assert result.code == 0, result.err
    assert "on 256 validation images its scores differ from the original's by" in result.err
    assert path.is_file() and Path(f"{path}.md").is_file()


def test_without_a_format_export_writes_json_as_ever(
    capsys: pytest.CaptureFixture[str], sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert export(capsys, sample).code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["best.json"]
    assert json.loads((tmp_path / "best.json").read_text())["format"] == "parsimony.export/1"


def test_a_file_with_other_scores_is_not_written(
    capsys: pytest.CaptureFixture[str], sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = write.RUN["safetensors"]
    monkeypatch.setitem(write.RUN, "safetensors", lambda path, pixels: true(path, pixels) + 2e-4)
    result = export(capsys, sample, "--format", "safetensors", "--out", tmp_path / "best.safetensors")
    assert result.code == 6
    assert "scores differ by 0.0002 from the original's on 256 images, 0.0001 at most" in result.err
    assert list(tmp_path.iterdir()) == []


def test_without_weights_one_line_says_what_trains_them(
    capsys: pytest.CaptureFixture[str], sample: Sample, tmp_path: Path
) -> None:
    store = ("--storage", sample.url, "--data-dir", tmp_path / "elsewhere")
    result = run(capsys, "export", "bench", *store, "--format", "onnx", "--out", tmp_path / "a.onnx")
    assert result.code == 2
    assert result.one_line.startswith("search: no weights of trial bench:0 here")
    where = " ".join(map(str, store))
    assert result.one_line.endswith(f"`search train bench:0 {where}` trains some")


def test_weights_of_another_network_are_refused(
    capsys: pytest.CaptureFixture[str], sample: Sample, tmp_path: Path
) -> None:
    network = sample.document.architecture.model_copy(update={"activation": "tanh"})
    exported_samples.save_weights(tmp_path / "other.safetensors", network, sample.images)
    given = ("--format", "pt2", "--from", tmp_path / "other.safetensors", "--out", tmp_path / "a.pt2")
    result = export(capsys, sample, *given)
    assert result.code == 2
    assert "other.safetensors is of the network" in result.one_line


def test_weights_of_other_classes_are_refused(
    capsys: pytest.CaptureFixture[str], sample: Sample, tmp_path: Path
) -> None:
    found = weights.load(sample.weights)
    classes = ("coat", *map(str, range(9)))
    written = (found.network(), found.architecture, classes, found.normalisation)
    weights.save(tmp_path / "coats.safetensors", *written)
    given = ("--format", "python", "--from", tmp_path / "coats.safetensors", "--out", tmp_path / "a.py")
    result = export(capsys, sample, *given)
    assert result.code == 2
    assert result.one_line.endswith(
        "tells other classes apart than digits: coat, 0, 1, ...; name weights of its images"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["coats.safetensors"]


@pytest.mark.parametrize("form", ["python", "safetensors"])
def test_a_network_whose_weights_name_its_layers_otherwise_is_written_as_they_do(
    sample: Sample, tmp_path: Path, form: write.Form
) -> None:
    two, one = (
        Architecture(channels=1, image_size=8, stem=Stem(width=4), stages=stages)
        for stages in ((Stage(blocks=1, width=4),) * 2, (Stage(blocks=2, width=4),))
    )
    spent = cost.total(two)
    rows = tuple(LayerRow(**row._asdict()) for row in cost.layers(two))
    document = sample.document.model_copy(
        update={"architecture": two, "fingerprint": two.fingerprint, "layers": rows, **spent._asdict()}
    )
    exported_samples.save_weights(tmp_path / "one.safetensors", one, sample.images)
    path = tmp_path / f"best{ENDINGS[form]}"
    write.write(
        form, path, document, choice.given(tmp_path / "one.safetensors", document.data), sample.images
    )
    assert check.verify(path)[-1].startswith("forward pass")


def test_weights_that_were_named_are_taken(
    capsys: pytest.CaptureFixture[str], sample: Sample, tmp_path: Path
) -> None:
    about = {"subject": "bench:0", "seed": 4, "epochs": 9, "validation_accuracy": 0.93}
    folder = tmp_path / "training"
    path = folder / "seed-4.safetensors"
    exported_samples.save_weights(path, sample.document.architecture, sample.images, **about)
    result = export(
        capsys, sample, "--format", "safetensors", "--from", folder, "--out", tmp_path / "a.safetensors"
    )
    assert result.code == 0, result.err
    assert "of a full training of bench:0" in result.err
    card = (tmp_path / "a.safetensors.md").read_text()
    assert "| these weights | 93.00% | not known | validation images of theirs |" in card
    assert "Whether these weights were tried on test images is not known." in card
    assert "brief training, made to rank" not in card


def test_weights_of_a_folder_with_validation_images_were_validated_on_them_whatever_the_seed(
    sample: Sample, tmp_path: Path
) -> None:
    path = tmp_path / "seed-4.safetensors"
    about = {"subject": "pets:0", "seed": 4, "epochs": 9, "validation_accuracy": 0.93}
    exported_samples.save_weights(path, sample.document.architecture, sample.images, **about)
    theirs = sample.document.data
    row = {"seed": 4, "validation": {"epochs": 9, "accuracy": 0.93}}
    for own in (False, True):
        of_folder = theirs.model_copy(update={"own_validation": own})
        result = {"seeds": [row], "data": of_folder.model_dump(mode="json")}
        (tmp_path / "result.json").write_text(json.dumps(result))
        another = {"split_seed": 3, "split_digest": theirs.split_digest if own else "of another seed"}
        ours = of_folder.model_copy(update=another)
        assert choice.given(path, ours).training.is_validated_alike == own
    fewer = ours.model_copy(update={"validation_images": ours.validation_images - 1})
    assert not choice.given(path, fewer).training.is_validated_alike


def test_the_card_of_a_full_training_that_was_named_has_its_test(
    capsys: pytest.CaptureFixture[str], sample: Sample, tmp_path: Path
) -> None:
    folder, path = tmp_path / "training", tmp_path / "a.safetensors"
    assert export(capsys, sample, "--out", tmp_path / "best.json").code == 0
    store = ("--storage", f"sqlite:///{tmp_path / 'own.db'}", "--data-dir", sample.data_dir)
    shorter = ("--epochs", 1, "--seeds", 1, "--train-images", 200, "--device", "cpu", "--out", folder)
    assert run(capsys, "train", tmp_path / "best.json", *store, *shorter).code == 0

    def card() -> str:
        found = export(capsys, sample, "--format", "safetensors", "--from", folder, "--out", path)
        assert found.code == 0, found.err
        return Path(f"{path}.md").read_text()

    (seed,) = json.loads((folder / "result.json").read_text())["seeds"]
    tested, validated = (f"{100 * seed[part]['accuracy']:.2f}%" for part in ("test", "validation"))
    assert re.search(rf"\| these weights \| {tested} \| [^|]+% \| 359 test images, read once \|", card())
    validation = f"{sample.document.data.validation_images} validation images"
    assert re.search(rf"\| these weights \| {validated} \| [^|]+% \| {validation} \|", card())
    assert "tried on test images" not in card()
    result = json.loads((folder / "result.json").read_text())
    result["seeds"][0]["validation"]["accuracy"] += 0.001
    (folder / "result.json").write_text(json.dumps(result))
    assert "test images, read once" not in card(), "the result is of other weights"
    assert "Whether these weights were tried on test images is not known." in card()
    result["seeds"][0]["validation"]["accuracy"] = seed["validation"]["accuracy"]
    for test in ([1], {"accuracy": "much", "images": 359}, {}):
        result["seeds"][0]["test"] = test
        (folder / "result.json").write_text(json.dumps(result))
        assert "test images, read once" not in card(), "what is no test is none"


@pytest.mark.parametrize(
    ("form", "name", "words"),
    [
        ("onnx", "best.json", "the name of a file of format onnx ends in .onnx"),
        ("python", "my best.py", "Python cannot import that name"),
        ("python", "class.py", "Python cannot import that name"),
        ("python", "json.py", "Python has a module json, which that file would hide"),
        ("python", "torch.py", "Python has a module torch, which that file would hide"),
    ],
)
def test_a_name_that_does_not_fit_the_form_is_refused(
    capsys: pytest.CaptureFixture[str], sample: Sample, tmp_path: Path, form: str, name: str, words: str
) -> None:
    result = export(capsys, sample, "--format", form, "--out", tmp_path / name)
    assert result.code == 2
    assert words in result.one_line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("command", ["export", "launch"])
def test_json_replaces_no_file_that_is_named_like_another_form(
    capsys: pytest.CaptureFixture[str], sample: Sample, tmp_path: Path, command: str, form: str
) -> None:
    path = tmp_path / f"best{ENDINGS[form]}"
    path.write_bytes(b"a network of before")
    if command == "export":
        result, way = export(capsys, sample, "--out", path), f"add --format {form}"
    else:
        given = ("--trials", 1, "--data", "digits", "--data-dir", sample.data_dir, "--out", path)
        result = run(capsys, "launch", "own", *given, "--storage", f"sqlite:///{tmp_path / 'own.db'}")
        typed = f"--data-dir {sample.data_dir} --storage sqlite:///{tmp_path / 'own.db'}"
        way = f"`search export STUDY --format {form} {typed}` writes one afterwards"
    assert result.code == 2
    assert result.one_line == (
        f"search: --out {path}: a file of format json does not end in {ENDINGS[form]}; {way}"
    )
    assert [one.name for one in tmp_path.iterdir()] == [path.name], "no store and no study were made"
    assert path.read_bytes() == b"a network of before"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("export", "bench", "--out", "BEST.ONNX"), "does not end in .onnx; add --format onnx"),
        (("export", "bench", "--weights", "best.onnx"), "does not end in .onnx; name it .safetensors"),
        (("export", "bench", "--weights", "w.json"), "does not end in .json; name it .safetensors"),
        (("export", "bench", "--out", "x", "--weights", "x"), "--out and --weights name one file, x"),
        (("report", "bench", "--out", "best.json"), "a page does not end in .json; name it .html"),
        (("compare", "bench", "bench", "--out", "best.pt2"), "a page does not end in .pt2; name it .html"),
        (("data", "digits", "--out", "best.py"), "a page does not end in .py; name it .html"),
        (("launch", "--trials", 1, "--report", "best.json"), "a page does not end in .json"),
        (("launch", "--trials", 1, "--out", "x", "--report", "x"), "--out and --report name one file, x"),
    ],
)
def test_no_file_takes_the_name_of_another_kind(
    capsys: pytest.CaptureFixture[str],
    sample: Sample,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: tuple[object, ...],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEARCH_STORAGE", sample.url)
    monkeypatch.setenv("SEARCH_DATA_DIR", str(sample.data_dir))
    result = run(capsys, *given)
    assert result.code == 2
    assert words in result.one_line
    assert list(tmp_path.iterdir()) == []


def test_weights_beside_json_are_those_that_were_named(
    capsys: pytest.CaptureFixture[str], sample: Sample, tmp_path: Path
) -> None:
    about = {"subject": "bench:0", "seed": 4, "epochs": 9, "validation_accuracy": 0.93}
    named, copied = tmp_path / "training" / "seed-4.safetensors", tmp_path / "w.st"
    exported_samples.save_weights(named, sample.document.architecture, sample.images, **about)
    to = ("--out", tmp_path / "best.json", "--weights", copied)
    result = export(capsys, sample, *to, "--from", named.parent)
    assert result.code == 0, result.err
    assert f"wrote {copied}: weights of a full training of bench:0 (9 epochs, seed 4)\n" in result.err
    assert copied.read_bytes() == named.read_bytes() != sample.weights.read_bytes()
    assert export(capsys, sample, *to).code == 0
    assert copied.read_bytes() == sample.weights.read_bytes()
    network = sample.document.architecture.model_copy(update={"activation": "tanh"})
    exported_samples.save_weights(tmp_path / "other.safetensors", network, sample.images)
    for source, words in (("other.safetensors", "is of the network"), ("nowhere", "nowhere: No such file")):
        refused = export(capsys, sample, *to, "--from", tmp_path / source)
        assert (refused.code, words in refused.one_line) == (2, True), refused.err
        assert copied.read_bytes() == sample.weights.read_bytes()


def test_weights_are_named_where_something_takes_them(
    capsys: pytest.CaptureFixture[str], sample: Sample, tmp_path: Path
) -> None:
    result = export(capsys, sample, "--from", sample.weights, "--out", tmp_path / "best.json")
    assert result.code == 2
    assert result.one_line == (
        "search: --from: a file of format json holds no weights; add --weights FILE or --format"
    )
    assert list(tmp_path.iterdir()) == []


def test_weights_beside_json_are_those_of_a_full_training_where_there_is_one(
    capsys: pytest.CaptureFixture[str], sample: Sample, tmp_path: Path
) -> None:
    folder, copied = tmp_path / "full", tmp_path / "w.safetensors"
    store = ("--storage", sample.url, "--data-dir", sample.data_dir)
    shorter = ("--epochs", 1, "--seeds", 1, "--seed", 3, "--device", "cpu", "--no-test", "--out", folder)
    assert run(capsys, "train", "bench:0", *store, *shorter).code == 0
    try:
        result = export(capsys, sample, "--out", tmp_path / "best.json", "--weights", copied)
        assert result.code == 0, result.err
        images = json.loads((folder / "result.json").read_text())["data"]["train_images"]
        how = f"(1 epoch of {images:,} images, seed 3)"
        assert f"wrote {copied}: weights of a full training {how}\n" in result.err
        assert copied.read_bytes() == (folder / "seed-3.safetensors").read_bytes()
    finally:  # other tests know of no full training
        shutil.rmtree(folder)


def test_a_python_file_that_was_changed_is_not_run(
    capsys: pytest.CaptureFixture[str], written: Path, tmp_path: Path
) -> None:
    shutil.copytree(written / "python", tmp_path / "away")
    path, proof = tmp_path / "away" / "best.py", tmp_path / "proof"
    lines = path.read_text().splitlines(keepends=True)
    begin = next(i for i, line in enumerate(lines) if line.startswith("CLASSES"))
    lines.insert(begin, f"Path({str(proof)!r}).write_text('ran')\n")
    path.write_text("".join(lines))
    result = run(capsys, "verify", path)
    assert result.code == 6
    assert result.one_line.startswith(f"search: source: line {begin + 1} of {path} is not what")
    assert not proof.exists()


def test_a_python_file_whose_name_would_be_code_is_not_run(
    capsys: pytest.CaptureFixture[str], written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / 'best"""\nopen("proof", "w")\n""".py'
    beside = path.with_suffix(".safetensors")
    shutil.copy(written / "python" / "best.safetensors", beside)
    document = carried.parse(standing_alone.document_of(written / "python" / "best.py"), path)
    path.write_text(python_source.source(document, beside.name, standing_alone.sha256(beside.read_bytes())))
    result = run(capsys, "verify", path)
    assert (result.code, (tmp_path / "proof").exists()) == (6, False)
    assert result.one_line.endswith("no Python file is written under such a name; it was not run")


def test_a_python_file_that_python_cannot_read_is_one_line(
    capsys: pytest.CaptureFixture[str], written: Path, tmp_path: Path
) -> None:
    path = tmp_path / "best.py"
    shutil.copy(written / "python" / "best.safetensors", tmp_path)
    found = carried.parse(standing_alone.document_of(written / "python" / "best.py"), path)
    origin = found.export.origin.model_copy(update={"study": "a\0b"})
    document = found.model_copy(update={"export": found.export.model_copy(update={"origin": origin})})
    digest = standing_alone.sha256((tmp_path / "best.safetensors").read_bytes())
    path.write_text(python_source.source(document, "best.safetensors", digest))
    result = run(capsys, "verify", path)
    assert result.code == 6
    assert "null bytes" in result.one_line


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_weights_of_another_type_are_one_line(
    capsys: pytest.CaptureFixture[str], written: Path, tmp_path: Path, dtype: torch.dtype
) -> None:
    path, beside = tmp_path / "best.py", tmp_path / "best.safetensors"
    with safe_open(written / "safetensors" / beside.name, "pt") as file:
        header = dict(file.metadata())
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    save_file(state | {"stem.conv.weight": state["stem.conv.weight"].to(dtype)}, beside, header)
    document = carried.parse(standing_alone.document_of(written / "python" / "best.py"), path)
    path.write_text(python_source.source(document, beside.name, standing_alone.sha256(beside.read_bytes())))
    for exported in (path, beside):
        result = run(capsys, "verify", exported)
        assert result.code == 6
        assert result.one_line == f"search: weights: stem.conv.weight is {dtype}, which no network here has"


def test_another_network_in_the_header_that_predict_reads_is_noticed(
    capsys: pytest.CaptureFixture[str], written: Path, tmp_path: Path
) -> None:
    path = tmp_path / "best.safetensors"
    with safe_open(written / "safetensors" / path.name, "pt") as file:
        header = dict(file.metadata())
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    network = json.loads(header["architecture"])
    for changed, words in (
        (
            {"architecture": network | {"activation": "tanh"}},
            f"the two halves of the header of {path} do not",
        ),
        ({"architecture": network | {"activation": "none"}}, f"{path}: the header is damaged: "),
        ({"classes": ["cat", "dog"]}, f"{path}: the header is damaged: "),
    ):
        save_file(state, path, header | {name: json.dumps(value) for name, value in changed.items()})
        result = run(capsys, "verify", path)
        assert result.code == 6
        assert result.one_line.startswith("search: schema: ") and words in result.one_line


def test_other_classes_in_the_metadata_of_an_onnx_file_are_noticed(
    capsys: pytest.CaptureFixture[str], written: Path, tmp_path: Path
) -> None:
    import onnx

    model = onnx.load(written / "onnx" / "best.onnx")
    entry = next(entry for entry in model.metadata_props if entry.key == "classes")
    entry.value = "\n".join(reversed(entry.value.split("\n")))
    onnx.save(model, tmp_path / "best.onnx")
    result = run(capsys, "verify", tmp_path / "best.onnx")
    assert result.code == 6
    assert "the classes in the metadata of" in result.one_line


def test_another_normalisation_in_a_pt2_file_is_noticed(
    capsys: pytest.CaptureFixture[str], written: Path, tmp_path: Path
) -> None:
    path = tmp_path / "best.pt2"
    source = written / "pt2" / path.name
    config = json.loads(pt2_file._part(source, "data/weights/model_weights_config.json"))["config"]
    for name in ("mean", "scale"):
        spoil_archive(source, path, config[name]["path_name"])
        result = run(capsys, "verify", path)
        assert result.code == 6
        assert "does not normalise by mean and deviation of its document" in result.one_line


def deep(_config: dict[str, Any]) -> str:
    return "[" * 100_000


def endless(config: dict[str, Any]) -> str:
    return json.dumps(config).replace('"sizes": [{"as_int": 4}', '"sizes": [{"as_int": 1e999}', 1)


def larger(config: dict[str, Any]) -> str:
    meta = config["config"]["network.stem.conv.weight"]["tensor_meta"]
    meta["sizes"] = [{"as_int": 4_000}]
    meta["strides"] = [{"as_int": 1}]
    return json.dumps(config)


@pytest.mark.parametrize("spoil", [deep, endless, larger])
def test_a_pt2_file_whose_table_of_weights_makes_no_sense_is_one_line(
    capsys: pytest.CaptureFixture[str],
    written: Path,
    tmp_path: Path,
    spoil: Callable[[dict[str, Any]], str],
) -> None:
    table, path = "model_weights_config.json", tmp_path / "best.pt2"
    with zipfile.ZipFile(written / "pt2" / path.name) as old, zipfile.ZipFile(path, "w") as new:
        for entry in old.infolist():
            given = old.read(entry)
            is_table = entry.filename.endswith(table)
            new.writestr(entry.filename, spoil(json.loads(given)) if is_table else given)
    result = run(capsys, "verify", path)
    assert result.code == 6
    assert result.one_line.startswith(f"search: weights: {path}: ")


def test_a_pt2_file_that_needs_a_password_is_one_line(
    capsys: pytest.CaptureFixture[str], written: Path, tmp_path: Path
) -> None:
    path = tmp_path / "best.pt2"
    given = bytearray((written / "pt2" / path.name).read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = -1
        while (at := given.find(mark, at + 1)) >= 0:
            given[at + flags] |= 1
    path.write_bytes(given)
    result = run(capsys, "verify", path)
    assert result.code == 6
    assert result.one_line.startswith(f"search: schema: {path} is no .pt2 file: ")


@pytest.mark.parametrize("form", ["safetensors", "pt2"])
def test_other_values_of_weights_are_noticed(
    capsys: pytest.CaptureFixture[str], written: Path, tmp_path: Path, form: str
) -> None:
    path = tmp_path / f"best{ENDINGS[form]}"
    given = bytearray((written / form / path.name).read_bytes())
    if form == "safetensors":
        given[-9] ^= 64
        path.write_bytes(given)
    else:
        spoil_archive(written / form / path.name, path)
    result = run(capsys, "verify", path)
    assert result.code == 6
    assert result.one_line == "search: weights: not those that the file was written with (sha256)"


def test_a_python_file_takes_its_weights_from_a_later_export_of_the_same_network_and_no_other(
    capsys: pytest.CaptureFixture[str], sample: Sample, written: Path, tmp_path: Path
) -> None:
    away = tmp_path / "away"
    shutil.copytree(written / "python", away)
    shutil.copy(written / "safetensors" / "best.safetensors", away)
    assert run(capsys, "verify", away / "best.py").code == 0
    shutil.copy(sample.weights, away / "best.safetensors")  # as `search export --weights` copies it
    images = digits(sample)
    assert np.array_equal(standing_alone.scores(away / "best.py", images), original(sample, images))
    given = bytearray((away / "best.safetensors").read_bytes())
    given[-9] ^= 64
    (away / "best.safetensors").write_bytes(given)
    with pytest.raises(ValueError, match="holds other weights than the best"):
        standing_alone.scores(away / "best.py", images)
    assert run(capsys, "verify", away / "best.py").code == 6


def spoil_archive(source: Path, target: Path, part: str = "weight_0") -> None:
    """The same archive with one number of the weights changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            given = bytearray(old.read(entry))
            if entry.filename.endswith(f"weights/{part}"):
                given[3] ^= 64
            new.writestr(entry.filename, bytes(given))


def test_an_onnx_file_with_other_weights_is_noticed(
    capsys: pytest.CaptureFixture[str], written: Path, tmp_path: Path
) -> None:
    import onnx

    model = onnx.load(written / "onnx" / "best.onnx")
    kernel = next(x for x in model.graph.initializer if len(x.dims) == 4)
    kernel.raw_data = bytes(len(kernel.raw_data))
    onnx.save(model, tmp_path / "best.onnx")
    result = run(capsys, "verify", tmp_path / "best.onnx")
    assert result.code == 6
    assert "forward pass: scores of 4 images of noise differ by" in result.one_line


@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_is_none_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, form: str
) -> None:
    path = tmp_path / f"best{ENDINGS[form]}"
    path.write_bytes(b"no such thing\n" * 3)
    result = run(capsys, "verify", path)
    assert result.code == 6
    assert result.one_line.startswith(f"search: schema: {path}")
    assert run(capsys, "verify", tmp_path / f"absent{ENDINGS[form]}").code == 6


def test_pictures_are_read_as_predict_reads_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = pictures(tmp_path)
    for channels, fit, bits in ((3, "pad", 16), (1, "crop", 12), (3, "stretch", 16)):
        for name, value in {"CHANNELS": channels, "SIDE": 12, "FIT": fit, "BITS": bits}.items():
            monkeypatch.setattr(standalone, name, value)
        mode = "L" if channels == 1 else "RGB"
        for path in names:
            wanted, failed = image_files.decode_part([str(path)], 12, mode, Scaling(fit, bits))
            assert not failed, (path, failed)
            found = standalone.read(path)
            assert torch.equal(found, torch.from_numpy(wanted).permute(0, 3, 1, 2)), (path, fit)


def test_a_network_of_other_channels_says_that_it_takes_no_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pictures(tmp_path)[0]
    for channels in (2, 4):
        monkeypatch.setattr(standalone, "CHANNELS", channels)
        with pytest.raises(ValueError, match=f"1 or 3 channels, and this network takes {channels}:"):
            standalone.read(path)


def pictures(folder: Path) -> list[Path]:
    """Colour, grey, deep grey, transparent, a palette, turned, a large JPEG."""
    random = np.random.RandomState(0)
    colour = random.randint(0, 256, (20, 31, 4)).astype(np.uint8)
    turned = Image.Exif()
    turned[0x0112] = 6
    images = {
        "colour.png": Image.fromarray(colour[..., :3]),
        "grey.png": Image.fromarray(colour[..., 0]),
        "clear.png": Image.fromarray(colour),
        "palette.gif": Image.fromarray(colour[..., :3]).quantize(16),
        "deep.png": Image.fromarray(random.randint(0, 4096, (20, 31)).astype(np.uint16)),
        "square.png": Image.fromarray(colour[:12, :12, :3]),
    }
    for name, image in images.items():
        image.save(folder / name)
    large = Image.fromarray(random.randint(0, 256, (90, 140, 3)).astype(np.uint8))
    large.save(folder / "turned.jpg", exif=turned)
    return [folder / name for name in (*images, "turned.jpg")]


def test_a_picture_gets_the_same_scores_in_every_form_and_from_predict(
    capsys: pytest.CaptureFixture[str], sample: Sample, written: Path, tmp_path: Path
) -> None:
    picture = noise(tmp_path / "cat.png", 9)
    found = run(capsys, "predict", sample.weights, picture, "--top", 10, "--format", "json")
    wanted = {row["class"]: row["probability"] for row in json.loads(found.out)}
    decoded, _ = image_files.decode_part([str(picture)], 8, "L", Scaling("pad"))
    pixels = np.ascontiguousarray(decoded.transpose(0, 3, 1, 2))
    for form in FORMS:
        scores = torch.from_numpy(write.RUN[form](written / form / f"best{ENDINGS[form]}", pixels))
        shares = dict(zip("0123456789", scores.softmax(1)[0].tolist(), strict=True))
        assert all(abs(shares[name] - wanted[name]) < 1.1e-4 for name in wanted), form


@CALM
@given(architectures())
def test_a_python_file_of_any_network_counts_and_scores_as_the_original(network: Architecture) -> None:
    torch.manual_seed(0)
    built = exported_samples.randomised(model.build(network))
    images = carried.noise(network.channels, network.image_size, 3)
    with tempfile.TemporaryDirectory() as folder:
        path, whole = written_by_hand("python", Path(folder), network, built)
        found = standing_alone.scores(path, images)
        standing_alone.require_unchanged(path, carried.parse(standing_alone.document_of(path), path))
    wanted = deployed.scores(whole, images)
    assert np.allclose(found, wanted, rtol=1e-4, atol=1e-5), np.abs(found - wanted).max()


def written_by_hand(
    form: write.Form, folder: Path, network: Architecture, built: nn.Module
) -> tuple[Path, deployed.Deployed]:
    """A file of any network, without a study, and what it was made of."""
    state = {name: value.contiguous() for name, value in built.state_dict().items()}
    numbers = Normalisation((120.0,) * network.channels, (60.0,) * network.channels)
    held = weights.Weights(network, tuple(map(str, range(network.classes))), numbers, {}, state)
    whole = deployed.Deployed(held.network(), numbers)
    path = folder / f"best{ENDINGS[form]}"
    for file, parts in write.contents(form, path, held, forms.document(held, whole), whole).items():
        file.write_bytes(parts)
    return path, whole


KINDS = [
    {"block": Block(kind="bottleneck", expansion=2, groups=2, preactivation=True, shortcut="padding")},
    {"block": Block(kind="inverted", shortcut="identity", squeeze_excitation=SqueezeExcitation(reduction=4))},
    {
        "block": Block(convolutions=3, shortcut="padding", dropout=0.1),
        "stages": (Stage(blocks=2, width=12, stride=3), Stage(blocks=2, width=5, growth="linear")),
        "activation": "gelu",
    },
    {
        "stem": Stem(width=6, kernel=5, stride=2, bias=True, max_pool=MaxPool()),
        "tail": (TailConvolution(width=9), TailConvolution(width=4, kernel=1, bias=True)),
        "pool": Pool(kind="max", kernel=2),
        "head": Head(hidden=(7,), dropout=0.5, bias=False),
        "activation": "leaky_relu",
    },
    {"block": Block(preactivation=True, bias=True), "pool": Pool(output=1), "head": Head(softmax=True)},
]


@pytest.mark.thorough
@pytest.mark.parametrize("form", ["onnx", "pt2"])
@pytest.mark.parametrize("parts", KINDS)
def test_every_kind_of_network_can_be_said_in_onnx_and_pt2(
    form: write.Form, parts: dict[str, Any], tmp_path: Path
) -> None:
    stages = (Stage(blocks=2, width=6), Stage(blocks=1, width=10, stride=2, shortcut_kernel=3))
    network = Architecture(**{"image_size": 16, "stem": Stem(width=6), "stages": stages, **parts})
    torch.manual_seed(0)
    path, whole = written_by_hand(form, tmp_path, network, exported_samples.randomised(model.build(network)))
    images = carried.noise(3, 16, 5)
    assert carried.difference(write.RUN[form](path, images), deployed.scores(whole, images)) < 1e-4
    assert check.verify(path)[-1].startswith("forward pass")


@pytest.mark.thorough
def test_a_network_that_onnx_cannot_say_is_refused_with_the_reason(tmp_path: Path) -> None:
    stages = (Stage(blocks=1, width=6, stride=2),)
    network = Architecture(image_size=16, stem=Stem(width=6), stages=stages, pool=Pool(kind="max", output=3))
    with pytest.raises(UsageError, match=r"ONNX cannot say this network: .*adaptive_max_pool2d"):
        written_by_hand("onnx", tmp_path, network, exported_samples.randomised(model.build(network)))
    assert not list(tmp_path.iterdir())


def test_the_card_counts_what_the_document_counts(sample: Sample, written: Path) -> None:
    spent = cost.total(sample.document.architecture)
    card = (written / "onnx" / "best.onnx.md").read_text()
    assert f"| Parameters | {spent.parameters:,} |" in card
    assert f"| Multiply-accumulates of an image | {spent.macs:,} |" in card


@pytest.mark.parametrize("form", FORMS)
def test_the_card_says_how_a_picture_becomes_what_the_network_takes(written: Path, form: str) -> None:
    path = written / "safetensors" / "best.safetensors"
    found = carried.parse(safetensors_file.document_of(path), path)
    grey = model_card.text(form, path, found.model_copy(update={"fit": "pad", "bits": 12}), 1e-6, 256)
    reading = grey.partition("## How a picture is read")[2].partition("##")[0]
    places = [
        reading.index(words)
        for words in (
            "first",
            "EXIF",
            "divided by 16, rounded down, 255",
            "on white",
            "`L`",
            "8 x 8 pixels, by",
        )
    ]
    assert places == sorted(places)
    assert "bicubic filter, unless it has them: pad, the longer side becomes 8 and" in reading
    network = found.export.architecture.model_copy(update={"channels": 3})
    colour = found.model_copy(
        update={"fit": "crop", "bits": 8, "export": found.export.model_copy(update={"architecture": network})}
    )
    card = model_card.text(form, path, colour, 1e-6, 256)
    for words in ("bits: as they are, 255 at most", "red, green, blue", "crop, the middle of it"):
        assert words in card


@pytest.mark.parametrize("form", FORMS)
def test_the_card_of_a_network_of_four_channels_reads_no_pictures(written: Path, form: str) -> None:
    path = written / "safetensors" / "best.safetensors"
    found = carried.parse(safetensors_file.document_of(path), path)
    network = found.export.architecture.model_copy(update={"channels": 4})
    export = found.export.model_copy(update={"architecture": network})
    card = model_card.text(form, path, found.model_copy(update={"export": export}), 1e-6, 256)
    assert "pictures have one channel or three, and this network takes 4." in card
    assert card.startswith(
        "# best.safetensors: a network for digits\n\nClassifies images of 4 x 8 x 8 pixels"
    )
    for words in ("cat.png", "search predict", "One channel", "Pillow's bicubic"):
        assert words not in card


@pytest.mark.parametrize(
    ("values", "interval", "words"),
    [
        ((0.875, 0.925), None, "87.50% and 92.50%: two seeds give no useful interval"),
        ((0.9,), None, "too few seeds: none"),
        ((0.89, 0.9, 0.91), (0.875, 0.925), "87.5-92.5% over seeds"),
        ((), (0.1, 1.0), "too few seeds: none"),
    ],
)
def test_the_card_says_of_full_trainings_what_is_known_over_seeds(
    written: Path, values: tuple[float, ...], interval: tuple[float, float] | None, words: str
) -> None:
    path = written / "safetensors" / "best.safetensors"
    found = carried.parse(safetensors_file.document_of(path), path)
    confirmed = Confirmation(
        epochs=9, seeds=len(values) or 2, validation_accuracy=0.9, validation_interval_95=interval,
        test_accuracy=0.9, test_interval_95=interval, test_images=359, folder="",
        validation_by_seed=values, test_by_seed=values,
    )  # fmt: skip
    export = found.export.model_copy(update={"confirmation": confirmed})
    card = model_card.text("onnx", path, found.model_copy(update={"export": export}), 1e-6, 256)
    assert card.count(f"of this network | 90.00% | {words} | ") == 2
    among = f"chosen among {found.export.origin.trained} by"
    assert f"{among} brief scores and full trainings on the validation images" in card
    brief = model_card.text("onnx", path, found, 1e-6, 256)
    assert f"{among} its brief score on the validation images" in brief


def test_a_card_says_which_validation_images_were_not_split_off(written: Path) -> None:
    path = written / "safetensors" / "best.safetensors"
    found = carried.parse(safetensors_file.document_of(path), path)
    split = "`, seed 0 |"
    assert split in model_card.text("onnx", path, found, 1e-6, 256)
    data = found.export.data.model_copy(update={"spec": "folder:pets", "own_validation": True})
    export = found.export.model_copy(update={"data": data})
    card = model_card.text("onnx", path, found.model_copy(update={"export": export}), 1e-6, 256)
    assert split not in card and "`, validation images: the folder's own (val/) |" in card


def test_a_card_of_a_study_with_a_score_of_its_own_says_by_what_it_chose(written: Path) -> None:
    path = written / "safetensors" / "best.safetensors"
    found = carried.parse(safetensors_file.document_of(path), path)
    metrics = found.export.metrics.model_copy(
        update={"score": "own", "validation_score": 0.5, "own_score": "my_score.py:recall"}
    )
    own = found.model_copy(update={"export": found.export.model_copy(update={"metrics": metrics})})
    card = model_card.text("safetensors", path, own, 1e-6, 256)
    assert "50.00% my\\_score.py:recall, which the search maximised | none |" in card
    assert "| these weights |" in card


def test_names_in_a_card_are_no_markdown_and_no_html(written: Path) -> None:
    path = written / "safetensors" / "best.safetensors"
    found = carried.parse(safetensors_file.document_of(path), path)
    classes = ("<b>", "a|b", "[x](y)", "`c`", *found.classes[4:])
    card = model_card.text("onnx", path, found.model_copy(update={"classes": classes}), 1e-6, 256)
    assert "\\<b\\>, a\\|b, \\[x\\](y), \\`c\\`" in card


def finished(sample: Sample, run: str, seed: int, folder: Path) -> Finished:
    """A full training of the sample's network, as the store has it."""
    spent = cost.total(sample.document.architecture)
    return Finished(
        run=run, seed=seed, subject="bench:0", study="bench", trial=0,
        fingerprint=sample.document.fingerprint, parameters=spent.parameters, macs=spent.macs,
        architecture={}, recipe={}, data=sample.document.data.model_dump(mode="json"), epochs=9, accuracy=0.9,
        best_accuracy=0.9, best_epoch=9, loss=0.1,
        test_accuracy=0.88, test_loss=0.2, test_images=359, seconds=1.0, device="cpu", versions={},
        folder=str(folder), finished_at=datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip


def test_weights_of_a_training_on_other_images_are_not_taken(
    capsys: pytest.CaptureFixture[str], sample: Sample, tmp_path: Path
) -> None:
    exported_samples.save_weights(
        tmp_path / "seed-0.safetensors", sample.document.architecture, sample.images
    )
    stored = asdict(finished(sample, "of a study that was deleted", 0, tmp_path))
    stored.pop("finished_at")
    engine = database.connect(sample.url)
    trainings.save(engine, [Training(**stored | {"data": {"digest": "of other images"}})])
    engine.dispose()
    path = tmp_path / "a.safetensors"
    result = export(capsys, sample, "--format", "safetensors", "--out", path)
    assert result.code == 0, result.err
    assert "of the brief training of the search" in result.err
    assert "test images, read once" not in Path(f"{path}.md").read_text()


def test_weights_of_the_longest_full_training_that_is_here_come_before_brief_ones(
    sample: Sample, tmp_path: Path
) -> None:
    files = StudyFiles(sample.weights.parent, 0)
    rows = [
        finished(sample, "old", 0, tmp_path / "old"),
        finished(sample, "new", 1, tmp_path / "new"),
        finished(sample, "new", 0, tmp_path / "new"),
        finished(sample, "elsewhere", 0, tmp_path / "elsewhere"),
    ]

    def chosen() -> choice.ChosenWeights:
        return choice.choose("bench", sample.candidate, rows, files, sample.document.data)

    assert chosen().path == sample.weights
    assert chosen().training.what == carried.BRIEF
    rows.insert(1, finished(sample, "as long", 0, tmp_path / "as long"))
    rows.append(replace(finished(sample, "a try", 0, tmp_path / "a try"), epochs=1))
    for name in ("a try/seed-0", "old/seed-0", "as long/seed-0", "new/seed-1", "new/seed-0"):
        path = tmp_path / f"{name}.safetensors"
        path.parent.mkdir(exist_ok=True)
        path.touch()
        assert chosen().path == path
    assert (chosen().training.what, chosen().training.test_accuracy) == ("a full training", 0.88)
    for said, taken in (("another", "as long"), ("new", "new")):
        (tmp_path / "new" / "training.json").write_text(json.dumps({"run": said}))
        assert chosen().path == tmp_path / taken / "seed-0.safetensors", "a folder holds its last training"


def test_a_training_by_the_split_of_another_study_is_no_confirmation_and_has_no_validation_row(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """As `search confirm monday --also night:5` leaves it: monday's seed is another, so its split too."""
    own = exported_samples.make_sample(f"sqlite:///{tmp_path / 's.db'}", tmp_path / "data")
    exported_samples.save_weights(tmp_path / "seed-0.safetensors", own.document.architecture, own.images)
    stored = asdict(finished(own, "of monday", 0, tmp_path))
    stored.pop("finished_at")
    other, alike = stored["data"] | {"split_seed": 1, "split_digest": "2" * 64}, stored["data"]
    engine, path = database.connect(own.url), tmp_path / "a.safetensors"
    seen = list[tuple[bool, bool, bool]]()
    for data in (other, alike):
        trainings.save(engine, [Training(**stored | {"data": data})])
        result = export(capsys, own, "--format", "safetensors", "--out", path)
        assert result.code == 0, result.err
        card = Path(f"{path}.md").read_text()
        assert "| 88.00% |" in card and "359 test images, read once" in card
        images = f"{own.document.data.validation_images} validation images |"
        theirs = "| these weights | 90.00% | not known | validation images of theirs |"
        row = re.search(rf"\| these weights \| 90.00% \| [^|]+% \| {images[:-2]} \|", card)
        seen.append(("confirmed: " in result.err, theirs in card, row is not None))
    engine.dispose()
    assert seen == [(False, True, False), (True, False, True)]


def test_weights_of_a_training_on_the_validation_images_of_the_study_come_before_longer_ones(
    sample: Sample, tmp_path: Path
) -> None:
    short = replace(finished(sample, "short", 0, tmp_path / "short"), epochs=1)
    long = finished(sample, "long", 0, tmp_path / "long")
    long = replace(long, data=long.data | {"split_seed": 1, "split_digest": "2" * 64})
    for row in (short, long):
        (tmp_path / row.run).mkdir()
        (tmp_path / row.run / "seed-0.safetensors").touch()
    for rows, run_taken, alike in (([short, long], "short", True), ([long], "long", False)):
        found = choice.choose("bench", sample.candidate, rows, StudyFiles(tmp_path, 0), sample.document.data)
        assert (found.path.parent.name, found.training.is_validated_alike) == (run_taken, alike)


def test_weights_of_finals_and_their_figures_are_of_one_length(sample: Sample, tmp_path: Path) -> None:
    """Finals that are trained again with other epochs leave those of before as they are."""
    files, number = StudyFiles(tmp_path, 0), sample.candidate.number
    long, short = (
        replace(
            finished(sample, run_of_finals(1, number, epochs), 0, tmp_path), epochs=epochs, accuracy=accuracy
        )
        for epochs, accuracy in ((200, 0.95), (50, 0.92))
    )

    def chosen(*rows: Finished) -> tuple[str, int | None, float | None]:
        found = choice.choose("bench", sample.candidate, rows, files, sample.document.data)
        return found.path.name, found.training.epochs, found.training.validation_accuracy

    older = files.older_final(number, 0)
    older.touch()
    assert chosen(long) == (older.name, 200, 0.95), "as an older version kept them"
    for row in (long, short):
        files.keep_final(number, row.epochs, 0, Path.touch)
    assert chosen(short, long) == chosen(long, short) == (f"final-{number}-200-0.safetensors", 200, 0.95)
    names = [f"final-{number}-{end}.safetensors" for end in ("200-0", "50-0", "0")]
    assert [path.name for path in files.finals(number)] == names
    files.final(number, 200, 0).unlink()
    assert chosen(long, short) == (names[1], 50, 0.92), "what is known of no length is taken of none"
    (tmp_path / f"final-1{number}-9-0.safetensors").touch()
    assert [path.name for path in files.finals(number)] == names[1:]
    assert files.stale((), (), {(number, 50, 0)}) == [tmp_path / f"final-1{number}-9-0.safetensors"]


def test_a_training_on_a_part_of_the_images_does_not_take_the_place_of_a_whole_one(
    sample: Sample, tmp_path: Path
) -> None:
    with reader.open_study(sample.url, "bench") as view:
        record, config = view.record, view.config
    data = config.data.model_dump(mode="json")
    rows = [
        replace(
            finished(sample, name, seed, tmp_path / name),
            data=data | {"train_images": images},
            accuracy=accuracy,
            finished_at=record.created_at,
        )
        for name, images, accuracy in (("whole", 45_000, 0.9), ("part", 1_000, 0.7))
        for seed in range(3)
    ]
    for name in ("whole", "part"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "seed-0.safetensors").touch()
    chosen = choice.choose("bench", sample.candidate, rows, StudyFiles(sample.weights.parent, 0), config.data)
    assert chosen.path == tmp_path / "whole" / "seed-0.safetensors"
    confirmed = study_export.confirmation(rows, sample.candidate, record, config, None)
    assert confirmed is not None
    assert (confirmed.folder, confirmed.validation_accuracy) == (str(tmp_path / "whole"), 0.9)


def test_the_card_says_on_how_many_images_weights_were_trained(sample: Sample, written: Path) -> None:
    path = written / "safetensors" / "best.safetensors"
    found = carried.parse(safetensors_file.document_of(path), path)
    limited = replace(finished(sample, "part", 0, path.parent), data={"train_images": 1_000})
    for training, words in (
        (
            choice._full(limited, is_validated_alike=True),
            "The weights are of a full training (9 epochs of 1,000 images, seed 0).",
        ),
        (
            choice._full(replace(limited, data={}), is_validated_alike=True),
            "of a full training (9 epochs, seed 0).",
        ),
    ):
        changed = found.model_copy(update={"training": training})
        assert words in model_card.text("safetensors", path, changed, 1e-6, 256)


@pytest.mark.parametrize("form", FORMS)
def test_figures_of_a_training_that_the_export_does_not_have_are_noticed(
    capsys: pytest.CaptureFixture[str], sample: Sample, written: Path, tmp_path: Path, form: write.Form
) -> None:
    source = written / "safetensors" / "best.safetensors"
    found, held = carried.parse(safetensors_file.document_of(source), source), weights.load(sample.weights)
    network, path = deployed.Deployed(held.network(), held.normalisation), tmp_path / f"best{ENDINGS[form]}"
    best = {"validation_accuracy": 0.999, "test_accuracy": 0.999, "test_images": 10_000}
    for what, figures, why in (
        (carried.FINALS, best, "its figures are not those that the export has of the finals of the search"),
        (carried.BRIEF, best, "its figures are not those that the export has of the brief training of the"),
        ("a full training", best | {"test_accuracy": 7.5}, "test_accuracy: 7.5 is not between 0 and 1"),
    ):
        training = found.training.model_copy(update={"what": what, **figures})
        edited = found.model_copy(update={"training": training})
        for file, parts in write.contents(form, path, held, edited, network).items():
            file.write_bytes(parts)
        result = run(capsys, "verify", path)
        assert result.code == 6
        assert result.one_line.startswith(f"search: schema: training: {why}")


def test_a_final_is_called_confirmed_where_the_export_has_it_so(sample: Sample, tmp_path: Path) -> None:
    files, number = StudyFiles(tmp_path, 0), sample.candidate.number
    row = finished(sample, run_of_finals(1, number, 9), 0, tmp_path)
    exported_samples.save_weights(files.final(number, 9, 0), sample.document.architecture, sample.images)
    chosen = choice.choose("bench", sample.candidate, [row], files, sample.document.data)
    stated = Confirmation(
        epochs=9, seeds=2, validation_accuracy=0.91, validation_interval_95=None, test_accuracy=0.87,
        test_interval_95=None, test_images=359, folder=row.folder, validation_by_seed=(0.92, 0.9),
        test_by_seed=(0.86, 0.88),
    )  # fmt: skip
    before = stated.model_copy(update={"validation_by_seed": (), "test_by_seed": ()})
    other = stated.model_copy(update={"validation_by_seed": (0.92, 0.91)})
    path = tmp_path / "best.safetensors"
    for confirmed, what in (
        (stated, carried.FINALS),
        (before, carried.FINALS),
        (other, carried.UNCONFIRMED),
        (None, carried.UNCONFIRMED),
    ):
        document = sample.document.model_copy(update={"confirmation": confirmed})
        write.write("safetensors", path, document, chosen, sample.images)
        assert carried.parse(safetensors_file.document_of(path), path).training.what == what
        if confirmed != other:  # whose mean is another
            assert check.verify(path)


LONGER = Confirmation(
    epochs=200, seeds=2, validation_accuracy=0.95, validation_interval_95=None, test_accuracy=0.93,
    test_interval_95=None, test_images=359, folder="elsewhere", validation_by_seed=(0.94, 0.96),
    test_by_seed=(0.92, 0.94),
)  # fmt: skip
UNLISTED = "ok  training: a final that the export has no figures of\n"


class OlderFinal:
    """A file with a final of 128 epochs, as an older version wrote it: it called any final so, one whose
    other seeds were under way (no confirmation), and one beside a longer run that was made elsewhere."""

    def __init__(self, sample: Sample, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.sample, self.place, self.capsys = sample, place, capsys
        row = finished(sample, run_of_finals(1, sample.candidate.number, 128), 0, place)
        final = choice._full(replace(row, epochs=128), is_validated_alike=True)
        self.training = final.model_copy(update={"train_images": None})

    def verified(self, form: write.Form, confirmed: Confirmation | None, **changed: Any) -> Result:
        held, path = weights.load(self.sample.weights), self.place / f"best{ENDINGS[form]}"
        network = deployed.Deployed(held.network(), held.normalisation)
        document = self.sample.document.model_copy(update={"confirmation": confirmed})
        carrying = write.document_of(document, held, self.training.model_copy(update=changed), network)
        for file, parts in write.contents(form, path, held, carrying, network).items():
            file.write_bytes(parts)
        return run(self.capsys, "verify", path)


@pytest.mark.parametrize("confirmed", [None, LONGER], ids=["alone", "beside a longer one"])
@pytest.mark.parametrize("form", ["onnx", "pt2", "safetensors"])
def test_a_final_that_an_older_version_wrote_without_its_figures_is_no_edited_file(
    capsys: pytest.CaptureFixture[str],
    sample: Sample,
    tmp_path: Path,
    form: write.Form,
    confirmed: Confirmation | None,
) -> None:
    result = OlderFinal(sample, tmp_path, capsys).verified(form, confirmed)
    assert (result.code, UNLISTED in result.out) == (0, True), result.err


def test_what_is_no_final_or_has_other_figures_than_the_confirmed_ones_is_refused(
    capsys: pytest.CaptureFixture[str], sample: Sample, tmp_path: Path
) -> None:
    older, origin = OlderFinal(sample, tmp_path, capsys), sample.document.origin
    brief = {"seed": origin.seed, "epochs": origin.epochs, "test_accuracy": None}
    for confirmed in (None, LONGER):
        for what in (carried.FINALS, carried.UNCONFIRMED):
            assert UNLISTED in older.verified("safetensors", confirmed, what=what).out
            for changed in (brief, {"epochs": None}, {"seed": None}, {"validation_accuracy": None}):
                result = older.verified("safetensors", confirmed, what=what, **changed)
                assert (result.code, result.out) == (6, "")
                assert result.one_line.endswith(f"are not those that the export has of {what}")
    stated = {"epochs": 200, "validation_accuracy": 0.94, "test_accuracy": 0.92}
    result = older.verified("safetensors", LONGER, **stated)
    assert (result.code, UNLISTED in result.out) == (0, False), result.err
    for edited in ({"validation_accuracy": 0.99}, {"test_accuracy": 0.99}):
        assert older.verified("safetensors", LONGER, **stated | edited).code == 6
