"""A folder of pictures as a data set: what is listed and looked at becomes arrays of squares.

Reads the folder, writes nothing. Called by trainer/data/sources.py; the parts of the work are in
folder_listing.py (names), survey.py (sizes, copies, damage) and images.py (one picture).
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from space.errors import DataError
from trainer.data import images as image_files, survey as surveys
from trainer.data.contents import Contents, Part, Source
from trainer.data.folder_listing import Listing, list_folder, readable
from trainer.data.images import Fit, Picture, Scaling
from trainer.data.known_pictures import Known, KnownPictures
from trainer.data.process_pool import over_parts
from trainer.data.survey import NAMED, Look, Survey

DECODING = 4  # part of the cache key of a folder: raise it when its files are read in another way
Looked = list[tuple[Picture, Look]]


@dataclass(frozen=True)
class Wanted:
    """How a folder is to be read: pixels a side (None: by its pictures), fit, and without damaged ones."""

    image_size: int | None = None
    fit: Fit = "pad"
    skip_damaged: bool = False


def source(root: Path, wanted: Wanted) -> Source:
    """The folder as something that can be read. Raises DataError for one that cannot be trained on."""
    listing = list_folder(root)
    read, keys = partial(_read, listing, wanted), partial(_keys, listing, wanted)
    return Source(f"folder:{root}", root.name, _key(listing, wanted), read, keys)


def _keys(listing: Listing, wanted: Wanted, contents: Contents) -> tuple[str, ...]:
    """The keys of what was read: with the side that came out and, where nothing was damaged, without skipping
    first, then those of the other ways to ask for the same."""
    is_damaged = bool(contents.survey and contents.survey.damaged)
    exact = replace(wanted, image_size=contents.train.images.shape[1])
    asked = [replace(one, skip_damaged=skip) for one in (exact, wanted) for skip in (False, True)]
    return tuple(dict.fromkeys(_key(listing, one) for one in asked if one.skip_damaged or not is_damaged))


def _key(listing: Listing, wanted: Wanted) -> str:
    """Changes with every file's name, size and time, with what is told of others, and how files are read."""
    left_out = sorted(listing.left_out.items())
    digest = hashlib.sha256(repr((DECODING, wanted, listing.classes, left_out)).encode())
    if listing.folders or listing.without:
        digest.update(repr((listing.folders, listing.without)).encode())
    start = len(str(listing.root / "x")) - 1
    for files in listing.parts.values():
        digest.update(f"{len(files)}\n".encode())
        for file in files:
            name = file.path[start:]
            digest.update(f"{name}\0{file.size}\0{file.modified_ns}\n".encode(errors="surrogateescape"))
    return f"folder-{digest.hexdigest()[:24]}"


def _read(listing: Listing, wanted: Wanted, known: KnownPictures) -> Contents:
    """Images (N, size, size, 1) uint8 where all training images are grey, else (N, size, size, 3).

    Files of which `known` knows what is needed are not opened. Raises DataError that names all damaged
    pictures, unless they are to be skipped.
    """
    damage = dict[str, str]()
    looked = {name: _look(files, damage, known) for name, files in listing.parts.items()}
    _require_some(listing, looked["train"], damage)
    training = [look for _, look in looked["train"]]
    side = wanted.image_size or surveys.usual_side(training)
    scaling = Scaling(wanted.fit, surveys.depth_of(training))
    images = dict[str, NDArray[np.uint8]]()
    for name in looked:
        looked[name], images[name] = _decode(looked[name], side, scaling, damage, known)
    if damage and not wanted.skip_damaged:
        raise DataError(_damage_line(listing, damage))
    _require_some(listing, looked["train"], damage)
    is_exact = dict.fromkeys(looked, True)
    if image_files.grey(images["train"]) and image_files.grey(images["validation"]):
        is_exact["test"] = image_files.grey(images["test"])
        images = {name: _grey(part) for name, part in images.items()}
    parts = {name: Part(images[name], _labels(looked[name])) for name in looked}
    survey = _survey(listing, looked, side, scaling, damage)
    same = surveys.groups([look for name in ("train", "validation") for _, look in looked[name]])
    return Contents(
        listing.classes,
        parts["train"],
        parts["test"] if looked["test"] else None,
        validation=parts["validation"] if looked["validation"] else None,
        groups=None if same is None else np.asarray(same, np.int64),
        scaling=scaling,
        survey=survey,
        known=Known(DECODING, side, scaling, is_exact, looked),
    )


def _look(files: Sequence[Picture], damage: dict[str, str], known: KnownPictures) -> Looked:
    before = {file.path: known.look(file, DECODING) for file in files}
    new = [file for file in files if before[file.path] is None]
    seen = before | dict(zip((file.path for file in new), surveys.look(new), strict=True))
    looks = [look for file in files if (look := seen[file.path])]
    damage |= {file.path: look.damage for file, look in zip(files, looks, strict=True) if look.damage}
    return [(file, look) for file, look in zip(files, looks, strict=True) if not look.damage]


def _decode(
    looked: Looked, side: int, scaling: Scaling, damage: dict[str, str], known: KnownPictures
) -> tuple[Looked, NDArray[np.uint8]]:
    """Those that could be decoded, and their images (N, side, side, 3) uint8."""
    decode = partial(image_files.decode_part, size=side, mode="RGB", scaling=scaling)
    images, failures, new = np.empty((len(looked), side, side, 3), np.uint8), dict[int, str](), list[int]()
    for row, (file, _) in enumerate(looked):
        before = known.image(file, side, scaling, DECODING)
        if before is None:
            new.append(row)
        else:
            images[row] = before  # a grey one is the same in all three channels
    done = 0
    for part, failed in over_parts(decode, [looked[row][0].path for row in new], "scaling pictures"):
        rows = new[done : done + len(part)]
        images[rows] = part
        failures |= {rows[place]: why for place, why in failed.items()}
        done += len(part)
    if not failures:
        return looked, images
    damage |= {looked[row][0].path: why for row, why in failures.items()}
    kept = [row for row in range(len(looked)) if row not in failures]
    return [looked[row] for row in kept], images[kept]


def _grey(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images (N, side, side, 3) uint8 as grey ones, (N, side, side, 1) uint8."""
    if image_files.grey(images):
        return np.ascontiguousarray(images[..., :1])
    from PIL import Image

    rows = [np.asarray(Image.fromarray(image).convert("L")) for image in images]
    return np.stack(rows)[..., None]


def _labels(looked: Looked) -> NDArray[np.int64]:
    """(N,) int64, in the order of the pictures."""
    return np.asarray([picture.label for picture, _ in looked], np.int64)


def _require_some(listing: Listing, training: Looked, damage: dict[str, str]) -> None:
    left = Counter(picture.label for picture, _ in training)
    gone = [name for label, name in enumerate(listing.classes) if not left[label]]
    if gone:
        raise DataError(f"no picture of the class {gone[0]!r} can be read: {_damage_line(listing, damage)}")


def _damage_line(listing: Listing, damage: dict[str, str]) -> str:
    """One line: the count, the first ten by name with what is wrong, and what to do."""
    named = [f"{surveys.relative(path, listing.root)} ({why})" for path, why in list(damage.items())[:NAMED]]
    more = f" and {len(damage) - NAMED:,} more" if len(damage) > NAMED else ""
    count = f"{len(damage):,} pictures" if len(damage) > 1 else "a picture"
    return (
        f"cannot read {count} of {listing.root}: {', '.join(named)}{more};"
        " replace or remove them, or leave them out by --skip-damaged"
    )


def _survey(
    listing: Listing, looked: dict[str, Looked], side: int, scaling: Scaling, damage: dict[str, str]
) -> Survey:
    files = {name: [file for file, _ in part] for name, part in looked.items()}
    looks = {name: [look for _, look in part] for name, part in looked.items()}
    training = looks["train"]
    same = surveys.groups(training) or []
    return Survey(
        counts={name: surveys.class_counts(part, listing.classes) for name, part in files.items() if part},
        smallest=(min(look.width for look in training), min(look.height for look in training)),
        largest=(max(look.width for look in training), max(look.height for look in training)),
        modes=dict(Counter(look.mode for look in training).most_common()),
        transparent=sum(look.transparent for look in training),
        deep=sum(look.bits is not None for look in training),
        bits=scaling.bits,
        side=side,
        fit=scaling.fit,
        copies=sum(first != row for row, first in enumerate(same)),
        across_classes=surveys.across_classes(files["train"], training, listing.root),
        seen_before={name: surveys.seen_before(looks[name], training) for name in ("validation", "test")}
        | {"test in validation": surveys.seen_before(looks["test"], looks["validation"])},
        damaged=tuple((surveys.relative(path, listing.root), why) for path, why in damage.items()),
        left_out={readable(kind): count for kind, count in listing.left_out.most_common()},
        folders=tuple(map(readable, listing.folders)),
        without=listing.without,
    )
