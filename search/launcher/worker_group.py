"""Several workers of one machine, started by hand: `search worker --workers N --gpus 0,1`.

Starts and watches them as a launch does its own (worker_pool), passes signals on, and ends with them. It
prepares no study and shows no board. Reads the store only where a worker died and at the end. Called by
search/commands/services.py.
"""

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from sqlalchemy import Engine

from search import settings
from search.launcher.worker_pool import CLEAN_ENDS, WorkerPool
from search.machine.devices import Slot
from search.machine.signals import Interrupts
from search.recording import recovery
from search.recording.outage import OUT_OF_REACH
from search.study import gave_up, worker_logs
from search.study.worker_options import WorkerOptions
from space.errors import ExhaustedError, GaveUpError, ParsimonyError
from storage import candidates, connections, database, studies, workers
from storage.studies import Control

POLL_SECONDS = 0.5  # between two looks at the workers

CLOSED = 5  # exit code: every slot is closed for good

FOLLOWING = "workers"  # the folder of their logs, until they have a study


class WorkerGroup:
    """The workers of one command, a slot each."""

    def __init__(self, options: WorkerOptions, slots: list[Slot], say: Callable[[str], None]) -> None:
        """`say` writes a line for people."""
        self.options, self.say, self.noted = options, say, ""
        self.logs = worker_logs.folder(options.data_dir, options.study or FOLLOWING)
        self.pool = WorkerPool(
            [replace(slot, name=f"worker-{slot.name}") for slot in slots],  # beside those of a launch
            self.logs,
            self._command,
            lambda device: settings.child_environment(options.storage, device),
            self._on_death,
            "-".join(filter(None, (options.name, socket.gethostname()))),
            by_hand=True,
        )

    def _command(self, worker: str, _may_leave: bool) -> list[str]:
        return replace(self.options, name=worker, parent=os.getpid()).to_argv()

    def _on_death(self, worker: str) -> bool:
        """Whether a worker that died had finished a trial, or a training of the second stage, in whatever
        study. What it had trained and could not write counts; what it held goes to another one at once."""
        with suppress(ParsimonyError, *OUT_OF_REACH):
            engine = database.connect(self.options.storage, create=False)
            try:
                for record in workers.studies_of(engine, worker):
                    recovery.evict(engine, self.options.storage, record, self.options.data_dir, worker)
                return workers.has_finished(engine, worker)
            finally:
                engine.dispose()
        return False

    def run(self, interrupts: Interrupts) -> int:
        """Until every worker has ended. Returns the exit code.

        Raises GaveUpError and ExhaustedError as a worker alone does.
        """
        signalled = 0
        self.pool.start()
        try:
            while self.pool.alive or (self.pool.waiting and self._is_owed(interrupts)):
                while signalled < min(2, interrupts.count):
                    signalled += 1
                    self.pool.signal(now=signalled == 2)
                self.pool.watch(self._is_owed(interrupts))
                self._say_notes()
                time.sleep(POLL_SECONDS)
        finally:
            if self.pool.alive:
                self.pool.signal(now=True)
                self.pool.kill()
        if interrupts.count:
            return interrupts.code
        self._require_more_to_train()
        return CLOSED if all(slot.closed for slot in self.pool.slots) else 0

    def _is_owed(self, interrupts: Interrupts) -> bool:
        """Whether a closed slot is worth another try: no worker found that there is nothing to do."""
        ended = {code for slot in self.pool.slots for code in slot.codes}
        return not interrupts.count and not ended & set(CLEAN_ENDS)

    def _say_notes(self) -> None:
        noted = "; ".join(slot.note for slot in self.pool.slots if slot.note)
        if noted and noted != self.noted:
            self.say(noted)
        self.noted = noted

    def _require_more_to_train(self) -> None:
        if self.pool.exhausted:
            raise ExhaustedError(self.pool.exhausted)
        with suppress(*OUT_OF_REACH):
            engine = database.connect(self.options.storage, create=False)
            try:
                if reason := _gave_up(engine, self.options.study):
                    raise GaveUpError(reason)
            finally:
                engine.dispose()


def _gave_up(engine: Engine, study: str | None) -> str:
    """Why the search of the study ended by itself; empty where it did not."""
    record = studies.find(engine, study)
    if record.order != Control.GAVE_UP:
        return ""
    return gave_up.reason(candidates.untrained_in_a_row(engine, record.id), record.name)


def run(options: WorkerOptions, slots: list[Slot], say: Callable[[str], None]) -> int:
    """The workers of these slots, from their start to the end of the last. Returns the exit code.

    Raises StudyError where the study is not there, StorageError for a database out of reach or without so
    many connections, as one that follows does not, and as WorkerGroup.run() does.
    """
    if not options.follow:
        engine = database.connect(options.storage, create=False)
        try:
            database.check(engine)
            connections.require_room(engine, len(slots))
            options = replace(options, study=studies.find(engine, options.study).name)
        finally:
            engine.dispose()
    interrupts = Interrupts()
    interrupts.listen()
    group = WorkerGroup(options, slots, say)
    names = ", ".join(slot.device.name for slot in group.pool.slots)
    say(f"starts {names}; their logs are in {group.logs}")
    return group.run(interrupts)
