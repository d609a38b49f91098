"""Kills random workers of a launcher at random moments, and no slot so often that it would be given up."""

import os
import random
import signal
from contextlib import suppress
from pathlib import Path

from faults import Search, Started, wait_until

from storage import candidates
from storage.row_types import TRAINED

SPARED_AFTER = 2  # deaths of a slot without a finished trial: a third would close it, as it should


class Killer:
    """Kills random workers of a launcher, none of them so soon that its slot would be given up."""

    def __init__(self, search: Search, launcher: Started, seed: int) -> None:
        self.search, self.launcher, self.chance = search, launcher, random.Random(seed)
        self.deaths: dict[str, int] = {}

    def kill_one(self) -> None:
        """At a random moment of the life of a random worker."""
        victims: list[int] = []
        wait_until(lambda: victims.extend(self._eligible()) or victims or self._over(), "a worker to kill")
        if not victims:
            return
        victim = self.chance.choice(victims)
        moment = self.chance.random() * 1.5
        with suppress(AssertionError):
            wait_until(self._over, "a random moment", moment)
        slot, busy = slot_of(victim), self._finished(victim)
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
            self.search.fault()
            self.deaths[slot] = 1 if busy else self.deaths.get(slot, 0) + 1
        wait_until(lambda: not Path(f"/proc/{victim}").exists(), "a death that was noticed")

    def _over(self) -> bool:
        return self.launcher.process.poll() is not None

    def _eligible(self) -> list[int]:
        return [
            pid
            for pid in self.launcher.children()
            if slot_of(pid) and (self.deaths.get(slot_of(pid), 0) < SPARED_AFTER or self._finished(pid))
        ]

    def _finished(self, pid: int) -> bool:
        name = worker_of(pid)
        rows = self.search.ask(lambda engine, study: candidates.candidates(engine, study, states=TRAINED))
        return any(row.worker == name for row in rows)


def worker_of(pid: int) -> str:
    with suppress(OSError, ValueError):
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        return words[words.index("--name") + 1]
    return ""


def slot_of(pid: int) -> str:
    return next((word for word in worker_of(pid).split("-") if word.startswith("cpu")), "")
