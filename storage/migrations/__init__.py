"""The history of our tables, numbered, kept in `search_version`. Optuna has its own in `alembic_version`."""

from pathlib import Path

from sqlalchemy import Connection, inspect, text

HEAD = "0008"
VERSION_TABLE = "search_version"


def version(connection: Connection) -> str | None:
    """Return the number of the last migration that the database has had, None where it has had none."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found: str | None = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
    return found


def upgrade(connection: Connection) -> None:
    """Run what is missing inside the caller's transaction: all of it happens, or none."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, HEAD)
