"""Views for whoever reads the store with SQL: the best network of each study, learning curves, and what the
networks of each choice came to. docs/sql.md has examples."""

from alembic import op

revision = "0007"
down_revision = "0006"

BEST = """
CREATE VIEW search_best AS
SELECT studies.name AS study, ranked.number AS trial, ranked.accuracy, ranked.parameters, ranked.macs,
       ranked.depth, ranked.epochs, ranked.baseline, ranked.fingerprint, ranked.device, ranked.finished_at
FROM search_studies studies
JOIN (
    SELECT candidates.*, ROW_NUMBER() OVER (
        PARTITION BY study_id ORDER BY accuracy DESC, parameters, number
    ) AS place
    FROM search_candidates candidates
    WHERE state = 'completed' AND accuracy IS NOT NULL
) ranked ON ranked.study_id = studies.id AND ranked.place = 1
"""

CURVES = """
CREATE VIEW search_curves AS
SELECT studies.name AS study, candidates.number AS trial, candidates.state, epochs.epoch,
       epochs.validation_accuracy, epochs.validation_loss, epochs.train_loss, epochs.learning_rate,
       epochs.seconds
FROM search_epochs epochs
JOIN search_candidates candidates ON candidates.id = epochs.candidate_id
JOIN search_studies studies ON studies.id = candidates.study_id
"""

# A choice, and where it stands in an architecture: a path of keys, as both databases take one.
CHOICES = {
    "stages": None,
    "stem width": ("stem", "width"),
    "stem kernel": ("stem", "kernel"),
    "stem stride": ("stem", "stride"),
    "blocks of the first stage": ("stages", 0, "blocks"),
    "kernel of the first stage": ("stages", 0, "kernel"),
    "block": ("block", "kind"),
    "preactivation": ("block", "preactivation"),
    "shortcut": ("block", "shortcut"),
    "activation": ("activation",),
    "pool": ("pool", "kind"),
}


def upgrade() -> None:
    """Create the three views; nothing stored changes."""
    op.execute(BEST)
    op.execute(CURVES)
    op.execute(_effects(op.get_bind().dialect.name))


def _effects(dialect: str) -> str:
    parts = "\nUNION ALL\n".join(_choice(name, path, dialect) for name, path in CHOICES.items())
    return f"""
CREATE VIEW search_effects AS
SELECT studies.name AS study, chosen.choice, chosen.value, COUNT(*) AS trials,
       AVG(chosen.accuracy) AS mean_accuracy, MAX(chosen.accuracy) AS best_accuracy
FROM search_studies studies
JOIN (
{parts}
) chosen ON chosen.study_id = studies.id
GROUP BY studies.name, chosen.choice, chosen.value
"""


def _choice(name: str, path: tuple[str | int, ...] | None, dialect: str) -> str:
    value = _count(dialect) if path is None else _at(path, dialect)
    return (
        f"SELECT study_id, '{name}' AS choice, {value} AS value, accuracy"
        " FROM search_candidates WHERE state = 'completed' AND accuracy IS NOT NULL"
    )


def _count(dialect: str) -> str:
    """How many stages there are."""
    if dialect == "postgresql":
        return "CAST(json_array_length(architecture -> 'stages') AS VARCHAR(255))"
    return "CAST(json_array_length(architecture, '$.stages') AS VARCHAR(255))"


def _at(path: tuple[str | int, ...], dialect: str) -> str:
    """The value there as text, in words that are JSON's."""
    if dialect == "postgresql":
        return "architecture #>> '{" + ",".join(map(str, path)) + "}'"
    place = "$" + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)
    said = f"json_extract(architecture, '{place}')"
    switch = f"json_type(architecture, '{place}')"  # SQLite extracts 1 and 0 of true and false
    return f"CASE WHEN {switch} IN ('true', 'false') THEN {switch} ELSE CAST({said} AS VARCHAR(255)) END"
