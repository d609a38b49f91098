"""The training that `sitecustomize` puts in place of torch's: equal numbers for equal seeds, and faults.

`orders.json`, read before each training: {"batches": 4, "seconds": 0.02, "acts": [{"act": "raise",
"share": [0.0, 0.25], "once": true}]}. It falls on networks whose fingerprint lies in its share;
with "once" on their first attempt alone; "times" bounds how often it happens in the whole search.
"""

import ctypes
import json
import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from search.worker.training_function import FinalScore
from space.errors import DivergedError
from trainer.outcome import EpochReport, Outcome

ADDRESS_SPACE = 256 << 20  # bytes that a training may take beyond what its process has
CHUNK = 32 << 20


def accuracy_of(fingerprint: str, seed: int) -> float:
    """0.3..0.9, by network and seed alone."""
    digest = sha256(f"{fingerprint} {seed}".encode()).digest()
    return 0.3 + 0.6 * int.from_bytes(digest[:6], "big") / 2**48


def make_training_function(config: Any, *_images: Any, **_more: Any) -> tuple[str, Any]:
    """In place of search.worker.training_function.make_training_function: no torch, no device."""
    return "fake", Training(Path(os.environ["FAKE_TRAINING"]), config.recipe.epochs)


class Training:
    """As a Train of the worker: it calls back after batches and epochs, goes on from a checkpoint, and says
    of a final training what it would on test images: half its accuracy."""

    def __init__(self, folder: Path, epochs: int) -> None:
        self.folder, self.epochs = folder, epochs

    def __call__(
        self,
        architecture: Any,
        seed: int,
        *,
        callbacks: Any,
        recipe: Any = None,
        checkpoint: Path | None = None,
        on_test: Any = None,
    ) -> Outcome:
        epochs = recipe.epochs if recipe else self.epochs
        orders = json.loads((self.folder / "orders.json").read_text())
        fingerprint = architecture.fingerprint
        act = self._act(orders, fingerprint)
        final = accuracy_of(fingerprint, seed)
        done = epochs_in(checkpoint, fingerprint, seed)
        if done and callbacks.on_continue:
            callbacks.on_continue([self._report(epoch, epochs, final) for epoch in range(1, done + 1)])
            self._note(f"continued {fingerprint}")
        steps = orders["batches"] * epochs
        for epoch in range(done + 1, epochs + 1):
            for batch in range(1, orders["batches"] + 1):
                time.sleep(orders["seconds"])  # the work of a batch
                if callbacks.on_batch:
                    callbacks.on_batch((epoch - 1) * orders["batches"] + batch, steps)
            if epoch == done + 1 and act:
                self._note(f"{act} {fingerprint}")
                ACTS[act]()
            if callbacks.on_epoch:
                callbacks.on_epoch(self._report(epoch, epochs, final))
            if checkpoint and epoch < epochs:
                keep(checkpoint, {"fingerprint": fingerprint, "seed": seed, "epochs": epoch})
        self._note(f"trained {fingerprint}")
        if on_test:
            self._note(f"tested {fingerprint}")
            on_test(FinalScore(final / 2, 1.0, 1_000))
        return Outcome(final, final, 1.0, epochs, 0.1 * epochs, 100.0, 100)

    def _report(self, epoch: int, epochs: int, final: float) -> EpochReport:
        reached = final * (0.8 + 0.2 * epoch / epochs)
        return EpochReport(epoch, epochs, 1.0, 1.0, reached, 0.1, 0.1, 100.0)

    def _act(self, orders: dict[str, Any], fingerprint: str) -> str | None:
        place = int.from_bytes(sha256(fingerprint.encode()).digest()[:4], "big") / 2**32
        for order in orders.get("acts", ()):
            low, high = order["share"]
            if low <= place < high and self._is_due(order, fingerprint):
                return str(order["act"])
        return None

    def _is_due(self, order: dict[str, Any], fingerprint: str) -> bool:
        """Claims one of the times that this may happen; a file is made by one process only."""
        if order.get("once") and not self._first(f"{order['act']}-{fingerprint}"):
            return False
        times = order.get("times")
        return times is None or any(self._first(f"{order['act']}.{turn}") for turn in range(times))

    def _first(self, name: str) -> bool:
        with suppress(FileExistsError):
            (self.folder / name).touch(exist_ok=False)
            return True
        return False

    def _note(self, line: str) -> None:
        with (self.folder / "trained.log").open("a") as log:
            log.write(f"{line} {os.getpid()}\n")


def keep(checkpoint: Path, contents: dict[str, Any]) -> None:
    """Writes a checkpoint, whole or not at all; a disk that is full is no reason to stop training."""
    with suppress(OSError):
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        new = checkpoint.with_name(f".{checkpoint.name}.{os.getpid()}")
        new.write_text(json.dumps(contents))
        new.rename(checkpoint)


def epochs_in(checkpoint: Path | None, fingerprint: str, seed: int) -> int:
    """How many epochs of this very training a checkpoint holds."""
    with suppress(OSError, ValueError):
        found = json.loads(checkpoint.read_text()) if checkpoint else {}
        if (found.get("fingerprint"), found.get("seed")) == (fingerprint, seed):
            return int(found["epochs"])
    return 0


def hang() -> None:
    threading.Event().wait()


def fail() -> None:
    raise RuntimeError("this training was told to fail")


def diverge() -> None:
    raise DivergedError("training loss is nan in epoch 1; a lower learning_rate may help")


def eat_memory() -> None:
    """Takes memory until the kernel refuses: a real MemoryError."""
    with limited():
        eaten = []
        while True:
            eaten.append(bytearray(CHUNK))


@contextmanager
def limited() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def be_killed() -> None:
    """As by the kernel when memory is short."""
    os.kill(os.getpid(), signal.SIGKILL)


def crash() -> None:
    """Reads address 0: SIGSEGV."""
    ctypes.string_at(0)


ACTS: dict[str, Callable[[], None]] = {
    "hang": hang,
    "raise": fail,
    "diverge": diverge,
    "memory": eat_memory,
    "killed": be_killed,
    "crash": crash,
}
