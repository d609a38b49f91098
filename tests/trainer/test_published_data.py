"""Data sets that are called by name: found where they lie, checked, downloaded once, named when damaged."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import pytest
from lazily import Lazily
from published_data import CIFAR, IDX, NAMES, pack_cifar, write_cifar, write_idx, write_published, write_svhn

from space.errors import DataError
from trainer.data import catalogue, dataset as datasets, file_layouts

readers = Lazily("torchvision.datasets")

SHAPES = {
    "mnist": (20, 28, 28, 1),
    "fashion-mnist": (20, 28, 28, 1),
    "cifar10": (50, 32, 32, 3),
    "cifar100": (10, 32, 32, 3),
    "svhn": (20, 32, 32, 3),
}
DEBIAN = file_layouts.DEBIAN


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing listens at the proxy, and no package of the system has a data set."""
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setattr(file_layouts, "DEBIAN", tmp_path / "no package")


def refused(name: str, data_dir: Path) -> str:
    with pytest.raises(DataError) as caught:
        datasets.load(name, data_dir)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_a_data_set_is_read_from_its_archives_in_the_data_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_published(name, tmp_path, monkeypatch)
    before = sorted(tmp_path.iterdir())
    dataset = datasets.load(name, tmp_path)
    assert (dataset.name, dataset.spec) == (catalogue.DATASETS[name].title, name)
    assert dataset.images.shape == SHAPES[name]
    assert dataset.images.dtype == np.uint8 and dataset.labels.dtype == np.int64
    assert len(dataset.classes) == catalogue.DATASETS[name].classes
    assert dataset.open_test()[0].shape == (10, *SHAPES[name][1:])
    assert sorted(path for path in tmp_path.iterdir() if path.name != "cache") == before
    assert [path.suffix for path in (tmp_path / "cache").glob(f"{name}.*")] == [".lock"], "nothing extracted"


@pytest.mark.parametrize("name", IDX)
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("where", ["torchvision", "its name", "the data folder itself"])
def test_idx_files_are_found_wherever_they_may_lie(
    name: str, packed: bool, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = {"torchvision": tmp_path / IDX[name] / "raw", "its name": tmp_path / name}
    write_idx(name, folders.get(where, tmp_path), monkeypatch, packed)
    dataset = datasets.load(name, tmp_path)
    shift = 7 if name == "mnist" else 0
    assert dataset.images[:, 3, 3, 0].tolist() == [i + shift for i in range(20)]
    assert dataset.labels.tolist() == [(i + shift) % 10 for i in range(20)]
    assert dataset.open_test()[0][:, 0, 0, 0].tolist() == [i + 100 + shift for i in range(10)]


def test_files_of_the_twin_data_set_are_not_taken_for_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_idx("fashion-mnist", tmp_path / "elsewhere", monkeypatch)
    write_idx("mnist", tmp_path, monkeypatch)
    assert "cannot download Fashion-MNIST" in refused("fashion-mnist", tmp_path)
    assert datasets.load("mnist", tmp_path).images[0, 0, 0, 0] == 7


@pytest.mark.parametrize("name", CIFAR)
def test_cifar_is_read_from_the_folder_out_of_its_archive(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cifar(name, tmp_path, monkeypatch)
    dataset = datasets.load(name, tmp_path)
    assert dataset.images[0, 0, :2].tolist() == [[0, 0, 0], [1, 1, 1]], "planes become channels"
    assert dataset.labels[:3].tolist() == [0, 1, 2]
    assert dataset.classes[-1] == f"class {len(dataset.classes) - 1}"


@pytest.mark.parametrize("name", CIFAR)
@pytest.mark.parametrize("packed", [True, False])
def test_cifar_may_lie_in_a_folder_of_its_name(
    name: str, packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = write_cifar(name, tmp_path / name, monkeypatch)
    if packed:
        pack_cifar(name, target, monkeypatch)
    assert datasets.load(name, tmp_path).images.shape == SHAPES[name]


def test_svhn_has_its_nought_first_and_its_pixels_in_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_svhn(tmp_path, monkeypatch)
    (tmp_path / "extra_32x32.mat").write_bytes(b"the extra images are not used")
    dataset = datasets.load("svhn", tmp_path)
    assert dataset.labels[:11].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert dataset.images[3, 0, 5].tolist() == [0, 3, 9]
    assert dataset.images[3, 5, 0].tolist() == [0, 3, 0]
    assert dataset.classes == tuple("0123456789")


def test_images_are_scaled_where_another_size_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_published("mnist", tmp_path, monkeypatch)
    dataset = datasets.load("mnist", tmp_path, 32)
    assert dataset.images.shape == (20, 32, 32, 1)
    assert dataset.images[:, 9, 9, 0].tolist() == list(range(7, 27))
    assert datasets.load("mnist", tmp_path).image_size == 28


DAMAGED = [
    ("mnist", "train-images-idx3-ubyte.gz"),
    ("fashion-mnist", "t10k-images-idx3-ubyte.gz"),
    ("cifar10", "cifar-10-python.tar.gz"),
    ("cifar100", "cifar-100-python.tar.gz"),
    ("svhn", "test_32x32.mat"),
]


@pytest.mark.parametrize(("name", "file"), DAMAGED)
@pytest.mark.parametrize("harm", ["cut short", "one byte", "empty"])
def test_a_damaged_archive_is_named_with_what_to_do(
    name: str, file: str, harm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / name
    write_published(name, folder, monkeypatch)
    content = bytearray((folder / file).read_bytes())
    content[len(content) // 2] ^= 255
    harmed = {"cut short": bytes(content[:-20]), "one byte": bytes(content), "empty": b""}[harm]
    (folder / file).write_bytes(harmed)
    message = refused(name, tmp_path)
    title = catalogue.DATASETS[name].title
    assert message.startswith(f"{folder / file} is damaged: its content is not that of {title}")
    assert "delete it, and it is downloaded again, or put a whole one there" in message
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock", ".lock"], (
        "no half-made cache"
    )


@pytest.mark.parametrize("name", IDX)
def test_a_damaged_extracted_file_is_named_too(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_idx(name, tmp_path / name, monkeypatch, packed=False)
    path = tmp_path / name / "train-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    assert refused(name, tmp_path).startswith(f"{path} is damaged")


def test_a_damaged_file_out_of_an_archive_is_named_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_cifar("cifar10", tmp_path, monkeypatch) / "data_batch_4"
    path.write_bytes(path.read_bytes() + b"more")
    assert refused("cifar10", tmp_path).startswith(f"{path} is damaged")


def test_a_file_that_nobody_may_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_published("mnist", tmp_path / "mnist", monkeypatch)
    path = tmp_path / "mnist" / "train-images-idx3-ubyte.gz"
    really = Path.read_bytes

    def read_bytes(self: Path) -> bytes:  # the tests may run as root, whom no permission stops
        if self == path:
            raise PermissionError(13, "Permission denied", str(self))
        return really(self)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    assert refused("mnist", tmp_path) == f"cannot read {path}: Permission denied; make it readable"


PUT = {
    "mnist": "put the files train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz,",
    "fashion-mnist": "or install Debian's package dataset-fashion-mnist, or use --data digits",
    "cifar10": "put cifar-10-python.tar.gz, or the folder cifar-10-batches-py out of it, into",
    "cifar100": "put cifar-100-python.tar.gz, or the folder cifar-100-python out of it, into",
    "svhn": "put the files train_32x32.mat, test_32x32.mat into",
}


@pytest.mark.parametrize("name", NAMES)
def test_without_a_network_one_line_says_where_the_files_may_be_put(name: str, tmp_path: Path) -> None:
    message = refused(name, tmp_path)
    assert message.startswith(f"cannot download {catalogue.DATASETS[name].title} (")
    assert "Connection refused" in message
    assert PUT[name] in message
    assert str(tmp_path) in message
    assert [path.name for path in tmp_path.iterdir()] == ["cache"], "nothing half-made in the data folder"


@pytest.mark.parametrize("name", NAMES)
def test_where_it_says_the_files_may_be_put_they_are_found(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(refused(name, tmp_path).partition(" into ")[2].partition(",")[0])
    write_published(name, folder, monkeypatch)
    assert datasets.load(name, tmp_path).images.shape == SHAPES[name]


def test_what_is_there_by_halves_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_cifar("cifar10", tmp_path, monkeypatch)
    (folder / "data_batch_3").unlink()
    assert f"{folder} lacks data_batch_3;" in refused("cifar10", tmp_path)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        self.server.asked.append(self.path)  # type: ignore[attr-defined]


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    """An HTTP server of tmp_path/mirror, to which every address in torchvision leads."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "mirror")))
    server.asked = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    root = f"http://127.0.0.1:{server.server_port}/"
    for reader in (readers.MNIST, readers.FashionMNIST):
        monkeypatch.setattr(reader, "mirrors", [root])
    for reader in (readers.CIFAR10, readers.CIFAR100):
        monkeypatch.setattr(reader, "url", root + urlparse(reader.url).path.rpartition("/")[2])
    listed = {part: [root + file, file, md5] for part, (_, file, md5) in readers.SVHN.split_list.items()}
    monkeypatch.setattr(readers.SVHN, "split_list", listed)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


KEPT = {
    "mnist": "MNIST/raw/train-images-idx3-ubyte.gz",
    "fashion-mnist": "FashionMNIST/raw/t10k-labels-idx1-ubyte",
    "cifar10": "cifar-10-batches-py/test_batch",
    "cifar100": "cifar-100-python/meta",
    "svhn": "train_32x32.mat",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_data_set_is_downloaded_once_and_kept_as_torchvision_keeps_it(
    name: str,
    mirror: ThreadingHTTPServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    write_published(name, tmp_path / "mirror", monkeypatch)
    data_dir = tmp_path / "data"
    assert datasets.load(name, data_dir).images.shape == SHAPES[name]
    assert (data_dir / KEPT[name]).is_file()
    asked = list(mirror.asked)  # type: ignore[attr-defined]
    assert asked and not any("extra" in path for path in asked)
    datasets.load(name, data_dir, 16)  # another size: read again, from what was kept
    assert mirror.asked == asked  # type: ignore[attr-defined]
    assert capfd.readouterr() == ("", ""), "no bar where there is no terminal"


@pytest.mark.parametrize(("name", "file"), DAMAGED)
def test_a_download_that_arrives_damaged_is_refused_and_not_kept(
    name: str, file: str, mirror: ThreadingHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_published(name, tmp_path / "mirror", monkeypatch)
    (tmp_path / "mirror" / file).write_bytes(b"<html>Log in to the wireless network</html>")
    message = refused(name, tmp_path / "data")
    assert f"cannot download {catalogue.DATASETS[name].title} (File not found or corrupted);" in message
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["cache"]


def test_a_download_completes_what_is_there_by_halves(
    mirror: ThreadingHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_published("cifar10", tmp_path / "mirror", monkeypatch)
    (tmp_path / "data" / "cifar-10-batches-py").mkdir(parents=True)
    (tmp_path / "data" / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"cut short")
    assert datasets.load("cifar10", tmp_path / "data").images.shape == SHAPES["cifar10"]


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_debians_package_is_fashion_mnist_whole_and_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_layouts, "DEBIAN", DEBIAN)
    dataset = datasets.load("fashion-mnist", tmp_path)
    images, labels = dataset.open_test()
    known = catalogue.DATASETS["fashion-mnist"]
    assert dataset.images.shape == (known.train_images, 28, 28, 1)
    assert images.shape == (known.test_images, 28, 28, 1)
    assert np.bincount(dataset.labels).tolist() == [6000] * 10 and np.bincount(labels).tolist() == [1000] * 10
    assert [dataset.classes[label] for label in dataset.labels[:3]] == [
        "Ankle boot",
        "T-shirt/top",
        "T-shirt/top",
    ]
    assert dataset.images.mean() == pytest.approx(255 * 0.2860, abs=0.05)
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_a_damaged_package_is_to_be_installed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "package"
    write_idx("fashion-mnist", folder, monkeypatch)
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(b"")
    monkeypatch.setattr(file_layouts, "DEBIAN", folder)
    message = refused("fashion-mnist", tmp_path / "data")
    assert message.startswith(f"{folder / 't10k-images-idx3-ubyte.gz'} is damaged")
    assert message.endswith("install the package dataset-fashion-mnist again")
