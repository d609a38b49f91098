"""The ledger of a study: proposals, epochs, outcomes, and questions about them.

Reads and writes the candidates, epochs and late results of a database. Written by search/worker/ and
search/recording/, read by every command that shows a study. Knows nothing of who may run (storage/leases.py).

Every write is one transaction, fenced by a claim: who lost it changes nothing. A call may be repeated after a
broken connection: a proposal, an epoch or an outcome that is already there is not written twice.
"""

import math
import shlex
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Delete,
    Engine,
    Select,
    Update,
    and_,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.sql.dml import ReturningInsert

from space.errors import LeaseLostError, StudyError
from storage import studies, tables
from storage.database import moment, reading, writing
from storage.leases import COLUMNS, Claim, candidate, lost, renew_in
from storage.row_types import (
    DEDUPLICATED,
    GIVE_UP_AFTER,
    MAX_ATTEMPTS,
    TRAINED,
    UNTRAINED,
    Candidate,
    Ended,
    Epoch,
    Late,
    Proposal,
    State,
    TrainingMetrics,
)

__all__ = [
    "TRAINED",
    "Candidate",
    "Epoch",
    "Late",
    "Measured",
    "Proposal",
    "State",
    "TrainingMetrics",
    "best",
    "candidates",
    "ended",
    "epochs",
    "find",
    "finish",
    "keep_late",
    "late",
    "measured",
    "next_retry",
    "propose",
    "save_epoch",
    "tally",
    "times",
    "untrained_in_a_row",
    "yardstick",
]

TransactionStep = Callable[[Connection], object]


def propose(engine: Engine, claim: Claim, proposal: Proposal) -> Candidate:
    """Enter a network: as over_budget, as a repeat of an earlier one, or as running under the claim.

    The study is not locked: the claim is, against whoever takes it back, and of two workers that enter the
    same network at the same moment the index of fingerprints lets one through. Raises LeaseLostError where
    the claim has gone, StudyError where the study has; then nothing is entered.
    """
    try:
        return _propose(engine, claim, proposal)
    except IntegrityError:  # entered by another since we looked: now we see it
        return _propose(engine, claim, proposal)


def _propose(engine: Engine, claim: Claim, proposal: Proposal) -> Candidate:
    mine = {"study": claim.study_id, "trial": proposal.number, "held": claim.token}
    with writing(engine) as connection:
        try:
            renew_in(connection, claim)
        except LeaseLostError:
            studies.require_there(connection, claim.study_id)
            raise
        entered = connection.execute(_entered(), mine).first()
        if entered is not None:
            return candidate(entered)
        row = _verdict(connection, claim.study_id, proposal) | _entry(connection, claim, proposal)
        if row["state"] != State.RUNNING:
            row["finished_at"] = row["proposed_at"]
        new = candidate(connection.execute(_enter(), row).one())
        if new.state == State.RUNNING:
            renew_in(connection, claim, candidate_id=new.id)
        return new


@cache
def _entered() -> Select[Any]:
    """What the same proposal, made under the same claim, has become."""
    table = tables.candidates
    return select(*COLUMNS).where(
        table.c.study_id == bindparam("study"),
        table.c.number == bindparam("trial"),
        table.c.token == bindparam("held"),
    )


@cache
def _enter() -> ReturningInsert[Any]:
    return insert(tables.candidates).returning(*COLUMNS)


def _entry(connection: Connection, claim: Claim, proposal: Proposal) -> dict[str, Any]:
    row = asdict(proposal)
    del row["over_budget"]
    return row | {
        "study_id": claim.study_id,
        "worker": claim.worker,
        "token": claim.token,
        "proposed_at": moment(connection),
    }


def _verdict(connection: Connection, study_id: int, proposal: Proposal) -> dict[str, Any]:
    if proposal.over_budget is not None:
        return {"state": State.OVER_BUDGET, "reason": proposal.over_budget}
    known = connection.execute(_twin(), {"study": study_id, "network": proposal.fingerprint}).first()
    if known is None:
        return {"state": State.RUNNING}
    reason = f"the same network as trial {known.number}, which is {known.state}"
    return {"state": State.REPEATED, "repeat_of": known.number, "reason": reason}


@cache
def _twin() -> Select[Any]:
    table = tables.candidates
    same = (table.c.study_id == bindparam("study"), table.c.fingerprint == bindparam("network"))
    # In the words of the index, which is of these states alone: else no database knows that it may be used.
    return select(table.c.number, table.c.state).where(*same, text(tables.DEDUPLICATED))


def next_retry(engine: Engine, study_id: int) -> Candidate | None:
    """Return the first trial that broke off and whose network is still to be trained, if there is one.

    It was lost with attempts left, or cancelled, and not tried again since. Where trials were closed in time
    for a second stage nobody is to try those again that were lost, or given up as too slow.
    """
    with reading(engine) as connection:
        row = connection.execute(_next_retry(), {"study": study_id}).first()
    return candidate(row) if row else None


@cache
def _next_retry() -> Select[Any]:
    table, later = tables.candidates, tables.candidates.alias()
    broke_off = or_(
        and_(table.c.state == State.LOST, table.c.attempt < MAX_ATTEMPTS, studies.is_open()),
        table.c.state == State.CANCELLED,
    )
    since = select(later.c.id).where(
        later.c.study_id == bindparam("study"),
        later.c.fingerprint == table.c.fingerprint,
        later.c.id > table.c.id,
        later.c.state.in_(DEDUPLICATED | {State.LOST, State.CANCELLED}),
    )
    query = select(*COLUMNS).where(table.c.study_id == bindparam("study"), broke_off, ~since.exists())
    return query.order_by(table.c.id).limit(1)


def save_epoch(
    engine: Engine,
    claim: Claim,
    candidate_id: int,
    epoch: Epoch,
    in_transaction: TransactionStep | None = None,
) -> None:
    """Store one epoch, in place of one that is there, and renew the lease.

    A server that falls may forget the last of them (storage.database.writing): finish() is given them all.
    `in_transaction` is called with the connection before the commit. Raises LeaseLostError where the claim
    has gone.
    """
    with writing(engine, durable=False) as connection:
        renew_in(connection, claim)
        _store_epochs(connection, candidate_id, [epoch])
        if in_transaction:
            in_transaction(connection)


def _store_epochs(connection: Connection, candidate_id: int, epochs: Collection[Epoch]) -> None:
    mine = {"candidate_id": candidate_id}
    rows = [mine | {key: finite(value) for key, value in asdict(epoch).items()} for epoch in epochs]
    if rows:
        connection.execute(_upsert_epoch(connection.dialect.name), rows)


@cache
def _upsert_epoch(dialect: str) -> Any:
    table = tables.epochs
    new = (postgresql.insert if dialect == "postgresql" else sqlite.insert)(table)
    changed = {name: value for name, value in new.excluded.items() if name not in table.primary_key.columns}
    return new.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=changed)


@cache
def _count_epochs() -> Select[Any]:
    table = tables.epochs
    return select(func.count()).select_from(table).where(table.c.candidate_id == bindparam("candidate"))


def finite(value: float | None) -> float | None:
    """Return NULL for what is no number: SQLite would make it of NaN by itself, PostgreSQL keep the NaN."""
    return value if value is not None and math.isfinite(value) else None


def finish(
    engine: Engine,
    claim: Claim,
    candidate_id: int,
    state: State,
    *,
    reason: str | None = None,
    outcome: TrainingMetrics | None = None,
    epochs: Collection[Epoch] = (),
    anew: bool = False,
    in_transaction: TransactionStep | None = None,
) -> None:
    """Write what became of a running candidate and give the claim back.

    `epochs` are all that were saved: where a fallen server has forgotten some, or with `anew`, they replace
    what is stored. `in_transaction` is called with the connection before the commit. The study is locked only
    where the end may be the last of too many, or nobody is to take its place: a trial that was held counts as
    trained in the same moment.
    Raises LeaseLostError where the claim has gone, StudyError where the study has; then nothing is changed.
    """
    mine = {"candidate": candidate_id, "held": claim.token}
    with writing(engine) as connection:
        (studies.lock if state in UNTRAINED else studies.require_there)(connection, claim.study_id)
        if not give_back(connection, claim):
            if connection.execute(_state(), mine).scalar() == state:
                return  # the call before this one got through, only its answer did not
            raise lost(claim)
        ended = {"new_state": state, "new_reason": reason, "end": moment(connection)}
        measured = {f"new_{name}": value for name, value in _columns(outcome).items()}
        if connection.execute(_finish(tuple(measured)), mine | measured | ended).rowcount == 0:
            raise lost(claim)
        if anew or (epochs and connection.execute(_count_epochs(), mine).scalar_one() != len(epochs)):
            connection.execute(delete(tables.epochs).where(tables.epochs.c.candidate_id == candidate_id))
            _store_epochs(connection, candidate_id, epochs)
        if state in UNTRAINED:
            studies.give_up_where_due(connection, claim.study_id)
            studies.replace_none_where_closed(connection, claim.study_id)
        if in_transaction:
            in_transaction(connection)


def give_back(connection: Connection, claim: Claim) -> bool:
    """End a claim, inside the transaction that writes its result. Returns whether it was still held."""
    return connection.execute(_give_back(), {"held": claim.token}).rowcount > 0


@cache
def _give_back() -> Delete:
    return delete(tables.claims).where(tables.claims.c.token == bindparam("held"))


def _mine() -> ColumnElement[bool]:
    table = tables.candidates
    return and_(table.c.id == bindparam("candidate"), table.c.token == bindparam("held"))


@cache
def _state() -> Select[Any]:
    return select(tables.candidates.c.state).where(_mine())


@cache
def _finish(measured: tuple[str, ...]) -> Update:
    """Ends a running candidate, with these parameters for what was measured."""
    table = tables.candidates
    names = [name.removeprefix("new_") for name in (*measured, "new_state", "new_reason")]
    new = {name: bindparam(f"new_{name}", type_=table.c[name].type) for name in names}
    end = {"finished_at": bindparam("end", type_=table.c.finished_at.type)}
    return update(table).where(_mine(), table.c.state == State.RUNNING).values(new | end)


def keep_late(
    engine: Engine, claim: Claim, candidate_id: int, state: State, outcome: TrainingMetrics | None
) -> None:
    """Keep what came of a candidate whose claim was lost. It changes nothing else, however often it is said.

    Raises StudyError where the study has gone.
    """
    table, late = tables.candidates, tables.late
    there = select(late.c.token).where(late.c.candidate_id == candidate_id, late.c.token == claim.token)
    missing = select(table.c.id).where(
        table.c.id == candidate_id, table.c.token == claim.token, ~there.exists()
    )
    with writing(engine) as connection:
        studies.lock(connection, claim.study_id)
        if connection.execute(missing).first() is None:
            return
        row = {
            "candidate_id": candidate_id,
            "token": claim.token,
            "worker": claim.worker,
            "state": state,
            "arrived_at": moment(connection),
        }
        connection.execute(insert(late).values(row | _columns(outcome)))


def _columns(outcome: TrainingMetrics | None) -> dict[str, float | None]:
    return {key: finite(value) for key, value in asdict(outcome).items()} if outcome else {}


def late(engine: Engine, study_id: int) -> list[Late]:
    """Return what came late, in the order in which it came."""
    table = tables.late
    query = (
        select(*(table.c[field.name] for field in fields(Late)))
        .join(tables.candidates, tables.candidates.c.id == table.c.candidate_id)
        .where(tables.candidates.c.study_id == study_id)
        .order_by(table.c.arrived_at, table.c.token)
    )
    with reading(engine) as connection:
        return [Late(**{**row._mapping, "state": State(row.state)}) for row in connection.execute(query)]


def best(engine: Engine, study_id: int, top: int = 1) -> list[Candidate]:
    """Return the best of those that were trained to the end, by what the search maximises; of equals the
    smaller goes first."""
    table = tables.candidates
    query = (
        select(*COLUMNS)
        .where(table.c.study_id == study_id, table.c.state == State.COMPLETED, table.c.accuracy.is_not(None))
        .order_by(_value().desc(), table.c.parameters, table.c.number)
        .limit(top)
    )
    with reading(engine) as connection:
        return [candidate(row) for row in connection.execute(query)]


def _value() -> ColumnElement[float | None]:
    """What the search of a candidate maximises, as Scored.value."""
    return func.coalesce(tables.candidates.c.score, tables.candidates.c.accuracy)


def yardstick(engine: Engine, study_id: int) -> list[Candidate]:
    """Return what tells how far a search is ahead of its baselines: all of these, whatever became of them,
    and the best of the others that were trained to the end."""
    table = tables.candidates
    mine = table.c.study_id == study_id
    proposed = (
        select(table.c.id)
        .where(
            mine, table.c.state == State.COMPLETED, table.c.accuracy.is_not(None), table.c.baseline.is_(None)
        )
        .order_by(_value().desc(), table.c.parameters, table.c.number)
        .limit(1)
    )
    query = (
        select(*COLUMNS)
        .where(mine, or_(table.c.baseline.is_not(None), table.c.id.in_(proposed.scalar_subquery())))
        .order_by(table.c.number)
    )
    with reading(engine) as connection:
        return [candidate(row) for row in connection.execute(query)]


def untrained_in_a_row(engine: Engine, study_id: int) -> list[Candidate]:
    """Return the last networks that came to nothing, with nothing trained since, the latest first: as many as
    end a search, at most."""
    table = tables.candidates
    latest = (table.c.finished_at.desc(), table.c.number.desc())
    query = select(*COLUMNS).where(studies.untrained_in_a_row()).order_by(*latest).limit(GIVE_UP_AFTER)
    with reading(engine) as connection:
        return [candidate(row) for row in connection.execute(query, {"study": study_id})]


def candidates(
    engine: Engine,
    study_id: int,
    *,
    states: Collection[State] | None = None,
    sort: str = "number",
    descending: bool = False,
    limit: int | None = None,
) -> list[Candidate]:
    """Return the rows of a study, sorted by any field of Candidate; those without a value come last.

    Raises StudyError for a field that there is not.
    """
    table = tables.candidates
    sortable = sorted({field.name for field in fields(Candidate)} - {"architecture", "versions"})
    if sort not in sortable:
        raise StudyError(f"cannot sort by {sort!r}; choose one of {', '.join(sortable)}")
    order = table.c[sort].desc() if descending else table.c[sort].asc()
    query = (
        select(*COLUMNS)
        .where(table.c.study_id == study_id)
        .order_by(order.nulls_last(), table.c.number)
        .limit(limit)
    )
    if states is not None:
        query = query.where(table.c.state.in_(states))
    with reading(engine) as connection:
        return [candidate(row) for row in connection.execute(query)]


def find(engine: Engine, study_id: int, number: int) -> Candidate:
    """Return the candidate of Optuna's trial number. Raises StudyError where there is none."""
    table = tables.candidates
    query = select(*COLUMNS).where(table.c.study_id == study_id, table.c.number == number)
    with reading(engine) as connection:
        row = connection.execute(query).first()
    if row is None:
        name = shlex.quote(studies.get(engine, study_id).name)
        raise StudyError(f"the study has no trial {number}; `search trials {name}` lists those there are")
    return candidate(row)


def epochs(
    engine: Engine, study_id: int, candidate_ids: Collection[int] | None = None
) -> dict[int, list[Epoch]]:
    """Return the stored epochs in order by the candidate's id: of the whole study, or of some candidates."""
    table = tables.epochs
    names = [field.name for field in fields(Epoch)]
    query = (
        select(table.c.candidate_id, *(table.c[name] for name in names))
        .join(tables.candidates, tables.candidates.c.id == table.c.candidate_id)
        .where(tables.candidates.c.study_id == study_id)
        .order_by(table.c.candidate_id, table.c.epoch)
    )
    if candidate_ids is not None:
        query = query.where(table.c.candidate_id.in_(candidate_ids))
    found: dict[int, list[Epoch]] = {}
    with reading(engine) as connection:
        for candidate_id, *values in connection.execute(query):
            known = dict(zip(names, values, strict=True))
            lacking = {name: math.nan for name, value in known.items() if value is None and name != "score"}
            found.setdefault(candidate_id, []).append(Epoch(**known | lacking))
    return found


@dataclass(frozen=True)
class Measured:
    """What a list of very many trials says of each."""

    number: int
    state: State
    accuracy: float | None
    images_per_second: float | None
    device: str | None

    @property
    def is_completed(self) -> bool:
        """Whether it was trained to the end, with a score."""
        return self.state == State.COMPLETED and self.accuracy is not None


def measured(engine: Engine, study_id: int) -> list[Measured]:
    """Return every proposal by its number, without its network."""
    table = tables.candidates
    query = select(*(table.c[field.name] for field in fields(Measured))).where(table.c.study_id == study_id)
    with reading(engine) as connection:
        rows = connection.execute(query.order_by(table.c.number)).all()
    return [Measured(**{**row._mapping, "state": State(row.state)}) for row in rows]


def ended(engine: Engine, study_id: int) -> list[Ended]:
    """Return what became of every proposal, by its number."""
    table = tables.candidates
    query = select(*(table.c[field.name] for field in fields(Ended))).where(table.c.study_id == study_id)
    with reading(engine) as connection:
        rows = connection.execute(query.order_by(table.c.number)).all()
    return [Ended(**{**row._mapping, "state": State(row.state)}) for row in rows]


def times(engine: Engine, study_id: int) -> tuple[datetime, datetime] | None:
    """Return when the first network was proposed and when the last training ended, one of the second stage
    too; None before a proposal."""
    table, rungs = tables.candidates, tables.rung_trainings
    begun = select(func.min(table.c.proposed_at), func.max(table.c.finished_at))
    longer = select(func.max(rungs.c.finished_at)).where(rungs.c.study_id == study_id)
    with reading(engine) as connection:
        first, last = connection.execute(begun.where(table.c.study_id == study_id)).one()
        latest = connection.execute(longer).scalar_one()
    return None if first is None else (first, max(filter(None, (first, last, latest))))


def tally(engine: Engine, study_id: int) -> dict[State, int]:
    """Return how many candidates are in each state, with a zero where there is none."""
    table = tables.candidates
    query = select(table.c.state, func.count()).where(table.c.study_id == study_id).group_by(table.c.state)
    with reading(engine) as connection:
        counted = {State(state): count for state, count in connection.execute(query)}
    return {state: counted.get(state, 0) for state in State}
