"""`search launch`: makes or continues a study, lets a fleet work on it, and says how it ended.

Nothing is written before space, budget, recipe, data and database are known to be good.
"""

import signal
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import FrameType

import optuna
from sqlalchemy import Engine

from search import plan as plans
from search import settings, study
from search.devices import Slot
from search.display import Display, Snapshot
from search.fleet import Fleet
from search.plan import Images, Plan
from space import sampling
from space import space as spaces
from space.budget import Budget
from space.errors import StorageError, StudyError
from space.space import Task
from storage import database, leases, results, studies
from storage.records import TRAINED, Candidate, State
from storage.studies import Study
from trainer import data as datasets
from trainer.recipe import Recipe, defaults

POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Flags:
    """What `search launch` was given; None where nothing was said."""

    storage: str
    data_dir: Path
    trials: int
    study: str | None = None
    data: str | None = None
    image_size: int | None = None
    train_images: int | None = None
    max_parameters: int | None = None
    max_macs: int | None = None
    epochs: int | None = None
    recipe: Path | None = None
    space: Path | None = None
    sampler: plans.SamplerName | None = None
    pruner: plans.PrunerName | None = None
    seed: int | None = None
    timeout: float | None = None
    lease_seconds: float = settings.LEASE_SECONDS
    stall_seconds: float = settings.STALL_SECONDS
    trial_seconds: float | None = None
    grace_seconds: float = 60.0


def existing(flags: Flags) -> Study | None:
    """The study that these flags name, if the store has it. Raises StorageError for a store out of reach."""
    if database.absent(flags.storage):
        return None
    engine = database.connect(flags.storage)
    try:
        database.check(engine)
        return studies.find(engine, flags.study) if flags.study else None
    except (StorageError, StudyError):  # an empty store, or a new name: prepare() makes what is missing
        return None
    finally:
        engine.dispose()


def make_plan(flags: Flags, stored: Plan | None) -> Plan:
    """The plan that the flags mean; what they leave open comes from the stored study, else from defaults.

    Raises what is wrong with a file, the data or the budget, NothingFitsError included.
    """
    space = spaces.load(flags.space) if flags.space else stored.space if stored else spaces.default()
    data, images = _data(flags, stored)
    task = Task(
        channels=images.dataset.channels,
        image_size=images.dataset.image_size,
        classes=len(images.dataset.classes),
    )
    space.require_geometry(task.image_size)
    budget = Budget(
        flags.max_parameters or (stored.budget.max_parameters if stored else settings.MAX_PARAMETERS),
        flags.max_macs or (stored.budget.max_macs if stored else None),
    )
    sampling.require_smallest(space, budget, task)
    return Plan(
        space=space,
        budget=budget,
        task=task,
        recipe=_recipe(flags, stored, data.spec),
        data=data,
        sampler=flags.sampler or (stored.sampler if stored else "tpe"),
        pruner=flags.pruner or (stored.pruner if stored else "median"),
        seed=flags.seed if flags.seed is not None else stored.seed if stored else 0,
    )


def _recipe(flags: Flags, stored: Plan | None, data: str) -> Recipe:
    recipe = stored.recipe if stored else defaults(data)
    if flags.recipe:
        recipe = Recipe.load(flags.recipe, recipe)
    return recipe.model_copy(update={"epochs": flags.epochs}) if flags.epochs else recipe


def _data(flags: Flags, stored: Plan | None) -> tuple[plans.DataPlan, Images]:
    given = (flags.data, flags.image_size, flags.train_images)
    if stored and given == (None, None, None):
        return stored.data, plans.open_images(stored.data, flags.data_dir)
    spec = flags.data or (stored.data.spec if stored else "cifar10")
    dataset = datasets.load(spec, flags.data_dir, flags.image_size)
    small = len(dataset.labels) < settings.SMALL
    share = settings.SMALL_VALIDATION_SHARE if small else settings.VALIDATION_SHARE
    seed = stored.data.split_seed if stored else flags.seed or 0
    images = Images(dataset, datasets.split(dataset, seed, share, flags.train_images))
    return plans.describe(dataset.spec, images, flags.train_images, share, seed), images


def prepare(flags: Flags) -> tuple[Engine, Study, Plan]:
    """Everything checked, then the study made, or the one that is there given its new target."""
    record = existing(flags)
    stored = Plan.of(record.settings) if record else None
    plan = make_plan(flags, stored)
    if record and stored:
        plans.require_same(record.name, stored, plan)
    engine = database.connect(flags.storage)
    database.prepare(engine)
    if record:
        tally = results.tally(engine, record.id)
        studies.set_trials(engine, record.id, max(flags.trials, sum(tally[state] for state in TRAINED)))
        studies.give_order(engine, record.id, studies.Order.RUN)
        return engine, studies.find(engine, record.name), plan
    name = flags.study or settings.study_name(datetime.now())
    study.create(flags.storage, name, plan)
    from search.worker import versions

    record = studies.create(
        engine,
        name,
        trials=flags.trials,
        max_parameters=plan.budget.max_parameters,
        max_macs=plan.budget.max_macs,
        seed=plan.seed,
        settings=plan.document(),
        versions=versions(),
    )
    return engine, record, plan


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
    interrupted: int  # the signal, 0 for none
    exhausted: bool
    timed_out: bool
    closed: Mapping[str, str]  # slots that were given up, and why

    @property
    def code(self) -> int:
        if self.interrupted:
            return 128 + self.interrupted
        if self.snapshot.trained >= self.snapshot.target:
            return 0
        nothing_fit = not self.snapshot.trained and self.snapshot.tally[State.OVER_BUDGET] > 0
        broken = self.closed and not self.snapshot.trained and not self.timed_out
        return 3 if nothing_fit and not broken else 5 if broken else 4


class Launch:
    """One run of the launcher over a study that is prepared."""

    def __init__(
        self,
        flags: Flags,
        engine: Engine,
        record: Study,
        plan: Plan,
        opened: optuna.Study,
        slots: list[Slot],
    ) -> None:
        self.flags, self.engine, self.record, self.plan, self.optuna = flags, engine, record, plan, opened
        self.logs = flags.data_dir / "logs" / record.name
        self.ended: int | None = None
        self.fleet = Fleet(
            slots,
            self.logs,
            self._command,
            lambda device: settings.child_environment(flags.storage, device),
            self._on_death,
            socket.gethostname(),
        )

    def _command(self, worker: str) -> list[str]:
        flags = self.flags
        return [
            *("worker", "--study", self.record.name, "--name", worker, "--child"),
            *("--data-dir", str(flags.data_dir), "--lease", str(flags.lease_seconds)),
            *("--grace", str(flags.grace_seconds), "--stall-timeout", str(flags.stall_seconds)),
            *(("--trial-timeout", str(flags.trial_seconds)) if flags.trial_seconds else ()),
        ]

    def _on_death(self, worker: str) -> bool:
        retried = leases.evict(self.engine, self.record.id, worker)
        study.recover(self.optuna, retried)
        rows = results.candidates(self.engine, self.record.id, states=TRAINED)
        return any(row.worker == worker for row in rows)

    def run(self, display: Display, interrupts: Interrupts) -> End:
        """Until the number is reached, nobody works any more, or someone says stop."""
        study.recover(self.optuna, leases.reap(self.engine, self.record.id))
        study.reconcile(self.optuna, self.engine, self.record.id)
        deadline = time.monotonic() + self.flags.timeout if self.flags.timeout else float("inf")
        self.fleet.start()
        told, timed_out = 0, False
        try:
            while self.fleet.alive or self._others_work(interrupts):
                timed_out = timed_out or time.monotonic() > deadline
                wanted = min(2, interrupts.count + timed_out)
                if told < wanted:
                    told += 1
                    self.fleet.signal()
                if told == 2:
                    self.fleet.kill()
                    break
                self.fleet.watch()
                display.show(self.snapshot(self._note(told, timed_out)))
                time.sleep(POLL_SECONDS)
        finally:
            if self.fleet.alive:
                self.fleet.signal()
                self.fleet.kill()
        return self._end(display, interrupts, timed_out)

    def _end(self, display: Display, interrupts: Interrupts, timed_out: bool) -> End:
        study.reconcile(self.optuna, self.engine, self.record.id)
        snapshot = self.snapshot("")
        display.show(snapshot)
        closed = {place.slot.name: place.closed for place in self.fleet.places if place.closed}
        exhausted = any(4 in place.codes for place in self.fleet.places)
        return End(snapshot, interrupts.first, exhausted, timed_out, closed)

    def _others_work(self, interrupts: Interrupts) -> bool:
        """A launcher without workers of its own waits for those of other machines."""
        if self.fleet.places or interrupts.count:
            return False
        study.recover(self.optuna, leases.reap(self.engine, self.record.id))
        tally = results.tally(self.engine, self.record.id)
        return sum(tally[state] for state in TRAINED) < self.record.trials

    def _note(self, told: int, timed_out: bool) -> str:
        if told:
            why = "time is up" if timed_out else "stopping"
            return f"{why}: {len(self.fleet.alive)} workers finish their trial; Ctrl-C again ends at once"
        closed = [f"{place.slot.name} closed: {place.closed}" for place in self.fleet.places if place.closed]
        return "; ".join(closed)

    def snapshot(self, note: str) -> Snapshot:
        """The study as it is now. What ended before this launch does not count as news."""
        tally = results.tally(self.engine, self.record.id)
        ended = sum(tally.values()) - tally[State.RUNNING]
        fresh = 0 if self.ended is None else ended - self.ended
        self.ended = ended
        best = results.best(self.engine, self.record.id)
        return Snapshot(
            name=self.record.name,
            target=self.record.trials,
            tally=tally,
            running=leases.running(self.engine, self.record.id),
            best=best[0] if best else None,
            finished=self._last(fresh),
            epochs=self.plan.recipe.epochs,
            validation_images=self.plan.data.validation_images,
            note=note,
        )

    def _last(self, count: int) -> list[Candidate]:
        if not count:
            return []
        ended = set(State) - {State.RUNNING}
        rows = results.candidates(
            self.engine, self.record.id, states=ended, sort="finished_at", descending=True, limit=count
        )
        return rows[::-1]
