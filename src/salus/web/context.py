"""What a route handler gets into its hands: the engines, and the way to run a use case in a transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from salus.kernel.clock import Clock
from salus.kernel.idempotency import once
from salus.kernel.identity import Actor
from salus.kernel.policy import Gate
from salus.kernel.ports import Blobs, Database, KeyValue
from salus.kernel.segments import Segments
from salus.kernel.settings import Settings
from salus.kernel.sql import Reader, Transaction
from salus.web.live import Live
from salus.web.waiting import Waiting

P = ParamSpec("P")
T = TypeVar("T")


class Context:
    """The engines of one installation."""

    def __init__(
        self,
        *,
        settings: Settings,
        database: Database,
        blobs: Blobs,
        segments: Segments,
        key_value: KeyValue,
        gate: Gate,
        live: Live,
        waiting: Waiting,
    ) -> None:
        self.settings = settings
        self.database = database
        self.blobs = blobs
        self.segments = segments
        self.key_value = key_value
        self.gate = gate
        self.live = live
        self.waiting = waiting

    @property
    def clock(self) -> Clock:
        """The database's clock."""
        return self.database.clock

    async def read(self, use_case: Callable[Concatenate[Reader, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs a use case that only looks, on one snapshot."""
        return await self.database.read_async(lambda reader: use_case(reader, *args, **kwargs))

    async def write(self, use_case: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs a use case in one transaction; returns when it is durable."""
        return await self.database.write_async(lambda tx: use_case(tx, *args, **kwargs))

    async def write_once(
        self,
        key: str | None,
        type_: type[T],
        use_case: Callable[..., T],
        actor: Actor,
        body: Any,
        *subject: str,
    ) -> T:
        """Runs `use_case(tx, actor, *subject, body)` in one transaction, once for each idempotency key.

        `type_` is the type of its result, which a repeated request gets from the record.
        """
        request = [getattr(use_case, "__qualname__", "?"), *subject, body]

        def unit(tx: Transaction) -> T:
            return once(tx, actor, key, request, type_, lambda: use_case(tx, actor, *subject, body))

        return await self.database.write_async(unit)
