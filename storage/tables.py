"""The tables of this version, as queries see them; the migrations make them, and a test holds the two equal.

Used by every module of storage/, and by nobody else but tests and benchmarks.
"""

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)


class UtcDateTime(TypeDecorator[datetime]):
    """A datetime in UTC from every database: SQLite keeps no zone, PostgreSQL answers in the session's."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        return value and value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _key(of: str, on_delete: str) -> ForeignKey:
    return ForeignKey(f"{of}.id", ondelete=on_delete)


metadata = MetaData()

studies = Table(
    "search_studies",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(255), nullable=False, unique=True),
    Column("created_at", UtcDateTime, nullable=False),
    Column("trials", Integer, nullable=False),
    Column("max_parameters", BigInteger, nullable=False),
    Column("max_macs", BigInteger),
    Column("seed", BigInteger, nullable=False),
    Column("settings", JSON, nullable=False),
    Column("versions", JSON, nullable=False),
    Column("standing_order", String(16), nullable=False, key="order"),  # ORDER is a word of SQL
    Column("claims_made", Integer, nullable=False),  # the counter of the claims' ordinals
    Column("finish", JSON(none_as_null=True)),  # the plan of the second stage, NULL where there is none
)

# One network is trained once: a fingerprint has at most one row in these states.
DEDUPLICATED = (
    "state IN ('running', 'completed', 'pruned', 'diverged', 'out_of_memory', 'timed_out', 'failed')"
)

candidates = Table(
    "search_candidates",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", _key("search_studies", "CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text),
    Column("architecture", JSON, nullable=False),
    Column("fingerprint", String(128), nullable=False),
    Column("parameters", BigInteger, nullable=False),
    Column("macs", BigInteger, nullable=False),
    Column("depth", Integer, nullable=False),
    Column("accuracy", Double),
    Column("best_accuracy", Double),
    Column("loss", Double),
    Column("epochs", Integer),
    Column("seconds", Double),
    Column("images_per_second", Double),
    Column("device", Text),
    Column("worker", Text),
    Column("seed", BigInteger, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("repeat_of", Integer),  # the number, not the id, of the row that it repeats
    Column("versions", JSON(none_as_null=True)),
    Column("proposed_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Column("token", Integer, nullable=False),  # of the claim that proposed it, kept after the claim has gone
    Column("batch_size", Integer),
    Column("baseline", String(255)),  # what first guess it is: it is trained to the end, whatever its score
    Column("score", Double),  # what the search maximises, NULL where that is accuracy; so in all tables
    UniqueConstraint("study_id", "number", name="search_candidates_number"),
    Index("search_candidates_state", "study_id", "state"),
    Index(
        "search_candidates_fingerprint",
        "study_id",
        "fingerprint",
        unique=True,
        sqlite_where=text(DEDUPLICATED),
        postgresql_where=text(DEDUPLICATED),
    ),
)

epochs = Table(
    "search_epochs",
    metadata,
    Column("candidate_id", _key("search_candidates", "CASCADE"), primary_key=True),
    Column("epoch", Integer, primary_key=True),  # from 1
    Column("train_loss", Double),  # NULL where it was not a number
    Column("validation_loss", Double),
    Column("validation_accuracy", Double),
    Column("learning_rate", Double, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("score", Double),
)

late = Table(
    "search_late",
    metadata,
    Column("candidate_id", _key("search_candidates", "CASCADE"), primary_key=True),
    Column("token", Integer, primary_key=True),
    Column("worker", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("accuracy", Double),
    Column("best_accuracy", Double),
    Column("loss", Double),
    Column("epochs", Integer),
    Column("seconds", Double),
    Column("images_per_second", Double),
    Column("arrived_at", UtcDateTime, nullable=False),
    Column("batch_size", Integer),
    Column("score", Double),
)

# One training of the second stage: a network of the study in a rung of the halving, or in the finals.
rung_trainings = Table(
    "search_rung_trainings",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", _key("search_studies", "CASCADE"), nullable=False),
    Column("candidate_id", _key("search_candidates", "CASCADE"), nullable=False),
    Column("stage", String(16), nullable=False),
    Column("epochs", Integer, nullable=False),  # asked for; with the stage they name the rung
    Column("seed", BigInteger, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("state", String(16)),  # NULL while it waits for a worker
    Column("reason", Text),
    Column("epoch", Integer),  # the last one stored
    Column("accuracy", Double),
    Column("best_accuracy", Double),
    Column("loss", Double),
    Column("seconds", Double),
    Column("images_per_second", Double),
    Column("batch_size", Integer),
    Column("device", Text),
    Column("worker", Text),
    Column("token", Integer),  # of the claim that has it, or had it last
    Column("entered_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Column("score", Double),
    # None is trained twice.
    UniqueConstraint(
        "study_id", "candidate_id", "stage", "epochs", "seed", name="search_rung_trainings_once"
    ),
)

claims = Table(
    "search_claims",
    metadata,
    Column("token", Integer, primary_key=True),
    Column("study_id", _key("search_studies", "CASCADE"), nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("worker", Text, nullable=False),
    Column("candidate_id", _key("search_candidates", "SET NULL")),
    Column("lease_seconds", Double, nullable=False),
    Column("claimed_at", Double, nullable=False),  # seconds since 1970, as the next two
    Column("renewed_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("rung_training_id", Integer),  # NULL in the claim of a trial; both go with their study alone
    UniqueConstraint("study_id", "ordinal", name="search_claims_ordinal"),
    sqlite_autoincrement=True,  # else SQLite hands a deleted row's token out again
)

# Who works on a study now; a worker that trains is heard by its claim.
workers = Table(
    "search_workers",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", _key("search_studies", "CASCADE"), nullable=False),
    Column("name", String(255), nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("device", Text),  # NULL while it starts
    Column("state", String(16), nullable=False),
    Column("lease_seconds", Double, nullable=False),
    Column("started_at", Double, nullable=False),  # seconds since 1970, as the next
    Column("heard_at", Double, nullable=False),
    UniqueConstraint("study_id", "name", name="search_workers_name"),
)

trainings = Table(
    "search_trainings",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run", String(64), nullable=False),  # the seeds of one network, trained together
    Column("seed", BigInteger, nullable=False),
    Column("subject", Text, nullable=False),
    Column("study", String(255)),  # by name: a training outlives its study
    Column("trial", Integer),
    Column("fingerprint", String(128), nullable=False),
    Column("parameters", BigInteger, nullable=False),
    Column("macs", BigInteger, nullable=False),
    Column("architecture", JSON, nullable=False),
    Column("recipe", JSON, nullable=False),
    Column("data", JSON, nullable=False),
    Column("epochs", Integer, nullable=False),
    Column("accuracy", Double, nullable=False),
    Column("best_accuracy", Double, nullable=False),
    Column("best_epoch", Integer, nullable=False),
    Column("loss", Double, nullable=False),
    Column("test_accuracy", Double),  # NULL where the data set has no test images
    Column("test_loss", Double),
    Column("test_images", Integer),
    Column("seconds", Double, nullable=False),
    Column("device", Text, nullable=False),
    Column("versions", JSON, nullable=False),
    Column("folder", Text, nullable=False),
    Column("finished_at", UtcDateTime, nullable=False),
    UniqueConstraint("run", "seed", name="search_trainings_run"),
    Index("search_trainings_study", "study", "trial"),
)
