"""Brings a database's tables up to date: a new one at once, an older one step by step."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection

from salus.kernel.errors import Conflict
from salus.kernel.ports import Database
from salus.kernel.sql import metadata

_SCRIPTS = Path(__file__).parent


def migrate(database: Database) -> None:
    """Makes the tables of an empty database, or takes an older one through the steps it lacks; all or nothing.

    Raises:
        Conflict: the database was written by a newer Salus.
    """
    database.migrate(_bring_up_to_date)


def _bring_up_to_date(connection: Connection) -> None:
    current = _version(connection)
    script = ScriptDirectory.from_config(_config(connection))
    if current == script.get_current_head():
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
    found: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return found


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    config.attributes["connection"] = connection
    return config
