"""What a search maximises, where that is another score than accuracy: beside accuracy, and in the views."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

TABLES = ("search_candidates", "search_epochs", "search_late", "search_rung_trainings")

BEST = """
CREATE VIEW search_best AS
SELECT studies.name AS study, ranked.number AS trial, ranked.accuracy, ranked.parameters, ranked.macs,
       ranked.depth, ranked.epochs, ranked.baseline, ranked.fingerprint, ranked.device, ranked.finished_at,
       ranked.score
FROM search_studies studies
JOIN (
    SELECT candidates.*, ROW_NUMBER() OVER (
        PARTITION BY study_id ORDER BY COALESCE(score, accuracy) DESC, parameters, number
    ) AS place
    FROM search_candidates candidates
    WHERE state = 'completed' AND accuracy IS NOT NULL
) ranked ON ranked.study_id = studies.id AND ranked.place = 1
"""

CURVES = """
CREATE VIEW search_curves AS
SELECT studies.name AS study, candidates.number AS trial, candidates.state, epochs.epoch,
       epochs.validation_accuracy, epochs.validation_loss, epochs.train_loss, epochs.learning_rate,
       epochs.seconds, epochs.score
FROM search_epochs epochs
JOIN search_candidates candidates ON candidates.id = epochs.candidate_id
JOIN search_studies studies ON studies.id = candidates.study_id
"""


def upgrade() -> None:
    """Add the columns, NULL in what was there before, and make two of the views anew with them."""
    for table in TABLES:
        op.add_column(table, sa.Column("score", sa.Double))
    for name, view in (("search_best", BEST), ("search_curves", CURVES)):
        op.execute(f"DROP VIEW {name}")
        op.execute(view)
