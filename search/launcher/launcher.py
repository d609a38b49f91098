"""One run of the launcher: a fleet works on a study until it has its number, and how that ended."""

import os
import signal
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from types import FrameType

import optuna
from sqlalchemy import Engine

from search import settings
from search.launcher.display import Display, Snapshot
from search.launcher.prepare import Flags
from search.launcher.worker_pool import WorkerPool
from search.machine.devices import Slot
from search.recording import reconcile as reconciling
from search.recording.outage import OUT_OF_REACH, Outage, OutageTooLongError
from search.study.config import StudyConfig
from storage import candidates, leases, studies
from storage.records import TRAINED, Candidate, State
from storage.studies import Control, Study

POLL_SECONDS = 0.5


class Interrupts:
    """Ctrl-C and SIGTERM as the launcher hears them: how many, and which came first."""

    def __init__(self) -> None:
        self.count, self.first = 0, 0

    def listen(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._heard)

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        self.count += 1
        self.first = self.first or number


@dataclass(frozen=True)
class End:
    """How a launch ended."""

    snapshot: Snapshot
    order: Control
    interrupted: int  # the signal, 0 for none
    exhausted: bool
    spent: str | None  # the limit that was reached
    closed: Mapping[str, str]  # slots that were given up, and why
    none_left: bool  # every slot was

    @property
    def code(self) -> int:
        if self.interrupted:
            return 128 + self.interrupted
        if self.snapshot.trained >= self.snapshot.target:
            return 0
        if self.none_left:
            return 5
        nothing_fit = not self.snapshot.trained and self.snapshot.tally[State.OVER_BUDGET] > 0
        return 3 if nothing_fit else 4


class Launch:
    """The launcher over a study that is prepared."""

    def __init__(
        self,
        flags: Flags,
        engine: Engine,
        record: Study,
        plan: StudyConfig,
        opened: optuna.Study,
        slots: list[Slot],
        make_room: bool = False,
    ) -> None:
        """With make_room workers leave a device whose memory is short, as long as one is left there."""
        self.flags, self.engine, self.record, self.plan, self.optuna = flags, engine, record, plan, opened
        self.make_room = make_room
        self.logs = flags.data_dir / "logs" / record.name
        self.patience = Outage(flags.patience_seconds, self._say)
        self.ended: int | None = None  # candidates that had ended at the last look
        self.last: Snapshot | None = None
        self.spent: str | None = None
        self.device_seconds = 0.0
        self.told, self.said, self.worked = 0, "", time.monotonic()
        self.fleet = WorkerPool(
            slots,
            self.logs,
            self._command,
            lambda device: settings.child_environment(flags.storage, device),
            self._on_death,
            socket.gethostname(),
        )

    def _command(self, worker: str, may_leave: bool) -> list[str]:
        flags = self.flags
        return [
            *("worker", "--study", self.record.name, "--name", worker, "--parent", str(os.getpid())),
            *("--data-dir", str(flags.data_dir), "--lease", str(flags.lease_seconds)),
            *("--grace", str(flags.grace_seconds), "--stall-timeout", str(flags.stall_seconds)),
            *("--database-patience", str(flags.patience_seconds)),
            *("--keep-weights", str(flags.keep_weights)),
            *(("--make-room",) if self.make_room and may_leave else ()),
            *(("--data", flags.data) if flags.data else ()),
            *(("--trial-timeout", str(flags.trial_seconds)) if flags.trial_seconds else ()),
            *(("--trial-memory", str(flags.trial_memory)) if flags.trial_memory else ()),
        ]

    def _on_death(self, worker: str) -> bool:
        """Whether a worker that died had finished a trial. What it held goes to another one at once."""
        reconciling.tell_lost(self.optuna, leases.evict(self.engine, self.record.id, worker))
        rows = candidates.candidates(self.engine, self.record.id, states=TRAINED)
        return any(row.worker == worker for row in rows)

    def run(self, display: Display, interrupts: Interrupts) -> End:
        """Until the number is reached, nobody works any more, or someone or a limit says stop.

        Raises StorageError when the database stays away for longer than --database-patience.
        """
        self.patience.given_up = lambda: interrupts.count > 1
        try:
            self.patience.insist(self._tidy)
            self.fleet.start()
            self._attend(display, interrupts)
        except OutageTooLongError:
            if interrupts.count < 2:
                raise
        finally:
            if self.fleet.alive:
                self.fleet.signal(now=True)
                self._kill()
        return self._end(display, interrupts)

    def _attend(self, display: Display, interrupts: Interrupts) -> None:
        started = moment = time.monotonic()
        while self.fleet.alive or self._others_work(interrupts):
            now = time.monotonic()
            self.device_seconds += (now - moment) * len(self.fleet.alive)
            moment = now
            self._check_limits(now - started)
            self._pass_on(2 if self.spent else interrupts.count)
            self._look(display)
            time.sleep(POLL_SECONDS)

    def _kill(self) -> None:
        """Ends the workers; whose trials they were is found out with a database that is back."""
        with suppress(*OUT_OF_REACH):
            self.fleet.kill()

    def _tidy(self) -> None:
        """Takes back what those who worked here before left behind."""
        reconciling.tell_lost(self.optuna, leases.reap(self.engine, self.record.id))
        reconciling.reconcile(self.optuna, self.engine, self.record.id)

    def _check_limits(self, elapsed: float) -> None:
        if self.flags.timeout is not None and elapsed > self.flags.timeout:
            self.spent = f"time was up after {self.flags.timeout:.0f} s, --timeout"
        hours = self.flags.max_gpu_hours
        if hours is not None and self.device_seconds > hours * 3600:
            self.spent = f"{hours:g} hours of devices were used, --max-gpu-hours"

    def _pass_on(self, wanted: int) -> None:
        """The first word drains the workers, the second ends them at the next batch, or for good."""
        while self.told < min(2, wanted):
            self.told += 1
            self.fleet.signal(now=self.told == 2)
            if self.told == 2:
                self._kill()

    def _look(self, display: Display) -> None:
        """Notices who died, and shows how it stands; a database that is away is waited for."""
        try:
            self.fleet.watch()
            self.last = self.snapshot()
            self.patience.back()
        except OUT_OF_REACH as error:
            self.patience.wait(error)
        if self.last:
            display.show(replace(self.last, note=self._note()))

    def _end(self, display: Display, interrupts: Interrupts) -> End:
        try:
            snapshot, order = self.patience.insist(self._reconciled)
        except OutageTooLongError:
            if interrupts.count < 2 or self.last is None:
                raise
            self._say("the database is away: what it is owed is kept here, and the next launch takes it in")
            snapshot, order = replace(self.last, note=self._note()), self.record.order
        display.show(snapshot)
        places = self.fleet.places
        closed = {place.slot.name: place.closed for place in places if place.closed}
        return End(
            snapshot=snapshot,
            order=order,
            interrupted=interrupts.first,
            exhausted=any(4 in place.codes for place in places),
            spent=self.spent,
            closed=closed,
            none_left=bool(places) and len(closed) == len(places),
        )

    def _reconciled(self) -> tuple[Snapshot, Control]:
        """The books once nobody works here any more."""
        reconciling.reconcile(self.optuna, self.engine, self.record.id)
        return self.snapshot(), studies.find(self.engine, self.record.name).order

    def _others_work(self, interrupts: Interrupts) -> bool:
        """A launcher without workers of its own waits for those of other machines."""
        if self.fleet.places or interrupts.count or self.spent:
            return False
        try:
            if self.patience.calm(self.flags.lease_seconds):
                reconciling.tell_lost(self.optuna, leases.reap(self.engine, self.record.id))
            tally = candidates.tally(self.engine, self.record.id)
            record = studies.find(self.engine, self.record.name)
        except OUT_OF_REACH as error:
            self.patience.wait(error)
            return True
        unfinished = sum(tally[state] for state in TRAINED) < record.trials
        return unfinished and (record.order == Control.RUN or tally[State.RUNNING] > 0)

    def _say(self, line: str) -> None:
        self.said = line

    def _note(self) -> str:
        notes = [f"{place.slot.name} closed: {place.closed}" for place in self.fleet.places if place.closed]
        if self.told:
            notes.append(f"stopping: {len(self.fleet.alive)} workers finish their trial; Ctrl-C ends at once")
        if self.last and self.last.running:
            self.worked = time.monotonic()
        if not self.fleet.places and time.monotonic() - self.worked > self.flags.lease_seconds:
            notes.append(f"nobody works: `search worker --study {self.record.name}` does, here or elsewhere")
        if self.said:
            notes.append(self.said)
        return "; ".join(notes)

    def snapshot(self) -> Snapshot:
        """The study as it is now. What ended before this launch does not count as news."""
        tally = candidates.tally(self.engine, self.record.id)
        ended = sum(tally.values()) - tally[State.RUNNING]
        fresh = 0 if self.ended is None else ended - self.ended
        best = candidates.best(self.engine, self.record.id)
        snapshot = Snapshot(
            name=self.record.name,
            target=self.record.trials,
            tally=tally,
            running=leases.running(self.engine, self.record.id),
            best=best[0] if best else None,
            finished=self._last(fresh),
            epochs=self.plan.recipe.epochs,
            validation_images=self.plan.data.validation_images,
        )
        self.ended = ended
        return snapshot

    def _last(self, count: int) -> list[Candidate]:
        if not count:
            return []
        ended = set(State) - {State.RUNNING}
        rows = candidates.candidates(
            self.engine, self.record.id, states=ended, sort="finished_at", descending=True, limit=count
        )
        return rows[::-1]
