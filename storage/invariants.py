"""Finds where a study's books are wrong: what must hold in them at every moment, and does not.

Reads all tables of one study, changes nothing, repairs nothing. Called by `search db check` and by tests.
Each rule is one query for the rows that break it, and the line that names them. All are asked of one state of
the database, so that they hold beside any number of workers.
"""

from dataclasses import dataclass

from sqlalchemy import Engine, text

from storage.database import reading
from storage.row_types import DEDUPLICATED, MAX_ATTEMPTS, TRAINED, State


@dataclass(frozen=True)
class Rule:
    """`query` finds what breaks it in the study :study; `line` has a place for each of its columns."""

    query: str
    line: str


def check(engine: Engine, study_id: int) -> list[str]:
    """Return one line for each violation, and none where the books are right."""
    found: list[str] = []
    with reading(engine) as connection:
        if connection.dialect.name == "postgresql":  # SQLite reads one state anyway
            connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        for rule in RULES:
            rows = connection.execute(text(rule.query), {"study": study_id})
            found += [rule.line.format(**row) for row in rows.mappings()]
    return found


def _any_of(states: frozenset[State]) -> str:
    return ", ".join(f"'{state}'" for state in sorted(states))


MINE = "search_candidates AS c WHERE c.study_id = :study"
TRAINED_OF_STUDY = f"(SELECT count(*) FROM {MINE} AND c.state IN ({_any_of(TRAINED)}))"
CLAIMS_OF_STUDY = "(SELECT count(*) FROM search_claims WHERE study_id = :study AND rung_training_id IS NULL)"

TARGET = (
    Rule(
        f"SELECT * FROM (SELECT trials, {TRAINED_OF_STUDY} AS trained FROM search_studies WHERE id = :study)"
        " AS counted WHERE trained > trials",
        "{trained} are trained, and {trials} were asked for",
    ),
    Rule(
        f"SELECT * FROM (SELECT trials, {TRAINED_OF_STUDY} AS trained, {CLAIMS_OF_STUDY} AS claims"
        " FROM search_studies WHERE id = :study) AS counted WHERE claims > 0 AND claims + trained > trials",
        "{claims} claims are held and {trained} are trained, and {trials} were asked for",
    ),
)

ROWS = (
    Rule(
        f"SELECT number, state FROM {MINE} AND state NOT IN ({_any_of(frozenset(State))})",
        "trial {number} is {state!r}: the states do not add up to the proposals",
    ),
    *(
        Rule(
            f"SELECT number FROM {MINE} AND state = 'completed' AND {column} IS NULL",
            f"trial {{number}} is completed and has no {column}",
        )
        for column in ("accuracy", "epochs")
    ),
    Rule(
        f"SELECT number, state FROM {MINE} AND state <> 'running' AND finished_at IS NULL",
        "trial {number} is {state} and has no finished_at",
    ),
    Rule(
        f"SELECT number, finished_at FROM {MINE} AND state = 'running' AND finished_at IS NOT NULL",
        "trial {number} is running and has finished at {finished_at}",
    ),
    Rule(
        f"SELECT number, attempt FROM {MINE} AND attempt NOT BETWEEN 1 AND {MAX_ATTEMPTS}",
        f"trial {{number}} is attempt {{attempt}}, and there are {MAX_ATTEMPTS} at most",
    ),
)

CLAIMS = (
    Rule(
        "SELECT number, count(l.token) AS claims FROM search_candidates AS c"
        " LEFT JOIN search_claims AS l ON l.candidate_id = c.id"
        " WHERE c.study_id = :study AND c.state = 'running' GROUP BY c.number HAVING count(l.token) <> 1",
        "trial {number} is running and has {claims} claims, not one",
    ),
    Rule(
        "SELECT l.ordinal, l.worker, l.candidate_id, CASE WHEN c.id IS NULL THEN 'is not there'"
        " WHEN c.study_id <> :study THEN 'is of another study' ELSE 'is ' || c.state END AS fault"
        " FROM search_claims AS l LEFT JOIN search_candidates AS c ON c.id = l.candidate_id"
        " WHERE l.study_id = :study AND l.candidate_id IS NOT NULL"
        " AND (c.id IS NULL OR c.study_id <> :study OR c.state <> 'running')",
        "claim {ordinal} of worker {worker!r} holds the candidate with the id {candidate_id}, which {fault}",
    ),
    Rule(
        "SELECT l.worker, l.token, coalesce('trial ' || c.number, 'no trial') AS trial FROM search_late AS l"
        " LEFT JOIN search_candidates AS c ON c.id = l.candidate_id"
        " WHERE c.id IS NULL OR (c.study_id = :study AND c.token <> l.token)",
        "worker {worker!r} was late with {trial}, which its claim with the token {token} never had",
    ),
)

# A row is earlier when its id is lower: numbers are given by Optuna, before the ledger hears of a proposal.
BETWEEN_ROWS = (
    Rule(
        "SELECT c.number, c.repeat_of FROM search_candidates AS c LEFT JOIN search_candidates AS o"
        " ON o.study_id = c.study_id AND o.number = c.repeat_of"
        " WHERE c.study_id = :study AND c.state = 'repeated'"
        " AND (o.id IS NULL OR o.id >= c.id OR o.fingerprint <> c.fingerprint)",
        "trial {number} repeats trial {repeat_of}, which is not an earlier one of the same network",
    ),
    Rule(
        "SELECT c.number, c.attempt FROM search_candidates AS c LEFT JOIN"
        f" (SELECT fingerprint, seed, attempt, min(id) AS id FROM {MINE} GROUP BY fingerprint, seed, attempt)"
        " AS e ON e.fingerprint = c.fingerprint AND e.seed = c.seed AND e.attempt = c.attempt - 1"
        " WHERE c.study_id = :study AND c.attempt > 1 AND (e.id IS NULL OR e.id > c.id)",
        "trial {number} is attempt {attempt}, and none before it had this network and seed",
    ),
    Rule(
        f"SELECT fingerprint, count(*) AS times, min(number) AS one, max(number) AS other FROM {MINE}"
        f" AND state IN ({_any_of(DEDUPLICATED)}) GROUP BY fingerprint HAVING count(*) > 1",
        "{times} trials, {one} and {other} among them, ran the network {fingerprint}",
    ),
    Rule(
        "SELECT c.number, c.epochs, coalesce(e.stored, 0) AS stored FROM search_candidates AS c LEFT JOIN"
        " (SELECT e.candidate_id, count(*) AS stored, min(e.epoch) AS first, max(e.epoch) AS last"
        " FROM search_epochs AS e JOIN search_candidates AS c ON c.id = e.candidate_id"
        " WHERE c.study_id = :study GROUP BY e.candidate_id) AS e ON e.candidate_id = c.id"
        " WHERE c.study_id = :study AND c.state = 'completed'"
        " AND (coalesce(e.stored, 0) <> c.epochs OR e.first <> 1 OR e.last <> c.epochs)",
        "trial {number} is completed after {epochs} epochs, and not these but {stored} are stored",
    ),
)

OF_RUNGS = (
    "search_rung_trainings AS r JOIN search_candidates AS c ON c.id = r.candidate_id"
    " WHERE r.study_id = :study"
)
NAMED = "c.number, r.stage, r.epochs, r.seed"
ONE = "the training of {epochs} epochs, seed {seed}, of trial {number} in the {stage}"

SECOND_STAGE = (
    Rule(
        f"SELECT {NAMED} FROM {OF_RUNGS} AND (c.study_id <> r.study_id OR c.state <> 'completed')",
        f"{ONE} is of a network that was not trained to the end in this study",
    ),
    Rule(
        f"SELECT {NAMED}, r.state FROM {OF_RUNGS} AND r.state IS NOT NULL AND r.state <> 'running'"
        " AND r.finished_at IS NULL",
        f"{ONE} is {{state}} and has no finished_at",
    ),
    Rule(
        f"SELECT {NAMED}, r.epoch FROM {OF_RUNGS} AND r.state = 'completed'"
        " AND (r.accuracy IS NULL OR r.epoch IS NULL OR r.epoch <> r.epochs)",
        f"{ONE} is completed without an accuracy after its last epoch",
    ),
    Rule(
        f"SELECT {NAMED}, r.attempt FROM {OF_RUNGS} AND r.attempt NOT BETWEEN 1 AND {MAX_ATTEMPTS}",
        f"{ONE} is attempt {{attempt}}, and there are {MAX_ATTEMPTS} at most",
    ),
    Rule(
        f"SELECT {NAMED}, held.claims FROM (SELECT r.id, count(l.token) AS claims"
        " FROM search_rung_trainings AS r LEFT JOIN search_claims AS l ON l.rung_training_id = r.id"
        " GROUP BY r.id) AS held JOIN search_rung_trainings AS r ON r.id = held.id"
        " JOIN search_candidates AS c ON c.id = r.candidate_id WHERE r.study_id = :study"
        " AND held.claims <> CASE WHEN r.state = 'running' THEN 1 ELSE 0 END",
        f"{ONE} has {{claims}} claims, where one that runs has one and another none",
    ),
)

RULES = TARGET + ROWS + CLAIMS + BETWEEN_ROWS + SECOND_STAGE
