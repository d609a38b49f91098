"""CIFAR-10 and -100, SVHN, MNIST and Fashion-MNIST, read by torchvision's own readers.

Finds their files (trainer/data/file_layouts.py), else downloads them into the data folder, checks them, and
hands them to torchvision; nothing but the data folder is written to. Called by trainer/data/sources.py, once
a data set, when its cache is filled. torchvision, and with it torch, is loaded only then.

torchvision knows the MD5 of every file as it is published. It knows none of an extracted IDX file, nor of one
that was compressed again, as in Debian's package: CONTENT_MD5 has those of what must be in them.
"""

import gzip
import hashlib
import io
import shutil
import socket
import sys
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np

from space.errors import DataError
from trainer.data import file_layouts
from trainer.data.catalogue import DATASETS
from trainer.data.contents import Contents, Part
from trainer.data.file_layouts import DEBIAN_PACKAGE, LAYOUTS, Place
from trainer.data.file_lock import locked

# Of the extracted files. Those of Fashion-MNIST were proven from the published MD5 of the compressed ones.
CONTENT_MD5 = {
    "mnist": {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    "fashion-mnist": {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
}
DIGITS = tuple("0123456789")
TEN_DIGITS = ("mnist", "svhn")  # torchvision calls MNIST's "0 - zero", and has no names for SVHN's
SILENCE_SECONDS = 30.0  # of a server, after which a download is given up
DOWNLOAD_FAILURES = (OSError, RuntimeError, EOFError, HTTPException, tarfile.TarError, zlib.error)


def read(name: str, data_dir: Path) -> Contents:
    """A data set of LAYOUTS at its own size: images (N, H, W, 1 or 3) uint8, labels (N,) int64.

    Raises DataError, in one line: a damaged file, or none anywhere and no way to download any.
    """
    work = data_dir / "cache" / f"{name}.files"
    work.parent.mkdir(parents=True, exist_ok=True)
    with locked(work.with_suffix(".lock")):
        try:
            shutil.rmtree(work, ignore_errors=True)  # a killed process may have left one
            place = found(name, data_dir)
            if place is None:
                download(name, data_dir, work)
                place = found(name, data_dir)
            if place is None:
                raise DataError(f"{DATASETS[name].title} was downloaded, but not into {data_dir}; try again")
            stage(name, place, work)
            return _contents(name, work)
        finally:
            shutil.rmtree(work, ignore_errors=True)


def found(name: str, data_dir: Path) -> Place | None:
    """The first place that has all files of a data set; its files may still be damaged."""
    complete = (place for place in file_layouts.places(name, data_dir) if place.complete)
    return next((place for place in complete if not place.ambiguous or _is_ours(name, place)), None)


def _is_ours(name: str, place: Place) -> bool:
    """Whether the smallest file there, the labels of the test images, is this data set's."""
    try:
        checked(name, place.files()[-1])
    except DataError:
        return False
    return True


def stage(name: str, place: Place, root: Path) -> None:
    """Checks the files of a place, and lays them under `root` as torchvision wants them, or links to them.

    Raises DataError for a damaged file.
    """
    layout = LAYOUTS[name]
    folder = root / layout.folder
    folder.mkdir(parents=True, exist_ok=True)
    for path in place.files():
        content = checked(name, path)
        if path.name == layout.archive:
            _unpack(path, root)
        elif content is not None and path.suffix == ".gz":
            (folder / path.stem).write_bytes(content)
        else:
            (folder / path.name).symlink_to(path.resolve())


def _unpack(archive: Path, folder: Path) -> None:
    from torchvision.datasets.utils import extract_archive

    extract_archive(str(archive), str(folder))


def checked(name: str, path: Path) -> bytes | None:
    """The content of an IDX file, uncompressed; None for any other, which is left where it is.

    Raises DataError for a file that is not what was published, or that cannot be read.
    """
    with _damage(name, path):
        raw = path.read_bytes()
        sums = CONTENT_MD5.get(name)
        md5 = hashlib.md5(raw, usedforsecurity=False).hexdigest()
        if md5 == published(name).get(path.name):
            return gzip.decompress(raw) if sums else None
        if sums is None:
            raise ValueError("checksum")
        content = gzip.decompress(raw) if path.suffix == ".gz" else raw
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != sums[path.name.removesuffix(".gz")]:
            raise ValueError("checksum")
        return content


@contextmanager
def _damage(name: str, path: Path) -> Iterator[None]:
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error, ValueError, tarfile.TarError) as error:
        advice = "delete it, and it is downloaded again, or put a whole one there"
        if path.parent == file_layouts.DEBIAN:
            advice = f"install the package {DEBIAN_PACKAGE} again"
        raise DataError(
            f"{path} is damaged: its content is not that of {DATASETS[name].title} as published; {advice}"
        ) from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}; make it readable") from error


def published(name: str) -> dict[str, str]:
    """Every MD5 that torchvision knows of a data set, by the name of the file."""
    reader = _reader(name)
    if name == "svhn":
        return {file: md5 for part, (_, file, md5) in reader.split_list.items() if part != "extra"}
    if name in CONTENT_MD5:
        return dict(reader.resources)
    return {
        **dict(reader.train_list + reader.test_list),
        reader.meta["filename"]: reader.meta["md5"],
        reader.filename: reader.tgz_md5,
    }


def download(name: str, data_dir: Path, work: Path) -> None:
    """Downloads into `work`, then moves what is whole into the data folder, in torchvision's layout.

    Raises DataError that says where the files may be put by hand.
    """
    reader = _reader(name)
    shown = sys.stderr.isatty()  # a bar for a person; in a log it would be noise
    timeout = socket.getdefaulttimeout()
    try:
        socket.setdefaulttimeout(SILENCE_SECONDS)
        with redirect_stdout(io.StringIO()), nullcontext() if shown else redirect_stderr(io.StringIO()):
            for train in (True, False):
                reader(str(work), download=True, **_part(name, train))
    except DOWNLOAD_FAILURES as error:
        raise DataError(_unreachable(name, data_dir, error)) from error
    finally:
        socket.setdefaulttimeout(timeout)
    for path in sorted(work.rglob("*")):
        if path.is_file():
            target = data_dir / path.relative_to(work)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)


def _unreachable(name: str, data_dir: Path, error: BaseException) -> str:
    """One line: what failed, what is there by halves, and what to do instead."""
    reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
    halves = (
        place for place in file_layouts.places(name, data_dir) if place.missing() and not place.ambiguous
    )
    half = next((f"; {place.folder} lacks {place.missing()}" for place in halves), "")
    package = f", or install Debian's package {DEBIAN_PACKAGE}" if name == "fashion-mnist" else ""
    folder = data_dir if LAYOUTS[name].archive or name == "svhn" else data_dir / name
    return (
        f"cannot download {DATASETS[name].title} ({reason[0].strip('<>.')}){half}; put"
        f" {LAYOUTS[name].asked_for} into {folder.resolve()}{package}, or use --data digits"
    )


def _contents(name: str, root: Path) -> Contents:
    reader = _reader(name)
    train, test = (reader(str(root), **_part(name, train)) for train in (True, False))
    classes = DIGITS if name in TEN_DIGITS else tuple(train.classes)
    return Contents(classes, _arrays(name, train), _arrays(name, test))


def _arrays(name: str, part: Any) -> Part:
    """What a reader of torchvision holds, (N, H, W), (N, H, W, 3) or (N, 3, H, W), as (N, H, W, C) uint8."""
    images = np.asarray(part.data)
    if name == "svhn":
        images = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    if images.ndim == 3:
        images = images[..., None]
    labels = part.labels if name == "svhn" else part.targets
    return Part(images, np.asarray(labels, np.int64))


def _part(name: str, train: bool) -> dict[str, Any]:
    return {"split": "train" if train else "test"} if name == "svhn" else {"train": train}


def _reader(name: str) -> Any:
    from torchvision import datasets

    return getattr(datasets, LAYOUTS[name].reader)
