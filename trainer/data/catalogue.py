"""The data sets that `--data` takes by name, and what is known of them without a look at their files.

Reads and writes nothing but to look whether a folder is there, and imports the standard library alone:
command lines list the names from here.
Called by trainer/data/sources.py, which finds and reads the files, and by the commands of search/.
"""

import shlex
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class KnownDataset:
    """Facts of one data set as it is published: at its own size, before its training images are split."""

    name: str  # what --data takes
    title: str  # what reports and messages call it
    channels: int
    image_size: int  # pixels a side
    classes: int
    train_images: int
    test_images: int


DATASETS = {
    known.name: known
    for known in (
        KnownDataset("cifar10", "CIFAR-10", 3, 32, 10, 50_000, 10_000),
        KnownDataset("cifar100", "CIFAR-100", 3, 32, 100, 50_000, 10_000),
        KnownDataset("svhn", "SVHN", 3, 32, 10, 73_257, 26_032),  # its 531,131 extra images are not used
        KnownDataset("fashion-mnist", "Fashion-MNIST", 1, 28, 10, 60_000, 10_000),
        KnownDataset("mnist", "MNIST", 1, 28, 10, 60_000, 10_000),
        # scikit-learn's 1,797 handwritten digits; the test images are a fifth that sources.py puts aside.
        KnownDataset("digits", "digits", 1, 8, 10, 1_438, 359),
    )
}
FOLDER_NOTE = "Pictures of a folder are not mirrored unless a --recipe says flip = true."  # for help texts
SPECS = f"{', '.join(DATASETS)} or folder:PATH"  # what --data takes, for help texts and errors


def meant(spec: str) -> str:
    """The end of a message about an unknown data set: what to type where it is the name of a folder."""
    path = spec[len("folder:") :] if spec.lower().startswith("folder:") else spec
    with suppress(OSError, RuntimeError):  # too long a name, or an unknown home folder
        if path and Path(path).expanduser().is_dir():
            return f"; of the folder that is there: {shlex.quote(f'folder:{path}')}"
    return ""
