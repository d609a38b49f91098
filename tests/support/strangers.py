"""Documents as strangers may send them: true ones, damaged and malicious, and the doors that they come to.

`python tests/support/strangers.py 100000` holds all doors against so many inputs in all, and says of each how
long one took and what memory at most. tests/search/test_strangers.py tries few of them.
"""

import json
import random
import resource
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from exported_samples import make_sample
from hypothesis import HealthCheck, Phase, given, settings, strategies as st
from worker_samples import make_config

from search.commands.options import study_name
from search.formats import check, choice, write
from search.formats.write import ENDING, FORMS
from search.launcher import enqueue
from search.recording.spool import SpooledTrial
from search.study import reader, verification
from search.study.config import StudyConfig
from search.training import contenders, progress_file, run as training_run, train as training
from search.training.run import LearningCurve
from space import architecture, cost, space as spaces
from space.errors import ParsimonyError
from storage import url
from trainer import checkpoint, weights
from trainer.outcome import Outcome
from trainer.recipe.document import Recipe

DOORS = 20  # and so many parts of the inputs
SECONDS = 2.0  # of a processor, for one input
MEMORY = 500 << 20  # bytes that one input may add

# What stands where something else was expected.
NASTY: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**40, -(10**40)),
    *(0.5, -0.0, 1e308, 1e-320, float("nan"), float("inf")),
    *("", "a", " ", "\x00", "\x1b[31m", "\ud800", "\u202e", "x" * 5_000, "9" * 5_000),
    *("../../etc/passwd", "/etc/passwd", "file:///etc/passwd", "<script>alert(1)</script>"),
    *([], {}, [[]], [{}], {"": None}, [0] * 2_000, [None] * 50, {"a": {"a": {}}}),
)
BYTES = (
    *(b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"[" * 2_000, b'{"a":' * 2_000, b"a." * 2_000, b"9" * 6_000),
    *(b"{", b'"', b"'''", b"\n", b"=", b"1e999999", b"-", b"NaN", b"\\u0000", b"\\ud800", b"<script>"),
)


def damaged(seed: bytes, chance: random.Random) -> bytes:
    """Some bytes of it changed, left out, doubled or put in."""
    found = bytearray(seed)
    for _ in range(chance.randint(1, 4)):
        at, end = sorted((chance.randint(0, len(found)), chance.randint(0, len(found))))
        act = chance.randrange(6)
        if act == 0 and found:
            found[min(at, len(found) - 1)] ^= 1 << chance.randrange(8)
        elif act == 1:
            del found[at : min(end, at + chance.choice((1, 10, 1_000)))]
        elif act == 2:
            found[at:at] = chance.choice(BYTES)
        elif act == 3:
            found[at:at] = found[at : min(end, at + 1_000)]
        elif act == 4:
            del found[at:]
        else:
            found[at:at] = chance.randbytes(chance.choice((1, 8, 64)))
    return bytes(found)


def bent(document: Any, chance: random.Random) -> Any:
    """A document of JSON with some values that are others, left out or added."""
    found = json.loads(json.dumps(document))
    for _ in range(chance.randint(1, 3)):
        part = found
        while isinstance(part, (dict, list)) and part:
            key = chance.choice(list(part) if isinstance(part, dict) else range(len(part)))
            if not isinstance(part[key], (dict, list)) or not part[key] or chance.random() < 0.3:
                _bend(part, key, chance)
                break
            part = part[key]
    return found


def _bend(part: Any, key: Any, chance: random.Random) -> None:
    act = chance.randrange(4)
    if act == 0 and isinstance(part, dict):
        del part[key]
    elif act == 1 and isinstance(part, dict):
        part[chance.choice(("", "x", "__class__", "\x00", "format"))] = deepcopy(chance.choice(NASTY))
    elif act == 2 and isinstance(part[key], (int, float)):
        part[key] = part[key] * chance.choice((-1, 0, 2, 1_000, 10**12, 0.5)) + chance.choice((0, 1))
    else:
        part[key] = deepcopy(chance.choice(NASTY))


@dataclass(frozen=True)
class Door:
    """Where one kind of document comes in: a true one, and what opens an input of bytes in a folder."""

    name: str
    seed: bytes
    open: Callable[[bytes, Path], object]
    refuses: tuple[type[BaseException], ...] = (ParsimonyError,)
    is_json: bool = True

    def input(self, chance: random.Random) -> bytes:
        """A true document, damaged or bent; now and then bytes of no kind."""
        if chance.random() < 0.03:
            return chance.randbytes(chance.randrange(300))
        if self.is_json and chance.random() < 0.7:
            return json.dumps(bent(json.loads(self.seed), chance)).encode()
        return damaged(self.seed, chance)

    def enter(self, given: bytes, folder: Path) -> None:
        """Raises what is no clean error."""
        try:
            self.open(given, folder)
        except self.refuses as error:
            assert type(error) is not ParsimonyError or str(error)
            if isinstance(error, ParsimonyError):
                assert "\n" not in str(error), f"more than a line: {error}"


def _file(name: str, use: Callable[[Path], object], given: bytes, folder: Path) -> object:
    path = folder / name
    path.write_bytes(given)
    return use(path)


def _network(path: Path) -> None:
    found = architecture.load(path)
    cost.total(found)
    enqueue._starter("a stranger's", found, make_config())


def _checkpoint(path: Path) -> None:
    checkpoint._parsed(path, memoryview(path.read_bytes()))


def _resumed(name: str, given: bytes, folder: Path) -> None:
    job = _Job(folder)
    (folder / "0.json").unlink(missing_ok=True)
    (folder / name).write_bytes(given)
    (folder / "0.safetensors").touch()
    training_run._done(job, 0)  # type: ignore[arg-type]
    training._tested(job, [LearningCurve(0, (), Outcome(0.5, 0.5, 0.7, 1, 1.0, 9.0, 9))])  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Job:
    folder: Path

    def path(self, seed: int, ending: str) -> Path:
        return self.folder / f"{seed}.{ending}"


def _name(given: bytes, _folder: Path) -> None:
    text = given.decode("utf-8", "surrogateescape")
    reader.split_reference(text)
    name = study_name(text)
    assert "/" not in name
    assert "<" not in name
    assert name.isprintable()


def doors(folder: Path) -> list[Door]:
    """All of them; `folder` is for what true documents are made of."""
    sample = make_sample(f"sqlite:///{folder / 's.db'}", folder / "data")
    network = json.dumps(sample.document.architecture.document()).encode()
    export = sample.document.model_dump_json().encode()
    config = json.dumps(make_config().document()).encode()
    recipe = make_config().recipe.model_dump_json(exclude_none=True).encode()
    space = (Path(spaces.__file__).parent / "default.toml").read_bytes()
    row = {
        "epoch": 1,
        "epochs": 2,
        "train_loss": 1.0,
        "validation_loss": 1.0,
        "validation_accuracy": 0.5,
        "learning_rate": 0.1,
        "seconds": 1.0,
        "images_per_second": 9.0,
    }
    outcome = {
        "accuracy": 0.5,
        "best_accuracy": 0.5,
        "loss": 1.0,
        "epochs": 1,
        "seconds": 1.0,
        "images_per_second": 9.0,
    }
    resumed = json.dumps(
        {
            "seed": 0,
            "epochs": [row],
            "outcome": outcome | {"validation_images": 9},
            "seeds": [{"seed": 0, "validation": outcome | {"validation_images": 9}, "test": {"seed": 0}}],
        }
    )
    moment = json.dumps(asdict(progress_file.TrainingMoment(0, 1, 3, 2, 9, 0.5, 0.2))).encode()
    claim = {"token": 1, "study_id": 1, "ordinal": 1, "worker": "w"}
    end = {"state": "completed", "reason": None, "outcome": outcome}
    epoch = {name: row[name] for name in row if name not in ("epochs", "images_per_second")}
    owed = {"claim": claim, "candidate_id": 1, "number": 0, "epochs": [epoch], "end": end}
    known = (
        ValueError,
        KeyError,
        TypeError,
        RecursionError,
    )  # of spool.take_in, which leaves such a file where it is
    return [
        Door("architecture", network, partial(_file, "a.json", _network)),
        Door("best.json", export, partial(_file, "best.json", verification.verify)),
        Door("space TOML", space, partial(_file, "s.toml", spaces.load), is_json=False),
        Door("recipe JSON", recipe, partial(_file, "r.json", Recipe.load)),
        Door("recipe TOML", _toml(json.loads(recipe)), partial(_file, "r.toml", Recipe.load), is_json=False),
        Door("configuration in a store", config, lambda given, _: StudyConfig.from_record(_values(given))),
        Door("progress of a training", moment, partial(_file, "progress.json", _progress)),
        Door("resumed training", resumed.encode(), partial(_resumed, "0.json")),
        Door("result of a training", resumed.encode(), partial(_resumed, "result.json")),
        Door("result of a confirmation", resumed.encode(), partial(_file, "result.json", _confirmed)),
        Door("spool", json.dumps(owed).encode(), lambda given, _: SpooledTrial.parse(given.decode()), known),
        Door("study name", "Nacht 7_ä.x".encode(), _name, (ValueError,), is_json=False),
        Door(
            "URL of a store",
            b"postgresql://me:pw@h:5432/d?sslmode=require&pgbouncer=true",
            lambda given, _: url.parse(given.decode("utf-8", "replace")),
            is_json=False,
        ),
        Door("checkpoint", _saved(), partial(_file, "c.checkpoint", _checkpoint), is_json=False),
        Door(
            "weights",
            sample.weights.read_bytes(),
            partial(_file, "w.safetensors", weights.load),
            is_json=False,
        ),
        Door("header of weights", _header(sample.weights), partial(_with_header, sample.weights)),
    ]


def export_doors(folder: Path) -> list[Door]:
    """Those of networks with their weights, in each form whose packages are there; takes some seconds."""
    sample, found = make_sample(f"sqlite:///{folder / 's.db'}", folder / "data"), list[Door]()
    chosen = choice.ChosenWeights(sample.weights, choice._brief(sample.candidate))
    for form in FORMS:
        path = folder / form / f"best{ENDING[form]}"
        path.parent.mkdir()
        try:
            write.write(form, path, sample.document, chosen, sample.images)
        except ParsimonyError:
            continue  # a package of an extra is not there
        opened = partial(_file, f"f{ENDING[form]}", check.verify)
        found.append(Door(f"export {form}", path.read_bytes(), opened, is_json=False))
    return found


def _values(given: bytes) -> Any:
    """What a store gives: JSON of any kind."""
    try:
        return json.loads(given)
    except (ValueError, RecursionError):
        raise ParsimonyError("no JSON, which no column of JSON holds") from None


def _progress(path: Path) -> None:
    found = progress_file.read(path.parent)
    if found:
        assert found.position >= 0.0
        f"{found.epoch:d} {found.epochs:d} {found.accuracy or 0.0:.2f} {found.seed:d}"


def _confirmed(path: Path) -> None:
    contenders.read_result(path)


def _toml(document: dict[str, Any]) -> bytes:
    lines = [
        f"{name} = {json.dumps(value)}"
        for name, value in document.items()
        if not isinstance(value, (dict, list))
    ]
    return "\n".join(lines).encode()


def _saved() -> bytes:
    """The archive of a checkpoint, whose digest anyone can make anew."""
    with tempfile.NamedTemporaryFile() as file:
        torch.save(
            {"identity": {}, "step": 1, "seconds": 1.0, "reports": [], "state": {"w": torch.zeros(4)}},
            file.name,
        )
        return Path(file.name).read_bytes()


def _header(path: Path) -> bytes:
    """The metadata of a safetensors file."""
    contents = path.read_bytes()
    (length,) = struct.unpack("<Q", contents[:8])
    return json.dumps(json.loads(contents[8 : 8 + length])["__metadata__"]).encode()


def _with_header(path: Path, given: bytes, folder: Path) -> None:
    """The weights with this metadata, whose values are texts."""
    contents = path.read_bytes()
    (length,) = struct.unpack("<Q", contents[:8])
    head = json.loads(contents[8 : 8 + length])
    try:
        metadata = json.loads(given)
    except (ValueError, RecursionError):
        metadata = {"format": weights.FORMAT, "architecture": given.decode("latin-1")}
    head["__metadata__"] = metadata
    new = json.dumps(head).encode()
    file = folder / "h.safetensors"
    file.write_bytes(struct.pack("<Q", len(new)) + new + contents[8 + length :])
    weights.load(file)


@dataclass
class Worst:
    """Of one door: how many inputs, the longest in seconds of a processor, the most memory one added."""

    inputs: int = 0
    seconds: float = 0.0
    memory: int = 0


def measured(door: Door, given: bytes, folder: Path, worst: Worst) -> None:
    """Opens the door to one input. Raises AssertionError where it takes too long or too much."""
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10, time.process_time()
    door.enter(given, folder)
    seconds = time.process_time() - started
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10) - before
    worst.inputs += 1
    worst.seconds, worst.memory = max(worst.seconds, seconds), max(worst.memory, memory)
    assert seconds < SECONDS, f"{seconds:.1f} s"
    assert memory < MEMORY, f"{memory >> 20} MB"


def hold(door: Door, count: int, folder: Path, worst: Worst) -> None:
    """Holds a door against so many inputs. Raises what the first that is not met cleanly raises."""

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(0, 2**64))
    def meets(seed: int) -> None:
        measured(door, door.input(random.Random(seed)), folder, worst)

    meets()


def main(total: int) -> None:
    """Holds all doors against so many inputs in all, and prints a line for each."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "place")
        place.mkdir()
        made = [Path(folder, part) for part in ("documents", "exports")]
        for part in made:
            part.mkdir()
        for door in chain(doors(made[0]), export_doors(made[1])):
            worst, said = Worst(), "clean"
            try:
                hold(door, total // DOORS, place, worst)
            except Exception as error:  # goes on with the other doors
                said = f"FAILED: {type(error).__name__}: {error}"
            print(
                f"{door.name}: {worst.inputs:,} inputs, {worst.seconds:.2f} s and"
                f" {worst.memory >> 20} MB at most, {said}",
                flush=True,
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000)
