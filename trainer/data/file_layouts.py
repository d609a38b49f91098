"""Where the files of CIFAR, SVHN, MNIST and Fashion-MNIST may lie on this machine. Looks; never opens a file.

Every data set is looked for in the data folder, in torchvision's layout first, then as plain archives or
extracted files; Fashion-MNIST also where Debian's package puts it. Called by
trainer/data/torchvision_files.py, which checks what is found.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
DEBIAN_PACKAGE = "dataset-fashion-mnist"

IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@dataclass(frozen=True)
class Layout:
    """How the files of one data set are called.

    Either `files` lie in a folder called `folder`, or `archive` holds that folder.
    Where `gzipped`, each may also end in .gz.
    """

    reader: str  # the class of torchvision.datasets that reads them
    folder: str  # where that class looks below its root; "" for the root itself
    files: tuple[str, ...]
    archive: str | None = None
    gzipped: bool = False

    @property
    def asked_for(self) -> str:
        """What a person is asked for."""
        if self.archive:
            return f"{self.archive}, or the folder {self.folder} out of it,"
        return "the files " + ", ".join(name + ".gz" * self.gzipped for name in self.files)


CIFAR10_FILES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta")

LAYOUTS = {
    "cifar10": Layout("CIFAR10", "cifar-10-batches-py", CIFAR10_FILES, "cifar-10-python.tar.gz"),
    "cifar100": Layout("CIFAR100", "cifar-100-python", ("train", "test", "meta"), "cifar-100-python.tar.gz"),
    "svhn": Layout("SVHN", "", ("train_32x32.mat", "test_32x32.mat")),
    "mnist": Layout("MNIST", "MNIST/raw", IDX_FILES, gzipped=True),
    "fashion-mnist": Layout("FashionMNIST", "FashionMNIST/raw", IDX_FILES, gzipped=True),
}


@dataclass(frozen=True)
class Place:
    """A folder that may hold a data set: `names` are the ways in which each of its files may be called."""

    folder: Path
    names: tuple[tuple[str, ...], ...]
    ambiguous: bool = False  # files of another data set may lie here under the same names

    def files(self) -> list[Path]:
        """Those that are there, in the order of `names`."""
        found = []
        for ways in self.names:
            found += [self.folder / way for way in ways if (self.folder / way).is_file()][:1]
        return found

    @property
    def complete(self) -> bool:
        return len(self.files()) == len(self.names)

    def missing(self) -> str | None:
        """The first file that is not there, where others are; None where all or none are."""
        if not self.files():
            return None
        absent = (ways for ways in self.names if not any((self.folder / way).is_file() for way in ways))
        return next((ways[-1] for ways in absent), None)


def places(name: str, data_dir: Path) -> Iterator[Place]:
    """All for a name of LAYOUTS, the most certain first."""
    layout = LAYOUTS[name]
    names = tuple((file, f"{file}.gz") if layout.gzipped else (file,) for file in layout.files)
    for parent in (data_dir, data_dir / name):
        if layout.folder:
            yield Place(parent / layout.folder, names)
        if layout.archive:
            yield Place(parent, ((layout.archive,),))
    yield Place(data_dir / layout.reader, names)
    yield Place(data_dir / name, names)
    yield Place(data_dir, names, ambiguous=layout.gzipped)
    if name == "fashion-mnist":
        yield Place(DEBIAN, names)
