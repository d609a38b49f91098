"""The batch size that a trial was trained with: half of the recipe's where memory was short."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column to candidates and to late results; it is NULL in what was there before."""
    for table in ("search_candidates", "search_late"):
        op.add_column(table, sa.Column("batch_size", sa.Integer))
