"""What the last cache of a folder knows of its pictures, so that a changed folder is read where it changed.

Kept beside the arrays of a cache, in pictures.npz; found through a small file for each folder, which names
the last cache that was made of it. Written by trainer/data/dataset.py, used by
trainer/data/picture_folder.py. A picture is taken for the same where path, size and time are, as they are in
the key of a cache. Whatever is missing or cannot be read is not known, and no error.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer.data.images import Picture, Scaling
from trainer.data.survey import Look

FILE = "pictures.npz"
Key = tuple[str, int, int]  # path, bytes, and the time of the last change


@dataclass(frozen=True)
class Known:
    """Pictures of one reading in the order of the cached arrays: training, validation, then test ones.

    reading: by which rules files were read; images of another reading are not used. is_exact: whether what
    is stored of a part is all of what was decoded, and not colours made grey.
    """

    reading: int
    side: int
    scaling: Scaling
    is_exact: Mapping[str, bool]
    parts: Mapping[str, Sequence[tuple[Picture, Look]]]


@dataclass(frozen=True)
class KnownPictures:
    """What is known of the pictures of a folder from its last cache; of nothing where there is none."""

    reading: int | None = None
    side: int = 0
    scaling: Scaling = field(default_factory=Scaling)
    looks: Mapping[Key, Look] = field(default_factory=dict, repr=False)
    rows: Mapping[Key, tuple[NDArray[np.uint8], int]] = field(default_factory=dict, repr=False)

    def look(self, picture: Picture, reading: int) -> Look | None:
        """What was seen of it, if it was seen by the same rules."""
        return self.looks.get(_key(picture)) if reading == self.reading else None

    def image(self, picture: Picture, side: int, scaling: Scaling, reading: int) -> NDArray[np.uint8] | None:
        """Its image (side, side, 3 or 1) uint8, if it was decoded and scaled in this very way."""
        if (side, scaling, reading) != (self.side, self.scaling, self.reading):
            return None
        images, row = self.rows.get(_key(picture), (None, 0))
        return None if images is None else images[row]


NOTHING_KNOWN = KnownPictures()


def _key(picture: Picture) -> Key:
    return picture.path, picture.size, picture.modified_ns


def save(folder: Path, known: Known) -> None:
    """Writes it beside the arrays of a cache. Raises OSError."""
    pictures = [picture for part in known.parts.values() for picture, _ in part]
    looks = [look for part in known.parts.values() for _, look in part]
    facts = {
        "reading": known.reading,
        "side": known.side,
        "scaling": asdict(known.scaling),
        "is_exact": dict(known.is_exact),
        "parts": {name: len(part) for name, part in known.parts.items()},
    }
    np.savez(
        folder / FILE,
        facts=_bytes(json.dumps(facts)),
        paths=_bytes("\0".join(picture.path for picture in pictures)),
        files=np.asarray([(picture.size, picture.modified_ns) for picture in pictures], np.int64),
        sizes=np.asarray([(look.width, look.height) for look in looks], np.int64),
        modes=_bytes("\0".join(look.mode for look in looks)),
        transparent=np.asarray([look.transparent for look in looks], bool),
        bits=np.asarray([-1 if look.bits is None else look.bits for look in looks], np.int64),
        digests=np.frombuffer(b"".join(look.digest for look in looks), np.uint8),
    )


def _bytes(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode(errors="surrogateescape"), np.uint8)


def _texts(stored: NDArray[np.uint8]) -> list[str]:
    return stored.tobytes().decode(errors="surrogateescape").split("\0")


def load(cache: Path) -> KnownPictures:
    """What a cache knows; nothing of one that was made before this was kept, or is damaged."""
    with (
        suppress(OSError, ValueError, KeyError, TypeError),
        np.load(cache / FILE, allow_pickle=False) as stored,
    ):
        return _known(cache, dict(stored))
    return NOTHING_KNOWN


def _known(cache: Path, stored: Mapping[str, NDArray[np.uint8]]) -> KnownPictures:
    facts = json.loads(stored["facts"].tobytes())
    keys = [
        (path, *file) for path, file in zip(_texts(stored["paths"]), stored["files"].tolist(), strict=True)
    ]
    rows = dict[Key, tuple[NDArray[np.uint8], int]]()
    for (name, images, first), begin in zip(
        _arrays(cache, facts["parts"]), _begins(facts["parts"]), strict=True
    ):
        if images is not None and facts["is_exact"][name]:
            count = facts["parts"][name]
            rows |= {keys[begin + i]: (images, first + i) for i in range(count)}
    return KnownPictures(
        facts["reading"],
        facts["side"],
        Scaling(**facts["scaling"]),
        dict(zip(keys, _looks(stored), strict=True)),
        rows,
    )


def _begins(counts: Mapping[str, int]) -> Iterator[int]:
    begin = 0
    for count in counts.values():
        yield begin
        begin += count


def _arrays(cache: Path, counts: Mapping[str, int]) -> Iterator[tuple[str, NDArray[np.uint8] | None, int]]:
    """Each part with the array that its images lie in, mapped, and the row of the first of them."""
    train = np.load(cache / "train-images.npy", mmap_mode="r", allow_pickle=False)
    for name, count in counts.items():
        if name == "test":
            test = cache / "test-images.npy"
            yield name, np.load(test, mmap_mode="r", allow_pickle=False) if count else None, 0
        else:
            yield name, train, 0 if name == "train" else counts["train"]


def _looks(stored: Mapping[str, NDArray[np.uint8]]) -> list[Look]:
    digests = stored["digests"].reshape(len(stored["bits"]), -1)
    return [
        Look(width, height, mode, transparent, None if bits < 0 else bits, digest.tobytes())
        for (width, height), mode, transparent, bits, digest in zip(
            stored["sizes"].tolist(), _texts(stored["modes"]), stored["transparent"].tolist(),
            stored["bits"].tolist(), digests, strict=True,
        )
    ]  # fmt: skip


def _pointer(caches: Path, folder: str) -> Path:
    return caches / f"last-of-{hashlib.sha256(folder.encode(errors='surrogateescape')).hexdigest()[:24]}"


def remember(caches: Path, folder: str, cache: Path) -> None:
    """Notes that this cache is the last that was made of a folder. Raises OSError."""
    new = _pointer(caches, folder).with_suffix(f".{cache.name}")
    new.write_text(cache.name, encoding="utf-8")
    new.replace(_pointer(caches, folder))


def of_folder(caches: Path, folder: str) -> KnownPictures:
    """What the last cache of a folder knows; nothing where there is none."""
    with suppress(OSError, ValueError):
        return load(caches / _pointer(caches, folder).read_text(encoding="utf-8"))
    return NOTHING_KNOWN
