"""Alembic's entry: runs the steps on the connection that `migrate` hands in."""

from alembic import context

from salus.kernel.sql import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
context.run_migrations()
