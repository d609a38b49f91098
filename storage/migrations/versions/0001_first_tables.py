"""Studies, candidates, epochs, late results and claims."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

DEDUPLICATED = (
    "state IN ('running', 'completed', 'pruned', 'diverged', 'out_of_memory', 'timed_out', 'failed')"
)


def upgrade() -> None:
    """Create the first tables."""
    _studies()
    _candidates()
    _epochs()
    _late()
    _claims()


def _studies() -> None:
    op.create_table(
        "search_studies",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(255), nullable=False, unique=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("trials", sa.Integer, nullable=False),
        sa.Column("max_parameters", sa.BigInteger, nullable=False),
        sa.Column("max_macs", sa.BigInteger),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("settings", sa.JSON, nullable=False),
        sa.Column("versions", sa.JSON, nullable=False),
        sa.Column("standing_order", sa.String(16), nullable=False),
        sa.Column("claims_made", sa.Integer, nullable=False),
    )


def _candidates() -> None:
    op.create_table(
        "search_candidates",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column(
            "study_id", sa.Integer, sa.ForeignKey("search_studies.id", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("architecture", sa.JSON, nullable=False),
        sa.Column("fingerprint", sa.String(128), nullable=False),
        sa.Column("parameters", sa.BigInteger, nullable=False),
        sa.Column("macs", sa.BigInteger, nullable=False),
        sa.Column("depth", sa.Integer, nullable=False),
        sa.Column("accuracy", sa.Double),
        sa.Column("best_accuracy", sa.Double),
        sa.Column("loss", sa.Double),
        sa.Column("epochs", sa.Integer),
        sa.Column("seconds", sa.Double),
        sa.Column("images_per_second", sa.Double),
        sa.Column("device", sa.Text),
        sa.Column("worker", sa.Text),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("repeat_of", sa.Integer),
        sa.Column("versions", sa.JSON),
        sa.Column("proposed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.Column("token", sa.Integer, nullable=False),
        sa.UniqueConstraint("study_id", "number", name="search_candidates_number"),
    )
    op.create_index("search_candidates_state", "search_candidates", ["study_id", "state"])
    op.create_index(
        "search_candidates_fingerprint",
        "search_candidates",
        ["study_id", "fingerprint"],
        unique=True,
        sqlite_where=sa.text(DEDUPLICATED),
        postgresql_where=sa.text(DEDUPLICATED),
    )


def _epochs() -> None:
    op.create_table(
        "search_epochs",
        sa.Column(
            "candidate_id",
            sa.Integer,
            sa.ForeignKey("search_candidates.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("epoch", sa.Integer, primary_key=True),
        sa.Column("train_loss", sa.Double),
        sa.Column("validation_loss", sa.Double),
        sa.Column("validation_accuracy", sa.Double),
        sa.Column("learning_rate", sa.Double, nullable=False),
        sa.Column("seconds", sa.Double, nullable=False),
    )


def _late() -> None:
    op.create_table(
        "search_late",
        sa.Column(
            "candidate_id",
            sa.Integer,
            sa.ForeignKey("search_candidates.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("token", sa.Integer, primary_key=True),
        sa.Column("worker", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("accuracy", sa.Double),
        sa.Column("best_accuracy", sa.Double),
        sa.Column("loss", sa.Double),
        sa.Column("epochs", sa.Integer),
        sa.Column("seconds", sa.Double),
        sa.Column("images_per_second", sa.Double),
        sa.Column("arrived_at", sa.DateTime(timezone=True), nullable=False),
    )


def _claims() -> None:
    op.create_table(
        "search_claims",
        sa.Column("token", sa.Integer, primary_key=True),
        sa.Column(
            "study_id", sa.Integer, sa.ForeignKey("search_studies.id", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("ordinal", sa.Integer, nullable=False),
        sa.Column("worker", sa.Text, nullable=False),
        sa.Column("candidate_id", sa.Integer, sa.ForeignKey("search_candidates.id", ondelete="SET NULL")),
        sa.Column("lease_seconds", sa.Double, nullable=False),
        sa.Column("claimed_at", sa.Double, nullable=False),
        sa.Column("renewed_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.UniqueConstraint("study_id", "ordinal", name="search_claims_ordinal"),
        sqlite_autoincrement=True,
    )
