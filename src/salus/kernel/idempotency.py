"""Once: a request that comes twice under one key is carried out once and answered twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa

from salus.kernel.errors import Conflict, InvalidInput
from salus.kernel.identity import Actor
from salus.kernel.sql import Ms, Name, Transaction, metadata
from salus.kernel.structs import digest_of

T = TypeVar("T")

keys = sa.Table(
    "idempotency",
    metadata,
    sa.Column("workspace", Name, primary_key=True),
    sa.Column("key", Name, primary_key=True),
    sa.Column("request", sa.String(80), nullable=False),
    sa.Column("response", sa.Text, nullable=False),
    sa.Column("at_ms", Ms, nullable=False),
    sa.Index("ix_idempotency_at_ms", "at_ms"),
)

MAX_KEY = 255
KEEP_MS = 7 * 24 * 3600 * 1000


def once(tx: Transaction, actor: Actor, key: str | None, request: Any, type_: type[T], work: Callable[[], T]) -> T:
    """What `work` returns; under a `key` that was seen before, what it returned then. Without a key: just `work()`.

    Raises:
        Conflict: the key was used for another request.
        InvalidInput: the key is empty or longer than `MAX_KEY` characters.
    """
    if key is None:
        return work()
    if not 1 <= len(key) <= MAX_KEY:
        raise InvalidInput(f"a key has 1 to {MAX_KEY} characters, got {len(key):,}", path="Idempotency-Key")
    asked = digest_of(request)
    known = tx.row(sa.select(keys).where(keys.c.workspace == actor.workspace, keys.c.key == key))
    if known is not None:
        if known["request"] != asked:
            raise Conflict(
                f"the idempotency key {key!r} was used for another request",
                path="Idempotency-Key",
                remedy="Make a new key for each logical request; keep it only when you repeat that request.",
            )
        return msgspec.json.decode(known["response"], type=type_)
    result = work()
    tx.execute(
        sa.insert(keys).values(
            workspace=actor.workspace,
            key=key,
            request=asked,
            response=msgspec.json.encode(result).decode(),
            at_ms=tx.now_ms,
        )
    )
    return result


def forget_old(tx: Transaction) -> int:
    """Drops keys older than a week; returns how many."""
    return tx.execute(sa.delete(keys).where(keys.c.at_ms < tx.now_ms - KEEP_MS)).rowcount
