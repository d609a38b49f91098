"""A worker: one process, one device, one trial after another until the study has its number, and then one
training of its second stage after another, if it has one.

The command `search worker` calls main(). It is told where the database is and the name of the study
(WorkerOptions); all else it reads there. SIGTERM drains: the trial under way is finished, within the grace
period. A second one ends it at once. Both leave nothing running.
"""

import gc
import logging
import os
import shlex
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from secrets import token_hex

from sqlalchemy import Engine

from search.machine import gpu_choice
from search.machine.processes import MADE_ROOM, WORK_DONE, die_with_parent
from search.machine.signals import ShutdownRequest, ToldToEnd
from search.optuna_adapter import privileges as optuna_privileges, study as optuna_study
from search.recording import reconcile as reconciling, rescue, spool
from search.recording.outage import OUT_OF_REACH, Outage, one_line
from search.study import files, gave_up, second_stage, worker_logs
from search.study.worker_options import WorkerOptions
from search.worker import log, rung_training, trial as worker_trial
from search.worker.callbacks import Cancelled
from search.worker.context import WorkerContext, open_context
from search.worker.left_out import StudiesLeftOut
from search.worker.presence import WorkerPresence
from space.errors import (
    DataError,
    ExhaustedError,
    GaveUpError,
    LeaseLostError,
    ParsimonyError,
    StorageError,
    StoreGoneError,
    UsageError,
)
from storage import candidates, connections, database, leases, studies
from storage.leases import NoClaim
from storage.row_types import State
from storage.studies import Control, Study
from storage.workers import Doing

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.5  # between two claims while others hold the trials that are left
RETRY_SECONDS = 2.0  # between two attempts to reach the database, with --follow
FAILURES_IN_A_ROW = 3  # of trials: then the fault is the worker's
# With --make-room, leave the GPU after 2 out-of-memory retries in the last 10 trials: each retry blocks every
# worker of that GPU.
RETRIES, OF_TRIALS = 2, 10
GONE = (KeyError, StopIteration)  # what Optuna, and ask.py, raise where a study or a trial is not there
TOLD = "ends: it was told to"
ENDS = {NoClaim.DONE: "the study has its number", NoClaim.STOPPED: "`search stop` said so"}


def unique_name() -> str:
    """Host and process, and a token: in containers both may be those of another worker."""
    return f"{socket.gethostname()}-{os.getpid()}-{token_hex(3)}"


def main(options: WorkerOptions, reworded: Callable[[str], str] = str) -> int:
    """The command `search worker`: one study, or with `follow` whatever is launched until told to end.

    `reworded` is done to each line on stderr of a worker that a person started: it makes commands whole,
    which are to be typed there. Its log, and that of a launcher's worker, have them as they are.

    Returns the exit code: WORK_DONE for a launcher, else that of the signal or 0. Raises as work() does, but
    no GaveUpError where a launcher says that; a ParsimonyError after failed trials among it, StudyError for a
    study that is not there, and SystemExit(MADE_ROOM).
    """
    _configure_log(options, reworded)
    shutdown = ShutdownRequest(options.grace_seconds, options.parent)
    shutdown.listen()
    if options.parent is not None:
        die_with_parent(options.parent)
    else:  # a launcher knows its workers by the names it gave them
        options = replace(options, name="-".join(filter(None, (options.name, unique_name()))))
    with gpu_choice.take_least_held_gpu(options.data_dir / "slots"), _told_to_end():
        if options.follow:
            _follow(replace(options, database_timeout_seconds=float("inf")), shutdown)
        else:
            _work_once(options, shutdown)
    return WORK_DONE if options.parent is not None else shutdown.code


def _configure_log(options: WorkerOptions, reworded: Callable[[str], str]) -> None:
    """What a launcher's worker says is read in a file, which is no place to type a command from."""
    level = log.level(options.verbose, options.quiet)
    log.configure(level, reworded if options.parent is None else str)


@contextmanager
def _told_to_end() -> Iterator[None]:
    """Ends in order what a signal ended before it had begun to work."""
    try:
        yield
    except ToldToEnd:
        logger.info(TOLD)


def work(options: WorkerOptions, engine: Engine, record: Study, shutdown: ShutdownRequest) -> None:
    """Trains until the study has its number, a stop is asked for, or `shutdown` says so.

    Raises ToldToEnd where that comes before the study is open, ExhaustedError, GaveUpError, DataError,
    StudyError where Optuna's part of the study was deleted, OutageTooLongError when the database stays away,
    StoreGoneError where its file was deleted or replaced, and ParsimonyError after three failed trials in a
    row.
    """
    try:
        _work_at(options, engine, record, shutdown)
    except StoreGoneError as error:
        spool_folder = files.study_folders(options.data_dir, options.storage, record).spool
        raise rescue.keep(error, engine, spool_folder, record.name) from None


def _work_at(options: WorkerOptions, engine: Engine, record: Study, shutdown: ShutdownRequest) -> None:
    """Opens what the study needs, and works. Raises as work() does."""
    outage = Outage(options.database_timeout_seconds, shutdown.cancelled)
    with ExitStack() as stack:
        presence = stack.enter_context(
            WorkerPresence(engine, record.id, options.name or "", options.lease_seconds)
        )
        with shutdown.ends_at_once():  # it may prepare images, or wait for who does, and holds nothing yet
            context = outage.insist(
                lambda: stack.enter_context(open_context(options, engine, record, shutdown, presence.say))
            )
        presence.device = context.device
        logger.info("ready on %s", context.device)
        try:
            with _what_stays_not_looked_through():
                _work_in(context, shutdown)
        except GONE:
            optuna_study.require_there(context.study, engine, record.name)
            raise


@contextmanager
def _what_stays_not_looked_through() -> Iterator[None]:
    """What is there by now, 240,000 objects with torch and Optuna, is no garbage while trials are trained:
    looking through it takes Python a tenth of a second, after each training on a GPU and now and then."""
    if gc.get_freeze_count():  # whoever did that decides
        yield
        return
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _work_in(context: WorkerContext, shutdown: ShutdownRequest) -> None:
    """One trial after another. Raises as work() does, and GONE where Optuna's study was deleted."""
    failures = 0
    retries = deque([0], OF_TRIALS + 1)
    while not shutdown.draining:
        try:
            ended = work_on_one(context)
        except OUT_OF_REACH as error:
            context.outage.wait(error)
            continue
        context.outage.back()
        if isinstance(ended, NoClaim):
            if ended is NoClaim.STOPPED:
                _say_why_stopped(context)
            context.outage.insist(
                lambda: reconciling.reconcile(context.study, context.engine, context.study_id)
            )
            logger.info("ends: %s", ENDS[ended])
            return
        failures = failures + 1 if ended == State.FAILED else 0
        if failures >= FAILURES_IN_A_ROW:
            name = context.outage.insist(lambda: studies.get(context.engine, context.study_id)).name
            shown = f"`search trials {shlex.quote(name)}`"
            raise ParsimonyError(f"{failures} trials in a row failed here; see {shown}")
        if ended is not None:
            retries.append(context.out_of_memory_beside_others)
        if context.options.make_room and retries[-1] - retries[0] >= RETRIES:
            logger.info("leaves the device to the others: its memory was short beside them")
            raise SystemExit(MADE_ROOM)
    logger.info(TOLD)


def work_on_one(context: WorkerContext) -> State | NoClaim | None:
    """One trial or training: how it ended, why there was none, or None where it is worth asking again.

    Raises ExhaustedError, and OUT_OF_REACH while the database is away.
    """
    spool.take_in(context.spool, context.study, context.engine, context.study_id)
    lease_seconds = context.options.lease_seconds
    if context.outage.calm(lease_seconds):  # else living workers may not have been heard yet
        reconciling.tell_lost(context.study, leases.reap(context.engine, context.study_id))
    try:
        ended = run_next(context)
    except LeaseLostError as error:
        logger.info(str(error))
        return None
    except Cancelled:
        return NoClaim.STOPPED
    if not isinstance(ended, NoClaim):
        context.say(Doing.WORKING)  # its claim spoke for it, and has gone
    order = order_of(context) if ended is NoClaim.STOPPED else None
    if order == Control.RUN:  # resumed, or launched again, since it was refused
        return None
    if ended is NoClaim.WAIT or order == Control.PAUSE:
        context.say(Doing.PAUSED if order == Control.PAUSE else Doing.WAITING)
        time.sleep(POLL_SECONDS)
        return None
    return ended


def run_next(context: WorkerContext) -> State | NoClaim | None:
    """A trial, as long as some are left, then a training of the second stage. Returns as work_on_one().

    Where no network is left for a trial, a study with a second stage goes on to that, once nobody holds a
    trial any more. Raises ExhaustedError where there is none to go on to, LeaseLostError, and Cancelled, once
    that is recorded.
    """
    refusal = _end_trials(context) if context.exhausted else None
    name, seconds = context.options.name or "", context.options.lease_seconds
    claim = refusal or leases.claim(context.engine, context.study_id, name, seconds)
    if claim is NoClaim.DONE:
        context.exhausted = None
        return rung_training.run_next(context)
    if isinstance(claim, NoClaim):
        return claim
    context.say(Doing.WORKING)
    try:
        return worker_trial.run(context, claim)
    except ExhaustedError as error:
        reconciling.tell_lost(context.study, leases.release(context.engine, claim))
        if studies.get(context.engine, context.study_id).finish is None:
            raise
        logger.info("no network is left: %s", error)
        context.exhausted = error
        return None
    except GONE:
        reconciling.tell_lost(context.study, leases.release(context.engine, claim))
        raise


def _end_trials(context: WorkerContext) -> NoClaim | None:
    """Why there is no trial for a worker that had no network to propose any more: trials end once nobody
    holds one. None where there is one by now: a network was queued, or another worker could not end its own.

    Raises the ExhaustedError of then where the study has nothing to go on to.
    """
    if worker_trial.has_waiting(context):
        context.exhausted = None
        return None
    refusal = leases.close_exhausted(context.engine, context.study_id)
    if refusal is None and context.exhausted:
        raise context.exhausted
    return refusal


def order_of(context: WorkerContext) -> Control:
    """What the workers of the study are told."""
    return studies.get(context.engine, context.study_id).order


def _say_why_stopped(context: WorkerContext) -> None:
    """Raises GaveUpError where nobody but the search itself ended it."""
    rows = context.outage.insist(lambda: candidates.untrained_in_a_row(context.engine, context.study_id))
    study = context.outage.insist(lambda: studies.get(context.engine, context.study_id))
    if study.order == Control.GAVE_UP:
        raise GaveUpError(gave_up.reason(rows, study.name))


def _work_once(options: WorkerOptions, shutdown: ShutdownRequest) -> None:
    """A launcher's worker waits for a database that its launcher has seen; one started by hand says at once
    that there is none."""
    outage = Outage(options.database_timeout_seconds, lambda: shutdown.draining)
    url = options.storage
    engine = _connect_first(url) if options.parent is None else outage.insist(lambda: _connect(url))
    try:
        record = outage.insist(lambda: studies.find(engine, options.study))
        _keep_log(options, record)
        logger.info("works on %s", record.name)
        work(options, engine, record, shutdown)
    except GaveUpError as error:  # a launcher says it itself, of all its workers once
        if options.parent is None:
            raise
        logger.info(str(error))
    finally:
        engine.dispose()


def _keep_log(options: WorkerOptions, record: Study) -> None:
    """A worker started by hand has a file beside those that launchers give to theirs, as one that follows."""
    if options.parent is None or options.follow:
        log.add_file(worker_logs.folder(options.data_dir, record.name) / f"{options.name}.log")


def _follow(options: WorkerOptions, shutdown: ShutdownRequest) -> None:
    """Works until told to end. A database that is not up yet, or goes away, is waited for."""
    database.normalise(options.storage)  # what is no URL will not become one
    left_out = StudiesLeftOut()
    while engine := _reach(options, shutdown):
        try:
            _work_through(options, engine, shutdown, left_out)
        except OUT_OF_REACH as error:
            logger.info("lost the database: %s", one_line(error))
            time.sleep(RETRY_SECONDS)
        finally:
            engine.dispose()


def _reach(options: WorkerOptions, shutdown: ShutdownRequest) -> Engine | None:
    """The database, once it answers and has our tables. None when told to end meanwhile."""
    logged = ""
    while not shutdown.draining:
        try:
            return (_connect if options.parent is not None else _connect_first)(options.storage)
        except StorageError as error:
            if str(error) != logged:
                logged = str(error)
                logger.info("waits: %s", logged)
            time.sleep(RETRY_SECONDS)
    return None


def _connect(url: str) -> Engine:
    engine = database.connect(url, create=False, few=True)
    try:
        database.check(engine)
        optuna_privileges.require_to_work(engine)
    except StorageError:
        engine.dispose()
        raise
    return engine


def _connect_first(url: str) -> Engine:
    """The same for a worker whose launcher has not counted the server's connections for it.

    Raises StorageError where the server has none left for it, too.
    """
    engine = _connect(url)
    try:
        with database.translated(engine):
            connections.require_turn(engine)
    except StorageError:
        engine.dispose()
        raise
    return engine


def _work_through(
    options: WorkerOptions, engine: Engine, shutdown: ShutdownRequest, left_out: StudiesLeftOut
) -> None:
    """Works on the newest study that is not done, one after another. One that cannot be done here is left out
    for a while. Raises OUT_OF_REACH while the database is away, and ParsimonyError after three failed trials
    in a row or for a device that cannot train."""
    while not shutdown.draining:
        record = _unfinished(engine, options.study, left_out)
        if record is None:
            time.sleep(POLL_SECONDS)
            continue
        _keep_log(options, record)
        again = left_out.knows(record)
        logger.log(logging.DEBUG if again else logging.INFO, "works on %s", record.name)
        try:
            _work_to_its_end(options, engine, record, shutdown)
            left_out.forget(record)
        except (DataError, UsageError) as error:
            left_out.add(record, error)


def _work_to_its_end(
    options: WorkerOptions, engine: Engine, record: Study, shutdown: ShutdownRequest
) -> None:
    """Works on a study, which may end by itself. Raises as work() does otherwise."""
    try:
        work(options, engine, record, shutdown)
    except GaveUpError as error:
        logger.info(str(error))
    except ExhaustedError as error:
        logger.info(str(error))
        studies.set_control(engine, record.id, studies.Control.STOP)


def _unfinished(engine: Engine, name: str | None, left_out: StudiesLeftOut) -> Study | None:
    for record in reversed(studies.all_studies(engine)):
        if name not in (None, record.name) or record.order != Control.RUN or left_out.has(record):
            continue
        if left_out.is_over(record):  # this is asked twice a second
            continue
        try:
            if _is_owed(engine, record):
                return record
        except UsageError as error:  # a plan that cannot be read
            left_out.add(record, error)
        else:
            left_out.note_over(record)
    return None


def _is_owed(engine: Engine, record: Study) -> bool:
    """Whether a trial or the second stage of a study is left to train. Raises StudyError for settings that
    cannot be read."""
    tally = candidates.tally(engine, record.id)
    if sum(tally[state] for state in candidates.TRAINED) < record.trials:
        return True
    second = second_stage.load(engine, record)
    return second is not None and not second.is_over
