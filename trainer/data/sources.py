"""What `--data` names, as something that can be read: a published data set, digits, a folder, tensors.

A Source is a name, a key that changes when its content does, and a way to read it. Looks into folders; writes
nothing itself (a data set that is downloaded is kept in the data folder). Called by trainer/data/dataset.py,
whose cache keeps the result.
"""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from space.errors import UsageError
from trainer.data import catalogue, images as image_files, picture_folder, tensor_files, torchvision_files
from trainer.data.catalogue import DATASETS, SPECS
from trainer.data.contents import Contents, Part, Source
from trainer.data.picture_folder import Wanted

DIGITS_TEST_SHARE = 0.2
DIGITS_SEED = 20


def find(spec: str, data_dir: Path, wanted: Wanted) -> Source:
    """The source that a spec names, not read yet; of a data set with a name only the size can be wanted.

    Raises UsageError for an unknown spec or a size outside 4..512, DataError for a folder or tensors that
    cannot be used.
    """
    image_size = wanted.image_size
    if image_size is not None and not 4 <= image_size <= 512:
        raise UsageError(f"image size {image_size} is outside 4..512; choose another")
    kind, _, rest = spec.partition(":")
    if kind == "folder" and rest:
        return picture_folder.source(_folder(rest), wanted)
    if kind == tensor_files.KIND and rest:
        return tensor_files.source(rest, data_dir, image_size)
    known = DATASETS.get(spec)
    if known is None:
        raise UsageError(f"unknown data set {spec!r}; use {SPECS}{catalogue.meant(spec)}")
    size = image_size or known.image_size
    return Source(
        spec,
        known.title,
        f"{spec}-{size}",
        lambda _known: _digits(size) if spec == "digits" else _published(spec, data_dir, size),
    )


def is_at(spec: str, place: str) -> bool:
    """Whether a spec names the place that the spec of a data set is, which may be there no more."""
    kind, _, rest = spec.partition(":")
    return place in (spec, f"{kind}:{_folder(rest)}" if kind == "folder" else spec)


def _folder(path: str) -> Path:
    # realpath, as resolve() fails by a RuntimeError for a link that leads to itself
    return Path(os.path.realpath(Path(path).expanduser()))


def stratified(labels: NDArray[np.int64], total: int, seed: int) -> NDArray[np.int64]:
    """Sorted indices (M,) int64 of about `total` of the images that `labels` (N,) belong to.

    Each class in proportion, at least one, never a whole class; equal for equal seeds.
    The largest remainders round up, so the total is exact unless a small class moves it.
    RandomState, because numpy promises that its stream never changes.
    """
    counts = np.bincount(labels)
    return _drawn(labels, np.minimum(_quotas(counts, total), np.maximum(counts - 1, 0)), seed)


def cut(labels: NDArray[np.int64], total: int, seed: int) -> NDArray[np.int64]:
    """The same where nothing is to be left of a class: one of a single image has it, and classes that would
    be short by the one image that stratified() leaves in each are whole until the total is reached."""
    counts = np.bincount(labels)
    wanted = _quotas(counts, total)
    quota = np.minimum(wanted, np.maximum(counts - 1, 0))
    short = np.flatnonzero(quota < np.minimum(wanted, counts))  # by one image each
    short = short[np.argsort(quota[short], kind="stable")]  # those that have none come first
    quota[short[: max(np.count_nonzero(quota[short] == 0), total - quota.sum())]] += 1
    return _drawn(labels, quota, seed)


def _quotas(counts: NDArray[np.int64], total: int) -> NDArray[np.int64]:
    """How many images (K,) int64 of each class are `total`, in proportion to counts (K,), at least one."""
    exact = counts * total / counts.sum()
    quota: NDArray[np.int64] = np.floor(exact).astype(np.int64)
    quota[np.argsort(quota - exact, kind="stable")[: total - quota.sum()]] += 1
    quota[quota < 1] = 1
    return quota


def _drawn(labels: NDArray[np.int64], quota: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    random = np.random.RandomState(seed)
    chosen = [random.permutation(np.flatnonzero(labels == label))[:n] for label, n in enumerate(quota)]
    return np.sort(np.concatenate(chosen))


def _digits(size: int) -> Contents:
    """Images (N, size, size, 1) uint8 from scikit-learn's 17 levels of grey; a fifth are test images."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    images, labels = image_files.resized(images, size), bunch.target.astype(np.int64)
    test = np.zeros(len(labels), bool)
    test[stratified(labels, round(DIGITS_TEST_SHARE * len(labels)), DIGITS_SEED)] = True
    classes = tuple(str(name) for name in bunch.target_names)
    return Contents(classes, Part(images[~test], labels[~test]), Part(images[test], labels[test]))


def _published(name: str, data_dir: Path, size: int) -> Contents:
    """Images (N, size, size, 1 or 3) uint8 and labels (N,) int64. Raises DataError."""
    whole = torchvision_files.read(name, data_dir)
    assert whole.test is not None  # every one of them has test images
    train, test = (Part(image_files.resized(x.images, size), x.labels) for x in (whole.train, whole.test))
    return Contents(whole.classes, train, test)
