"""The database's versions, kept with Alembic."""
