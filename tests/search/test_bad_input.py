"""What goes wrong before a search: one clear line, the right exit code, nothing written by halves."""

import json
from pathlib import Path

import click
import pytest
from command import run
from comparison_samples import add_study
from PIL import Image

from search.cli import cli
from search.study import network_reference
from trainer.data import file_layouts
from trainer.data.catalogue import SPECS

SPACE = {"depth": [2], "stage": {"blocks": [1], "kernel": [3]}}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working directory and no settings of the machine."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("SEARCH_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("SEARCH_STORAGE", raising=False)


LAUNCH = ("launch", "--trials", "3", "--data", "digits", "--gpus", "none")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--storage", "postgresql://me:secret@127.0.0.1:1/x"), 5, "Connection refused"),
        (("--storage", "postgresql://me:se@cret@h/x"), 2, "percent-encode the password (@ is %40"),
        (("--storage", "mysql://me:secret@host/x"), 2, "unknown kind of database 'mysql'"),
        (("--storage", "sqlite:////proc/nothing.db"), 5, "unable to open"),
        (("--storage", "no url"), 2, "not a database URL"),
        (("--data", "imagenet"), 2, f"use {SPECS}"),
        (("--data", "folder:/nowhere"), 5, "no folder /nowhere"),
        (("--max-params", "100"), 3, "nothing fits 100 parameters and"),
        (("--max-params", "lots"), 2, "'lots' is not a number"),
        (("--max-params", "0"), 2, "not a positive number"),
        (("--gpus", "7"), 5, "there is no GPU 7"),
        (("--gpus", "seven"), 2, "give numbers like 0,1"),
        (("--workers", "many"), 2, "give a number, or auto"),
        (("--timeout", "soon"), 2, "not a time like"),
        (("--space", "absent.toml"), 2, "absent.toml: No such file"),
        (("--recipe", "absent.toml"), 2, "absent.toml"),
        (("--out", "no/folder/best.json"), 2, "there is no folder no/folder"),
        (("--out", "."), 2, "give the name of a file"),
        (("--report", "/proc/report.html"), 5, "cannot write /proc/report.html"),
        (("--final-seeds", "2"), 2, "--finalists, --final-epochs and --final-seeds go with --finish"),
        (("--finish", "--final-epochs", "6"), 2, "finals are longer than the 6 epochs of a trial"),
        (("--finish", "--finalists", "0"), 2, "--finalists"),
        (("--seed", 2**32), 2, "--seed"),
        (("--study", "../../elsewhere"), 2, "is no name for a study"),
        (("--study", "night:5"), 2, "is no name for a study"),
        (("--study", "x" * 300), 2, "is no name for a study"),
        (("--study", "bad\udcff"), 2, "is no name for a study"),
    ],
)
def test_a_wrong_flag_is_one_line_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    code: int,
    words: str,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    given = LAUNCH[:-2] if "--gpus" in arguments else LAUNCH
    result = run(capsys, *given, *arguments)
    assert result.code == code
    assert words in result.one_line
    assert "secret" not in result.err
    assert list(Path.cwd().iterdir()) == []


DIGITS = "9" * 5_000  # more than Python reads as a number
MANY = ("launch", "--trials", "3", "--dry-run")


@pytest.mark.parametrize(
    "arguments",
    [
        *((*MANY, flag, f"{DIGITS}{end}")
          for flag in ("--max-params", "--max-macs", "--train-images") for end in ("", ".5", "G")),
        *((*MANY, "--trial-memory", f"{DIGITS}{end}") for end in ("", ".5", "G")),
        *((*MANY, flag, f"{DIGITS}{end}") for flag in ("--timeout", "--lease") for end in ("", ".5", "h")),
        ("explain", "--max-params", DIGITS),
        (*MANY, "--max-gpu-hours", DIGITS),
        ("launch", "--trials", DIGITS),
        (*MANY, "--out", DIGITS),
        ("show", f"night:{DIGITS}"),
        ("export", f"night:{DIGITS}"),
        ("train", f"night:{DIGITS}"),
        ("predict", f"night:{DIGITS}", "cat.png"),
        ("show", f"{DIGITS}.json"),
    ],
)  # fmt: skip
def test_what_is_far_too_long_is_one_short_line_and_no_fault_of_the_program(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    url = f"sqlite:///{tmp_path / 's.db'}"
    add_study(url, "night", [0.5])
    result = (
        run(capsys, *arguments, "--storage", url) if arguments[0] != "explain" else run(capsys, *arguments)
    )
    assert result.code == 2
    assert len(result.one_line) < 300 and "fault of the program" not in result.err
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(
    ("flag", "most", "more", "words"),
    [
        ("--max-params", "999_999_999_999_999_999", "1000000000G", "more than a database can hold"),
        ("--trial-memory", "1024T", "1025T", "more than any device has"),
        ("--grace", "36525d", "36526d", "longer than a hundred years"),
        ("--max-gpu-hours", "1000000", "1000001", "not in the range"),
        ("--max-gpu-hours", "0.5", "nan", "no number of hours"),
        ("--max-gpu-hours", "1", "inf", "not in the range"),
        ("--epochs", "10000", "10001", "not in the range"),
        ("--trials", "1000000000", "1000000001", "not in the range"),
    ],
)
def test_a_number_that_nothing_can_hold_is_refused(flag: str, most: str, more: str, words: str) -> None:
    """A worker reads what a launch was given, a database stores it, and Python waits for it."""
    command = cli.commands["launch"]
    assert command.make_context("launch", [flag, most]).params
    with pytest.raises(click.BadParameter, match=words):
        command.make_context("launch", [flag, more])


def test_so_many_of_the_best_as_no_database_can_count_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 's.db'}"
    add_study(url, "night", [0.5])
    assert run(capsys, "best", "night", "--top", 10**9, "--storage", url).code == 0
    refused = run(capsys, "best", "night", "--top", 10**20, "--storage", url)
    assert refused.code == 2 and "--top" in refused.one_line


def test_a_network_in_a_closed_folder_is_named_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Root may look everywhere, so that the system's answer is given here."""

    def closed(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", closed)
    assert network_reference.is_file("closed/best"), "whoever reads it says why"


def test_cifar10_that_cannot_be_had_names_the_folder_and_the_way_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    result = run(capsys, "launch", "--trials", "3", "--gpus", "none")
    assert result.code == 5
    assert str(tmp_path / "data") in result.one_line
    assert "--data digits" in result.one_line


def test_fashion_mnist_that_cannot_be_had_names_the_package(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setattr(file_layouts, "DEBIAN", tmp_path / "not installed")
    result = run(capsys, "launch", "--trials", "3", "--gpus", "none", "--data", "fashion-mnist")
    assert result.code == 5
    assert f"into {tmp_path / 'data' / 'fashion-mnist'}," in result.one_line
    assert "Debian's package dataset-fashion-mnist" in result.one_line


def test_a_damaged_data_set_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "data" / "cifar-10-python.tar.gz"
    path.parent.mkdir()
    path.write_bytes(b"cut short")
    result = run(capsys, "launch", "--trials", "3", "--gpus", "none")
    assert result.code == 5
    assert f"{path} is damaged" in result.one_line


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (SPACE | {"depht": [2]}, "depht: unknown field"),
        (SPACE | {"depth": {"low": 4, "high": 2}}, "empty range: low 4 is above high 2"),
        (SPACE | {"stage": {"kernel": [9]}}, "stage.kernel: 9 is larger than its feature map, 8x8"),
        (
            SPACE | {"stages": {"2": {"kernel": [7]}}},
            "stages.2.kernel: 7 is larger than its feature map, 4",
        ),
        (SPACE | {"stage": {"kernel": [2]}}, "kernel 2 is even"),
        (SPACE | {"stage": {"blocks": []}}, "stage.blocks"),
        (SPACE | {"width": {"low": 9, "high": 15}}, "no multiple of 8"),
        ([1, 2], "space.json: give a table of fields, in JSON an object (found [1, 2])"),
        (SPACE | {"stem": [3]}, "stem: give a table of fields, in JSON an object (found [3])"),
        (SPACE | {"baselines": {"blocks": [[3, 3], 3]}}, "baselines.blocks.1: give a list (found 3)"),
        (SPACE | {"baselines": {"variants": {}}}, "baselines.variants: give a list (found {})"),
    ],
)
def test_a_wrong_space_names_the_place(capsys: pytest.CaptureFixture[str], space: object, words: str) -> None:
    Path("space.json").write_text(json.dumps(space))
    result = run(capsys, *LAUNCH, "--space", "space.json")
    assert result.code == 2
    assert words in result.one_line
    assert not Path("parsimony.db").exists()


def test_a_space_that_is_not_toml_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Path("space.toml").write_bytes(b"\xff\xfe depth = [")
    result = run(capsys, *LAUNCH, "--space", "space.toml")
    assert result.code == 2
    assert "space.toml: not TOML" in result.one_line


ARCHITECTURE = {"stem": {"width": 16}, "stages": [{"blocks": 1, "width": 16}]}


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (
            ARCHITECTURE | {"stem": {"width": "16"}},
            "stem.width: Input should be a valid integer",
        ),
        (ARCHITECTURE | {"stem": {"width": 0}}, "stem.width"),
        (ARCHITECTURE | {"stages": [{"blocks": 1_000_000, "width": 16}]}, "stages.0.blocks"),
        (ARCHITECTURE | {"depth": 3}, "depth: unknown field"),
        (ARCHITECTURE | {"stages": []}, "stages"),
        (ARCHITECTURE | {"pool": {"kernel": 64}}, "pool: 64 is larger than the last feature map, 32x32"),
        ("text", "give a table of fields, in JSON an object (found 'text')"),
        (ARCHITECTURE | {"stages": 3}, "stages: give a list (found 3)"),
    ],
)
def test_a_wrong_architecture_names_the_place(
    capsys: pytest.CaptureFixture[str], document: object, words: str
) -> None:
    Path("network.json").write_text(json.dumps(document))
    result = run(capsys, "show", "network.json")
    assert result.code == 2
    assert words in result.one_line


STRANGE: dict[str, tuple[str, str, str]] = {
    "a hexadecimal number without end": (
        "a.toml", "epochs = 0x" + "f" * 5_000, "a number or name of 5,002 characters, 100 at most"),
    "brackets without end": ("a.toml", "epochs = " + "[" * 900, "nested more than 32 deep"),
    "brackets of JSON without end": ("a.json", "[" * 100_000, "nested more than 32 deep"),
    "a dotted key without end": ("a.toml", "a." * 2_000 + "b = 1", "nested more than 32 deep"),
    "a dotted table without end": ("a.toml", "[" + "a . " * 2_000 + "b]", "nested more than 32 deep"),
    "a key that stands twice": ("a.json", '{"stem": 1, "stem": 2}', "'stem' stands twice"),
    "not a number": ("a.json", '{"learning_rate": NaN}', "NaN is no number of JSON"),
    "a file without end": ("a.toml", "#" * 300_000, "more than the 256 kB"),
}  # fmt: skip


@pytest.mark.parametrize("command", [("recipe", "check"), ("space", "show"), ("show",), ("verify",)])
@pytest.mark.parametrize(("name", "text", "words"), STRANGE.values(), ids=STRANGE)
def test_a_strangers_document_is_refused_in_one_short_line_whatever_reads_it(
    capsys: pytest.CaptureFixture[str], command: tuple[str, ...], name: str, text: str, words: str
) -> None:
    if command[0] in ("show", "verify") and name.endswith(".toml"):  # which read JSON alone
        return
    Path(name).write_text(text)
    result = run(capsys, *command, name)
    assert result.code == (6 if command == ("verify",) else 2)
    assert words in result.one_line
    assert len(result.one_line) < 300


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"x" * 5_000: 1}, "xxx...: unknown field"),
        ({"schedule": {"name": "x" * 5_000}}, "schedule: name should be one_cycle"),
        ({"optimizer": "x" * 5_000}, "optimizer: Input should be 'sgd'"),
    ],
)
def test_a_value_without_end_is_shown_shortened(
    capsys: pytest.CaptureFixture[str], document: object, words: str
) -> None:
    Path("a.json").write_text(json.dumps(document))
    result = run(capsys, "recipe", "check", "a.json")
    assert result.code == 2
    assert words in result.one_line
    assert len(result.one_line) < 300


@pytest.mark.parametrize(
    ("command", "name", "text"),
    [
        (("recipe", "check"), "a.toml", "epochs = 3"),
        (("recipe", "check"), "a.json", '{"epochs": 3}'),
        (("space", "show"), "a.toml", "depth = [2]"),
        (("show",), "a.json", json.dumps(ARCHITECTURE)),
    ],
)
def test_a_document_may_begin_with_the_mark_of_an_editor(
    capsys: pytest.CaptureFixture[str], command: tuple[str, ...], name: str, text: str
) -> None:
    Path(name).write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert run(capsys, *command, name).code == 0


@pytest.mark.parametrize(
    ("command", "document", "words"),
    [
        (("recipe", "check"), {"lr": 0.1}, "lr: unknown field; did you mean learning_rate?"),
        (("recipe", "check"), {"optimiser": "sgd"}, "unknown field; did you mean optimizer?"),
        (("recipe", "check"), {"schedule": {"name": "cosine", "min": 0}}, "did you mean minimum?"),
        (
            ("space", "show"),
            {"stage": {"kernels": [3]}},
            "stage.kernels: unknown field; did you mean kernel?",
        ),
        (("show",), ARCHITECTURE | {"stem": {"width": 8, "strides": 2}}, "did you mean stride?"),
        (("show",), ARCHITECTURE | {"flavour": 1}, "flavour: unknown field"),
    ],
)
def test_an_unknown_field_is_answered_by_the_one_that_was_meant(
    capsys: pytest.CaptureFixture[str], command: tuple[str, ...], document: object, words: str
) -> None:
    Path("a.json").write_text(json.dumps(document))
    result = run(capsys, *command, "a.json")
    assert result.code == 2
    assert result.one_line.endswith(words)


def picture(path: Path, colour: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (colour, 0, 0)).save(path)


def test_a_folder_without_images_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Path("images/train/cat").mkdir(parents=True)
    Path("images/train/dog").mkdir(parents=True)
    result = run(capsys, *LAUNCH, "--data", "folder:images")
    assert result.code == 5
    assert "no images" in result.one_line


def test_a_folder_with_one_class_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    picture(Path("images/train/cat/1.png"))
    result = run(capsys, *LAUNCH, "--data", "folder:images")
    assert result.code == 5
    assert "class" in result.one_line


def test_an_unreadable_image_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(12):
        picture(Path(f"images/train/cat/{i}.png"), i)
        picture(Path(f"images/train/dog/{i}.png"), 200 + i)
    Path("images/train/dog/broken.png").write_bytes(b"not a picture")
    result = run(capsys, *LAUNCH, "--data", "folder:images")
    assert result.code == 5
    assert "broken.png" in result.one_line


@pytest.mark.parametrize(
    "command", [("status",), ("list",), ("trials",), ("best",), ("export",), ("show",), ("report",)]
)
def test_a_store_that_is_not_there_is_one_line_and_is_not_made(
    capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    result = run(capsys, *command)
    assert result.code == 5
    assert "search launch" in result.one_line
    assert list(Path.cwd().iterdir()) == []


def test_a_file_that_is_no_export_fails_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    Path("best.json").write_text("{}")
    result = run(capsys, "verify", "best.json")
    assert result.code == 6
    assert result.one_line.startswith("search: schema: ")


def test_a_file_that_is_not_there_is_usage_and_no_forgery(capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, "verify", "absent.json")
    assert result.code == 2
    assert "absent.json: No such file" in result.one_line


def test_an_unknown_command_is_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "lunch").code == 2
