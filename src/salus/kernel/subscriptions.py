"""Subscriptions: who wants to know what happened. News travels up the house as events, never as imports.

A subscriber reads the ledger by a cursor of its own. The cursor moves in the same transaction as the handler's
effects: on the database each event is handled exactly once; on anything else, at least once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

import sqlalchemy as sa

from salus.kernel import ledger
from salus.kernel.errors import SalusError
from salus.kernel.ledger import Entry
from salus.kernel.ports import Database
from salus.kernel.sql import Name, Reader, Transaction, metadata
from salus.kernel.structs import Record

log = logging.getLogger("salus.subscriptions")

_POLL_S = 1.0
_BATCH = 500
_REMEMBER = 5_000

cursors = sa.Table(
    "subscriptions",
    metadata,
    sa.Column("subscriber", Name, primary_key=True),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("failures", sa.Integer, nullable=False, server_default="0"),
    sa.Column("error", sa.Text),
)


class Subscription(Record):
    """`handle` is called with each entry of `kinds`, in order, inside a transaction that also moves the cursor.

    A handler that fails is tried `attempts` times, then the event is passed over and the failure kept and logged.
    """

    name: str
    kinds: tuple[str, ...]
    handle: Callable[[Transaction, Entry], None]
    attempts: int = 5


class Dispatcher:
    """Runs the subscriptions in a thread of its own, woken by commits."""

    def __init__(self, database: Database, subscriptions: Sequence[Subscription]) -> None:
        self._database = database
        self._subscriptions = list(subscriptions)
        self._wake = threading.Event()
        self._stopping = False
        self._looked: dict[str, int] = {}
        self._thread = threading.Thread(target=self._loop, name="salus-subscriptions", daemon=True)

    def start(self) -> None:
        """Begins to deliver."""
        self._database.on_commit(self._wake.set)
        self._thread.start()

    def stop(self) -> None:
        """Ends after the delivery under way."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def _loop(self) -> None:
        while not self._stopping:
            self._wake.clear()
            try:
                busy = self.run_once()
            except Exception:  # the outer loop of the dispatcher
                log.exception("delivery failed, trying again")
                busy = False
            if not busy:
                self._wake.wait(_POLL_S)

    def run_once(self) -> bool:
        """Delivers what is there, at most a batch; tells whether there may be more.

        The ledger is read once for all subscribers. How far each has been looked through is kept in memory; its cursor
        is written with what it handles, and now and then where nothing concerned it.
        """
        cursors, entries = self._database.read(self._look)
        reached = entries[-1].seq if entries else 0
        stuck = False
        for subscription in self._subscriptions:
            begun = max(cursors.get(subscription.name, 0), self._looked.get(subscription.name, 0))
            pending = [entry for entry in entries if entry.seq > begun and entry.kind in subscription.kinds]
            if not self._deliver(subscription, pending):
                stuck = True
                continue
            self._looked[subscription.name] = max(begun, reached)
            if reached - cursors.get(subscription.name, 0) > _REMEMBER:
                self._remember(subscription.name, reached)
        return len(entries) == _BATCH and not stuck

    def _look(self, reader: Reader) -> tuple[dict[str, int], list[Entry]]:
        """The cursors, and the entries behind the one that is furthest back."""
        cursors_ = {row["subscriber"]: row["seq"] for row in reader.rows(sa.select(cursors))}
        begun = min((max(cursors_.get(s.name, 0), self._looked.get(s.name, 0)) for s in self._subscriptions), default=0)
        return cursors_, ledger.read(reader, after=begun, limit=_BATCH)

    def _deliver(self, subscription: Subscription, pending: Sequence[Entry]) -> bool:
        """Hands over each of `pending`; False where it stopped before the end."""
        return all(not self._stopping and self._handle(subscription, entry) for entry in pending)

    def _remember(self, name: str, seq: int) -> None:
        self._database.write(lambda tx: _advance(tx, name, max(seq, _cursor(tx, name))))

    def _handle(self, subscription: Subscription, entry: Entry) -> bool:
        def unit(tx: Transaction) -> None:
            if _cursor(tx, subscription.name) >= entry.seq:
                return
            subscription.handle(tx, entry)
            _advance(tx, subscription.name, entry.seq)

        try:
            self._database.write(unit)
        except SalusError as error:
            if error.status in {503, 507}:
                return False
            return self._record_failure(subscription, entry, error)
        except Exception as error:  # noqa: BLE001 - the outer loop of the dispatcher
            return self._record_failure(subscription, entry, error)
        return True

    def _record_failure(self, subscription: Subscription, entry: Entry, error: Exception) -> bool:
        log.error("%s failed on %s (%d)", subscription.name, entry.kind, entry.seq, exc_info=error)

        def unit(tx: Transaction) -> bool:
            failures = _failures(tx, subscription.name) + 1
            _set(tx, subscription.name, failures=failures, error=f"{entry.seq} {entry.kind}: {error}")
            if failures < subscription.attempts:
                return False
            _advance(tx, subscription.name, entry.seq)
            return True

        passed = self._database.write(unit)
        if not passed:
            self._wake.wait(_POLL_S)
        return passed


def _cursor(reader: Reader, name: str) -> int:
    return reader.value(sa.select(cursors.c.seq).where(cursors.c.subscriber == name)) or 0


def _failures(reader: Reader, name: str) -> int:
    return reader.value(sa.select(cursors.c.failures).where(cursors.c.subscriber == name)) or 0


def _advance(tx: Transaction, name: str, seq: int) -> None:
    _set(tx, name, seq=seq, failures=0)


def _set(tx: Transaction, name: str, **values: object) -> None:
    changed = tx.execute(sa.update(cursors).where(cursors.c.subscriber == name).values(**values))
    if not changed.rowcount:
        tx.execute(sa.insert(cursors).values(subscriber=name, **{"seq": 0, "failures": 0, **values}))
