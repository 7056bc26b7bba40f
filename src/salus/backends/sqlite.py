"""SQLite: the embedded Database. WAL and `synchronous=FULL`: what was acknowledged survives a power cut."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import QueuePool

from salus.kernel.clock import Clock, SystemClock
from salus.kernel.database import SqlDatabase
from salus.kernel.errors import Corrupt, InvalidInput, SalusError, StorageFull, Unavailable

_BUSY_TIMEOUT_S = 30
_READ_ONLY = "salus_read_only"


class SqliteDialect:
    """One writer in all processes by `BEGIN IMMEDIATE`."""

    def snapshots(self, engine: Engine) -> Engine:
        """A deferred transaction: its first statement takes the snapshot."""
        return engine.execution_options(**{_READ_ONLY: True})

    def lock_writer(self, connection: Connection) -> None:
        """Nothing: `BEGIN IMMEDIATE` has the lock already."""

    def translate(self, error: sa.exc.DBAPIError) -> SalusError | None:
        """Full disk and lock time-out."""
        match getattr(error.orig, "sqlite_errorname", ""):
            case "SQLITE_FULL" | "SQLITE_IOERR_SHMSIZE":
                return StorageFull(
                    "the disk is full: nothing was written", remedy="Free some space; writes then pass again."
                )
            case "SQLITE_BUSY" | "SQLITE_LOCKED" | "SQLITE_BUSY_SNAPSHOT":
                return Unavailable("another process holds the database's write lock", retry_after_s=1.0)
            case "SQLITE_CORRUPT" | "SQLITE_NOTADB":
                return Corrupt(f"the database file is damaged: {error.orig}", remedy="Restore it from a backup.")
            case _:
                return None

    def is_fatal(self, error: sa.exc.DBAPIError) -> bool:
        """An input or output error: a failed fsync leaves unknown what is on the disk."""
        name: str = getattr(error.orig, "sqlite_errorname", "")
        full = name == "SQLITE_IOERR_SHMSIZE"
        return (name.startswith("SQLITE_IOERR") and not full) or name == "SQLITE_CORRUPT"

    def transaction_token(self, connection: Connection) -> str | None:
        """None: a commit that fails has not happened."""
        return None

    def has_committed(self, engine: Engine, token: str | None) -> bool | None:
        """No: a commit that fails has not happened."""
        return False


def open_sqlite(address: str, clock: Clock | None = None) -> SqlDatabase:
    """The database at `sqlite:///path`; the file and its folder are made if need be.

    Raises:
        InvalidInput: the address names no file.
    """
    path = address.removeprefix("sqlite:///")
    if path == address or not path:
        raise InvalidInput(f"an SQLite address is sqlite:///path, got {address!r}", path="SALUS_DATABASE")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=path),
        poolclass=QueuePool,
        pool_size=16,
        connect_args={"timeout": _BUSY_TIMEOUT_S, "check_same_thread": False},
    )
    sa.event.listen(engine, "connect", _set_up)
    sa.event.listen(engine, "begin", _begin)
    return SqlDatabase(engine, SqliteDialect(), clock or SystemClock())


def _set_up(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "temp_store=MEMORY",
        "cache_size=-16000",
        "mmap_size=268435456",
        "journal_size_limit=67108864",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    reads = connection.get_execution_options().get(_READ_ONLY, False)
    connection.exec_driver_sql(f"PRAGMA query_only={'ON' if reads else 'OFF'}")
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
