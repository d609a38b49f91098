"""Data sets that another machine has prepared: found by their digest, fetched whole, verified before use.

A prepared data set is a folder of trainer/data/dataset.py's cache. It is found in DATA_DIR/cache by the
digest that a study has stored, else copied from a shared folder (another machine's data folder, or its cache)
or from the launcher's address (search/launcher/data_server.py), into DATA_DIR/cache/fetched-DIGEST. Images
and labels are hashed again before the folder gets its name; of the other files the sha256 that the server
names. A study that knows its test images takes no folder that holds others. Nothing is unpickled, and only
files of FILES are taken. Called by search/study/config.py for workers.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from http.client import BadStatusLine, HTTPException
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from space.errors import DataError
from trainer.data.dataset import UNFINISHED, Dataset, digest_of, open_prepared, test_digest_of
from trainer.data.file_lock import locked
from trainer.messages import one_line

FACTS = "facts.json"
FILES = (FACTS, "train-images.npy", "train-labels.npy", "test-images.npy", "test-labels.npy", "groups.npy")
NEEDED = FILES[:3]
# What a study may know of its images beside their digest, and how facts that say it are compared.
AGREED: dict[str, Callable[[Any], object]] = {"fit": str, "own_validation": bool}
DIGEST = re.compile(r"[0-9a-f]{64}")
MANIFEST = "manifest.json"
MANIFEST_BYTES = 10_000  # at most, of a few names and hashes
CONNECT_SECONDS = 30.0
CHUNK = 1 << 20

# ValueError and UnicodeError, which is one: an address that is none.
UNREADABLE = (OSError, HTTPException, ValueError)


def find(cache: Path, digest: str, wanted: Mapping[str, object] | None = None) -> Path | None:
    """The folder of a cache that holds the images of this digest, as its facts say; None for none.

    The digest is of training and validation images, which other test images, class names or ways to scale
    may go with. One with other test images than the `test_digest` that is `wanted` is none, where that is
    known; one without any is, if there is no better. Of several folders the one is taken that agrees with
    `wanted` in most of AGREED, of these the one that load() opened last. One that is still being filled is
    none: its files are neither all there nor verified.
    """
    wanted, tests = wanted or {}, _tests(wanted)
    found = list[tuple[int, float, Path]]()
    for facts in sorted(cache.glob(f"*/{FACTS}")):
        if facts.parent.name.endswith(UNFINISHED):
            continue
        with suppress(OSError, ValueError, AttributeError):
            said = json.loads(facts.read_text(encoding="utf-8"))
            if said.get("digest") != digest:
                continue
            there = test_digest_of(facts.parent) if tests else None
            if there in (None, tests):
                differ = len(_differing(said, wanted)) + (there != tests)
                found.append((-differ, facts.stat().st_mtime, facts.parent))
    return max(found)[2] if found else None


def _tests(wanted: Mapping[str, object] | None) -> str | None:
    """The digest of the test images, where it is wanted."""
    found = (wanted or {}).get("test_digest")
    return found if isinstance(found, str) else None


def _differing(facts: Mapping[str, Any], wanted: Mapping[str, object]) -> list[str]:
    """In which of AGREED the facts of a folder are others than wanted; what one of the two does not know is
    not."""
    known = {**facts, **(facts.get("scaling") or {})}
    return [
        name
        for name in AGREED
        if known.get(name) is not None and wanted.get(name) not in (None, AGREED[name](known[name]))
    ]


def manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """The files of a prepared data set with their size in bytes and sha256. Raises OSError."""
    there = [folder / name for name in FILES if (folder / name).is_file()]
    return {path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)} for path in there}


def opened(
    data_dir: Path,
    digest: str,
    source: str | None,
    spec: str,
    name: str,
    wanted: Mapping[str, object] | None = None,
) -> Dataset | None:
    """The data set of this digest out of DATA_DIR's cache, or of `source`, a folder or http:// address; of
    several the one that find() prefers.

    None where neither has it. Raises DataError for one that is damaged, or that there is no space for.
    """
    wanted = wanted or {}
    folder = find(data_dir / "cache", digest, wanted)
    if folder is None and source:
        folder = fetch(source, digest, data_dir / "cache", wanted)
    return open_prepared(folder, spec, name) if folder else None


def fetch(source: str, digest: str, cache: Path, wanted: Mapping[str, object] | None = None) -> Path | None:
    """Copies the data set into the cache and returns its folder; None where the source does not have it.

    Raises DataError for a source that cannot be read, and for files that are not what they should be.
    """
    wanted, tests = wanted or {}, _tests(wanted)
    target = cache / f"fetched-{digest[:32]}"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with locked(cache / f"{target.name}.lock"):
            if there := find(cache, digest, wanted):  # another process was first
                return there
            if target.is_dir() and tests:  # with other test images
                target = target.with_name(f"{target.name}-{tests[:16]}")
            return target if target.is_dir() else _fetch(source, digest, target, wanted)
    except UNREADABLE as error:
        raise DataError(f"cannot fetch the images of the study from {source}: {_reason(error)}") from error


def _reason(error: Exception) -> object:
    if isinstance(error, BadStatusLine) and not isinstance(error, OSError):
        return "what listens there is no web server"
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or one_line(error)


def _fetch(source: str, digest: str, target: Path, wanted: Mapping[str, object]) -> Path | None:
    new = target.with_name(target.name + UNFINISHED)
    shutil.rmtree(new, ignore_errors=True)  # a killed process may have left one
    new.mkdir()
    try:
        if source.startswith(("http://", "https://")):
            is_taken = _from_web(source, digest, new)
        else:
            is_taken = _from_folder(source, digest, new, wanted)
        if not is_taken:
            return None
        _require(new, digest, _tests(wanted), source)
        new.rename(target)
        return target
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _from_folder(source: str, digest: str, new: Path, wanted: Mapping[str, object]) -> bool:
    """Copies the files, if the folder, or the cache in it, has them."""
    shared = Path(source).expanduser()
    if not shared.is_dir():
        raise DataError(f"--data-from {source}: there is no such folder")
    found = find(shared, digest, wanted) or find(shared / "cache", digest, wanted)
    if found is None:
        return False
    for name in FILES:
        if (found / name).is_file():
            shutil.copyfile(found / name, new / name)
    return True


def _from_web(source: str, digest: str, new: Path) -> bool:
    """Loads the files that the manifest names, and holds them against it."""
    opener = build_opener(ProxyHandler({}))  # the launcher is near; whatever proxy is set is for elsewhere
    place = f"{source.rstrip('/')}/{digest}"
    try:
        with opener.open(f"{place}/{MANIFEST}", timeout=CONNECT_SECONDS) as answer:
            listed = _listed(answer.read(MANIFEST_BYTES + 1), source)
    except URLError as error:
        if getattr(error, "code", None) == 404:
            return False
        raise
    need = sum(size for size, _ in listed.values())
    if need > shutil.disk_usage(new).free:
        raise DataError(f"no space for {need:,} bytes of images in {new.parent}; choose another --data-dir")
    for name, (size, sha256) in listed.items():
        with (
            opener.open(f"{place}/{name}", timeout=CONNECT_SECONDS) as answer,
            (new / name).open("wb") as file,
        ):
            _copy(answer, file, size)
        if _sha256(new / name) != sha256:
            raise DataError(f"{name} from {source} is damaged: its sha256 is another than the server said")
    return True


def _listed(text: bytes, source: str) -> dict[str, tuple[int, str]]:
    """Size and sha256 by name. Raises DataError for what no server of ours says."""
    try:
        if len(text) > MANIFEST_BYTES:
            raise ValueError
        found: Mapping[str, Any] = json.loads(text)
        listed = {name: (int(of["bytes"]), str(of["sha256"])) for name, of in found.items()}
        if not set(NEEDED) <= set(listed) <= set(FILES) or any(size < 0 for size, _ in listed.values()):
            raise ValueError
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise DataError(f"{source} does not answer as a launcher with --serve-data does") from None
    return listed


def _copy(answer: Any, file: Any, size: int) -> None:
    """No byte more than was said."""
    while size > 0 and (chunk := answer.read(min(CHUNK, size))):
        file.write(chunk)
        size -= len(chunk)


def _require(folder: Path, digest: str, test_digest: str | None, source: str) -> None:
    """Raises DataError where images and labels of a folder are not those of the digests."""
    if digest_of(folder) != digest:
        raise DataError(f"{source} has damaged images, or others than those of the study")
    if test_digest and test_digest_of(folder, as_told=False) not in (None, test_digest):
        raise DataError(f"{source} has damaged test images, or others than those of the study")


def _sha256(path: Path) -> str:
    hashed = hashlib.sha256()
    for chunk in _chunks(path):
        hashed.update(chunk)
    return hashed.hexdigest()


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk
