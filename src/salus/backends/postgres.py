"""PostgreSQL: the Database for more than one machine (extra `postgres`)."""

from __future__ import annotations

import importlib.util
import time

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from salus.kernel.clock import Clock, SystemClock
from salus.kernel.database import SqlDatabase
from salus.kernel.errors import MissingExtra, SalusError, StorageFull, Unavailable

_WRITER_LOCK = 0x5A1_05
_VERDICT_S = 10.0
_ASK_AGAIN_S = 0.1


class PostgresDialect:
    """One writer in all processes by an advisory lock that ends with the transaction."""

    def snapshots(self, engine: Engine) -> Engine:
        """Repeatable read: one snapshot for all statements."""
        return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    def lock_writer(self, connection: Connection) -> None:
        """Waits until no other process writes. Group commit makes the wait pay for many writes at once."""
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITER_LOCK})")

    def translate(self, error: sa.exc.DBAPIError) -> SalusError | None:
        """Full disk, lost connection, server going down."""
        state: str = getattr(error.orig, "sqlstate", None) or ""
        if state == "53100":
            return StorageFull(
                "the database's disk is full: nothing was written",
                remedy="Free some space; writes then pass again.",
            )
        if error.connection_invalidated or state[:2] in {"08", "57"} or state in {"40001", "40P01"}:
            return Unavailable("the database is away", retry_after_s=1.0)
        if isinstance(error, sa.exc.OperationalError) and not state:
            return Unavailable(f"the database cannot be reached: {error.orig}", retry_after_s=2.0)
        return None

    def is_fatal(self, error: sa.exc.DBAPIError) -> bool:
        """Never: the server itself ends on a failed fsync."""
        return False

    def transaction_token(self, connection: Connection) -> str | None:
        """The transaction's id; None when it has written nothing."""
        token: str | None = connection.exec_driver_sql("SELECT pg_current_xact_id_if_assigned()::text").scalar()
        return token

    def has_committed(self, engine: Engine, token: str | None) -> bool | None:
        """Asks the server, for as long as it takes to come back (at most `_VERDICT_S`)."""
        if token is None:
            return False
        deadline_s = time.monotonic() + _VERDICT_S
        while time.monotonic() < deadline_s:
            try:
                with engine.connect() as connection:
                    query = sa.text("SELECT pg_xact_status(CAST(:token AS xid8))")
                    status = connection.execute(query, {"token": token}).scalar()
            except sa.exc.OperationalError:
                status = None
            if status in {"committed", "aborted"}:
                return bool(status == "committed")
            time.sleep(_ASK_AGAIN_S)
        return None


def open_postgres(address: str, clock: Clock | None = None) -> SqlDatabase:
    """The database at `postgresql://user@host/name`.

    Raises:
        MissingExtra: psycopg is not installed.
    """
    if importlib.util.find_spec("psycopg") is None:
        raise MissingExtra("PostgreSQL needs psycopg", remedy="Install it with: pip install 'salus-mlops[postgres]'")
    url = sa.make_url(address).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url, pool_size=12, max_overflow=8, pool_pre_ping=True, isolation_level="READ COMMITTED")
    return SqlDatabase(engine, PostgresDialect(), clock or SystemClock())
