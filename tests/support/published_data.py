"""Tiny data sets in the formats of the published ones; torchvision is told their checksums."""

import gzip
import hashlib
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from lazily import Lazily

from trainer.data import torchvision_files

readers = Lazily("torchvision.datasets")
scipy_io = Lazily("scipy.io")

IDX = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}
CIFAR = {"cifar10": "CIFAR10", "cifar100": "CIFAR100"}
NAMES = (*IDX, *CIFAR, "svhn")


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def idx(array: np.ndarray) -> bytes:
    """The IDX format: two zeros, 8 for bytes, the number of dimensions, each big-endian, the bytes."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def write_idx(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, packed: bool = True) -> None:
    """Twenty images to train on and ten to test, each all of one grey: its number, and 100 more for tests."""
    folder.mkdir(parents=True, exist_ok=True)
    resources, sums = [], {}
    shift = 7 if name == "mnist" else 0  # the twins share the names of their files
    for part, count, first in (("train", 20, 0), ("t10k", 10, 100)):
        grey = (np.arange(count) + first + shift).astype(np.uint8)
        images = np.broadcast_to(grey[:, None, None], (count, 28, 28))
        labels = ((np.arange(count) + shift) % 10).astype(np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            file, content = f"{part}-{kind}-ubyte", idx(np.ascontiguousarray(array))
            archive = gzip.compress(content, mtime=0)
            resources.append((f"{file}.gz", md5(archive)))
            sums[file] = md5(content)
            (folder / (f"{file}.gz" if packed else file)).write_bytes(archive if packed else content)
    monkeypatch.setattr(getattr(readers, IDX[name]), "resources", resources)
    monkeypatch.setitem(torchvision_files.CONTENT_MD5, name, sums)


def write_cifar(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten images in each file, every plane counting up; in the published folder, whose path is the answer."""
    reader = getattr(readers, CIFAR[name])
    target = folder / reader.base_folder
    target.mkdir(parents=True)
    files = [file for file, _ in reader.train_list + reader.test_list]
    data = np.tile(np.arange(1024).astype(np.uint8), (10, 3))
    count, key = (10, "labels") if name == "cifar10" else (100, "fine_labels")
    contents = {
        file: pickle.dumps({"data": data, key: [(10 * i + j) % count for j in range(10)]})
        for i, file in enumerate(files)
    }
    contents[reader.meta["filename"]] = pickle.dumps(
        {reader.meta["key"]: [f"class {i}" for i in range(count)]}
    )
    for file, content in contents.items():
        (target / file).write_bytes(content)
    sums = [(file, md5(contents[file])) for file in files]
    monkeypatch.setattr(reader, "train_list", sums[:-1])
    monkeypatch.setattr(reader, "test_list", sums[-1:])
    monkeypatch.setattr(reader, "meta", reader.meta | {"md5": md5(contents[reader.meta["filename"]])})
    return target


def pack_cifar(name: str, target: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder as the published archive beside it; the folder is gone then."""
    reader = getattr(readers, CIFAR[name])
    archive = target.parent / reader.filename
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(target, target.name)
    for file in target.iterdir():
        file.unlink()
    target.rmdir()
    monkeypatch.setattr(reader, "tgz_md5", md5(archive.read_bytes()))
    return archive


def write_svhn(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty images to train on and ten to test, in MATLAB's format; a nought is labelled 10."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = dict(readers.SVHN.split_list)
    for part, count in (("train", 20), ("test", 10)):
        images = np.zeros((32, 32, 3, count), np.uint8)
        images[..., 1, :] = np.arange(count)  # green says which image it is
        images[0, 5, 2, :] = 9  # a blue dot in row 0, column 5
        labels = (np.arange(count) % 10 + 1).astype(np.uint8)[:, None]
        path = folder / f"{part}_32x32.mat"
        scipy_io.savemat(path, {"X": images, "y": labels})
        listed[part] = [listed[part][0], path.name, md5(path.read_bytes())]
    monkeypatch.setattr(readers.SVHN, "split_list", listed)


def write_published(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any of them as it is published: archives where there are archives."""
    if name in IDX:
        write_idx(name, folder, monkeypatch)
    elif name in CIFAR:
        pack_cifar(name, write_cifar(name, folder, monkeypatch), monkeypatch)
    else:
        write_svhn(folder, monkeypatch)
