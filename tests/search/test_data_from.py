"""A worker on a machine without images takes the prepared ones of another, and trains on nothing else."""

import json
import shutil
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import numpy as np
import pytest
from command import fake_training, finish, run, start
from no_web_server import no_web_server

from search.launcher import data_server
from search.study.config import DataConfig, open_images_from, split_images
from space.errors import DataError, EnvironmentProblem, UsageError
from trainer.data import dataset as datasets, prepared

FOLDER = "folder:/nowhere/pictures"  # on the launcher's machine alone
OPENER = build_opener(ProxyHandler({}))


@dataclass(frozen=True)
class Launcher:
    """A machine that has images: its data folder, and what the study says of them."""

    data_dir: Path
    cache: Path
    config: DataConfig


@pytest.fixture
def launcher(digits: Path, tmp_path: Path) -> Launcher:
    shutil.copytree(digits, tmp_path / "launcher")
    dataset = datasets.load("digits", tmp_path / "launcher")
    config, _ = split_images(dataset, None, None, 0)
    return Launcher(tmp_path / "launcher", dataset.cache, config.model_copy(update={"spec": FOLDER}))


@contextmanager
def serving(given: str, folder: Path, digest: str) -> Iterator[str]:
    """Serves the folder at HOST:PORT; yields the address that workers ask."""
    with data_server.bound(given) as server, data_server.serving(server, folder, digest) as address:
        yield address


@pytest.fixture
def address(launcher: Launcher) -> Iterator[str]:
    with serving("127.0.0.1:0", launcher.cache, launcher.config.digest) as address:
        yield address


@pytest.mark.parametrize("source", ["web", "data folder", "cache"])
def test_a_machine_without_images_has_those_of_the_study_afterwards(
    source: str, launcher: Launcher, address: str, tmp_path: Path
) -> None:
    found = {"web": address, "data folder": str(launcher.data_dir), "cache": str(launcher.data_dir / "cache")}
    here = tmp_path / "here"
    images = open_images_from(launcher.config, here, None, found[source])
    assert (images.dataset.digest, images.split.digest) == (
        launcher.config.digest, launcher.config.split_digest,
    )  # fmt: skip
    assert images.dataset.spec == FOLDER
    again = open_images_from(launcher.config, here, None, "/not/there/any/more")
    assert np.array_equal(again.dataset.images, images.dataset.images)


@pytest.mark.parametrize("is_whole", [False, True])
def test_a_worker_that_starts_while_another_fetches_waits_and_takes_what_was_verified(
    is_whole: bool, launcher: Launcher, tmp_path: Path
) -> None:
    cache = tmp_path / "here/cache"
    being_filled = cache / f"fetched-{launcher.config.digest[:32]}.new"
    being_filled.mkdir(parents=True)
    for path in launcher.cache.iterdir() if is_whole else [launcher.cache / "facts.json"]:
        shutil.copyfile(path, being_filled / path.name)
    assert prepared.find(cache, launcher.config.digest) is None
    images = open_images_from(launcher.config, tmp_path / "here", None, str(launcher.data_dir))
    assert images.dataset.cache == being_filled.with_suffix("") and images.dataset.cache.is_dir()


def test_images_that_were_damaged_on_the_way_are_not_used(launcher: Launcher, tmp_path: Path) -> None:
    images = np.load(launcher.cache / "train-images.npy")
    images[0, 0, 0, 0] ^= 1  # the facts beside it still name the old digest
    np.save(launcher.cache / "train-images.npy", images)
    here = tmp_path / "here"
    with pytest.raises(DataError, match="damaged images, or others"):
        open_images_from(launcher.config, here, None, str(launcher.data_dir))
    with (
        serving("127.0.0.1:0", launcher.cache, launcher.config.digest) as address,
        pytest.raises(DataError, match="damaged images, or others"),
    ):
        open_images_from(launcher.config, here, None, address)
    assert [path for path in here.rglob("*") if path.is_dir() and path.name != "cache"] == []


def test_a_file_that_changed_after_it_was_listed_is_not_used(
    launcher: Launcher, address: str, tmp_path: Path
) -> None:
    facts = launcher.cache / "facts.json"
    facts.write_text(facts.read_text().replace("0", "1", 1))
    with pytest.raises(DataError, match=r"facts\.json .* is damaged: its sha256"):
        open_images_from(launcher.config, tmp_path / "here", None, address)


def test_other_images_than_the_study_s_are_refused(launcher: Launcher, address: str, tmp_path: Path) -> None:
    other = launcher.config.model_copy(update={"digest": "0" * 64})
    with pytest.raises(DataError, match=f"{address} does not have the images of the study, and"):
        open_images_from(other, tmp_path / "here", None, address)
    apart = launcher.config.model_copy(update={"split_digest": "0" * 64})
    with pytest.raises(DataError, match="holds other images than digits"):
        open_images_from(apart, tmp_path / "here", None, address)
    own = launcher.config.model_copy(update={"spec": "digits", "digest": "0" * 64})
    with pytest.raises(DataError, match="holds other images than digits"):
        open_images_from(own, launcher.data_dir, None, None)


@pytest.fixture
def with_tests(tmp_path: Path) -> Launcher:
    """The launcher's machine with test images too, which the digits of the other tests are without."""
    dataset = datasets.load("digits", tmp_path / "with tests")
    config, _ = split_images(dataset, None, None, 0)
    return Launcher(tmp_path / "with tests", dataset.cache, config.model_copy(update={"spec": FOLDER}))


def other_tests(with_tests: Launcher, folder: Path) -> DataConfig:
    """A cache like the launcher's in this folder, with other test images; what a study of it would say."""
    shutil.copytree(with_tests.cache, folder)
    for name in ("images", "labels"):
        tests = np.load(folder / f"test-{name}.npy")
        np.save(folder / f"test-{name}.npy", tests[1:])
    facts = json.loads((folder / "facts.json").read_text())
    told = datasets.test_digest_of(folder, as_told=False)
    (folder / "facts.json").write_text(json.dumps(facts | {"test_digest": told}))
    return with_tests.config.model_copy(update={"test_digest": told})


def test_of_two_caches_a_worker_takes_that_with_the_test_images_of_the_study(
    with_tests: Launcher, tmp_path: Path
) -> None:
    """Which differ in test/ alone."""
    other = other_tests(with_tests, with_tests.data_dir / "cache" / "a-first")
    for config, count in ((with_tests.config, 359), (other, 358), (with_tests.config, 359)):
        for here in (tmp_path / "here", with_tests.data_dir):
            found = open_images_from(config, here, None, str(with_tests.data_dir))
            assert len(found.dataset.open_test()[1]) == count
    assert len(list((tmp_path / "here/cache").glob("fetched-*/"))) == 2


def test_a_worker_with_other_test_images_than_the_study_s_is_refused(
    with_tests: Launcher, tmp_path: Path
) -> None:
    other = with_tests.config.model_copy(update={"spec": "digits", "test_digest": "0" * 64})
    with pytest.raises(DataError, match="digits holds other test images than digits, with which the study"):
        open_images_from(other, with_tests.data_dir, None, None)
    with pytest.raises(DataError, match=r"does not have the images of the study, and .* other test images"):
        open_images_from(other, with_tests.data_dir, None, str(with_tests.data_dir))
    before = other.model_copy(update={"test_digest": None})
    assert open_images_from(before, with_tests.data_dir, None, None).dataset.test_digest, "it goes on"
    for path in with_tests.cache.glob("test-*"):
        path.unlink()
    facts = json.loads((with_tests.cache / "facts.json").read_text())
    (with_tests.cache / "facts.json").write_text(json.dumps(facts | {"test_digest": None}))
    found = open_images_from(other, with_tests.data_dir, None, None)
    assert found.dataset.test_digest is None, "no test images are no others: its finals are not tested"


def test_test_images_that_were_damaged_on_the_way_are_not_used(with_tests: Launcher, tmp_path: Path) -> None:
    images = np.load(with_tests.cache / "test-images.npy")
    images[0, 0, 0, 0] ^= 1  # the facts beside it still name the old digest
    np.save(with_tests.cache / "test-images.npy", images)
    with pytest.raises(DataError, match="damaged test images, or others than those of the study"):
        open_images_from(with_tests.config, tmp_path / "here", None, str(with_tests.data_dir))


@pytest.mark.parametrize(
    "said",
    [
        "[]",
        "{}",
        "x" * 20_000,
        json.dumps({"../../evil": {"bytes": 1, "sha256": ""}}),
        json.dumps({key: {"bytes": 1, "sha256": ""} for key in [*prepared.NEEDED, "evil.py"]}),
        json.dumps({key: {"bytes": -1, "sha256": ""} for key in prepared.NEEDED}),
    ],
)
def test_a_server_that_says_anything_else_is_one_line(
    said: str, launcher: Launcher, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepared, "manifest", lambda _: {})
    monkeypatch.setattr(json, "dumps", lambda _: said)
    with (
        serving("127.0.0.1:0", launcher.cache, launcher.config.digest) as strange,
        pytest.raises(DataError, match="does not answer as a launcher with --serve-data does"),
    ):
        open_images_from(launcher.config, tmp_path / "here", None, strange)


def test_a_source_that_is_not_there_is_one_line(launcher: Launcher, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot fetch the images of the study from http.*refused"):
        open_images_from(launcher.config, tmp_path / "here", None, "http://127.0.0.1:9")
    with pytest.raises(DataError, match="there is no such folder"):
        open_images_from(launcher.config, tmp_path / "here", None, str(tmp_path / "typo"))


def test_an_address_of_something_else_is_one_line(launcher: Launcher, tmp_path: Path) -> None:
    with (
        no_web_server() as address,
        pytest.raises(DataError, match=r"what listens there is no web server$"),
    ):
        open_images_from(launcher.config, tmp_path / "here", None, address)


@pytest.mark.parametrize("typo", ["http://db:54x2", "http://[::1", "http://", "http://a..b", "http://a b:80"])
def test_a_mistyped_address_is_one_line(typo: str, launcher: Launcher, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot fetch the images of the study from http:.*: .") as refused:
        open_images_from(launcher.config, tmp_path / "here", None, typo)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("path", ["/", "/facts.json", "/../facts.json", "/{digest}/", "/{digest}/../x.db"])
def test_the_launcher_serves_nothing_but_the_files_of_its_data_set(
    path: str, address: str, launcher: Launcher
) -> None:
    with pytest.raises(HTTPError) as refused:
        OPENER.open(address + path.format(digest=launcher.config.digest))
    assert refused.value.code == 404
    refused.value.close()


def test_nothing_can_be_written_to_the_launcher(address: str, launcher: Launcher) -> None:
    facts = f"{address}/{launcher.config.digest}/facts.json"
    with OPENER.open(Request(facts, method="HEAD")) as answer:
        assert answer.read() == b"" and int(answer.headers["Content-Length"]) > 0
    for method in ("PUT", "POST", "DELETE"):
        with pytest.raises(HTTPError) as refused:
            OPENER.open(Request(facts, method=method))  # a body nobody reads resets it
        assert refused.value.code == 501
        refused.value.close()


def test_an_address_that_cannot_be_served_is_one_line(
    launcher: Launcher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        pytest.raises(EnvironmentProblem, match=r"--serve-data 203\.0\.113\.1:1: "),
        serving("203.0.113.1:1", launcher.cache, launcher.config.digest),
    ):
        pass
    for wrong in ("a:²", "a:٣", "a:65536", "a:" + "9" * 5_000, ":80", "a"):
        with pytest.raises(UsageError, match="give an address of this machine and a port"):
            data_server.parse(wrong)
    refused = run(capsys, "launch", "--trials", 1, "--serve-data", "nonsense", "--data-dir", tmp_path,
                  "--storage", f"sqlite:///{tmp_path}/s.db")  # fmt: skip
    assert refused.code == 2 and "--serve-data nonsense: give an address" in refused.one_line


def test_an_address_in_use_is_one_line_before_a_study_is_made(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused = run(capsys, "launch", "--trials", 1, "--data", "digits", "--data-dir", digits,
                      "--workers", 0, "--serve-data", f"127.0.0.1:{taken.getsockname()[1]}",
                      "--storage", f"sqlite:///{tmp_path}/s.db")  # fmt: skip
    assert refused.code == 5 and "in use" in refused.one_line
    assert list(tmp_path.iterdir()) == []


def test_images_are_served_at_an_address_of_ipv6_too(launcher: Launcher, tmp_path: Path) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with serving("[::1]:0", launcher.cache, launcher.config.digest) as address:
        assert address.startswith("http://[::1]:")
        images = open_images_from(launcher.config, tmp_path / "here", None, address)
    assert images.dataset.digest == launcher.config.digest


def test_a_worker_that_goes_in_the_middle_of_a_request_leaves_nothing_on_the_board(
    launcher: Launcher, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with data_server.bound("127.0.0.1:0") as server:
        over, end = threading.Event(), server.shutdown_request

        def ended(request: Any) -> None:
            end(request)
            over.set()

        monkeypatch.setattr(server, "shutdown_request", ended)
        with data_server.serving(server, launcher.cache, launcher.config.digest):
            worker = socket.create_connection(server.server_address[:2])
            worker.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
            worker.sendall(b"GET ")
            worker.close()
            assert over.wait(60)
    assert capfd.readouterr() == ("", "")


def test_a_file_that_somebody_deleted_is_not_found(
    launcher: Launcher, address: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (launcher.cache / "train-labels.npy").unlink()
    with pytest.raises(DataError, match=r"cannot fetch the images of the study from http.*: Not Found"):
        open_images_from(launcher.config, tmp_path / "here", None, address)
    assert capfd.readouterr().err == ""


@pytest.mark.thorough  # a whole search for one more question: its pieces have tests of milliseconds
@pytest.mark.slow
def test_a_worker_elsewhere_trains_on_the_images_that_a_launch_serves(
    digits: Path, tmp_path: Path, sqlite_url: str
) -> None:
    """And ends with 0 when the search is done; so does a launcher that has no workers of its own."""
    fake = fake_training(tmp_path / "training", seconds=0.0)
    launch = start("launch", "far", "--trials", 2, "--workers", 0, "--data", "digits", "--epochs", 1,
                   "--max-macs", "300k", "--no-baselines", "--serve-data", "127.0.0.1:0",
                   "--storage", sqlite_url, "--data-dir", digits, cwd=tmp_path, **fake)  # fmt: skip
    assert launch.stderr
    served = next(line for line in launch.stderr if line.startswith("images "))
    worker = start("worker", "--study", "far", "--storage", sqlite_url, "--data-dir", tmp_path / "elsewhere",
                   cwd=tmp_path, SEARCH_DATA_FROM=served.split()[-1], **fake)  # fmt: skip
    assert finish(worker).code == 0
    assert finish(launch).code == 0
    fetched = [path.name for path in (tmp_path / "elsewhere" / "cache").iterdir() if path.is_dir()]
    assert len(fetched) == 1 and fetched[0].startswith("fetched-")
