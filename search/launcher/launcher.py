"""One run of the launcher: workers work on a study until it has its number, and how that ended.

Starts and watches them (worker_pool), reads the study in the ledger twice a second and hands a Snapshot of
it to the display. Meets its workers in their command line, in signals and in the database alone. Called by
search/commands/launch_session.py.
"""

import os
import shlex
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

import optuna
from sqlalchemy import Engine

from search import settings
from search.launcher import database_room
from search.launcher.closing import Closing, drop_limit
from search.launcher.cluster import Cluster
from search.launcher.cluster_pool import ClusterPool
from search.launcher.display import Display, Snapshot
from search.launcher.prepare import Flags
from search.launcher.snapshots import Snapshots
from search.launcher.worker_pool import WorkerPool
from search.machine import devices
from search.machine.devices import Slot
from search.machine.signals import Interrupts
from search.recording import reconcile as reconciling, rescue, spool
from search.recording.outage import OUT_OF_REACH, Outage, OutageTooLongError
from search.study import files, finish_plan, gave_up, worker_logs, worker_rows
from search.study.config import StudyConfig
from search.study.halted import halted
from search.study.run_state import code_of_end
from space.errors import StoreGoneError
from storage import candidates, leases, studies, workers as worker_presence
from storage.row_types import TRAINED, State
from storage.studies import Control, Study

POLL_SECONDS = 0.5  # between two looks at workers and study

ACTIVE = (Control.RUN, Control.PAUSE)  # orders under which a search goes on, at once or later

GAVE_UP = "too many networks in a row came to nothing"  # where the database cannot say which


@dataclass(frozen=True)
class End:
    """How a launch ended."""

    snapshot: Snapshot
    order: Control
    interrupted: int  # the signal, 0 for none
    exhausted: str | None  # why no network is proposed any more, as the worker said that noticed it
    gave_up: str  # why too many networks in a row came to nothing; empty where they did not
    spent: str | None  # the limit that was reached
    closed: Mapping[str, str]  # slots that were given up, and why
    none_left: bool  # every slot was, for good
    closing: str = ""  # what was done so that the second stage fits the time

    @property
    def has_no_winner(self) -> bool:
        """Whether no training of the finals came to its end."""
        second = self.snapshot.second
        return second is not None and second.winner is None

    @property
    def code(self) -> int:
        if self.interrupted:
            return 128 + self.interrupted
        if self.none_left and not (self.snapshot.is_done or self.gave_up):
            return 5
        return code_of_end(
            is_done=self.snapshot.is_done,
            has_no_winner=self.has_no_winner,
            trained=self.snapshot.trained,
            over_budget=self.snapshot.tally[State.OVER_BUDGET],
            gave_up=bool(self.gave_up),
        )


@dataclass(frozen=True)
class PlacedBy:
    """A cluster that places the workers of a launch."""

    cluster: Cluster
    resource: str  # of Dask workers, that a worker of ours takes one of
    grows: bool  # as many workers as the cluster comes to offer


class Launch:
    """The launcher over a study that is prepared."""

    def __init__(
        self,
        flags: Flags,
        engine: Engine,
        record: Study,
        config: StudyConfig,
        opened: optuna.Study,
        slots: list[Slot],
        make_room: bool = False,
        placed_by: "PlacedBy | None" = None,
        made_study: bool = False,
    ) -> None:
        """With make_room workers leave a device whose memory is short, as long as one is left there. The
        slots are this machine's, or those of a cluster. Who made the study helps no other launch."""
        self.flags, self.engine, self.record, self.config, self.optuna = flags, engine, record, config, opened
        self.make_room = make_room
        self.logs = worker_logs.folder(flags.data_dir, record.name)
        self.spool = files.study_folders(flags.data_dir, flags.storage, record).spool
        self.outage = Outage(flags.database_timeout_seconds)
        self.snapshots = Snapshots(engine, record, config, has_slots=bool(slots))
        is_timed = bool(record.finish) and flags.is_limited
        self.closing = Closing(engine, record.id, config) if is_timed else None
        # Whether workers of another launch were here first, and still are.
        self.helps = not made_study
        self.is_fitted = False  # whether the second stage has the limits of this launch, or none with it
        self.last: Snapshot | None = None
        self.started = time.monotonic()
        self.spent: str | None = None
        # At a limit, without workers here: whether those elsewhere were told to end, None before.
        self.ends_elsewhere: bool | None = None
        self.device_seconds = 0.0
        self.signalled = 0  # signals sent to the workers: 1 drains them, 2 cancels their trials
        self.worked = time.monotonic()  # when somebody was last seen at work
        self.pool = self._pool_on(placed_by, slots) if placed_by else self._pool_here(slots)

    def _pool_here(self, slots: list[Slot]) -> WorkerPool:
        return WorkerPool(
            slots,
            self.logs,
            self._command,
            lambda device: settings.child_environment(self.flags.storage, device),
            self._on_death,
            socket.gethostname(),
        )

    def _pool_on(self, placed: "PlacedBy", slots: list[Slot]) -> WorkerPool:
        return ClusterPool(
            placed.cluster,
            slots,
            replace(self.flags.worker, study=self.record.name),
            self.logs,
            self._on_death,
            resource=placed.resource,
            grows=placed.grows,
            room=partial(database_room.for_more, self.engine, self.record.id),
            away_seconds=self.flags.database_timeout_seconds,
        )

    def _command(self, worker: str, may_leave: bool) -> list[str]:
        options = replace(
            self.flags.worker,
            study=self.record.name,
            name=worker,
            parent=os.getpid(),
            make_room=self.make_room and may_leave,
        )
        return options.to_argv()

    def _on_death(self, worker: str) -> bool:
        """Whether a worker that died had finished a trial, or a training of the second stage. What it had
        trained and could not write counts; what it held goes to another one at once."""
        spool.take_in(self.spool, self.optuna, self.engine, self.record.id)
        reconciling.tell_lost(self.optuna, leases.evict(self.engine, self.record.id, worker))
        return worker_presence.has_finished(self.engine, worker)

    def run(self, display: Display, interrupts: Interrupts) -> End:
        """Until the number is reached, nobody works any more, or someone or a limit says stop.

        Raises StorageError when the database stays away for longer than --database-timeout, StoreGoneError
        where its file was deleted or replaced.
        """
        self.outage.cancelled = lambda: interrupts.count > 1
        try:
            return self._run(display, interrupts)
        except StoreGoneError as error:
            raise rescue.keep(error, self.engine, self.spool, self.record.name) from None

    def _run(self, display: Display, interrupts: Interrupts) -> End:
        """Raises as run() does."""
        try:
            self.outage.insist(self._tidy)
            self.outage.insist(self._fit_in_time)
            self.pool.start()
            self._attend(display, interrupts)
        except OutageTooLongError:
            if interrupts.count < 2:
                raise
        finally:
            if self.pool.alive:
                self.pool.signal(now=True)
                self._kill()
        return self._end(display, interrupts)

    def _attend(self, display: Display, interrupts: Interrupts) -> None:
        self.started = moment = time.monotonic()
        while self.pool.alive or self._tries_again(interrupts) or self._others_work(interrupts):
            now = time.monotonic()
            self.device_seconds += (now - moment) * self.pool.devices_in_use
            moment = now
            self._check_limits(now - self.started)
            self._pass_on(2 if self.spent else interrupts.count)
            if self.spent and not self.pool.slots:
                self._end_elsewhere()
            self._look(display)
            time.sleep(POLL_SECONDS)

    def _kill(self) -> None:
        """Ends the workers; whose trials they were is found out with a database that is back."""
        with suppress(*OUT_OF_REACH):
            self.pool.kill()

    def _tidy(self) -> None:
        """Takes in what this machine owes, and takes back what those who worked here before left behind."""
        spool.take_in(self.spool, self.optuna, self.engine, self.record.id)
        reconciling.tell_lost(self.optuna, leases.reap(self.engine, self.record.id))
        reconciling.reconcile(self.optuna, self.engine, self.record.id)

    def _check_limits(self, elapsed: float) -> None:
        if self.flags.timeout is not None and elapsed > self.flags.timeout:
            self.spent = f"time was up after {self.flags.timeout:.0f} s, --timeout"
        hours = self.flags.max_gpu_hours
        if hours is not None and self.device_seconds > hours * 3600:
            self.spent = f"{hours:g} hours of devices were used, --max-gpu-hours"

    def _end_elsewhere(self) -> None:
        """At the limit of a launch without workers of its own: tells those elsewhere to end now, as it would
        tell its own. The workers of another launch are told nothing, as the limit is not theirs."""
        if self.ends_elsewhere is not None:
            return
        try:
            if not self._is_of_another_launch():
                studies.set_control(self.engine, self.record.id, Control.STOP_NOW)
                self.ends_elsewhere = True
            else:
                self.ends_elsewhere = False
        except OUT_OF_REACH as error:
            self.outage.wait(error)

    def _fit_in_time(self) -> None:
        """Has a second stage that is next fit the limits, before anybody asks for its trainings."""
        if self.closing and not self._helps():
            workers = max(1, len(self.pool.slots))
            in_use = devices.how_many(slot.device for slot in self.pool.slots)
            self.is_fitted = self.closing.begin(self._left(0.0, in_use), workers, max(1, in_use))

    def _close_in_time(self) -> None:
        """Ends the trials where the second stage needs the rest of the time; fits it first, where it was
        another launch's when this one began. One without a limit drops that of the other instead."""
        if not self.record.finish or self.spent or self.signalled or self._helps():
            return
        if self.closing is None:
            self.is_fitted = self.is_fitted or drop_limit(self.engine, self.record.id)
            return
        workers = max(self.pool.at_work, len(self.last.running) if self.last else 0, 1)
        elapsed = time.monotonic() - self.started
        in_use = self.pool.devices_in_use
        left = self._left(elapsed, in_use)
        elsewhere = workers - self.pool.at_work  # each with a device of its own, as far as is known
        on_devices = max(1, in_use + elsewhere)
        if not self.is_fitted:
            self.is_fitted = self.closing.begin(left, workers, on_devices)
        self.closing.look(elapsed, left, workers, on_devices)
        reconciling.tell_lost(self.optuna, self.closing.stragglers(elapsed, left, workers))

    def _limit_in(self) -> float | None:
        """Seconds until a limit ends this launch; None where it has none."""
        if not self.flags.is_limited:
            return None
        return self._left(time.monotonic() - self.started, self.pool.devices_in_use)

    def _left(self, elapsed: float, devices_in_use: int) -> float:
        """Seconds until the nearer of the limits, of which there is one."""
        limits = list[float]()
        if self.flags.timeout is not None:
            limits.append(self.flags.timeout - elapsed)
        if self.flags.max_gpu_hours is not None:
            left = self.flags.max_gpu_hours * 3600 - self.device_seconds
            limits.append(left / max(1, devices_in_use))
        return min(limits)

    def _helps(self) -> bool:
        """Whether the study is another launch's, so that the limits of this one are not the search's. Workers
        that were started by hand are whoever's launch it is."""
        self.helps = self.helps and self._is_of_another_launch()
        return self.helps

    def _is_of_another_launch(self) -> bool:
        """Whether workers of another launch are there."""
        present = worker_presence.of_study(self.engine, self.record.id)
        rows = worker_rows.of_launches(present, leases.running(self.engine, self.record.id))
        return any(not self.pool.is_mine(row.name) for row in rows)

    def _pass_on(self, wanted: int) -> None:
        """The first word drains the workers, the second ends them at the next batch, or for good."""
        while self.signalled < min(2, wanted):
            self.signalled += 1
            self.pool.signal(now=self.signalled == 2)
            if self.signalled == 2:
                self._kill()

    def _look(self, display: Display) -> None:
        """Notices who died, and shows how it stands; a database that is away is waited for."""
        try:
            self.pool.watch(self._is_owed())
            self.last = self.snapshots.take()
            self._close_in_time()
            self.outage.back()
        except OUT_OF_REACH as error:
            self.outage.wait(error)
        if self.last:
            display.show(replace(self.last, note=self._note(), left=self._limit_in()))

    def _end(self, display: Display, interrupts: Interrupts) -> End:
        try:
            snapshot, order = self.outage.insist(self._reconciled)
        except OutageTooLongError:
            if interrupts.count < 2 or self.last is None:
                raise
            self.outage.notice = (
                "the database is away: what it is owed is kept here, and the next launch takes it in"
            )
            snapshot, order = replace(self.last, note=self._note()), self.last.order
        display.show(snapshot)
        slots = self.pool.slots
        closed = {slot.device.name: slot.closed for slot in slots if slot.closed}
        return End(
            snapshot=snapshot,
            order=order,
            interrupted=interrupts.first,
            exhausted=self.pool.exhausted,
            gave_up=self._gave_up(order),
            spent=self.spent,
            closed=closed,
            none_left=bool(slots) and len(closed) == len(slots) and not self.pool.waiting,
            closing=self.closing.note if self.closing else "",
        )

    def _reconciled(self) -> tuple[Snapshot, Control]:
        """The books once nobody works here any more."""
        reconciling.reconcile(self.optuna, self.engine, self.record.id)
        if self.closing and not self.helps:
            self.closing.end()
        return self.snapshots.take(), studies.find(self.engine, self.record.name).order

    def _gave_up(self, order: Control) -> str:
        if order != Control.GAVE_UP:
            return ""
        with suppress(*OUT_OF_REACH):
            rows = candidates.untrained_in_a_row(self.engine, self.record.id)
            return gave_up.reason(rows, self.record.name)
        return GAVE_UP

    def _is_owed(self) -> bool:
        """Whether anything is left to train, as of the last look."""
        last = self.last
        if last is None:
            return True
        return not (last.is_done or self.pool.is_exhausted) and last.order in ACTIVE

    def _tries_again(self, interrupts: Interrupts) -> bool:
        """Whether nobody works here only until a closed slot is tried again."""
        return bool(self.pool.waiting) and not (interrupts.count or self.spent) and self._is_owed()

    def _others_work(self, interrupts: Interrupts) -> bool:
        """A launcher without workers of its own waits for those of other machines, at its limit until they
        have ended."""
        if self.pool.slots or interrupts.count or self.ends_elsewhere is False:
            return False
        try:
            if self.outage.calm(self.flags.lease_seconds):
                reconciling.tell_lost(self.optuna, leases.reap(self.engine, self.record.id))
            record = studies.find(self.engine, self.record.name)
            tally = candidates.tally(self.engine, self.record.id)
            second = self.snapshots.load_second_stage(record, tally)
            at_work = bool(leases.running(self.engine, self.record.id))
        except OUT_OF_REACH as error:
            self.outage.wait(error)
            return True
        is_done = sum(tally[state] for state in TRAINED) >= record.trials and (not second or second.is_over)
        return not is_done and (record.order in ACTIVE or at_work)

    def _note(self) -> str:
        notes = self.pool.troubles
        if self.ends_elsewhere:
            notes.append(f"{self.spent}: the workers elsewhere are told to end")
        elif self.last and not self.last.is_done and (why := halted(self.record.name, self.last.order)):
            notes.append(why)
        if self.closing and self.helps and self.last and not self.last.second:
            notes.append(
                "workers of another launch were here first: the limit of this one ends no trials of theirs"
            )
        second = self.last.second if self.last else None
        if second and second.plan.exhausted:
            notes.append(finish_plan.describe_closing(second.plan, second.trials))
        if self.closing and self.closing.note:
            notes.append(self.closing.note)
        if self.signalled and self.pool.slots:
            alive = len(self.pool.alive)
            finish = "1 worker finishes its trial" if alive == 1 else f"{alive} workers finish their trials"
            notes.append(f"stopping: {finish}; Ctrl-C ends at once")
        if self.last and self.last.running:
            self.worked = time.monotonic()
        if not self.pool.slots and time.monotonic() - self.worked > self.flags.lease_seconds:
            name = shlex.quote(self.record.name)
            notes.append(f"nobody works: `search worker --study {name}` does, here or elsewhere")
        if self.outage.notice:
            notes.append(self.outage.notice)
        return "; ".join(filter(None, notes))
