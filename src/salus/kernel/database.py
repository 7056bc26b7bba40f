"""The Database port on any SQL engine: one writer with group commit, many readers.

All writes of a process go through one thread. It takes whatever waits (at most `BATCH` units of work), runs
each in a savepoint of one transaction, and commits once: one wait for stable storage serves them all, and a
unit that fails takes nobody with it (where it spoils the whole transaction, the others are run again, each
alone). Source of the idea: D. J. DeWitt et al., Implementation techniques for main memory database systems,
SIGMOD 1984, section 5.2 (group commit).
"""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine, RootTransaction

from salus.kernel import ledger
from salus.kernel.clock import Clock
from salus.kernel.errors import InvalidInput, Overloaded, SalusError, Unavailable
from salus.kernel.sql import Reader, Transaction

T = TypeVar("T")

BATCH = 512
_READERS = 8

log = logging.getLogger("salus.database")


class Dialect(Protocol):
    """What the engines do differently."""

    def snapshots(self, engine: Engine) -> Engine:
        """The engine to read from: each of its transactions sees one snapshot."""
        ...

    def lock_writer(self, connection: Connection) -> None:
        """Called first in each write transaction: keeps every other writer out, in all processes, until it
        ends."""
        ...

    def translate(self, error: sa.exc.DBAPIError) -> SalusError | None:
        """The engine's error as ours (`StorageFull`, `Unavailable`), or None when it is a fault of the
        statement."""
        ...

    def is_fatal(self, error: sa.exc.DBAPIError) -> bool:
        """Whether stable storage can no longer be trusted: the process must end rather than go on."""
        ...

    def transaction_token(self, connection: Connection) -> str | None:
        """What `has_committed` needs to know the connection's transaction by; asked just before the
        commit."""
        ...

    def has_committed(self, engine: Engine, token: str | None) -> bool | None:
        """Whether the transaction whose commit failed has committed all the same; None when nobody can
        tell."""
        ...


class _Waiting:
    __slots__ = ("future", "work")

    def __init__(self, work: Callable[[Transaction], Any]) -> None:
        self.work = work
        self.future: Future[Any] = Future()


class SqlDatabase:
    """Implements `salus.kernel.ports.Database`; the backends hand in an engine and its dialect."""

    def __init__(self, engine: Engine, dialect: Dialect, clock: Clock) -> None:
        self.clock = clock
        self.engine = engine
        self._snapshots = dialect.snapshots(engine)
        self._dialect = dialect
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._listeners: list[Callable[[], None]] = []
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="salus-read")
        self._closed = False
        self._gate = threading.Lock()
        self._writer = threading.Thread(target=self._write_loop, name="salus-write", daemon=True)
        self._writer.start()

    def migrate(self, change: Callable[[Connection], None]) -> None:
        """See `salus.kernel.ports.Database.migrate`."""
        with self.engine.begin() as connection:
            self._dialect.lock_writer(connection)
            change(connection)

    def write(self, work: Callable[[Transaction], T]) -> T:
        """See `salus.kernel.ports.Database.write`."""
        result: T = self._submit(work).result()
        return result

    async def write_async(self, work: Callable[[Transaction], T]) -> T:
        """See `salus.kernel.ports.Database.write_async`."""
        return await asyncio.wrap_future(self._submit(work))

    def read(self, work: Callable[[Reader], T]) -> T:
        """See `salus.kernel.ports.Database.read`."""
        try:
            with self._snapshots.connect() as connection, connection.begin():
                return work(Reader(connection, self.clock))
        except (sa.exc.StatementError, OverflowError) as error:
            translated = _unstorable(error)
            if translated is None and isinstance(error, sa.exc.DBAPIError):
                translated = self._dialect.translate(error)
            if translated is None:
                raise
            raise translated from error
        except sa.exc.TimeoutError as error:
            raise Overloaded("too many reads at once", retry_after_s=1.0) from error

    async def read_async(self, work: Callable[[Reader], T]) -> T:
        """See `salus.kernel.ports.Database.read_async`."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self.read, work)

    def on_commit(self, listener: Callable[[], None]) -> None:
        """See `salus.kernel.ports.Database.on_commit`."""
        self._listeners.append(listener)

    def close(self) -> None:
        """See `salus.kernel.ports.Database.close`."""
        with self._gate:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)
        self._writer.join()
        self._readers.shutdown()
        self.engine.dispose()

    def _submit(self, work: Callable[[Transaction], T]) -> Future[T]:
        if threading.current_thread() is self._writer:
            raise RuntimeError("a unit of work must not open another one: pass its transaction on instead")
        waiting = _Waiting(work)
        with self._gate:
            if self._closed:
                raise Unavailable("the database is closed", retry_after_s=1.0)
            self._queue.put(waiting)
        return waiting.future

    def _write_loop(self) -> None:
        while (batch := self._next_batch()) is not None:
            live = [waiting for waiting in batch if waiting.future.set_running_or_notify_cancel()]
            if live:
                self._commit(live)

    def _next_batch(self) -> list[_Waiting] | None:
        first = self._queue.get()
        if first is None:
            return None
        batch = [first]
        while len(batch) < BATCH:
            try:
                following = self._queue.get_nowait()
            except queue.Empty:
                break
            if following is None:
                self._queue.put(None)
                break
            batch.append(following)
        return batch

    def _commit(self, batch: list[_Waiting]) -> None:
        try:
            outcomes, sealed = self._run(batch)
        except sa.exc.DBAPIError as error:
            self._fail(batch, error)
            return
        except Exception as error:
            log.exception("a batch of %d writes failed", len(batch))
            for waiting in batch:
                waiting.future.set_exception(error)
            return
        for waiting, (ok, value) in zip(batch, outcomes, strict=True):
            if ok:
                waiting.future.set_result(value)
            else:
                waiting.future.set_exception(value)
        if sealed:
            self._tell_listeners()

    def _tell_listeners(self) -> None:
        for listener in self._listeners:
            try:
                listener()
            except Exception:
                log.exception("a listener failed; the commit it was told of stands")

    def _run(self, batch: list[_Waiting]) -> tuple[list[tuple[bool, Any]], int]:
        with self.engine.connect() as connection:
            transaction = connection.begin()
            try:
                self._dialect.lock_writer(connection)
                units = [Transaction(connection, self.clock) for _ in batch]
                outcomes = [
                    self._run_one(connection, unit, waiting.work) for unit, waiting in zip(units, batch, strict=True)
                ]
                kept = [unit for unit, (ok, _) in zip(units, outcomes, strict=True) if ok]
                sealed = ledger.seal(Reader(connection, self.clock), [event for unit in kept for event in unit.events])
                token = self._dialect.transaction_token(connection)
            except BaseException:
                transaction.rollback()
                raise
            self._end(transaction, token)
        return outcomes, len(sealed)

    def _end(self, transaction: RootTransaction, token: str | None) -> None:
        """Commits; where the connection is lost meanwhile, finds out whether the engine has committed."""
        try:
            transaction.commit()
        except sa.exc.DBAPIError as error:
            committed = self._dialect.has_committed(self.engine, token)
            if committed is None:
                raise Unavailable(
                    "the database went away during a commit, and it is unknown whether the write was stored",
                    remedy="Send it again with the same idempotency key.",
                    retry_after_s=2.0,
                ) from error
            if not committed:
                transaction.close()
                raise

    def _run_one(
        self, connection: Connection, transaction: Transaction, work: Callable[[Transaction], Any]
    ) -> tuple[bool, Any]:
        connection.exec_driver_sql("SAVEPOINT unit")
        try:
            outcome: tuple[bool, Any] = True, work(transaction)
        except sa.exc.DBAPIError as error:
            if error.connection_invalidated or self._dialect.translate(error) is not None:
                raise
            outcome = False, _unstorable(error) or error
        except Exception as error:  # noqa: BLE001 - carried to the caller, who waits for it
            outcome = False, _unstorable(error) or error
        except BaseException as error:  # noqa: BLE001 - must end neither this thread nor the caller's event loop
            outcome = False, RuntimeError(f"a unit of work raised {type(error).__name__}")
        if not outcome[0]:
            connection.exec_driver_sql("ROLLBACK TO SAVEPOINT unit")
        connection.exec_driver_sql("RELEASE SAVEPOINT unit")
        return outcome

    def _fail(self, batch: list[_Waiting], error: sa.exc.DBAPIError) -> None:
        if self._dialect.is_fatal(error):
            log.critical("stable storage failed, ending the process: %s", error)
            os._exit(70)
        if len(batch) > 1 and not isinstance(self._dialect.translate(error), Unavailable):
            log.warning("a batch of %d writes failed, each is tried alone: %s", len(batch), error)
            for waiting in batch:
                self._commit([waiting])
            return
        log.error("a batch of %d writes failed: %s", len(batch), error)
        for waiting in batch:
            waiting.future.set_exception(self._dialect.translate(error) or error)


def _unstorable(error: Exception) -> SalusError | None:
    """The error as ours when it is the value's fault: an engine cannot hold it; None for all other errors."""
    if isinstance(error, sa.exc.StatementError) and isinstance(error.orig, SalusError):
        return error.orig
    beyond = isinstance(error, OverflowError) and "SQLite INTEGER" in str(error)
    if not beyond and not isinstance(error, sa.exc.DataError):
        return None
    reason = str(error.orig if isinstance(error, sa.exc.DataError) else error).partition("\n")[0]
    return InvalidInput(
        f"the database cannot hold a value: {reason[:200]}",
        remedy="An integer has 64 bits (some 32), a name 255 characters, and text has no NUL character.",
    )
