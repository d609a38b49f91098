"""Full trainings: one row for each seed of a network that was trained to the end and tested."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "search_trainings",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("run", sa.String(64), nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("study", sa.String(255)),
        sa.Column("trial", sa.Integer),
        sa.Column("fingerprint", sa.String(128), nullable=False),
        sa.Column("parameters", sa.BigInteger, nullable=False),
        sa.Column("macs", sa.BigInteger, nullable=False),
        sa.Column("architecture", sa.JSON, nullable=False),
        sa.Column("recipe", sa.JSON, nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
        sa.Column("epochs", sa.Integer, nullable=False),
        sa.Column("accuracy", sa.Double, nullable=False),
        sa.Column("best_accuracy", sa.Double, nullable=False),
        sa.Column("best_epoch", sa.Integer, nullable=False),
        sa.Column("loss", sa.Double, nullable=False),
        sa.Column("test_accuracy", sa.Double),
        sa.Column("test_loss", sa.Double),
        sa.Column("test_images", sa.Integer),
        sa.Column("seconds", sa.Double, nullable=False),
        sa.Column("device", sa.Text, nullable=False),
        sa.Column("versions", sa.JSON, nullable=False),
        sa.Column("folder", sa.Text, nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=False),
        sa.UniqueConstraint("run", "seed", name="search_trainings_run"),
    )
    op.create_index("search_trainings_study", "search_trainings", ["study", "trial"])
