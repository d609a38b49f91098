"""Claims: who may train the next trial, and until when they must be heard of.

Reads and writes the claims of a study, marks candidates as lost, and trainings of the second stage, whose
claims storage/rungs.py grants, as waiting again. Called by search/worker/ to claim and renew, by
search/launcher/ to evict dead workers and to end trials in time, by search/commands/care.py to notice silent
ones. Knows nothing of what they train. Leases: Gray and Cheriton, 1989.

The target is exact with any number of workers: under the study's lock, claims held plus candidates trained
never exceed it. A claim counts until it is released, finished, reaped or evicted; expiry alone frees nothing,
so a worker that was slow but not yet reaped goes on, and one that was reaped is told so by LeaseLostError.

Order of locks, everywhere: study, claim, candidate.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Double,
    Engine,
    Row,
    Select,
    TextClause,
    Update,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal_column,
    select,
    text,
    update,
)
from sqlalchemy.sql.dml import ReturningInsert, ReturningUpdate

from space.errors import LeaseLostError
from storage import studies, tables
from storage.database import clock, now, reading, writing
from storage.row_types import MAX_ATTEMPTS, Candidate, State
from storage.studies import Control

START_OF_POSTGRES = "CAST(extract(epoch FROM pg_postmaster_start_time()) AS double precision)"
COLUMNS = [tables.candidates.c[field.name] for field in fields(Candidate)]


@dataclass(frozen=True)
class Claim:
    """The right to train one trial."""

    token: int  # unique for ever: it fences off whoever was declared dead
    study_id: int
    ordinal: int  # 1, 2, 3... in its study
    worker: str


class NoClaim(Enum):
    """Why there is no claim."""

    WAIT = "wait"  # others hold what is left; one of them may yet fail
    DONE = "done"
    STOPPED = "stopped"  # the study's control says anything but run
    LEFT = "left"  # one waits, and was left to others


@dataclass(frozen=True)
class Running:
    """What a worker is at. Without a number it has a claim and has not yet chosen a network."""

    worker: str
    device: str | None
    number: int | None
    parameters: int | None
    macs: int | None
    epoch: int | None  # the last one stored
    accuracy: float | None  # validation, after that epoch
    since: float  # seconds since the claim
    epochs: int | None = None  # of a training of the second stage, None for a trial
    silence: float = 0.0  # seconds since the claim was renewed
    lease_seconds: float = 0.0  # of silence: then it is taken for dead


def candidate(row: Row[Any]) -> Candidate:
    """Return the record of a row of COLUMNS."""
    return Candidate(**{**row._mapping, "state": State(row.state)})


def claim(engine: Engine, study_id: int, worker: str, lease_seconds: float) -> Claim | NoClaim:
    """Take one of the trials that are left; renew it where this worker has one that it never used.

    So a claim whose answer was lost with the connection is handed out again.
    Raises StudyError where the study has gone.
    """
    seen = _look(engine, study_id, worker)
    offered = (seen.trials, seen.standing_order, seen.trained, seen.held)
    refusal = None if seen.has_unused else _refusal(*offered)
    if refusal:
        return refusal
    if engine.name == "postgresql" and not seen.has_unused:
        return _claim_at_once(engine, study_id, worker, lease_seconds)
    with writing(engine) as connection:
        study = studies.lock(connection, study_id)
        if studies.trained(connection, study_id) >= study.trials:
            return NoClaim.DONE
        unused = _unused(connection, study_id, worker)
        if study.order != Control.RUN:
            if unused:
                connection.execute(delete(tables.claims).where(tables.claims.c.token == unused.token))
            return NoClaim.STOPPED
        if unused:
            renew_in(connection, unused, lease_seconds=lease_seconds)
            return unused
        if studies.engaged(connection, study_id) >= study.trials:
            return NoClaim.WAIT
        return new_claim(connection, study_id, worker, lease_seconds)


def close_exhausted(engine: Engine, study_id: int) -> NoClaim | None:
    """Have a study with a second stage ask for no more trials than are trained, as no network is left to
    propose; its plan notes how many were asked for, unless they were ended in time before.

    DONE once all that are asked for are trained; WAIT while somebody holds one, which may yet be; None where
    there is nothing to go on with: no second stage, or no trained network. Raises StudyError where the study
    has gone.
    """
    seen = _look(engine, study_id, "")
    if refusal := _refusal(seen.trials, seen.standing_order, seen.trained, seen.held):
        return refusal
    if seen.held:
        return NoClaim.WAIT
    with writing(engine) as connection:
        study = studies.lock(connection, study_id)
        trained = studies.trained(connection, study_id)
        held = studies.engaged(connection, study_id) - trained
        if refusal := _refusal(study.trials, study.order, trained, held):
            return refusal
        if held:
            return NoClaim.WAIT
        if not (study.finish and trained):
            return None
        if study.finish.get(studies.CLOSED_FROM) is None:
            noted = {studies.CLOSED_FROM: study.trials, studies.EXHAUSTED: True}
            studies.set_finish_in(connection, study_id, {**study.finish, **noted})
        studies.ask_for_no_more(connection, study_id)
        return NoClaim.DONE


# What there is to claim, and whether this worker has a claim that it never used.
SEEN = """
SELECT s.trials, s.standing_order,
    (SELECT count(*) FROM search_candidates
        WHERE study_id = s.id AND state IN ('completed', 'pruned')) AS trained,
    (SELECT count(*) FROM search_claims WHERE study_id = s.id AND rung_training_id IS NULL) AS held,
    EXISTS (SELECT 1 FROM search_claims WHERE study_id = s.id AND worker = {worker}
        AND candidate_id IS NULL AND rung_training_id IS NULL) AS has_unused,
    s.id
FROM search_studies s WHERE s.id = {study}
"""
# claim() in one message: the lock is held while the server counts and grants, and by no process of ours.
CLAIM = (
    """
SELECT id FROM search_studies WHERE id = %(study)s FOR NO KEY UPDATE;
WITH seen AS ("""
    + SEEN.format(study="%(study)s", worker="%(worker)s")
    + """), counted AS (
    UPDATE search_studies SET claims_made = claims_made + 1 FROM seen
    WHERE search_studies.id = seen.id AND seen.standing_order = 'run' AND NOT seen.has_unused
        AND seen.trained + seen.held < seen.trials
    RETURNING claims_made
), made AS (
    INSERT INTO search_claims
        (study_id, ordinal, worker, lease_seconds, claimed_at, renewed_at, expires_at)
    SELECT %(study)s, claims_made, %(worker)s, %(lease)s, moment, moment, moment + %(lease)s
    FROM counted, (SELECT CAST(extract(epoch FROM clock_timestamp()) AS double precision) AS moment) AS clock
    RETURNING token, ordinal
)
SELECT trials, standing_order, trained, held, has_unused, token, ordinal FROM seen LEFT JOIN made ON true
"""
)


@cache
def _seen() -> TextClause:
    return text(SEEN.format(study=":study", worker=":worker"))


def _look(engine: Engine, study_id: int, worker: str) -> Row[Any]:
    """What a claim would find, without a lock: who only waits for others keeps nobody waiting."""
    with reading(engine) as connection:
        seen = connection.execute(_seen(), {"study": study_id, "worker": worker}).first()
    if seen is None:
        raise studies.gone(study_id)
    return seen


def _refusal(trials: int, order: str, trained: int, held: int) -> NoClaim | None:
    """Why there is nothing to claim, if there is not."""
    if trained >= trials:
        return NoClaim.DONE
    if order != Control.RUN:
        return NoClaim.STOPPED
    return NoClaim.WAIT if trained + held >= trials else None


def _claim_at_once(engine: Engine, study_id: int, worker: str, lease_seconds: float) -> Claim | NoClaim:
    """A new claim on PostgreSQL. Raises StudyError where the study has gone."""
    from storage import postgres  # loads psycopg, which a SQLite file does without

    values = {"study": study_id, "worker": worker, "lease": lease_seconds}
    with engine.connect().execution_options(**postgres.ONE_MESSAGE) as connection:
        rows = postgres.at_once(connection, CLAIM, values)
    if not rows:
        raise studies.gone(study_id)
    trials, order, trained, held, _, token, ordinal = rows[0]
    if token is not None:
        return Claim(token, study_id, ordinal, worker)
    return _refusal(trials, order, trained, held) or NoClaim.WAIT


def _unused(connection: Connection, study_id: int, worker: str) -> Claim | None:
    row = connection.execute(_unused_of(), {"study": study_id, "name": worker}).first()
    return Claim(*row) if row else None


@cache
def _unused_of() -> Select[Any]:
    table = tables.claims
    mine = (table.c.study_id == bindparam("study"), table.c.worker == bindparam("name"))
    query = select(table.c.token, table.c.study_id, table.c.ordinal, table.c.worker)
    unused = (table.c.candidate_id.is_(None), table.c.rung_training_id.is_(None))
    return query.where(*mine, *unused).order_by(table.c.token).limit(1)


def new_claim(
    connection: Connection,
    study_id: int,
    worker: str,
    lease_seconds: float,
    rung_training_id: int | None = None,
) -> Claim:
    """Grant a claim, inside a transaction that has the study's lock: of a trial, or of the second stage."""
    ordinal = int(connection.execute(_next_ordinal(), {"study": study_id}).scalar_one())
    moment = now(connection)
    row = {
        "study_id": study_id,
        "ordinal": ordinal,
        "worker": worker,
        "lease_seconds": lease_seconds,
        "claimed_at": moment,
        "renewed_at": moment,
        "expires_at": moment + lease_seconds,
        "rung_training_id": rung_training_id,
    }
    token = connection.execute(_insert_claim(), row).scalar_one()
    return Claim(token, study_id, ordinal, worker)


@cache
def _next_ordinal() -> ReturningUpdate[Any]:
    table = tables.studies
    counted = (
        update(table).where(table.c.id == bindparam("study")).values(claims_made=table.c.claims_made + 1)
    )
    return counted.returning(table.c.claims_made)


@cache
def _insert_claim() -> ReturningInsert[Any]:
    return insert(tables.claims).returning(tables.claims.c.token)


def renew(engine: Engine, claim: Claim, lease_seconds: float) -> Control:
    """Say that the worker lives, and hear the order. Raises LeaseLostError where the claim has gone."""
    order = select(tables.studies.c.order).where(tables.studies.c.id == claim.study_id)
    with writing(engine) as connection:
        renew_in(connection, claim, lease_seconds=lease_seconds)
        return Control(connection.execute(order).scalar_one())


def renew_in(connection: Connection, claim: Claim, **values: object) -> None:
    """Renew, inside a transaction that depends on it, a claim, and set its values. Raises LeaseLostError."""
    new = {f"new_{name}": value for name, value in values.items()}
    statement = _renew_in(connection.dialect.name, *sorted(values))
    if connection.execute(statement, {"held": claim.token, **new}).rowcount == 0:
        raise lost(claim)


@cache
def _renew_in(dialect: str, *names: str) -> Update:
    table, moment = tables.claims, clock(dialect)
    new = {name: bindparam(f"new_{name}", type_=table.c[name].type) for name in names}
    expires = moment + new.get("lease_seconds", table.c.lease_seconds)
    values = {**new, "renewed_at": moment, "expires_at": expires}
    return update(table).where(table.c.token == bindparam("held")).values(values)


def lost(claim: Claim) -> LeaseLostError:
    """Return the error of a claim that has gone."""
    return LeaseLostError(
        f"claim {claim.ordinal} of worker {claim.worker!r} has gone: silent too long, or evicted; claim anew"
    )


def release(engine: Engine, claim: Claim) -> list[Candidate]:
    """Give the claim back without a result. Returns the candidate that ran under it, which is lost, if there
    was one. The worker lives and stays with the study. No error where the claim had gone; raises StudyError
    where the study has.
    """
    mine = tables.claims.c.token == claim.token
    with writing(engine) as connection:
        studies.lock(connection, claim.study_id)
        _, found = _take_in(connection, claim.study_id, mine, "worker {worker} gave it back")
        return found


def take_unclaimed(engine: Engine, study_id: int) -> list[Candidate]:
    """Mark as lost what runs under no claim, as damaged books may have it. Returns these candidates.

    Raises StudyError where the study has gone.
    """
    table, claims = tables.candidates, tables.claims
    held = select(claims.c.token).where(claims.c.candidate_id == table.c.id)
    unclaimed = select(table.c.worker, table.c.id).where(
        table.c.study_id == study_id, table.c.state == State.RUNNING, ~held.exists()
    )
    with writing(engine) as connection:
        studies.lock(connection, study_id)
        moment = now(connection)
        found = [(row.worker, row.id, moment, None) for row in connection.execute(unclaimed)]
        return _mark_lost(connection, found, "worker {worker} had no claim", moment)


# Of a lease: so much longer a worker whose time is over has to be heard, from when somebody notices that. It
# renews four times in a lease (search/worker/heartbeat.py), so that one that lives is heard twice.
NOTICE = 0.5


def reap(engine: Engine, study_id: int) -> list[Candidate]:
    """Take back every claim whose time is over, and was so half a lease ago when that was first noticed.
    Returns the candidates lost by it, each to one caller only.

    Whoever has just come, or woken, cannot know whether the others were silent or could not be heard: the
    database may have been out of everybody's reach until now, or the machine of a file asleep. A server that
    was down heard nobody: after its start every worker has the whole of its lease to be heard.
    Raises StudyError where the study has gone.
    """
    dialect, table = engine.name, tables.claims
    over = and_(table.c.study_id == study_id, _heard_until(dialect) <= clock(dialect))
    with reading(engine) as connection:  # mostly there is none: then nobody waits for the lock
        if connection.execute(select(table.c.token).where(over).limit(1)).first() is None:
            return []
    noticed = _is_noticed()
    late = update(table).where(over, ~noticed)
    with writing(engine) as connection:
        studies.lock(connection, study_id)
        connection.execute(late.values(expires_at=clock(dialect) + NOTICE * table.c.lease_seconds))
    return _take(engine, study_id, and_(over, noticed), "worker {worker} was silent for {silence:.0f} s")


def notice(engine: Engine, study_id: int, workers: Collection[str]) -> float:
    """Notice now that these workers are silent, as though somebody looked when the time of their claims is
    over. Returns the seconds after which reap() takes these back, if they are not heard of; 0 without any.

    Each has its lease and half of one since it was last heard of, and half a lease from now at least. Raises
    StudyError where the study has gone.
    """
    table, moment = tables.claims, clock(engine.dialect.name)
    until = _heard_until(engine.dialect.name)
    mine = and_(table.c.study_id == study_id, table.c.worker.in_(workers))
    over = case((until > moment, until), else_=moment)
    with writing(engine) as connection:
        studies.lock(connection, study_id)
        given = {"expires_at": over + NOTICE * table.c.lease_seconds}
        connection.execute(update(table).where(mine, ~_is_noticed()).values(given))
        left = connection.execute(select(func.max(until - moment)).where(mine)).scalar()
    return max(0.0, left or 0.0)


def _is_noticed() -> ColumnElement[bool]:
    """Whether somebody noticed that a worker is silent, since it was last heard of. Until then the two are a
    lease apart, but for the microseconds between two looks at a clock."""
    table = tables.claims
    return table.c.expires_at - table.c.renewed_at >= (1 + NOTICE / 2) * table.c.lease_seconds


def _heard_until(dialect: str) -> ColumnElement[float]:
    """When a claim's time is over, seconds since 1970."""
    table = tables.claims
    if dialect != "postgresql":
        return table.c.expires_at  # a file is never down
    started = literal_column(START_OF_POSTGRES, Double)
    return func.greatest(table.c.expires_at, started + table.c.lease_seconds)


def evict(engine: Engine, study_id: int, worker: str) -> list[Candidate]:
    """Take back at once the claims of a worker known to be dead. Returns the candidates lost by it.

    Raises StudyError where the study has gone.
    """
    dead = and_(tables.claims.c.study_id == study_id, tables.claims.c.worker == worker)
    return _take(engine, study_id, dead, "worker {worker} died", gone={worker})


def give_up_trials(engine: Engine, study_id: int, workers: Collection[str], reason: str) -> list[Candidate]:
    """Take back the claims of these living workers on trials, and have the study ask for no more trials than
    are trained or held by others: what they trained is owed by nobody. Trainings of the second stage are left
    alone.

    Returns the candidates lost by it. Raises StudyError where the study has gone.
    """
    table = tables.claims
    with writing(engine) as connection:
        studies.lock(connection, study_id)
        columns = (table.c.worker, table.c.candidate_id, table.c.renewed_at, table.c.rung_training_id)
        trials = and_(
            table.c.study_id == study_id, table.c.rung_training_id.is_(None), table.c.worker.in_(workers)
        )
        taken = connection.execute(delete(table).where(trials).returning(*columns)).all()
        if not taken:
            return []
        found = _mark_lost(connection, taken, reason, now(connection))
        studies.ask_for_no_more(connection, study_id)
        return found


def _take(
    engine: Engine, study_id: int, where: ColumnElement[bool], reason: str, gone: Collection[str] = ()
) -> list[Candidate]:
    """Takes the claims of the dead back; they, and those that are `gone`, work on the study no more."""
    workers = tables.workers
    with writing(engine) as connection:
        studies.lock(connection, study_id)
        names, found = _take_in(connection, study_id, where, reason)
        mine = (workers.c.study_id == study_id, workers.c.name.in_({*gone, *names}))
        connection.execute(delete(workers).where(*mine))
        return found


def _take_in(
    connection: Connection, study_id: int, where: ColumnElement[bool], reason: str
) -> tuple[set[str], list[Candidate]]:
    """Takes these claims back, with the study's lock held. Returns whose they were, and the candidates lost
    by it."""
    table = tables.claims
    moment = now(connection)
    columns = (table.c.worker, table.c.candidate_id, table.c.renewed_at, table.c.rung_training_id)
    taken = connection.execute(delete(table).where(where).returning(*columns)).all()
    _put_back(connection, taken, reason, moment)
    of_trials = sum(row.rung_training_id is None for row in taken)
    studies.replace_none_where_closed(connection, study_id, of_trials)
    return {row.worker for row in taken}, _mark_lost(connection, taken, reason, moment)


def _mark_lost(
    connection: Connection, taken: Iterable[Sequence[Any]], reason: str, moment: float
) -> list[Candidate]:
    found: list[Candidate] = []
    for worker, candidate_id, renewed_at, _ in taken:
        mark = (
            update(tables.candidates)
            .where(tables.candidates.c.id == candidate_id, tables.candidates.c.state == State.RUNNING)
            .values(
                state=State.LOST,
                reason=reason.format(worker=worker, silence=moment - renewed_at),
                finished_at=datetime.fromtimestamp(moment, UTC),
            )
            .returning(*COLUMNS)
        )
        lost = [candidate(row) for row in connection.execute(mark)]
        for one in lost:
            if one.attempt >= MAX_ATTEMPTS:
                studies.give_up_where_due(connection, one.study_id)
        found += lost
    return sorted(found, key=lambda one: one.number)


def _put_back(connection: Connection, taken: Iterable[Sequence[Any]], reason: str, moment: float) -> None:
    """What was taken of the second stage waits for another worker, or is lost after its last attempt."""
    table = tables.rung_trainings
    for worker, _, renewed_at, training_id in taken:
        said = {"reason": reason.format(worker=worker, silence=moment - renewed_at)}
        mine = update(table).where(table.c.id == training_id, table.c.state == State.RUNNING)
        again = mine.where(table.c.attempt < MAX_ATTEMPTS)
        connection.execute(again.values(said | {"state": None, "attempt": table.c.attempt + 1}))
        ended = {"state": State.LOST, "finished_at": datetime.fromtimestamp(moment, UTC)}
        connection.execute(mine.values(said | ended))


def running(engine: Engine, study_id: int) -> list[Running]:
    """Return what each claim is at, in the order of the claims."""
    claims, candidates, epochs = tables.claims, tables.candidates, tables.epochs
    rungs = tables.rung_trainings
    last = (
        select(func.max(epochs.c.epoch))
        .where(epochs.c.candidate_id == claims.c.candidate_id)
        .correlate(claims)
        .scalar_subquery()
    )
    query = (
        select(
            claims.c.worker,
            func.coalesce(rungs.c.device, candidates.c.device),
            candidates.c.number,
            candidates.c.parameters,
            candidates.c.macs,
            func.coalesce(rungs.c.epoch, epochs.c.epoch),
            func.coalesce(rungs.c.accuracy, epochs.c.validation_accuracy),
            clock(engine.dialect.name) - claims.c.claimed_at,
            rungs.c.epochs,
            clock(engine.dialect.name) - claims.c.renewed_at,
            claims.c.lease_seconds,
        )
        .select_from(claims)
        .outerjoin(rungs, rungs.c.id == claims.c.rung_training_id)
        .outerjoin(candidates, candidates.c.id == func.coalesce(claims.c.candidate_id, rungs.c.candidate_id))
        .outerjoin(epochs, and_(epochs.c.candidate_id == claims.c.candidate_id, epochs.c.epoch == last))
        .where(claims.c.study_id == study_id)
        .order_by(claims.c.ordinal)
    )
    with reading(engine) as connection:
        return [Running(*row) for row in connection.execute(query)]
