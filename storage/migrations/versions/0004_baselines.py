"""What kind of first guess a network was, if it was one: "[3,3,3] at full budget"."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the column; it is NULL in what was there before."""
    op.add_column("search_candidates", sa.Column("baseline", sa.String(255)))
