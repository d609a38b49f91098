"""Small studies, proposals and outcomes for the tests of the storage."""

from sqlalchemy import Engine, text

from storage import candidates, database, leases, studies
from storage.leases import Claim
from storage.row_types import Candidate, Epoch, Proposal, State, TrainingMetrics
from storage.studies import Study

LEASE_SECONDS = 600.0


def make_study(engine: Engine, trials: int = 3, name: str = "digits") -> Study:
    return studies.create(
        engine,
        name,
        trials=trials,
        max_parameters=5_000_000,
        max_macs=None,
        seed=7,
        settings={"data": "digits", "epochs": [1, 2]},
        versions={"torch": "2.15"},
    )


def proposal(
    number: int,
    fingerprint: str | None = None,
    depth: int = 3,
    over_budget: str | None = None,
    baseline: str | None = None,
) -> Proposal:
    return Proposal(
        number=number,
        architecture={"stages": depth},
        fingerprint=fingerprint or f"network-{number}",
        parameters=1_000 + number,
        macs=5_000_000_000,
        depth=depth,
        seed=number,
        over_budget=over_budget,
        device="cpu",
        versions={"torch": "2.15"},
        baseline=baseline,
    )


def epoch(number: int, accuracy: float = 0.5) -> Epoch:
    return Epoch(number, 1.5, 1.25, accuracy, 0.1, 2.0)


def outcome(accuracy: float, epochs: int = 8) -> TrainingMetrics:
    return TrainingMetrics(accuracy, accuracy, 0.5, epochs, 12.0, 900.0)


def take(engine: Engine, study: Study, worker: str = "one") -> Claim:
    claim = leases.claim(engine, study.id, worker, LEASE_SECONDS)
    assert isinstance(claim, Claim)
    return claim


def start(
    engine: Engine, study: Study, number: int, worker: str = "one", depth: int = 3
) -> tuple[Claim, Candidate]:
    claim = take(engine, study, worker)
    return claim, candidates.propose(engine, claim, proposal(number, depth=depth))


def train(engine: Engine, study: Study, number: int, accuracy: float, depth: int = 3) -> Candidate:
    claim, candidate = start(engine, study, number, depth=depth)
    candidates.finish(engine, claim, candidate.id, State.COMPLETED, outcome=outcome(accuracy))
    return candidates.find(engine, study.id, number)


def everything(engine: Engine) -> list[list[tuple[object, ...]]]:
    """Return all rows that count."""
    with database.reading(engine) as connection:
        return [
            [tuple(row) for row in connection.execute(text(f"SELECT * FROM search_{table} ORDER BY 1, 2"))]
            for table in ("studies", "candidates", "epochs", "claims")
        ]


def expire(engine: Engine, claim: Claim) -> None:
    """Let the lease have run out a minute ago, and be so short that a fresh server waits for nobody."""
    with database.writing(engine) as connection:
        connection.execute(
            text(
                "UPDATE search_claims SET expires_at = renewed_at - 60, renewed_at = renewed_at - 90,"
                " lease_seconds = 0 WHERE token = :t"
            ),
            {"t": claim.token},
        )
