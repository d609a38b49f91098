"""`import parsimony`: what a script or a notebook can do, and what it is told when it cannot."""

import dataclasses
import json
import re
import signal
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import exported_samples
import numpy as np
import pytest
import torch
from exported_samples import Sample
from picture_samples import noise
from PIL import Image
from torch.utils.data import Dataset, TensorDataset

import parsimony
from parsimony import scoring, searching
from search.study import config as study_config, own_score, reader
from search.study.config import StudyConfig
from space import errors
from space.files import write_whole
from trainer.data import dataset as datasets, images as image_files

ROOT = Path(__file__).parents[2]
NETWORK = {"channels": 1, "image_size": 8, "stem": {"width": 8}, "stages": [{"blocks": 1, "width": 8}]}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    folder = tmp_path_factory.mktemp("sample")
    return exported_samples.make_sample(f"sqlite:///{folder / 's.db'}", folder / "data")


@pytest.fixture
def study(sample: Sample) -> parsimony.Study:
    return parsimony.open_study(sample.url, "bench", sample.data_dir)


def test_every_public_name_is_there_and_documented() -> None:
    text = (ROOT / "docs/python.md").read_text()
    for name in parsimony.__all__:
        assert getattr(parsimony, name) is not None
        assert f"`{name}" in text or f"`parsimony.{name}" in text, name
    assert sorted(parsimony.__all__, key=str.casefold) == sorted(dir(parsimony), key=str.casefold)
    assert set(parsimony._PLACES) <= set(parsimony.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        parsimony.nothing  # noqa: B018


def test_public_names_are_exactly_these() -> None:
    """Whoever changes the list changes what other people's scripts rest on."""
    assert parsimony.__all__ == [
        "Data", "DataError", "EnvironmentProblem", "Explanation", "Network", "NothingFitsError",
        "NothingTrainedError", "ParsimonyError", "Study", "Trial", "UsageError", "load", "open_study",
        "propose", "search",
    ]  # fmt: skip


def test_public_functions_and_methods_say_what_they_do_and_are_typed() -> None:
    for name in parsimony.__all__:
        found = getattr(parsimony, name)
        assert (found.__doc__ or "").strip(), name
        methods = vars(found) if isinstance(found, type) else {name: found}
        for method, value in methods.items():
            if callable(value) and not method.startswith("_") and not isinstance(value, type):
                assert (value.__doc__ or "").strip(), method
                assert "return" in value.__annotations__, method


def test_an_exported_network_is_counted_explained_and_built(sample: Sample, tmp_path: Path) -> None:
    write_whole(sample.document.model_dump_json(), tmp_path / "best.json")
    for source in (tmp_path / "best.json", str(tmp_path / "best.json")):
        network = parsimony.load(source)
        built = network.build()
        assert network.count() == sum(x.numel() for x in built.parameters()) == sample.document.parameters
        assert network.macs() == sample.document.macs == sum(layer.macs for layer in network.layers())
        assert sum(layer.parameters for layer in network.layers()) == network.count()
        scores = built.eval()(torch.zeros(2, 1, 8, 8))
        assert scores.shape == (2, 10)
    assert network.fits(), "within the budget of its study"
    assert network.fits(max_params=network.count()) and not network.fits(max_params=network.count() - 1)
    assert not network.fits(max_macs=network.macs() - 1)


def test_networks_are_equal_where_they_build_the_same(tmp_path: Path) -> None:
    unused = {"stages": [{"blocks": 1, "width": 8, "shortcut_kernel": 3}]}
    for name, parts in {"one": {}, "same": unused, "other": {"activation": "tanh"}}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(NETWORK | parts))
    one, same, other = (parsimony.load(tmp_path / f"{name}.json") for name in ("one", "same", "other"))
    assert one == same and len({one, same, other}) == 2
    assert one != other and one != one.architecture


def test_weights_of_another_network_beside_a_document_name_no_classes_and_are_not_run(
    sample: Sample, tmp_path: Path
) -> None:
    (tmp_path / "best.json").write_text(json.dumps(NETWORK))
    (tmp_path / "best.safetensors").write_bytes(sample.weights.read_bytes())
    network = parsimony.load(tmp_path / "best.json")
    for use in (network.trained, network.classes):
        with pytest.raises(
            parsimony.UsageError, match=r"best\.safetensors holds the weights of another network"
        ):
            use()


def test_an_explanation_says_what_is_over_and_what_would_fit(tmp_path: Path) -> None:
    (tmp_path / "net.json").write_text(json.dumps(NETWORK))
    network = parsimony.load(tmp_path / "net.json")
    found = network.explain(max_params=network.count() // 2)
    assert found.excess and found.repairs
    assert all(one.parameters <= network.count() // 2 for one in found.repairs)
    assert sum(part.parameters for part in found.parts) == network.count()
    assert found.excess in str(found)
    assert network.explain(max_params=10**6).excess is None
    with pytest.raises(parsimony.UsageError, match="give max_params or max_macs"):
        network.fits()


def test_a_network_without_weights_names_the_command_that_trains_some(tmp_path: Path) -> None:
    (tmp_path / "net.json").write_text(json.dumps(NETWORK))
    with pytest.raises(parsimony.UsageError, match="`search train STUDY:TRIAL` trains some"):
        parsimony.load(tmp_path / "net.json").trained()
    with pytest.raises(parsimony.UsageError, match=r"absent\.json"):
        parsimony.load(tmp_path / "absent.json")
    assert parsimony.load("published:001-final").count() > 10**6


def test_a_study_shows_no_password() -> None:
    study = parsimony.Study("postgresql://me:secret@host/db", "bench", Path("data"))
    assert "bench" in repr(study) and "secret" not in f"{study} {study!r}"


def test_trials_are_frozen_records_and_the_best_has_its_weights(
    sample: Sample, study: parsimony.Study
) -> None:
    (trial,) = study.trials()
    best = study.best()
    assert trial == best and trial.state == "completed"
    assert (best.accuracy, best.parameters) == (sample.candidate.accuracy, best.network.count())
    with pytest.raises(dataclasses.FrozenInstanceError):
        best.accuracy = 1.0  # type: ignore[misc]
    pixels = torch.from_numpy(np.zeros((3, 1, 8, 8), np.uint8))
    with torch.inference_mode():
        assert best.network.trained()(pixels).shape == (3, 10)
    assert best.network.classes() == tuple("0123456789")
    assert study.trained == 1 and study.budget.max_parameters == 20_000


def test_curves_are_the_epochs_of_each_trial(study: parsimony.Study) -> None:
    (epochs,) = study.curves().values()
    assert [epoch.epoch for epoch in epochs] == [1, 2, 3]
    assert epochs[-1].validation_accuracy == study.best().accuracy


def test_a_frame_is_a_table_of_pandas(study: parsimony.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = study.frame()
    assert list(frame.index) == [0]
    assert frame.loc[0, "accuracy"] == study.best().accuracy
    assert {"state", "parameters", "network"} <= set(frame.columns)
    monkeypatch.setitem(sys.modules, "pandas", None)  # type: ignore[arg-type]
    with pytest.raises(parsimony.EnvironmentProblem, match=r"pip install 'parsimony\[notebook\]'"):
        study.frame()


def test_a_study_that_is_not_there_is_one_line(sample: Sample, tmp_path: Path) -> None:
    with pytest.raises(parsimony.UsageError, match="nobody"):
        parsimony.open_study(sample.url, "nobody")
    with pytest.raises(parsimony.EnvironmentProblem):
        parsimony.open_study(f"sqlite:///{tmp_path / 'none.db'}")


def test_the_store_of_a_script_may_stand_in_a_file_as_that_of_a_command(
    sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    store.write_text(sample.url)
    store.chmod(0o600)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SEARCH_STORAGE", raising=False)
    monkeypatch.setenv("SEARCH_STORAGE_FILE", str(store))
    assert parsimony.open_study(data_dir=tmp_path).name == "bench"
    launched = list[str]()
    monkeypatch.setattr(searching, "_launch", lambda _words, url, _quiet: launched.append(url))
    assert parsimony.search("digits", study="bench", data_dir=tmp_path).storage == sample.url
    assert launched == [sample.url]
    store.chmod(0o644)
    with pytest.raises(parsimony.UsageError, match="chmod 600"):
        parsimony.open_study()
    monkeypatch.setenv("SEARCH_STORAGE", sample.url)
    with pytest.raises(parsimony.UsageError, match="two stores: SEARCH_STORAGE and SEARCH_STORAGE_FILE"):
        parsimony.open_study()


def test_proposals_differ_fit_and_come_again() -> None:
    wanted = {"channels": 1, "image_size": 8, "classes": 10}
    found = parsimony.propose(budget=20_000, n=5, **wanted)
    assert len({one.fingerprint for one in found}) == 5
    assert all(one.count() <= 20_000 and one.fits() for one in found)
    assert found == parsimony.propose(None, 20_000, 5, **wanted)
    assert found != parsimony.propose(budget=20_000, n=5, seed=1, **wanted)
    with pytest.raises(parsimony.NothingFitsError):
        parsimony.propose(budget=10)
    assert found == parsimony.propose(budget=np.int64(20_000), n=5, **wanted)  # type: ignore[arg-type]
    with pytest.raises(parsimony.UsageError):
        parsimony.propose(n=0)


@pytest.mark.parametrize(
    "images", [{"image_size": 0}, {"image_size": 2_000}, {"channels": 0}, {"channels": 2_000}, {"classes": 1}]
)
def test_proposals_for_images_that_no_network_takes_are_refused(images: dict[str, int]) -> None:
    (name,) = images
    with pytest.raises(parsimony.UsageError, match=f"^{name}: Input should be"):
        parsimony.propose(**images)


def test_tensors_become_a_data_set_that_every_command_opens(tmp_path: Path) -> None:
    images = torch.arange(40 * 3 * 36, dtype=torch.int64).remainder(251).to(torch.uint8).view(40, 3, 6, 6)
    labels = torch.arange(40) % 2
    data = parsimony.Data(
        (images, labels), test=(images[:4], labels[:4]), classes=("cat", "dog"), name="pets"
    )
    spec = data.store(tmp_path)
    assert re.fullmatch(r"tensors:pets-[0-9a-f]{12}", spec)
    assert data.store(tmp_path) == spec, "written once"
    found = datasets.load(spec, tmp_path)
    assert (found.name, found.classes, found.image_size, found.channels) == ("pets", ("cat", "dog"), 6, 3)
    assert np.array_equal(found.images.transpose(0, 3, 1, 2), images.numpy())
    assert found.open_test()[0].shape == (4, 6, 6, 3)
    assert datasets.load(spec, tmp_path, 12).images.shape == (40, 12, 12, 3)
    shares = parsimony.Data((images.float() / 255, labels), classes=("cat", "dog"), name="pets")
    assert np.array_equal(datasets.load(shares.store(tmp_path), tmp_path).images, found.images)


class Pictures(Dataset):  # type: ignore[type-arg]
    """Items are (PIL picture, label)."""

    def __init__(self, folder: Path) -> None:
        self.images = [
            Image.open(noise(folder / f"{i}.png", i)).convert("RGB").resize((9, 9)) for i in range(6)
        ]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[object, int]:
        return self.images[i], i % 3


def test_a_dataset_of_pictures_and_one_of_tensors_are_data_too(tmp_path: Path) -> None:
    found = datasets.load(parsimony.Data(Pictures(tmp_path)).store(tmp_path), tmp_path)
    assert (found.classes, found.images.shape) == (("0", "1", "2"), (6, 9, 9, 3))
    pairs = TensorDataset(torch.rand(8, 1, 5, 5), torch.arange(8) % 2)
    assert datasets.load(parsimony.Data(pairs).store(tmp_path), tmp_path).images.shape == (8, 5, 5, 1)


class Kinds(Dataset):  # type: ignore[type-arg]
    """Two pictures of a mode that is no bytes of grey or colour."""

    def __init__(self, picture: Image.Image) -> None:
        self.picture = picture

    def __len__(self) -> int:
        return 2

    def __getitem__(self, i: int) -> tuple[object, int]:
        return self.picture, i


def test_pictures_of_a_dataset_become_bytes_as_those_that_predict_reads(tmp_path: Path) -> None:
    random = np.random.RandomState(0)
    clear = Image.fromarray(random.randint(0, 256, (9, 9, 4)).astype(np.uint8))
    deep = Image.fromarray(random.randint(0, 65_536, (9, 9)).astype(np.uint16))
    for picture in (clear, clear.convert("LA"), deep):
        found = datasets.load(parsimony.Data(Kinds(picture)).store(tmp_path), tmp_path)
        mode = "L" if found.channels == 1 else "RGB"
        wanted = np.asarray(image_files.fitted(picture, 9, mode)).reshape(9, 9, -1)
        assert np.array_equal(found.images[0], wanted), picture.mode


def test_a_dataset_of_tables_is_one_line(tmp_path: Path) -> None:
    rows = [{"image": torch.zeros(1, 4, 4), "label": i % 2} for i in range(4)]
    with pytest.raises(parsimony.DataError, match=r"items must be \(image, label\)"):
        parsimony.Data(rows).store(tmp_path)


def test_tensors_of_bfloat16_are_data_and_uneven_lists_are_one_line(tmp_path: Path) -> None:
    shares = torch.tensor([0.0, 1.0]).bfloat16().view(2, 1, 1, 1).expand(2, 1, 4, 4)
    found = datasets.load(parsimony.Data((shares, torch.arange(2))).store(tmp_path), tmp_path)
    assert found.images[:, 0, 0, 0].tolist() == [0, 255]
    with pytest.raises(parsimony.DataError, match="images and labels must be tensors or arrays"):
        parsimony.Data(([[1], [1, 2]], [0, 1])).store(tmp_path)


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (torch.zeros(4, 3, 8), [0, 1, 0, 1], "give (N, channels, side, side)"),
        (torch.zeros(4, 3, 8, 6), [0, 1, 0, 1], "square ones"),
        (torch.full((4, 1, 8, 8), -1.0), [0, 1, 0, 1], "give 0..1, not normalised, or uint8"),
        (torch.zeros(4, 1, 8, 8, dtype=torch.int64), [0, 1, 0, 1], "images are int64"),
        (torch.zeros(4, 1, 8, 8), [0, 1], "give 4 integers"),
        (torch.zeros(4, 1, 8, 8), [0, 1, 2, -1], "labels begin at -1"),
        (torch.zeros(4, 1, 8, 8), [0, 0, 0, 0], "at least two classes"),
        (torch.zeros(4, 1, 8, 8), [0, 2, 2, 0], "none of class '1'"),
    ],
)
def test_tensors_that_cannot_be_are_named(
    tmp_path: Path, images: torch.Tensor, labels: list[int], words: str
) -> None:
    with pytest.raises(parsimony.DataError, match=re.escape(words)):
        parsimony.Data((images, torch.tensor(labels))).store(tmp_path)
    assert not list(tmp_path.rglob("*.npy"))


def test_tensors_that_are_gone_say_how_to_store_them_again(tmp_path: Path) -> None:
    with pytest.raises(parsimony.DataError, match=r"parsimony\.Data\(\.\.\.\)\.store\(\) writes some"):
        datasets.load("tensors:pets-0123456789ab", tmp_path)
    spec = parsimony.Data((torch.zeros(4, 1, 8, 8), torch.arange(4) % 2)).store(tmp_path)
    (tmp_path / spec.replace(":", "/") / "train-images.npy").unlink()
    with pytest.raises(parsimony.DataError, match=r"is damaged .*; delete it and store the tensors again"):
        datasets.load(spec, tmp_path)


SCORE = """
def recall(scores, labels):
    right = scores.argmax(1) == labels
    return right[labels == 1].float().mean().item()
"""


@pytest.fixture
def score_file(tmp_path: Path) -> Path:
    (tmp_path / "my_score.py").write_text(SCORE)
    return tmp_path / "my_score.py"


def test_a_score_is_a_function_in_a_file(score_file: Path) -> None:
    own = own_score.find(f"{score_file}:recall")
    scores, labels = torch.eye(2)[[0, 1, 0]], torch.tensor([0, 1, 1])
    assert own_score.load(own)(scores, labels) == 0.5
    module = ModuleType("my_score")
    exec(compile(SCORE, str(score_file), "exec"), module.__dict__)
    assert scoring.reference(module.recall) == f"{score_file}:recall"
    score_file.write_text(SCORE + "\n")
    with pytest.raises(errors.UsageError, match="was changed since the study was made"):
        own_score.load(own)


def test_a_score_that_no_worker_could_import_is_refused() -> None:
    def inside(_scores: torch.Tensor, _labels: torch.Tensor) -> float:
        return 1.0

    for function in (inside, lambda _scores, _labels: 1.0, len):
        with pytest.raises(parsimony.UsageError, match=r"score='my_score\.py:FUNCTION'"):
            scoring.reference(function)


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("my_score.py", "give FILE.py:FUNCTION"),
        ("acuracy", "use accuracy, balanced-accuracy, macro-f1, or give FILE.py:FUNCTION"),
        ("absent.py:recall", "No such file"),
        ("my_score.py:nothing", "AttributeError"),
    ],
)
def test_a_reference_to_no_score_is_one_line(
    score_file: Path, monkeypatch: pytest.MonkeyPatch, reference: str, words: str
) -> None:
    monkeypatch.chdir(score_file.parent)
    with pytest.raises(parsimony.UsageError, match=words):
        own_score.find(reference)


def test_a_file_of_a_score_that_ends_the_program_is_one_line(score_file: Path) -> None:
    score_file.write_text(SCORE + "\nraise SystemExit(0)\n")
    with pytest.raises(parsimony.UsageError, match=r"my_score\.py: SystemExit: 0"):
        own_score.find(f"{score_file}:recall")


def test_a_score_out_of_range_says_so(score_file: Path) -> None:
    score_file.write_text("def high(scores, labels):\n    return 3.5\n")
    with pytest.raises(parsimony.UsageError, match=r"returned 3\.5; give a number from 0 to 1"):
        own_score.load(own_score.find(f"{score_file}:high"))(torch.zeros(1, 2), torch.zeros(1))


class Interrupted:
    """A launch that is interrupted once before its last line."""

    def __init__(self) -> None:
        self.told: list[int] = []
        self.said: list[BaseException | str] = ["first\n", KeyboardInterrupt(), "last\n", ""]
        self.stderr = self

    def readline(self) -> str:
        said = self.said.pop(0)
        if isinstance(said, BaseException):
            raise said
        return said

    def send_signal(self, number: int) -> None:
        self.told.append(number)


def test_an_interruption_is_passed_on_once_and_the_last_lines_are_shown() -> None:
    launch = Interrupted()
    assert list(searching._lines(launch)) == ["first\n", "last\n"]  # type: ignore[arg-type]
    assert launch.told == [signal.SIGINT]


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        ({"max_params": -4}, parsimony.UsageError, "--max-params"),
        ({"study": "a/b"}, parsimony.UsageError, "study 'a/b'"),
    ],
)
def test_what_is_wrong_with_a_search_is_raised_as_the_error_that_it_is(
    tmp_path: Path, words: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        parsimony.search(
            "digits", 1, storage=f"sqlite:///{tmp_path / 's.db'}", data_dir=tmp_path, quiet=True, **words
        )


def test_a_space_and_a_recipe_may_lie_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    words = dict[str, str]()

    def launch(given: Sequence[str], _url: str, _quiet: bool) -> None:
        words.update(pairwise(given))

    monkeypatch.setattr(searching, "_launch", launch)
    monkeypatch.setattr(searching, "open_study", lambda *_: None)
    parsimony.search("digits", space="~/space.toml", recipe=Path("~/recipe.toml"))
    assert words["--space"] == str(tmp_path / "space.toml")
    assert words["--recipe"] == str(tmp_path / "recipe.toml")
    parsimony.search("digits", recipe="published:001-final")
    assert words["--recipe"] == "published:001-final"


@pytest.mark.thorough  # a real search by processes with torch
@pytest.mark.slow
def test_the_notebook_searches_own_tensors_by_an_own_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its cells of code, in order, in one namespace and in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SEARCH_STORAGE", raising=False)
    monkeypatch.setenv("SEARCH_DATA_DIR", str(tmp_path / "data"))
    cells = json.loads((ROOT / "docs/notebooks/search.ipynb").read_text())["cells"]
    names: dict[str, object] = {}
    for i, cell in enumerate(cells):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"cell {i}", "exec"), names)
    study = names["study"]
    assert isinstance(study, parsimony.Study)
    assert (study.name, study.trained) == ("from-a-notebook", 2)
    assert "the search maximises own score my_score.py:mean_recall of validation" in capsys.readouterr().err
    with reader.open_study(study.storage, study.name) as view:
        assert view.config.score == "own" and view.config.data.spec.startswith("tensors:my-digits-")
        spec, recalls = view.config.data.spec, mean_recall_of_the_best(study, view.config)
    assert abs((study.best().score or 0) - recalls) < 1e-6, "the score, beside accuracy"
    assert len(names["guesses"]) == 8  # type: ignore[arg-type]
    with pytest.raises(parsimony.UsageError, match="made with another --score"):
        parsimony.search(spec, 3, 20_000, study=study.name, quiet=True, score="macro-f1")


def mean_recall_of_the_best(study: parsimony.Study, config: StudyConfig) -> float:
    """Of the kept weights on the validation images, class by class."""
    images = study_config.open_images(config.data, study.data_dir)
    chosen = images.split.validation
    pixels = torch.from_numpy(images.dataset.images[chosen]).permute(0, 3, 1, 2)
    labels = images.dataset.labels[chosen]
    with torch.inference_mode():
        guesses = study.best().network.trained()(pixels).argmax(1).numpy()
    return float(np.mean([(guesses[labels == k] == k).mean() for k in np.unique(labels)]))
