"""The second stage of a search: its plan with the study, its trainings, and the claims on them."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add two columns, which are NULL in what was there before, and the table."""
    op.add_column("search_studies", sa.Column("finish", sa.JSON))
    op.create_table(
        "search_rung_trainings",
        sa.Column("id", sa.Integer, primary_key=True),
        _key("study_id", "search_studies"),
        _key("candidate_id", "search_candidates"),
        sa.Column("stage", sa.String(16), nullable=False),
        sa.Column("epochs", sa.Integer, nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("state", sa.String(16)),
        sa.Column("reason", sa.Text),
        sa.Column("epoch", sa.Integer),
        sa.Column("accuracy", sa.Double),
        sa.Column("best_accuracy", sa.Double),
        sa.Column("loss", sa.Double),
        sa.Column("seconds", sa.Double),
        sa.Column("images_per_second", sa.Double),
        sa.Column("batch_size", sa.Integer),
        sa.Column("device", sa.Text),
        sa.Column("worker", sa.Text),
        sa.Column("token", sa.Integer),
        sa.Column("entered_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.UniqueConstraint(
            "study_id", "candidate_id", "stage", "epochs", "seed", name="search_rung_trainings_once"
        ),
    )
    op.add_column("search_claims", sa.Column("rung_training_id", sa.Integer))


def _key(name: str, of: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, sa.ForeignKey(f"{of}.id", ondelete="CASCADE"), nullable=False)
