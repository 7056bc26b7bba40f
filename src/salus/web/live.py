"""The live feed: the ledger as server-sent events, to any number of listeners, each with a bounded queue."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import msgspec

from salus.kernel import ledger
from salus.kernel.ledger import Entry
from salus.kernel.ports import Database

_QUEUE = 1_000
_POLL_S = 1.0
_PING_S = 15.0


class Signal(msgspec.Struct, frozen=True):
    """One thing to tell a listener: a ledger entry (with its `seq`), or a passing notice (without)."""

    kind: str
    data: dict[str, Any]
    seq: int | None = None
    workspace: str | None = None


class Live:
    """Fans out new ledger entries. Must be started on the event loop that serves the listeners."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._listeners: set[asyncio.Queue[Signal]] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._seq = 0
        self._closing = False

    async def start(self) -> None:
        """Begins to follow the ledger from its present end."""
        loop = asyncio.get_running_loop()
        self._seq = await self._database.read_async(ledger.head)

        def woken() -> None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._wake.set)

        self._database.on_commit(woken)
        self._task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """Ends the feed; listeners are told nothing more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def close(self) -> None:
        """Lets the listeners go. Must be called on the event loop that serves them."""
        self._closing = True
        self._publish(Signal(kind="closing", data={}))

    def notify(self, kind: str, workspace: str, **data: Any) -> None:
        """Tells listeners something that is not in the ledger, such as "run X has new points"."""
        if self._listeners:
            self._publish(Signal(kind=kind, data=data, workspace=workspace))

    async def listen(self, workspace: str, after: int | None = None) -> AsyncIterator[Signal | None]:
        """Entries of `workspace`, from behind `after` if given; None now and then, to keep the line open.

        A listener that falls more than 1,000 signals behind loses the oldest; it sees the gap in `seq`.
        """
        queue: asyncio.Queue[Signal] = asyncio.Queue(_QUEUE)
        self._listeners.add(queue)
        try:
            sent = after or 0
            if after is not None:
                for entry in await self._database.read_async(
                    lambda reader: ledger.read(reader, after=after, limit=_QUEUE, workspace=workspace)
                ):
                    sent = entry.seq
                    yield _signal(entry)
            while not self._closing:
                try:
                    signal = await asyncio.wait_for(queue.get(), _PING_S)
                except TimeoutError:
                    yield None
                    continue
                if signal.workspace == workspace and (signal.seq is None or signal.seq > sent):
                    yield signal
        finally:
            self._listeners.discard(queue)

    async def _follow(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), _POLL_S)
            self._wake.clear()
            if not self._listeners:
                self._seq = await self._database.read_async(ledger.head)
                continue
            entries = await self._database.read_async(partial(ledger.read, after=self._seq, limit=_QUEUE))
            for entry in entries:
                self._seq = entry.seq
                self._publish(_signal(entry))
            if len(entries) == _QUEUE:
                self._wake.set()

    def _publish(self, signal: Signal) -> None:
        for queue in self._listeners:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(signal)


def _signal(entry: Entry) -> Signal:
    data = {
        "seq": entry.seq,
        "kind": entry.kind,
        "subject": entry.subject,
        "actor": entry.actor,
        "at_ms": entry.at_ms,
        "data": entry.data,
    }
    return Signal(kind=entry.kind, data=data, seq=entry.seq, workspace=entry.workspace)
