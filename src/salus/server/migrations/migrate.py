"""Brings a database's tables up to date: a new one at once, an older one step by step."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection, Engine

from salus.kernel.errors import Conflict
from salus.kernel.sql import metadata

_SCRIPTS = Path(__file__).parent


def migrate(engine: Engine) -> None:
    """Makes the tables of an empty database, or takes an older one through the steps it lacks; all or nothing.

    Raises:
        Conflict: the database was written by a newer Salus.
    """
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(6021)")
        current = _version(connection)
        script = ScriptDirectory.from_config(_config(connection))
        newest = script.get_current_head()
        if current == newest:
            return
        if current is None:
            metadata.create_all(connection)
            command.stamp(_config(connection), "head")
            return
        if current not in {revision.revision for revision in script.walk_revisions()}:
            raise Conflict(
                f"the database is of version {current}, which this Salus does not know",
                remedy="It was written by a newer release: install that one.",
            )
        command.upgrade(_config(connection), "head")


def _version(connection: Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return connection.scalar(sa.text("SELECT version_num FROM alembic_version"))


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    config.attributes["connection"] = connection
    return config
