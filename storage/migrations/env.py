"""Runs the migrations, for Alembic, on the connection that storage/migrations/__init__.py hands over."""

from alembic import context

from storage.migrations import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    version_table=VERSION_TABLE,
    transactional_ddl=True,  # of SQLite too, as we say BEGIN ourselves
)
context.run_migrations()
